package braid

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/testdisk"
)

// A trim or a deletion is visible before anything is removed, even if the removal is in the
// same commit group. Otherwise a reader in between would miss records, and see no trim that
// explains it.
func TestNothingIsRemovedInTheGroupOfItsTrim(t *testing.T) {
	for name, remove := range map[string]func(*testing.T, *DB, *Stream){
		"trim": func(t *testing.T, db *DB, s *Stream) {
			sh := s.Shards()[0]
			tip := sh.log.Tip()
			all := layout.Horizon{Counter: tip.LastCounter + 1, Ordinal: tip.Ordinal, Offset: tip.Offset}
			require.NoError(t, db.control(t.Context(), func(a *appender, batch *kv.Batch) (func(), error) {
				return a.trim([]*Shard{sh}, []layout.Horizon{all}, batch), nil
			}))
		},
		"delete": func(t *testing.T, db *DB, s *Stream) { require.NoError(t, db.DeleteStream(t.Context(), s.Name())) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db, err := open("/db", &Options{MemtableBytes: minMemtableBytes}, environment{fs: vfs.NewMem(), byHand: true})
				require.NoError(t, err)
				dying, err := db.CreateStream(t.Context(), "dying", nil)
				require.NoError(t, err)
				living, err := db.CreateStream(t.Context(), "living", nil)
				require.NoError(t, err)
				for _, s := range []*Stream{living, dying} {
					_, err := s.PutRecord(t.Context(), "key", make([]byte, 100_000))
					require.NoError(t, err)
				}
				for db.Metrics().Epochs == 1 {
					_, err := living.PutRecord(t.Context(), "key", make([]byte, 100_000))
					require.NoError(t, err)
				}
				sh := dying.Shards()[0]
				_, extents := sh.view()
				require.Len(t, extents, 1)
				epoch := extents[0].Epoch
				lower, upper := sh.extentSpan(extents[0], 0)
				rows := func() (n int) {
					require.NoError(t, scan(db.store, lower, upper, func(_, _ []byte) error { n++; return nil }))
					return n
				}
				require.Equal(t, 1, rows())

				// The first operation is published before the others are.
				looked := false
				look := func() {
					require.NoError(t, db.control(t.Context(), func(*appender, *kv.Batch) (func(), error) {
						return func() {
							looked = true
							require.Equal(t, 1, rows(), "nobody can see yet that the record is gone")
						}, nil
					}))
				}
				reclaimer := &reclaimer{db: db, damaged: make(map[uint32]bool)}
				together(db, look,
					func() { remove(t, db, dying) },
					func() { require.NoError(t, reclaimer.rewriteEpoch(t.Context(), epoch)) })
				require.True(t, looked)
				require.Zero(t, rows())
				require.NoError(t, db.Close())
			})
		})
	}
}

// A reader looks up the places of records, and then waits for the disk while they are trimmed
// and removed. It looks again, and gets ErrTrimmed, not ErrDataLoss.
func TestAReaderLooksAgainAfterATrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		db, err := open("/db", &Options{MemtableBytes: minMemtableBytes, TailBytes: -1, CacheBytes: -1, ReserveBytes: -1}, environment{fs: disk})
		require.NoError(t, err)
		dying, err := db.CreateStream(t.Context(), "dying", nil)
		require.NoError(t, err)
		living, err := db.CreateStream(t.Context(), "living", &StreamOptions{Retention: -1})
		require.NoError(t, err)
		put := func(s *Stream) {
			_, err := s.PutRecord(t.Context(), "key", make([]byte, 100_000))
			require.NoError(t, err)
		}
		put(dying)
		<-time.After(time.Minute)
		for range 4 {
			put(dying)
		}
		for db.Metrics().Epochs == 1 {
			put(living)
		}
		synctest.Wait()
		require.NoError(t, db.Close()) // so that nothing of it is cached
		db, err = open("/db", &Options{MemtableBytes: minMemtableBytes, TailBytes: -1, CacheBytes: -1, ReserveBytes: -1}, environment{fs: disk})
		require.NoError(t, err)
		dying, err = db.Stream("dying")
		require.NoError(t, err)
		<-time.After(defaultRetention - 30*time.Second) // the first record has expired, the second has not
		synctest.Wait()

		_, extents := dying.Shards()[0].view()
		require.Len(t, extents, 1)
		lower, upper := dying.Shards()[0].extentSpan(extents[0], 0)
		reads := 0
		release := disk.Hold(func(op testdisk.Op) bool {
			if !op.OnTable() || op.Kind != errorfs.OpFileReadAt {
				return false
			}
			reads++
			return reads == 1
		})
		type result struct {
			n   int
			err error
		}
		read := make(chan result, 1)
		go func() {
			page, err := dying.Shards()[0].GetRecords(t.Context(), TrimHorizon(), nil)
			if err == nil {
				read <- result{len(page.Records), nil}
			} else {
				read <- result{0, err}
			}
		}()
		<-disk.Held() // the reader looks up which records have expired
		require.NoError(t, dying.Trim(t.Context(), Latest()))
		synctest.Wait() // and they are removed
		require.NoError(t, scan(db.store, lower, upper, func(_, _ []byte) error { return errors.New("a block is there") }))
		release()
		require.Equal(t, result{0, nil}, <-read)
		require.NoError(t, db.Close())
	})
}
