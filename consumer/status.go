package consumer

import (
	"context"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// Status is the state of an application at one time.
type Status struct {
	App     string
	Start   braid.Position // where it began
	Paused  bool           // the whole application
	Workers []string       // of this process
	Shards  []ShardStatus  // by stream and shard

	// AwaitedStreams do not exist yet, and are processed from their beginning when they do.
	// They are those that [Config].Streams of the workers in this process name, or, without
	// such a worker, those that the application has ever been given. AwaitedDeadLetterStreams
	// are the dead-letter streams of these workers that do not exist: failed records wait for
	// them.
	AwaitedStreams, AwaitedDeadLetterStreams []string

	// DeadLetterStreams are all dead-letter streams of the workers in this process, whether
	// they exist or not. They are not stored, so without a worker the list is empty.
	DeadLetterStreams []string

	// PausedStreams are the streams that [App.Pause] has paused as a whole. The application
	// (Paused), a stream and a shard each need a Resume of their own.
	PausedStreams []string

	// StoppedStreams are streams that a [PermanentError] has stopped before their shards were
	// known, until [App.Resume].
	StoppedStreams []ShardError `json:",omitempty"`

	// Totals of the records that are not processed, and the age of the oldest one.
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration
}

// ShardState is what an application does with a shard, as one word.
type ShardState string

const (
	// StateRunning means that a worker processes the shard, or waits for its records.
	StateRunning ShardState = "running"

	// StateRetrying means that something has failed and is being retried: see Attempt and Err
	// of the [ShardStatus].
	StateRetrying ShardState = "retrying"

	// StateHandingOver means that the owner finishes its batch, and then hands the lease over
	// or gives it back.
	StateHandingOver ShardState = "handing over"

	// StateFailed means that the shard is stopped until [App.Resume]; Err says why.
	StateFailed ShardState = "failed"

	// StatePaused means that [App.Pause] has paused the shard, its stream or the
	// application.
	StatePaused ShardState = "paused"

	// StateWaiting means that the parents in WaitingFor must be processed first.
	StateWaiting ShardState = "waiting"

	// StateUnowned means that no worker has taken the shard.
	StateUnowned ShardState = "unowned"

	// StateDone means that the shard is closed and all of it was processed.
	StateDone ShardState = "done"
)

// ShardWait is what a running shard waits for while no call is in progress, as one word.
type ShardWait string

const (
	// WaitRecords means that it waits for records to be put, or for Linger.
	WaitRecords ShardWait = "records"

	// WaitAcknowledgements means that it waits for delivered records to be done, with Lanes
	// or [Acks], or for a checkpoint at the end of the shard with [Manual].
	WaitAcknowledgements ShardWait = "acknowledgements"

	// WaitCheckpoint means that it waits for a checkpoint to be stored.
	WaitCheckpoint ShardWait = "checkpoint"

	// WaitSource means that it waits for a read of records.
	WaitSource ShardWait = "source"
)

// Call is a call of a processor or of one of its hooks that has not returned yet.
type Call struct {
	// Method is "ProcessRecords", "Initialize", "TipReached", "ShutdownRequested",
	// "ShardEnded", "LeaseLost", "OnGap", or, for the function given to it, "PerLease".
	Method string

	Since   time.Time // when it was called
	Attempt int       // 1 for the first call with these records, or of this hook

	// Records is how many records ProcessRecords was given. First and Last are the sequence
	// numbers of the first and the last one. All are zero for hooks.
	Records     int
	First, Last braid.SequenceNumber
}

// ShardStatus is the state of a shard in an application at one time.
type ShardStatus struct {
	LeaseKey

	State ShardState

	// Wait is what the shard waits for while it is running or handed over and Call is nil. It
	// is empty in other states, and for a shard of a worker in another process. No shard ever
	// waits for MaxBytes: see [Config].
	Wait ShardWait

	// Call is the call of the processor or of a hook that has not returned, or nil. With
	// Lanes it is the oldest one. An old call shows a processor that hangs, and its records.
	Call *Call

	Owner      string // the worker that has the lease; empty for none
	Epoch      uint64
	Checkpoint Checkpoint
	Paused     bool // the shard itself, by [App.Pause]; see also Paused and PausedStreams of [Status]
	WaitingFor []braid.ShardID

	// Attempt and Err are those of the current retry (with Lanes, the oldest one), or Err is
	// the error that stopped the shard. Err can also be a *braid.TrimmedError: records were
	// removed before they were processed, and [Config].OnGap has not accepted the gap. Or Err
	// says why the fields below are unknown.
	Attempt int
	Err     error

	// BehindRecords and BehindBytes are how much comes after the checkpoint, and BehindLatest
	// is the age of the first such record. BehindLatest without BehindRecords is how far the
	// source still has to search for a following record.
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration
}

// CaughtUp reports whether everything that existed when the status was taken was
// processed. It is false if the application has not seen any of its streams yet.
func (s Status) CaughtUp() bool {
	for i := range s.Shards {
		if !s.Shards[i].caughtUp() {
			return false
		}
	}
	return len(s.Shards) > 0 && len(s.StoppedStreams) == 0
}

func (s *ShardStatus) caughtUp() bool {
	return s.BehindRecords == 0 && s.BehindLatest == 0 && len(s.WaitingFor) == 0 && s.Err == nil
}

// Status returns the state of the application. Errors: [ErrAppNotFound] if nothing is
// stored for it; those of the store and the source.
func (a *App) Status(ctx context.Context) (Status, error) {
	g := a.group
	s, err := a.look(ctx)
	if err != nil {
		return Status{}, err
	}
	for name, view := range s.streams {
		if view.err != nil && !isPermanent(view.err) {
			return Status{}, streamError(name, view.err)
		}
	}
	app := s.app()
	status := Status{App: g.app, Start: app.Checkpoint.Start, Paused: app.Paused}
	g.mu.Lock()
	for id := range g.workers {
		status.Workers = append(status.Workers, id)
	}
	holds := make(map[LeaseKey]*hold, len(g.holds))
	for key, h := range g.holds {
		holds[key] = h
	}
	g.mu.Unlock()
	slices.Sort(status.Workers)
	status.AwaitedStreams, status.AwaitedDeadLetterStreams = g.awaitedStreams(s), g.awaitedDeadLetters()
	status.DeadLetterStreams = g.deadLetterStreams()
	for name := range s.streams {
		if row := s.rows[LeaseKey{Stream: name}]; row != nil && row.Paused {
			status.PausedStreams = append(status.PausedStreams, name)
		}
	}
	slices.Sort(status.PausedStreams)
	status.StoppedStreams = g.stoppedStreams(s)
	for _, it := range s.sorted() {
		shard := it.status(holds[it.lease.LeaseKey], g.leases.LeaseDuration() > 0)
		g.measure(ctx, &shard)
		status.BehindRecords += shard.BehindRecords
		status.BehindBytes += shard.BehindBytes
		status.BehindLatest = max(status.BehindLatest, shard.BehindLatest)
		status.Shards = append(status.Shards, shard)
	}
	return status, nil
}

// status describes a shard with its hold, which is nil if no worker of this process has
// it.
func (it *item) status(h *hold, remote bool) ShardStatus {
	s := ShardStatus{
		LeaseKey:   it.lease.LeaseKey,
		State:      StateUnowned,
		Epoch:      it.lease.Epoch,
		Checkpoint: it.lease.Checkpoint,
		Paused:     it.lease.Paused,
		WaitingFor: it.waiting,
	}
	switch {
	case it.lease.Checkpoint.ShardEnd:
		s.State = StateDone
		return s
	case h != nil:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.describeLocked(&s)
	case it.paused:
		s.State = StatePaused
	case len(it.waiting) > 0:
		s.State = StateWaiting
	case remote && it.lease.Owner != "":
		s.State, s.Owner = StateRunning, it.lease.Owner // as far as this process knows
	}
	for i := range it.lease.Gaps {
		if gap := &it.lease.Gaps[i]; !gap.Accepted && s.Err == nil {
			s.Err = gap.trimmed()
		}
	}
	return s
}

// measure fills in what comes after the checkpoint.
func (g *group) measure(ctx context.Context, s *ShardStatus) {
	if s.Checkpoint.ShardEnd {
		return
	}
	page, err := g.records().Peek(ctx, s.Stream, s.Shard, s.Checkpoint.position())
	if err != nil {
		if s.Err == nil {
			s.Err = err
		}
		return
	}
	s.BehindRecords, s.BehindBytes = page.BehindRecords+int64(len(page.Records)), page.BehindBytes+int64(bytesOf(page.Records))
	switch {
	case len(page.Records) > 0:
		s.BehindLatest = max(1, time.Since(page.Records[0].ArrivalTime))
	case !page.AtTip: // no record was found so far, but one may follow
		s.BehindLatest = max(1, page.BehindLatest)
	}
}
