package queuetest

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// CheckReopened returns how a queue opened after a crash differs from what the crash may leave:
// exactly the state of one of the twins, from before and after the operation in flight. It
// compares counts; with whole it also waits until all records are visible and receives them.
// now returns the time by which records age.
//
// It must run in a bubble, before any other use of the queue.
func CheckReopened(ctx context.Context, q *queue.Queue, now func() time.Duration, twins []*Twin, whole bool) error {
	might := make([]*Twin, 0, len(twins))
	for _, tw := range twins {
		might = append(might, tw.Clone())
	}
	// judge keeps the twins that agree.
	judge := func(agrees func(*Twin) error) error {
		counters, err := countersOf(ctx, q.Stream())
		if err != nil {
			return err
		}
		var kept []*Twin
		var why []error
		for _, tw := range might {
			tw.Stream(counters)
			if err := agrees(tw); err != nil {
				why = append(why, err)
			} else {
				kept = append(kept, tw)
			}
		}
		if might = kept; len(kept) == 0 {
			return errors.Join(why...)
		}
		return nil
	}
	from := now()
	d, err := q.Describe(ctx)
	if err != nil {
		return err
	}
	to := now()
	err = judge(func(tw *Twin) error {
		tw.Reopened(from)
		if tw.IsUnsure(from) {
			return nil
		}
		return tw.Check(d, from, to)
	})
	if err != nil || !whole {
		return err
	}
	visible := now()
	for _, tw := range might {
		visible = max(visible, tw.Visible())
	}
	time.Sleep(visible - now() + time.Millisecond)
	const most = 10_000
	if err := q.Update(ctx, func(o *queue.Options) { o.MaxInFlight = most }); err != nil {
		return err
	}
	for _, dead := range []bool{false, true} {
		receive := q.Receive
		if dead {
			receive = q.DeadLetters().Receive
		}
		records, err := receive(ctx, most, &queue.ReceiveOptions{Wait: -1, Whole: true, Bytes: 1 << 30})
		if err != nil {
			return err
		}
		err = judge(func(tw *Twin) error {
			tw.MaxInFlight = most
			return tw.Receive(now(), most, tw.VisibilityTimeout, dead, true, records)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// countersOf returns the counters of the stream's records.
func countersOf(ctx context.Context, s *braid.Stream) (all []uint64, err error) {
	for r, err := range s.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			return nil, err
		}
		all = append(all, uint64(r.ArrivalTime.UnixNano()))
	}
	return all, nil
}
