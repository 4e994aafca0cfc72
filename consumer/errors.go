package consumer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/braidstream/braid"
)

// ErrAppNotFound reports that nothing is stored for an application: none of its workers has
// ever run on the database, or [App.Delete] has removed it. Nothing was changed.
var ErrAppNotFound = errors.New("no such application")

// ShardError is a shard that is stopped, and why. With an empty Shard it is a whole
// stream, which a [PermanentError] has stopped before its shards were known.
type ShardError struct {
	LeaseKey
	Err error // for example a [RecordError] around the processor's error
}

// Error names the shard, its stream and the cause.
func (e *ShardError) Error() string { return fmt.Sprintf("%q: %v", e.LeaseKey.String(), e.Err) }

// Unwrap returns Err.
func (e *ShardError) Unwrap() error { return e.Err }

// StoppedShardsError reports shards that are stopped by errors: at a failed record, or at
// a gap that [Config].OnGap refuses. None of their records are skipped: they continue
// from there after [App.Resume], or with the next worker. [errors.Is] and [errors.As]
// find every cause.
type StoppedShardsError struct {
	Shards []ShardError // by stream and shard, at least one
}

// maxShardTexts is how many causes the text of a StoppedShardsError includes.
const maxShardTexts = 4

// Error names the number of shards, and the causes of the first few.
func (e *StoppedShardsError) Error() string {
	var text strings.Builder
	noun := "shards are"
	if len(e.Shards) == 1 {
		noun = "shard is"
	}
	fmt.Fprintf(&text, "consumer: %d %s stopped", len(e.Shards), noun)
	for i := range e.Shards {
		if i == maxShardTexts {
			fmt.Fprintf(&text, "; and %d more", len(e.Shards)-i)
			break
		}
		separator := "; "
		if i == 0 {
			separator = ": "
		}
		text.WriteString(separator + e.Shards[i].Error())
	}
	return text.String()
}

// Unwrap returns the [ShardError] of each shard.
func (e *StoppedShardsError) Unwrap() []error {
	errs := make([]error, len(e.Shards))
	for i := range e.Shards {
		errs[i] = &e.Shards[i]
	}
	return errs
}

// RecordError is an error of a processor that names the record of its batch at which it
// happened. Returning it reports that every record before that one is processed: the worker
// checkpoints past them, and gives the processor only the rest again. With [Acks]
// they still need their own Ack. A [TxProcessor] gets them again, in a transaction of
// their own, since the failed one is rolled back.
//
// So a processor that checks or decodes a whole batch before it processes any of it must
// process the records before the failed one, or return another error, which repeats the
// whole batch. If an error joins several RecordErrors, the earliest record counts; one
// that names no record of the batch repeats the whole batch.
type RecordError struct {
	Record Record
	Err    error
}

// Error names the record and the error.
func (e *RecordError) Error() string {
	if e == nil {
		return "a nil *RecordError" // of a processor that declares its result as one; it must not end the process
	}
	return fmt.Sprintf("record %s of %s: %v", e.Record.SequenceNumber, e.Record.ShardID, e.Err)
}

// Unwrap returns Err.
func (e *RecordError) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// PanicError is the value that a processor or a hook panicked with.
type PanicError struct {
	Value any
	Stack []byte // of the panicking goroutine
}

// Error gives the value and the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// HungShardsError reports shards whose processors did not return in time. Their contexts
// have ended, and their work no longer has any effect on the lease.
type HungShardsError struct{ Shards []LeaseKey }

// Error names the shards.
func (e *HungShardsError) Error() string {
	return fmt.Sprintf("consumer: the processors of %q did not return in time", e.Shards)
}

// errDrained ends the work for a lease that is to be handed over. The others say why.
var (
	errDrained = errors.New("the lease is to be handed over")
	errLeaving = fmt.Errorf("%w: the worker stops", errDrained)
	errAskedBy = fmt.Errorf("%w: another worker requests it", errDrained)
	errPaused  = fmt.Errorf("%w: the shard is paused", errDrained)
	errParents = fmt.Errorf("%w: the shard waits for its parents", errDrained)
	errResumed = fmt.Errorf("%w: the shard was resumed", errDrained)
)

var errGoexit = errors.New("the processor called runtime.Goexit")

// goneError marks an error of the source, since a processor may return errors that look
// the same.
type goneError struct{ error }

func (e *goneError) Unwrap() error { return e.error }

// fatalError is an error of the source or the store after which nothing works.
// commitError is an error of the commit of a transaction whose processor returned nil.
// Both mark the origin, since a processor may return errors that look the same.
type (
	fatalError  struct{ error }
	commitError struct{ error }
)

func (e *fatalError) Unwrap() error { return e.error }

func (e *commitError) Unwrap() error { return e.error }

// isGone reports whether the stream or shard no longer exists.
func isGone(err error) bool {
	return errors.Is(err, braid.ErrStreamNotFound) || errors.Is(err, braid.ErrShardNotFound)
}

// isFatal reports whether the worker can no longer work. A permanent error of a source concerns
// only one shard or stream, so callers check for that first.
func isFatal(err error) bool {
	return errors.Is(err, braid.ErrClosed) || errors.Is(err, braid.ErrFailed) || errors.Is(err, braid.ErrReadOnly) || isPermanent(err)
}
