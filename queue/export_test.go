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
