package awskinesis

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Source lets workers of package consumer process streams of Amazon Kinesis: it is a
// [consumer.Source], for [consumer.Config].Source. Config.Streams has the names of streams, or
// ARNs for those of other accounts.
//
// Create one per process, and use it for all workers: they share each shard's budget of reads
// through it. All methods are safe for concurrent use. It needs no Close; workers close its
// readers.
type Source struct {
	client SourceClient
	opts   *SourceOptions
	counts sourceCounts
	ahead  atomic.Int64 // how far the service's clock is ahead of ours, at least, in nanoseconds

	mu      sync.Mutex // guards the field below
	streams map[string]*sourceStream
}

var _ consumer.Source = (*Source)(nil)

// NewSource returns a source of all streams that the client can read. It makes no calls. nil
// options are safe defaults. Errors: [braid.ErrInvalidArgument].
func NewSource(client SourceClient, opts *SourceOptions) (*Source, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("awskinesis: new source: %w", err)
	}
	if client == nil {
		return nil, fmt.Errorf("awskinesis: new source: %w", invalid("client", nil, "must be a client of Kinesis"))
	}
	return &Source{client: client, opts: o, streams: make(map[string]*sourceStream)}, nil
}

// Stream returns the shards of a stream, by its name or ARN, including closed ones that have
// not expired. It makes one ListShards call for 1,000 shards, and a DescribeStreamSummary call
// every five minutes; concurrent callers share them. Errors: [braid.ErrStreamNotFound], even
// for a stream that is being created or deleted; a [consumer.PermanentError], for instance for
// missing permissions; and temporary errors of the client.
func (s *Source) Stream(ctx context.Context, name string) (consumer.StreamInfo, error) {
	l, err := s.stream(name).list(ctx)
	if err != nil {
		return consumer.StreamInfo{}, wrapStream("list the shards of", name, err)
	}
	info := consumer.StreamInfo{Incarnation: l.incarnation(), Shards: make([]consumer.ShardInfo, len(l.shards))}
	for i := range l.shards {
		info.Shards[i] = l.shards[i].ShardInfo
	}
	return info, nil
}

// Changed returns nil: Kinesis does not notify, so workers list the shards every
// [consumer.Config].ShardSyncInterval.
func (*Source) Changed() <-chan struct{} { return nil }

// Resolve makes a position concrete. LATEST becomes the time of the call, since Kinesis has no
// number for it. TRIM_HORIZON becomes the beginning of the shard if the shard is younger than
// the stream's retention, and otherwise the current trim horizon. An open shard costs no call.
// Errors: as [Source.Stream], and [braid.ErrShardNotFound].
func (s *Source) Resolve(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.Checkpoint, error) {
	checkpoint, err := s.resolve(ctx, s.stream(stream), shard, from)
	return checkpoint, wrapShard("resolve a place in", stream, shard, err)
}

func (s *Source) resolve(ctx context.Context, stream *sourceStream, id braid.ShardID, from braid.Position) (consumer.Checkpoint, error) {
	l, shard, err := stream.find(ctx, id)
	if err != nil {
		return consumer.Checkpoint{}, err
	}
	now := s.now()
	horizon := l.horizon(now)
	t, isTime := timeOf(from)
	switch {
	case from.Equal(braid.Latest()):
		return consumer.Checkpoint{Start: since(now), ShardEnd: shard.closed}, nil
	case from.Equal(braid.TrimHorizon()) || isTime && t.Before(horizon):
		if shard.created.Before(horizon) {
			return consumer.Checkpoint{Start: oldestAt(now)}, nil
		}
		return consumer.Checkpoint{Start: shard.Start}, nil
	case isTime && t.Before(shard.created):
		return consumer.Checkpoint{Start: shard.Start}, nil
	case isTime:
		from = since(t)
	}
	if _, err := newStart(id, from); err != nil {
		return consumer.Checkpoint{}, err
	}
	if !shard.closed {
		return consumer.Checkpoint{Start: from}, nil
	}
	if isTime && !shard.lastArrival.IsZero() && t.After(shard.lastArrival.Add(time.Second)) {
		return consumer.Checkpoint{Start: from, ShardEnd: true}, nil
	}
	page, err := s.peek(ctx, stream, id, from)
	return consumer.Checkpoint{Start: from, ShardEnd: page.EndOfShard && len(page.Records) == 0}, err
}

// peekReads is the maximal number of reads of a Peek: each may cover a part of the shard
// without records.
const peekReads = 5

// Peek returns the first record after a position. It costs an iterator and a read of the shard,
// or up to 5 reads if Kinesis returns empty pages: then the page may have no record although
// one follows, and the next Peek of that position continues there. Errors: as Next of a reader.
func (s *Source) Peek(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.Page, error) {
	page, err := s.peek(ctx, s.stream(stream), shard, from)
	return page, wrapShard("peek into", stream, shard, err)
}

func (s *Source) peek(ctx context.Context, stream *sourceStream, shard braid.ShardID, from braid.Position) (page consumer.Page, err error) {
	r := newReader(stream, shard, from)
	defer r.Close()
	p := newPoller(r)
	p.iterator = r.shard.resumePeek(from)
	r.feed, r.peeks = p, true
	for range peekReads {
		page, err = r.next(ctx, consumer.Limits{Records: 1, Bytes: 1})
		if err != nil || len(page.Records) > 0 || page.AtTip {
			return page, err
		}
	}
	r.shard.suspendPeek(from, p.iterator)
	return page, nil
}

// Open returns a reader of a shard, which polls, or subscribes if the options name a consumer
// for the stream. It makes no calls and returns no error; Next does.
func (s *Source) Open(_ context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.ShardReader, error) {
	return newReader(s.stream(stream), shard, from), nil
}

// stream returns what is known of a stream.
func (s *Source) stream(name string) *sourceStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[name]
	if st == nil {
		st = newSourceStream(s, name)
		s.streams[name] = st
	}
	return st
}

// now is the service's time, as far as it is known: positions that are times are compared
// with it there.
func (s *Source) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// noteClock compares the clocks. An answer has the service's time to the second, so ours is
// only corrected where it is certainly wrong.
func (s *Source) noteClock(metadata middleware.Metadata, sent time.Time) {
	server, ok := awsmiddleware.GetServerTime(metadata)
	if !ok {
		return
	}
	least, most := time.Until(server), server.Add(time.Second).Sub(sent)
	s.ahead.Store(int64(max(least, min(0, most)))) // 0 if that is possible
}

// sleepUntil waits for a time, or returns the cause of ctx.
func sleepUntil(ctx context.Context, t time.Time) error {
	wait := time.Until(t)
	if wait <= 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
