package awskinesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/jsontext"
	"github.com/braidstream/braid/internal/logs"
)

// Forwarder copies the records of a database stream to a Kinesis stream. The database stream is a
// durable outbox: records that a program puts there are stored at once, alone or in one transaction
// with other writes, and reach Kinesis when the network allows it.
//
// It is an application of package consumer. Its checkpoint passes a record only when Kinesis has
// stored it and all earlier records of its outbox shard, so a crash loses nothing. After a crash,
// the records after the checkpoint are put again. As long as a Forwarder runs, it stores each
// record once, except after attempts with an unknown outcome, as with any Kinesis client: see
// [Producer].
//
// All methods may be called by any number of goroutines.
type Forwarder struct {
	db     *braid.DB
	outbox string
	to     *Producer
	opts   ForwarderOptions // with defaults
	worker *consumer.Worker
	log    *slog.Logger
	counts forwardCounts
	room   room
	failed chan struct{} // closed when failure is set

	// dropping prevents records from being both forwarded and dropped. It is held while a batch is
	// noted as given to the forwarder, and while records are chosen and dropped.
	dropping turn

	mu      sync.Mutex // guards the fields below and every outboxShard and flight
	ran     bool       // Run was called
	shards  map[braid.ShardID]*outboxShard
	floor   time.Time // records that arrived earlier, and had not been given to the forwarder, were dropped
	failure error     // that ends Run
}

// ForwarderOptions are the settings of a [Forwarder]. The zero value of each field is a safe
// default.
type ForwarderOptions struct {
	// App is the name of the application whose leases store the progress: see
	// [consumer.Config].App. The default is "forward-" followed by the name of the outbox.
	// Forwarders from one outbox to several streams need different names.
	App string

	// Fast puts records even while earlier records of their partition key wait for a retry. By
	// default the order of each key is strict: a record is put only after all earlier records of
	// its key were stored by Kinesis, or taken by OnRefused or the DeadLetterStream. A batch of an
	// outbox shard (up to 1 MiB) waits until the previous batch is done. So a record that cannot be
	// put holds back its key at once, and from the next batch on its outbox shard; other shards
	// continue. An outbox with more shards puts more records at once.
	//
	// Fast does not wait for the previous batch, so a slow key or a throttled Kinesis shard holds
	// back other records less. The producer then keeps the order of each key, despite throttling,
	// network failures and reshards. But records that the service refused for another reason, such
	// as missing permissions, are retried after later records of their key.
	//
	// Use Fast if some keys or Kinesis shards are slower than others: the faster ones continue
	// until about 1 MiB of an outbox shard is in flight. The gain in throughput is small: a third
	// without aggregation, and almost none with it.
	Fast bool

	// MaxBytes and MaxAge bound the records that wait in the outbox: MaxBytes their partition keys
	// and data, and MaxAge the time since the oldest of them arrived. The default, 0, means no
	// bound; they must not be negative.
	//
	// By default, [Forwarder.PutRecord], [Forwarder.PutRecords] and [Forwarder.Admit] return
	// [ErrOutboxFull] beyond a bound, until Kinesis has stored enough. Records that are put to the
	// stream in other ways are not refused; they are counted within a second.
	MaxBytes int64
	MaxAge   time.Duration

	// DropOldest removes the oldest records from the outbox instead, with [braid.Stream.Trim], but
	// no more than the bounds require. It needs MaxBytes or MaxAge. Run checks the bounds once a
	// second. Dropped records are logged, and counted in [ForwarderStatus]. Records in flight to
	// Kinesis, up to about 1 MiB of each outbox shard, are neither counted nor dropped, unless the
	// process ends before they are stored. Trim removes records for all readers of the stream, so
	// use DropOldest only for a stream that is nothing but an outbox.
	DropOldest bool

	// OnRefused is called with each record that Kinesis permanently refuses, because it is too
	// large or invalid, and with the error. If it returns nil, the forwarder passes the record; if
	// it returns an error, it is called again after a pause. It may be called for several records
	// concurrently, and for the same record again after a crash. It must return when ctx ends.
	OnRefused func(ctx context.Context, record braid.Record, err error) error

	// DeadLetterStream is a stream of the database that gets the records that Kinesis permanently
	// refuses, each as a [consumer.DeadLetter]. It cannot be combined with OnRefused. Without
	// either, a refused record is retried every half minute, the ForwarderStatus and the log report
	// it, and with strict order its outbox shard waits.
	DeadLetterStream string

	// StopTimeout is how long the forwarder waits for records in flight when it is stopped or
	// paused. After that it gives them up, and puts them again when it resumes. The default is 30
	// s.
	StopTimeout time.Duration

	// Logger receives messages about records that are refused, dropped or cannot be put, and the
	// messages of package consumer. If it is nil, warnings and errors go to [slog.Default].
	Logger *slog.Logger
}

// NewForwarder returns a forwarder from the database stream named outbox to the producer's stream.
// It does nothing before [Forwarder.Run] is called. The outbox need not exist yet. nil options are
// safe defaults. The caller may also use the producer for other records, and closes it after Run
// has returned. Errors: [braid.ErrInvalidArgument].
func NewForwarder(db *braid.DB, outbox string, to *Producer, opts *ForwarderOptions) (*Forwarder, error) {
	f := &Forwarder{
		db:       db,
		outbox:   outbox,
		to:       to,
		room:     room{turn: newTurn()},
		failed:   make(chan struct{}),
		dropping: newTurn(),
		shards:   make(map[braid.ShardID]*outboxShard),
	}
	if opts != nil {
		f.opts = *opts
	}
	if f.opts.App == "" {
		f.opts.App = "forward-" + outbox
	}
	f.log = logs.OrDefault(f.opts.Logger).With("app", f.opts.App)
	if err := f.check(); err != nil {
		return nil, f.wrap("new forwarder", err)
	}
	var err error
	f.worker, err = consumer.New(db, &consumer.Config{
		App:             f.opts.App,
		Streams:         []string{outbox},
		Logger:          f.opts.Logger,
		Checkpoints:     consumer.Acks,
		MaxAttempts:     -1, // the forwarder itself handles failures
		HandOverTimeout: f.opts.StopTimeout,
	}, consumer.PerLease(f.newLease))
	if err != nil {
		return nil, f.wrap("new forwarder", err)
	}
	return f, nil
}

func (f *Forwarder) check() error {
	o := &f.opts
	switch {
	case f.db == nil:
		return invalid("db", nil, "must not be nil")
	case f.to == nil:
		return invalid("to", nil, "must not be nil")
	case o.MaxBytes < 0:
		return invalid("ForwarderOptions.MaxBytes", o.MaxBytes, "must not be negative")
	case o.MaxAge < 0:
		return invalid("ForwarderOptions.MaxAge", o.MaxAge, "must not be negative")
	case o.DropOldest && !f.isBounded():
		return invalid("ForwarderOptions.DropOldest", true, "must not be set without MaxBytes or MaxAge")
	case o.OnRefused != nil && o.DeadLetterStream != "":
		return invalid("ForwarderOptions.DeadLetterStream", o.DeadLetterStream, "must not be set together with OnRefused")
	case o.DeadLetterStream == f.outbox:
		return invalid("ForwarderOptions.DeadLetterStream", o.DeadLetterStream, "must not be the outbox")
	case o.StopTimeout < 0:
		return invalid("ForwarderOptions.StopTimeout", o.StopTimeout, "must not be negative")
	case o.DeadLetterStream != "":
		if err := braid.ValidateStreamName(o.DeadLetterStream); err != nil {
			return fmt.Errorf("ForwarderOptions.DeadLetterStream: %w", err)
		}
	}
	return nil
}

func (f *Forwarder) isBounded() bool { return f.opts.MaxBytes > 0 || f.opts.MaxAge > 0 }

func (f *Forwarder) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("awskinesis: %s %.300q: %w", op, f.outbox, err)
}

// Run forwards records until ctx ends or [Forwarder.Stop] is called. Then it waits for records in
// flight, up to StopTimeout, stores the checkpoints, and returns nil. Records that Kinesis has not
// confirmed by then are given up, and put again by the next forwarder.
//
// Errors: [braid.ErrClosed] if the producer was closed, and those of [consumer.Worker.Run], for
// example if the database was closed. Run can be called only once: a second call returns
// [braid.ErrInvalidArgument] at once, and does not affect the first.
func (f *Forwarder) Run(ctx context.Context) error {
	f.mu.Lock()
	again := f.ran
	f.ran = true
	f.mu.Unlock()
	if again {
		return f.wrap("forward", invalid("Run", "called again", "can be called only once"))
	}
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() {
		select {
		case <-f.failed:
			now, cancel := context.WithCancel(ctx)
			cancel()
			_ = f.worker.Stop(now) // returns the error of its Run
		case <-over.Done():
		}
	})
	if f.opts.DropOldest {
		f.keepWithinBounds(ctx) // before the first record is forwarded
		helpers.Go(func() { f.keepBounds(over) })
	}
	err := f.worker.Run(ctx)
	end()
	helpers.Wait()
	f.mu.Lock()
	shards := slices.Collect(maps.Values(f.shards))
	f.mu.Unlock()
	for _, sh := range shards {
		_ = f.waitForFlights(context.Background(), sh) // their contexts have ended
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wrap("forward", errors.Join(f.failure, err))
}

// Stop ends Run, waits until it has returned, and returns the same error. ctx replaces StopTimeout:
// records still in flight when ctx ends are given up.
func (f *Forwarder) Stop(ctx context.Context) error {
	return f.wrap("stop", f.worker.Stop(ctx))
}

// fail ends Run with an error.
func (f *Forwarder) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure == nil {
		f.failure = err
		close(f.failed)
	}
}

// App returns the forwarder's application. Use it to pause, resume or move the forwarder, or to
// wait until everything is forwarded: see [consumer.App]. A pause lasts across restarts.
func (f *Forwarder) App() *consumer.App { return f.worker.App() }

// ForwarderStatus is the state of a [Forwarder] at one moment. Its counts start at 0 when the
// Forwarder is created.
type ForwarderStatus struct {
	// Outbox is the status of the application: the backlog, in total and of each outbox shard, and
	// pauses. Its BehindRecords counts the records after the checkpoints.
	Outbox consumer.Status

	// Err is the reason why records in flight have to wait, or nil if they do not; Since is when
	// that began. Reasons are that Kinesis cannot be reached, throttles everything or refuses
	// records, or that OnRefused or the DeadLetterStream fails.
	Err   error     `json:",omitempty"`
	Since time.Time `json:",omitzero"`

	Forwarded, ForwardedBytes int64 // stored by Kinesis: records, and their partition keys and data
	Refused                   int64 // records taken by OnRefused or the DeadLetterStream
	Rejected                  int64 // records that PutRecord, PutRecords and Admit refused because the outbox was full; one per call of Admit
	Dropped, DroppedBytes     int64 // removed by DropOldest
	InFlight                  int64 // records that were read, and are not done yet
}

type (
	plainForwarderStatus ForwarderStatus
	jsonForwarderStatus  struct {
		*plainForwarderStatus
		Err jsontext.Error `json:",omitzero"`
	}
)

// MarshalJSON implements json.Marshaler. Err is its text.
func (s ForwarderStatus) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonForwarderStatus{(*plainForwarderStatus)(&s), jsontext.Error{Err: s.Err}})
}

// UnmarshalJSON implements json.Unmarshaler. Err is an error of that text.
func (s *ForwarderStatus) UnmarshalJSON(text []byte) error {
	in := jsonForwarderStatus{plainForwarderStatus: (*plainForwarderStatus)(s)}
	err := json.Unmarshal(text, &in)
	s.Err = in.Err.Err
	return err
}

// Status returns the state of the forwarder, and how far behind it is. Errors: those of
// [consumer.App.Status], such as [consumer.ErrAppNotFound] if the forwarder has never run.
func (f *Forwarder) Status(ctx context.Context) (ForwarderStatus, error) {
	outbox, err := f.App().Status(ctx)
	if err != nil {
		return ForwarderStatus{}, f.wrap("status", err)
	}
	s := ForwarderStatus{
		Outbox:         outbox,
		Forwarded:      f.counts.forwarded.Load(),
		ForwardedBytes: f.counts.forwardedBytes.Load(),
		Refused:        f.counts.refused.Load(),
		Rejected:       f.counts.rejected.Load(),
		Dropped:        f.counts.dropped.Load(),
		DroppedBytes:   f.counts.droppedBytes.Load(),
	}
	f.to.mu.Lock()
	link := f.to.trouble
	f.to.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	var oldest trouble
	for _, sh := range f.shards {
		for _, fl := range sh.flights.all() {
			if fl.lost {
				continue
			}
			s.InFlight += int64(fl.open)
			if t := fl.trouble; t.err != nil && (oldest.err == nil || t.since.Before(oldest.since)) {
				oldest = t
			}
		}
	}
	if link.err != nil && s.InFlight > 0 && (oldest.err == nil || link.since.Before(oldest.since)) {
		oldest = link
	}
	s.Err, s.Since = oldest.err, oldest.since
	return s, nil
}

type forwardCounts struct {
	forwarded, forwardedBytes, refused, rejected, dropped, droppedBytes atomic.Int64
}
