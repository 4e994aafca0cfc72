package awskinesis

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/braidstream/braid"
)

// shardMap maps hash keys to shards, as of the last listing. It is immutable; a newer one replaces
// it.
type shardMap struct {
	generation int
	open       []openShard                          // in the order of their ranges, which cover all hash keys
	ranges     map[braid.ShardID]braid.HashKeyRange // including closed shards
}

type openShard struct {
	id    braid.ShardID
	Range braid.HashKeyRange
}

// find returns the open shard for the hash key.
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

// shardLister is a client that can list shards.
type shardLister interface {
	ListShards(ctx context.Context, in *kinesis.ListShardsInput, options ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
}

// listShards returns all shards that match a request. in requests the first page.
func listShards(ctx context.Context, client shardLister, in *kinesis.ListShardsInput) (shards []types.Shard, err error) {
	for {
		out, err := client.ListShards(ctx, in)
		if err != nil {
			return nil, err
		}
		shards = append(shards, out.Shards...)
		if out.NextToken == nil {
			return shards, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken} // which names the stream
	}
}

// newShardMap makes a map of all shards in the listing, including closed ones: a record may be in a
// shard that was split again before it could be listed.
func newShardMap(ctx context.Context, client shardLister, stream streamID) (*shardMap, error) {
	shards, err := listShards(ctx, client, &kinesis.ListShardsInput{StreamName: stream.name, StreamARN: stream.arn})
	if err != nil {
		return nil, err
	}
	m := &shardMap{ranges: make(map[braid.ShardID]braid.HashKeyRange, len(shards))}
	for i := range shards {
		shard := &shards[i]
		id := braid.ShardID(aws.ToString(shard.ShardId))
		if m.ranges[id], err = newHashKeyRange(id, shard.HashKeyRange); err != nil {
			return nil, err
		}
		if shard.SequenceNumberRange == nil || shard.SequenceNumberRange.EndingSequenceNumber == nil {
			m.open = append(m.open, openShard{id, m.ranges[id]})
		}
	}
	slices.SortFunc(m.open, func(a, b openShard) int { return a.Range.Start.Compare(b.Range.Start) })
	return m, m.check()
}

// check refuses a listing whose open shards do not cover each hash key once: it was made during a
// reshard.
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
