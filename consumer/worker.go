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

// Worker processes the shards of an application's streams: all of them if it is
// alone, and its share beside others. It comes from [New] or [NewTx], and works
// while Run runs.
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
	result  error                   // of Run

	stopping chan struct{} // closed by the first Stop
	hurry    chan struct{} // closed when the context of a Stop has ended
	failing  chan struct{} // closed when failure is set
	ended    chan struct{} // closed when Run has returned
	left     chan struct{} // closed by the group when nothing of the worker is held

	// What follows is guarded by the group's mutex.
	state   workerState
	stopped []ShardError // shards that stood stopped when the worker left
	held    int          // holds that have not ended, or are not given up
}

// New makes a worker that gives the records of config.Streams to a processor.
// Nothing happens before [Worker.Run]. Errors: braid.ErrInvalidArgument for the
// config or the processor, which says what is allowed.
func New(db *braid.DB, config *Config, processor Processor) (*Worker, error) {
	return newWorker(db, config, processor, false)
}

// NewTx is [New] for a processor whose effects are in the database, exactly once.
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

// App returns the worker's application, to look at it and to control it.
func (w *Worker) App() *App { return &App{w.group} }

// Run processes records until ctx ends or [Worker.Stop] is called. Then it lets
// the processors finish what they are at, calls their hooks, gives its leases back
// and returns nil: nothing of it runs any more. If that takes longer than
// HandOverTimeout, or than the context of Stop, it returns a [HungShardsError]. If shards of
// the worker were stopped by errors and nobody has resumed them, it returns a
// [StoppedShardsError], which says which and why; one stopped shard does not end Run.
// For more than one of these at once, [errors.As] finds each.
//
// Any other error says why the worker cannot work: that of the store, if it cannot be
// read when Run begins (later ones are logged, and it is tried again);
// braid.ErrInvalidArgument if
// Start is not what the application began with, or Streams not what its other
// workers have, or the WorkerID is that of one of them; braid.ErrClosed and
// braid.ErrFailed if the database ends under it. Run can be called once.
func (w *Worker) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.mu.Lock()
	if w.stop != nil {
		w.mu.Unlock()
		return &braid.InvalidArgumentError{Field: "Run", Value: "called again", Rule: "can be called once"}
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

// leave gives everything back, or up.
func (w *Worker) leave() error {
	w.group.startLeaving(w)
	timeout := time.NewTimer(w.cfg.HandOverTimeout)
	defer timeout.Stop()
	var stuck []LeaseKey
	select {
	case <-w.left:
	case <-timeout.C:
		stuck = w.group.abandon(w)
	case <-w.stopping: // from here on its caller decides
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

// Stop ends Run and waits until it has: the processors may finish what they are at
// until ctx ends. Then their contexts end, with [ErrLeaseLost], and those that do
// not return at once are left behind: they are not called again, and nothing of what
// they do counts. It returns what Run does: a [HungShardsError] for them. A ctx that ends
// with the program's own signal leaves them no time.
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

// Metrics are the counts of a worker since it was made.
type Metrics struct {
	Records, Bytes, Batches int64         // that were processed, even those that came again
	Processing              time.Duration // that the processor has taken, of all shards together
	Checkpoints             int64         // that were stored
	Failures                int64         // calls of the processor that returned an error
	Skipped, DeadLettered   int64         // records that have failed
	Gaps                    int64         // stretches that retention has removed
	LeasesTaken             int64         // shards that the worker has begun with, each time
	Stops                   int64         // shards that an error has stopped, until Resume, each time

	// LastCheckpoint is when the worker last stored a checkpoint, of whatever shard: zero if it
	// has stored none.
	LastCheckpoint time.Time `json:",omitzero"`

	// ProcessTimes are how long each call of ProcessRecords has taken, with the commit if it
	// is that of a TxProcessor. Latencies are how long after its arrival the first record of a
	// batch was processed, once for each batch; for records of another source by the clocks
	// of both machines.
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

	checkpointed            atomic.Int64 // when the last checkpoint was stored: Unix time in nanoseconds; 0 for none
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
