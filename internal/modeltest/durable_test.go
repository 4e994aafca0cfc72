package modeltest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/testdisk"
)

// Records and keys that are not durable yet are invisible, though Pebble already has both in
// memory.
func TestNobodySeesWhatIsNotDurable(t *testing.T) {
	disk := testdisk.New()
	db, err := openOn(disk, nil)
	require.NoError(t, err)
	stream, err := db.OpenStream(t.Context(), "s", nil)
	require.NoError(t, err)
	set := func(value string) error {
		return db.Update(t.Context(), func(tx *braid.Tx) error {
			if err := tx.PutRecord("s", "key", []byte(value)); err != nil {
				return err
			}
			return tx.Set([]byte("key"), []byte(value))
		})
	}
	see := func() (value string, records int) {
		require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
			got, err := tx.Get([]byte("key"))
			value = string(got)
			return err
		}))
		for _, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			records++
		}
		require.EqualValues(t, records, stream.Describe().Records)
		return value, records
	}
	require.NoError(t, set("old"))

	release := disk.Hold(func(op testdisk.Op) bool { return op.OnLog() && op.Syncs() })
	done := make(chan error, 1)
	go func() { done <- set("new") }()
	<-disk.Held() // the group is written, but not synced
	for range 3 {
		value, records := see()
		require.Equal(t, "old", value)
		require.Equal(t, 1, records)
	}
	require.Empty(t, done, "and it is not acknowledged")
	release()
	require.NoError(t, <-done)
	value, records := see()
	require.Equal(t, "new", value)
	require.Equal(t, 2, records)
	require.Zero(t, db.Metrics().OpenSnapshots)
	require.NoError(t, db.Close())
}
