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

// ShardWait is what a shard waits for, in one word: as text and in JSON it is that of the
// constant.
type ShardWait string

const (
	// WaitRecords is for records to be put, or for Linger.
	WaitRecords ShardWait = "records"

	// WaitProcessor is for the Call of the [ShardStatus] to return.
	WaitProcessor ShardWait = "processor"

	// WaitAcknowledgements is for records that were given out to be done, with Lanes or
	// [Acks], or for a checkpoint at the end of the shard with [Manual].
	WaitAcknowledgements ShardWait = "acknowledgements"

	// WaitRetry is for the pause after an error.
	WaitRetry ShardWait = "retry"

	// WaitCheckpoint is for a checkpoint to be stored.
	WaitCheckpoint ShardWait = "checkpoint"

	// WaitSource is for records to be read.
	WaitSource ShardWait = "source"

	// WaitParents is for the shards in WaitingFor to be done.
	WaitParents ShardWait = "parents"

	// WaitResume is for [App.Resume].
	WaitResume ShardWait = "resume"

	// WaitWorker is for a worker to take the lease.
	WaitWorker ShardWait = "worker"
)

// beginCall notes a call, unless nobody may call the processor any more.
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

// noteWait notes what the goroutine of the hold is going to wait for.
func (h *hold) noteWait(what ShardWait) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waits = what
}

// describeLocked fills in what the hold does.
func (h *hold) describeLocked(s *ShardStatus) {
	s.Owner = h.worker.cfg.WorkerID
	s.Attempt, s.Err = h.attempt, h.err
	switch {
	case h.failure != nil:
		s.State = StateFailed
	case h.reading.Err() != nil:
		s.State = StateHandingOver
	case h.err != nil:
		s.State = StateRetrying
	default:
		s.State = StateRunning
	}
	switch {
	case len(h.calls) > 0:
		oldest := *h.calls[0]
		s.Wait, s.Call = WaitProcessor, &oldest
	case h.failure != nil:
		s.Wait = WaitResume
	case h.err != nil:
		s.Wait = WaitRetry
	case h.storing > 0:
		s.Wait = WaitCheckpoint
	default:
		s.Wait = h.waits
	}
}
