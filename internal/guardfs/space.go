package guardfs

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Space is what the guard knows about free space, and about the other resources
// that an operation may wait for: see [IsShortage].
type Space int32

// The states of space.
const (
	Enough Space = iota // no sign of shortage
	Low                 // less is free than the reserve; operations succeed
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

// How long to wait between two looks for space.
const (
	minSpaceWait = 20 * time.Millisecond
	maxSpaceWait = time.Second
)

// Space returns the state that was last told.
func (g *FS) Space() Space { return Space(g.space.Load()) }

// IsNoSpace reports whether the error is a full disk or an exhausted quota.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || isNoSpaceHere(err)
}

// IsNoResource reports whether the error is a lack of something that the process
// or the machine gets back without anybody's touching the disk: descriptors of the
// process (EMFILE) or of the machine (ENFILE), or memory of the kernel (ENOMEM).
// Each means that the operation has not begun.
func IsNoResource(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) || isNoResourceHere(err)
}

// IsShortage reports whether the error may pass by itself, so that the operation
// is worth waiting for.
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

// spaceLocked works the state out.
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

// updateSpace changes what the state is made of, and tells the new state.
//
// Invariant: the states told are in the order of the changes, and the last one
// told is the last one there was. One goroutine at a time tells; another that
// changes the state meanwhile leaves the telling to it.
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

// wait waits a while, longer each time, for what the error says is missing. It
// does not return after Abandon.
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

// checkReserve looks at the free space after a file was created, and while a log
// grows.
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

// belowReserve asks the file system. One that cannot tell has enough.
func (g *FS) belowReserve() bool {
	usage, err := g.real.GetDiskUsage(g.cfg.Dir)
	if err != nil {
		return false
	}
	g.free.Store(usage.AvailBytes)
	return usage.AvailBytes < uint64(g.cfg.ReserveBytes)
}

// watchReserve waits until the free space is above the reserve again. It is the
// only goroutine of the guard, and lives only while space is low. Close and the
// failure stop it; Close waits for it.
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
