package consumer

import (
	"context"
	"errors"
	"slices"
	"time"
)

// WaitCaughtUp waits until everything is processed that there is: until
// [Status.CaughtUp] is true. It waits for workers that are paused or have not begun, and
// for the first stream to exist; beside one that exists, AwaitedStreams of [Status] are
// not waited for. But a shard that is stopped does not catch up by itself, so that is a
// [StoppedShardsError], at once. Other errors: as WaitFor. While one shard is behind, the
// others cost nothing.
func (a *App) WaitCaughtUp(ctx context.Context) error {
	var behind []LeaseKey // were so when all shards were looked at
	var failures int64    // that the group had counted before that
	return a.await(ctx, func() (over bool, looks int, err error) {
		for len(behind) > 0 && failures == a.group.failures.Load() {
			looks++
			if last := len(behind) - 1; !a.isBehind(ctx, behind[last]) {
				behind = behind[:last]
				continue
			}
			return false, looks, nil
		}
		failures = a.group.failures.Load() // before Status looks for them
		status, err := a.Status(ctx)
		if err != nil {
			return false, looks, err
		}
		stopped := slices.Clone(status.StoppedStreams)
		behind = behind[:0]
		for i := range status.Shards {
			shard := &status.Shards[i]
			if shard.State == StateFailed {
				stopped = append(stopped, ShardError{shard.LeaseKey, shard.Err})
			}
			if !shard.caughtUp() {
				behind = append(behind, shard.LeaseKey)
			}
		}
		if len(stopped) > 0 {
			return true, looks, &StoppedShardsError{stopped}
		}
		return status.CaughtUp(), looks + len(status.Shards), nil
	})
}

// isBehind reports whether a shard is known not to have caught up, by a look at it alone.
func (a *App) isBehind(ctx context.Context, key LeaseKey) bool {
	s, err := a.group.surveyShard(ctx, key)
	if s == nil || err != nil {
		return false // the next Status finds out why
	}
	shard := s.items[key].status(a.group.holdOf(key), false)
	a.group.measure(ctx, &shard)
	return !shard.caughtUp()
}

// WaitFor waits until the application is in a certain state: it calls reached now and
// after its workers have done something or streams have changed, until that is true.
//
//	err := app.WaitFor(ctx, func(s consumer.Status) bool { return len(s.AwaitedStreams) == 0 })
//
// Where much happens in many shards, one call stands for all that has happened meanwhile:
// after a call, it takes 50 µs for each shard to the next one.
//
// Errors: as Status, and the cause of ctx. An application of which nothing is stored is
// waited for while a worker of it exists in this process that has not ended: it is about
// to begin. Without one that is [ErrAppNotFound].
func (a *App) WaitFor(ctx context.Context, reached func(Status) bool) error {
	return a.await(ctx, func() (over bool, looks int, err error) {
		status, err := a.Status(ctx)
		return err == nil && reached(status), len(status.Shards), err
	})
}

const (
	// restPerLook is how long await rests for each shard that was looked at: several times
	// what the look has taken.
	restPerLook = 50 * time.Microsecond

	// leastRest is what is not worth a timer.
	leastRest = time.Millisecond
)

// await calls look now and whenever something has happened, until it says that it is over.
// After so many looks at shards it rests in proportion, so that what looks cost follows
// what time there is, and not how much happens times how many shards there are.
func (a *App) await(ctx context.Context, look func() (over bool, looks int, err error)) error {
	g := a.group
	for {
		progress, changed := g.progress.Wait(), g.records().Changed() // before look reads them
		over, looks, err := look()
		looked := time.Now()
		if over || err != nil && !(errors.Is(err, ErrAppNotFound) && g.hasMade()) { // else a worker will raise progress
			return err
		}
		var poll <-chan time.Time // of what workers elsewhere do
		if d := g.leases.LeaseDuration(); d > 0 {
			poll = time.After(d / 3)
		}
		select {
		case <-progress:
		case <-changed:
		case <-poll:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		rest := time.Duration(looks) * restPerLook
		if rest < leastRest {
			continue
		}
		if err := sleep(ctx, rest-time.Since(looked)); err != nil {
			return err
		}
	}
}
