package awskinesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// A subscription lasts five minutes. A new one can replace it once it is five seconds old.
const (
	renewAfter    = 4*time.Minute + 30*time.Second
	renewWithin   = 20 * time.Second // spread, so that not all shards renew at once
	takeoverAfter = 5 * time.Second
	takeoverPause = time.Second // between two attempts to take over a subscription
	takeovers     = 20          // attempts

	drained = 50 * time.Millisecond // after waiting this long, an event is not one that was read ahead
	silence = 30 * time.Second      // the service sends something every few seconds

	brokenPause = time.Second // after a subscription that broke; it doubles
	brokenMost  = 5           // subscriptions in a row without an event, before a reader returns an error
)

// subscriber is the feed of a subscription. It takes an event when Next is called; the SDK reads a
// few events ahead. While the processor is busy, nothing more is read from the connection, and the
// service ends a stalled subscription. The next one begins after the last event that was taken, so
// events that were read ahead are delivered again.
type subscriber struct {
	stream *sourceStream
	shard  *sourceShard
	id     braid.ShardID
	arn    string // of the consumer

	events *kinesis.SubscribeToShardEventStream // nil for none
	cancel context.CancelFunc                   // ends the connection
	began  time.Time
	renew  time.Time
	broken int // subscriptions in a row that ended without an event
}

func newSubscriber(r *shardReader, arn string) *subscriber {
	return &subscriber{stream: r.stream, shard: r.shard, id: r.id, arn: arn}
}

// fetch waits for an event.
func (f *subscriber) fetch(ctx context.Context, from start, _ consumer.Limits) (portion, error) {
	if f.events == nil {
		if err := f.subscribe(ctx, from); err != nil {
			return portion{}, err
		}
	}
	now := time.Now()
	quiet := now.Add(silence)
	if f.renew.Before(quiet) {
		quiet = f.renew
	}
	timer := time.NewTimer(quiet.Sub(now))
	defer timer.Stop()
	select {
	case event, ok := <-f.events.Events():
		if !ok {
			return portion{}, f.ended()
		}
		// An event that was read ahead describes the time when it was sent. An event for which the
		// reader has waited is current, and so is the first one of a subscription.
		fresh := time.Since(now) >= drained || time.Since(f.began) <= freshTip
		return f.take(event, fresh), nil
	case <-timer.C:
		f.close() // events received meanwhile are delivered again, after the last one taken
		return portion{}, nil
	case <-ctx.Done():
		return portion{}, context.Cause(ctx)
	}
}

// take returns the content of an event. fresh means that it was sent just now.
func (f *subscriber) take(event types.SubscribeToShardEventStream, fresh bool) portion {
	e, is := event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent)
	if !is {
		return portion{}
	}
	f.broken = 0
	behind := time.Duration(aws.ToInt64(e.Value.MillisBehindLatest)) * time.Millisecond
	p := portion{
		records:  e.Value.Records,
		behind:   behind,
		atTip:    behind == 0 && fresh,
		ended:    e.Value.ContinuationSequenceNumber == nil,
		children: e.Value.ChildShards,
		asked:    f.began, // the event may be that old
	}
	if n, err := braid.ParseSequenceNumber(aws.ToString(e.Value.ContinuationSequenceNumber)); err == nil && n.ShardID() == f.id {
		p.next = braid.AfterSequence(n)
	}
	return p
}

// ended returns the reason why the subscription has ended. It returns nil if its time was up or the
// connection broke, because then it is renewed.
func (f *subscriber) ended() error {
	err := f.events.Err()
	f.close()
	switch code := codeOf(err); {
	case err == nil:
		return nil
	case code == "ResourceInUseException":
		// Another worker has the subscription, and most likely the lease. This one does not take it
		// back at once, so that it can find out.
		f.shard.subscriptions.notBefore(time.Now().Add(takeoverAfter))
		return fmt.Errorf("subscription was taken over: %w", err)
	case code != "" && code != "InternalFailureException" && code != "InternalFailure":
		return f.notFound(err)
	}
	f.broken++
	f.stream.source.counts.broken.Add(1)
	f.shard.subscriptions.notBefore(time.Now().Add(brokenPause << min(f.broken-1, 4)))
	if f.broken >= brokenMost {
		return fmt.Errorf("subscription broke %d times in a row: %w", f.broken, err)
	}
	return nil
}

// notFound makes the next reader look up the consumer again if the consumer may be what was not
// found.
func (f *subscriber) notFound(err error) error {
	if codeOf(err) == "ResourceNotFoundException" {
		f.stream.forgetConsumer()
	}
	return err
}

// subscribe begins a subscription, once the previous one can be replaced.
func (f *subscriber) subscribe(ctx context.Context, from start) (err error) {
	for range takeovers {
		if err = f.shard.subscriptions.take(ctx); err != nil {
			return err
		}
		err = f.try(ctx, from)
		f.shard.subscriptions.give()
		switch {
		case err == nil:
			return nil
		case codeOf(err) != "ResourceInUseException" && !isThrottle(err):
			return f.notFound(err)
		}
		f.shard.subscriptions.notBefore(time.Now().Add(takeoverPause + rand.N(takeoverPause/4)))
	}
	return err
}

// try makes one attempt to subscribe.
func (f *subscriber) try(ctx context.Context, from start) error {
	s := f.stream.source
	// The connection outlives this call of Next, but connecting does not.
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	timer := time.AfterFunc(s.opts.RequestTimeout, func() { cancel(errReadTimeout) })
	s.counts.subscriptions.Add(1)
	began := time.Now()
	out, err := s.client.SubscribeToShard(life, &kinesis.SubscribeToShardInput{
		ConsumerARN:      &f.arn,
		ShardId:          aws.String(string(f.id)),
		StartingPosition: from.startingPosition(),
	}, oneAttempt)
	if err == nil && (!timer.Stop() || !stop()) {
		_ = out.GetStream().Close() // it came too late
		err = context.Cause(life)
	}
	if err != nil {
		stop()
		timer.Stop()
		cancel(nil)
		f.shard.subscriptions.notBefore(began.Add(takeoverPause))
		if cause := context.Cause(life); errors.Is(cause, errReadTimeout) {
			return errors.Join(err, cause)
		}
		return err
	}
	f.events, f.cancel, f.began = out.GetStream(), func() { cancel(nil) }, began
	f.renew = began.Add(renewAfter + rand.N(renewWithin))
	f.shard.subscriptions.notBefore(began.Add(takeoverAfter))
	return nil
}

var errReadTimeout = errors.New("call took longer than SourceOptions.RequestTimeout")

// close ends the subscription. The SDK's goroutines have ended once the channel of events is
// closed.
func (f *subscriber) close() {
	if f.events == nil {
		return
	}
	f.cancel()
	_ = f.events.Close()
	for range f.events.Events() {
	}
	f.events = nil
}
