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

// Retention has two sides. Which records can be read is computed: every read compares with the
// expiry at that instant, so a record disappears exactly when its time is over. Which records
// are stored follows later: a goroutine trims the shards, as [Stream.Trim] would, whenever all
// records of a shard in an epoch have expired, and so reclaims their space.
//
// Invariant: trimming never overtakes expiry, and neither goes back. Records that a change of
// the period has cut off stay cut off by the stream's floor, which is stored with the change.

// trimInterval is the most time that passes before expired records are trimmed. A longer
// interval costs less.
const trimInterval = time.Minute

// IncreaseRetention makes the stream keep its records for longer: 24 hours to 8,760 hours, and
// not less than the current period. A negative period means that records no longer expire.
// Records that have already expired do not come back.
//
// Errors: [ErrInvalidArgument], and those of [Stream.UpdateMaxRecordBytes]. Kinesis:
// IncreaseStreamRetentionPeriod.
func (s *Stream) IncreaseRetention(ctx context.Context, period time.Duration) error {
	return wrapError("increase retention", s.name, s.updateRetention(ctx, period, true))
}

// DecreaseRetention makes the stream keep its records for a shorter time: 24 hours to 8,760
// hours, and not more than the current period. Once it has returned, older records cannot be
// read, even if the period is increased again.
//
// Errors: [ErrInvalidArgument], and those of [Stream.UpdateMaxRecordBytes]. Kinesis:
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
		set.floor = set.expiry(now) // and records that a shorter one cuts off are gone for good
		return nil
	})
}

// lasting returns a period for comparisons: 0, which means forever, is the longest.
func lasting(period time.Duration) time.Duration {
	if period == 0 {
		return math.MaxInt64
	}
	return period
}

// UpdateRetentionBytes changes how much the stream keeps: see
// [StreamOptions].RetentionBytes. 0 means no bound. Errors: as
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

// trimmer is the worker that trims expired records. It runs when there is something to
// trim, but at most once per trimInterval.
type trimmer struct {
	db       *DB
	earliest time.Time // when it may trim next
}

func (w *trimmer) run(ctx context.Context, _ bool) time.Duration {
	if wait := time.Until(w.earliest); wait > 0 {
		return wait
	}
	db := w.db
	plan, err := w.plan(ctx)
	if err == nil && len(plan.due) > 0 {
		w.earliest = time.Now().Add(trimInterval)
		for _, d := range plan.due { // a failure of one stream does not keep the others
			err = errors.Join(err, w.trim(ctx, d))
		}
		db.trimming.Ring() // run again, to plan the next run
	}
	switch {
	case closedIsFine(db, err) != nil:
		db.opts.Logger.Warn("expired records could not be trimmed; retrying later", "error", err)
		return trimInterval
	case err == nil && len(plan.due) == 0 && plan.next != math.MaxUint64:
		return time.Duration(plan.next - min(plan.next, db.aging.now()))
	}
	return asPlanned
}

// retentionPlan says what to trim now.
type retentionPlan struct {
	due  []dueStream
	next uint64 // when there may be more to trim, on the retention clock; the largest value for never
}

// dueStream says what to trim of a stream: the records of some shards before a counter, and
// the closed shards that have no records left.
type dueStream struct {
	stream *Stream
	shards []*Shard
	before uint64
}

// plan returns the streams in the agenda that are due. They remain due until they are
// trimmed.
func (w *trimmer) plan(ctx context.Context) (retentionPlan, error) {
	db := w.db
	var plan retentionPlan
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		now := db.aging.now()
		a.asleep = 0 // no need to ring for what is due by now: the plan includes it
		for first := a.trims.First(); first != nil && first.Due() <= now; first = a.trims.First() {
			a.counts.looks.Add(1)
			s := first.Value
			if d, ok := a.dueOf(s, now); ok {
				plan.due = append(plan.due, d)
				a.trims.Remove(first)
			} else {
				a.schedule(s) // it is due later than the agenda said
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

// dueOf returns what to trim of the stream now. ok is false if there is nothing.
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

// dropShards removes the closed shards whose time is over: they have no record left, and no
// parent, so that lineage shrinks from its old end. It returns the function that shows this to
// readers, nil if there are none.
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
