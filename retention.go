package braid

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// Retention has two sides. What can be read is computed: every read compares
// with the expiry of that instant, so a record is gone when its time is over,
// whatever goes on behind. What is stored follows: a goroutine trims the shards,
// as [Stream.Trim] would, whenever all records of a shard in an epoch have
// expired, and so returns their space.
//
// Invariant: the second never overtakes the first, and neither goes back. What a
// change of the period has cut off stays so by the stream's floor, which is
// stored with the change.

const (
	// defaultRetention is also the least that a period can be changed to: below
	// it, only a new stream can go.
	defaultRetention = 24 * time.Hour
	maxRetention     = 8760 * time.Hour

	// trimInterval is how long it takes, at most, before the space of expired
	// records is returned. Less often costs less.
	trimInterval = time.Minute
)

// retentionClock is the time by which records age: that of the wall clock when
// the database was opened, or of the last record if that was later, plus the
// time that the process has run since. So a step of the wall clock while it runs
// makes no record older.
type retentionClock struct {
	base  uint64 // Unix time in nanoseconds
	start time.Time
}

func newRetentionClock(wall time.Time, last uint64) retentionClock {
	return retentionClock{base: max(last, uint64(max(0, wall.UnixNano()))), start: time.Now()}
}

func (c retentionClock) now() uint64 { return c.at(time.Now()) }

func (c retentionClock) at(t time.Time) uint64 { return c.base + uint64(t.Sub(c.start)) }

// expiry returns the counter below which records have expired.
func (set *settings) expiry(now uint64) uint64 {
	if set.retention == 0 {
		return set.floor
	}
	return max(set.floor, now-min(now, uint64(set.retention)))
}

// IncreaseRetention makes the stream keep its records for longer: 24 hours to
// 8,760 hours, and not less than now. A negative period means that records do not
// expire any more. Records that have expired already stay so.
//
// Errors: [ErrInvalidArgument], and as [Stream.UpdateMaxRecordBytes]. Kinesis:
// IncreaseStreamRetentionPeriod.
func (s *Stream) IncreaseRetention(ctx context.Context, period time.Duration) error {
	return wrapError("increase retention", s.name, s.updateRetention(ctx, period, true))
}

// DecreaseRetention makes the stream keep its records for a shorter time: 24
// hours to 8,760 hours, and not more than now. Older records cannot be read from
// the moment at which it returns, also if the period is increased again.
//
// Errors: [ErrInvalidArgument], and as [Stream.UpdateMaxRecordBytes]. Kinesis:
// DecreaseStreamRetentionPeriod.
func (s *Stream) DecreaseRetention(ctx context.Context, period time.Duration) error {
	return wrapError("decrease retention", s.name, s.updateRetention(ctx, period, false))
}

func (s *Stream) updateRetention(ctx context.Context, period time.Duration, increase bool) error {
	forever := increase && period < 0
	if !forever && (period < defaultRetention || period > maxRetention) {
		return &InvalidArgumentError{"Period", period, fmt.Sprintf("must be %s to %s", hours(defaultRetention), hours(maxRetention))}
	}
	if forever {
		period = 0
	}
	return s.update(ctx, func(a *appender, set *settings, _ *kv.Batch) error {
		was := set.retention
		switch {
		case increase && lasting(period) < lasting(was):
			return &InvalidArgumentError{"Period", period, fmt.Sprintf("must not be shorter than the present period, %s; DecreaseRetention makes it shorter", hours(was))}
		case !increase && lasting(period) > lasting(was):
			return &InvalidArgumentError{"Period", period, fmt.Sprintf("must not be longer than the present period, %s; IncreaseRetention makes it longer", hours(was))}
		}
		now := s.db.aging.now()
		set.floor = set.expiry(now) // a longer period brings nothing back
		set.retention = period
		set.floor = set.expiry(now) // and what a shorter one cuts off is gone for good
		s.db.kickRetention()
		return nil
	})
}

// lasting makes a period of 0, which means for ever, the longest.
func lasting(period time.Duration) time.Duration {
	if period == 0 {
		return math.MaxInt64
	}
	return period
}

// hours describes a period in the unit of Kinesis.
func hours(d time.Duration) string {
	if d == 0 {
		return "for ever"
	}
	return fmt.Sprintf("%g hours", d.Hours())
}

// UpdateRetentionBytes changes how much the stream keeps, as
// [StreamOptions].RetentionBytes says; 0 means no bound. Errors: as
// [Stream.UpdateMaxRecordBytes].
func (s *Stream) UpdateRetentionBytes(ctx context.Context, bytes int64) error {
	err := validateRetentionBytes(bytes)
	if err == nil {
		err = s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
			set.retentionBytes = bytes
			s.db.kickRetention()
			return nil
		})
	}
	return wrapError("update retention bytes", s.name, err)
}

func validateRetentionBytes(bytes int64) error {
	if bytes < 0 {
		return &InvalidArgumentError{"RetentionBytes", bytes, "must be positive, or 0 for no bound"}
	}
	return nil
}

// readable returns where the records of the shard begin that can be read now:
// the horizon that is stored, given, or above it where records have expired
// since. It may return the given one for a reader that begins above both. It is not
// exact if damage lies at the border: then its ordinal and offset are too low.
func (sh *Shard) readable(from uint64, horizon layout.Horizon, slices epoch.Slices) (_ layout.Horizon, exact bool, err error) {
	expiry := sh.stream.settings.Load().expiry(sh.stream.db.aging.now())
	if expiry <= horizon.Counter || expiry <= from {
		return horizon, true, nil
	}
	switch tip := sh.log.Tip(); {
	case tip.Ordinal <= horizon.Ordinal: // there is nothing to expire
		return horizon, true, nil
	case tip.LastCounter < expiry:
		return layout.Horizon{Counter: tip.LastCounter + 1, Ordinal: tip.Ordinal, Offset: tip.Offset}, true, nil
	}
	border, err := sh.lastBefore(expiry, horizon, slices)
	if isDamage(err) {
		border = sliceBefore(expiry, horizon, slices)
		border.Counter = expiry
		return border, false, nil
	}
	return border, true, err
}

// kickRetention tells that what is stored may have to follow: there is a first
// record, another epoch, a closed shard, or another period.
func (db *DB) kickRetention() {
	select {
	case db.expiring <- struct{}{}:
	default:
	}
}

// runRetention is the goroutine that trims what has expired. Its timer runs to
// the next moment at which there will be something to trim, so an idle database
// does nothing. It ends when the database closes, or when the store has failed.
func (db *DB) runRetention() {
	timer := time.NewTimer(trimInterval)
	timer.Stop() // until there is a plan
	defer timer.Stop()
	var earliest time.Time // of the next run that trims
	for {
		select {
		case <-db.expiring:
		case <-timer.C:
		case <-db.closing:
			return
		case <-db.store.Failed():
			return
		}
		if wait := time.Until(earliest); wait > 0 {
			timer.Reset(wait)
			continue
		}
		plan, err := db.planRetention(context.Background())
		if err == nil && len(plan.due) > 0 {
			earliest = time.Now().Add(trimInterval)
			for _, d := range plan.due {
				err = db.expire(context.Background(), d)
				if err != nil {
					break
				}
			}
			db.kickRetention() // what is left to do, and when
		}
		switch {
		case closedIsFine(db, err) != nil:
			db.opts.Logger.Warn("expired records could not be trimmed; it will be tried again", "error", err)
			timer.Reset(trimInterval)
		case len(plan.due) == 0 && plan.next != 0:
			timer.Reset(time.Duration(plan.next - min(plan.next, db.aging.now())))
		}
	}
}

// retentionPlan is what is to be trimmed now, and the time on the retention
// clock at which there will be more; 0 for never.
type retentionPlan struct {
	due  []dueStream
	next uint64
}

// dueStream is a stream whose records before a counter are to be trimmed. Shards
// that have closed and lost all records are to go.
type dueStream struct {
	stream *Stream
	before uint64
}

// planRetention looks at the state that the appender has.
func (db *DB) planRetention(ctx context.Context) (plan retentionPlan, err error) {
	streams := db.Streams()
	err = db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		now := db.aging.now()
		for _, s := range streams {
			if s.gone {
				continue
			}
			before, next := a.due(s, now)
			if next <= now {
				plan.due = append(plan.due, dueStream{s, before})
			} else if next != math.MaxUint64 && (plan.next == 0 || next < plan.next) {
				plan.next = next
			}
		}
		return nil, nil
	})
	return plan, err
}

// due returns the time on the retention clock at which the stream has something
// to trim, and where to trim it if that is now.
func (a *appender) due(s *Stream, now uint64) (before, next uint64) {
	before, next = s.config.expiry(now), math.MaxUint64
	for _, sh := range s.routes.shards {
		switch {
		case len(sh.allSlices) > 0 && s.config.retention > 0:
			last := a.lastOfSlice(sh, 0)
			if last < before {
				next = now
			}
			next = min(next, last+uint64(s.config.retention)+1)
		case len(sh.allSlices) > 0 && a.lastOfSlice(sh, 0) < before: // the floor is above it
			next = now
		case len(sh.allSlices) == 0 && sh.ending != 0 && !s.routes.hasParentOf(sh):
			next = min(next, s.goes(sh))
		}
	}
	if cut := a.overLimit(s); cut > before {
		before, next = cut, now
	}
	return before, next
}

// lastOfSlice returns a counter that no record in the shard's i-th slice exceeds.
func (a *appender) lastOfSlice(sh *Shard, i int) uint64 {
	if i+1 < len(sh.allSlices) {
		return a.epochs.LastCounter(sh.allSlices[i].Epoch)
	}
	return sh.next.LastCounter
}

// goes returns the time on the retention clock at which a closed shard goes if
// it has no records.
func (s *Stream) goes(sh *Shard) uint64 {
	period := s.config.retention
	if period == 0 {
		period = defaultRetention // its readers must have time to see its end
	}
	return (sh.ending+1)*uint64(time.Second) + uint64(period)
}

// overLimit returns the counter before which the stream's records are to be
// trimmed so that it keeps what RetentionBytes allows: that of the newest epoch
// before which there is enough to be spared.
func (a *appender) overLimit(s *Stream) (before uint64) {
	limit := uint64(s.config.retentionBytes)
	if limit == 0 {
		return 0
	}
	bytes := make(map[uint32]uint64) // by epoch
	total := uint64(0)
	for _, sh := range s.routes.shards {
		for i, slice := range sh.allSlices {
			n := sh.sliceBytes(i)
			if sh.trimmed.Offset > slice.FirstOffset {
				n -= sh.trimmed.Offset - slice.FirstOffset
			}
			bytes[slice.Epoch] += n
			total += n
		}
	}
	ids := make([]uint32, 0, len(bytes))
	for id := range bytes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if total -= bytes[id]; total < limit {
			break
		}
		before = a.epochs.LastCounter(id) + 1
	}
	return before
}

// expire trims a stream.
func (db *DB) expire(ctx context.Context, d dueStream) error {
	s := d.stream
	shards := s.topology.Load().shards
	horizons, err := horizonsAt(shards, d.before)
	if err != nil {
		if s.deleted.Load() {
			return nil
		}
		return err
	}
	return db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.gone {
			return nil, nil
		}
		trimmed := a.trim(shards, horizons, batch)
		dropped := a.dropShards(s, batch)
		return func() {
			if trimmed != nil {
				trimmed()
			}
			if dropped != nil {
				s.topology.Store(dropped)
				db.changed.Raise()
			}
		}, nil
	})
}

// horizonsAt returns, for each shard, the horizon that trims all records before
// the counter.
func horizonsAt(shards []*Shard, before uint64) ([]layout.Horizon, error) {
	horizons := make([]layout.Horizon, len(shards))
	for i, sh := range shards {
		var err error
		horizons[i], err = sh.horizonAt(bound{from: before})
		if isDamage(err) { // what is damaged goes with the rest of its slice
			horizon, slices := sh.view()
			horizons[i], err = sliceBefore(before, horizon, slices), nil
		}
		if err != nil {
			return nil, err
		}
	}
	return horizons, nil
}

// dropShards removes the shards whose time is over: closed, without a record
// left, and without a parent, so that lineage goes from its old end. It returns the topology without them, or nil if there are none.
func (a *appender) dropShards(s *Stream, batch *kv.Batch) *topology {
	now := a.db.aging.now()
	next := &topology{open: s.routes.open, next: s.routes.next, expired: s.routes.expired}
	for _, sh := range s.routes.shards {
		if sh.ending == 0 || len(sh.allSlices) > 0 || s.goes(sh) > now || next.hasParentOf(sh) {
			next.shards = append(next.shards, sh)
			continue
		}
		batch.Delete(layout.ShardKey(s.number, sh.index))
		if horizon := sh.next.LastCounter + 1; sh.next.Ordinal > 0 && horizon > next.expired.Horizon {
			next.expired = layout.ExpiredShard{Shard: sh.index, CreatedSeconds: sh.createdSeconds, Horizon: horizon}
		}
	}
	if len(next.shards) == len(s.routes.shards) {
		return nil
	}
	a.boundCounters(batch)
	s.routes = next
	s.save(batch)
	return next
}
