package braid

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

var unpaced = &VerifyOptions{BytesPerSecond: -1}

// verifySource fills a database with something of everything: several epochs, a split
// shard, trimmed records, encrypted ones, a deleted stream, leases, and keys.
func verifySource(t testing.TB, db *DB) *Stream {
	t.Helper()
	ctx := t.Context()
	random := rand.NewChaCha8([32]byte{7})
	s, err := db.OpenStream(ctx, "orders", &StreamOptions{Shards: 2})
	require.NoError(t, err)
	secret, err := db.OpenStream(ctx, "secret", nil)
	require.NoError(t, err)
	require.NoError(t, secret.StartEncryption(ctx, "main"))
	passing, err := db.OpenStream(ctx, "passing", nil)
	require.NoError(t, err)
	put := func(s *Stream, n int) (last SequenceNumber) {
		entries := make([]Entry, n)
		for i := range entries {
			entries[i] = Entry{PartitionKey: strconv.Itoa(i), Data: make([]byte, 2000)}
			_, _ = random.Read(entries[i].Data)
		}
		results, err := s.PutRecords(ctx, entries)
		require.NoError(t, err)
		return results[n-1].SequenceNumber
	}
	for range 6 {
		put(s, 100)
		put(secret, 50)
		put(passing, 50)
	}
	_, _, err = s.SplitShard(ctx, "0", nil)
	require.NoError(t, err)
	put(s, 100)
	require.NoError(t, s.Trim(ctx, AtSequence(put(s, 50))))
	for range 5 {
		put(s, 100)
	}
	require.NoError(t, db.DeleteStream(ctx, "passing"))
	require.NoError(t, db.Update(ctx, func(tx *Tx) error {
		for i := range 100 {
			if err := tx.Set(fmt.Appendf(nil, "key-%03d", i), make([]byte, 100)); err != nil {
				return err
			}
		}
		for _, sh := range s.Shards() {
			if err := tx.writeRow(lease(s, sh, layout.LeaseCheckpoint{Start: "TRIM_HORIZON"})); err != nil {
				return err
			}
		}
		return nil
	}))
	return s
}

// lease returns the row of a lease.
func lease(s *Stream, sh *Shard, at layout.LeaseCheckpoint) (key, value []byte) {
	key = layout.LeaseKey("billing", s.name, string(sh.id))
	return key, layout.LeaseRow{Stream: s.createdCounter, Version: 1, Checkpoint: at}.Encode(key)
}

func openVerified(t testing.TB) *DB {
	t.Helper()
	db, err := Open(InMemory, &Options{KeyProvider: blockKeys, MemtableBytes: minMemtableBytes})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestVerifyReadsEverything(t *testing.T) {
	db := openVerified(t)
	s := verifySource(t, db)
	calls, last, total := 0, int64(0), int64(0)
	report, err := db.Verify(t.Context(), &VerifyOptions{BytesPerSecond: -1, Progress: func(done, of int64) {
		require.GreaterOrEqual(t, done, last)
		require.LessOrEqual(t, done, of)
		calls, last, total = calls+1, done, of
	}})
	require.NoError(t, err)
	require.NoError(t, report.Err())
	require.Equal(t, total, last)
	require.Greater(t, calls, 3)
	secret, err := db.Stream("secret")
	require.NoError(t, err)
	require.Equal(t, VerifyReport{
		Streams: 2, Shards: 5, Epochs: int64(db.Metrics().Epochs), Leases: 4, Keys: 100,
		Records: s.Describe().Records + secret.Describe().Records,
		Bytes:   s.Describe().Bytes + secret.Describe().Bytes,
	}, *report)
	require.Greater(t, report.Epochs, int64(1))
	require.Greater(t, last, report.Bytes)
}

// liveBlocks returns the stored blocks of a shard that have untrimmed records.
func liveBlocks(t *testing.T, sh *Shard) (live []storedBlock) {
	t.Helper()
	horizon, _ := sh.view()
	for _, b := range blocksOf(t, sh) {
		if b.Last >= horizon.Counter {
			live = append(live, b)
		}
	}
	require.Greater(t, len(live), 10)
	return live
}

// writeRows changes stored rows directly, without the database's knowledge.
func writeRows(t *testing.T, db *DB, write func(batch *kv.Batch)) {
	t.Helper()
	batch := db.store.NewBatch()
	defer batch.Close()
	write(batch)
	require.NoError(t, batch.Commit(false))
}

// Each kind of damage in a row is reported with its place, and nothing else is reported.
func TestVerifyFindsWhatIsWrongWithRows(t *testing.T) {
	flipped := func(value []byte) []byte {
		value = bytes.Clone(value)
		value[len(value)/2] ^= 1
		return value
	}
	type world struct {
		db *DB
		s  *Stream
		sh *Shard // open, with records in several epochs
	}
	get := func(t *testing.T, w world, key []byte) []byte {
		value, err := w.db.store.Get(key)
		require.NoError(t, err)
		return value
	}
	blocks := func(t *testing.T, w world) []storedBlock { return liveBlocks(t, w.sh) }
	orders := VerifyError{Kind: "stream", Stream: "orders"}
	shard := VerifyError{Kind: "stream", Stream: "orders", Shard: "shardId-000000000001"}
	records := VerifyError{Kind: "records", Stream: "orders", Shard: "shardId-000000000001"}
	queues := VerifyError{Kind: "queue", Queue: "jobs", Stream: "orders", Shard: "shardId-000000000001"}
	jobs := layout.QueueID{7}
	// setQueue writes a queue that has received the last record of the shard, with a change.
	setQueue := func(change func(w world, q *layout.QueueRow, c *layout.CursorRow, shard *uint32, counter *uint64)) func(*testing.T, world, *kv.Batch) {
		return func(_ *testing.T, w world, batch *kv.Batch) {
			tip := w.sh.log.Tip()
			q := layout.QueueRow{Name: "jobs", Stream: w.s.number, Start: 1}
			c := layout.CursorRow{Counter: tip.LastCounter, Ordinal: tip.Ordinal}
			shard, counter := w.sh.index, tip.LastCounter
			change(w, &q, &c, &shard, &counter)
			if q.Name != "" {
				batch.Set(layout.QueueKey(jobs), q.Encode(jobs))
			}
			key := layout.CursorKey(jobs, w.sh.index)
			batch.Set(key, c.Encode(key))
			key = layout.DeliveryKey(jobs, shard, counter)
			batch.Set(key, layout.DeliveryRow{Receives: 1, Generation: 1, First: 1}.Encode(key))
		}
	}
	leases := VerifyError{Kind: "lease", App: "billing", Stream: "orders", Shard: "shardId-000000000001"}
	setLease := func(at func(w world) layout.LeaseCheckpoint) func(*testing.T, world, *kv.Batch) {
		return func(_ *testing.T, w world, batch *kv.Batch) {
			batch.Set(lease(w.s, w.sh, at(w)))
		}
	}
	for _, row := range []struct {
		name  string
		plant func(t *testing.T, w world, batch *kv.Batch)
		want  VerifyError
		class error
		times int // how often it is reported; 0 means once
	}{
		{name: "a queue's row with a flipped bit", want: VerifyError{Kind: "queue"}, class: ErrCorrupt, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			batch.Set(layout.QueueKey(jobs), flipped(layout.QueueRow{Name: "jobs", Stream: w.s.number}.Encode(jobs)))
		}},
		{name: "a queue of no stream", want: VerifyError{Kind: "queue", Queue: "jobs"}, class: ErrCorrupt, plant: func(_ *testing.T, _ world, batch *kv.Batch) {
			batch.Set(layout.QueueKey(jobs), layout.QueueRow{Name: "jobs", Stream: 77}.Encode(jobs))
		}},
		{name: "rows of no queue", want: VerifyError{Kind: "queue"}, class: ErrCorrupt, times: 2, plant: setQueue(func(_ world, q *layout.QueueRow, _ *layout.CursorRow, _ *uint32, _ *uint64) {
			q.Name = ""
		})},
		{name: "a delivery of no shard", want: VerifyError{Kind: "queue", Queue: "jobs", Stream: "orders", Shard: "shardId-000000000099"}, class: ErrCorrupt, plant: setQueue(func(_ world, _ *layout.QueueRow, _ *layout.CursorRow, shard *uint32, _ *uint64) {
			*shard = 99
		})},
		{name: "a delivery beyond the queue's cursor", want: queues, class: ErrCorrupt, plant: setQueue(func(_ world, _ *layout.QueueRow, c *layout.CursorRow, _ *uint32, _ *uint64) {
			c.Counter--
		})},
		{name: "a delivery before the queue's start", want: queues, class: ErrCorrupt, plant: setQueue(func(_ world, q *layout.QueueRow, _ *layout.CursorRow, _ *uint32, counter *uint64) {
			q.Start = *counter
			*counter--
		})},
		{name: "a cursor beyond the tip", want: queues, class: ErrDataLoss, plant: setQueue(func(_ world, _ *layout.QueueRow, c *layout.CursorRow, _ *uint32, _ *uint64) {
			c.Counter++
		})},
		{name: "more records received than there were", want: queues, class: ErrDataLoss, plant: setQueue(func(_ world, _ *layout.QueueRow, c *layout.CursorRow, _ *uint32, _ *uint64) {
			c.Ordinal++
		})},
		{name: "a block with a flipped bit", want: records, class: ErrCorrupt, plant: func(t *testing.T, w world, batch *kv.Batch) {
			b := blocks(t, w)[5]
			batch.Set(b.key, flipped(b.value))
		}},
		{name: "a block that is missing", want: records, class: ErrDataLoss, plant: func(t *testing.T, w world, batch *kv.Batch) {
			batch.Delete(blocks(t, w)[5].key)
		}},
		{name: "the first block", want: records, class: ErrDataLoss, plant: func(t *testing.T, w world, batch *kv.Batch) {
			batch.Delete(blocks(t, w)[0].key)
		}},
		{name: "the last block", want: records, class: ErrDataLoss, plant: func(t *testing.T, w world, batch *kv.Batch) {
			all := blocks(t, w)
			batch.Delete(all[len(all)-1].key)
		}},
		{name: "the last block of an epoch", want: records, class: ErrDataLoss, plant: func(t *testing.T, w world, batch *kv.Batch) {
			_, extents := w.sh.view()
			require.Greater(t, len(extents), 1)
			_, upper := layout.EpochRecordsSpan(extents[0].Epoch)
			for _, b := range blocks(t, w) {
				if bytes.Compare(b.key, upper) > 0 {
					break
				}
				if b.NextOrdinal() == extents[1].FirstOrdinal {
					batch.Delete(b.key)
				}
			}
		}},
		{name: "a shard's records of an epoch", want: records, class: ErrDataLoss, plant: func(t *testing.T, w world, batch *kv.Batch) {
			_, extents := w.sh.view()
			batch.DeleteRange(w.sh.extentSpan(extents[1], extents[1].FirstCounter))
		}},
		{name: "a stream's row", want: orders, class: ErrDataLoss, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			batch.Delete(layout.StreamKey(w.s.number))
		}},
		{name: "a stream's row that is another", want: orders, class: ErrCorrupt, plant: func(t *testing.T, w world, batch *kv.Batch) {
			row, err := layout.DecodeStreamRow(w.s.number, get(t, w, layout.StreamKey(w.s.number)))
			require.NoError(t, err)
			row.NextShard++
			batch.Set(layout.StreamKey(w.s.number), row.Encode(w.s.number))
		}},
		{name: "a shard's row", want: shard, class: ErrDataLoss, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			batch.Delete(layout.ShardKey(w.s.number, w.sh.index))
		}},
		{name: "an older row of a shard", want: shard, class: ErrCorrupt, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			batch.Set(layout.ShardKey(w.s.number, w.sh.index), w.sh.rowWith(layout.Horizon{}, nil).Encode(w.s.number, w.sh.index))
		}},
		{name: "a shard's row with a flipped bit", want: orders, class: ErrCorrupt, times: 2, plant: func(t *testing.T, w world, batch *kv.Batch) {
			key := layout.ShardKey(w.s.number, w.sh.index)
			batch.Set(key, flipped(get(t, w, key))) // it is reported for its column, and for its shard
		}},
		{name: "a row of a shard that there is not", want: orders, class: ErrCorrupt, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			batch.Set(layout.ShardKey(w.s.number, 99), w.sh.row().Encode(w.s.number, 99))
		}},
		{name: "a row of a stream that there is not", want: VerifyError{Kind: "stream"}, class: ErrCorrupt, plant: func(_ *testing.T, _ world, batch *kv.Batch) {
			batch.Set(layout.ExtentKey(99, 1, 1), layout.ExtentRow{}.Encode(99, 1, 1))
		}},
		{name: "an extent's row", want: shard, class: ErrDataLoss, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			_, extents := w.sh.view()
			batch.Delete(layout.ExtentKey(w.s.number, w.sh.index, extents[0].Epoch))
		}},
		{name: "an extent's row that begins elsewhere", want: shard, class: ErrCorrupt, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			_, extents := w.sh.view()
			row := extents[1].ExtentRow
			row.FirstOrdinal++
			batch.Set(layout.ExtentKey(w.s.number, w.sh.index, extents[1].Epoch), row.Encode(w.s.number, w.sh.index, extents[1].Epoch))
		}},
		{name: "an extent's row that ends elsewhere", want: shard, class: ErrCorrupt, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			_, extents := w.sh.view()
			row := extents[0].ExtentRow
			row.End = layout.Horizon{Counter: 1, Ordinal: 1, Offset: 1}
			batch.Set(layout.ExtentKey(w.s.number, w.sh.index, extents[0].Epoch), row.Encode(w.s.number, w.sh.index, extents[0].Epoch))
		}},
		{name: "an epoch's row", want: VerifyError{Kind: "epoch"}, class: ErrDataLoss, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			_, extents := w.sh.view()
			batch.Delete(layout.EpochKey(extents[0].Epoch))
		}},
		{name: "records of an epoch that there is not", want: VerifyError{Kind: "epoch"}, class: ErrCorrupt, plant: func(t *testing.T, w world, batch *kv.Batch) {
			b := blocks(t, w)[0]
			place, err := layout.DecodeBlockKey(b.key)
			require.NoError(t, err)
			place.Epoch = 1 << 30
			batch.Set(place.Bytes(), b.value)
		}},
		{name: "a data key", want: VerifyError{Kind: "data key", Stream: "secret"}, class: ErrDataLoss, plant: func(t *testing.T, w world, batch *kv.Batch) {
			secret, err := w.db.Stream("secret")
			require.NoError(t, err)
			batch.Delete(layout.DataKeyKey(secret.number, 0))
		}},
		{name: "a lease with a flipped bit", want: leases, class: ErrCorrupt, plant: func(t *testing.T, w world, batch *kv.Batch) {
			key, value := lease(w.s, w.sh, layout.LeaseCheckpoint{})
			batch.Set(key, flipped(value))
		}},
		{name: "a lease of a shard that there never was", class: ErrCorrupt, want: VerifyError{Kind: "lease", App: "billing", Stream: "orders", Shard: "shardId-000000000077"}, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			key := layout.LeaseKey("billing", "orders", "shardId-000000000077")
			batch.Set(key, layout.LeaseRow{Stream: w.s.createdCounter, Checkpoint: layout.LeaseCheckpoint{Start: "TRIM_HORIZON"}}.Encode(key))
		}},
		{name: "a checkpoint beyond the shard's tip", want: leases, class: ErrBeyondTip, plant: setLease(func(w world) layout.LeaseCheckpoint {
			return layout.LeaseCheckpoint{Start: "TRIM_HORIZON", Number: w.sh.number(w.sh.log.LastCounter() + 1).String()}
		})},
		{name: "a beginning beyond the tip", want: leases, class: ErrBeyondTip, plant: setLease(func(w world) layout.LeaseCheckpoint {
			return layout.LeaseCheckpoint{Start: AfterSequence(w.sh.number(w.db.visible.Load() + 1)).String()}
		})},
		{name: "a checkpoint of another shard", want: leases, class: ErrCorrupt, plant: setLease(func(w world) layout.LeaseCheckpoint {
			return layout.LeaseCheckpoint{Start: "TRIM_HORIZON", Number: w.s.Shards()[0].number(w.sh.log.LastCounter()).String()}
		})},
		{name: "the end of an open shard", want: leases, class: ErrCorrupt, plant: setLease(func(world) layout.LeaseCheckpoint {
			return layout.LeaseCheckpoint{Start: "TRIM_HORIZON", ShardEnd: true}
		})},
		{name: "a checkpoint that is none", want: leases, class: ErrCorrupt, plant: setLease(func(world) layout.LeaseCheckpoint {
			return layout.LeaseCheckpoint{Start: "YESTERDAY"}
		})},
		{name: "a gap of a parent without a number", want: leases, class: ErrCorrupt, plant: func(_ *testing.T, w world, batch *kv.Batch) {
			key, _ := lease(w.s, w.sh, layout.LeaseCheckpoint{})
			row := layout.LeaseRow{Stream: w.s.createdCounter, Checkpoint: layout.LeaseCheckpoint{Start: "TRIM_HORIZON"}}
			row.Gaps = []layout.LeaseGap{{Shard: "shardId-000000000000"}, {Shard: "shardId-000000000001", FirstLost: "first"}}
			batch.Set(key, row.Encode(key))
		}},
		{name: "the clock", want: VerifyError{Kind: "row"}, class: ErrDataLoss, plant: func(_ *testing.T, _ world, batch *kv.Batch) { batch.Delete(layout.ClockKey()) }},
		{name: "the format", want: VerifyError{Kind: "row"}, class: ErrCorrupt, plant: func(t *testing.T, w world, batch *kv.Batch) {
			batch.Set(layout.FormatKey(), flipped(get(t, w, layout.FormatKey())))
		}},
		{name: "a row about the database that is unknown", want: VerifyError{Kind: "row"}, class: ErrCorrupt, plant: func(_ *testing.T, _ world, batch *kv.Batch) { batch.Set([]byte("\x01new"), nil) }},
		{name: "rows in unknown columns", want: VerifyError{Kind: "row"}, class: ErrCorrupt, times: 4, plant: func(_ *testing.T, _ world, batch *kv.Batch) {
			for _, key := range []string{"\x00", "\x0fa", "\x0fb", "\x1f", "\xff\xff"} { // two of them in one gap
				batch.Set([]byte(key), nil)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			db := openVerified(t)
			w := world{db: db, s: verifySource(t, db)}
			w.sh = w.s.Shards()[1]
			writeRows(t, db, func(batch *kv.Batch) { row.plant(t, w, batch) })
			report, err := db.Verify(t.Context(), unpaced)
			require.ErrorIs(t, err, row.class)
			require.Len(t, report.Problems, max(1, row.times), "%v", report.Problems)
			got := *report.Problems[0]
			var corrupt *CorruptError
			require.Equal(t, got.Kind == "records", errors.As(got.Err, &corrupt))
			if corrupt != nil {
				require.Equal(t, got.Shard, corrupt.Shard)
				require.Positive(t, corrupt.FirstAvailable.Compare(corrupt.FirstLost))
			}
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrDataLoss))
			require.ErrorIs(t, got.Err, row.class)
			got.Err = nil
			require.Equal(t, row.want, got)
		})
	}
}

// Damage of trimmed records is not reported.
func TestVerifyDoesNotSpeakOfWhatWasTrimmed(t *testing.T) {
	db := openVerified(t)
	s := verifySource(t, db)
	sh := s.Shards()[1]
	stored := liveBlocks(t, sh)
	damageBlock(t, db, stored[3])
	_, err := db.Verify(t.Context(), unpaced)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NoError(t, s.Trim(t.Context(), AtSequence(sh.number(stored[4].First))))
	_, err = db.Verify(t.Context(), unpaced)
	require.NoError(t, err)
}

// Records whose key is unavailable are counted, and are not damage. A record that does not
// decrypt is damage.
func TestVerifyOpensWhatItHasTheKeysFor(t *testing.T) {
	ctx := t.Context()
	mem := vfs.NewMem()
	options := &Options{MemtableBytes: minMemtableBytes, KeyProvider: blockKeys}
	db, err := open("/db", options, environment{fs: mem})
	require.NoError(t, err)
	verifySource(t, db)
	secret, err := db.Stream("secret")
	require.NoError(t, err)
	count := secret.Describe().Records
	require.NoError(t, db.Close())

	db, err = open("/db", &Options{MemtableBytes: minMemtableBytes}, environment{fs: mem})
	require.NoError(t, err)
	report, err := db.Verify(ctx, unpaced)
	require.NoError(t, err)
	require.Equal(t, count, report.Unopened)
	require.ErrorIs(t, report.UnopenedErr, ErrKeyUnavailable)
	require.NoError(t, db.Close())

	db, err = open("/db", options, environment{fs: mem})
	require.NoError(t, err)
	report, err = db.Verify(ctx, unpaced)
	require.NoError(t, err)
	require.Zero(t, report.Unopened)
	require.NoError(t, report.UnopenedErr)

	// A block encrypted with another data key: its checksum is right.
	secret, err = db.Stream("secret")
	require.NoError(t, err)
	b := blocksOf(t, secret.Shards()[0])[1]
	records := make([]layout.Record, b.Count)
	for i := range records {
		records[i] = layout.Record{Counter: b.First + uint64(i), Ordinal: b.Ordinal + uint64(i), Offset: b.Offset, Data: nil}
	}
	records[len(records)-1].Counter = b.Last
	records[0].Data = make([]byte, b.Bytes)
	foreign, err := layout.NewDataKey(b.DataKey, db.store.ID(), make([]byte, 32))
	require.NoError(t, err)
	value := make([]byte, layout.BlockBytes(records, foreign))
	layout.PutBlock(value, b.key, records, foreign, new(layout.SealScratch))
	writeRows(t, db, func(batch *kv.Batch) { batch.Set(b.key, value) })
	report, err = db.Verify(ctx, unpaced)
	require.ErrorIs(t, err, ErrCorrupt)
	require.Len(t, report.Problems, 1)
	require.ErrorContains(t, err, "does not open")
	require.NoError(t, db.Close())
}

// The lineage is verified by the parents and children that the shards name.
func TestVerifyJudgesLineage(t *testing.T) {
	for name, change := range map[string]func(t *topology){
		"a parent that is no older":    func(t *topology) { t.shards[2].parents = []uint32{3} },
		"a parent that is open":        func(t *topology) { t.shards[2].parents = []uint32{1} },
		"no children":                  func(t *topology) { t.shards[2].parents, t.shards[3].parents = nil, nil },
		"one child":                    func(t *topology) { t.shards[3].parents = nil },
		"three children":               func(t *topology) { t.shards[1].parents = []uint32{0} },
		"a child older than the close": func(t *topology) { t.shards[2].createdCounter = 1 },
		"a child with a lower number":  func(t *topology) { t.shards[2].createdSeconds = 1 },
		"a hole":                       func(t *topology) { t.shards[3].hashKeys.Start.n = t.shards[3].hashKeys.Start.n.AddOne() },
		"parents that are no neighbours": func(t *topology) {
			t.shards[4].parents = []uint32{t.shards[4].parents[1], t.shards[4].parents[0]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := openVerified(t)
			s, err := db.OpenStream(t.Context(), "s", &StreamOptions{Shards: 2})
			require.NoError(t, err)
			low, high, err := s.SplitShard(t.Context(), "0", nil)
			require.NoError(t, err)
			_, err = s.MergeShards(t.Context(), low.id, high.id)
			require.NoError(t, err)
			_, err = db.Verify(t.Context(), unpaced)
			require.NoError(t, err)
			change(s.topology.Load())
			_, err = db.Verify(t.Context(), unpaced)
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
}
