package queue

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// Description is what a queue holds at one time. All counts are exact. Kinesis:
// DescribeQueue, and the metrics of queues.
type Description struct {
	Name, ID  string
	CreatedAt time.Time
	StartedAt time.Time // as [Queue.StartedAt] has it
	Options   Options   // with defaults filled in; Start is not kept

	Visible      int64 // records that can be received now: new ones, and ones that come again
	InFlight     int64 // received, and hidden until they are acknowledged or their timeout passes
	Delayed      int64 // given back with a delay that has not passed
	Held         int64 // behind another record of their key, of those that the queue has looked at
	Dead         int64 // dead letters, those in flight included
	DeadInFlight int64

	// OldestAge is how long ago the oldest record arrived that is not settled and not dead, and
	// OldestDeadAge the same of dead letters; 0 without any.
	OldestAge, OldestDeadAge time.Duration

	// The following count since the database was opened; what lapsed or died before the first
	// use of the queue since then is not counted again.

	Received      int64 // deliveries, of dead letters too
	EmptyReceives int64 // calls that have found nothing in time
	Acknowledged  int64
	Lapsed        int64 // deliveries whose timeout has passed
	Died          int64 // records that have become dead letters
	Restored      int64

	// Expired counts records that have left the stream before they were settled, because
	// retention or a trim removed them, or they could not be read: never received, received,
	// and dead ones. The first counts since the queue was created, but for shards that went
	// while the queue was not used.
	ExpiredUnreceived, ExpiredReceived, ExpiredDead int64
}

// Describe counts what the queue holds. It looks at each shard of the stream. Errors:
// [ErrQueueNotFound], and those of package braid.
func (q *Queue) Describe(ctx context.Context) (*Description, error) {
	d, err := q.describe(ctx)
	return d, wrap("describe", q.name, err)
}

func (q *Queue) describe(ctx context.Context) (*Description, error) {
	if err := q.load(ctx); err != nil {
		return nil, err
	}
	d := &Description{Name: q.name, ID: q.ID(), CreatedAt: q.CreatedAt(), StartedAt: q.StartedAt()}
	q.mu.Lock()
	now := q.door.Now()
	q.passed(now)
	d.Options = q.settings
	d.Visible = int64(q.count[ready])
	d.InFlight = int64(q.count[inFlight])
	d.Delayed = int64(q.count[waiting])
	d.Held = int64(q.count[held])
	d.Dead = int64(q.count[dead] + q.count[deadInFlight])
	d.DeadInFlight = int64(q.count[deadInFlight])
	d.Received, d.EmptyReceives, d.Acknowledged = int64(q.stats.received), int64(q.stats.empty), int64(q.stats.acknowledged)
	d.Lapsed, d.Died, d.Restored = int64(q.stats.lapsed), int64(q.stats.died), int64(q.stats.restored)
	d.ExpiredDead = int64(q.expired[dead] + q.expired[deadInFlight])
	d.ExpiredReceived = int64(q.expired[inFlight] + q.expired[waiting] + q.expired[ready])
	unreceived := q.lost + uint64(q.expired[held])
	oldest, oldestDead := q.oldest()
	next, shards := q.next, q.shards
	q.mu.Unlock()

	for index, sh := range shards {
		first, ordinal, records, err := sh.inner.Ahead(ctx, next)
		if err != nil {
			return nil, err
		}
		d.Visible += int64(records)
		if first != 0 && (oldest == 0 || first < oldest) {
			oldest = first
		}
		q.mu.Lock()
		if q.next == next { // else some were received meanwhile
			unreceived += q.state.missed(index, ordinal)
		}
		q.mu.Unlock()
	}
	d.ExpiredUnreceived = int64(unreceived)
	d.OldestAge, d.OldestDeadAge = age(oldest, now), age(oldestDead, now)
	return d, q.over(ctx)
}

// age returns how long ago a counter was given out, 0 for none.
func age(counter, now uint64) time.Duration {
	if counter == 0 {
		return 0
	}
	return time.Duration(now - min(now, counter))
}

// oldest returns the least counters of entries that are not dead, and of dead ones.
func (s *state) oldest() (alive, dying uint64) {
	for _, e := range s.entries {
		at := &alive
		if e.phase == dead || e.phase == deadInFlight {
			at = &dying
		}
		if *at == 0 || e.counter < *at {
			*at = e.counter
		}
	}
	return alive, dying
}

// Update changes settings of the queue: change gets those that it has, with defaults filled
// in, and sets what is to be different. It is called again if somebody else has changed them
// meanwhile. Stream, Start and OrderByKey cannot be changed.
//
// A new VisibilityTimeout is that of later receives. With a lower MaxReceives, records that
// were received so often already are dead, but for those in flight, which finish their
// attempt. With a higher one, or none, dead letters stay what they are.
//
// Errors: braid.ErrInvalidArgument; [ErrQueueNotFound]; and those of package braid. Kinesis:
// UpdateQueue.
func (q *Queue) Update(ctx context.Context, change func(*Options)) error {
	return wrap("update", q.name, q.update(ctx, change))
}

func (q *Queue) update(ctx context.Context, change func(*Options)) error {
	if err := q.load(ctx); err != nil {
		return err
	}
	for {
		q.mu.Lock()
		was := q.settings
		q.mu.Unlock()
		if err := q.updateFrom(ctx, was, change); err != errSuperseded {
			return err
		}
	}
}

// errSuperseded reports that somebody else has changed the settings meanwhile.
var errSuperseded = errors.New("the settings have changed")

func (q *Queue) updateFrom(ctx context.Context, was Options, change func(*Options)) error {
	given := was
	change(&given)
	opts, err := given.withDefaults()
	switch {
	case err != nil:
		return err
	case opts.Stream != was.Stream:
		return invalid("Stream", opts.Stream, "must not be changed; it is %q", was.Stream)
	case !opts.Start.Equal(was.Start):
		return invalid("Start", opts.Start, "must not be changed")
	case opts.OrderByKey != was.OrderByKey:
		return invalid("OrderByKey", opts.OrderByKey, "must not be changed")
	case opts.BlockAtDead != was.BlockAtDead:
		return invalid("BlockAtDead", opts.BlockAtDead, "must not be changed")
	}
	return q.door.Commit(ctx, false, 1000, func(rows companion.Rows) (func(), error) {
		q.mu.Lock()
		defer q.mu.Unlock()
		switch {
		case q.gone:
			return nil, ErrQueueNotFound
		case q.settings != was:
			return nil, errSuperseded
		}
		q.passed(q.door.Now())
		q.flush(rows)
		if opts.MaxReceives != q.settings.MaxReceives {
			for _, e := range q.entries {
				if e.phase == dead && !e.dead { // it is so by the old limit: whatever the new one, it stays dead
					e.dead = true
					q.put(rows, e)
				}
			}
		}
		q.settings = opts
		for _, e := range q.entries {
			if (e.phase == ready || e.phase == held) && q.exhausted(e) {
				q.die(e)
			}
		}
		rows.Set(layout.QueueKey(q.id), q.row())
		return q.alert, nil
	})
}

// Delete deletes the queue. Its stream stays as it is. Receivers that wait return
// [ErrQueueNotFound], and receipts are no longer valid. It works while the disk is full.
// Errors: [ErrQueueNotFound], and those of package braid. Kinesis: DeleteQueue.
func (q *Queue) Delete(ctx context.Context) error {
	if err := q.over(ctx); err != nil {
		return wrap("delete", q.name, err)
	}
	err := q.door.Commit(ctx, true, 200, func(rows companion.Rows) (func(), error) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.gone {
			return nil, ErrQueueNotFound
		}
		q.gone = true
		q.all.remove(q)
		_ = q.inner.AddQueues(-1) // the stream cannot have been deleted
		rows.Delete(layout.QueueKey(q.id))
		rows.DeleteRange(layout.QueueCursorsSpan(q.id))
		rows.DeleteRange(layout.QueueDeliveriesSpan(q.id))
		return func() { close(q.deleted) }, nil
	})
	return wrap("delete", q.name, err)
}

// remove forgets a queue, whose mutex the caller holds.
func (all *registry) remove(q *Queue) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.byName, q.name)
	delete(all.byID, q.id)
}
