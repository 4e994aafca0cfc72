package braid

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// Idle streams and shards cost nothing: the committer looks only at those that a call
// changes. The tests count the looks, and do not measure time.

// costs are calls whose cost must not grow. Each gets streams of its own, prepared by
// prepare, and the number of the try.
var costs = []struct {
	name    string
	prepare func(context.Context, *DB, *Stream) error
	call    func(context.Context, *DB, *Stream) error
}{
	{"first put to a stream", nothing, putOne},
	{"put", putOne, putOne},
	{"put that begins an epoch", putOne, func(ctx context.Context, db *DB, s *Stream) error {
		if err := db.fillEpoch(ctx); err != nil {
			return err
		}
		return putOne(ctx, db, s)
	}},
	{"create", nothing, func(ctx context.Context, db *DB, s *Stream) error {
		_, err := db.CreateStream(ctx, s.Name()+".new", nil)
		return err
	}},
	{"delete", putOne, func(ctx context.Context, db *DB, s *Stream) error { return db.DeleteStream(ctx, s.Name()) }},
	{"trim", putOne, func(ctx context.Context, _ *DB, s *Stream) error { return s.Trim(ctx, Latest()) }},
	{"retention", putOne, func(ctx context.Context, _ *DB, s *Stream) error { return s.IncreaseRetention(ctx, 48*time.Hour) }},
	{"retention bytes", putOne, func(ctx context.Context, _ *DB, s *Stream) error { return s.UpdateRetentionBytes(ctx, 1<<20) }},
	{"split", putOne, func(ctx context.Context, _ *DB, s *Stream) error {
		_, _, err := s.SplitShard(ctx, s.Shards()[0].ID(), nil)
		return err
	}},
	{"put on demand", func(ctx context.Context, _ *DB, s *Stream) error {
		return s.UpdateCapacity(ctx, Capacity{Mode: OnDemand})
	}, putOne},
	{"put of a stream with many data keys", func(ctx context.Context, db *DB, s *Stream) error {
		return s.StartEncryption(ctx, "a")
	}, func(ctx context.Context, db *DB, s *Stream) error {
		if err := s.StartEncryption(ctx, "b"); err != nil {
			return err
		}
		if err := putOne(ctx, db, s); err != nil {
			return err
		}
		return s.Trim(ctx, Latest())
	}},
	{"metrics", nothing, func(_ context.Context, db *DB, _ *Stream) error { db.Metrics(); return nil }},
}

func nothing(context.Context, *DB, *Stream) error { return nil }

func putOne(ctx context.Context, _ *DB, s *Stream) error {
	_, err := s.PutRecord(ctx, "key", []byte("data"))
	return err
}

// fillEpoch makes the next put begin an epoch.
func (db *DB) fillEpoch(ctx context.Context) error {
	return db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		a.epochs.Grow(1 << 40)
		return nil, nil
	})
}

// costKeys is the key provider of costs.
var costKeys = func() *KeyRing {
	ring, err := NewKeyRing(map[string][]byte{"a": make([]byte, 32), "b": make([]byte, 32)})
	if err != nil {
		panic(err)
	}
	return ring
}()

// costBeside returns how often the committer looks at something during a call and the two
// minutes after it, in a database with that many idle streams of one record.
func costBeside(t *testing.T, streams int, capacity Capacity, i int) (looks int64) {
	t.Helper()
	db, err := Open(InMemory, &Options{KeyProvider: costKeys})
	require.NoError(t, err)
	for n := range streams {
		s, err := db.CreateStream(t.Context(), fmt.Sprint("idle-", n), &StreamOptions{Capacity: capacity})
		require.NoError(t, err)
		require.NoError(t, putOne(t.Context(), db, s))
	}
	<-time.After(9 * time.Hour) // until streams on demand are no longer watched
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	require.NoError(t, costs[i].prepare(t.Context(), db, s))
	synctest.Wait()
	before := db.appender.counts.looks.Load()
	require.NoError(t, costs[i].call(t.Context(), db, s))
	<-time.After(2 * time.Minute)
	synctest.Wait()
	looks = db.appender.counts.looks.Load() - before
	require.NoError(t, db.Close())
	return looks
}

func TestCostDoesNotGrowWithWhatIsIdle(t *testing.T) {
	crowd := 100
	if testing.Short() {
		crowd = 20
	}
	for i, cost := range costs {
		for _, mode := range []CapacityMode{Unlimited, OnDemand} {
			t.Run(fmt.Sprint(cost.name, "/beside ", mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					few, many := costBeside(t, 2, Capacity{Mode: mode}, i), costBeside(t, crowd, Capacity{Mode: mode}, i)
					require.Equal(t, few, many, "streams, shards and epochs that were looked at")
				})
			})
		}
	}
}

// A stream's own idle shards cost nothing either, unless the call changes all of them.
func TestCostDoesNotGrowWithIdleShards(t *testing.T) {
	for _, cost := range costs {
		if cost.name == "delete" { // it removes all shards
			continue
		}
		t.Run(cost.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var looks [2]int64
				for n, shards := range []int{4, 400} {
					db, err := Open(InMemory, &Options{KeyProvider: costKeys})
					require.NoError(t, err)
					s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: shards})
					require.NoError(t, err)
					for range 2 {
						require.NoError(t, putOne(t.Context(), db, s))
					}
					require.NoError(t, cost.prepare(t.Context(), db, s))
					synctest.Wait() // for the work in the background, here and below
					before := db.appender.counts.looks.Load()
					require.NoError(t, cost.call(t.Context(), db, s))
					synctest.Wait()
					looks[n] = db.appender.counts.looks.Load() - before
					require.NoError(t, db.Close())
				}
				require.Equal(t, looks[0], looks[1], "shards, extents and epochs that were looked at")
			})
		})
	}
}

// An open after a close reads no record. An open after a crash reads the last ones of the
// shards whose end is in no row.
func TestOpenReadsNoRecordThatItNeedNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashableMem()
		reopen := func(disk vfs.FS) *DB {
			db, err := open("/db", &Options{MemtableBytes: minMemtableBytes}, environment{fs: disk, instant: true})
			require.NoError(t, err)
			return db
		}
		db := reopen(disk)
		put := func(from, to int) {
			for i := from; i < to; i++ {
				s, err := db.OpenStream(t.Context(), fmt.Sprint(i), nil)
				require.NoError(t, err)
				require.NoError(t, putOne(t.Context(), db, s))
			}
		}
		put(0, 100)
		require.NoError(t, db.fillEpoch(t.Context()))
		put(50, 60) // begins an epoch, so that the ends of all are stored
		crashed := disk.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, db.Close())

		db = reopen(disk)
		require.Zero(t, db.appender.counts.loaded)
		require.NoError(t, db.checkBooks(t.Context()))
		require.NoError(t, db.Close())
		db = reopen(crashed)
		require.Equal(t, 10, db.appender.counts.loaded)
		require.NoError(t, db.checkBooks(t.Context()))
		require.NoError(t, db.Close())
	})
}

// A trim looks only at the shards whose records it trims, whatever the others hold.
func TestTrimLooksAtWhatItTrims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks []int64
		for _, shards := range []int{10, 2000} {
			db, err := Open(InMemory, nil)
			require.NoError(t, err)
			s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: shards})
			require.NoError(t, err)
			put := func(shards ...*Shard) {
				for entries := range slices.Chunk(shards, 500) {
					var put []Entry
					for _, sh := range entries {
						put = append(put, Entry{PartitionKey: "k", ExplicitHashKey: &sh.hashKeys.Start})
					}
					_, err := s.PutRecords(t.Context(), put)
					require.NoError(t, err)
				}
			}
			put(s.Shards()[:3]...)
			<-time.After(time.Second)
			border := time.Now()
			put(s.Shards()[2:]...)
			for range 2 { // the second one finds nothing
				before := db.appender.counts.looks.Load()
				require.NoError(t, s.Trim(t.Context(), AtTime(border)))
				synctest.Wait()
				looks = append(looks, db.appender.counts.looks.Load()-before)
			}
			for i, sh := range s.Shards() {
				require.EqualValues(t, min(1, max(0, i-1)), sh.Describe().Records, "shard %d", i)
			}
			require.NoError(t, db.checkBooks(t.Context()))
			require.NoError(t, db.Close())
		}
		require.Equal(t, looks[:2], looks[2:], "shards, extents and epochs that were looked at")
	})
}

// Retention finds what is due without a look at the rest: one stream of many expires at a
// time, and each time only that one is looked at.
func TestRetentionLooksAtWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, apart = 200, 10 * time.Minute
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		for n := range streams {
			s, err := db.CreateStream(t.Context(), fmt.Sprint(n), &StreamOptions{Retention: time.Hour + time.Duration(n)*apart})
			require.NoError(t, err)
			require.NoError(t, putOne(t.Context(), db, s))
		}
		<-time.After(time.Hour - apart/2)
		for n := range streams {
			before := db.appender.counts.looks.Load()
			<-time.After(apart)
			synctest.Wait()
			s, err := db.Stream(fmt.Sprint(n))
			require.NoError(t, err)
			horizon, extents := s.Shards()[0].view()
			require.Empty(t, extents, "what has expired is trimmed")
			require.EqualValues(t, 1, horizon.Ordinal)
			require.LessOrEqual(t, db.appender.counts.looks.Load()-before, int64(8))
		}
		require.Zero(t, db.appender.trims.Len(), "nothing is left to do")
		require.NoError(t, db.Close())
	})
}

// Deleting many streams that share an epoch with a living one looks at each once.
func TestDeletingManyStreamsLooksAtEachOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 200
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		for n := range streams {
			s, err := db.CreateStream(t.Context(), fmt.Sprint(n), nil)
			require.NoError(t, err)
			require.NoError(t, putOne(t.Context(), db, s))
		}
		require.NoError(t, db.fillEpoch(t.Context()))
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		require.NoError(t, putOne(t.Context(), db, s))
		synctest.Wait()
		before := db.appender.counts.looks.Load()
		for n := range streams {
			require.NoError(t, db.DeleteStream(t.Context(), fmt.Sprint(n)))
			synctest.Wait()
		}
		require.LessOrEqual(t, db.appender.counts.looks.Load()-before, int64(2*streams))
		require.NoError(t, db.Close())
	})
}

// A reader that follows a stream through any number of reshards holds cursors only for the
// shards that it still has to read.
func TestAReaderLetsGoOfShardsThatItHasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		m := &merge{stream: s, bound: bound{from: 1}}
		for i := range 100 {
			require.NoError(t, putOne(t.Context(), db, s))
			require.NoError(t, s.UpdateShardCount(t.Context(), 2+i%2))
			read := 0
			done, err := m.run(t.Context(), db.visible.Load(), func(Record, error) bool { read++; return true })
			require.NoError(t, err)
			require.False(t, done)
			require.Equal(t, 1, read)
			require.Empty(t, m.heap)
			require.LessOrEqual(t, len(m.all), 3+2) // the open shards, and those read in this round
		}
		require.NoError(t, db.Close())
	})
}

// A reader that follows a stream looks only at shards that got records, when it is woken and
// before it waits again.
func TestAFollowerLooksAtShardsThatHaveRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks []int
		for _, idle := range []int{10, 1000} {
			db, err := Open(InMemory, &Options{TailBytes: -1})
			require.NoError(t, err)
			s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: idle + 3})
			require.NoError(t, err)
			var want, got []SequenceNumber
			put := func(shards ...*Shard) {
				for part := range slices.Chunk(shards, 500) {
					entries := make([]Entry, len(part))
					for i, sh := range part {
						entries[i] = Entry{PartitionKey: "k", ExplicitHashKey: &sh.hashKeys.Start}
					}
					results, err := s.PutRecords(t.Context(), entries)
					require.NoError(t, err)
					for _, r := range results {
						want = append(want, r.SequenceNumber)
					}
				}
			}
			m := &merge{stream: s, bound: bound{from: 1}, ahead: &readAhead{ctx: t.Context(), db: db}}
			run := func() {
				to := db.visible.Load()
				_, err := m.run(t.Context(), to, func(r Record, err error) bool { got = append(got, r.SequenceNumber); return true })
				require.NoError(t, err)
				m.countOnAll(to)
				require.Equal(t, want, got)
			}
			shards := s.Shards()
			put(shards...)
			run()
			for _, some := range [][]*Shard{shards[:1], shards[1:2], shards[:3], nil, {shards[2], shards[0], shards[2]}} {
				before := m.looks
				if some != nil {
					put(some...)
				}
				run()
				looks = append(looks, m.looks-before)
			}
			require.NoError(t, db.Close())
		}
		require.Equal(t, looks[:5], looks[5:])
		require.Equal(t, []int{3, 3, 9, 0}, looks[:4]) // when it has records, when it has none, and before the wait
	})
}

// The shards of a stream with later records come before the others, in whatever group they
// came, and expired shards are dropped.
func TestShardsWithLaterRecordsComeFirst(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var r recency
	cache := tail.NewCache(1 << 20)
	shards := make([]*Shard, 20)
	for i := range shards {
		shards[i] = &Shard{index: uint32(i), log: tail.NewLog(tail.Tip{})}
	}
	gone, last, visible := make(map[*Shard]bool), uint64(0), []uint64{0}
	for range 500 {
		for _, i := range random.Perm(len(shards))[:1+random.IntN(4)] {
			sh := shards[i]
			if gone[sh] {
				continue
			}
			last++
			cache.Append(sh.log, []layout.Record{{Counter: last, Ordinal: sh.log.Tip().Ordinal}})
			r.touch(sh)
		}
		if visible = append(visible, last); random.IntN(50) == 0 {
			sh := shards[random.IntN(len(shards))]
			gone[sh] = true
			r.remove(sh)
		}
		for _, counter := range []uint64{visible[random.IntN(len(visible))], last} {
			var want []*Shard
			for _, sh := range shards {
				if !gone[sh] && sh.log.LastCounter() > counter {
					want = append(want, sh)
				}
			}
			require.ElementsMatch(t, want, r.since(counter, nil))
		}
	}
}

// The list by which readers find recent records drops expired shards.
func TestExpiredShardsAreNotAmongTheRecentOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		require.NoError(t, putOne(t.Context(), db, s))
		require.NoError(t, s.UpdateShardCount(t.Context(), 2))
		require.NoError(t, putOne(t.Context(), db, s))
		require.Len(t, s.recent.since(0, nil), 2)
		<-time.After(2 * defaultRetention)
		synctest.Wait()
		require.Len(t, s.Shards(), 2, "the parent has gone")
		require.Len(t, s.recent.since(0, nil), 1)
		require.NoError(t, db.Close())
	})
}

// Records that a stream leaves behind in the open epoch are removed after the epoch has
// ended, even if nobody trims the stream again.
func TestWhatDiesInTheOpenEpochIsRemovedAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		open := func(name string) *Stream {
			s, err := db.CreateStream(t.Context(), name, nil)
			require.NoError(t, err)
			return s
		}
		dies, again, lives := open("dies"), open("again"), open("lives")
		stored := func(s *Stream, id uint32) (n int) {
			lower, upper := layout.StreamRecordsSpan(id, s.number)
			require.NoError(t, scan(db.store, lower, upper, func(_, _ []byte) error { n++; return nil }))
			return n
		}
		for _, s := range []*Stream{dies, again} {
			_, err := s.PutRecord(t.Context(), "key", make([]byte, 2*deadBytes))
			require.NoError(t, err)
			require.NoError(t, s.Trim(t.Context(), Latest()))
		}
		require.NoError(t, putOne(t.Context(), db, again))
		require.NoError(t, putOne(t.Context(), db, lives))
		synctest.Wait()
		id := db.appender.epochs.Open()
		require.Equal(t, []int{1, 2, 1}, []int{stored(dies, id), stored(again, id), stored(lives, id)})
		require.NoError(t, db.fillEpoch(t.Context()))
		require.NoError(t, putOne(t.Context(), db, lives))
		synctest.Wait()
		require.Equal(t, []int{0, 2, 1}, []int{stored(dies, id), stored(again, id), stored(lives, id)})
		require.Equal(t, "data", joinedData(t, again))
		require.NoError(t, again.Trim(t.Context(), Latest()))
		synctest.Wait()
		require.Equal(t, []int{0, 0, 1}, []int{stored(dies, id), stored(again, id), stored(lives, id)})
		require.NoError(t, db.Close())
	})
}

func joinedData(t *testing.T, s *Stream) (all string) {
	t.Helper()
	for r, err := range s.Records(t.Context(), TrimHorizon()) {
		require.NoError(t, err)
		all += string(r.Data)
	}
	return all
}
