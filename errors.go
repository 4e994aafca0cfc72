package braid

import (
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
)

// Every error of braid belongs to one of three classes, and each sentinel below
// says to which:
//
//   - refused: nothing happened. Trying again is safe.
//   - unknown: the change may or may not survive; a later read, or the next
//     open, shows which, and that is final.
//   - damage: stored data is missing or wrong. Finding it changed nothing.
//
// An error never means "partly". Match with [errors.Is]; use [errors.As] for
// the types that carry fields.

// Errors of opening and closing a database. All are refused.
var (
	// ErrLocked reports that another handle holds the directory, in this
	// process or in the one that the message names. Close that one first.
	ErrLocked = errors.New("the directory is in use")

	// ErrFormatTooNew reports a database written by a newer version of braid
	// than this one can read. No byte of it was changed.
	ErrFormatTooNew = errors.New("the format is newer than this version of braid")

	// ErrClosed reports the use of a [DB], or of anything that came from it,
	// after [DB.Close].
	ErrClosed = errors.New("the database is closed")
)

// Errors that refuse a call because of what was asked.
var (
	// ErrInvalidArgument reports a value outside of what is allowed. The error
	// is an [InvalidArgumentError], which says what is. Kinesis:
	// InvalidArgumentException and ValidationException.
	ErrInvalidArgument = errors.New("invalid argument")

	// ErrStreamNotFound reports a stream that does not exist, or no longer
	// does. Kinesis: ResourceNotFoundException.
	ErrStreamNotFound = errors.New("no such stream")

	// ErrShardNotFound reports a shard that the stream does not have. Kinesis:
	// ResourceNotFoundException.
	ErrShardNotFound = errors.New("no such shard")

	// ErrStreamExists reports that [DB.CreateStream] met a stream of that name;
	// [DB.OpenStream] takes what is there. Kinesis: ResourceInUseException.
	ErrStreamExists = errors.New("the stream exists")

	// ErrLimitExceeded reports that there would be too many of something, such
	// as shards of a stream; the message says how many there may be. Kinesis:
	// LimitExceededException.
	ErrLimitExceeded = errors.New("the limit is exceeded")

	// ErrThroughputExceeded reports a put or a read that goes beyond what a shard
	// takes in its stream's capacity mode. The error is a
	// [ThroughputExceededError], which says when to try again. Kinesis:
	// ProvisionedThroughputExceededException.
	ErrThroughputExceeded = errors.New("the throughput is exceeded")

	// ErrKeyUnavailable reports that a record cannot be encrypted or decrypted: the
	// [KeyProvider] does not have the key, or has another one under its id, or
	// fails; the error wraps what it said. Refused. Kinesis: KMSNotFoundException
	// and others.
	ErrKeyUnavailable = errors.New("the encryption key is not available")

	// ErrKeyNotFound reports that the application has stored nothing under the
	// key given to [Tx.Get].
	ErrKeyNotFound = errors.New("no such key")
)

// Errors that refuse a transaction.
var (
	// ErrTxTooLarge reports a transaction that reads or writes more than
	// [Options].MaxTxBytes. Split it, or raise the limit.
	ErrTxTooLarge = errors.New("the transaction is too large")

	// ErrTxConflict reports that [DB.Update] ran its function many times, and
	// each time another transaction had changed what it read.
	ErrTxConflict = errors.New("the transaction met conflicting ones each time it ran")
)

// Errors of reading.
var (
	// ErrTrimmed reports that records at a reader's position were trimmed
	// before it read them. The error is a [TrimmedError], which says which ones
	// and where reading can go on. Refused: the position has not moved. Kinesis
	// moves such a reader silently.
	ErrTrimmed = errors.New("the records were trimmed")

	// ErrCorrupt reports stored bytes that are not what was written: a checksum
	// does not match, or a table is damaged. The error of a reader of records is a
	// [CorruptError], which says which ones and where reading can go on. Damage.
	ErrCorrupt = errors.New("stored data is damaged")

	// ErrDataLoss reports stored data that should be there and is not: a gap
	// between two records of a shard, or a missing file. Damage.
	ErrDataLoss = errors.New("stored data is missing")
)

// Errors of the storage under the database.
var (
	// ErrOutcomeUnknown reports a write that was on its way to the disk when the
	// call had to end: its context did, or the store failed. It may or may not
	// survive. The error wraps the cause. Unknown.
	ErrOutcomeUnknown = errors.New("the outcome is unknown")

	// ErrDiskFull reports that there is no space for writing. Reading and
	// trimming go on, and writing does by itself once there is space again.
	// Refused. Kinesis: InternalFailure.
	ErrDiskFull = errors.New("the disk is full")

	// ErrFailed reports that storage failed in a way after which it cannot be
	// trusted with another write; it wraps the cause. That is a failed write or
	// fsync of the log, the manifest or a directory; tables that could not be
	// written many times in a row; and tables of the application's keys or of
	// braid's own rows so damaged, and for so long, that writes would have to wait
	// forever. Nothing that was met while reading fails the storage. Every later
	// write is refused with it. Close the DB and open it again: all that was
	// acknowledged is there. Kinesis: InternalFailure.
	ErrFailed = errors.New("storage failed")
)

// InvalidArgumentError is an [ErrInvalidArgument] with its particulars.
type InvalidArgumentError struct {
	Field string // the argument or field, such as "Entries[3].PartitionKey"
	Value any    // the value that was given, shortened when it is long
	Rule  string // what is allowed, such as "must be 1 to 256 characters"
}

// Error names the field, the value and the rule.
func (e *InvalidArgumentError) Error() string {
	return fmt.Sprintf("invalid argument: %s %s; it is %v", e.Field, e.Rule, e.Value)
}

// Is reports whether target is [ErrInvalidArgument].
func (e *InvalidArgumentError) Is(target error) bool { return target == ErrInvalidArgument }

// TrimmedError is an [ErrTrimmed] with its particulars. To go on with what is
// left, read from [AtSequence](e.FirstAvailable).
type TrimmedError struct {
	Shard ShardID

	// FirstLost is where the reader stood: every record it lost has this number
	// or a greater one.
	FirstLost SequenceNumber

	// LastLost is the number of the last record that was trimmed.
	LastLost SequenceNumber

	// FirstAvailable is the lowest number that a record still readable can
	// have. It is not the number of a record when the shard is empty.
	FirstAvailable SequenceNumber
}

// Error names the shard and the two numbers.
func (e *TrimmedError) Error() string {
	return fmt.Sprintf("records of %s from %s to %s were trimmed; the first available is at %s",
		e.Shard, e.FirstLost, e.LastLost, e.FirstAvailable)
}

// Is reports whether target is [ErrTrimmed].
func (e *TrimmedError) Is(target error) bool { return target == ErrTrimmed }

// ThroughputExceededError is an [ErrThroughputExceeded] with its particulars.
type ThroughputExceededError struct {
	Shard      ShardID
	Budget     string        // the field of [Capacity] that is used up
	RetryAfter time.Duration // from when on the same call is within the budget, if no other is made
}

// Error names the shard, the budget and the time.
func (e *ThroughputExceededError) Error() string {
	return fmt.Sprintf("the throughput of %s is exceeded: its %s is used up; try again in %s", e.Shard, e.Budget, e.RetryAfter)
}

// Is reports whether target is [ErrThroughputExceeded].
func (e *ThroughputExceededError) Is(target error) bool { return target == ErrThroughputExceeded }

// opError is what a public method returns: the operation, its subject, the
// class of what went wrong, and the cause with its details.
type opError struct {
	op    string // such as "put record"
	what  string // such as "orders", a stream; may be empty
	class error  // a sentinel of this package, or nil when cause is of one itself
	cause error
}

func (e *opError) Error() string {
	text := "braid: " + e.op
	if e.what != "" {
		text += " " + e.what
	}
	if e.class != nil {
		text += ": " + e.class.Error()
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

func (e *opError) Unwrap() []error {
	var errs []error
	if e.class != nil {
		errs = append(errs, e.class)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// classes maps what the packages below report to the sentinels of this one.
// The first match counts: an unknown outcome may wrap a failed store.
var classes = []struct{ below, class error }{
	{commit.ErrUnknown, ErrOutcomeUnknown},
	{commit.ErrClosed, ErrClosed},
	{kv.ErrClosed, ErrClosed},
	{kv.ErrDiskFull, ErrDiskFull},
	{kv.ErrFailed, ErrFailed},
	{kv.ErrLocked, ErrLocked},
	{kv.ErrFormatTooNew, ErrFormatTooNew},
	{kv.ErrCorrupt, ErrCorrupt},
	{kv.ErrDataLoss, ErrDataLoss},
	{kv.ErrNotDatabase, ErrInvalidArgument},
	{kv.ErrNotEmpty, ErrInvalidArgument},
}

// wrapError makes a public error of one from below: op and what say which call
// failed. It returns nil for nil, and leaves an error that is public already.
func wrapError(op, what string, err error) error {
	if err == nil {
		return nil
	}
	var public *opError
	if errors.As(err, &public) {
		return err
	}
	for _, c := range classes {
		if errors.Is(err, c.below) {
			class := c.class
			if class == ErrOutcomeUnknown && errors.Is(err, kv.ErrFailed) {
				err = fmt.Errorf("%w: %w", ErrFailed, err)
			}
			return &opError{op: op, what: what, class: class, cause: err}
		}
	}
	return &opError{op: op, what: what, cause: err}
}
