package consumer_test

import (
	"context"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// wrappedSource is a source whose readers call a function instead of Next, with the
// original Next as its argument.
type wrappedSource struct {
	consumer.Source
	next nextFunc
}

type nextFunc func(ctx context.Context, shard braid.ShardID, next func() (consumer.Page, error)) (consumer.Page, error)

func (s *wrappedSource) Open(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.ShardReader, error) {
	reader, err := s.Source.Open(ctx, stream, shard, from)
	return &wrappedReader{reader, shard, s.next}, err
}

type wrappedReader struct {
	consumer.ShardReader
	shard braid.ShardID
	next  nextFunc
}

func (r *wrappedReader) Next(ctx context.Context, limits consumer.Limits) (consumer.Page, error) {
	return r.next(ctx, r.shard, func() (consumer.Page, error) { return r.ShardReader.Next(ctx, limits) })
}
