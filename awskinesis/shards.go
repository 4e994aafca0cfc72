package awskinesis

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/braidstream/braid"
)

// shardMap says which shard takes a hash key, as far as is known. It is never changed: a
// newer one replaces it.
type shardMap struct {
	generation int
	open       []openShard                          // in the order of their ranges, which tile the space
	ranges     map[braid.ShardID]braid.HashKeyRange // of closed shards as well
}

type openShard struct {
	id    braid.ShardID
	Range braid.HashKeyRange
}

// find returns the open shard that takes the hash key.
func (m *shardMap) find(key braid.HashKey) braid.ShardID {
	i, found := slices.BinarySearchFunc(m.open, key, func(s openShard, key braid.HashKey) int { return s.Range.Start.Compare(key) })
	if !found {
		i--
	}
	return m.open[i].id
}

// streamID names a stream in requests: by ARN, or by name.
type streamID struct{ name, arn *string }

func newStreamID(stream string) streamID {
	if len(stream) > 4 && stream[:4] == "arn:" {
		return streamID{arn: aws.String(stream)}
	}
	return streamID{name: aws.String(stream)}
}

// listShards makes a map of all shards that the service knows, closed ones included: a
// record may have come to one that was split again before it could be listed.
func listShards(ctx context.Context, client KinesisClient, stream streamID) (*shardMap, error) {
	m := &shardMap{ranges: make(map[braid.ShardID]braid.HashKeyRange)}
	for in := (&kinesis.ListShardsInput{StreamName: stream.name, StreamARN: stream.arn}); ; {
		out, err := client.ListShards(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, shard := range out.Shards {
			id := braid.ShardID(aws.ToString(shard.ShardId))
			if shard.HashKeyRange == nil {
				return nil, fmt.Errorf("shard %q was listed without a range of hash keys", id)
			}
			var r braid.HashKeyRange
			if err := r.Start.UnmarshalText([]byte(aws.ToString(shard.HashKeyRange.StartingHashKey))); err != nil {
				return nil, fmt.Errorf("shard %q: %w", id, err)
			}
			if err := r.End.UnmarshalText([]byte(aws.ToString(shard.HashKeyRange.EndingHashKey))); err != nil {
				return nil, fmt.Errorf("shard %q: %w", id, err)
			}
			m.ranges[id] = r
			if shard.SequenceNumberRange == nil || shard.SequenceNumberRange.EndingSequenceNumber == nil {
				m.open = append(m.open, openShard{id, r})
			}
		}
		if out.NextToken == nil {
			break
		}
		// The service wants a token alone, or with the ARN.
		in = &kinesis.ListShardsInput{NextToken: out.NextToken, StreamARN: stream.arn}
	}
	slices.SortFunc(m.open, func(a, b openShard) int { return a.Range.Start.Compare(b.Range.Start) })
	return m, m.check()
}

// check refuses a listing whose open shards do not tile the space: it was made while the
// stream was being resharded.
func (m *shardMap) check() error {
	next, more := braid.HashKey{}, true
	for _, s := range m.open {
		if !more || s.Range.Start != next || s.Range.End.Compare(s.Range.Start) < 0 {
			return fmt.Errorf("the open shards that were listed leave a gap or overlap at hash key %s", s.Range.Start)
		}
		next, more = s.Range.End.Next()
	}
	if more {
		return fmt.Errorf("no open shard that was listed takes hash key %s", next)
	}
	return nil
}
