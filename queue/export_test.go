package queue

import (
	"context"
	"unsafe"

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

// EntryBytes returns about how much memory the entries of a queue take: themselves, and their
// places in the map and in two heaps.
func EntryBytes(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	const mapSlot = 2 * (8 + 8 + 1) // a map is at least half full
	heaps := 8 * 2 * (q.locked.Len() + q.ready.Len() + q.dead.Len() + q.ages.Len())
	return len(q.entries)*(int(unsafe.Sizeof(entry{}))+mapSlot) + heaps
}
