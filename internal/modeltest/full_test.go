package modeltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/testdisk"
)

// These tests prove that a full disk is a pause and not a failure: writes are refused or have an
// unknown outcome, reads still work, everything continues by itself when there is space again, and
// nothing acknowledged is lost.

func TestAFullDiskRefusesWritesAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		opts := &braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, ReserveBytes: -1}
		db, err := openOn(disk, opts)
		require.NoError(t, err)
		s, err := db.OpenStream(t.Context(), "s", nil)
		require.NoError(t, err)
		h := newHistory()
		put := func(ctx context.Context, id string) error {
			_, err := h.put(ctx, s, "s", braid.Entry{PartitionKey: "k", Data: historyData(id, 100)})
			return err
		}
		for i := range 10 {
			require.NoError(t, put(t.Context(), fmt.Sprint("before", i)))
		}

		disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err = put(ctx, "on its way")
		require.ErrorIs(t, err, braid.ErrOutcomeUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, put(t.Context(), "refused"), braid.ErrDiskFull)
		_, err = db.CreateStream(ctx, "another", nil)
		require.Error(t, err)
		require.True(t, db.Metrics().DiskFull)
		require.NoError(t, db.Metrics().Failed)
		records, err := readShards(t.Context(), s)
		require.NoError(t, err)
		require.Len(t, records, 10, "only durable records are visible")

		disk.Before(nil)
		<-time.After(2 * time.Second)
		synctest.Wait()
		require.False(t, db.Metrics().DiskFull)
		require.NoError(t, put(t.Context(), "after"))
		records, err = readShards(t.Context(), s)
		require.NoError(t, err)
		require.NoError(t, h.check("s", records, historyTrim{}))
		require.Equal(t, 1, h.count(outcomeUnknown))
		require.NoError(t, db.Close())

		db, err = openOn(disk.PowerCut(), opts)
		require.NoError(t, err)
		s, err = db.Stream("s")
		require.NoError(t, err)
		again, err := readShards(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, records, again)
		require.NoError(t, db.Close())
	})
}

// The disk is full for a moment, from each operation of the workload on in turn. A caller that is
// refused retries; then everything is done and nothing is lost. This runs in real time: Pebble
// holds mutexes while it writes, and in a bubble a goroutine that waits for a mutex stops the
// clock, so there would never be space again.
func TestADiskMayBeFullAtAnyMoment(t *testing.T) {
	step := 6
	if testing.Short() {
		step = 60
	}
	var full atomic.Int64
	t.Run("from", func(t *testing.T) {
		for index := 0; index < 380; index += step {
			t.Run(fmt.Sprint(index), func(t *testing.T) {
				t.Parallel()
				if fullOnce(t, index) {
					full.Add(1)
				}
			})
		}
	})
	t.Logf("the disk was full in %d runs", full.Load())
	require.GreaterOrEqual(t, int(full.Load()), 300/step)
}

// fullOnce runs the workload on a disk that is full for 40 ms, from an operation on. It reports
// whether the workload noticed.
func fullOnce(t *testing.T, index int) bool {
	disk := testdisk.New()
	end := sync.OnceValue(func() time.Time { return time.Now().Add(40 * time.Millisecond) })
	disk.FailAlways(func(op testdisk.Op) bool {
		return op.TakesSpace() && op.Index >= index && time.Now().Before(end())
	}, syscall.ENOSPC)
	w := newFaultWork(t, disk)
	w.retry = func(err error) bool {
		if !errors.Is(err, braid.ErrDiskFull) {
			return false
		}
		<-time.After(5 * time.Millisecond)
		return true
	}
	require.NoError(t, w.run())
	// A run with fewer operations than index has not met the full disk. The judge must not meet it
	// either: it does not retry.
	disk.Before(nil)
	require.Zero(t, w.history.count(outcomeUnknown))
	w.judge("power cut", disk.PowerCut())
	w.judgeTwice("reopened", disk)
	_, fired := disk.Failed()
	return fired
}

// Close of a DB on a full disk gives up soon, and the directory can be opened again when there is
// space.
func TestCloseOfAFullDisk(t *testing.T) {
	disk := testdisk.New()
	opts := &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}
	db, err := openOn(disk, opts)
	require.NoError(t, err)
	s, err := db.OpenStream(t.Context(), "s", nil)
	require.NoError(t, err)
	res, err := s.PutRecord(t.Context(), "k", []byte("kept"))
	require.NoError(t, err)

	disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() {
		_, err := s.PutRecord(ctx, "k", []byte("on its way"))
		cancelled <- err
	}()
	for !db.Metrics().DiskFull {
		select {
		case err := <-cancelled: // it came before the state was reported
			require.ErrorIs(t, err, braid.ErrDiskFull)
			cancelled <- err
		case <-time.After(time.Millisecond):
		}
	}
	start := time.Now()
	require.ErrorIs(t, db.Close(), braid.ErrDiskFull)
	require.Less(t, time.Since(start), 15*time.Second)
	cancel()
	require.Error(t, <-cancelled)

	db, err = openOn(disk.PowerCut(), opts)
	require.NoError(t, err)
	s, err = db.Stream("s")
	require.NoError(t, err)
	records, err := readShards(t.Context(), s)
	require.NoError(t, err)
	require.NotEmpty(t, records)
	require.Equal(t, res.SequenceNumber, records[0].SequenceNumber)
	require.NoError(t, db.Close())
}

func TestWithoutALoggerAFullDiskIsSaidToTheDefaultOne(t *testing.T) {
	var lines bytes.Buffer
	logger, out, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(logger)
		log.SetOutput(out)
		log.SetFlags(flags)
	})
	slog.SetDefault(slog.New(slog.NewTextHandler(&lines, nil)))
	for _, given := range []*slog.Logger{nil, slog.New(slog.DiscardHandler)} {
		lines.Reset()
		synctest.Test(t, func(t *testing.T) {
			disk := testdisk.New()
			db, err := openOn(disk, &braid.Options{Logger: given, ReserveBytes: -1})
			require.NoError(t, err)
			s, err := db.OpenStream(t.Context(), "s", nil)
			require.NoError(t, err)
			disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = s.PutRecord(ctx, "k", nil)
			require.Error(t, err)
			disk.Before(nil)
			require.NoError(t, db.Close()) // waits until everything is logged
		})
		if given == nil {
			require.Contains(t, lines.String(), `level=WARN msg="disk space" space=none`)
		} else {
			require.Empty(t, lines.String(), "nothing is logged elsewhere if the logger discards")
		}
	}
}
