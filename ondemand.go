package braid

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/ondemand"
)

const (
	// capacityInterval is how often streams on demand are looked at.
	capacityInterval = time.Minute

	// quietTime is how long neighbours have to be cold before they are merged.
	quietTime = 6 * time.Hour

	// peakDays is how long a peak is remembered, while the database is open.
	peakDays = 30

	maxDecisions = 16 // that Metrics shows
)

// CapacityDecision is what [OnDemand] has decided, and why.
type CapacityDecision struct {
	Time   time.Time
	Stream string
	Action string // such as "split shardId-000000000003 at 1701411834604692317316873037158841057280"
	Reason string
}

// shardLoad is what was put to a shard of a stream on demand, or was refused,
// since it was last looked at. The appender owns it.
type shardLoad struct {
	records, bytes uint64
	parts          [ondemand.Parts]uint64 // what it costs, by parts of the shard's range
}

// observe counts a put to a shard of a stream on demand.
func (a *appender) observe(sh *Shard, p *put) {
	if sh.w.load == nil {
		sh.w.load = new(shardLoad)
	}
	if s := sh.stream; !s.w.watched {
		s.w.watched = true
		a.watched = append(a.watched, s)
		a.db.kickCapacity()
	}
	size := uint64(p.record.Size())
	capacity := &sh.stream.w.settings.capacity
	sh.w.load.records++
	sh.w.load.bytes += size
	// A record costs as many bytes as there are for each record in the budgets.
	sh.w.load.parts[ondemand.Part(sh.hashKeys.Start.n, sh.hashKeys.End.n, p.hash)] += size + uint64(capacity.WriteBytesPerSecond/capacity.WriteRecordsPerSecond)
}

// kickCapacity tells that a stream on demand is used.
func (db *DB) kickCapacity() {
	select {
	case db.loaded <- struct{}{}:
	default:
	}
}

// shardHistory is how much was put to a shard. Minutes are counted from when the
// database was opened.
type shardHistory struct {
	first, last int64             // minute that was observed
	minutes     [15]ondemand.Load // averages, by minute modulo 15
	quarters    [int(quietTime / (15 * time.Minute))]ondemand.Load
	parts       [ondemand.Parts]float64 // fades by half in each minute
	stayed      string                  // why it was not split, when that was last said
}

// peaks are the highest loads of a stream, by day modulo peakDays.
type peaks struct {
	last int64 // day
	days [peakDays]ondemand.Load
}

// runCapacity is the goroutine that looks at the streams on demand: each minute
// while they are used, and for as long after as shards may have to be merged. An
// idle database does nothing. It ends when the database closes or has failed.
func (db *DB) runCapacity() {
	c := &db.capacity
	c.watched = make(map[*Stream]int64)
	timer := time.NewTimer(capacityInterval)
	timer.Stop() // until there is a put
	defer timer.Stop()
	running := false
	for {
		select {
		case <-db.loaded:
			if !running {
				timer.Reset(capacityInterval)
				running = true
			}
			continue
		case <-timer.C:
		case <-db.closing:
			return
		case <-db.store.Failed():
			return
		}
		minute := int64(time.Since(db.aging.start) / capacityInterval)
		err := db.adaptCapacity(context.Background(), minute)
		if closedIsFine(db, err) != nil {
			db.opts.Logger.Warn("the capacity of streams on demand could not be adapted; it will be tried again", "error", err)
		}
		if running = len(c.watched) > 0 || err != nil; running {
			timer.Reset(capacityInterval)
		}
	}
}

// watchedMinutes is how long a stream is looked at after it was put to: until its
// shards have been quiet for long enough to be merged.
const watchedMinutes = int64(quietTime/capacityInterval) + 1

// adaptCapacity looks at the streams on demand that were put to lately, and does what
// is decided.
func (db *DB) adaptCapacity(ctx context.Context, minute int64) error {
	observed, err := db.harvest(ctx, minute)
	if err != nil {
		return err
	}
	for s, stream := range observed {
		steps := ondemand.Plan(stream)
		if len(steps) == 0 {
			continue
		}
		before := s.topology.Load()
		if err := s.adapt(ctx, steps); err != nil && !s.deleted.Load() {
			return err
		}
		now := s.topology.Load()
		if now == before {
			continue
		}
		db.capacity.watched[s] = minute // what was merged may be merged again
		for _, step := range steps {
			for _, index := range []uint32{step.Shard, step.Other} {
				if sh := now.shard(index); sh != nil && sh.closing.Load() != nil {
					sh.history = nil
				}
			}
		}
	}
	return nil
}

// harvest takes what was put in the last minute, and returns what is known of each
// stream on demand that was put to lately.
func (db *DB) harvest(ctx context.Context, minute int64) (map[*Stream]ondemand.Stream, error) {
	c := &db.capacity
	quiet := make(map[*Stream]bool)
	for s, last := range c.watched {
		quiet[s] = minute-last > watchedMinutes
	}
	observed := make(map[*Stream]ondemand.Stream)
	loads := make(map[*Shard]*shardLoad)
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		watched := a.watched
		a.watched = nil
		for _, s := range watched {
			a.counts.looks.Add(1)
			capacity := s.w.settings.capacity
			loaded := slices.ContainsFunc(s.w.topology.open, func(sh *Shard) bool { return sh.w.load != nil })
			if s.w.deleted || capacity.Mode != OnDemand || quiet[s] && !loaded {
				s.w.watched = false
				continue
			}
			a.watched = append(a.watched, s)
			stream := ondemand.Stream{
				Budget: ondemand.Load{Records: float64(capacity.WriteRecordsPerSecond), Bytes: float64(capacity.WriteBytesPerSecond)},
				Min:    min(onDemandShards, capacity.MaxShards),
				Max:    capacity.MaxShards,
			}
			for _, sh := range s.w.topology.open {
				loads[sh], sh.w.load = sh.w.load, nil
				stream.Shards = append(stream.Shards, ondemand.Shard{Index: sh.index, Start: sh.hashKeys.Start.n, End: sh.hashKeys.End.n})
			}
			observed[s] = stream
		}
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	for s := range c.watched {
		if _, found := observed[s]; !found {
			s.forgetLoad()
			delete(c.watched, s)
		}
	}
	for s, stream := range observed {
		if _, known := c.watched[s]; !known {
			c.watched[s] = minute
		}
		var total ondemand.Load
		for i := range stream.Shards {
			sh := s.topology.Load().shard(stream.Shards[i].Index)
			if sh.history == nil {
				sh.history = &shardHistory{first: minute, last: minute - 1}
			}
			h := sh.history
			load := h.add(loads[sh], minute)
			h.describe(&stream.Shards[i], minute)
			if load != (ondemand.Load{}) {
				c.watched[s] = minute
			}
			total = ondemand.Load{Records: total.Records + load.Records, Bytes: total.Bytes + load.Bytes}
		}
		if s.peaks == nil {
			s.peaks = new(peaks)
		}
		stream.Peak = s.peaks.add(total, minute)
		observed[s] = stream
	}
	return observed, nil
}

// forgetLoad forgets what was put to the stream's shards, which are no longer looked
// at. The stream's peaks stay.
func (s *Stream) forgetLoad() {
	for _, sh := range s.topology.Load().open {
		sh.history = nil
	}
}

// add adds the load of a minute, and returns its average.
func (h *shardHistory) add(load *shardLoad, minute int64) (average ondemand.Load) {
	for m := max(h.last+1, minute-int64(quietTime/time.Minute)); m <= minute; m++ { // nothing was put in those between
		h.minutes[m%15] = ondemand.Load{}
		if m%15 == 0 || m == h.first {
			h.quarters[m/15%int64(len(h.quarters))] = ondemand.Load{}
		}
		for i := range h.parts {
			h.parts[i] /= 2
		}
	}
	h.last = minute
	if load == nil {
		return average
	}
	seconds := capacityInterval.Seconds()
	average = ondemand.Load{Records: float64(load.records) / seconds, Bytes: float64(load.bytes) / seconds}
	h.minutes[minute%15] = average
	quarter := &h.quarters[minute/15%int64(len(h.quarters))]
	*quarter = quarter.Max(average)
	for i, n := range load.parts {
		h.parts[i] += float64(n)
	}
	return average
}

// describe fills in what is known of the shard, where that is enough.
func (h *shardHistory) describe(sh *ondemand.Shard, minute int64) {
	last := h.minutes[minute%15]
	sh.Minute, sh.Parts = &last, h.parts
	if minute-h.first >= 14 {
		sh.Quarter = new(ondemand.Load)
		for _, m := range h.minutes {
			sh.Quarter.Records += m.Records / 15
			sh.Quarter.Bytes += m.Bytes / 15
		}
	}
	if minute-h.first >= int64(quietTime/time.Minute) {
		sh.Quiet = new(ondemand.Load)
		for _, q := range h.quarters {
			*sh.Quiet = sh.Quiet.Max(q)
		}
	}
}

// add notes the load of a minute, and returns the highest of the last days.
func (p *peaks) add(load ondemand.Load, minute int64) (peak ondemand.Load) {
	day := minute / int64(24*time.Hour/time.Minute)
	for d := max(p.last+1, day-peakDays+1); d <= day; d++ {
		p.days[d%peakDays] = ondemand.Load{}
	}
	p.last = day
	p.days[day%peakDays] = p.days[day%peakDays].Max(load)
	for _, d := range p.days {
		peak = peak.Max(d)
	}
	return peak
}

// adapt does what was decided for the stream, in one commit.
func (s *Stream) adapt(ctx context.Context, steps []ondemand.Step) error {
	var decisions []CapacityDecision
	decide := func(reason, action string, args ...any) {
		decisions = append(decisions, CapacityDecision{Time: s.db.clock(), Stream: s.name, Action: fmt.Sprintf(action, args...), Reason: reason})
	}
	for _, step := range steps {
		sh := s.topology.Load().shard(step.Shard)
		if sh == nil || sh.history == nil {
			continue
		}
		if h := sh.history; step.Kind == ondemand.Stay && h.stayed == "" {
			h.stayed = step.Reason
			decide(step.Reason, "leave %s as it is", shardID(step.Shard))
		}
	}
	err := s.reshard(ctx, func(r *reshard) error {
		if s.w.settings.capacity.Mode != OnDemand {
			return nil
		}
		for _, step := range steps {
			sh, err := r.open(shardID(step.Shard))
			if err != nil {
				continue
			}
			switch step.Kind {
			case ondemand.Split:
				if splits(sh, step.At) && len(r.shards) < maxShards {
					r.split(sh, step.At)
					decide(step.Reason, "split %s at %s", sh.id, HashKey{step.At})
				}
			case ondemand.Merge:
				if other, err := r.open(shardID(step.Other)); err == nil {
					r.merge(sh, other)
					decide(step.Reason, "merge %s and %s", sh.id, other.id)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c := &s.db.capacity
	c.mu.Lock()
	c.decisions = append(c.decisions, decisions...)
	c.decisions = slices.Clone(c.decisions[max(0, len(c.decisions)-maxDecisions):])
	c.mu.Unlock()
	for _, d := range decisions {
		s.db.opts.Logger.Info("on demand: "+d.Action, "stream", d.Stream, "reason", d.Reason)
	}
	return nil
}
