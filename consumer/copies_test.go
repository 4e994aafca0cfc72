package consumer_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

// Leases in another store do not go back when the database is replaced by an older copy.
// Records could then come below a checkpoint. So the shard stops with an error that
// explains it, until it is moved.
func TestACheckpointOfANewerCopyStopsTheShard(t *testing.T) {
	ctx := t.Context()
	put := func(db *braid.DB, data string) {
		stream, err := db.OpenStream(ctx, "s", nil)
		require.NoError(t, err)
		_, err = stream.PutRecord(ctx, "k", []byte(data))
		require.NoError(t, err)
	}
	db, err := braid.Open(filepath.Join(t.TempDir(), "db"), nil)
	require.NoError(t, err)
	put(db, "one")
	backup := filepath.Join(t.TempDir(), "backup")
	require.NoError(t, db.Backup(ctx, backup, nil))
	put(db, "two")

	leases := leasetest.NewMemory(time.Hour) // no worker dies here
	var mu sync.Mutex                        // guards seen
	var seen []string
	run := func(db *braid.DB, during func(*consumer.App)) {
		w, err := consumer.New(db, &consumer.Config{App: "a", Streams: []string{"s"}, Leases: leases, Source: consumer.NewDBSource(db)},
			consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				mu.Lock()
				defer mu.Unlock()
				for i := range batch.Records {
					seen = append(seen, string(batch.Records[i].Data))
				}
				return nil
			}))
		require.NoError(t, err)
		running, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = w.Run(running)
		}()
		during(w.App())
		stop()
		<-ended
		require.NoError(t, db.Close())
	}
	run(db, func(app *consumer.App) { require.NoError(t, app.WaitFor(ctx, consumer.Status.CaughtUp)) })
	require.Equal(t, []string{"one", "two"}, seen)

	older, err := braid.Open(backup, nil)
	require.NoError(t, err)
	run(older, func(app *consumer.App) {
		failed := func(s consumer.Status) bool { return len(s.Shards) > 0 && s.Shards[0].State == consumer.StateFailed }
		require.NoError(t, app.WaitFor(ctx, failed))
		status, err := app.Status(ctx)
		require.NoError(t, err)
		require.ErrorIs(t, status.Shards[0].Err, braid.ErrBeyondTip)
		require.False(t, status.CaughtUp())
		at := status.Shards[0].Checkpoint
		require.ErrorIs(t, app.Seek(ctx, status.Shards[0].LeaseKey, braid.AfterSequence(at.SequenceNumber)), braid.ErrBeyondTip)
		require.NoError(t, app.Seek(ctx, status.Shards[0].LeaseKey, braid.TrimHorizon()))
		require.NoError(t, app.WaitFor(ctx, consumer.Status.CaughtUp))
	})
	require.Equal(t, []string{"one", "two", "one"}, seen)
}

// An application can be inspected even if nothing can be changed.
func TestAnApplicationOfADatabaseThatIsReadOnly(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "db")
	db, err := braid.Open(dir, nil)
	require.NoError(t, err)
	stream, err := db.OpenStream(ctx, "s", nil)
	require.NoError(t, err)
	_, err = stream.PutRecord(ctx, "k", []byte("one"))
	require.NoError(t, err)
	nop := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
	cfg := &consumer.Config{App: "a", Streams: []string{"s"}}
	w, err := consumer.New(db, cfg, nop)
	require.NoError(t, err)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	require.NoError(t, w.App().WaitFor(ctx, consumer.Status.CaughtUp))
	stop()
	require.NoError(t, <-ended)
	_, err = stream.PutRecord(ctx, "k", []byte("two"))
	require.NoError(t, err)
	require.NoError(t, db.Close())

	db, err = braid.Open(dir, &braid.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	app, err := consumer.OpenApp(db, "a")
	require.NoError(t, err)
	status, err := app.Status(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, status.BehindRecords)
	key := status.Shards[0].LeaseKey
	require.ErrorIs(t, app.Seek(ctx, key, braid.TrimHorizon()), braid.ErrReadOnly)
	require.ErrorIs(t, app.Pause(ctx, key), braid.ErrReadOnly)
	require.ErrorIs(t, app.Delete(ctx), braid.ErrReadOnly)
	w, err = consumer.New(db, cfg, nop)
	require.NoError(t, err)
	require.ErrorIs(t, w.Run(ctx), braid.ErrReadOnly)
}
