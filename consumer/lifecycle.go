package consumer

import (
	"errors"
	"fmt"
	"slices"
)

// This file has the states of a worker and of a hold, and which may follow which. The
// package documentation draws them. A transition that is not listed is a bug of this
// package. It does not happen, and the worker ends with an error: no lease is at risk, as
// its epoch fences it, but nothing is known of who holds what.

// errTransition is the class of transitions that are not listed.
var errTransition = errors.New("consumer: bug in package consumer")

// workerState is where a worker is in its life.
type workerState int

const (
	workerMade       workerState = iota // Run was not called, or has not begun to work
	workerRunning                       // it gets leases
	workerLeaving                       // it gets none any more, and gives back those that it has
	workerAbandoning                    // its processors were not in time: who does not return is left behind
	workerLeft                          // it has no lease any more
)

var workerTransitions = [...][]workerState{
	workerMade:       {workerRunning},
	workerRunning:    {workerLeaving},
	workerLeaving:    {workerAbandoning, workerLeft},
	workerAbandoning: {workerLeft},
	workerLeft:       {},
}

func (s workerState) String() string {
	return [...]string{"made", "running", "leaving", "abandoning", "left"}[s]
}

// enterLocked changes the state of the worker, if that may be. It is called with the
// group's mutex.
func (w *Worker) enterLocked(next workerState) {
	if !slices.Contains(workerTransitions[w.state], next) {
		w.fail(fmt.Errorf("%w: worker %q is %s, and cannot be %s", errTransition, w.cfg.WorkerID, w.state, next))
		return
	}
	w.state = next
}

// isLeavingLocked reports whether the worker is to get no lease any more.
func (w *Worker) isLeavingLocked() bool { return w.state >= workerLeaving }

// holdState is where a hold is in its life. That its lease was lost is not a state: any
// goroutine may find out, at any time, and it shows by the end of the hold's ctx.
type holdState int

const (
	holdRunning   holdState = iota // its goroutine reads and calls the processor
	holdFailed                     // an error has stopped the shard; its goroutine waits to be told what next
	holdEnding                     // the group has told it to end
	holdAbandoned                  // the processor is no longer to be called, whatever its goroutine does
	holdEnded                      // its goroutine has returned
)

var holdTransitions = [...][]holdState{
	holdRunning:   {holdFailed, holdEnding, holdAbandoned, holdEnded},
	holdFailed:    {holdEnding, holdAbandoned, holdEnded},
	holdEnding:    {holdAbandoned, holdEnded},
	holdAbandoned: {holdEnded},
	holdEnded:     {},
}

func (s holdState) String() string {
	return [...]string{"running", "failed", "ending", "abandoned", "ended"}[s]
}

// enterLocked changes the state of the hold, if that may be. It is called with its mutex.
func (h *hold) enterLocked(next holdState) {
	if !slices.Contains(holdTransitions[h.state], next) {
		h.worker.fail(fmt.Errorf("%w: the hold of %q is %s, and cannot be %s", errTransition, h.key, h.state, next))
		return
	}
	h.state = next
}

func (h *hold) currentState() holdState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// noteEnding notes that the group has told the hold to end; once is enough.
func (h *hold) noteEnding() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state < holdEnding {
		h.enterLocked(holdEnding)
	}
}

// abandon ends all calls of the processor. It returns false if the hold has ended.
func (h *hold) abandon() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == holdEnded {
		return false
	}
	if h.state != holdAbandoned {
		h.enterLocked(holdAbandoned)
	}
	return true
}

// noteEnded notes that the goroutine of the hold has returned.
func (h *hold) noteEnded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.enterLocked(holdEnded)
}

func (h *hold) isEnded() bool { return h.currentState() == holdEnded }

// hasFailed reports whether an error has stopped the shard, even if the hold is ending
// meanwhile.
func (h *hold) hasFailed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failure != nil
}
