package consumer

import (
	"context"
	"errors"
	"slices"
	"time"
)

// WaitCaughtUp waits until [Status.CaughtUp] is true: everything that exists is
// processed. It waits for workers that are paused or have not begun, and for the first
// stream to exist. Once one exists, it does not wait for AwaitedStreams of [Status]. A
// stopped shard does not catch up by itself: WaitCaughtUp then returns a
// [StoppedShardsError] at once. Other errors: as WaitFor. While one shard is behind, the
// others cost nothing.
func (a *App) WaitCaughtUp(ctx context.Context) error {
	var behind []LeaseKey // keys that were behind when all shards were looked at
	var failures int64    // the group's count before that
	return a.await(ctx, func() (over bool, looks int, err error) {
		for len(behind) > 0 && failures == a.group.failures.Load() {
			looks++
			if last := len(behind) - 1; !a.isBehind(ctx, behind[last]) {
				behind = behind[:last]
				continue
			}
			return false, looks, nil
		}
		failures = a.group.failures.Load() // loaded before Status looks for failures
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

// isBehind reports whether a shard is known not to have caught up, by looking at it
// alone.
func (a *App) isBehind(ctx context.Context, key LeaseKey) bool {
	s, err := a.group.surveyShard(ctx, key)
	if s == nil || err != nil {
		return false // the next Status finds out why
	}
	shard := s.items[key].status(a.group.holdOf(key), false)
	a.group.measure(ctx, &shard)
	return !shard.caughtUp()
}

// WaitFor waits until reached returns true for the application's Status. It calls reached
// at once, and again after workers have made progress or streams have changed.
//
//	err := app.WaitFor(ctx, func(s consumer.Status) bool { return len(s.AwaitedStreams) == 0 })
//
// A busy application is looked at less often: after each call, WaitFor rests for 50 µs
// per shard, and the next call covers everything that happened meanwhile.
//
// Errors: as Status, and the cause of ctx. If nothing is stored of the application,
// WaitFor waits as long as one of its workers exists in this process and has not ended,
// since it is about to begin. Without such a worker the error is [ErrAppNotFound].
func (a *App) WaitFor(ctx context.Context, reached func(Status) bool) error {
	return a.await(ctx, func() (over bool, looks int, err error) {
		status, err := a.Status(ctx)
		return err == nil && reached(status), len(status.Shards), err
	})
}

const (
	// restPerLook is how long await rests for each shard that was looked at: several times as
	// long as the look takes.
	restPerLook = 50 * time.Microsecond

	// leastRest is the shortest rest that is worth a timer.
	leastRest = time.Millisecond
)

// await calls look now and after each change, until look returns over. It then rests in
// proportion to the number of shards that were looked at, so that the cost of looking is
// a fixed part of the elapsed time, not of the number of changes times the number of
// shards.
func (a *App) await(ctx context.Context, look func() (over bool, looks int, err error)) error {
	g := a.group
	for {
		progress, changed := g.progress.Wait(), g.records().Changed() // before look reads them
		over, looks, err := look()
		looked := time.Now()
		if over || err != nil && !(errors.Is(err, ErrAppNotFound) && g.hasMade()) { // otherwise a worker will raise progress
			return err
		}
		var poll <-chan time.Time // for changes by workers elsewhere
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
