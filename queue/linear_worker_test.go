package queue_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/queuetest"
	"github.com/braidstream/braid/queue"
)

// linearWorker is one of the goroutines that use the queue.
type linearWorker struct {
	*linear
	random *rand.Rand
}

// span is a time of up to n seconds. None ends when a step begins.
func (w *linearWorker) span(n int) time.Duration {
	return time.Duration(1+w.random.IntN(1000*n))*time.Millisecond + 500*time.Microsecond
}

func (w *linearWorker) step() {
	if w.random.IntN(2) == 0 {
		time.Sleep(time.Duration(w.random.IntN(2500)) * time.Millisecond)
	}
	for range w.random.IntN(20) {
		runtime.Gosched()
	}
	n := w.random.IntN(100)
	if w.order && n >= 82 {
		n = 98 // nothing dies
	}
	switch {
	case n < 15:
		w.putOne()
	case n < 35:
		w.receive(false, 1+w.random.IntN(4), time.Duration(w.random.IntN(3)-1)*second)
	case n < 40:
		w.exchange(1+w.random.IntN(4), time.Duration(w.random.IntN(3)-1)*second)
	case n < 48:
		w.receive(true, 1+w.random.IntN(3), -1)
	case n < 60:
		w.settle(queuetest.Ack, false, 0, w.queue.Ack)
	case n < 66:
		w.settle(queuetest.AckTx, false, 0, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.db.Update(ctx, func(tx *braid.Tx) error { return w.queue.AckTx(tx, receipts...) })
		})
	case n < 73:
		d := w.span(5) * time.Duration(w.random.IntN(2))
		w.settle(queuetest.Extend, false, d, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.queue.Extend(ctx, d, receipts...)
		})
	case n < 79:
		d := w.span(5) * time.Duration(w.random.IntN(2))
		w.settle(queuetest.Release, false, d, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.queue.Release(ctx, d, receipts...)
		})
	case n < 82:
		w.settle(queuetest.Return, false, 0, w.queue.Return)
	case n < 84:
		w.settle(queuetest.Reject, false, 0, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.queue.Reject(ctx, "", receipts...)
		})
	case n < 89:
		w.settle(queuetest.Restore, true, 0, w.queue.DeadLetters().Restore)
	case n < 91:
		w.settle(queuetest.Ack, true, 0, w.queue.DeadLetters().Discard)
	case n < 93:
		d := w.span(5)
		w.settle(queuetest.Extend, true, d, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.queue.DeadLetters().Extend(ctx, d, receipts...)
		})
	case n < 94:
		w.everything(queuetest.Call{Verb: queuetest.RestoreAll}, func(ctx context.Context) error {
			_, err := w.queue.DeadLetters().RestoreAll(ctx)
			return err
		})
	case n < 98:
		most := cmp.Or(w.random.IntN(5), -1)
		w.everything(queuetest.Call{Verb: queuetest.Update, Most: most}, func(ctx context.Context) error {
			return w.queue.Update(ctx, func(o *queue.Options) { o.MaxReceives = most })
		})
	default:
		w.judge(w.stream.UpdateShardCount(ctx, 1+w.random.IntN(4)))
	}
}

// begin begins a call. Some calls are abandoned at some time.
func (w *linearWorker) begin() (c queuetest.Call, limited context.Context, stop func()) {
	limited, stop = context.WithCancel(ctx)
	if !w.calm && w.random.IntN(12) == 0 {
		yields := w.random.IntN(30)
		go func() {
			for range yields {
				runtime.Gosched()
			}
			stop()
		}()
	}
	return queuetest.Call{Begun: w.ticks.Add(1), From: time.Since(w.began)}, limited, stop
}

func (w *linearWorker) end(c *queuetest.Call) { c.To, c.Ended = time.Since(w.began), w.ticks.Add(1) }

// judge requires that a call failed for a reason that there is, if it did. It reports
// whether it may have had an effect.
func (w *linearWorker) judge(err error) (happened, unsure bool) {
	switch {
	case err == nil:
		return true, false
	case errors.Is(err, braid.ErrOutcomeUnknown):
		return true, true
	case errors.Is(err, context.Canceled), errors.Is(err, braid.ErrDiskFull):
		return false, false
	}
	require.NoError(w, err)
	return false, false
}

func (w *linearWorker) note(data string, c queuetest.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records[data] = append(w.records[data], c)
}

func (w *linearWorker) putOne() {
	data := fmt.Sprint(w.put.Add(1))
	key := fmt.Sprint("k", w.random.IntN(9))
	w.mu.Lock()
	w.keys[data] = key
	w.mu.Unlock()
	c, limited, stop := w.begin()
	defer stop()
	_, err := w.stream.PutRecord(limited, key, []byte(data))
	w.end(&c)
	if happened, unsure := w.judge(err); happened {
		c.Verb, c.Maybe = queuetest.Put, unsure
		w.note(data, c)
	}
}

func (w *linearWorker) everything(what queuetest.Call, do func(context.Context) error) {
	c, limited, stop := w.begin()
	defer stop()
	err := do(limited)
	w.end(&c)
	c.Verb, c.Most = what.Verb, what.Most
	happened, unsure := w.judge(err)
	if !happened {
		return
	}
	c.Maybe = unsure
	w.mu.Lock()
	defer w.mu.Unlock()
	w.everyone = append(w.everyone, seen{c, nil})
}

// receive returns the deliveries that it has made.
func (w *linearWorker) receive(dead bool, n int, wait time.Duration) (all []delivery) {
	o := &queue.ReceiveOptions{Wait: cmp.Or(wait, -1), VisibilityTimeout: w.span(8), Whole: true}
	receive := w.queue.Receive
	if dead {
		receive = w.queue.DeadLetters().Receive
	}
	c, limited, stop := w.begin()
	defer stop()
	records, err := receive(limited, n, o)
	w.end(&c)
	return w.received(c, dead, n, o.VisibilityTimeout, records, err)
}

// received notes what a receive has returned.
func (w *linearWorker) received(c queuetest.Call, dead bool, n int, timeout time.Duration, records []queue.Record, err error) (all []delivery) {
	got, missed := queuetest.Receive, queuetest.Missing
	if dead {
		got, missed = queuetest.ReceiveDead, queuetest.MissingDead
	}
	w.judge(err)
	c.Verb, c.Delay = got, timeout
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, braid.ErrDiskFull) && !errors.Is(err, braid.ErrOutcomeUnknown) {
		return nil
	}
	if err != nil { // it may have taken any records, and given them back since, or may still
		c.Maybe, c.Delivery = true, int(w.named.Add(1))
		back := c
		back.Verb = queuetest.Return
		w.everyone = append(w.everyone, seen{c, nil}, seen{back, nil})
		return nil
	}
	those := make(map[string]bool)
	for _, r := range records {
		data := string(r.Data)
		those[data] = true
		c.Delivery, c.Receives = int(w.named.Add(1)), r.Receives
		w.records[data] = append(w.records[data], c)
		all = append(all, delivery{data, c.Delivery, r.Receipt, dead, c.Ended})
	}
	w.held = append(w.held, all...)
	if len(records) < n && !w.order { // else it may be held back
		c.Verb = missed
		w.everyone = append(w.everyone, seen{c, those})
	}
	return all
}

// exchange acknowledges some records and receives others.
func (w *linearWorker) exchange(n int, wait time.Duration) {
	o := &queue.ReceiveOptions{Wait: cmp.Or(wait, -1), VisibilityTimeout: w.span(8), Whole: true}
	chosen := w.choose(false)
	c, limited, stop := w.begin()
	defer stop()
	records, err := w.queue.Exchange(limited, n, o, receiptsOf(chosen)...)
	w.end(&c)
	ack := c
	ack.Verb = queuetest.Ack
	var refused *queue.ReceiptsError
	if errors.As(err, &refused) {
		w.settled(ack, chosen, refused)
		err = nil // the records were received all the same
	} else {
		ack.Maybe = err != nil // it may have waited after it
		w.settled(ack, chosen, nil)
	}
	w.received(c, false, n, o.VisibilityTimeout, records, err)
}

// settle does something with some receipts.
func (w *linearWorker) settle(what queuetest.Verb, dead bool, delay time.Duration, do func(context.Context, ...queue.Receipt) error) {
	if chosen := w.choose(dead); len(chosen) > 0 {
		w.settleThese(chosen, what, delay, do)
	}
}

// choose returns some receipts, mostly new ones, of different records.
func (w *linearWorker) choose(dead bool) (chosen []delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range 1 + w.random.IntN(3) {
		var all []delivery
		for _, d := range w.held {
			if d.dead == dead && !slices.ContainsFunc(chosen, func(other delivery) bool { return other.data == d.data }) {
				all = append(all, d)
			}
		}
		if w.random.IntN(4) > 0 {
			all = all[max(0, len(all)-10):]
		}
		if len(all) > 0 {
			chosen = append(chosen, all[w.random.IntN(len(all))])
		}
	}
	return chosen
}

func receiptsOf(chosen []delivery) (all []queue.Receipt) {
	for _, d := range chosen {
		all = append(all, d.receipt)
	}
	return all
}

func (w *linearWorker) settleThese(chosen []delivery, what queuetest.Verb, delay time.Duration, do func(context.Context, ...queue.Receipt) error) {
	c, limited, stop := w.begin()
	defer stop()
	err := do(limited, receiptsOf(chosen)...)
	w.end(&c)
	var refused *queue.ReceiptsError
	if !errors.As(err, &refused) {
		happened, unsure := w.judge(err)
		if !happened {
			return
		}
		c.Maybe = unsure
	}
	c.Verb, c.Delay = what, delay
	w.settled(c, chosen, refused)
}

// settled notes what a call with receipts was answered.
func (w *linearWorker) settled(c queuetest.Call, chosen []delivery, refused *queue.ReceiptsError) {
	for i, d := range chosen {
		c := c
		c.Delivery = d.name
		if refused != nil {
			if at := slices.IndexFunc(refused.Failed, func(f queue.ReceiptError) bool { return f.Index == i }); at >= 0 {
				c.Err = refused.Failed[at].Err
			} else if c.Verb == queuetest.AckTx {
				continue // all or nothing
			}
		}
		w.note(d.data, c)
	}
}
