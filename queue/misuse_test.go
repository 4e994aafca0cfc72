package queue_test

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
	"github.com/braidstream/braid/queue"
)

// The texts of refusals: each says what was wrong, and what is allowed. Every method that
// can fail has a row.
func TestEveryMisuseHasAUsefulText(t *testing.T) {
	bubble(t, func(k *kit) {
		_, err := k.db.CreateStream(ctx, "t", nil)
		require.NoError(t, err)
		q := k.open("q", queue.Options{VisibilityTimeout: time.Minute})
		gone := k.open("gone", queue.Options{})
		require.NoError(t, gone.Delete(ctx))
		other, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		k.put(4)
		old := k.receive(q, 1)[0].Receipt
		require.NoError(t, q.Release(ctx, 0, old))
		live := k.receive(q, 4)
		var first queue.Receipt // the newest receipt of the released record
		var settled queue.Receipt
		for _, r := range live {
			if r.Receives == 2 {
				first = r.Receipt
			} else if settled == "" {
				settled = r.Receipt
			}
		}
		require.NoError(t, q.Ack(ctx, settled))

		type receiving = func(ctx context.Context, n int, o *queue.ReceiveOptions) ([]queue.Record, error)
		receive := func(do receiving, n int, o queue.ReceiveOptions) func() error {
			return func() error { _, err := do(ctx, n, &o); return err }
		}
		create := func(name string, o *queue.Options) func() error {
			return func() error { _, err := queue.Create(ctx, k.db, name, o); return err }
		}
		update := func(change func(*queue.Options)) func() error {
			return func() error { return q.Update(ctx, change) }
		}
		work := func(o queue.WorkOptions) func() error {
			return func() error {
				return q.Work(ctx, func(context.Context, queue.Record) error { return nil }, &o)
			}
		}
		inTx := func(do func(*braid.Tx) error) func() error { return func() error { return k.db.Update(ctx, do) } }
		ended := func(do func(context.Context) error) func() error {
			return func() error {
				over, stop := context.WithCancel(ctx)
				stop()
				return do(over)
			}
		}
		dead := q.DeadLetters()
		covered := make(map[string]bool)
		for _, row := range []struct {
			call  string
			class error
			text  string // a part of it
			err   func() error
		}{
			{"Open: no database", braid.ErrInvalidArgument, "db must not be nil", func() error { _, err := queue.Open(ctx, nil, "q", nil); return err }},
			{"Create: no database", braid.ErrInvalidArgument, "db must not be nil", func() error { _, err := queue.Create(ctx, nil, "q", &queue.Options{Stream: "s"}); return err }},
			{"Get: no database", braid.ErrInvalidArgument, "db must not be nil", func() error { _, err := queue.Get(ctx, nil, "q"); return err }},
			{"List: no database", braid.ErrInvalidArgument, "db must not be nil", func() error { _, err := queue.List(ctx, nil, ""); return err }},
			{"Open: of another stream", queue.ErrQueueExists, `it belongs to stream "s", not to "t"`, func() error {
				_, err := queue.Open(ctx, k.db, "q", &queue.Options{Stream: "t"})
				return err
			}},
			{"Open: no stream", braid.ErrInvalidArgument, "Stream must be the name of a stream", func() error { _, err := queue.Open(ctx, k.db, "new", nil); return err }},
			{"Get: none", queue.ErrQueueNotFound, `get "none": no such queue`, func() error { _, err := queue.Get(ctx, k.db, "none"); return err }},
			{"Create: there is one", queue.ErrQueueExists, `create "q": queue already exists`, create("q", &queue.Options{Stream: "s"})},
			{"Create: no such stream", braid.ErrStreamNotFound, `"x"`, create("new", &queue.Options{Stream: "x"})},
			{"Create: the name", braid.ErrInvalidArgument, "must", create("a/b", &queue.Options{Stream: "s"})},
			{"Create: no name", braid.ErrInvalidArgument, "must", create("", &queue.Options{Stream: "s"})},
			{"Create: Start", braid.ErrInvalidArgument, "Start must not lie in the future", create("new", &queue.Options{Stream: "s", Start: braid.AtTime(time.Now().Add(time.Hour))})},
			{"Create: VisibilityTimeout", braid.ErrInvalidArgument, "VisibilityTimeout must be 1ms to 12h0m0s, or negative for none", create("new", &queue.Options{Stream: "s", VisibilityTimeout: 1})},
			{"Create: MaxReceives", braid.ErrInvalidArgument, "MaxReceives must be 1 to 1000, or negative for no limit", create("new", &queue.Options{Stream: "s", MaxReceives: 1001})},
			{"Create: MaxInFlight", braid.ErrInvalidArgument, "MaxInFlight must be 1 to 10000000", create("new", &queue.Options{Stream: "s", MaxInFlight: -1})},
			{"Create: MaxWaiting", braid.ErrInvalidArgument, "MaxWaiting must be 1 to 10000000", create("new", &queue.Options{Stream: "s", MaxWaiting: -1})},
			{"Create: BlockAtDead", braid.ErrInvalidArgument, "BlockAtDead must not be set without OrderByKey", create("new", &queue.Options{Stream: "s", BlockAtDead: true})},
			{"Queue.Receive: none", braid.ErrInvalidArgument, "n must be 1 to 10000", receive(q.Receive, 0, queue.ReceiveOptions{})},
			{"Queue.Receive: too many", braid.ErrInvalidArgument, "n must be 1 to 10000", receive(q.Receive, 10_001, queue.ReceiveOptions{})},
			{"Queue.Receive: Bytes", braid.ErrInvalidArgument, "Bytes must not be negative", receive(q.Receive, 1, queue.ReceiveOptions{Bytes: -1})},
			{"Queue.Receive: VisibilityTimeout", braid.ErrInvalidArgument, "VisibilityTimeout must be 1ms to 12h0m0s", receive(q.Receive, 1, queue.ReceiveOptions{VisibilityTimeout: 13 * time.Hour})},
			{"Queue.Receive: deleted", queue.ErrQueueNotFound, `receive "gone": no such queue`, receive(gone.Receive, 1, queue.ReceiveOptions{})},
			{"Queue.Receive: ctx", context.Canceled, `receive "q"`, ended(func(ctx context.Context) error { _, err := q.Receive(ctx, 1, nil); return err })},
			{"Queue.Exchange: none", braid.ErrInvalidArgument, `exchange records of "q": invalid argument: n must be 1 to 10000`, func() error { _, err := q.Exchange(ctx, 0, nil, first); return err }},
			{"Queue.Exchange: an old one", queue.ErrReceiptExpired, "receipt has expired", func() error { _, err := q.Exchange(ctx, 1, noWait, old); return err }},
			{"Queue.Exchange: no receipt", queue.ErrReceiptInvalid, `receipt 0, "x": receipt is not valid`, func() error { _, err := q.Exchange(ctx, 1, noWait, "x"); return err }},
			{"Queue.Exchange: deleted", queue.ErrQueueNotFound, `exchange records of "gone": no such queue`, func() error { _, err := gone.Exchange(ctx, 1, noWait, first); return err }},
			{"Queue.Exchange: ctx", context.Canceled, `exchange records of "q"`, ended(func(ctx context.Context) error { _, err := q.Exchange(ctx, 1, nil, first); return err })},
			{"Queue.Follow: VisibilityTimeout", braid.ErrInvalidArgument, "VisibilityTimeout must be 1ms", func() error {
				for _, err := range q.Follow(ctx, &queue.ReceiveOptions{VisibilityTimeout: 1}) {
					return err
				}
				return nil
			}},
			{"Queue.Ack: no receipt", queue.ErrReceiptInvalid, `acknowledge "q": receipt 1, "x": receipt is not valid for this queue and call`, func() error { return q.Ack(ctx, settled, "x") }},
			{"Queue.Ack: an old one", queue.ErrReceiptExpired, "receipt has expired", func() error { return q.Ack(ctx, old) }},
			{"Queue.Ack: deleted", queue.ErrQueueNotFound, "no such queue", func() error { return gone.Ack(ctx, first) }},
			{"Queue.Extend: timeout", braid.ErrInvalidArgument, "timeout must be 0 to 12h0m0s", func() error { return q.Extend(ctx, -1, first) }},
			{"Queue.Extend: an old one", queue.ErrReceiptExpired, "receipt has expired", func() error { return q.Extend(ctx, 1, old) }},
			{"Queue.Extend: acknowledged", queue.ErrRecordSettled, "record has left the queue", func() error { return q.Extend(ctx, 1, settled) }},
			{"Queue.Release: delay", braid.ErrInvalidArgument, "delay must be 0 to 12h0m0s", func() error { return q.Release(ctx, 13*time.Hour, first) }},
			{"Queue.Return: an old one", queue.ErrReceiptExpired, `return "q"`, func() error { return q.Return(ctx, old) }},
			{"Queue.Reject: acknowledged", queue.ErrRecordSettled, `reject "q"`, func() error { return q.Reject(ctx, "", settled) }},
			{"Queue.AckTx: no transaction", braid.ErrInvalidArgument, "tx must not be nil", func() error { return q.AckTx(nil, first) }},
			{"Queue.AckTx: another database", braid.ErrInvalidArgument, "tx must be a transaction of the queue's database", func() error {
				return other.Update(ctx, func(tx *braid.Tx) error { return q.AckTx(tx, first) })
			}},
			{"Queue.AckTx: a View", braid.ErrInvalidArgument, "", func() error {
				return k.db.View(ctx, func(tx *braid.Tx) error { return q.AckTx(tx, first) })
			}},
			{"Queue.AckTx: acknowledged", queue.ErrRecordSettled, "record has left the queue", inTx(func(tx *braid.Tx) error { return q.AckTx(tx, settled) })},
			{"Queue.Work: no function", braid.ErrInvalidArgument, "fn must be a function", func() error { return q.Work(ctx, nil, nil) }},
			{"Queue.Work: Concurrency", braid.ErrInvalidArgument, "Concurrency must be 1 to 10000", work(queue.WorkOptions{Concurrency: -1})},
			{"Queue.Work: Batch", braid.ErrInvalidArgument, "Batch must be 1 to 10000", work(queue.WorkOptions{Batch: -1})},
			{"Queue.Work: VisibilityTimeout", braid.ErrInvalidArgument, "VisibilityTimeout must be 1ms to 12h0m0s", work(queue.WorkOptions{VisibilityTimeout: -1})},
			{"Queue.WorkTx: no function", braid.ErrInvalidArgument, "fn must be a function", func() error { return q.WorkTx(ctx, nil, nil) }},
			{"Queue.Describe: deleted", queue.ErrQueueNotFound, "no such queue", func() error { _, err := gone.Describe(ctx); return err }},
			{"Queue.Update: no function", braid.ErrInvalidArgument, "change must be a function", update(nil)},
			{"Queue.Update: Stream", braid.ErrInvalidArgument, `Stream must not be changed; it is "s"`, update(func(o *queue.Options) { o.Stream = "t" })},
			{"Queue.Update: Start", braid.ErrInvalidArgument, "Start must not be changed", update(func(o *queue.Options) { o.Start = braid.Latest() })},
			{"Queue.Update: OrderByKey", braid.ErrInvalidArgument, "OrderByKey must not be changed", update(func(o *queue.Options) { o.OrderByKey = true })},
			{"Queue.Update: MaxReceives", braid.ErrInvalidArgument, "MaxReceives must be 1 to 1000", update(func(o *queue.Options) { o.MaxReceives = 1001 })},
			{"Queue.Delete: deleted", queue.ErrQueueNotFound, `delete "gone": no such queue`, func() error { return gone.Delete(ctx) }},
			{"DeadLetters.Receive: none", braid.ErrInvalidArgument, "n must be 1 to 10000", receive(dead.Receive, 0, queue.ReceiveOptions{})},
			{"DeadLetters.All: deleted", queue.ErrQueueNotFound, "no such queue", func() error {
				for _, err := range gone.DeadLetters().All(ctx) {
					return err
				}
				return nil
			}},
			{"DeadLetters.Discard: not of a dead letter", queue.ErrReceiptInvalid, `discard dead letters of "q"`, func() error { return dead.Discard(ctx, first) }},
			{"DeadLetters.DiscardTx: not of a dead letter", queue.ErrReceiptInvalid, `discard dead letters of "q"`, inTx(func(tx *braid.Tx) error { return dead.DiscardTx(tx, first) })},
			{"DeadLetters.Extend: timeout", braid.ErrInvalidArgument, "timeout must be 0 to 12h0m0s", func() error { return dead.Extend(ctx, 13*time.Hour, first) }},
			{"DeadLetters.Restore: not of a dead letter", queue.ErrReceiptInvalid, `restore dead letters of "q"`, func() error { return dead.Restore(ctx, first) }},
			{"DeadLetters.RestoreAll: deleted", queue.ErrQueueNotFound, "no such queue", func() error { _, err := gone.DeadLetters().RestoreAll(ctx); return err }},
		} {
			err := row.err()
			require.ErrorIs(t, err, row.class, row.call)
			text := err.Error()
			require.Contains(t, text, row.text, row.call)
			require.LessOrEqual(t, strings.Count(text, "queue: "), 1, text)
			require.False(t, strings.HasSuffix(text, "."), text)
			require.Less(t, len(text), 500, row.call)
			for _, r := range text {
				require.True(t, unicode.IsPrint(r), "%s: %q", row.call, text)
			}
			var invalid *braid.InvalidArgumentError
			require.Equal(t, errors.Is(err, braid.ErrInvalidArgument), errors.As(err, &invalid), row.call)
			covered[strings.Split(row.call, ":")[0]] = true
		}
		for _, handle := range []reflect.Type{reflect.TypeOf(q), reflect.TypeOf(dead)} { // a new method needs a row
			name := handle.Name()
			if handle.Kind() == reflect.Pointer {
				name = handle.Elem().Name()
			}
			for i := range handle.NumMethod() {
				m := handle.Method(i)
				n := m.Type.NumOut()
				if n == 0 {
					continue
				}
				last := m.Type.Out(n - 1)
				if last == reflect.TypeFor[error]() || last.Kind() == reflect.Func {
					require.True(t, covered[name+"."+m.Name], "%s.%s", name, m.Name)
				}
			}
		}
		d := k.describe(q) // none of these calls has changed anything
		require.Equal(t, []int64{0, 3, 0, 0}, []int64{d.Visible, d.InFlight, d.Delayed, d.Dead})
		queues, err := queue.List(ctx, k.db, "")
		require.NoError(t, err)
		require.Len(t, queues, 1)
		require.NoError(t, other.Close())
	})
}
