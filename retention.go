package braid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/agenda"
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
//
// What is to be trimmed next is found without a look at the rest: a stream's shards
// are in agendas, by what they hold, and the streams with something to trim in the
// appender's, by when that is due. What changes a shard or stream puts it in its
// place anew. TestCostDoesNotGrowWithWhatIsIdle holds it.

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
			return &InvalidArgumentError{"Period", period, fmt.Sprintf("must not be shorter than the present period, %s; DecreaseRetention makes it shorter", hours(was))}
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
func (sh *Shard) readable(ctx context.Context, from uint64, horizon layout.Horizon, slices epoch.Slices) (_ layout.Horizon, exact bool, err error) {
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
	border, err := sh.lastBefore(ctx, expiry, horizon, slices)
	if isDamage(err) {
		border = sliceBefore(expiry, horizon, slices)
		border.Counter = expiry
		return border, false, nil
	}
	return border, true, err
}

// file puts the shard into the stream's agendas, by what it holds.
func (a *appender) file(sh *Shard) {
	a.counts.looks.Add(1)
	s := sh.stream
	if len(sh.allSlices) > 0 {
		s.filled.Set(&sh.filled, a.lastOfSlice(sh, 0))
		return
	}
	s.filled.Remove(&sh.filled)
	s.oldest.Remove(&sh.oldest)
	if sh.ending != nil && !s.routes.hasParentOf(sh) {
		s.emptied.Set(&sh.emptied, sh.ending.aged)
	}
}

// lastOfSlice returns a counter that no record in the shard's i-th slice exceeds. It
// goes up as long as the slice is the last one.
func (a *appender) lastOfSlice(sh *Shard, i int) uint64 {
	if i+1 < len(sh.allSlices) {
		return a.epochs.LastCounter(sh.allSlices[i].Epoch)
	}
	return sh.next.LastCounter
}

// schedule puts the stream into the agenda, by when it will have something to trim,
// or may have: what is due by the agendas of its shards may turn out to be due later.
func (a *appender) schedule(s *Stream) {
	due := s.due()
	if s.gone || due == math.MaxUint64 {
		a.trims.Remove(&s.trims)
		return
	}
	a.trims.Set(&s.trims, due)
	if due < a.asleep {
		a.asleep = 0
		a.db.kickRetention()
	}
}

// due returns the time on the retention clock at which the stream may have something
// to trim; the largest for never.
func (s *Stream) due() uint64 {
	due := uint64(math.MaxUint64)
	if s.ledger.Over(uint64(s.config.retentionBytes)) {
		return 0
	}
	if first := s.filled.First(); first != nil {
		if first.Due() < s.config.floor {
			return 0
		}
		if s.config.retention > 0 {
			due = first.Due() + uint64(s.config.retention) + 1
		}
	}
	if first := s.emptied.First(); first != nil {
		due = min(due, s.goes(first))
	}
	return due
}

// goes returns the time on the retention clock at which a closed shard goes that has
// no records.
func (s *Stream) goes(sh *agenda.Item[*Shard]) uint64 {
	period := s.config.retention
	if period == 0 {
		period = defaultRetention // its readers must have time to see its end
	}
	return sh.Due() + uint64(period)
}

// restoreTrims fills in the agendas and the ledger of a stream that was loaded.
func (a *appender) restoreTrims(s *Stream) {
	for _, sh := range s.routes.shards {
		for _, parent := range sh.parents {
			if p := s.routes.shard(parent); p != nil && p.ending != nil {
				p.ending.children = append(p.ending.children, sh.index)
			}
		}
		for i, slice := range sh.allSlices {
			bytes := sh.sliceBytes(i)
			s.ledger.AddSlice(slice.Epoch)
			s.ledger.Grow(slice.Epoch, bytes)
			a.epochs.Hold(slice.Epoch, bytes)
		}
		if len(sh.allSlices) > 0 {
			s.ledger.Trim(sh.allSlices[0].Epoch, sh.trimmedOf(0, sh.trimmed))
			s.oldest.Set(&sh.oldest, sh.allSlices[0].FirstCounter)
		}
		a.file(sh)
	}
	a.schedule(s)
}

// kickRetention wakes retention, which has something to trim earlier than planned.
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
			for _, d := range plan.due { // one that fails is no reason to keep the others
				err = errors.Join(err, db.expire(context.Background(), d))
			}
			db.kickRetention() // what is left to do, and when
		}
		switch {
		case closedIsFine(db, err) != nil:
			db.opts.Logger.Warn("expired records could not be trimmed; it will be tried again", "error", err)
			timer.Reset(trimInterval)
		case err == nil && len(plan.due) == 0 && plan.next != math.MaxUint64:
			timer.Reset(time.Duration(plan.next - min(plan.next, db.aging.now())))
		}
	}
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

// planRetention takes out of the agenda what is due. What is due remains so until it
// is trimmed.
func (db *DB) planRetention(ctx context.Context) (retentionPlan, error) {
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
	d = dueStream{stream: s, before: s.config.expiry(now)}
	if id, ok := s.ledger.Spare(uint64(s.config.retentionBytes)); ok {
		d.before = max(d.before, a.epochs.LastCounter(id)+1)
	}
	for first := s.filled.First(); first != nil && first.Due() < d.before; first = s.filled.First() {
		a.counts.looks.Add(1)
		sh := first.Value
		if last := a.lastOfSlice(sh, 0); last >= d.before {
			s.filled.Set(first, last)
			continue
		}
		d.shards = append(d.shards, sh)
		s.filled.Remove(first)
	}
	for _, sh := range d.shards {
		a.file(sh)
	}
	first := s.emptied.First()
	return d, len(d.shards) > 0 || first != nil && s.goes(first) <= now
}

// expire trims a stream.
func (db *DB) expire(ctx context.Context, d dueStream) error {
	s := d.stream
	shards, horizons, err := horizonsAt(ctx, d.shards, bound{from: d.before})
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

// horizonsAt returns the shards of which a trim of all records before the bound takes
// some, and the horizon that does it for each.
func horizonsAt(ctx context.Context, all []*Shard, before bound) (shards []*Shard, horizons []layout.Horizon, err error) {
	for _, sh := range all {
		now, _ := sh.view()
		horizon, err := sh.horizonAt(ctx, before)
		if isDamage(err) { // what is damaged goes with the rest of its slice
			stored, slices := sh.view()
			horizon, err = sliceBefore(before.from, stored, slices), nil
		}
		if err != nil {
			return nil, nil, err
		}
		if horizon.Counter > now.Counter {
			shards, horizons = append(shards, sh), append(horizons, horizon)
		}
	}
	return shards, horizons, nil
}

// dropShards removes the shards whose time is over: closed, without a record left,
// and without a parent, so that lineage goes from its old end. It returns what shows
// that, or nil if there are none.
func (a *appender) dropShards(s *Stream, batch *kv.Batch) (publish func()) {
	now := a.db.aging.now()
	next := &topology{open: s.routes.open, next: s.routes.next, expired: s.routes.expired}
	var gone []*Shard
	for first := s.emptied.First(); first != nil && s.goes(first) <= now; first = s.emptied.First() {
		sh := first.Value
		s.emptied.Remove(first)
		sh.expired = true
		gone = append(gone, sh)
		batch.Delete(layout.ShardKey(s.number, sh.index))
		if horizon := sh.next.LastCounter + 1; sh.next.Ordinal > 0 && horizon > next.expired.Horizon {
			next.expired = layout.ExpiredShard{Shard: sh.index, CreatedSeconds: sh.createdSeconds, Horizon: horizon}
		}
		for _, index := range sh.ending.children {
			if child := s.routes.shard(index); child != nil {
				a.file(child)
			}
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.SortFunc(gone, func(x, y *Shard) int { return cmp.Compare(x.index, y.index) })
	next.shards = s.routes.without(gone)
	a.boundCounters(batch)
	s.routes = next
	s.save(batch)
	return func() {
		s.topology.Store(next)
		a.counts.shards.Add(-int64(len(gone)))
		a.db.changed.Raise()
	}
}
