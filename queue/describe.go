package queue

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// Description is the state of a queue at one moment. Kinesis: DescribeQueue, and the metrics of
// queues.
type Description struct {
	Name, ID  string
	CreatedAt time.Time
	StartedAt time.Time // see [Queue.StartedAt]
	Options   Options   // with defaults filled in; Start is not stored

	Visible      int64 // records that can be received now: new records, and records that are received again
	InFlight     int64 // received, and hidden until they are acknowledged or their timeout passes
	Delayed      int64 // given back with a delay that has not passed
	Held         int64 // read by the queue, and held back behind another record of their key
	Dead         int64 // dead letters, including those in flight
	DeadInFlight int64

	// OldestAge is the age of the oldest record that is neither settled nor dead, and
	// OldestDeadAge that of the oldest dead letter. They are 0 if there is none.
	OldestAge, OldestDeadAge time.Duration

	// ExpiredUnreceived, ExpiredReceived and ExpiredDead count the records that left the queue
	// before they were settled, because retention or a trim removed them, or because they could not
	// be read: records that were never received, records that were received, and dead letters. The
	// counts start when the queue is created, and the queue's next commits store them. If the database
	// is closed before that, records that were trimmed while in flight may then count as dead instead.
	// ExpiredUnreceived may be too low for a shard that retention removes. Its records are not
	// counted if the queue was not used since the database was opened, and the count is lost if the
	// database is closed before the next commit.
	ExpiredUnreceived, ExpiredReceived, ExpiredDead int64

	// The following counts are not stored: they start at 0 each time the database is opened. Lapsed
	// and Died do not count what happened before the first use of the queue since then.
	Received      int64 // deliveries, including those of dead letters
	EmptyReceives int64 // receive calls that returned no records
	Acknowledged  int64
	Lapsed        int64 // deliveries whose timeout has passed
	Died          int64 // records that became dead letters
	Restored      int64
}

// Options returns the settings of the queue, from memory, with defaults filled in. Start
// is not stored; [Queue.StartedAt] returns its time.
func (q *Queue) Options() Options {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.settings
}

// Describe counts the records of the queue. The counts are exact and belong to one moment, even
// while records are put, received and settled. Each unsettled record of the stream, from the
// queue's start up to that moment, is in exactly one of Visible, InFlight, Delayed, Held, Dead and
// the Expired counts. A delivery or an acknowledgement that is being committed counts as done. A
// record that is trimmed or expires while Describe looks at its shard may already count as expired.
//
// The cost grows with the number of shards of the stream. Errors: [ErrQueueNotFound], and
// those of package braid.
func (q *Queue) Describe(ctx context.Context) (*Description, error) {
	d, err := q.describe(ctx)
	return d, wrap("describe", q.name, err)
}

func (q *Queue) describe(ctx context.Context) (*Description, error) {
	if err := q.load(ctx); err != nil {
		return nil, err
	}
	d := &Description{Name: q.name, ID: q.ID(), CreatedAt: q.CreatedAt(), StartedAt: q.StartedAt()}
	type unreceived struct {
		companion.Shard
		ordinal uint64 // of the first one
	}
	now, to, err := q.lockPresent(ctx)
	if err != nil {
		return nil, err
	}
	d.Options = q.settings
	d.Received, d.EmptyReceives, d.Acknowledged = int64(q.stats.received), int64(q.stats.empty), int64(q.stats.acknowledged)
	d.Lapsed, d.Died, d.Restored = int64(q.stats.lapsed), int64(q.stats.died), int64(q.stats.restored)
	count := q.count
	for _, e := range q.unseen {
		if e.counter > to && q.entries[e.counter] == e {
			count[e.phase]-- // for others, its record does not exist yet
		}
	}
	d.Visible = int64(count[ready])
	d.InFlight = int64(count[inFlight])
	d.Delayed = int64(count[waiting])
	d.Held = int64(count[held])
	d.Dead = int64(count[dead] + count[deadInFlight])
	d.DeadInFlight = int64(count[deadInFlight])
	d.ExpiredUnreceived = int64(q.expired.unreceived)
	d.ExpiredReceived = int64(q.expired.received)
	d.ExpiredDead = int64(q.expired.dead)
	oldest, oldestDead := counterOf(q.ages.living.First()), counterOf(q.ages.dying.First())
	if oldest > to {
		oldest = 0
	}
	next := q.next
	shards := make([]unreceived, 0, len(q.shards))
	for index, sh := range q.shards {
		shards = append(shards, unreceived{sh.inner, q.ordinal(index)})
	}
	q.mu.Unlock()

	// At that moment, nothing from next to the end of each shard was received. So these
	// records are counted in the log, while others may already receive them.
	for _, sh := range shards {
		end, err := sh.CountTo(ctx, to)
		if err != nil {
			return nil, err
		}
		first, ordinal, err := sh.Ahead(ctx, next)
		if err != nil {
			return nil, err
		}
		ordinal = min(ordinal, end)
		d.Visible += int64(end - ordinal)
		d.ExpiredUnreceived += int64(ordinal - min(ordinal, sh.ordinal))
		if ordinal < end && (oldest == 0 || first < oldest) {
			oldest = first
		}
	}
	d.OldestAge, d.OldestDeadAge = age(oldest, now), age(oldestDead, now)
	return d, q.over(ctx)
}

// counterOf returns an entry's counter, or 0 for none.
func counterOf(it *agenda.Item[*entry]) uint64 {
	if it == nil {
		return 0
	}
	return it.Due()
}

// age returns the time since a counter was given out, or 0 for none.
func age(counter, now uint64) time.Duration {
	if counter == 0 {
		return 0
	}
	return time.Duration(now - min(now, counter))
}

// Update changes settings of the queue. It calls change with the current settings, with defaults
// filled in, and stores them as modified by change. If another call of Update changes the settings
// at the same time, change is called again. Stream, Start, OrderByKey and BlockAtDead cannot be
// changed.
//
// A new VisibilityTimeout applies to later receives. A lower MaxReceives makes records
// dead that were already received that often; those in flight finish their attempt first.
// A higher MaxReceives, or none, does not revive dead letters.
//
// Errors: braid.ErrInvalidArgument; [ErrQueueNotFound]; and those of package braid. Kinesis:
// UpdateQueue.
func (q *Queue) Update(ctx context.Context, change func(*Options)) error {
	return wrap("update", q.name, q.update(ctx, change))
}

func (q *Queue) update(ctx context.Context, change func(*Options)) error {
	if change == nil {
		return invalid("change", nil, "must be a function")
	}
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

// errSuperseded reports that the settings were changed elsewhere in the meantime.
var errSuperseded = errors.New("settings have changed meanwhile")

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
	for {
		if opts.MaxReceives != was.MaxReceives {
			if err := q.fixMost(ctx); err != nil {
				return err
			}
		}
		err := q.door.Commit(ctx, false, 1000, func(rows companion.Rows) (func(), error) {
			q.mu.Lock()
			defer q.mu.Unlock()
			switch {
			case q.gone:
				return nil, ErrQueueNotFound
			case q.settings != was:
				return nil, errSuperseded
			}
			q.passed(q.door.Now(), passedAtOnce)
			if opts.MaxReceives != was.MaxReceives {
				if q.behind || len(q.lapsed) > maxFixed {
					return nil, errBehind
				}
				q.fix(rows, maxFixed)
				q.lowered, q.behind = true, true // or raised, which dieTried finds out
			}
			q.flush(rows)
			q.settings = opts
			rows.Set(layout.QueueKey(q.id), q.row())
			return q.alert, nil
		})
		if err != errBehind {
			return err
		}
	}
}

// errBehind reports that too many records have died in the meantime.
var errBehind = errors.New("records have died meanwhile")

// maxFixed is the maximum number of dead letters that one commit fixes, because others wait
// for it.
const maxFixed = 1000

// fixMost stores which letters are dead by the current limit, so that they stay dead, until few are
// left for the commit that changes the limit.
func (q *Queue) fixMost(ctx context.Context) error {
	for {
		if _, _, err := q.lockPresent(ctx); err != nil {
			return err
		}
		left := len(q.lapsed)
		q.mu.Unlock()
		if left <= maxFixed {
			return nil
		}
		err := q.door.Commit(ctx, false, 100*maxFixed, func(rows companion.Rows) (func(), error) {
			q.mu.Lock()
			defer q.mu.Unlock()
			if q.gone {
				return nil, ErrQueueNotFound
			}
			q.fix(rows, maxFixed)
			return nil, nil
		})
		if err != nil {
			return err
		}
	}
}

// Delete deletes the queue. Its stream stays unchanged. Waiting receivers return
// [ErrQueueNotFound], and receipts become invalid. It works even while the disk is full.
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
		return func() {
			close(q.deleted)
			q.mu.Lock()
			defer q.mu.Unlock()
			q.state = newState(q.id, q.settings, q.start) // free the memory: the handle may live long
		}, nil
	})
	return wrap("delete", q.name, err)
}
