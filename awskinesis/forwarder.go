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

// Forwarder puts the records of a database's stream to a stream of Kinesis, which makes the
// first a durable outbox of the second: a record that a program puts there is stored at once,
// alone or in one transaction with other writes, and reaches Kinesis when the connection allows
// it.
//
// It is an application of package consumer: its checkpoint passes a record only when Kinesis
// has stored it and all records before it in their shard of the outbox, so a crash loses
// nothing. After a crash, records after the checkpoint are put again. While a Forwarder runs,
// it puts each record once, except after attempts with an unknown outcome, as with any client
// of Kinesis: see [Producer].
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

	// dropping keeps a record from being both forwarded and dropped. It is held while a batch
	// is given to the forwarder, and while records are chosen and dropped.
	dropping turn

	mu      sync.Mutex // guards the fields below and every outboxShard and flight
	ran     bool       // Run was called
	shards  map[braid.ShardID]*outboxShard
	floor   time.Time // earlier records that the forwarder had not been given were dropped
	failure error     // the error that ends Run
}

// ForwarderOptions are the settings of a [Forwarder]. The zero value of each field is a safe
// default.
type ForwarderOptions struct {
	// App is the name of the application whose leases store the progress, as App of
	// [consumer.Config]. The default is "forward-" and the name of the outbox. Forwarders of
	// one outbox to several streams need different names.
	App string

	// Fast puts records even while earlier ones of their key wait for a retry. By default the
	// order of each partition key is strict: no record is put before Kinesis has stored, or
	// OnRefused or the DeadLetterStream has taken, all earlier ones of its key. A batch of a
	// shard of the outbox (up to 1 MiB) waits until the one before it is done, so a record that
	// cannot be put blocks its key at once, and its shard of the outbox from the next batch on;
	// other shards go on. More shards of the outbox put more in parallel.
	//
	// Fast does not wait for the batch before, so a slow key, or a throttled shard of Kinesis,
	// delays others less. The order is that of the producer, which survives throttling, network
	// failures and reshards. But records that the service refused for another reason, such as
	// missing permissions, arrive after later ones of their key when they are retried.
	//
	// Use it if keys, or shards of Kinesis, differ in pace: the others go on until about 1 MiB
	// of a shard of the outbox is in flight. The gain in throughput is small: a third for
	// single records, and almost nothing for aggregated ones.
	Fast bool

	// MaxBytes and MaxAge limit the records that wait in the outbox: the bytes of their
	// partition keys and data, and the time since the arrival of the oldest. 0, the default,
	// means no limit.
	//
	// Beyond a limit, by default, [Forwarder.PutRecord], [Forwarder.PutRecords] and
	// [Forwarder.Admit] refuse with [ErrOutboxFull] until Kinesis has stored enough. Other puts
	// to the stream are counted within a second, but not refused.
	MaxBytes int64
	MaxAge   time.Duration

	// DropOldest removes the oldest records from the outbox beyond a limit instead, with
	// [braid.Stream.Trim], and no more than necessary. Each time it logs their number, and
	// counts them in the [ForwarderStatus]. Run checks the limits once a second. Records in
	// flight to Kinesis, up to about 1 MiB of each shard of the outbox, are neither counted nor
	// dropped, unless the process ends before they are stored. A trim affects all readers of
	// the stream: use DropOldest only for a stream that is nothing but an outbox.
	DropOldest bool

	// OnRefused is called with a record that Kinesis refuses permanently because it is too
	// large or invalid, and with the error. If OnRefused returns nil, the forwarder skips the
	// record; if it returns an error, the forwarder calls it again after a pause. It may be
	// called for several records concurrently, and again after a crash. It must return when ctx
	// ends.
	OnRefused func(ctx context.Context, record braid.Record, err error) error

	// DeadLetterStream, an alternative to OnRefused, is the stream of the database for records
	// that Kinesis refuses permanently, each as a [consumer.DeadLetter]. Without either, a
	// refused record is retried every half minute, which the ForwarderStatus and the log
	// report, and with strict order its shard of the outbox waits.
	DeadLetterStream string

	// StopTimeout is how long records in flight may take when the forwarder is stopped or
	// paused. After it, the forwarder gives them up, and puts them again when it continues. The
	// default is 30 s.
	StopTimeout time.Duration

	// Logger gets messages about refused and dropped records and failed puts, and those of
	// package consumer. With nil, warnings and errors go to [slog.Default].
	Logger *slog.Logger
}

// NewForwarder returns a forwarder from the stream of that name to the producer's stream.
// Nothing happens before [Forwarder.Run]. nil options are safe defaults. The outbox need not
// exist yet. The caller may use the producer for other puts, and closes it after Run has
// returned. Errors: [braid.ErrInvalidArgument].
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
		MaxAttempts:     -1, // the forwarder itself decides about retries
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

// Run forwards until ctx ends or [Forwarder.Stop] is called. Then it waits up to StopTimeout
// for records in flight, stores the checkpoints, and returns nil. The next forwarder puts
// records again that Kinesis has not confirmed by then.
//
// Errors: [braid.ErrClosed] if the producer was closed, and those of Run of a
// [consumer.Worker], for instance when the database is closed. Run can be called only once: a
// second call returns [braid.ErrInvalidArgument] at once, and does not affect the first.
func (f *Forwarder) Run(ctx context.Context) error {
	f.mu.Lock()
	again := f.ran
	f.ran = true
	f.mu.Unlock()
	if again {
		return f.wrap("forward", invalid("Run", "called again", "can be called once"))
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

// Stop ends Run, and waits until it has returned. Run gives up records in flight when ctx ends,
// instead of after StopTimeout. Stop returns the error of Run.
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

// App returns the application, to pause, resume and move it, or to wait until everything is
// forwarded: see [consumer.App]. A pause lasts across restarts.
func (f *Forwarder) App() *consumer.App { return f.worker.App() }

// ForwarderStatus is the state of a [Forwarder] at one moment.
type ForwarderStatus struct {
	// Outbox is the status of the application: the records that wait, in total and in each
	// shard of the outbox, and what is paused. Its BehindRecords count the records after the
	// checkpoints.
	Outbox consumer.Status

	// Err is the reason why records in flight have to wait, nil if they do not, and Since is
	// when that began: Kinesis cannot be reached or throttles everything, it has refused
	// records, or OnRefused or the DeadLetterStream has failed.
	Err   error     `json:",omitempty"`
	Since time.Time `json:",omitzero"`

	// The following counts begin with NewForwarder.

	Forwarded, ForwardedBytes int64 // stored by Kinesis: records, and their partition keys and data
	Refused                   int64 // records taken by OnRefused or the DeadLetterStream
	Rejected                  int64 // records that PutRecord, PutRecords and Admit refused because the outbox was full
	Dropped, DroppedBytes     int64 // removed by DropOldest
	InFlight                  int64 // records that were read and are not done
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

// Status returns the state of the forwarder and its lag. The errors are those of Status of a
// [consumer.App]: [consumer.ErrAppNotFound] if it has never run.
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
