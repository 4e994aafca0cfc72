package queue

import (
	"fmt"
	"time"

	"github.com/braidstream/braid"
)

const (
	maxVisibility = 12 * time.Hour
	maxReceives   = 1000
	maxRecords    = 10_000   // of one receive
	maxBytes      = 10 << 20 // of one receive, by default
	maxRows       = 10_000_000
	maxDelay      = maxVisibility
	maxReason     = 256 // bytes of a reason that are stored
)

// Options are the settings of a queue. They are stored with it; [Queue.Update] changes
// them. The zero value of each field except Stream is a safe default.
type Options struct {
	// Stream is the stream whose records the queue hands out. It is required to create a
	// queue, and cannot be changed. A stream cannot be deleted while it has queues.
	Stream string

	// Start is where the queue begins when it is created; it is ignored for an existing
	// queue. The default is braid.TrimHorizon. With braid.Latest, the queue gets every record
	// that is put after [Open] was called. A time must not lie in the future.
	Start braid.Position

	// VisibilityTimeout is how long a received record is hidden from other receivers. It is
	// then visible again, unless it was acknowledged. The default is 30 seconds; the range is
	// 1 millisecond to 12 hours. A negative value means none: the record is visible again at
	// once.
	VisibilityTimeout time.Duration

	// MaxReceives is how often a record is received before it is dead. When the timeout of
	// its last delivery passes, receivers no longer get it, and it stays in the queue as a
	// dead letter. The default is 6; the range is 1 to 1,000. A negative value means that
	// records never die.
	MaxReceives int

	// MaxInFlight is the maximum number of records in flight: received, and neither
	// acknowledged nor visible again. When it is reached, receivers wait. The default is
	// 120,000; the range is 1 to 10 million. A record in flight takes about 250 bytes of
	// memory. Dead letters in flight are counted separately, with the same limit.
	MaxInFlight int

	// MaxWaiting is the maximum number of records that wait to be received again. When it is
	// reached, no new records are received until some of these are settled. The default is 1
	// million; the range is 1 to 10 million.
	MaxWaiting int

	// OrderByKey keeps the records of each partition key in order: while one of them is in
	// flight, or waits for another attempt, those after it are held back. It cannot be
	// changed later.
	OrderByKey bool

	// BlockAtDead, with OrderByKey, also holds back the records of a key while one before
	// them is dead, until it is discarded or restored. By default they go on without it. It
	// cannot be changed later.
	BlockAtDead bool
}

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.VisibilityTimeout == 0 {
		opts.VisibilityTimeout = 30 * time.Second
	}
	if opts.MaxReceives == 0 {
		opts.MaxReceives = 6
	}
	if opts.MaxInFlight == 0 {
		opts.MaxInFlight = 120_000
	}
	if opts.MaxWaiting == 0 {
		opts.MaxWaiting = 1_000_000
	}
	opts.VisibilityTimeout = max(-1, opts.VisibilityTimeout)
	opts.MaxReceives = max(-1, opts.MaxReceives)
	switch {
	case opts.MaxReceives > maxReceives:
		return opts, invalid("MaxReceives", opts.MaxReceives, "must be 1 to %d, or negative for no limit", maxReceives)
	case opts.MaxInFlight < 1 || opts.MaxInFlight > maxRows:
		return opts, invalid("MaxInFlight", opts.MaxInFlight, "must be 1 to %d", maxRows)
	case opts.MaxWaiting < 1 || opts.MaxWaiting > maxRows:
		return opts, invalid("MaxWaiting", opts.MaxWaiting, "must be 1 to %d", maxRows)
	case opts.BlockAtDead && !opts.OrderByKey:
		return opts, invalid("BlockAtDead", true, "must not be set without OrderByKey")
	}
	return opts, checkVisibility(opts.VisibilityTimeout)
}

// checkVisibility checks a timeout; negative values mean none.
func checkVisibility(d time.Duration) error {
	if d >= 0 && d < time.Millisecond || d > maxVisibility {
		return invalid("VisibilityTimeout", d, "must be 1ms to %v, or negative for none", maxVisibility)
	}
	return nil
}

// ReceiveOptions are options of a receive. The zero value, and a nil pointer, mean the
// defaults.
type ReceiveOptions struct {
	// Wait is how long to wait for a record if none is visible. The default, 0, means until
	// the context ends. A negative value means not to wait.
	Wait time.Duration

	// VisibilityTimeout is the timeout of the records of this call. The default, 0, means
	// that of the queue. The range is 1 millisecond to 12 hours; a negative value means none.
	VisibilityTimeout time.Duration

	// Bytes is the maximum number of bytes of partition keys and data to return. The first
	// record is returned regardless of its size. The default is 10 MiB.
	Bytes int

	// Whole returns full batches even if a record in them may be one that crashes the
	// process. By default, a record that is received for the third time comes in a batch of
	// half the size, the next time of a quarter and so on, and its last time alone. So a
	// record that crashes the process does not make its neighbors dead letters.
	Whole bool
}

func (o *ReceiveOptions) withDefaults(n int) (ReceiveOptions, error) {
	var opts ReceiveOptions
	if o != nil {
		opts = *o
	}
	if opts.Bytes == 0 {
		opts.Bytes = maxBytes
	}
	switch {
	case n < 1 || n > maxRecords:
		return opts, invalid("n", n, "must be 1 to %d", maxRecords)
	case opts.Bytes < 0:
		return opts, invalid("Bytes", opts.Bytes, "must not be negative")
	case opts.VisibilityTimeout != 0:
		return opts, checkVisibility(opts.VisibilityTimeout)
	}
	return opts, nil
}

// ask returns the request of a receive with the options.
func (o *ReceiveOptions) ask(n int, dead bool) ask {
	return ask{n: n, bytes: o.Bytes, timeout: o.VisibilityTimeout, whole: o.Whole, dead: dead}
}

// checkDelay checks how long a record is to be hidden; 0 means not at all.
func checkDelay(field string, d time.Duration) error {
	if d < 0 || d > maxDelay {
		return invalid(field, d, "must be 0 to %v", maxDelay)
	}
	return nil
}

func invalid(field string, value any, rule string, args ...any) error {
	return &braid.InvalidArgumentError{Field: field, Value: value, Rule: fmt.Sprintf(rule, args...)}
}
