package salvage

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/braidstream/braid/internal/layout"
)

// This file saves the queues of package queue, by their rows. Invariant: a record below a
// queue's cursors that has no row of a delivery is settled. So a lost cursor is replaced by
// one that is too low rather than too high; then records that were acknowledged may be received
// again. A lost delivery looks like a settled one, but if its key is known, it is
// replaced.

// queue is a queue that is saved.
type queue struct {
	id      layout.QueueID
	row     layout.QueueRow
	stream  *stream
	cursors map[uint32]layout.CursorRow
}

// queueRow takes the newest version found of a row of a queue. The rows of queues come first,
// then those of cursors, then those of deliveries. Deliveries are written at once, the others
// when the ends of the shards are known. It reports whether the row is undamaged. If not, an
// earlier version comes next, if there is one.
func (s *survey) queueRow(out sink, key, value []byte) (whole bool, err error) {
	if id, err := layout.DecodeQueueKey(key); err == nil {
		row, err := layout.DecodeQueueRow(id, value)
		if err != nil {
			s.note("the row of a queue is damaged: %v", err)
			return false, nil
		}
		st := s.streams[row.Stream]
		if st == nil {
			s.note("queue %q is left out, because its stream is lost", row.Name)
			s.leftOut[id] = true
			return true, nil
		}
		s.reach(row.Created, row.Start-min(row.Start, 1)) // so that new records get higher counters
		s.queues[id] = &queue{id: id, row: row, stream: st, cursors: make(map[uint32]layout.CursorRow)}
		return true, nil
	}
	if id, index, err := layout.DecodeCursorKey(key); err == nil {
		row, err := layout.DecodeCursorRow(key, value)
		q := s.queueOf(id, index)
		switch {
		case q == nil:
		case err != nil:
			s.note("the cursor of queue %q in shard %d is damaged, and acknowledged records may be received again: %v", q.row.Name, index, err)
			return false, nil
		default:
			s.come(q, index, row)
		}
		return true, nil
	}
	id, index, counter, err := layout.DecodeDeliveryKey(key)
	if err != nil {
		s.note("a row of a queue is damaged: %v", err)
		return true, nil
	}
	q := s.queueOf(id, index)
	if q == nil {
		return true, nil
	}
	if _, err := layout.DecodeDeliveryRow(key, value); err != nil {
		s.note("a delivery of queue %q is damaged, and its record is received as if for the first time: %v", q.row.Name, err)
		value = layout.DeliveryRow{Generation: 1, First: max(1, counter), Waiting: true}.Encode(key)
	}
	c := q.cursors[index]
	if counter > c.Counter {
		s.note("the cursor of queue %q in shard %d is lost, and acknowledged records may be received again", q.row.Name, index)
	}
	c.Counter = max(c.Counter, counter)
	s.come(q, index, c)
	return true, out.set(key, value)
}

// queueOf returns the queue of a cursor or a delivery, nil if that row is not saved: rows of a
// deleted queue are found until they have been compacted away.
func (s *survey) queueOf(id layout.QueueID, index uint32) *queue {
	q := s.queues[id]
	if q == nil {
		lower, upper := layout.QueueSpan()
		if !s.leftOut[id] && s.lostIn(lower, upper) {
			s.note("rows of a queue are left out, because its name and its stream are lost")
		}
		s.leftOut[id] = true
		return nil
	}
	if index >= q.stream.row.NextShard {
		s.note("queue %q had received records of shard %d, which is lost", q.row.Name, index)
		return nil
	}
	return q
}

// come notes how far the queue has received a shard. Received records existed, so this shows
// that they are missing if they are lost themselves.
func (s *survey) come(q *queue, index uint32, row layout.CursorRow) {
	q.cursors[index] = row
	s.reach(row.Counter)
	sh := q.stream.shards[index]
	if sh == nil || row.Counter < q.row.Start { // the shard has expired, or none of its records was received
		return
	}
	sh.received = max(sh.received, row.Counter)
}

// writeQueues writes the rows of queues and cursors, after the shards are final.
func (s *salvager) writeQueues(out *writer) error {
	names := make(map[string]layout.QueueID)
	all := slices.SortedFunc(maps.Values(s.queues), func(x, y *queue) int { return bytes.Compare(x.id[:], y.id[:]) })
	for _, q := range all {
		if of, taken := names[q.row.Name]; !taken || s.queues[of].row.Created < q.row.Created {
			names[q.row.Name] = q.id
		}
	}
	for _, q := range all {
		if name := q.row.Name; names[name] != q.id { // the later one keeps it
			q.row.Name = fmt.Sprintf("salvaged-%x", q.id)
			s.note("a queue has got the name %q, because a later one has its name %q", q.row.Name, name)
		}
		if err := out.set(layout.QueueKey(q.id), q.row.Encode(q.id)); err != nil {
			return err
		}
		for index, c := range q.cursors {
			if sh := q.stream.shards[index]; sh != nil {
				c.Ordinal = min(max(c.Ordinal, sh.row.Horizon.Ordinal), sh.next.Ordinal)
			}
			key := layout.CursorKey(q.id, index)
			if err := out.set(key, c.Encode(key)); err != nil {
				return err
			}
		}
		s.report.Queues++
		lower, upper := layout.QueueDeliveriesSpan(q.id)
		if s.lostIn(lower, upper) {
			s.note("queue %q may have lost rows: records that were being processed may count as acknowledged, and acknowledged records may be received again", q.row.Name)
		}
	}
	return nil
}
