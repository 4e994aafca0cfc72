package salvage

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/braidstream/braid/internal/layout"
)

// This file saves the queues of package queue, by their rows. Invariant: a record below a
// queue's cursors that has no row of a delivery is settled. So a cursor that is lost is made
// anew from what is left, too low rather than too high, and then records that were
// acknowledged may be received again; a delivery that is lost cannot be told from one that
// was settled, but where its key is known it is made anew.

// queue is one of the queues to be saved.
type queue struct {
	id      layout.QueueID
	row     layout.QueueRow
	stream  *stream
	cursors map[uint32]layout.CursorRow
}

// queueRow takes a row of a queue, the newest version that was found. Those of queues come
// first, then those of cursors, then those of deliveries, which are written at once: the
// others are, when it is known where the shards end. It reports whether the row is whole; if
// it is not, an earlier version is the next to come, or there is none.
func (s *survey) queueRow(out sink, key, value []byte) (whole bool, err error) {
	if id, err := layout.DecodeQueueKey(key); err == nil {
		row, err := layout.DecodeQueueRow(id, value)
		if err != nil {
			s.note("the row of a queue is damaged: %v", err)
			return false, nil
		}
		st := s.streams[row.Stream]
		if st == nil {
			s.note("queue %q is left out, as its stream is lost", row.Name)
			s.leftOut[id] = true
			return true, nil
		}
		s.reach(row.Created, row.Start-min(row.Start, 1)) // new records are to lie behind
		s.queues[id] = &queue{id: id, row: row, stream: st, cursors: make(map[uint32]layout.CursorRow)}
		return true, nil
	}
	if id, index, err := layout.DecodeCursorKey(key); err == nil {
		row, err := layout.DecodeCursorRow(key, value)
		q := s.queueOf(id, index)
		switch {
		case q == nil:
		case err != nil:
			s.note("queue %q has lost how far it had come with shard %d: records that were acknowledged may be received again: %v", q.row.Name, index, err)
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
		s.note("queue %q has lost how often a record was received, so it is received as if it was for the first time: %v", q.row.Name, err)
		value = layout.DeliveryRow{Generation: 1, First: max(1, counter), Waiting: true}.Encode(key)
	}
	c := q.cursors[index]
	if counter > c.Counter {
		s.note("queue %q has lost how far it had come with shard %d: records that were acknowledged may be received again", q.row.Name, index)
	}
	c.Counter = max(c.Counter, counter)
	s.come(q, index, c)
	return true, out.set(key, value)
}

// queueOf returns the queue of a cursor or a delivery, nil if that is not to be saved: rows
// of a deleted queue are found until they have been compacted away.
func (s *survey) queueOf(id layout.QueueID, index uint32) *queue {
	q := s.queues[id]
	if q == nil {
		lower, upper := layout.QueueSpan()
		if !s.leftOut[id] && s.lostIn(lower, upper) {
			s.note("rows of a queue are left out, whose name and stream are lost")
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

// come notes how far the queue has come with a shard. What it has received was put: if the
// records themselves are lost, this tells of them.
func (s *survey) come(q *queue, index uint32, row layout.CursorRow) {
	q.cursors[index] = row
	s.reach(row.Counter)
	sh := q.stream.shards[index]
	if sh == nil || row.Counter < q.row.Start { // it has expired; or nothing was received
		return
	}
	sh.received = max(sh.received, row.Counter)
}

// writeQueues writes the rows of queues and cursors, when the shards are as they will be.
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
			s.note("a queue is called %q now, as a later one is called %q", q.row.Name, name)
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
			s.note("queue %q may have lost rows: records that were being processed may count as acknowledged, and others that were acknowledged may be received again", q.row.Name)
		}
	}
	return nil
}
