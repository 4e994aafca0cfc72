package guardfs

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Space is the state of free space, and of the other resources that an operation may wait for: see
// [IsShortage].
type Space int32

// The states of space.
const (
	Enough Space = iota // no sign of shortage
	Low                 // free space is below the reserve; operations succeed
	None                // an operation waits for space, or another resource
)

// String names the state.
func (s Space) String() string {
	switch s {
	case Enough:
		return "enough"
	case Low:
		return "low"
	case None:
		return "none"
	default:
		return "unknown"
	}
}

// The times between two checks for space.
const (
	minSpaceWait = 20 * time.Millisecond
	maxSpaceWait = time.Second
)

// Space returns the state that was last passed to OnSpace.
func (g *FS) Space() Space { return Space(g.space.Load()) }

// IsNoSpace reports whether the error is a full disk or an exhausted quota.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || isNoSpaceHere(err)
}

// IsNoResource reports whether the error is a lack of a resource that can become available without
// a change of the disk: file descriptors of the process (EMFILE) or of the machine (ENFILE), or
// memory of the kernel (ENOMEM). With each of them, the operation has not begun.
func IsNoResource(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || isNoResourceHere(err)
}

// IsShortage reports whether the error is a lack of space or of a resource. Such an error may pass
// by itself, so the operation is worth repeating.
func IsShortage(err error) bool { return IsNoSpace(err) || IsNoResource(err) }

// Shortage returns what is missing while the state is not [Enough], or nil.
func (g *FS) Shortage() error {
	switch g.Space() {
	case None:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.lack
	case Low:
		return fmt.Errorf("ReserveBytes keeps %d bytes free on the disk of %s, and %d are free", g.cfg.ReserveBytes, g.cfg.Dir, g.free.Load())
	default:
		return nil
	}
}

// spaceLocked determines the state.
func (g *FS) spaceLocked() Space {
	switch {
	case g.waiting > 0 || g.starved:
		return None
	case g.low:
		return Low
	default:
		return Enough
	}
}

// updateSpace runs change, which changes fields that the state depends on, and passes a new state
// to OnSpace.
//
// Invariant: OnSpace sees states in the order in which they changed, and its last call has the
// current one. Only one goroutine at a time calls it; if another changes the state meanwhile, the
// first one calls OnSpace for it, too.
func (g *FS) updateSpace(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
	if g.telling {
		return
	}
	g.telling = true
	for now := g.spaceLocked(); now != g.Space(); now = g.spaceLocked() {
		g.space.Store(int32(now))
		g.mu.Unlock()
		g.cfg.OnSpace(now)
		g.mu.Lock()
	}
	g.telling = false
}

// spaceWait is one operation's wait for space.
type spaceWait struct {
	guard *FS
	delay time.Duration // zero before the first wait
}

// wait waits, longer each time, for the space or resource that lack names. It does not return
// after Abandon.
func (w *spaceWait) wait(lack error) {
	if w.delay == 0 {
		w.delay = minSpaceWait
		w.guard.updateSpace(func() {
			w.guard.waiting++
			w.guard.lack = lack
		})
	}
	w.guard.pause(w.delay)
	w.delay = min(2*w.delay, maxSpaceWait)
}

// done notes that the operation no longer waits.
func (w *spaceWait) done() {
	if w.delay != 0 {
		w.guard.updateSpace(func() { w.guard.waiting-- })
	}
}

// pause waits for d. It does not return after Abandon.
func (g *FS) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.broken:
		park()
	}
}

// checkReserve checks the free space after a file was created, and while a log grows.
func (g *FS) checkReserve() {
	if g.cfg.ReserveBytes <= 0 || !g.belowReserve() {
		return
	}
	g.updateSpace(func() {
		if g.low || g.stopped || g.cause != nil {
			return
		}
		g.low = true
		g.watcher.Go(g.watchReserve)
	})
}

// belowReserve reports whether free space is below the reserve. A file system that does not report
// its free space counts as having enough.
func (g *FS) belowReserve() bool {
	usage, err := g.real.GetDiskUsage(g.cfg.Dir)
	if err != nil {
		return false
	}
	g.free.Store(usage.AvailBytes)
	return usage.AvailBytes < uint64(g.cfg.ReserveBytes)
}

// watchReserve waits until the free space is above the reserve again. It is the only goroutine of
// the guard, and runs only while space is low. Close and a failure stop it; Close waits for it.
func (g *FS) watchReserve() {
	timer := time.NewTimer(minSpaceWait)
	defer timer.Stop()
	for delay := minSpaceWait; ; {
		select {
		case <-timer.C:
		case <-g.stop:
			return
		case <-g.failed:
			return
		}
		if !g.belowReserve() {
			g.updateSpace(func() { g.low = false })
			return
		}
		delay = min(2*delay, maxSpaceWait)
		timer.Reset(delay)
	}
}
