package braid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

// newLongStream returns a stream whose shards are many pages long, and its records in the
// order of arrival. The records are in several epochs, in blocks of one record and of many;
// some are larger than a page. No record is in a tail.
func newLongStream(t *testing.T, shards int, encrypted bool) (*DB, *Stream, []Record) {
	t.Helper()
	db, err := open(InMemory, &Options{TailBytes: -1, KeyProvider: blockKeys}, environment{byHand: true})
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: shards})
	require.NoError(t, err)
	if encrypted {
		require.NoError(t, s.StartEncryption(t.Context(), "main"))
	}
	random := rand.New(rand.NewPCG(1, 2))
	var all []Record
	for i := range 120 {
		if i%50 == 49 {
			require.NoError(t, db.fillEpoch(t.Context()))
		}
		entries := make([]Entry, 1+i%5*50)
		for j := range entries {
			size := random.IntN(400)
			if random.IntN(2000) == 0 {
				size = 600 << 10
			}
			entries[j] = Entry{PartitionKey: fmt.Sprint(random.IntN(1000)), Data: bytes.Repeat([]byte{byte(i)}, size)}
			if random.IntN(9) == 0 {
				hash := HashKeyOf(fmt.Sprint(random.Uint64()))
				entries[j].ExplicitHashKey = &hash
			}
		}
		results, err := s.PutRecords(t.Context(), entries)
		require.NoError(t, err)
		for j, e := range entries {
			number := results[j].SequenceNumber
			all = append(all, Record{
				e.PartitionKey, e.ExplicitHashKey, e.Data, results[j].ShardID,
				number, time.Unix(0, int64(number.counter())), encrypted,
			})
		}
	}
	return db, s, all
}

// readingAhead returns how many goroutines read ahead for loops.
func (db *DB) readingAhead() int {
	synctest.Wait() // the end of a loop does not wait for them
	return int(db.readers.ahead.Load())
}

// recordsOf returns the method that reads a stream or a shard.
func recordsOf(from interface {
	Records(ctx context.Context, from Position) iter.Seq2[Record, error]
	BorrowRecords(ctx context.Context, from Position) iter.Seq2[Record, error]
}, borrow bool,
) func(ctx context.Context, from Position) iter.Seq2[Record, error] {
	if borrow {
		return from.BorrowRecords
	}
	return from.Records
}

func TestLongReadsAreReadAhead(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		for _, borrow := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				db, s, want := newLongStream(t, 3, encrypted)
				check := func(records iter.Seq2[Record, error], want []Record) {
					t.Helper()
					i := 0
					for r, err := range records {
						require.NoError(t, err)
						require.Equal(t, want[i], r)
						i++
					}
					require.Len(t, want, i)
					require.Zero(t, db.readingAhead())
				}
				check(recordsOf(s, borrow)(context.Background(), TrimHorizon()), want)
				require.Greater(t, db.reads.ahead.Load(), db.reads.stored.Load()/2)
				for _, i := range []int{0, 1, len(want) / 3} {
					check(recordsOf(s, borrow)(context.Background(), AtSequence(want[i].SequenceNumber)), want[i:])
				}
				for _, sh := range s.Shards() {
					var own []Record
					for _, r := range want {
						if r.ShardID == sh.ID() {
							own = append(own, r)
						}
					}
					check(recordsOf(sh, borrow)(context.Background(), TrimHorizon()), own)
					i := len(own) / 2
					check(recordsOf(sh, borrow)(context.Background(), AfterSequence(own[i].SequenceNumber)), own[i+1:])
				}
				require.NoError(t, db.Close())
			})
		}
	}
}

// Records may be kept, and so may borrowed ones, except for their data.
func TestRecordsMayBeKeptAndBorrowedOnesButForTheirData(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		for _, borrow := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				db, s, want := newLongStream(t, 1, encrypted)
				for _, records := range []iter.Seq2[Record, error]{
					recordsOf(s, borrow)(context.Background(), TrimHorizon()),
					recordsOf(s.Shards()[0], borrow)(context.Background(), TrimHorizon()),
				} {
					var kept []Record
					for r, err := range records {
						require.NoError(t, err)
						kept = append(kept, r)
					}
					require.Len(t, kept, len(want))
					overwritten := 0
					for i := range want {
						if !bytes.Equal(want[i].Data, kept[i].Data) {
							overwritten++
							kept[i].Data = want[i].Data
						}
					}
					require.Equal(t, want, kept, "everything else is kept")
					require.Equal(t, borrow, overwritten > 0)
				}
				require.NoError(t, db.Close())
			})
		}
	}
}

// A loop that reads at most a page of a shard starts no goroutine. Neither does a loop that
// stops after a page, or one that waits at the tip.
func TestOnlyLongReadsAreReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s, all := newLongStream(t, 1, false)
		sh := s.Shards()[0]
		n := 0
		for _, err := range sh.Records(context.Background(), AtSequence(all[len(all)-20].SequenceNumber)) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 20, n)
		for _, err := range sh.Records(context.Background(), TrimHorizon()) {
			require.NoError(t, err)
			break
		}
		require.Zero(t, db.reads.ahead.Load())
		require.Empty(t, db.readers.idle, "no goroutine was needed")

		ctx, cancel := context.WithCancel(t.Context())
		for _, follow := range []iter.Seq2[Record, error]{sh.Follow(ctx, TrimHorizon()), s.Follow(ctx, TrimHorizon())} {
			go func() {
				for range follow { //nolint:revive // the records are counted elsewhere
				}
			}()
		}
		synctest.Wait()
		require.Equal(t, 1, sh.log.Waiting())
		require.NotZero(t, db.reads.ahead.Load())
		require.Zero(t, db.readingAhead(), "the loops have none at the tip")
		cancel()
		require.NoError(t, db.Close())
	})
}

// However a loop ends, and at any record, it leaves nothing behind.
func TestALoopThatEndsLeavesNothingBehind(t *testing.T) {
	places := 40
	if testing.Short() {
		places = 10
	}
	for _, shards := range []int{1, 3, 20} {
		synctest.Test(t, func(t *testing.T) {
			db, s, all := newLongStream(t, shards, false)
			ends := map[string]func(stop func()) bool{
				"break": func(func()) bool { return false },
				"panic": func(func()) bool { panic("enough") },
				"end of the context": func(stop func()) bool {
					stop()
					return true
				},
			}
			for name, end := range ends {
				for at := 0; at < len(all); at += 1 + len(all)/places {
					ctx, stop := context.WithCancel(context.Background())
					func() {
						defer func() { _ = recover() }()
						n := 0
						s.Records(ctx, TrimHorizon())(func(_ Record, err error) bool {
							if n++; n == at+1 {
								return end(stop)
							}
							if err != nil {
								require.Equal(t, "end of the context", name)
								require.ErrorIs(t, err, context.Canceled)
							}
							return err == nil
						})
					}()
					stop()
					require.Zero(t, db.readingAhead(), name)
				}
			}
			require.NoError(t, db.Close())
		})
	}
}

// Records that were read ahead are yielded only while they are visible.
func TestWhatIsReadAheadShows(t *testing.T) {
	cause := errors.New("enough")
	events := map[string]struct {
		do   func(db *DB, s *Stream, cancel context.CancelCauseFunc) error
		want error
	}{
		"trim": {func(_ *DB, s *Stream, _ context.CancelCauseFunc) error { return s.Trim(context.Background(), Latest()) }, ErrTrimmed},
		"expiry": {func(*DB, *Stream, context.CancelCauseFunc) error {
			time.Sleep(defaultRetention + time.Second)
			return nil
		}, ErrTrimmed},
		"deletion": {func(db *DB, s *Stream, _ context.CancelCauseFunc) error {
			return db.DeleteStream(context.Background(), s.name)
		}, ErrStreamNotFound},
		"close":  {func(db *DB, _ *Stream, _ context.CancelCauseFunc) error { return db.Close() }, ErrClosed},
		"cancel": {func(_ *DB, _ *Stream, cancel context.CancelCauseFunc) error { cancel(cause); return nil }, cause},
	}
	for name, event := range events {
		for _, ofStream := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				db, s, all := newLongStream(t, 1, false)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				records := s.Shards()[0].Records(ctx, TrimHorizon())
				if ofStream {
					records = s.Records(ctx, TrimHorizon())
				}
				n, after := 0, 0
				var last error
				for r, err := range records {
					if last = err; err != nil {
						break
					}
					require.Equal(t, all[n], r)
					if n++; n == len(all)/2 {
						require.NoError(t, event.do(db, s, cancel))
					}
					if n > len(all)/2 {
						after++
					}
				}
				require.ErrorIs(t, last, event.want, name)
				require.Less(t, after, unpackRecords+256, name) // the records already taken from the page
				if name != "close" {
					require.NoError(t, db.Close())
				}
			})
		}
	}
}

// Damage that is read ahead is reported at its place, and the records after it are read.
func TestDamageAheadIsMetWhereItLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s, all := newLongStream(t, 1, false)
		sh := s.Shards()[0]
		blocks := blocksOf(t, sh)
		for _, i := range []int{len(blocks) / 2, len(blocks)/2 + 1, len(blocks) - 1} {
			damageBlock(t, db, blocks[i])
		}
		from, n, lost := TrimHorizon(), 0, 0
		for again := true; again; {
			again = false
			for r, err := range sh.Records(t.Context(), from) {
				var damage *CorruptError
				if errors.As(err, &damage) {
					for n < len(all) && all[n].SequenceNumber.Compare(damage.FirstAvailable) < 0 {
						n, lost = n+1, lost+1
					}
					from, again = AtSequence(damage.FirstAvailable), n < len(all)
					break
				}
				require.NoError(t, err)
				require.Equal(t, all[n], r)
				n++
			}
		}
		require.Len(t, all, n)
		require.Equal(t, blocks[len(blocks)/2].Count+blocks[len(blocks)/2+1].Count+blocks[len(blocks)-1].Count, lost)
		require.NoError(t, db.Close())
	})
}

// A page of blocks keeps to its memory limit, however small the page and the blocks are.
func TestPagesOfBlocksAreBounded(t *testing.T) {
	db, err := Open(InMemory, nil)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	for range 500 {
		_, err := s.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
	}
	sh := s.Shards()[0]
	for _, limit := range []int{1, 1000, 5000} {
		var stopped atomic.Bool
		p := blockPage{sh: sh, limit: limit, from: 1, to: sh.log.LastCounter(), done: make(chan struct{}, 1)}
		p.read(t.Context(), &stopped)
		require.True(t, p.more)
		held := cap(p.chunk)
		for _, b := range p.blocks {
			held += int(unsafe.Sizeof(b)) + len(b.value)
		}
		require.NotEmpty(t, p.blocks)
		require.LessOrEqual(t, held, 2*limit+200, "%d blocks", len(p.blocks)) // one block is read whatever its size
	}
	require.NoError(t, db.Close())
}

// Reading ahead ends at the last record that the loop may read.
func TestNothingIsReadBeyondWhereTheLoopIs(t *testing.T) {
	db, err := Open(InMemory, nil)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	ahead := readAhead{ctx: t.Context(), db: db}
	m := merge{stream: s, bound: bound{from: 1}, ahead: &ahead}
	to := db.visible.Load()
	for range 3 {
		require.NoError(t, putOne(t.Context(), db, s))
		_, err = m.run(t.Context(), to, func(Record, error) bool { t.Error("a record came too early"); return true })
		require.NoError(t, err)
		require.Empty(t, ahead.readers)
	}
	require.NoError(t, db.Close())
}

// A second goroutine helps when several pages wait, but no third. Both are abandoned on a
// stalled disk.
func TestASecondGoroutineHelpsWherePagesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		db, err := open("/db", &Options{TailBytes: -1, CacheBytes: -1, ReserveBytes: -1}, environment{fs: disk, byHand: true})
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		require.NoError(t, putOne(t.Context(), db, s))
		require.NoError(t, db.Close())
		db, err = open("/db", &Options{TailBytes: -1, CacheBytes: -1, ReserveBytes: -1}, environment{fs: disk, byHand: true})
		require.NoError(t, err)
		s, err = db.Stream("s")
		require.NoError(t, err)
		sh := s.Shards()[0]
		release := disk.Hold(testdisk.Op.OnTable)
		ahead := readAhead{ctx: context.Background(), db: db}
		var pages []*blockPage
		for i := range 3 * manyPagesAhead {
			p := &blockPage{sh: sh, limit: 1, from: 1, to: sh.log.LastCounter(), done: make(chan struct{}, 1)}
			pages = append(pages, p)
			require.True(t, ahead.ask(p))
			want := 1
			if i > manyPagesAhead { // one is being read, and manyPagesAhead wait
				want = 2
			}
			require.Equal(t, want, db.readingAhead(), "page %d", i)
		}
		ahead.end()
		require.Equal(t, 2, db.readingAhead())
		release()
		require.Zero(t, db.readingAhead())
		for _, p := range pages {
			require.Len(t, p.done, 1)
		}
		require.True(t, ahead.ask(pages[0]) && ahead.wait(pages[0]), "it begins anew")
		ahead.end()
		require.NoError(t, db.Close())
	})
}

// While the disk is stalled, the end of a loop does not wait. The goroutines that it leaves
// behind are bounded, and end when the disk answers.
func TestReadingAheadIsLeftBehindOnAStalledDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		opts := &Options{TailBytes: -1, CacheBytes: -1, ReserveBytes: -1}
		var sh *Shard
		reopen := func() *DB {
			db, err := open("/db", opts, environment{fs: disk, byHand: true})
			require.NoError(t, err)
			s, err := db.OpenStream(t.Context(), "s", nil)
			require.NoError(t, err)
			sh = s.Shards()[0]
			return db
		}
		db := reopen()
		require.NoError(t, putOne(t.Context(), db, sh.stream))
		require.NoError(t, db.Close())
		db = reopen()
		release := disk.Hold(testdisk.Op.OnTable)
		pages := make([]*blockPage, 2*maxReadAheads)
		for i := range pages {
			pages[i] = &blockPage{sh: sh, limit: 1, from: 1, to: sh.log.LastCounter(), done: make(chan struct{}, 1)}
			ahead := readAhead{ctx: context.Background(), db: db}
			require.Equal(t, i < maxReadAheads, ahead.ask(pages[i]), "page %d", i)
			synctest.Wait()
			ahead.end()
			ahead.end() // ends no goroutine a second time
		}
		<-disk.Held()
		require.Equal(t, maxReadAheads, db.readingAhead())
		closed := make(chan error, 1)
		go func() { closed <- db.Close() }()
		synctest.Wait()
		require.Empty(t, closed, "it waits for what was left behind")
		release()
		require.NoError(t, <-closed)
		require.Zero(t, db.readingAhead())
		for _, p := range pages[:maxReadAheads] {
			require.Len(t, p.done, 1)
		}
	})
}

// A block missing in the middle of a page that was read ahead is data loss, and not skipped.
func TestAGapAheadIsDataLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s, all := newLongStream(t, 1, false)
		blocks := blocksOf(t, s.Shards()[0])
		gone := blocks[len(blocks)/2]
		batch := db.store.NewBatch()
		batch.Delete(gone.key)
		require.NoError(t, batch.Commit(true))
		batch.Close()
		n := 0
		var last error
		for r, err := range s.Records(t.Context(), TrimHorizon()) {
			if last = err; err != nil {
				break
			}
			require.Equal(t, all[n], r)
			n++
		}
		require.ErrorIs(t, last, ErrDataLoss)
		require.EqualValues(t, gone.Ordinal, n)
		require.NoError(t, db.Close())
	})
}
