package consumer

import (
	"context"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// Status is an application at one time.
type Status struct {
	App     string
	Start   braid.Position // where it began
	Paused  bool           // as a whole
	Workers []string       // of this process
	Shards  []ShardStatus  // by stream and shard

	// AwaitedStreams do not exist, and are processed from their beginning when they
	// do: those that [Config].Streams of the workers here name, or, without a worker,
	// those that the application has ever been given. AwaitedDeadLetterStreams are
	// those that workers here name and that do not exist: records that fail wait.
	AwaitedStreams, AwaitedDeadLetterStreams []string

	// DeadLetterStreams are all that workers of this process name, whether they exist or
	// not. Without a worker here there are none, as they are not stored.
	DeadLetterStreams []string

	// PausedStreams are those that [App.Pause] has paused as a whole. Paused above, a
	// stream here and Paused of a shard each need a Resume of their own.
	PausedStreams []string

	// StoppedStreams are those whose shards are not known, by a [PermanentError], until
	// [App.Resume].
	StoppedStreams []ShardError `json:",omitempty"`

	// Totals of what is not processed, and the age of the oldest such record.
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration
}

// ShardState is what an application does in a shard, in one word: as text and in JSON it
// is that of the constant.
type ShardState string

const (
	// StateRunning means that a worker processes the shard, or waits for its records.
	StateRunning ShardState = "running"

	// StateRetrying means that something has failed and is tried again: Attempt and Err
	// of the [ShardStatus] say what.
	StateRetrying ShardState = "retrying"

	// StateHandingOver means that the owner of the lease finishes its batch, and gives
	// the lease to another worker, or back.
	StateHandingOver ShardState = "handing over"

	// StateFailed means that the shard is stopped until [App.Resume]; Err says why.
	StateFailed ShardState = "failed"

	// StatePaused means that [App.Pause] has paused the shard, its stream or the
	// application.
	StatePaused ShardState = "paused"

	// StateWaiting means that the parents in WaitingFor are to be processed first.
	StateWaiting ShardState = "waiting"

	// StateUnowned means that no worker has taken the shard.
	StateUnowned ShardState = "unowned"

	// StateDone means that the shard is closed and all of it was processed.
	StateDone ShardState = "done"
)

// ShardWait is what a shard waits for that is neither stopped nor in a call, in one word:
// as text and in JSON it is that of the constant.
type ShardWait string

const (
	// WaitRecords is for records to be put, or for Linger.
	WaitRecords ShardWait = "records"

	// WaitAcknowledgements is for records that were given out to be done, with Lanes or
	// [Acks], or for a checkpoint at the end of the shard with [Manual].
	WaitAcknowledgements ShardWait = "acknowledgements"

	// WaitCheckpoint is for a checkpoint to be stored.
	WaitCheckpoint ShardWait = "checkpoint"

	// WaitSource is for records to be read.
	WaitSource ShardWait = "source"
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

// ShardStatus is what an application does in a shard at one time.
type ShardStatus struct {
	LeaseKey

	State ShardState

	// Wait is what the shard waits for while it is running or handed over and Call is nil.
	// It is empty otherwise, as State says it then, and for a shard of a worker in another
	// process. No shard ever waits for MaxBytes: see [Config].
	Wait ShardWait

	// Call is the call of the processor or a hook that has not returned, nil if there is
	// none; with Lanes, the oldest one. One that is old shows a processor that hangs, and
	// at which records.
	Call *Call

	Owner      string // the worker that has the lease; empty for none
	Epoch      uint64
	Checkpoint Checkpoint
	Paused     bool // itself, by [App.Pause]; see also Paused and PausedStreams of [Status]
	WaitingFor []braid.ShardID

	// Attempt and Err are of what is tried again, with Lanes of the oldest such, or Err is
	// what has stopped the shard. Err also says why what follows is not known.
	Attempt int
	Err     error

	// What comes after the checkpoint: how much, and the age of the first record. BehindLatest
	// without BehindRecords is how far the source has yet to look whether a record follows.
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration
}

// CaughtUp reports whether everything was processed that there was when the status
// was taken. An application that has not met its streams yet has not caught up.
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

// Status returns what the application does. Errors: [ErrAppNotFound] if nothing is
// stored of it; those of the store and the source.
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

// status describes a shard with its hold, which is nil if nobody here has it.
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
	case h != nil:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.describeLocked(&s)
	case it.paused:
		s.State = StatePaused
	case len(it.waiting) > 0:
		s.State = StateWaiting
	case remote && it.lease.Owner != "":
		s.State, s.Owner = StateRunning, it.lease.Owner // as far as is known here
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
	case !page.AtTip: // no record was found yet, and one may follow
		s.BehindLatest = max(1, page.BehindLatest)
	}
}
