package kv

import (
	"sync/atomic"

	"github.com/braidstream/braid/internal/wake"
)

// gate counts the calls that are inside of something that can be shut.
//
// Invariant: after wait has returned, no call is inside and none ever enters.
// TestGate holds it. It is on the path of every commit and every page read, so
// it is two atomic additions and no mutex.
type gate struct {
	state   atomic.Int64 // how many are inside, and shutBit
	drained wake.Bell    // rings when the last one may have left
}

// shutBit is set in a gate's state once it is shut.
const shutBit = 1 << 62

func newGate() gate { return gate{drained: wake.NewBell()} }

// enter admits the caller, who must leave, or returns ErrClosed.
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

// shut refuses all who come from now on. It reports whether the gate was open.
func (g *gate) shut() bool { return g.state.Or(shutBit)&shutBit == 0 }

// empty reports whether nobody is inside a gate that was shut.
func (g *gate) empty() bool { return g.state.Load() == shutBit }

// wait returns when nobody is inside. Only one goroutine may wait, after shut.
func (g *gate) wait() {
	for !g.empty() {
		<-g.drained.C()
	}
}
