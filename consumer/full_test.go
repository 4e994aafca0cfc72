package consumer_test

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// A worker that pauses because space or descriptors ran out is woken when they are
// available again, whichever write had failed.
func TestSpaceThatReturnsWakesAWorker(t *testing.T) {
	for name, newWorker := range map[string]func(db *braid.DB, cfg *consumer.Config, out *braid.Stream, fn func(int) error) (*consumer.Worker, error){
		"checkpoint": func(db *braid.DB, cfg *consumer.Config, _ *braid.Stream, fn func(int) error) (*consumer.Worker, error) {
			return consumer.New(db, cfg, consumer.ProcessorFunc(func(_ context.Context, b *consumer.Batch) error { return fn(len(b.Records)) }))
		},
		"put of the processor": func(db *braid.DB, cfg *consumer.Config, out *braid.Stream, fn func(int) error) (*consumer.Worker, error) {
			return consumer.New(db, cfg, consumer.ProcessorFunc(func(ctx context.Context, b *consumer.Batch) error {
				if _, err := out.PutRecord(ctx, "k", nil); err != nil {
					return err
				}
				return fn(len(b.Records))
			}))
		},
		"transaction": func(db *braid.DB, cfg *consumer.Config, _ *braid.Stream, fn func(int) error) (*consumer.Worker, error) {
			return consumer.NewTx(db, cfg, consumer.TxProcessorFunc(func(_ context.Context, tx *braid.Tx, b *consumer.TxBatch) error {
				if err := tx.PutRecord("out", "k", nil); err != nil {
					return err
				}
				return fn(len(b.Records))
			}))
		},
	} {
		for _, shortage := range []error{syscall.ENOSPC, syscall.EMFILE} {
			t.Run(name+" "+shortage.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { spaceWakesWorker(t, newWorker, shortage) })
			})
		}
	}
}

func spaceWakesWorker(t *testing.T, newWorker func(*braid.DB, *consumer.Config, *braid.Stream, func(int) error) (*consumer.Worker, error), shortage error) {
	disk := testdisk.New()
	opened, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{FS: disk})
	require.NoError(t, err)
	db := opened.(*braid.DB)
	in, err := db.CreateStream(t.Context(), "in", nil)
	require.NoError(t, err)
	out, err := db.CreateStream(t.Context(), "out", nil)
	require.NoError(t, err)
	for range 20 {
		_, err := in.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
	}
	begin := make(chan struct{})
	w, err := newWorker(db, &consumer.Config{App: "a", Streams: []string{"in"}, BatchRecords: 1}, out, func(int) error {
		<-begin
		return nil
	})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	synctest.Wait()

	disk.FailAlways(testdisk.Op.TakesSpace, shortage)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = in.PutRecord(ctx, "k", nil) // it finds the disk full, which is announced
	require.ErrorIs(t, err, braid.ErrOutcomeUnknown)
	close(begin)
	<-time.After(17 * time.Minute) // until the pauses are long
	disk.Before(nil)
	healed := time.Now()
	for {
		status, err := w.App().Status(t.Context())
		require.NoError(t, err)
		if status.BehindRecords == 0 {
			break
		}
		require.Less(t, time.Since(healed), 5*time.Second, "the worker sleeps on")
		<-time.After(10 * time.Millisecond)
	}
	require.NoError(t, w.Stop(t.Context()))
	require.NoError(t, <-ended)
	require.NoError(t, db.Close())
}
