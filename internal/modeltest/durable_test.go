package braid

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// heldDisk is a disk whose syncs of the write-ahead log can be held up: for as
// long as gate is not nil, each waits until it is closed.
type heldDisk struct {
	vfs.FS
	gate atomic.Pointer[chan struct{}]
	held chan struct{} // gets a token when a sync waits
}

func newHeldDisk() *heldDisk {
	d := &heldDisk{held: make(chan struct{}, 1)}
	d.FS = errorfs.Wrap(vfs.NewCrashableMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
		if gate := d.gate.Load(); gate != nil && sync && strings.HasSuffix(op.Path, ".log") {
			select {
			case d.held <- struct{}{}:
			default:
			}
			<-*gate
		}
		return nil
	}))
	return d
}

// hold makes syncs wait until release is called.
func (d *heldDisk) hold() (release func()) {
	gate := make(chan struct{})
	d.gate.Store(&gate)
	return func() {
		d.gate.Store(nil)
		close(gate)
	}
}

// What is not durable yet is not to be seen, neither a record nor a key, though
// the engine has both in its memory.
func TestNobodySeesWhatIsNotDurable(t *testing.T) {
	disk := newHeldDisk()
	db, err := open("/db", nil, environment{fs: disk, clock: time.Now})
	require.NoError(t, err)
	stream, err := db.OpenStream(t.Context(), "s", nil)
	require.NoError(t, err)
	set := func(value string) error {
		return db.Update(t.Context(), func(tx *Tx) error {
			if err := tx.PutRecord("s", "key", []byte(value)); err != nil {
				return err
			}
			return tx.Set([]byte("key"), []byte(value))
		})
	}
	see := func() (value string, records int) {
		require.NoError(t, db.View(t.Context(), func(tx *Tx) error {
			got, err := tx.Get([]byte("key"))
			value = string(got)
			return err
		}))
		for _, err := range stream.Records(t.Context(), TrimHorizon()) {
			require.NoError(t, err)
			records++
		}
		require.EqualValues(t, records, stream.Describe().Records)
		return value, records
	}
	require.NoError(t, set("old"))

	release := disk.hold()
	done := make(chan error, 1)
	go func() { done <- set("new") }()
	<-disk.held // the group is written, and waits to be synced
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
