package capture

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// ReplayOptions are the settings of [Replay]. The zero value of each field is a safe default.
type ReplayOptions struct {
	// Speed is the factor of the original pace: 1 keeps the pauses between arrivals, 60 replays an
	// hour in a minute, and 0, the default, makes no pauses. The range is 0.001 to 1,000,000. In a
	// testing/synctest bubble the pauses take no time.
	Speed float64

	// MaxPause is the maximum length of a pause. The default, 0, means no limit; it must not be
	// negative.
	MaxPause time.Duration

	// From and Until limit the arrival times of the replayed records: from From, inclusive, to
	// Until, exclusive. A zero time means no limit.
	From, Until time.Time
}

// Replay yields the records of a capture as they were in the captured stream (see [Original]), in
// the order of their arrival there, over all shards. Records of a shard, and of a partition key,
// keep their order even if the clocks of the service disagreed. Records captured during the replay
// are omitted. nil options are safe defaults.
//
// It reads the capture twice: first the headers, and then the records in order. It needs about 50
// bytes of memory for each record and each partition key.
//
// An error is yielded once, last, with the zero Record: [braid.ErrInvalidArgument] for the options,
// [ErrNotCaptured], those of reading, or the cause of ctx.
func Replay(ctx context.Context, stream *braid.Stream, opts *ReplayOptions) iter.Seq2[braid.Record, error] {
	var o ReplayOptions
	if opts != nil {
		o = *opts
	}
	return func(yield func(braid.Record, error) bool) {
		if err := replay(ctx, stream, &o, func(rec braid.Record) bool { return yield(rec, nil) }); err != nil {
			yield(braid.Record{}, fmt.Errorf("replay %q: %w", stream.Name(), err))
		}
	}
}

func replay(ctx context.Context, stream *braid.Stream, o *ReplayOptions, yield func(braid.Record) bool) error {
	if err := o.check(); err != nil {
		return err
	}
	index, err := indexOf(ctx, stream, o)
	if err != nil {
		return err
	}
	p := pacer{speed: o.Speed, maxPause: o.MaxPause}
	for len(index) > 0 {
		page, err := read(ctx, stream, index)
		if err != nil {
			return err
		}
		for i := range page {
			rec, err := Original(page[i])
			if err != nil {
				return err
			}
			if err := p.wait(ctx, index[i].due); err != nil {
				return err
			}
			if !yield(rec) {
				return nil
			}
		}
		index = index[len(page):]
	}
	return nil
}

func (o *ReplayOptions) check() error {
	invalid := func(field string, value any, rule string) error {
		return &braid.InvalidArgumentError{Field: "ReplayOptions." + field, Value: value, Rule: rule}
	}
	switch {
	case o.Speed != 0 && !(o.Speed >= 0.001 && o.Speed <= 1e6): // nor NaN
		return invalid("Speed", o.Speed, "must be 0.001 to 1,000,000, or 0 for no pauses")
	case o.MaxPause < 0:
		return invalid("MaxPause", o.MaxPause, "must not be negative")
	}
	return nil
}

// entry is a captured record and the time at which it is due.
type entry struct {
	due     int64 // its arrival in nanoseconds, but never before a record that it has to follow
	number  braid.SequenceNumber
	shard   int // of the capture
	ordinal int // in that shard
}

// indexOf returns the records to replay, in order.
func indexOf(ctx context.Context, stream *braid.Stream, o *ReplayOptions) (index []entry, err error) {
	seed := maphash.MakeSeed()
	ofShard, ofKey := make(map[braid.ShardID]int64), make(map[uint64]int64) // the due time of the last record
	ordinals := make(map[int]int)
	for rec, err := range stream.BorrowRecords(ctx, braid.TrimHorizon()) {
		if err != nil {
			return nil, err
		}
		was, err := Original(rec)
		if err != nil {
			return nil, err
		}
		key := maphash.String(seed, rec.PartitionKey)
		due := max(was.ArrivalTime.UnixNano(), ofShard[was.ShardID], ofKey[key])
		ofShard[was.ShardID], ofKey[key] = due, due
		shard := rec.ShardID.Index()
		ordinals[shard]++
		if was.ArrivalTime.Before(o.From) || !o.Until.IsZero() && !was.ArrivalTime.Before(o.Until) {
			continue
		}
		index = append(index, entry{due, rec.SequenceNumber, shard, ordinals[shard]})
	}
	slices.SortStableFunc(index, func(a, b entry) int { return cmp.Compare(a.due, b.due) })
	return index, nil
}

// maxPage is the maximal number of records in a read.
const maxPage = 1000

// read returns the records of the first entries, at least one: as many as are adjacent in the
// capture.
func read(ctx context.Context, stream *braid.Stream, index []entry) ([]braid.Record, error) {
	n, first := 1, index[0]
	for n < min(len(index), maxPage) && index[n].shard == first.shard && index[n].ordinal == first.ordinal+n {
		n++
	}
	shard, err := stream.Shard(first.number.ShardID())
	if err != nil {
		return nil, err
	}
	page, err := shard.GetRecords(ctx, braid.AtSequence(first.number), &braid.GetRecordsOptions{Limit: n, Unmetered: true})
	if err != nil {
		return nil, err
	}
	return page.Records, nil
}

// pacer waits until records are due.
type pacer struct {
	speed    float64 // 0 means no pauses
	maxPause time.Duration
	last     int64     // when the last record was due
	at       time.Time // and when it was yielded
}

func (p *pacer) wait(ctx context.Context, due int64) error {
	if p.speed == 0 {
		return context.Cause(ctx)
	}
	if p.at.IsZero() {
		p.last, p.at = due, time.Now()
	}
	pause := time.Duration(float64(due-p.last) / p.speed)
	if p.maxPause > 0 {
		pause = min(pause, p.maxPause)
	}
	p.last, p.at = due, p.at.Add(pause) // not the current time, so that the replay catches up after a slow record
	timer := time.NewTimer(time.Until(p.at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
