package consumer

import (
	"errors"
	"fmt"
	"slices"
)

// This file has the states of a worker and of a hold, and their transitions. The package
// documentation draws them. A transition that is not listed is a bug of this package. It
// is refused, and the worker ends with an error. No lease is at risk, since its epoch
// fences it, but it is no longer known who holds what.

// errTransition is the class of refused transitions.
var errTransition = errors.New("consumer: bug in package consumer")

// workerState is the state of a worker.
type workerState int

const (
	workerMade       workerState = iota // Run was not called, or has not joined the group
	workerRunning                       // it takes leases
	workerLeaving                       // it takes no more leases, and gives back those that it has
	workerAbandoning                    // its processors were too slow: those that do not return are left behind
	workerLeft                          // it has no leases left
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

// enterLocked changes the state of the worker, if the transition is allowed. The caller
// holds the group's mutex.
func (w *Worker) enterLocked(next workerState) {
	if !slices.Contains(workerTransitions[w.state], next) {
		w.fail(fmt.Errorf("%w: worker %q is %s, and cannot be %s", errTransition, w.cfg.WorkerID, w.state, next))
		return
	}
	w.state = next
}

// isLeavingLocked reports whether the worker takes no more leases.
func (w *Worker) isLeavingLocked() bool { return w.state >= workerLeaving }

// holdState is the state of a hold. The loss of its lease is not a state: any goroutine
// may discover it, at any time, and ends the hold's ctx.
type holdState int

const (
	holdRunning   holdState = iota // its goroutine reads and calls the processor
	holdFailed                     // an error has stopped the shard; its goroutine waits for a Resume or its end
	holdEnding                     // the group has asked it to end
	holdAbandoned                  // the processor must no longer be called, whatever the hold's goroutine does
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

// enterLocked changes the state of the hold, if the transition is allowed. The caller
// holds its mutex.
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

// noteEnding notes that the group ends the hold. It may be called again.
func (h *hold) noteEnding() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state < holdEnding {
		h.enterLocked(holdEnding)
	}
}

// abandon cuts the hold off from the processor. It returns false if the hold has ended.
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
