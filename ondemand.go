package braid

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/ondemand"
)

// maxWatchedMinutes is how long a stream is watched after its last put: until its shards
// have been quiet for long enough to be merged.
const maxWatchedMinutes = int64(ondemand.QuietTime/ondemand.Interval) + 1

// observe counts a put to a shard of a stream on demand.
func (a *appender) observe(sh *Shard, p *put) {
	if sh.w.load == nil {
		sh.w.load = new(ondemand.Count)
	}
	if s := sh.stream; !s.w.watched {
		s.w.watched = true
		a.watched = append(a.watched, s)
		a.db.scaling.Ring()
	}
	size := uint64(p.record.Size())
	capacity := &sh.stream.w.settings.capacity
	sh.w.load.Records++
	sh.w.load.Bytes += size
	// A record counts, beside its bytes, as many bytes as the budgets have per record.
	sh.w.load.Parts[ondemand.Part(sh.hashKeys.Start.n, sh.hashKeys.End.n, p.hashKey())] += size + uint64(capacity.WriteBytesPerSecond/capacity.WriteRecordsPerSecond)
}

// scaler is the worker that scales the streams on demand. It looks at a stream each minute
// while the stream is used, and afterwards for as long as shards may have to be merged. The
// observed load is only in memory: here, in Stream.peaks and in Shard.history, which belong
// to the scaler.
type scaler struct {
	db      *DB
	planned bool              // whether a run is scheduled
	watched map[*Stream]int64 // the watched streams, and the last minute in which each was put to or resharded
}

func (w *scaler) run(ctx context.Context, rung bool) time.Duration {
	if rung {
		if w.planned {
			return asPlanned
		}
		w.planned = true
		return ondemand.Interval
	}
	minute := int64(time.Since(w.db.aging.start) / ondemand.Interval)
	err := w.scale(ctx, minute)
	if closedIsFine(w.db, err) != nil {
		w.db.opts.Logger.Warn("on-demand streams could not be scaled; retrying later", "error", err)
	}
	if w.planned = len(w.watched) > 0 || err != nil; w.planned {
		return ondemand.Interval
	}
	return asPlanned
}

// scale plans and carries out the splits and merges of the watched streams.
func (w *scaler) scale(ctx context.Context, minute int64) error {
	observed, err := w.harvest(ctx, minute)
	if err != nil {
		return err
	}
	for s, stream := range observed {
		steps := ondemand.Plan(stream)
		if len(steps) == 0 {
			continue
		}
		before := s.topology.Load()
		if err := w.reshard(ctx, s, steps); err != nil && !s.deleted.Load() {
			return err
		}
		now := s.topology.Load()
		if now == before {
			continue
		}
		w.watched[s] = minute // merged shards may be merged again
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

// harvest collects the load of the last minute, and returns the load and the shards of each
// watched stream.
func (w *scaler) harvest(ctx context.Context, minute int64) (map[*Stream]ondemand.Stream, error) {
	quiet := make(map[*Stream]bool)
	for s, last := range w.watched {
		quiet[s] = minute-last > maxWatchedMinutes
	}
	observed := make(map[*Stream]ondemand.Stream)
	loads := make(map[*Shard]*ondemand.Count)
	err := w.db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
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
	for s := range w.watched {
		if _, found := observed[s]; !found {
			s.forgetLoad()
			delete(w.watched, s)
		}
	}
	for s, stream := range observed {
		if _, known := w.watched[s]; !known {
			w.watched[s] = minute
		}
		var total ondemand.Load
		for i := range stream.Shards {
			sh := s.topology.Load().shard(stream.Shards[i].Index)
			if sh.history == nil {
				sh.history = ondemand.NewHistory(minute)
			}
			h := sh.history
			load := h.Add(loads[sh], minute)
			h.Describe(&stream.Shards[i])
			if load != (ondemand.Load{}) {
				w.watched[s] = minute
			}
			total = ondemand.Load{Records: total.Records + load.Records, Bytes: total.Bytes + load.Bytes}
		}
		if s.peaks == nil {
			s.peaks = new(ondemand.Peaks)
		}
		stream.Peak = s.peaks.Add(total, minute)
		observed[s] = stream
	}
	return observed, nil
}

// forgetLoad drops the load of the stream's shards, which are no longer watched. The
// stream's peaks stay.
func (s *Stream) forgetLoad() {
	for _, sh := range s.topology.Load().open {
		sh.history = nil
	}
}

// reshard carries out the steps that were planned for a stream, in one commit.
func (w *scaler) reshard(ctx context.Context, s *Stream, steps []ondemand.Step) error {
	var made []CapacityDecision
	decide := func(reason, action string, args ...any) {
		made = append(made, CapacityDecision{Time: w.db.clock(), Stream: s.name, Action: fmt.Sprintf(action, args...), Reason: reason})
	}
	for _, step := range steps {
		sh := s.topology.Load().shard(step.Shard)
		if sh == nil || sh.history == nil {
			continue
		}
		if h := sh.history; step.Kind == ondemand.Stay && h.Stayed == "" {
			h.Stayed = step.Reason
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
	w.db.decisions.add(made)
	for _, d := range made {
		w.db.opts.Logger.Info("scaling decision for a shard of an on-demand stream", "stream", d.Stream, "action", d.Action, "reason", d.Reason)
	}
	return nil
}
