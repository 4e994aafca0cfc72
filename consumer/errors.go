package consumer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrAppNotFound reports an application of which nothing is stored: no worker of that
// name has ever run on the database, or [App.Delete] has removed it. Nothing was
// changed.
var ErrAppNotFound = errors.New("no such application")

// ShardError is a shard that is stopped, and why.
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

// outcome is what Run of a worker that has left returns: why it could not go on, whom
// it has left behind, and which of its shards are stopped.
func (g *group) outcome(w *Worker, failure error, stuck []LeaseKey) error {
	var all []error
	if failure != nil {
		all = append(all, failure)
	}
	if len(stuck) > 0 {
		all = append(all, &StopError{stuck})
	}
	g.mu.Lock()
	stopped := slices.Clone(w.stopped)
	g.mu.Unlock()
	if len(stopped) > 0 {
		slices.SortFunc(stopped, func(a, b ShardError) int { return compareKeys(a.LeaseKey, b.LeaseKey) })
		all = append(all, &StoppedShardsError{stopped})
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...) // nil for none
}
