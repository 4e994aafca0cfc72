package consumer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/braidstream/braid"
)

// ErrAppNotFound reports an application of which nothing is stored: no worker of that
// name has ever run on the database, or [App.Delete] has removed it. Nothing was
// changed.
var ErrAppNotFound = errors.New("no such application")

// ShardError is a shard that is stopped, and why; with an empty Shard, a stream whose shards
// are not known, by a [PermanentError].
type ShardError struct {
	LeaseKey
	Err error // such as a [RecordError] around what the processor has returned
}

// Error names the shard, its stream and the cause.
func (e *ShardError) Error() string { return fmt.Sprintf("%q: %v", e.LeaseKey.String(), e.Err) }

// Unwrap returns Err.
func (e *ShardError) Unwrap() error { return e.Err }

// StoppedShardsError reports shards that are stopped by errors: at a record that has
// failed, or a gap that [Config].OnGap refuses. Nothing of theirs is passed over: they
// go on where they were with [App.Resume], or with the next worker. [errors.Is] and
// [errors.As] reach every cause.
type StoppedShardsError struct {
	Shards []ShardError // by stream and shard, at least one
}

// maxShardTexts is how many shards the text of an error gives the causes of.
const maxShardTexts = 4

// Error names the shards, and says why the first few are stopped.
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

// RecordError is an error of a processor that says at which record it happened:
// those before it were processed. Return it to have them counted as done.
type RecordError struct {
	Record Record
	Err    error
}

// Error names the record and the error.
func (e *RecordError) Error() string {
	return fmt.Sprintf("record %s of %s: %v", e.Record.SequenceNumber, e.Record.ShardID, e.Err)
}

// Unwrap returns Err.
func (e *RecordError) Unwrap() error { return e.Err }

// PanicError is what a processor or a hook panicked with.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine, where it panicked
}

// Error gives the value and the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// HungShardsError reports shards whose processor had not returned when the time for it
// was over. Their contexts have ended, and nothing that they do counts any more.
type HungShardsError struct{ Shards []LeaseKey }

// Error names the shards.
func (e *HungShardsError) Error() string {
	return fmt.Sprintf("consumer: the processors of %q did not return in time", e.Shards)
}

// errDrained ends what was under way for a lease that is to be handed over; the others
// say why that is.
var (
	errDrained = errors.New("the lease is to be handed over")
	errLeaving = fmt.Errorf("%w: the worker stops", errDrained)
	errAskedBy = fmt.Errorf("%w: another worker asks for it", errDrained)
	errPaused  = fmt.Errorf("%w: the shard is paused", errDrained)
	errParents = fmt.Errorf("%w: the shard waits for its parents", errDrained)
	errResumed = fmt.Errorf("%w: the shard is tried again", errDrained)
)

var errGoexit = errors.New("the processor has ended its goroutine, by runtime.Goexit")

// goneError is an error of the source that says so; a processor may have others that
// look like it.
type goneError struct{ error }

func (e *goneError) Unwrap() error { return e.error }

// fatalError is an error of the source or the store after which nothing works any
// more; and commitError one of a transaction whose processor had none. A processor may
// have others that look like them.
type (
	fatalError  struct{ error }
	commitError struct{ error }
)

func (e *fatalError) Unwrap() error { return e.error }

func (e *commitError) Unwrap() error { return e.error }

// isGone reports whether there is no such stream or shard any more.
func isGone(err error) bool {
	return errors.Is(err, braid.ErrStreamNotFound) || errors.Is(err, braid.ErrShardNotFound)
}

// isFatal reports whether nothing will work any more. Of a source, a permanent error is that
// of a shard or stream alone, so it is to be looked for before.
func isFatal(err error) bool {
	return errors.Is(err, braid.ErrClosed) || errors.Is(err, braid.ErrFailed) || errors.Is(err, braid.ErrReadOnly) || isPermanent(err)
}
