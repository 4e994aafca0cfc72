package service

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/braidstream/braid"
)

// SubscriptionLife is how long a subscription lasts.
const SubscriptionLife = 5 * time.Minute

const (
	takeoverAfter = 5 * time.Second // a subscription keeps its place for this long
	heartbeat     = 5 * time.Second // at most between two events

	eventBytes          = 1 << 20 // of records in an event, if there is more than one
	subscriberBytesRate = 2 << 20 // per second, with exact limits
)

// Subscription is the answer of SubscribeToShard: a sequence of events. Its holder must
// range over Events or call Close.
type Subscription struct {
	s      *Service
	t      target
	stream *braid.Stream
	shard  *braid.Shard
	at     braid.Position
	exact  bool

	// Observe, if not nil, is called with each event before it is sent.
	Observe func(*SubscribeToShardEvent)

	key     string
	started time.Time
	ended   chan struct{} // closed to end the subscription
	cause   error         // why; set before ended is closed
}

// subscriptions has the open subscriptions, at most one for each consumer and shard.
type subscriptions struct {
	mu   sync.Mutex // guards open, and the closing of ended of its values
	open map[string]*Subscription
}

// SubscribeToShard is the operation of that name.
//
// For its first 5 seconds a subscription keeps its place: others of the same consumer and
// shard are refused. After that, a new one takes the place over. A subscription that has
// ended keeps no place.
func (s *Service) SubscribeToShard(ctx context.Context, c Caller, in *SubscribeToShardInput) (*Subscription, error) {
	r, err := s.resource(ctx, c, *in.ConsumerARN)
	if err != nil {
		return nil, err
	}
	id, err := braid.ParseShardID(*in.ShardId)
	if err != nil {
		return nil, s.noSuchShard(r.t, *in.ShardId)
	}
	consumer := consumerKey(r.t.stored, &r.row)
	if s.statusOf(consumer) != active {
		return nil, inUse("Consumer %s with creation timestamp %d under stream: %s , account %s is not in ACTIVE status.",
			r.consumer, r.row.created().Unix(), r.t.name, r.t.Account)
	}
	t, stream, sh, err := s.readable(c, nil, new(r.t.arn()), id)
	if err != nil {
		return nil, err
	}
	p := in.StartingPosition
	at, err := s.position(ctx, t, stream, sh, start{*p.Type, p.SequenceNumber, p.Timestamp, "SubscribeToShard"})
	if err != nil {
		return nil, err
	}
	if isTrue(in.DryRun) {
		return nil, dryRun()
	}
	sub := &Subscription{
		s: s, t: t, stream: stream, shard: sh, at: at, exact: s.ExactLimits(),
		key: consumer + " " + string(id), started: time.Now(), ended: make(chan struct{}),
	}
	if sub.exact && !s.limits.allow("subscribe "+sub.key, 1) {
		return nil, limitExceeded("Rate exceeded for consumer %s on shard %s in stream %s under account %s.", r.consumer, id, t.name, t.Account)
	}
	taken := inUse("Another active subscription exists for this consumer: %s:%s:%s:%s", t.Account, t.name, id, r.consumer)
	if !s.subscriptions.add(sub, taken) {
		return nil, taken
	}
	// A deregistration removes the consumer and then ends open subscriptions. If it ran before
	// this subscription was open, the consumer no longer exists now.
	if _, err := s.resource(ctx, c, *in.ConsumerARN); err != nil {
		sub.Close()
		return nil, err
	}
	return sub, nil
}

// add opens a subscription, and ends the one whose place it takes. It returns false if that
// one still keeps its place.
func (ss *subscriptions) add(sub *Subscription, taken error) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if old := ss.open[sub.key]; old != nil {
		if sub.started.Sub(old.started) < takeoverAfter {
			return false
		}
		old.cause = taken
		close(old.ended)
	}
	if ss.open == nil {
		ss.open = make(map[string]*Subscription)
	}
	ss.open[sub.key] = sub
	return true
}

// end ends all subscriptions of a consumer.
func (ss *subscriptions) end(consumer string, cause error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for key, sub := range ss.open {
		if strings.HasPrefix(key, consumer+" ") {
			sub.cause = cause
			close(sub.ended)
			delete(ss.open, key)
		}
	}
}

// Close gives up the subscription's place.
func (sub *Subscription) Close() {
	ss := &sub.s.subscriptions
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.open[sub.key] == sub {
		delete(ss.open, sub.key)
	}
}

// Events returns what the subscriber is sent: an event at once, then one whenever
// there are records, and one at least every 5 seconds. The sequence ends after 5
// minutes, when ctx ends, when the service closes, and with the shard, whose last
// event says where it goes on. An error is one of the stream of events, and the
// last.
func (sub *Subscription) Events(ctx context.Context) iter.Seq2[*SubscribeToShardEvent, error] {
	return func(yield func(*SubscribeToShardEvent, error) bool) {
		defer sub.Close()
		ctx, cancel := context.WithDeadline(ctx, sub.started.Add(SubscriptionLife))
		watch := sync.WaitGroup{}
		defer watch.Wait() // the goroutine ends with the context, which ends before
		defer cancel()
		watch.Go(func() {
			select {
			case <-sub.ended:
			case <-sub.s.closed:
			case <-ctx.Done():
			}
			cancel()
		})
		at := sub.at
		for wait := false; ; wait = true {
			page, err := sub.next(ctx, at, wait)
			select {
			case <-sub.ended:
				yield(nil, sub.cause)
				return
			default:
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(nil, sub.inStream(err))
				return
			}
			event := &SubscribeToShardEvent{Records: records(page), MillisBehindLatest: millisBehind(page)}
			if page.EndOfShard {
				event.ChildShards = childShards(sub.stream, page.ChildShards)
				sub.observe(event)
				yield(event, nil)
				return
			}
			at = page.Next
			event.ContinuationSequenceNumber = new(at.SequenceNumber().String()) // a page's Next always has one
			sub.observe(event)
			if !yield(event, nil) {
				return
			}
			if sub.exact {
				pause(ctx, page)
			}
		}
	}
}

// next reads on; with wait it waits for records until there has to be an event in
// any case.
func (sub *Subscription) next(ctx context.Context, at braid.Position, wait bool) (*braid.RecordsPage, error) {
	opts := &braid.GetRecordsOptions{LimitBytes: eventBytes, Unmetered: true}
	if wait {
		waiting, cancel := context.WithTimeout(ctx, heartbeat)
		defer cancel()
		opts.Wait = true
		page, err := readPage(waiting, sub.shard, at, opts)
		if err == nil || waiting.Err() == nil || ctx.Err() != nil {
			return page, err
		}
		opts.Wait = false
	}
	return readPage(ctx, sub.shard, at, opts)
}

// pause waits as long as the page takes at the subscriber's rate, or until the context
// ends.
func pause(ctx context.Context, page *braid.RecordsPage) {
	bytes := 0
	for i := range page.Records {
		bytes += page.Records[i].Size()
	}
	select {
	case <-time.After(time.Duration(bytes) * time.Second / subscriberBytesRate):
	case <-ctx.Done():
	}
}

// inStream returns the error with which a stream of events ends. Such streams have only one
// name for failures of storage, InternalFailureException.
func (sub *Subscription) inStream(err error) error {
	err = sub.s.fromBraid(sub.t, err)
	var e *Error
	if errors.As(err, &e) && e.Type == "InternalFailure" {
		return &Error{Type: "InternalFailureException", Status: e.Status, Cause: e.Cause}
	}
	return err
}
