package queue

import (
	"context"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// Rows counts what is stored of records that are not settled.
func Rows(q *Queue) int { return count(q, layout.QueueDeliveriesSpan) }

// Cursors counts the cursors of shards, as they are stored and in memory.
func Cursors(q *Queue) (rows, memory int) {
	q.mu.Lock()
	memory = len(q.cursors)
	q.mu.Unlock()
	return count(q, layout.QueueCursorsSpan), memory
}

func count(q *Queue, span func(layout.QueueID) (lower, upper []byte)) (n int) {
	err := q.db.View(context.Background(), func(tx *braid.Tx) error {
		for _, err := range companion.TxOf(tx).Scan(span(q.id)) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	return n
}

// BeforeListening has fn called once, before the queue listens to its stream the next time.
func BeforeListening(q *Queue, fn func()) {
	q.inner = &listened{q.inner, fn}
}

type listened struct {
	companion.Stream
	before func()
}

func (l *listened) Listen(listener companion.Listener) {
	if fn := l.before; fn != nil {
		l.before = nil
		fn()
	}
	l.Stream.Listen(listener)
}

// JoinCommit has ends called when the transaction is durable, and before others see the
// records that it puts.
func JoinCommit(tx *braid.Tx, ends func()) error {
	return companion.TxOf(tx).Join(func() error { return nil }, func(companion.Rows) func() { return ends })
}

// JoinApply has applies called when the transaction is applied, before the requests of its
// group that come after it.
func JoinApply(tx *braid.Tx, applies func()) error {
	return companion.TxOf(tx).Join(func() error { return nil }, func(companion.Rows) func() {
		applies()
		return nil
	})
}

// AheadBytes returns the bytes of the records that were read ahead.
func AheadBytes(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ahead
}

// Looks returns at how many entries calls have looked that concern many.
func Looks(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.looks
}

// Unseen returns how many records the queue has given out that others may not see yet.
func Unseen(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.unseen)
}

// Extending returns a call that extends a record, and what the call knows of why its receipt
// was refused.
func Extending(q *Queue, r Receipt) (call func(context.Context) error, refused func() error) {
	steps := q.steps(step{verb: extend}, false, []Receipt{r})
	call = func(ctx context.Context) error {
		_, err := q.commit(ctx, nil, steps)
		return err
	}
	return call, func() error { return steps[0].err }
}

// Exchange acknowledges records and receives others, in one commit, without waiting.
func Exchange(ctx context.Context, q *Queue, n int, receipts ...Receipt) ([]Record, error) {
	var steps []step
	if len(receipts) > 0 {
		steps = q.steps(step{verb: acknowledge}, false, receipts)
	}
	records, err := q.receive(ctx, ask{n: n, bytes: maxBytes}, -1, steps)
	if err == nil {
		err = failures(steps, receipts)
	}
	return records, err
}
