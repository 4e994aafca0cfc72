package queue

import (
	"context"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// Rows counts the stored rows of unsettled records.
func Rows(q *Queue) int { return count(q, layout.QueueDeliveriesSpan) }

// Cursors counts the cursors of shards, stored and in memory.
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

// BeforeListening makes fn be called once, before the queue next begins to listen to its
// stream.
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

// HoldLoading makes the first users of the queue wait until release is called.
func HoldLoading(q *Queue) (release func()) {
	<-q.loading
	return func() { giveTurn(q.loading) }
}

// JoinCommit makes ends be called when the transaction is durable, before others see the
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

// Looks returns how many entries were looked at by calls that concern many.
func Looks(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.looks
}

// Unseen returns how many delivered records others may not see yet.
func Unseen(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.unseen)
}

// Extending returns a call that extends a record, and a function that returns why its receipt
// was refused.
func Extending(q *Queue, r Receipt) (call func(context.Context) error, refused func() error) {
	steps := q.steps(step{verb: extend}, false, []Receipt{r})
	call = func(ctx context.Context) error {
		_, err := q.commit(ctx, nil, steps)
		return err
	}
	return call, func() error { return steps[0].err }
}

// Entries returns the number of unsettled records in memory.
func Entries(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
}
