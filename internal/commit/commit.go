// Package commit makes every change of a database: it collects the requests of all goroutines
// into groups, and one goroutine at a time commits each group with one batch and one fsync.
// That is the committer's goroutine, or, if nothing must wait for a disk, the caller's: see
// [Inline].
//
// It knows queues, groups, cancellation and waking. It does not know the contents of requests:
// a [Log], which the root package implements, turns requests into rows and shows them to
// readers once they are durable.
//
// Invariant: a group's requests are applied, made durable and published before
// the next group is applied. So the order in which a [Log] numbers records is
// the order in which they become visible, and nothing is visible before it is
// durable. TestOrder verifies that.
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

// ErrUnknown reports that a request was being committed when its caller had to give up. It
// wraps the cause. Any other error of [Committer.Do] means that the request was refused:
// nothing of it was or will be done.
var ErrUnknown = errors.New("outcome is unknown")

const (
	// maxGroupBytes is the maximal size of a group. Much smaller groups already amortize an
	// fsync, and larger ones only make their callers wait longer. A larger request is a group
	// of its own.
	maxGroupBytes = 4 << 20

	// maxQueuedBytes limits the queued requests while the disk is slow. Further requests wait
	// outside the queue, until their contexts end, and take no memory in it.
	maxQueuedBytes = 64 << 20

	// maxYields is how often the committer yields to let a group grow, after the callers of the
	// last one have run. Callers that put again join this group instead of missing it, so there
	// are fewer and larger groups.
	maxYields = 4

	// maxSpins is how often the committer, and the first caller of a group, check again before
	// they sleep. Without an fsync a group takes less time than sleeping and waking. Spinning
	// also lets callers take turns: without it the caller that was just woken always comes
	// first, and of two conflicting transactions the same one always loses.
	maxSpins = 5

	// closePatience is how long Close waits while the disk is full.
	closePatience = time.Second
)

// A Log interprets requests. Its methods are called by one goroutine at a time, and each call
// sees the effects of the one before.
type Log interface {
	// Apply adds the rows of the requests to the batch, in order. It refuses a
	// request by setting its Err, and adds nothing for it. It reports whether
	// the batch must be durable before the group is published.
	Apply(requests []*Request, batch *kv.Batch) (sync bool)

	// Publish shows readers the rows that Apply has added. It is called once the batch is as
	// durable as Apply requested.
	Publish(requests []*Request)
}

// Request is one caller's change.
type Request struct {
	Op    any   // the change, which the Log interprets
	Bytes int   // the approximate size that it adds to a batch
	Err   error // set by the Log to refuse it

	// Essential lets the request through while the disk is full: it frees space.
	Essential bool

	// Prompt means that Apply never blocks on this request, and rarely requests durability for
	// it. With PromptInline the caller may run its group itself.
	Prompt bool

	// The fields below belong to the Committer. Its mutex guards them until the outcome is
	// known.
	done  chan struct{} // closed when the outcome is known; shared with others of the group
	ended atomic.Bool   // the same of the first of a group while it has no channel
	of    *group        // not to be used once the group was released, if alone
	alone bool          // the group was taken with this request only
	group uint64        // number of the group
	slot  int           // index in the group, until that is taken
	fate  fate
}

// fate is how a request ended.
type fate uint8

const (
	committed fate = iota // with its group: see Err
	full                  // refused: the disk became full before its group was taken
	refused               // the store failed before its group was taken, or accepted no more batches
	unknown               // the store failed after the group was taken
)

// Inline decides which callers run their groups themselves when the committer's goroutine is
// asleep, which is faster than waking it and being woken. A caller does not check its context
// while it runs its group.
type Inline uint8

const (
	// NeverInline is for a store whose commits usually wait for an fsync.
	NeverInline Inline = iota

	// PromptInline is for a store whose commits rarely wait for its disk. A caller with a
	// prompt request runs its group up to the first step that might wait, and leaves the rest
	// to the goroutine, so that it returns when its context ends, even if the disk hangs.
	PromptInline

	// AlwaysInline is for a store whose commits never wait, such as one in memory.
	AlwaysInline
)

// Committer runs the groups of one store.
type Committer struct {
	store   *kv.Store
	log     Log
	inline  Inline
	batch   *kv.Batch     // belongs to the goroutine that runs a group
	bell    wake.Bell     // rings when groups may be waiting
	back    wake.Bell     // rings when the last caller of a group has left Do
	took    atomic.Int64  // how long that took, in nanoseconds
	ended   chan struct{} // closed when the goroutine has returned
	watched chan struct{} // closed when the goroutine that waits for a failure has returned

	mu       sync.Mutex    // guards the fields below
	running  bool          // a goroutine runs groups
	current  *group        // the running group; nil for none
	left     *group        // the same if its caller has left it to the goroutine
	queue    []*group      // waiting groups, oldest first; only the last one grows
	spare    *group        // an ended group, for its memory
	next     uint64        // number of the group that the next request opens
	taken    uint64        // number of the last group taken from the queue
	lastLive int           // requests of that group
	lastOwn  bool          // it was one request, whose caller can run its next group itself
	queued   int           // bytes of the waiting groups
	space    chan struct{} // closed when queued shrinks; nil without waiters
	full     chan struct{} // closed while the disk is full
	isFull   bool
	closed   bool
	refused  bool // a batch that a caller committed: the Log holds changes that the store does not
}

// group is a set of requests that share a batch. Essential requests have a separate channel,
// since a full disk ends only the others. A caller waits for one channel and its context, so
// the end of a request always closes that channel. The first caller spins before it waits, and
// has no channel until then: if commits are fast, groups of one caller need none.
type group struct {
	number    uint64
	requests  []*Request // nil where a caller withdrew
	live      int        // requests that are not nil
	bytes     int
	first     *Request      // the request without a channel; nil once it has one
	away      atomic.Int32  // the goroutines that still need it after it was taken; unused for a lone caller
	released  time.Time     // the time at which its callers were woken
	applied   bool          // its rows are in the batch
	sync      bool          // the result of Apply
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

// release wakes the callers, except the one of endFirst.
func (g *group) release() {
	if g.done != nil {
		close(g.done)
	}
	if g.essential != nil {
		close(g.essential)
	}
}

// New starts a committer. Close stops it and waits for its goroutines, unless the store has
// failed: then one of them never returns from the store, and is abandoned with it.
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

// Do commits the request. When it returns nil, the request is done and published. It returns
// the request's Err if the Log set it, an error that matches ErrUnknown if the caller had to
// give up while the request was being committed, and any other error if nothing was done.
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

// lookOut checks a few times whether the first request of a group has ended, and gives it a
// channel if it has not.
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

// leave notes that a caller of the group, or the committer itself, no longer needs it. The last
// one recycles it, and wakes the committer if it waits for that.
func (c *Committer) leave(g *group) {
	if g.away.Add(-1) == 0 {
		c.took.Store(int64(time.Since(g.released)))
		c.recycle(g)
		c.back.Ring()
	}
}

// returnTime returns how long the callers of the last group took to leave Do.
func (c *Committer) returnTime() time.Duration { return time.Duration(c.took.Load()) }

// enqueue adds the request to the last waiting group, or to a new one. While the queue is full,
// it waits. It returns the group if the caller must run it.
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

// mayRunLocked reports whether the caller of a request may run its group if no goroutine runs
// any. If several callers shared the last group, callers that come while one of them runs the
// next would have to wait until the goroutine is woken.
func (c *Committer) mayRunLocked(r *Request) bool {
	return c.inline == AlwaysInline || c.inline == PromptInline && r.Prompt && c.lastLive <= 1
}

// wakeUp wakes the goroutine to check for waiting groups.
func (c *Committer) wakeUp() {
	c.bell.Ring()
}

// waitForSpaceLocked releases the mutex until a waiting group was taken.
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

// dropLocked removes the request from a waiting group.
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

// SetFull notes whether the disk is full. If it is, waiting requests are refused; those being
// committed are not. It does not block: the file system below the store calls it.
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

// watch waits until the store fails, or the other goroutine has ended, and then ends every
// remaining request. Close waits for it.
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

// endAll ends the waiting requests, and those of the running group. No request comes after it,
// since enqueue checks for a failure, and for closed, under the mutex.
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

// fateOfTaken returns the fate of a group that was taken and not committed.
func (c *Committer) fateOfTaken() fate {
	if c.store.Err() == nil { // an error that Commit returns has refused the batch
		return refused
	}
	return unknown
}

// Ended returns a channel that is closed when the outcome of every request is known and no more
// requests are accepted: after Close, or when the store has failed.
func (c *Committer) Ended() <-chan struct{} { return c.watched }

// Close refuses new requests, commits the waiting ones, and returns true when the goroutine has
// ended. It abandons the goroutine, and returns false, if the context ends, or the store has
// failed, or is full and stays so.
func (c *Committer) Close(ctx context.Context) bool {
	c.mu.Lock()
	c.closed = true
	if c.space != nil { // callers that wait for space must see that it is closed
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
