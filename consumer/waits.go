package consumer

import (
	"slices"
	"time"
)

// This file notes, for Status, what a hold does and what it waits for.

// beginCall notes a call. It returns false if the processor may no longer be called.
func (h *hold) beginCall(call *Call) (may bool) {
	call.Since = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state >= holdAbandoned {
		return false
	}
	h.calls = append(h.calls, call)
	return true
}

func (h *hold) endCall(call *Call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.calls, call)
	h.calls = slices.Delete(h.calls, i, i+1)
}

// beginStoring notes that a checkpoint is being stored, until endStoring.
func (h *hold) beginStoring() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.storing++
}

func (h *hold) endStoring() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.storing--
}

// noteWait notes what the hold's goroutine is about to wait for.
func (h *hold) noteWait(what ShardWait) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waits = what
}

// describeLocked fills in what the hold does.
func (h *hold) describeLocked(s *ShardStatus) {
	s.Owner = h.worker.cfg.WorkerID
	if len(h.retries) > 0 {
		s.Attempt, s.Err = h.retries[0].attempt, h.retries[0].err
	}
	if len(h.calls) > 0 {
		oldest := *h.calls[0]
		s.Call = &oldest
	}
	switch {
	case h.failure != nil:
		s.State, s.Err = StateFailed, h.failure
		return
	case h.reading.Err() != nil:
		s.State = StateHandingOver
	case len(h.retries) > 0:
		s.State = StateRetrying
		return
	default:
		s.State = StateRunning
	}
	switch {
	case s.Call != nil:
	case h.storing > 0:
		s.Wait = WaitCheckpoint
	default:
		s.Wait = h.waits
	}
}
