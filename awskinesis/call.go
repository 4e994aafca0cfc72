package awskinesis

import (
	"context"
	"fmt"
	"time"

	"github.com/braidstream/braid"
)

// call is a call of one of the put methods. Its fields are guarded by the producer's mutex until it
// is settled.
type call struct {
	wait    bool // it waits for room, and its records are retried
	items   []item
	results []braid.PutResult
	open    int              // items that are not settled, admitted or not
	failed  map[string]error // keys that accept no more of its records, and why

	settled   chan struct{}
	done      func() // called without the mutex when the call is settled; may be nil
	stopWatch func() bool
}

func newCall(entries []braid.Entry, wait bool) *call {
	c := &call{
		wait:    wait,
		items:   make([]item, len(entries)),
		results: make([]braid.PutResult, len(entries)),
		open:    len(entries),
		settled: make(chan struct{}),
	}
	now, total := time.Now(), 0
	for i := range entries {
		total += len(entries[i].Data)
	}
	data := make([]byte, 0, total)
	for i := range entries {
		it := &c.items[i]
		*it = item{entry: entries[i], hash: entries[i].HashKey(), admitted: now, call: c, index: i}
		start := len(data)
		data = append(data, it.entry.Data...)
		it.entry.Data = data[start:len(data):len(data)]
		if key := it.entry.ExplicitHashKey; key != nil {
			it.entry.ExplicitHashKey = &it.hash
		}
	}
	return c
}

// put puts the entries, and waits for their outcomes.
func (p *Producer) put(ctx context.Context, entries []braid.Entry, wait bool) ([]braid.PutResult, error) {
	if err := p.validate(entries); err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, nil
	}
	c := newCall(entries, wait)
	if err := p.admit(ctx, c); err != nil {
		return nil, err
	}
	select {
	case <-c.settled:
	case <-ctx.Done():
		p.withdraw(c, context.Cause(ctx))
	}
	return c.results, nil
}

// admit reserves room in the buffer for the records of the call, and queues them. If it returns an
// error, none was queued. A record that is refused while others are not is settled.
func (p *Producer) admit(ctx context.Context, c *call) (err error) {
	defer func() {
		if err != nil {
			p.counts.failed.Add(int64(len(c.items)))
		}
	}()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	var settled settling
	defer func() { settled.tell() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return braid.ErrClosed
	}
	var refused map[*bin]error // by shard: the shard also refuses later records of the call
	for i := range c.items {
		it := &c.items[i]
		if c.wait {
			if err := p.waitForRoom(ctx, it); err != nil {
				if i == 0 { // nothing was queued
					return err
				}
				for j := range c.items[i:] {
					p.failAlone(&c.items[i+j], err, &settled)
				}
				break
			}
		}
		err := c.failed[it.entry.PartitionKey]
		if err == nil && !c.wait {
			if err = p.affordable(it, refused); err != nil {
				if refused == nil {
					refused = make(map[*bin]error)
				}
				refused[p.schedule.binOf(it)] = err
				p.counts.throttled.Add(1)
			}
		}
		switch {
		case err != nil && c.wait:
			p.giveRoom(it.cost())
			fallthrough
		case err != nil:
			p.failAlone(it, err, &settled) // records before it are not affected
			continue
		case !c.wait:
			p.buffered += it.cost()
		}
		it.group = p.group
		p.group.open++
		p.schedule.add(it)
	}
	if c.done != nil && ctx.Done() != nil {
		c.stopWatch = context.AfterFunc(ctx, func() { p.withdraw(c, context.Cause(ctx)) })
	}
	p.ring()
	return nil
}

// waitForRoom reserves room for the item, in the order of callers. It releases the mutex while it
// waits.
func (p *Producer) waitForRoom(ctx context.Context, it *item) error {
	if p.waiters.Len() == 0 && p.hasRoom(it.cost()) {
		p.buffered += it.cost()
		return nil
	}
	w := &waiter{cost: it.cost(), ready: make(chan struct{})}
	place := p.waiters.PushBack(w)
	p.ring() // send the queued records, to make room
	p.mu.Unlock()
	select {
	case <-w.ready:
	case <-ctx.Done():
	}
	p.mu.Lock()
	switch {
	case w.got:
		return nil
	case p.closed:
		return braid.ErrClosed
	}
	p.waiters.Remove(place)
	p.giveRoom(0) // to those behind it, which may need less
	return context.Cause(ctx)
}

func (p *Producer) hasRoom(cost int) bool {
	return p.buffered == 0 || p.buffered+cost <= p.opts.BufferBytes
}

// giveRoom returns room to the buffer, and wakes callers that wait for it.
func (p *Producer) giveRoom(cost int) {
	p.buffered -= cost
	for e := p.waiters.Front(); e != nil; e = p.waiters.Front() {
		w := e.Value.(*waiter)
		if !p.hasRoom(w.cost) {
			return
		}
		p.waiters.Remove(e)
		p.buffered += w.cost
		w.got = true
		close(w.ready)
	}
}

// affordable returns nil if a record can be sent without waiting, or the reason why it cannot.
func (p *Producer) affordable(it *item, refused map[*bin]error) error {
	b := p.schedule.binOf(it)
	if err := refused[b]; err != nil {
		return err
	}
	now := time.Now()
	if p.waiters.Len() > 0 || !p.hasRoom(it.cost()) {
		return &braid.ThroughputExceededError{Shard: b.shard, Budget: "producer's BufferBytes", RetryAfter: firstPause}
	}
	// Records already queued for the shard go first. With aggregation, the number of records does
	// not matter.
	records := b.records + 1
	if p.opts.AggregateBytes > 0 {
		records = 1
	}
	at := b.pace.until(now, records, b.bytes+it.entry.Size())
	if at.Before(p.schedule.paused) {
		at = p.schedule.paused
	}
	if !at.After(now) {
		return nil
	}
	return throttledError(b, at.Sub(now))
}

// settling collects settled calls. Their callers are notified after the mutex is released.
type settling []*call

func (s settling) tell() {
	for _, c := range s {
		if c.done != nil {
			c.done()
		}
		close(c.settled)
	}
}

// settle sets the result of an item, once.
func (p *Producer) settle(it *item, result braid.PutResult, settled *settling) {
	it.settled = true
	if it.bin != nil {
		p.schedule.withdraw(it)
	}
	c := it.call
	c.results[it.index] = result
	if g := it.group; g != nil { // it was admitted
		if !it.inFlight {
			p.release(it)
		}
		if g.open--; g.open == 0 && g != p.group {
			delete(p.groups, g)
			close(g.settled)
		}
	}
	if c.open--; c.open == 0 {
		*settled = append(*settled, c)
	}
}

// release returns the buffer room of an item that is settled and not in flight.
func (p *Producer) release(it *item) {
	p.giveRoom(it.cost())
	it.entry.Data = nil // the lane may keep the item for some time
}

// fail settles an item that failed, and the later items of its key in the same call. The item may
// have been stored.
func (p *Producer) fail(it *item, err error, settled *settling) {
	if it.settled {
		return
	}
	later := p.failAlone(it, err, settled)
	if it.call.open == 0 {
		return
	}
	if l := p.schedule.lanes[it.entry.PartitionKey]; l != nil {
		for _, next := range l.queue {
			if next.call == it.call && next.index > it.index && !next.settled && !next.inFlight {
				p.failAlone(next, later, settled)
			}
		}
	}
}

// failAlone settles an item that failed, and returns the error for later items of its key. The item
// may have been stored.
func (p *Producer) failAlone(it *item, err error, settled *settling) (later error) {
	later = err
	if it.maybe || it.inFlight {
		p.counts.unknown.Add(1)
		err = fmt.Errorf("%w: %w", braid.ErrOutcomeUnknown, err)
		later = ErrEarlierFailed
	} else {
		p.counts.failed.Add(1)
	}
	c := it.call
	if c.open > 1 {
		if c.failed == nil {
			c.failed = make(map[string]error)
		}
		c.failed[it.entry.PartitionKey] = later
	}
	p.settle(it, braid.PutResult{Err: err}, settled)
	return later
}

// withdraw settles the remaining items of a call whose context has ended.
func (p *Producer) withdraw(c *call, cause error) {
	var settled settling
	defer func() { settled.tell() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range c.items {
		if it := &c.items[i]; !it.settled {
			p.failAlone(it, cause, &settled)
		}
	}
}
