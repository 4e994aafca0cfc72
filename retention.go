package braid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

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

// trimInterval is how long it takes, at most, before the space of expired
// records is returned. Less often costs less.
const trimInterval = time.Minute

// IncreaseRetention makes the stream keep its records for longer: 24 hours to
// 8,760 hours, and not less than now. A negative period means that records no longer
// expire. Records that have expired already stay so.
//
// Errors: [ErrInvalidArgument], and as [Stream.UpdateMaxRecordBytes]. Kinesis:
// IncreaseStreamRetentionPeriod.
func (s *Stream) IncreaseRetention(ctx context.Context, period time.Duration) error {
	return wrapError("increase retention", s.name, s.updateRetention(ctx, period, true))
}

// DecreaseRetention makes the stream keep its records for a shorter time: 24
// hours to 8,760 hours, and not more than now. Older records cannot be read from
// the moment at which it returns, even if the period is increased again.
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
			return &InvalidArgumentError{
				"Period", period,
				fmt.Sprintf("must not be shorter than the present period, %s; DecreaseRetention makes it shorter", hours(was)),
			}
		case !increase && lasting(period) > lasting(was):
			return &InvalidArgumentError{"Period", period, fmt.Sprintf("must not be longer than the present period, %s; IncreaseRetention makes it longer", hours(was))}
		}
		now := s.db.aging.now()
		set.floor = set.expiry(now) // a longer period brings nothing back
		set.retention = period
		set.floor = set.expiry(now) // and what a shorter one cuts off is gone for good
		return nil
	})
}

// lasting makes a period of 0, which means forever, the longest.
func lasting(period time.Duration) time.Duration {
	if period == 0 {
		return math.MaxInt64
	}
	return period
}

// UpdateRetentionBytes changes how much the stream keeps, as
// [StreamOptions].RetentionBytes says; 0 means no bound. Errors: as
// [Stream.UpdateMaxRecordBytes].
func (s *Stream) UpdateRetentionBytes(ctx context.Context, bytes int64) error {
	err := validateRetentionBytes(bytes)
	if err == nil {
		err = s.update(ctx, func(_ *appender, set *settings, _ *kv.Batch) error {
			set.retentionBytes = bytes
			return nil
		})
	}
	return wrapError("update retention bytes", s.name, err)
}

// trimmer is the worker that trims what has expired. It runs when there will be
// something to trim, but not more often than trimInterval.
type trimmer struct {
	db       *DB
	earliest time.Time // of the next run that trims
}

func (w *trimmer) run(ctx context.Context, _ bool) time.Duration {
	if wait := time.Until(w.earliest); wait > 0 {
		return wait
	}
	db := w.db
	plan, err := w.plan(ctx)
	if err == nil && len(plan.due) > 0 {
		w.earliest = time.Now().Add(trimInterval)
		for _, d := range plan.due { // one that fails is no reason to keep the others
			err = errors.Join(err, w.trim(ctx, d))
		}
		db.trimming.Ring() // what is left to do, and when
	}
	switch {
	case closedIsFine(db, err) != nil:
		db.opts.Logger.Warn("expired records could not be trimmed; it will be tried again", "error", err)
		return trimInterval
	case err == nil && len(plan.due) == 0 && plan.next != math.MaxUint64:
		return time.Duration(plan.next - min(plan.next, db.aging.now()))
	}
	return asPlanned
}

// retentionPlan is what is to be trimmed now, and the time on the retention
// clock at which there may be more; the largest for never.
type retentionPlan struct {
	due  []dueStream
	next uint64
}

// dueStream is what is to be trimmed of a stream: the records of some shards before a
// counter. Shards that have closed and lost all records are to go.
type dueStream struct {
	stream *Stream
	shards []*Shard
	before uint64
}

// plan takes out of the agenda what is due. What is due remains so until it
// is trimmed.
func (w *trimmer) plan(ctx context.Context) (retentionPlan, error) {
	db := w.db
	var plan retentionPlan
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		now := db.aging.now()
		a.asleep = 0 // whatever comes into the agenda now is in the plan
		for first := a.trims.First(); first != nil && first.Due() <= now; first = a.trims.First() {
			a.counts.looks.Add(1)
			s := first.Value
			if d, ok := a.dueOf(s, now); ok {
				plan.due = append(plan.due, d)
				a.trims.Remove(first)
			} else {
				a.schedule(s) // it is due later than it seemed
			}
		}
		for _, d := range plan.due {
			a.schedule(d.stream)
		}
		if plan.next = math.MaxUint64; a.trims.Len() > 0 {
			plan.next = a.trims.First().Due()
		}
		if len(plan.due) == 0 {
			a.asleep = plan.next
		}
		return nil, nil
	})
	if err != nil {
		return retentionPlan{}, err
	}
	return plan, nil
}

// dueOf returns what is to be trimmed of the stream now, if there is something.
func (a *appender) dueOf(s *Stream, now uint64) (d dueStream, ok bool) {
	d = dueStream{stream: s, before: s.w.settings.expiry(now)}
	if id, ok := s.w.ledger.Spare(uint64(s.w.settings.retentionBytes)); ok {
		d.before = max(d.before, a.epochs.LastCounter(id)+1)
	}
	for first := s.w.filled.First(); first != nil && first.Due() < d.before; first = s.w.filled.First() {
		a.counts.looks.Add(1)
		sh := first.Value
		if last := a.lastOfExtent(sh, 0); last >= d.before {
			s.w.filled.Set(first, last)
			continue
		}
		d.shards = append(d.shards, sh)
		s.w.filled.Remove(first)
	}
	for _, sh := range d.shards {
		a.file(sh)
	}
	first := s.w.emptied.First()
	return d, len(d.shards) > 0 || first != nil && s.goes(first) <= now
}

// trim trims a stream.
func (w *trimmer) trim(ctx context.Context, d dueStream) error {
	s := d.stream
	shards, horizons, err := horizonsAt(ctx, d.shards, bound{from: d.before})
	if err != nil {
		if s.deleted.Load() {
			return nil
		}
		return err
	}
	return w.db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.w.deleted {
			return nil, nil
		}
		trimmed := a.trim(shards, horizons, batch)
		dropped := a.dropShards(s, batch)
		a.schedule(s)
		return func() {
			if trimmed != nil {
				trimmed()
			}
			if dropped != nil {
				dropped()
			}
		}, nil
	})
}

// dropShards removes the shards whose time is over: closed, without a record left,
// and without a parent, so that lineage goes from its old end. It returns what shows
// that, or nil if there are none.
func (a *appender) dropShards(s *Stream, batch *kv.Batch) (publish func()) {
	now := a.db.aging.now()
	next := &topology{open: s.w.topology.open, next: s.w.topology.next, expired: s.w.topology.expired, gone: s.w.topology.gone}
	var gone []*Shard
	for first := s.w.emptied.First(); first != nil && s.goes(first) <= now; first = s.w.emptied.First() {
		sh := first.Value
		s.w.emptied.Remove(first)
		sh.w.expired = true
		gone = append(gone, sh)
		next.gone.add(sh.Metrics())
		batch.Delete(layout.ShardKey(s.number, sh.index))
		if horizon := sh.w.tip.LastCounter + 1; sh.w.tip.Ordinal > 0 && horizon > next.expired.Horizon {
			next.expired = layout.ExpiredShard{Shard: sh.index, CreatedSeconds: sh.createdSeconds, Horizon: horizon}
		}
		for _, index := range sh.w.closing.children {
			if child := s.w.topology.shard(index); child != nil {
				a.file(child)
			}
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.SortFunc(gone, func(x, y *Shard) int { return cmp.Compare(x.index, y.index) })
	next.shards = s.w.topology.without(gone)
	a.boundCounters(batch)
	s.w.topology = next
	s.save(batch)
	return func() {
		s.topology.Store(next)
		for _, sh := range gone {
			s.recent.remove(sh)
		}
		a.counts.shards.Add(-int64(len(gone)))
		a.db.noteChange(s.name)
	}
}
