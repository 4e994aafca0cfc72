package commit

import (
	"runtime"
	"time"
)

// run is the committer's goroutine.
func (c *Committer) run() {
	defer close(c.ended)
	defer c.batch.Close()
	for {
		g := c.take()
		if g == nil || !c.runGroup(g) {
			return
		}
	}
}

// runGroup commits a group. It returns false if the store accepts no more batches: then endAll
// ends the requests, and no further group runs.
func (c *Committer) runGroup(g *group) bool {
	if !g.applied { // a caller may have applied it before it left the group
		c.apply(g)
	}
	if !c.batch.Empty() {
		if err := c.batch.Commit(g.sync); err != nil {
			return false
		}
	}
	return c.end(g)
}

// apply fills the batch.
func (c *Committer) apply(g *group) {
	c.batch.Reset()
	g.sync = c.log.Apply(g.requests, c.batch)
	g.applied = true
}

// end publishes a committed group, and wakes its callers. It returns false if endAll has ended
// its requests.
func (c *Committer) end(g *group) bool {
	sync := g.sync
	c.log.Publish(g.requests)
	c.mu.Lock()
	failed := c.current != g
	c.current = nil
	if !failed {
		g.endFirst()
	}
	c.mu.Unlock()
	if failed {
		return false
	}
	if g.live == 1 {
		g.release()
		c.recycle(g)
		return true
	}
	g.released = time.Now()
	g.release()
	c.leave(g)
	if sync && c.returnTime() <= c.store.SyncTime() {
		c.awaitCallers(g)
	}
	return true
}

// awaitCallers sleeps until the callers of an ended group have run and left Do: a caller that
// puts again at once belongs in the next group. If this goroutine spun instead, it would take a
// processor from them. All of them have been woken, so it waits only for the scheduler.
//
// That pays off if they return sooner than a sync takes. If they take longer, they prepare
// their next requests during the sync of others.
func (c *Committer) awaitCallers(g *group) {
	for g.away.Load() > 0 {
		<-c.back.C()
	}
}

// runInline runs the group of a caller on the caller's goroutine. It leaves callers that came
// meanwhile to the committer's goroutine, and the group itself if its commit may wait: then
// runInline returns false, and the caller waits like any other.
//
// Invariant: nothing in this function waits for a disk that may hang.
// TestACallerLeavesAGroupThatWaits verifies that.
func (c *Committer) runInline(g *group, r *Request) bool {
	c.apply(g)
	done, ok := c.tryCommit(g)
	if !done {
		c.mu.Lock()
		c.left = g
		c.mu.Unlock()
		c.wakeUp()
		return false
	}
	ok = ok && c.end(g)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
	if !ok {
		c.current = nil // the caller may use the request again
		r.fate = c.fateOfTaken()
		c.refused = true
		c.closed = c.closed || c.store.Err() == nil
	}
	if len(c.queue) > 0 || c.closed || !ok {
		c.wakeUp()
	}
	return true
}

// tryCommit commits the batch of a caller's group, unless that may wait: then it returns
// false for done, and has done nothing.
func (c *Committer) tryCommit(g *group) (done, ok bool) {
	if c.batch.Empty() {
		return true, true
	}
	if c.inline == AlwaysInline {
		return true, c.batch.Commit(g.sync) == nil
	}
	done, err := c.batch.TryCommit(g.sync)
	return done, err == nil
}

// take waits for a group, lets it grow and takes it, or takes one that its caller has left. It
// returns nil when the committer is closed and no group waits, when the store has failed, and
// when the store has refused the group of a caller.
func (c *Committer) take() *group {
	yields, seen, idle := 0, 0, 0
	lone := false // one caller: do not wait for others
	for {
		c.mu.Lock()
		switch {
		case c.store.Err() != nil || c.refused:
			c.mu.Unlock()
			return nil
		case c.left != nil:
			g := c.left
			c.left = nil
			c.mu.Unlock()
			return g
		case len(c.queue) == 0 && c.closed:
			c.mu.Unlock()
			return nil
		case len(c.queue) == 0 && idle < maxSpins && !c.lastOwn:
			lone = c.lastLive == 1
			c.mu.Unlock()
			idle++
			runtime.Gosched()
			continue
		case len(c.queue) == 0:
			c.sleepLocked()
			continue
		case !lone && len(c.queue) == 1 && c.queue[0].live > seen && yields < maxYields:
			seen = c.queue[0].live
			yields++
			c.mu.Unlock()
			runtime.Gosched()
			continue
		}
		g := c.takeLocked()
		c.mu.Unlock()
		return g
	}
}

// takeLocked takes the oldest group.
func (c *Committer) takeLocked() *group {
	g := c.queue[0]
	n := copy(c.queue, c.queue[1:])
	c.queue[n] = nil
	c.queue = c.queue[:n]
	c.taken, c.current = g.number, g
	c.lastLive = g.live
	c.releaseLocked(g.bytes)
	g.compact()
	c.lastOwn = g.live == 1 && c.inline == PromptInline && g.requests[0].Prompt
	if g.live == 1 {
		g.requests[0].alone = true
	} else {
		g.away.Store(int32(g.live) + 1) // and the goroutine that runs it
	}
	return g
}

// sleepLocked releases the mutex until groups wait and no caller runs one, or a caller has left
// its group.
func (c *Committer) sleepLocked() {
	c.running = false
	for {
		c.mu.Unlock()
		<-c.bell.C()
		c.mu.Lock()
		if !c.running || c.left != nil {
			c.running = true
			c.mu.Unlock()
			return
		}
	}
}

// compact removes the slots of withdrawn requests.
func (g *group) compact() {
	if g.live == len(g.requests) {
		return
	}
	kept := g.requests[:0]
	for _, r := range g.requests {
		if r != nil {
			kept = append(kept, r)
		}
	}
	clear(g.requests[len(kept):])
	g.requests = kept
}

// recycle keeps the memory of an ended group. Its callers hold at most its channel.
func (c *Committer) recycle(g *group) {
	clear(g.requests)
	g.requests = g.requests[:0]
	g.live, g.bytes, g.done, g.essential, g.applied, g.sync = 0, 0, nil, nil, false, false
	c.mu.Lock()
	c.spare = g
	c.mu.Unlock()
}
