package braid

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/kv"
)

// This file shows the records of a group, before the group is committed, to queues that have
// waiting receivers. The queues add their rows about deliveries to the same batch. So a record
// and its delivery become durable together, and a receiver need not wait for a second commit.

// maxArrivals is how many records of a group listeners are shown. They read the rest
// later, as queues without waiting receivers do.
const maxArrivals = 1000

// listeners are the listeners of a stream. The zero value has none.
type listeners struct {
	count atomic.Int32 // len(all), read without mu: puts that nobody waits for read only this

	mu  sync.Mutex // guards the field below; nothing is locked under it
	all []companion.Listener
}

func (l *listeners) add(listener companion.Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, listener)
	l.count.Store(int32(len(l.all)))
}

// remove removes a listener. A call that is already on its way may still reach it.
func (l *listeners) remove(listener companion.Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.all, listener); i >= 0 {
		l.all = slices.Delete(l.all, i, i+1)
		l.count.Store(int32(len(l.all)))
	}
}

// appendTo appends the listeners to buf. The caller calls them without the mutex, because
// they add and remove themselves under mutexes of their own.
func (l *listeners) appendTo(buf []companion.Listener) []companion.Listener {
	if l.count.Load() == 0 {
		return buf
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(buf, l.all...)
}

// changed tells all listeners that there may be new records.
func (l *listeners) changed() {
	var few [4]companion.Listener
	for _, listener := range l.appendTo(few[:0]) {
		listener.Changed()
	}
}

// arrivals implements companion.Arrivals. It is valid while the group is applied.
type arrivals struct{ puts []*put }

func (a *arrivals) Len() int { return len(a.puts) }

func (a *arrivals) Place(i int) (shard uint32, counter uint64, size int) {
	p := a.puts[i]
	return p.shard.index, p.record.Counter, p.record.Size()
}

func (a *arrivals) Records(from, to int) any {
	records := make([]Record, 0, to-from)
	for _, p := range a.puts[from:to] {
		records = append(records, p.shard.record(&p.record))
	}
	return records
}

// hear is called when the first record of a group is placed in a shard. It decides, once for
// each stream and group, whether the stream's records are shown to listeners. So listeners see
// all records of a group, or the first ones, or none, but never later ones without the first.
func (a *appender) hear(s *Stream) {
	if s.w.heard == a.group {
		return
	}
	s.w.heard = a.group
	if s.w.hears = s.listeners.count.Load() > 0; s.w.hears {
		a.hearing = append(a.hearing, s)
	}
}

// tell shows the records of this group to the listeners, and keeps the functions that they
// want called when the records become visible.
func (a *appender) tell(batch *kv.Batch) {
	for i, s := range a.hearing {
		if !s.w.deleted { // else this group has deleted the stream
			a.arrived.puts = s.w.arrived
			a.listeners = s.listeners.appendTo(a.listeners[:0])
			for _, listener := range a.listeners {
				if publish := listener.Arrive(batch, s.latest.Last(), &a.arrived); publish != nil {
					a.deliver = append(a.deliver, publish)
				}
			}
			clear(a.listeners)
		}
		clear(s.w.arrived) // the puts belong to their callers
		s.w.arrived, s.w.hears = s.w.arrived[:0], false
		a.hearing[i] = nil
	}
	a.hearing, a.arrived.puts = a.hearing[:0], nil
}

// told is called when the records of this group are visible. Listeners that were added after
// the group was applied learn of them only now.
func (a *appender) told() {
	for i, publish := range a.deliver {
		publish()
		a.deliver[i] = nil
	}
	a.deliver = a.deliver[:0]
	for _, s := range a.streams {
		s.listeners.changed()
	}
}

func (c companionStream) Listen(l companion.Listener)   { c.stream.listeners.add(l) }
func (c companionStream) Unlisten(l companion.Listener) { c.stream.listeners.remove(l) }
