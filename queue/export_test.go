package queue

import (
	"context"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// Rows counts what is stored of records that are not settled.
func Rows(q *Queue) (n int) {
	err := q.db.View(context.Background(), func(tx *braid.Tx) error {
		for _, err := range companion.TxOf(tx).Scan(layout.QueueDeliveriesSpan(q.id)) {
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
