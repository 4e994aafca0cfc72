package service

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// queueRow has the data that Kinesis has of a queue and package queue does not. It is
// stored under the queue's id, which is unique. A queue that was created with package queue
// has no row: the defaults apply.
type queueRow struct {
	// The queue's name and place, if the stored name does not contain them.
	Account, Region, Name string `json:",omitempty"`

	// The requested starting position.
	StartType string    `json:",omitempty"`
	StartTime time.Time `json:",omitzero"` // of AT_TIMESTAMP

	Tags   map[string]string `json:",omitempty"`
	Policy string            `json:",omitempty"`
}

// queueRowPrefix is the prefix of the keys of queues' rows, before the queue's id.
const queueRowPrefix = rowPrefix + "queue/"

func queueRowKey(q *queue.Queue) []byte { return []byte(queueRowPrefix + q.ID()) }

// readQueueRow returns the row of a queue.
func (s *Service) readQueueRow(ctx context.Context, q *queue.Queue) (row queueRow, err error) {
	err = s.db.View(ctx, func(tx *braid.Tx) error {
		row, err = getQueueRow(tx, q)
		return err
	})
	return row, err
}

// updateQueueRow changes the row of a queue. change runs again if another transaction
// conflicts; if it fails, nothing changes. A deleted queue gets no row.
func (s *Service) updateQueueRow(ctx context.Context, q *queue.Queue, change func(*queueRow) error) error {
	return s.db.Update(ctx, func(tx *braid.Tx) error {
		row, err := getQueueRow(tx, q)
		if err != nil {
			return err
		}
		// DeleteQueue deletes the row after the queue. If that happens between this check and the
		// commit, the transaction conflicts and runs again.
		if _, err := s.queueByID(ctx, q.ID()); err != nil {
			return err
		}
		if err := change(&row); err != nil {
			return err
		}
		value, err := json.Marshal(row)
		if err != nil {
			return err
		}
		return tx.Set(queueRowKey(q), value)
	})
}

func getQueueRow(tx *braid.Tx, q *queue.Queue) (row queueRow, err error) {
	value, err := tx.Get(queueRowKey(q))
	switch {
	case errors.Is(err, braid.ErrKeyNotFound):
		err = nil
	case err == nil:
		err = json.Unmarshal(value, &row)
	}
	return row, err
}

// deleteQueueAndRow deletes a queue with its row. If a crash comes between the two, sweepRows deletes
// the row.
func (s *Service) deleteQueueAndRow(ctx context.Context, q *queue.Queue) error {
	if err := q.Delete(ctx); err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx *braid.Tx) error {
		if _, err := tx.Get(queueRowKey(q)); err != nil {
			if errors.Is(err, braid.ErrKeyNotFound) {
				return nil
			}
			return err
		}
		return tx.Delete(queueRowKey(q))
	})
}
