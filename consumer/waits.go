package consumer

import (
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// Call is a call of a processor or of one of its hooks that has not returned.
type Call struct {
	// Method is the one that was called: "ProcessRecords", "Initialize", "TipReached",
	// "ShutdownRequested", "ShardEnded", "LeaseLost", "OnGap", or "PerLease" for the
	// function given to it.
	Method string

	Since   time.Time // when it was called
	Attempt int       // 1 for the first call with these records, or of this hook

	// The records that ProcessRecords was given: how many, and the sequence numbers of
	// the first and the last one. They are zero for hooks.
	Records     int
	First, Last braid.SequenceNumber
}

// What a shard can wait for, as ShardStatus.Wait has it.
const (
	waitRecords    = "records"
	waitProcessor  = "processor"
	waitDone       = "acknowledgements"
	waitRetry      = "retry"
	waitCheckpoint = "checkpoint"
	waitSource     = "source"
	waitParents    = "parents"
	waitResume     = "resume"
	waitWorker     = "worker"
)

// beginCall notes a call, unless nobody may call the processor any more.
func (h *hold) beginCall(call *Call) (may bool) {
	call.Since = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.silent {
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

// noteWait notes what the goroutine of the hold is going to wait for.
func (h *hold) noteWait(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waits = what
}

// describeLocked fills in what the hold does.
func (h *hold) describeLocked(s *ShardStatus) {
	s.Owner = h.worker.cfg.WorkerID
	s.Attempt, s.Err = h.attempt, h.err
	switch {
	case h.failed:
		s.State = "failed"
	case h.reading.Err() != nil:
		s.State = "handing over"
	case h.err != nil:
		s.State = "retrying"
	default:
		s.State = "running"
	}
	switch {
	case len(h.calls) > 0:
		oldest := *h.calls[0]
		s.Wait, s.Call = waitProcessor, &oldest
	case h.failed:
		s.Wait = waitResume
	case h.err != nil:
		s.Wait = waitRetry
	case h.storing > 0:
		s.Wait = waitCheckpoint
	default:
		s.Wait = h.waits
	}
}
