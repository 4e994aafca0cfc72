package braid

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// TestDamageKeepsNoSpaceElsewhere: an epoch that damage keeps from being rewritten does not
// delay others, is not tried again, and is dropped when nothing in it lives.
func TestDamageKeepsNoSpaceElsewhere(t *testing.T) {
	ctx := t.Context()
	random := rand.NewChaCha8([32]byte{5}) // data that does not compress is in the table unchanged
	mem := vfs.NewMem()
	options := &Options{MemtableBytes: minMemtableBytes, TailBytes: -1, CacheBytes: -1}
	db, err := open("/db", options, environment{fs: mem})
	require.NoError(t, err)
	var dead []byte
	for i := range 900 {
		for _, name := range []string{"dead", "alive"} {
			s, err := db.OpenStream(ctx, name, nil)
			require.NoError(t, err)
			data := make([]byte, 2000)
			_, _ = random.Read(data)
			_, err = s.PutRecord(ctx, "key", data)
			require.NoError(t, err)
			if name == "dead" && i == 100 {
				dead = data
			}
		}
	}
	require.NoError(t, db.Close())
	_, content, at, err := testdisk.Find(mem, "/db/store", dead)
	require.NoError(t, err)
	content[at+len(dead)/2] ^= 1

	db, err = open("/db", options, environment{fs: mem, byHand: true})
	require.NoError(t, err)
	require.NoError(t, db.DeleteStream(ctx, "dead"))
	damaged := make(map[uint32]bool)
	reclaimer := &reclaimer{db: db, damaged: damaged}
	returnSpace := func() error { // looks at all epochs
		require.NoError(t, db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
			for _, id := range a.epochs.IDs() {
				a.loose[id] = struct{}{}
			}
			return nil, nil
		}))
		return reclaimer.returnSpace(ctx)
	}
	cutEpochs := func() (ids []uint32) {
		cuts, err := reclaimer.loadCuts()
		require.NoError(t, err)
		for _, c := range cuts {
			ids = append(ids, c.epoch)
		}
		return ids
	}
	require.ErrorIs(t, returnSpace(), kv.ErrCorrupt)
	require.Equal(t, map[uint32]bool{1: true}, damaged)
	require.Contains(t, cutEpochs(), uint32(1))
	require.NotContains(t, cutEpochs(), uint32(2), "its space is not returned")
	require.NoError(t, returnSpace(), "it was tried again")

	require.NoError(t, db.DeleteStream(ctx, "alive"))
	require.NoError(t, returnSpace())
	require.NotContains(t, cutEpochs(), uint32(1))
	require.NoError(t, db.Close())
}

// TestDamageIsPassedWhereAReaderCanGoOn: blocks that a look from the front does not find are
// skipped, whatever lies in between.
func TestDamageIsPassedWhereAReaderCanGoOn(t *testing.T) {
	back := make([]uint64, 100)
	for i := range back {
		back[i] = uint64(1000 - i)
	}
	for _, lowest := range []uint64{901, 902, 950, 999, 1000} {
		got := lowestReached(back, func(counter uint64) bool { return counter >= lowest })
		require.GreaterOrEqual(t, got, lowest)
		require.LessOrEqual(t, got, lowest+100/(1<<resumeTries)+1)
	}
	require.Zero(t, lowestReached(back, func(uint64) bool { return false }))
	require.Zero(t, lowestReached(nil, func(uint64) bool { return true }))
}
