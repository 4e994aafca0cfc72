package modeltest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// Without an fsync, a stalled disk blocks puts only if something must be written first. Then each
// call ends with its context: the one that runs the commit, and those behind it. Acknowledged
// records exist when the disk continues, in their order.
func TestPutsWithoutFsyncOnAStalledDisk(t *testing.T) {
	for _, durability := range []braid.Durability{braid.Interval, braid.NoSync} {
		for _, due := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, fsync due %v", durability, due), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { putsOnAStalledDisk(t, durability, due) })
			})
		}
	}
}

// putsOnAStalledDisk stalls the disk when the next put needs an fsync, since it reserves counters
// for a second, or when none does: no time passes meanwhile.
func putsOnAStalledDisk(t *testing.T, durability braid.Durability, due bool) {
	d := testdisk.On(vfs.NewMem())
	opts := &braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, ReserveBytes: -1, Durability: durability}
	db, err := open("/db", opts, companion.Environment{FS: d})
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	var acknowledged, unknown []int
	next := 0
	put := func() error {
		n := next
		next++
		synctest.Wait() // the committer sleeps, or is held
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		result := make(chan error, 1)
		go func() {
			_, err := s.PutRecord(ctx, "k", binary.BigEndian.AppendUint64(make([]byte, 20<<10), uint64(n)))
			result <- err
		}()
		synctest.Wait()
		cancel()
		err := <-result
		switch {
		case err == nil:
			acknowledged = append(acknowledged, n)
		case errors.Is(err, braid.ErrOutcomeUnknown):
			unknown = append(unknown, n)
		}
		return err
	}
	if due {
		time.Sleep(2 * time.Second)
	}
	release := d.Hold(everything)
	for err == nil {
		err = put()
	}
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, unknown, 1, "it is being committed")
	if due {
		require.Empty(t, acknowledged)
	} else {
		require.Greater(t, len(acknowledged), 5, "all puts that needed memory only")
	}
	for range 3 {
		require.ErrorIs(t, put(), context.Canceled)
	}
	require.Len(t, unknown, 1, "the puts behind it were refused")
	release()
	require.NoError(t, put())
	require.NoError(t, db.Close())

	db, err = open("/db", opts, companion.Environment{FS: d})
	require.NoError(t, err)
	s, err = db.Stream("s")
	require.NoError(t, err)
	var got []int
	for r, err := range s.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		got = append(got, int(binary.BigEndian.Uint64(r.Data[20<<10:])))
	}
	require.Equal(t, slices.Sorted(slices.Values(append(acknowledged, unknown...))), got)
	require.NoError(t, db.Close())
}
