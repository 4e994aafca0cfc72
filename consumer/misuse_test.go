package consumer_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

// Processors that have a method with the name of a hook but are no hook: of the other
// kind, with a pointer receiver, and with other results.
type (
	txHooks      struct{ consumer.TxProcessorFunc }
	plainHooks   struct{ consumer.ProcessorFunc }
	pointerHooks struct{ consumer.ProcessorFunc }
	mutedHooks   struct{ consumer.ProcessorFunc }
	erringHooks  struct{ consumer.ProcessorFunc }
)

func (txHooks) ShardEnded(context.Context, *consumer.Checkpointer) error { return nil }

func (plainHooks) Initialize(context.Context, consumer.Lease) error { return nil }

func (*pointerHooks) TipReached(context.Context, *consumer.Checkpointer) error { return nil }

func (mutedHooks) ShutdownRequested(context.Context, *consumer.Checkpointer) {}

func (erringHooks) LeaseLost(context.Context, error) error { return nil }

// The texts of refusals: each says what was wrong, and what is allowed. Every method that
// can fail by a caller's mistake has a row.
func TestEveryMisuseHasAUsefulText(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		const invalid = "invalid argument: "
		tx := consumer.TxProcessorFunc(func(context.Context, *braid.Tx, *consumer.TxBatch) error { return nil })
		made := func(change func(*consumer.Config)) func() error {
			return func() error {
				cfg := consumer.Config{App: "a", Streams: []string{"orders"}}
				change(&cfg)
				_, err := consumer.New(f.db, &cfg, nothing)
				return err
			}
		}
		madeTx := func(change func(*consumer.Config)) func() error {
			return func() error {
				cfg := consumer.Config{App: "a", Streams: []string{"orders"}}
				change(&cfg)
				_, err := consumer.NewTx(f.db, &cfg, tx)
				return err
			}
		}
		with := func(p consumer.Processor) func() error {
			return func() error {
				_, err := consumer.New(f.db, &consumer.Config{App: "a", Streams: []string{"orders"}}, p)
				return err
			}
		}
		withTx := func(p consumer.TxProcessor) func() error {
			return func() error {
				_, err := consumer.NewTx(f.db, &consumer.Config{App: "a", Streams: []string{"orders"}}, p)
				return err
			}
		}
		var batch, acks *consumer.Batch
		keep := func(to **consumer.Batch) consumer.Processor {
			return consumer.ProcessorFunc(func(_ context.Context, b *consumer.Batch) error { *to = b; return nil })
		}
		f.put("a")
		w := f.worker(consumer.Config{WorkerID: "w", Checkpoints: consumer.Manual}, keep(&batch))
		stop := f.start(w)
		stopAcks := f.start(f.worker(consumer.Config{App: "acks", Checkpoints: consumer.Acks}, keep(&acks)))
		app, record := w.App(), batch.Records[0]
		foreign := record
		foreign.ShardID = shard3
		test := &consumer.Batch{Records: batch.Records} // as a test of a processor makes it
		key := consumer.LeaseKey{Stream: "orders", Shard: shard3}
		ctx := f.Context()
		covered := make(map[string]bool)
		for _, row := range []struct {
			call  string
			class error
			text  string // a part of it
			err   func() error
		}{
			{"Apps: no database", braid.ErrInvalidArgument, "db must not be nil", func() error { _, err := consumer.Apps(ctx, nil); return err }},
			{"OpenRemoteApp: app", braid.ErrInvalidArgument, "app must", func() error {
				_, err := consumer.OpenRemoteApp(f.db, "a b", nil, leasetest.NewMemory(time.Minute))
				return err
			}},
			{"OpenRemoteApp: db", braid.ErrInvalidArgument, "db must not be nil unless a source is given", func() error {
				_, err := consumer.OpenRemoteApp(nil, "a", nil, leasetest.NewMemory(time.Minute))
				return err
			}},
			{"OpenRemoteApp: leases", braid.ErrInvalidArgument, "leases must not be nil; OpenApp", func() error {
				_, err := consumer.OpenRemoteApp(f.db, "a", nil, nil)
				return err
			}},
			{"OpenRemoteApp: leases that do not expire", braid.ErrInvalidArgument, "leases.LeaseDuration must be positive: leases that are not in the database must expire; it is 0s", func() error {
				_, err := consumer.OpenRemoteApp(f.db, "a", nil, leasetest.NewMemory(0))
				return err
			}},
			{"OpenApp: no database", braid.ErrInvalidArgument, "db must not be nil", func() error { _, err := consumer.OpenApp(nil, "a"); return err }},
			{"OpenApp: no name", braid.ErrInvalidArgument, "app must", func() error { _, err := consumer.OpenApp(f.db, ""); return err }},
			{"New: no config", braid.ErrInvalidArgument, "App must", func() error { _, err := consumer.New(f.db, nil, nothing); return err }},
			{"New: no database", braid.ErrInvalidArgument, "db must not be nil unless both Source and Leases are given", func() error {
				_, err := consumer.New(nil, &consumer.Config{App: "a", Streams: []string{"s"}}, nothing)
				return err
			}},
			{"New: no database for dead letters", braid.ErrInvalidArgument, "db must not be nil for a TxProcessor or a DeadLetterStream", func() error {
				_, err := consumer.New(nil, &consumer.Config{App: "a", Streams: []string{"s"}, DeadLetterStream: "d", Source: consumer.NewDBSource(nil), Leases: leasetest.NewMemory(time.Minute)}, nothing)
				return err
			}},
			{"New: no processor", braid.ErrInvalidArgument, "processor must not be nil", with(nil)},
			{"New: a nil function", braid.ErrInvalidArgument, "processor must not be nil; it is a nil ProcessorFunc", with(consumer.ProcessorFunc(nil))},
			{"New: PerLease of nil", braid.ErrInvalidArgument, "processor must have a function that makes processors", with(consumer.PerLease(nil))},
			{"New: hooks of a TxProcessor", braid.ErrInvalidArgument, "must have the hook Initialize as func(context.Context, *consumer.Checkpointer) error, or no method of that name; it is a consumer_test.plainHooks", with(plainHooks{nothing})},
			{"New: hooks of the pointer", braid.ErrInvalidArgument, "processor must be passed as a pointer, since its hook TipReached has a pointer receiver", with(pointerHooks{nothing})},
			{"New: a hook that returns nothing", braid.ErrInvalidArgument, "must have the hook ShutdownRequested as func(context.Context, *consumer.Checkpointer) error", with(mutedHooks{nothing})},
			{"New: LeaseLost that returns an error", braid.ErrInvalidArgument, "must have the hook LeaseLost as func(context.Context, error), or", with(&erringHooks{nothing})},
			{"NewTx: no processor", braid.ErrInvalidArgument, "processor must not be nil", withTx(nil)},
			{"NewTx: a nil function", braid.ErrInvalidArgument, "processor must not be nil; it is a nil TxProcessorFunc", withTx(consumer.TxProcessorFunc(nil))},
			{"NewTx: PerLeaseTx of nil", braid.ErrInvalidArgument, "processor must have a function that makes processors", withTx(consumer.PerLeaseTx(nil))},
			{"NewTx: hooks of a Processor", braid.ErrInvalidArgument, "must have the hook ShardEnded as func(context.Context, consumer.Lease) error, or no method of that name", withTx(txHooks{tx})},
			{"NewTx: Lanes", braid.ErrInvalidArgument, "Lanes must be 1 for a TxProcessor", madeTx(func(c *consumer.Config) { c.Lanes = 2 })},
			{"NewTx: Checkpoints", braid.ErrInvalidArgument, "Checkpoints must be Automatic for a TxProcessor", madeTx(func(c *consumer.Config) { c.Checkpoints = consumer.Acks })},
			{"NewTx: CheckpointInterval", braid.ErrInvalidArgument, "CheckpointInterval must not be set for a TxProcessor", madeTx(func(c *consumer.Config) { c.CheckpointInterval = 1 })},
			{"NewTx: Leases", braid.ErrInvalidArgument, "Leases must not be set for a TxProcessor", madeTx(func(c *consumer.Config) { c.Leases = leasetest.NewMemory(time.Minute) })},
			{"New: Lanes", braid.ErrInvalidArgument, "Lanes must be 1 to 1,024", made(func(c *consumer.Config) { c.Lanes = 1025 })},
			{"New: Lanes with Manual", braid.ErrInvalidArgument, "must not be Manual with more than one lane; use Acks", made(func(c *consumer.Config) { c.Lanes, c.Checkpoints = 2, consumer.Manual })},
			{"New: CheckpointInterval", braid.ErrInvalidArgument, "CheckpointInterval must not be negative", made(func(c *consumer.Config) { c.CheckpointInterval = -1 })},
			{"New: CheckpointInterval with Manual", braid.ErrInvalidArgument, "must not be set with Manual Checkpoints", made(func(c *consumer.Config) { c.CheckpointInterval, c.Checkpoints = 1, consumer.Manual })},
			{"New: MaxRetryPause", braid.ErrInvalidArgument, "MaxRetryPause must not be less than RetryPause, 1h0m0s", made(func(c *consumer.Config) { c.RetryPause, c.MaxRetryPause = time.Hour, 1 })},
			{"New: ReuseRecords with Lanes", braid.ErrInvalidArgument, "ReuseRecords must not be set with more than one lane", made(func(c *consumer.Config) { c.ReuseRecords, c.Lanes = true, 2 })},
			{"New: ReuseRecords with Acks", braid.ErrInvalidArgument, "ReuseRecords must not be set with Acks", made(func(c *consumer.Config) { c.ReuseRecords, c.Checkpoints = true, consumer.Acks })},
			{"New: KeepForeign", braid.ErrInvalidArgument, "KeepForeign must not be set without Deaggregate", made(func(c *consumer.Config) { c.KeepForeign = true })},
			{"New: Streams", braid.ErrInvalidArgument, "Streams[1] must not be empty or named twice", made(func(c *consumer.Config) { c.Streams = []string{"s", "s"} })},
			{"New: ShardSyncInterval", braid.ErrInvalidArgument, "ShardSyncInterval must not be negative", made(func(c *consumer.Config) { c.ShardSyncInterval = -1 })},
			{"New: Leases", braid.ErrInvalidArgument, "Leases.LeaseDuration must be positive", made(func(c *consumer.Config) { c.Leases = leasetest.NewMemory(0) })},
			{"Worker.Run: twice", braid.ErrInvalidArgument, "Worker must run only once: Run was called before", func() error { return w.Run(ctx) }},
			{"Worker.Run: a name that is taken", braid.ErrInvalidArgument, "WorkerID must differ from that of every running worker", func() error {
				return f.worker(consumer.Config{WorkerID: "w"}, nothing).Run(ctx)
			}},
			{"Worker.Run: another Start", braid.ErrInvalidArgument, "Start must be that of the application, TRIM_HORIZON; App.Seek moves it", func() error {
				return f.worker(consumer.Config{Start: braid.Latest()}, nothing).Run(ctx)
			}},
			{"App.Seek: a number for all", braid.ErrInvalidArgument, "must be TRIM_HORIZON, LATEST or AT_TIMESTAMP for more than one shard", func() error {
				return app.Seek(ctx, consumer.LeaseKey{}, braid.AtSequence(record.SequenceNumber))
			}},
			{"App.Seek: no such shard", braid.ErrShardNotFound, string(shard3) + " of orders", func() error { return app.Seek(ctx, key, braid.Latest()) }},
			{"App.Pause: no such shard", braid.ErrShardNotFound, string(shard3) + " of orders", func() error { return app.Pause(ctx, key) }},
			{"App.Resume: no such stream", braid.ErrStreamNotFound, `has not seen "x"`, func() error { return app.Resume(ctx, consumer.LeaseKey{Stream: "x"}) }},
			{"App.Delete: workers run", braid.ErrInvalidArgument, "App must have no running workers; 1 run", func() error { return app.Delete(ctx) }},
			{"App.Status: nothing is stored", consumer.ErrAppNotFound, `"nobody"`, func() error { _, err := mustApp(f, "nobody").Status(ctx); return err }},
			{"App.WaitFor: nothing is stored", consumer.ErrAppNotFound, `"nobody"`, func() error {
				return mustApp(f, "nobody").WaitFor(ctx, func(consumer.Status) bool { return true })
			}},
			{"App.WaitCaughtUp: nothing is stored", consumer.ErrAppNotFound, `"nobody"`, func() error { return mustApp(f, "nobody").WaitCaughtUp(ctx) }},
			{"App.Delete: nothing is stored", consumer.ErrAppNotFound, `"nobody"`, func() error { return mustApp(f, "nobody").Delete(ctx) }},
			{"Checkpointer.CheckpointAt: another shard's record", braid.ErrInvalidArgument, "Record must have been given to the processor under this lease", func() error { return batch.CheckpointAt(ctx, foreign) }},
			{"Checkpointer.CheckpointAt: with Acks", braid.ErrInvalidArgument, "Record must not be a checkpoint with Acks or Lanes", func() error { return acks.CheckpointAt(ctx, record) }},
			{"Checkpointer.CheckpointAt: no worker", braid.ErrInvalidArgument, "Batch must come from a worker", func() error { return test.CheckpointAt(ctx, record) }},
			{"Checkpointer.Prepare: the zero record", braid.ErrInvalidArgument, "Record must have been given to the processor", func() error { return batch.Prepare(ctx, consumer.Record{}, nil) }},
			{"Checkpointer.Prepare: no worker", braid.ErrInvalidArgument, "Batch must come from a worker", func() error { return test.Prepare(ctx, record, nil) }},
			{"Checkpointer.Checkpoint: no worker", braid.ErrInvalidArgument, "Batch must come from a worker", func() error { return test.Checkpoint(ctx) }},
			{"Checkpointer.CommitPrepared: no worker", braid.ErrInvalidArgument, "Batch must come from a worker", func() error { return test.CommitPrepared(ctx) }},
			{"Checkpointer.Ack: without Acks", braid.ErrInvalidArgument, "Checkpoints must be Acks for a processor that calls Ack; it is Manual", func() error { return batch.Ack(record) }},
			{"Checkpointer.Ack: another shard's record", braid.ErrInvalidArgument, "Record must have been given to the processor", func() error { return acks.Ack(foreign) }},
			{"Checkpointer.Ack: no worker", braid.ErrInvalidArgument, "Batch must come from a worker", func() error { return test.Ack(record) }},
		} {
			err := row.err()
			require.ErrorIs(f, err, row.class, row.call)
			require.ErrorContains(f, err, row.text, row.call)
			text := err.Error()
			require.Equal(f, row.class == braid.ErrInvalidArgument, strings.HasPrefix(text, invalid), text)
			require.False(f, strings.HasSuffix(text, "."), text)
			require.NotContains(f, text, "%!", text)
			for _, r := range text {
				require.True(f, unicode.IsPrint(r), "%s: %q", row.call, text)
			}
			method, _, _ := strings.Cut(row.call, ":")
			covered[method] = true
		}
		test.Checkpointer = new(consumer.Checkpointer)
		for _, err := range []error{test.Checkpoint(ctx), test.CheckpointAt(ctx, record), test.Ack(record), test.Prepare(ctx, record, nil), test.CommitPrepared(ctx)} {
			require.ErrorContains(f, err, "Batch must come from a worker")
		}
		require.Zero(f, test.Lease(), "a batch of a test has no lease")
		require.Zero(f, new(consumer.Batch).Lease())
		for _, handle := range []any{app, w, batch.Checkpointer} { // a new method needs a row
			of := reflect.TypeOf(handle)
			for i := range of.NumMethod() {
				m := of.Method(i)
				if n := m.Type.NumOut(); n > 0 && m.Type.Out(n-1) == reflect.TypeFor[error]() && m.Name != "Stop" {
					require.True(f, covered[of.Elem().Name()+"."+m.Name], "%s.%s", of.Elem().Name(), m.Name)
				}
			}
		}
		require.NoError(f, stop())
		require.NoError(f, acks.Ack(acks.Records...))
		require.NoError(f, stopAcks())
	})
}

func mustApp(f *fixture, name string) *consumer.App {
	f.Helper()
	app, err := consumer.OpenApp(f.db, name)
	require.NoError(f, err)
	return app
}

// The texts of the package's own errors, and what errors.Is and errors.As find in them.
func TestErrorsSayWhichShardsAndWhy(t *testing.T) {
	cause := errors.New("no such customer")
	shard := func(n string) consumer.LeaseKey {
		return consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID("shardId-00000000000" + n)}
	}
	stopped := func(names ...string) *consumer.StoppedShardsError {
		e := &consumer.StoppedShardsError{}
		for _, n := range names {
			e.Shards = append(e.Shards, consumer.ShardError{LeaseKey: shard(n), Err: cause})
		}
		return e
	}
	for _, row := range []struct {
		err  error
		text string
		is   bool
	}{
		{&consumer.ShardError{LeaseKey: shard("0"), Err: cause}, `"shardId-000000000000 of orders": no such customer`, true},
		{stopped("0"), `consumer: 1 shard is stopped: "shardId-000000000000 of orders": no such customer`, true},
		{stopped("0", "1"), `consumer: 2 shards are stopped: "shardId-000000000000 of orders": no such customer; "shardId-000000000001 of orders": no such customer`, true},
		{stopped("0", "1", "2", "3", "4", "5"), "; and 2 more", true},
		{&consumer.HungShardsError{Shards: []consumer.LeaseKey{shard("0"), shard("1")}}, `consumer: the processors of ["shardId-000000000000 of orders" "shardId-000000000001 of orders"] did not return in time`, false},
		{&consumer.RecordError{Record: jsonRecord, Err: cause}, jsonRecordErrorText, true},
		{&consumer.PanicError{Value: "boom", Stack: []byte("main.go:7")}, "panic: boom\nmain.go:7", false},
		{errors.Join(stopped("0"), &consumer.HungShardsError{Shards: []consumer.LeaseKey{shard("1")}}), "1 shard is stopped", true},
	} {
		require.Contains(t, row.err.Error(), row.text)
		require.Equal(t, row.is, errors.Is(row.err, cause), row.text)
		require.Less(t, strings.Count(row.err.Error(), "no such customer"), 5, "only the first few")
	}
	var one *consumer.ShardError
	require.ErrorAs(t, stopped("3"), &one)
	require.Equal(t, shard("3"), one.LeaseKey)
}
