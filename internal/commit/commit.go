// Package commit is the one door through which every change enters a database:
// it gathers the requests of all goroutines into groups, and one goroutine at a
// time makes each group one batch and one fsync. That is the committer's own, or
// where nothing has to wait for a disk the caller's: see [Inline].
//
// It knows queues, groups, cancellation and waking. It does not know what a
// request holds: a [Log], which the root package is, turns requests into rows
// and shows them to readers once they are durable.
//
// Invariant: a group's requests are applied, made durable and published before
// the next group is applied. So the order in which a [Log] numbers records is
// the order in which they become visible, and nothing is visible before it is
// durable. TestOrder holds it.
package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/wake"
)

// ErrUnknown reports that a request was on its way when its caller had to give
// up. It wraps the cause. Any other error of [Committer.Do] refused the request:
// nothing of it was or will be done.
var ErrUnknown = errors.New("outcome is unknown")

const (
	// maxGroupBytes bounds a group. An fsync is paid off long before that, and
	// larger groups only make their callers wait longer. One larger request is a
	// group of its own.
	maxGroupBytes = 4 << 20

	// maxQueuedBytes bounds what waits while the disk is slow. Further requests
	// wait outside, under their contexts, before they take any memory here.
	maxQueuedBytes = 64 << 20

	// maxYields is how often the committer steps back to let a group grow, after the
	// callers of the last one have run. Those among them that put again join this group
	// instead of missing it, which makes groups larger and fsyncs fewer.
	maxYields = 4

	// maxSpins is how often the committer, and the first caller of a group, look
	// again before they go to sleep. Without an fsync a group takes less time
	// than falling asleep and being woken. It also lets callers take turns: without it
	// the caller that the committer has just woken comes first again and again, and of
	// two transactions that conflict the same one loses each time.
	maxSpins = 5

	// closePatience is how long Close waits for a disk that is full.
	closePatience = time.Second
)

// A Log gives meaning to requests. Its methods are called by one goroutine at a
// time, and each sees what the one before it did.
type Log interface {
	// Apply adds the rows of the requests to the batch, in order. It refuses a
	// request by setting its Err, and adds nothing for it. It reports whether
	// the batch must be durable before the group is published.
	Apply(requests []*Request, batch *kv.Batch) (sync bool)

	// Publish shows to readers what Apply has added. It is called once the
	// batch is as durable as Apply asked for.
	Publish(requests []*Request)
}

// Request is one caller's change.
type Request struct {
	Op    any   // what is to be done: the Log knows
	Bytes int   // about how much it adds to a batch
	Err   error // set by the Log to refuse it

	// Essential lets the request through while the disk is full: it frees space.
	Essential bool

	// Prompt means that Apply waits for nothing when it gets this request, and seldom asks for
	// it to be durable. With PromptInline the caller may run its group itself.
	Prompt bool

	// What follows belongs to the Committer, under its mutex until the outcome is known.
	done  chan struct{} // closed when the outcome is known; shared with others of the group
	ended atomic.Bool   // the same of the first of a group while it has no channel
	of    *group        // not to be used once the group was released, if alone
	alone bool          // the group was taken with this request only
	group uint64        // number of the group
	slot  int           // index in the group, until that is taken
	fate  fate
}

// fate is why a request ended without its group.
type fate uint8

const (
	committed fate = iota // with its group: Err says the rest
	full                  // refused: the disk became full before its group was taken
	refused               // the store failed before its group was taken, or took no more batches
	unknown               // the store failed after the group was taken
)

// Inline decides which callers run their groups by themselves if they find the committer's
// goroutine asleep. That is quicker than to wake it and to be woken by it. A caller does not
// look at its context while it runs its group.
type Inline uint8

const (
	// NeverInline is for a store whose commits usually wait for an fsync.
	NeverInline Inline = iota

	// PromptInline is for a store whose commits seldom wait for its disk. A caller with a prompt
	// request runs its group until something might wait, and leaves the rest to the goroutine:
	// so it returns when its context ends, even if the disk hangs.
	PromptInline

	// AlwaysInline is for a store whose commits wait for nothing, such as one in memory.
	AlwaysInline
)

// Committer runs the groups of one store.
type Committer struct {
	store   *kv.Store
	log     Log
	inline  Inline
	batch   *kv.Batch     // belongs to the goroutine that runs a group
	bell    wake.Bell     // rings when groups may be waiting
	back    wake.Bell     // rings when the last caller of a group has come back
	took    atomic.Int64  // how long that took, in nanoseconds
	ended   chan struct{} // closed when the goroutine has returned
	watched chan struct{} // closed when the goroutine that waits for a failure has returned

	mu       sync.Mutex    // guards the fields below
	running  bool          // somebody runs groups
	current  *group        // the group that is run; nil if there is none
	left     *group        // the same if its caller has left it to the goroutine
	queue    []*group      // waiting groups, oldest first; only the last one grows
	spare    *group        // an ended group, for its memory
	next     uint64        // number of the group that the next request opens
	taken    uint64        // number of the last group taken from the queue
	lastLive int           // requests of that group
	lastOwn  bool          // it was one, whose caller can run its next group itself
	queued   int           // bytes that wait
	space    chan struct{} // closed when queued shrinks; nil while nobody waits
	full     chan struct{} // closed while the disk is full
	isFull   bool
	closed   bool
}

// group is a set of requests that share a batch. Those that are essential have a
// channel of their own, since a full disk ends the others alone. A caller waits for
// one channel and its context, so whatever ends a request closes that channel. The
// first one looks for a while before it waits, and has no channel until then: where a
// commit takes as long as a look, groups of one caller need none.
type group struct {
	number    uint64
	requests  []*Request // nil where a caller withdrew
	live      int        // requests that are not nil
	bytes     int
	first     *Request      // the one without a channel; nil if it has got one
	away      atomic.Int32  // those who need it since it was taken, if it is not of one caller
	released  time.Time     // when its callers were woken
	applied   bool          // its rows are in the batch
	sync      bool          // what Apply has returned
	done      chan struct{} // closed when the requests that are not essential have ended; nil without any
	essential chan struct{} // the same for the others
}

// channel returns the channel for a request.
func (g *group) channel(essential bool) chan struct{} {
	ch := &g.done
	if essential {
		ch = &g.essential
	}
	if *ch == nil {
		*ch = make(chan struct{})
	}
	return *ch
}

// endFirst ends the request that has no channel, if there is one. The mutex of the
// committer is held.
func (g *group) endFirst() {
	if g.first != nil {
		g.first.ended.Store(true)
		g.first = nil
	}
}

// release wakes the callers, but the one of endFirst.
func (g *group) release() {
	if g.done != nil {
		close(g.done)
	}
	if g.essential != nil {
		close(g.essential)
	}
}

// New starts a committer. Close stops it and waits for its goroutines, unless
// the store has failed: then one of them never returns from the store, and
// is left behind with it.
func New(store *kv.Store, log Log, inline Inline) *Committer {
	c := &Committer{
		store:   store,
		log:     log,
		inline:  inline,
		batch:   store.NewBatch(),
		bell:    wake.NewBell(),
		back:    wake.NewBell(),
		ended:   make(chan struct{}),
		watched: make(chan struct{}),
		full:    make(chan struct{}),
		running: true,
	}
	go c.run()
	go c.watch()
	return c
}

// Do has the request committed and waits for it. When it returns nil, the
// request is done and published. It returns the request's Err if the Log set it,
// an error that matches ErrUnknown if the caller had to give up while the
// request was on its way, and any other error if nothing was done.
//
// After ErrUnknown the request still belongs to the committer: do not reuse it.
func (c *Committer) Do(ctx context.Context, r *Request) error {
	own, err := c.enqueue(ctx, r)
	if err != nil {
		return err
	}
	if own != nil && c.runInline(own, r) {
		return c.outcome(r)
	}
	if r.done == nil && c.lookOut(r) {
		return c.outcome(r)
	}
	interrupt := ctx.Done()
	if interrupt == nil {
		<-r.done
		return c.outcome(r)
	}
	select {
	case <-r.done:
		return c.outcome(r)
	case <-interrupt:
		if c.withdraw(r) {
			return context.Cause(ctx)
		}
		return c.giveUp(r, context.Cause(ctx))
	}
}

// lookOut looks a few times whether the first request of a group has ended, and gives it
// a channel if it has not.
func (c *Committer) lookOut(r *Request) (ended bool) {
	for range maxSpins {
		if r.ended.Load() {
			return true
		}
		runtime.Gosched()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.ended.Load() {
		return true
	}
	r.of.first = nil
	r.done = r.of.channel(r.Essential)
	return false
}

// outcome returns how the request has ended.
func (c *Committer) outcome(r *Request) error {
	if r.fate == committed { // else its group was not taken, or the store takes no more
		c.comeBack(r)
	}
	switch r.fate {
	case full:
		return c.store.Shortage()
	case refused:
		return cmp.Or(c.store.Err(), kv.ErrClosed)
	case unknown:
		return fmt.Errorf("%w: %w", ErrUnknown, c.store.Err())
	default:
		return r.Err
	}
}

// giveUp sets the outcome to unknown, unless it has just become known.
func (c *Committer) giveUp(r *Request, cause error) error {
	select {
	case <-r.done:
		return c.outcome(r)
	default:
		c.comeBack(r)
		return fmt.Errorf("%w: %w", ErrUnknown, cause)
	}
}

// comeBack notes that the caller of a request that was taken leaves Do.
func (c *Committer) comeBack(r *Request) {
	if !r.alone {
		c.leave(r.of)
	}
}

// leave notes that a caller of the group, or the committer itself, needs it no more. The
// last one recycles it, and lets the committer go on if it waits for that.
func (c *Committer) leave(g *group) {
	if g.away.Add(-1) == 0 {
		c.took.Store(int64(time.Since(g.released)))
		c.recycle(g)
		c.back.Ring()
	}
}

// returnTime is how long the callers of a group took at last to come back.
func (c *Committer) returnTime() time.Duration { return time.Duration(c.took.Load()) }

// enqueue adds the request to the last waiting group, or to a new one. While too
// much waits already it waits outside. It returns the group if the caller is to
// run it.
func (c *Committer) enqueue(ctx context.Context, r *Request) (own *group, err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	for c.queued > 0 && c.queued+r.Bytes > maxQueuedBytes && !c.closed {
		if err := c.waitForSpaceLocked(ctx, r.Essential); err != nil {
			c.mu.Unlock()
			return nil, err
		}
	}
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, kv.ErrClosed
	case c.store.ReadOnly():
		return nil, kv.ErrReadOnly
	case c.store.Err() != nil:
		return nil, c.store.Err()
	case c.isFull && !r.Essential:
		return nil, c.store.Shortage()
	}
	g := c.openGroupLocked(r.Bytes)
	r.of, r.group, r.slot = g, g.number, len(g.requests)
	if r.slot == 0 {
		g.first = r
	} else {
		r.done = g.channel(r.Essential)
	}
	g.requests = append(g.requests, r)
	g.live++
	g.bytes += r.Bytes
	c.queued += r.Bytes
	if !c.running && len(c.queue) == 1 && g.live == 1 && c.mayRunLocked(r) {
		c.running = true
		return c.takeLocked(), nil
	}
	if !c.running && len(g.requests) == 1 {
		c.wakeUp()
	}
	return nil, nil
}

// mayRunLocked reports whether the caller of a request runs its group if nobody else runs any.
// Where several callers have shared the last group, those who come while one of them ran the
// next would have to wait until the goroutine was woken.
func (c *Committer) mayRunLocked(r *Request) bool {
	return c.inline == AlwaysInline || c.inline == PromptInline && r.Prompt && c.lastLive <= 1
}

// wakeUp has the goroutine look whether groups are waiting.
func (c *Committer) wakeUp() {
	c.bell.Ring()
}

// waitForSpaceLocked gives up the mutex until some of what waits was taken.
func (c *Committer) waitForSpaceLocked(ctx context.Context, essential bool) error {
	if c.space == nil {
		c.space = make(chan struct{})
	}
	space, full := c.space, c.full
	if essential {
		full = nil
	}
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-space:
		return nil
	case <-full:
		return c.store.Shortage()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.store.Failed():
		return c.store.Err()
	}
}

func (c *Committer) openGroupLocked(bytes int) *group {
	if n := len(c.queue); n > 0 {
		if g := c.queue[n-1]; g.live == 0 || g.bytes+bytes <= maxGroupBytes {
			return g
		}
	}
	g := c.spare
	c.spare = nil
	if g == nil {
		g = &group{}
	}
	c.next++
	g.number = c.next
	c.queue = append(c.queue, g)
	return g
}

// withdraw takes the request out of the queue, if it is still there.
func (c *Committer) withdraw(r *Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.group <= c.taken || r.fate != committed {
		return false
	}
	for _, g := range c.queue {
		if g.number == r.group {
			c.dropLocked(g, r)
		}
	}
	return true
}

// dropLocked takes the request out of a group that waits.
func (c *Committer) dropLocked(g *group, r *Request) {
	g.requests[r.slot] = nil
	g.live--
	g.bytes -= r.Bytes
	if g.live == 0 { // a stalled disk must not make the slots grow forever
		g.requests = g.requests[:0]
	}
	c.releaseLocked(r.Bytes)
}

func (c *Committer) releaseLocked(bytes int) {
	c.queued -= bytes
	if c.space != nil {
		close(c.space)
		c.space = nil
	}
}

// SetFull notes whether the disk is full. If it is, requests that wait are
// refused, those on their way stay on it. It does not block: the file system
// under the store calls it.
func (c *Committer) SetFull(isFull bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isFull == c.isFull {
		return
	}
	c.isFull = isFull
	if !isFull {
		c.full = make(chan struct{})
		return
	}
	close(c.full)
	for _, g := range c.queue {
		for _, r := range g.requests {
			if r != nil && !r.Essential {
				r.fate = full
				c.dropLocked(g, r)
				if r == g.first {
					g.endFirst()
				}
			}
		}
		if g.done != nil {
			close(g.done)
			g.done = nil
		}
	}
}

// watch waits until the store fails, or the other goroutine has ended, and then ends
// every request that is left. Close waits for it.
//
// The goroutine leaves requests behind if the store takes no more batches though it has
// not failed: it is closed before the committer when it was given up while its disk was
// full, and there may be space again before it is abandoned.
func (c *Committer) watch() {
	defer close(c.watched)
	select {
	case <-c.store.Failed():
	case <-c.ended:
	}
	c.endAll()
}

// endAll ends the requests that wait, and those of the group that is run. No request
// comes after it, since enqueue looks for a failure, and for closed, under the mutex.
func (c *Committer) endAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store.Err() == nil {
		c.closed = true
	}
	if g := c.current; g != nil {
		c.current = nil
		fate := c.fateOfTaken()
		for _, r := range g.requests {
			r.fate = fate
		}
		g.endFirst()
		g.release()
	}
	for _, g := range c.queue {
		for _, r := range g.requests {
			if r != nil {
				r.fate = refused
			}
		}
		c.releaseLocked(g.bytes)
		g.endFirst()
		g.release()
	}
	c.queue = nil
}

// fateOfTaken returns what becomes of a group that was taken and not committed.
func (c *Committer) fateOfTaken() fate {
	if c.store.Err() == nil { // an error that Commit returns has refused the batch
		return refused
	}
	return unknown
}

// Ended returns a channel that is closed when the outcome of every request is known and no
// other one will be taken: after Close, or when the store has failed.
func (c *Committer) Ended() <-chan struct{} { return c.watched }

// Close refuses new requests, lets those that wait be committed, and returns
// true when the goroutine has ended. It leaves it behind, and returns false, if
// the context ends, or the store has failed, or is full and gives no sign that it
// will go on.
func (c *Committer) Close(ctx context.Context) bool {
	c.mu.Lock()
	c.closed = true
	if c.space != nil { // those who wait outside shall see that it is closed
		close(c.space)
		c.space = nil
	}
	c.wakeUp()
	full := c.full
	c.mu.Unlock()
	select {
	case <-c.watched: // it waits for the other goroutine
		return c.store.Err() == nil
	case <-ctx.Done():
		return false
	case <-full:
	}
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-c.watched:
		return c.store.Err() == nil
	case <-ctx.Done():
	case <-patience.C:
	}
	return false
}
