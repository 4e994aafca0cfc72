package braid

import (
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// A trim or a deletion is visible before anything is removed, also where the removal comes
// into its commit group: else a reader in between would miss records of which nobody has
// said that they are gone.
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

				// What the first operation publishes comes before what the others do.
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
