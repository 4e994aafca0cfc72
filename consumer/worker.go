package consumer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/histogram"
	"github.com/braidstream/braid/internal/wake"
)

// Worker processes the shards of an application's streams, and shares them with the
// application's other workers. It comes from [New] or [NewTx], and works while Run runs.
// Its methods may be called from any number of goroutines.
type Worker struct {
	cfg       Config
	db        *braid.DB
	group     *group
	budget    *budget
	processor any // a Processor or a TxProcessor
	counts    counts

	mu      sync.Mutex              // guards the fields below
	stop    context.CancelCauseFunc // nil before Run
	failure error                   // why the worker cannot go on
	result  error                   // the result of Run

	stopping chan struct{} // closed by the first Stop
	hurry    chan struct{} // closed when the context of a Stop has ended
	failing  chan struct{} // closed when failure is set
	ended    chan struct{} // closed when Run has returned
	left     chan struct{} // closed by the group when the worker has no hold left

	// The group's mutex guards the fields below.
	state   workerState
	stopped []ShardError // shards that were stopped when the worker left
	held    int          // holds that have neither ended nor been given up
}

// New returns a worker that passes the records of config.Streams to a processor. Nothing
// happens before [Worker.Run]. Errors: braid.ErrInvalidArgument for the config or the
// processor, with what is allowed.
func New(db *braid.DB, config *Config, processor Processor) (*Worker, error) {
	return newWorker(db, config, processor, false)
}

// NewTx is [New] for a processor whose effects in the database happen exactly once.
func NewTx(db *braid.DB, config *Config, processor TxProcessor) (*Worker, error) {
	return newWorker(db, config, processor, true)
}

func newWorker(db *braid.DB, config *Config, processor any, transactional bool) (*Worker, error) {
	cfg, err := config.withDefaults(db, transactional)
	if err != nil {
		return nil, err
	}
	if err := checkProcessor(processor); err != nil {
		return nil, err
	}
	group := groupOf(db, &cfg)
	group.noteMade(1)
	return &Worker{
		cfg:       cfg,
		db:        db,
		group:     group,
		budget:    newBudget(cfg.MaxBytes, cfg.BatchBytes),
		processor: processor,
		stopping:  make(chan struct{}),
		hurry:     make(chan struct{}),
		failing:   make(chan struct{}),
		ended:     make(chan struct{}),
		left:      make(chan struct{}),
	}, nil
}

// App returns the worker's application, to inspect and control it.
func (w *Worker) App() *App { return &App{w.group} }

// Run processes records until ctx ends or [Worker.Stop] is called. It then lets the
// processors finish their current batches, calls their hooks, gives its leases back and
// returns nil. Nothing of the worker runs any more. If that takes longer than
// HandOverTimeout, or than the context of Stop, Run returns a [HungShardsError]. If
// shards of the worker are still stopped by errors, it returns a [StoppedShardsError]
// with their causes; a stopped shard does not end Run. If several of these apply,
// [errors.As] finds each.
//
// Any other error is the reason why the worker cannot work: an error of the store, if it
// cannot be read when Run begins (later errors are logged and retried);
// braid.ErrInvalidArgument if Start is not where the application began, or Streams
// differs from that of its other workers, or the WorkerID is that of another worker;
// braid.ErrClosed and braid.ErrFailed if the database is closed or fails. Run can be
// called once.
func (w *Worker) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.mu.Lock()
	if w.stop != nil {
		w.mu.Unlock()
		return &braid.InvalidArgumentError{Field: "Worker", Rule: "must run only once: Run was called before"}
	}
	w.stop = stop
	if wake.IsClosed(w.stopping) {
		stop(nil)
	}
	w.mu.Unlock()
	err := w.run(ctx)
	w.group.noteMade(-1)
	w.mu.Lock()
	w.result = err
	w.mu.Unlock()
	close(w.ended)
	return err
}

func (w *Worker) run(ctx context.Context) error {
	if err := w.group.createApp(ctx, &w.cfg); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := w.group.join(w); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-w.failing:
	}
	return w.leave()
}

// leave gives all leases back, or abandons them.
func (w *Worker) leave() error {
	w.group.startLeaving(w)
	timeout := time.NewTimer(w.cfg.HandOverTimeout)
	defer timeout.Stop()
	var stuck []LeaseKey
	select {
	case <-w.left:
	case <-timeout.C:
		stuck = w.group.abandon(w)
	case <-w.stopping: // from here on the context of Stop decides
		select {
		case <-w.left:
		case <-w.hurry:
			stuck = w.group.abandon(w)
		}
	}
	w.mu.Lock()
	failure := w.failure
	w.mu.Unlock()
	return w.group.outcome(w, failure, stuck)
}

// Stop ends Run and waits until it has returned. The processors may finish their current
// batches until ctx ends. Then their contexts end with [ErrLeaseLost], and those that do
// not return at once are left behind: they are not called again, and their work no longer
// has any effect on the lease. Stop returns the result of Run, a [HungShardsError] in
// that case. Do not pass a context that a signal to the program has already ended: it
// leaves the processors no time.
func (w *Worker) Stop(ctx context.Context) error {
	w.mu.Lock()
	if !wake.IsClosed(w.stopping) {
		close(w.stopping)
	}
	stop := w.stop
	w.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop(nil)
	select {
	case <-w.ended:
	case <-ctx.Done():
		w.mu.Lock()
		if !wake.IsClosed(w.hurry) {
			close(w.hurry)
		}
		w.mu.Unlock()
		<-w.ended
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.result
}

// fail ends Run with an error.
func (w *Worker) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = err
		close(w.failing)
	}
}

// Metrics are counts of a worker since it was made.
type Metrics struct {
	Records, Bytes, Batches int64         // processed, including repetitions
	Processing              time.Duration // time spent in the processor, of all shards together
	Checkpoints             int64         // stored
	Failures                int64         // calls of the processor that returned an error
	Skipped, DeadLettered   int64         // failed records
	Gaps                    int64         // gaps left by retention
	LeasesTaken             int64         // leases taken, including those of the same shard again
	Stops                   int64         // shards that an error has stopped, counted each time

	// LastCheckpoint is when the worker last stored a checkpoint, of any shard. It is zero if
	// it has stored none.
	LastCheckpoint time.Time `json:",omitzero"`

	// ProcessTimes are the durations of calls of ProcessRecords, including the commit for a
	// TxProcessor. Latencies are the times from the arrival of the first record of a batch
	// until the batch was processed, one for each batch. For records of another source, the
	// clocks of both machines matter.
	ProcessTimes, Latencies braid.Histogram
}

// Metrics returns the worker's counts.
func (w *Worker) Metrics() Metrics {
	c := &w.counts
	m := Metrics{
		Records:      c.records.Load(),
		Bytes:        c.bytes.Load(),
		Batches:      c.batches.Load(),
		Processing:   time.Duration(c.processing.Load()),
		Checkpoints:  c.checkpoints.Load(),
		Failures:     c.failures.Load(),
		Skipped:      c.skipped.Load(),
		DeadLettered: c.deadLettered.Load(),
		Gaps:         c.gaps.Load(),
		LeasesTaken:  c.leasesTaken.Load(),
		Stops:        c.stops.Load(),
		ProcessTimes: companion.Histogram(&c.processTimes).(braid.Histogram),
		Latencies:    companion.Histogram(&c.latencies).(braid.Histogram),
	}
	if at := c.checkpointed.Load(); at != 0 {
		m.LastCheckpoint = time.Unix(0, at)
	}
	return m
}

type counts struct {
	records, bytes, batches, processing, checkpoints, failures, skipped, deadLettered, gaps atomic.Int64
	leasesTaken, stops                                                                      atomic.Int64

	checkpointed            atomic.Int64 // Unix time in nanoseconds of the last stored checkpoint; 0 for none
	processTimes, latencies histogram.Recorder
}

func (c *counts) noteCheckpoint() {
	c.checkpoints.Add(1)
	c.checkpointed.Store(time.Now().UnixNano())
}

// noteCall measures a call of ProcessRecords that has returned.
func (c *counts) noteCall(took time.Duration) {
	c.processing.Add(int64(took))
	c.processTimes.Observe(took)
}
