package kv

import (
	"sync/atomic"

	"github.com/braidstream/braid/internal/wake"
)

// gate counts the running calls of a type that can be closed.
//
// Invariant: after wait has returned, no call is inside and none ever enters.
// TestGate verifies that. It is on the path of every commit and every page read, so
// it is two atomic additions and no mutex.
type gate struct {
	state   atomic.Int64 // the number of calls inside, and shutBit
	drained wake.Bell    // rings when the last call may have left
}

// shutBit is set in a gate's state once it is shut.
const shutBit = 1 << 62

func newGate() gate { return gate{drained: wake.NewBell()} }

// enter admits the caller, which must call leave, or returns ErrClosed.
func (g *gate) enter() error {
	if g.state.Add(1)&shutBit != 0 {
		g.leave()
		return ErrClosed
	}
	return nil
}

func (g *gate) leave() {
	if g.state.Add(-1) == shutBit {
		g.drained.Ring()
	}
}

// shut refuses all later calls of enter. It reports whether the gate was open.
func (g *gate) shut() bool { return g.state.Or(shutBit)&shutBit == 0 }

// empty reports whether the gate is shut and no call is inside.
func (g *gate) empty() bool { return g.state.Load() == shutBit }

// wait returns when no call is inside. Only one goroutine may wait, after shut.
func (g *gate) wait() {
	for !g.empty() {
		<-g.drained.C()
	}
}
