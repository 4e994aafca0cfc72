package braid

import (
	"errors"
	"fmt"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// This file verifies the queues of package queue by their rows, which package layout
// decodes: package queue is not needed.

// queueRow is what is verified of a cursor or a delivery.
type queueRow struct {
	id      layout.QueueID
	shard   uint32
	counter uint64 // a record's; for a cursor that has reached no record, of none
	ordinal uint64 // for a cursor, how many records the shard has up to counter
	cursor  bool
}

// knownQueues are the rows that were read. Newer rows may be stored by now, so they can
// show that another row is right, but not that it is wrong.
type knownQueues struct {
	queues  map[layout.QueueID]layout.QueueRow
	cursors map[string]uint64 // the counters, by key
}

// verifyQueues verifies each row of a queue against its queue, stream and shard.
//
// A queue is committed after its stream, and before its cursors and deliveries. A record is
// visible before a row about it is committed, and that commit also moves the cursor. All rows
// of a queue are deleted at once.
func (v *verifier) verifyQueues() error {
	known := knownQueues{make(map[layout.QueueID]layout.QueueRow), make(map[string]uint64)}
	err := v.scanColumn("queue", layout.QueueSpan, func(key, value []byte) error {
		v.report.Queues++
		id, err := layout.DecodeQueueKey(key)
		var row layout.QueueRow
		if err == nil {
			row, err = layout.DecodeQueueRow(id, value)
		}
		if err != nil {
			v.found(VerifyError{Kind: "queue"}, corrupt(err))
			return nil
		}
		known.queues[id] = row
		if v.stream(row.Stream) != nil {
			return nil
		}
		return v.row(VerifyError{Kind: "queue", Queue: row.Name}, key, func(_ *appender, value []byte) error {
			if value == nil || v.stream(row.Stream) != nil {
				return nil
			}
			return fmt.Errorf("%w: its stream, number %d, does not exist", ErrCorrupt, row.Stream)
		})
	})
	if err != nil {
		return err
	}
	decodeCursor := func(key, value []byte) (r queueRow, err error) {
		r.cursor = true
		if r.id, r.shard, err = layout.DecodeCursorKey(key); err == nil {
			var row layout.CursorRow
			row, err = layout.DecodeCursorRow(key, value)
			r.counter, r.ordinal = row.Counter, row.Ordinal
		}
		return r, err
	}
	decodeDelivery := func(key, value []byte) (r queueRow, err error) {
		if r.id, r.shard, r.counter, err = layout.DecodeDeliveryKey(key); err == nil {
			_, err = layout.DecodeDeliveryRow(key, value)
		}
		return r, err
	}
	if err := v.verifyQueueRows(known, layout.CursorSpan, decodeCursor); err != nil {
		return err
	}
	return v.verifyQueueRows(known, layout.DeliverySpan, decodeDelivery)
}

func (v *verifier) verifyQueueRows(known knownQueues, span func() (lower, upper []byte), decode func(key, value []byte) (queueRow, error)) error {
	return v.scanColumn("queue", span, func(key, value []byte) error {
		r, err := decode(key, value)
		q, has := known.queues[r.id]
		at := VerifyError{Kind: "queue", Queue: q.Name}
		if s := v.stream(q.Stream); has && s != nil {
			at.Stream, at.Shard = s.name, shardID(r.shard)
		}
		if err != nil {
			v.found(at, corrupt(err))
			return nil
		}
		if r.cursor {
			known.cursors[string(key)] = r.counter
		}
		if has && v.judgeQueueRow(r, q, known.cursors[string(layout.CursorKey(r.id, r.shard))]) == nil {
			return nil
		}
		return v.row(at, key, func(_ *appender, value []byte) error {
			if value == nil { // the queue was deleted, or the record settled
				return nil
			}
			r, err := decode(key, value)
			if err != nil {
				return corrupt(err)
			}
			queue, err := v.db.store.Get(layout.QueueKey(r.id))
			if errors.Is(err, kv.ErrNotFound) {
				return fmt.Errorf("%w: the row with the key %x belongs to a queue that does not exist", ErrCorrupt, key)
			}
			if err != nil {
				return &unreadRowError{err}
			}
			q, err := layout.DecodeQueueRow(r.id, queue)
			if err != nil {
				return nil // already reported
			}
			cursorKey := layout.CursorKey(r.id, r.shard)
			value, err = v.db.store.Get(cursorKey)
			if err != nil && !errors.Is(err, kv.ErrNotFound) {
				return &unreadRowError{err}
			}
			cursor, err := layout.DecodeCursorRow(cursorKey, value)
			if err != nil && value != nil {
				return nil // already reported, or still to be
			}
			return v.judgeQueueRow(r, q, cursor.Counter)
		})
	})
}

// judgeQueueRow returns what is wrong with a row of a queue. cursor is the queue's cursor in
// the shard.
func (v *verifier) judgeQueueRow(r queueRow, q layout.QueueRow, cursor uint64) error {
	s := v.stream(q.Stream)
	if s == nil {
		return nil // already reported for the queue
	}
	t := s.topology.Load()
	if r.shard >= t.next {
		return fmt.Errorf("%w: the stream has never had that shard", ErrCorrupt)
	}
	if !r.cursor && r.counter > cursor {
		return fmt.Errorf("%w: a record was received that the queue has not reached: its counter is %d, and the queue's cursor is at %d", ErrCorrupt, r.counter, cursor)
	}
	sh := t.shard(r.shard)
	if sh == nil || r.cursor && r.counter < q.Start { // the shard has expired, or none of its records was received
		return nil
	}
	switch tip := sh.log.Tip(); {
	case !r.cursor && r.counter < q.Start:
		return fmt.Errorf("%w: a record was received that lies before the start of the queue: its counter is %d", ErrCorrupt, r.counter)
	case r.counter > tip.LastCounter:
		return fmt.Errorf("%w: a record was received that the shard does not have: its counter is %d, and the shard's last is %d", ErrDataLoss, r.counter, tip.LastCounter)
	case r.ordinal > tip.Ordinal:
		return fmt.Errorf("%w: %d records were received, but the shard had only %d", ErrDataLoss, r.ordinal, tip.Ordinal)
	}
	return nil
}
