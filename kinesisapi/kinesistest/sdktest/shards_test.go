package sdktest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestSDKListShards(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 7)
		out, err := k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamARN: &arn})
		require.NoError(t, err)
		require.Len(t, out.Shards, 7)
		require.Nil(t, out.NextToken)
		requireTiles(t, out.Shards)
		require.Equal(t, out.Shards, k.shards("orders"), "page by page")
		out, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamARN: &arn, ExclusiveStartShardId: aws.String("shardId-000000000004"), MaxResults: aws.Int32(1)})
		require.NoError(t, err)
		require.Equal(t, []string{"shardId-000000000005"}, shardIDs(out.Shards))
		token := out.NextToken
		for range 2 { // a token can be used again
			out, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{NextToken: token})
			require.NoError(t, err)
			require.Equal(t, []string{"shardId-000000000006"}, shardIDs(out.Shards))
			require.Nil(t, out.NextToken)
		}
		created := k.describe("orders").StreamCreationTimestamp
		_, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamARN: &arn, StreamCreationTimestamp: created})
		require.NoError(t, err)
		_, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamARN: &arn, StreamCreationTimestamp: aws.Time(created.Add(-time.Hour))})
		failsWith[errNotFound](t, err, "")

		_, err = k.ListShards(k.ctx, nil)
		failsWith[errArgument](t, err, "Either NextToken or StreamName should be provided.")
		_, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamName: aws.String("absent")})
		failsWith[errNotFound](t, err, "")
		for member, in := range map[string]*kinesis.ListShardsInput{
			"StreamName":              {StreamName: aws.String("orders")},
			"ShardFilter":             {ShardFilter: &types.ShardFilter{Type: types.ShardFilterTypeAtLatest}},
			"ExclusiveStartShardId":   {ExclusiveStartShardId: aws.String(shard0)},
			"StreamCreationTimestamp": {StreamCreationTimestamp: created},
		} {
			in.NextToken = token
			_, err = k.ListShards(k.ctx, in)
			failsWith[errArgument](t, err, "NextToken and "+member+" cannot be provided together.")
		}
		_, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{NextToken: aws.String("made up")})
		failsWith[errArgument](t, err, "")
		k.sleep(300 * time.Second)
		_, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{NextToken: token})
		failsWith[*types.ExpiredNextTokenException](t, err, "")
	})
}

// TestSDKShardFilters lists the generations of a stream's shards by each filter.
func TestSDKShardFilters(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 2)
		created := time.Now()
		k.sleep(time.Hour)
		_, err := k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: aws.String(shard0), NewStartingHashKey: middle(k, shard0)})
		require.NoError(t, err)
		split := time.Now()
		k.sleep(time.Hour)
		_, err = k.MergeShards(k.ctx, &kinesis.MergeShardsInput{StreamARN: &arn, ShardToMerge: aws.String("shardId-000000000003"), AdjacentShardToMerge: aws.String(shard1)})
		require.NoError(t, err)
		merged := time.Now()
		k.sleep(time.Hour)

		ids := func(filter *types.ShardFilter) (list []int) {
			t.Helper()
			shards := k.filtered("orders", filter)
			for _, id := range shardIDs(shards) {
				var index int
				_, err := fmt.Sscanf(id, "shardId-%d", &index)
				require.NoError(t, err)
				list = append(list, index)
			}
			return list
		}
		of := func(kind types.ShardFilterType) *types.ShardFilter { return &types.ShardFilter{Type: kind} }
		at := func(when time.Time) *types.ShardFilter {
			return &types.ShardFilter{Type: types.ShardFilterTypeAtTimestamp, Timestamp: &when}
		}
		from := func(when time.Time) *types.ShardFilter {
			return &types.ShardFilter{Type: types.ShardFilterTypeFromTimestamp, Timestamp: &when}
		}
		after := func(id string) *types.ShardFilter {
			return &types.ShardFilter{Type: types.ShardFilterTypeAfterShardId, ShardId: &id}
		}
		require.Equal(t, []int{0, 1, 2, 3, 4}, ids(nil))
		require.Equal(t, []int{0, 1, 2, 3, 4}, ids(of(types.ShardFilterTypeFromTrimHorizon)))
		require.Equal(t, []int{0, 1}, ids(of(types.ShardFilterTypeAtTrimHorizon)))
		require.Equal(t, []int{2, 4}, ids(of(types.ShardFilterTypeAtLatest)))
		require.Equal(t, []int{3, 4}, ids(after("shardId-000000000002")))
		require.Nil(t, ids(after("shardId-000000000099")))
		require.Equal(t, []int{0, 1}, ids(at(created.Add(-time.Hour))), "before there was a stream")
		require.Equal(t, []int{0, 1}, ids(at(split.Add(-time.Minute))))
		require.Equal(t, []int{1, 2, 3}, ids(at(split.Add(time.Minute))))
		require.Equal(t, []int{2, 4}, ids(at(merged.Add(time.Minute))))
		require.Equal(t, []int{0, 1, 2, 3, 4}, ids(from(created.Add(-1000*time.Hour))))
		require.Equal(t, []int{1, 2, 3, 4}, ids(from(split.Add(time.Minute))))
		require.Equal(t, []int{2, 4}, ids(from(merged.Add(time.Minute))))

		// At every moment these shards cover the hash-key space, even around a reshard.
		for _, moment := range []time.Time{created, split, merged} {
			for d := -2500 * time.Millisecond; d <= 2500*time.Millisecond; d += 100 * time.Millisecond {
				requireTiles(t, k.filtered("orders", at(moment.Add(d))))
			}
		}

		for _, filter := range []*types.ShardFilter{
			of(types.ShardFilterTypeAfterShardId), of(types.ShardFilterTypeAtTimestamp), of(types.ShardFilterTypeFromTimestamp), at(time.Now().Add(time.Minute)),
		} {
			_, err := k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamARN: &arn, ShardFilter: filter})
			failsWith[errArgument](t, err, "ShardFilter")
		}
		_, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamARN: &arn, ShardFilter: of("WHEREVER")})
		failsWith[errValidation](t, err, "")

		// A closed shard is removed when its records have expired.
		k.sleep(22*time.Hour + 30*time.Minute)
		require.Equal(t, []int{1, 2, 3, 4}, ids(nil))
		require.Equal(t, []int{1, 2, 3}, ids(of(types.ShardFilterTypeAtTrimHorizon)))
		k.sleep(time.Hour)
		require.Equal(t, []int{2, 4}, ids(nil))
		require.Equal(t, []int{2, 4}, ids(of(types.ShardFilterTypeAtTrimHorizon)))
		require.Equal(t, []int{2, 4}, ids(from(created)))
	})
}

func TestSDKSplitShard(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 2)
		split := func(shard, key string) error {
			_, err := k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: &shard, NewStartingHashKey: &key})
			return err
		}
		failsWith[errNotFound](t, split("first", "5"), "Could not find shard first in stream orders under account 000000000000.")
		failsWith[errNotFound](t, split("shardId-000000000002", "5"), "Could not find shard shardId-000000000002 in stream orders under account 000000000000.")
		for _, key := range []string{"0", "1", "170141183460469231731687303715884105727", "170141183460469231731687303715884105728"} {
			failsWith[errArgument](t, split(shard0, key), "NewStartingHashKey "+key+" used in SplitShard() on shard shardId-000000000000 in stream orders under account 000000000000 is not both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey 170141183460469231731687303715884105727.")
		}
		require.NoError(t, split(shard0, "2"))
		shards := k.shards("orders")
		require.Len(t, shards, 4)
		require.NotNil(t, shards[0].SequenceNumberRange.EndingSequenceNumber)
		require.Nil(t, shards[1].SequenceNumberRange.EndingSequenceNumber)
		for i, bounds := range [][2]string{{"0", "1"}, {"2", "170141183460469231731687303715884105727"}} {
			child := shards[2+i]
			require.Equal(t, shard0, *child.ParentShardId)
			require.Nil(t, child.AdjacentParentShardId)
			require.Equal(t, bounds[0], *child.HashKeyRange.StartingHashKey)
			require.Equal(t, bounds[1], *child.HashKeyRange.EndingHashKey)
			require.Positive(t, number(child.SequenceNumberRange.StartingSequenceNumber).Cmp(number(shards[0].SequenceNumberRange.EndingSequenceNumber)))
		}
		failsWith[errArgument](t, split(shard0, "5"), "has already been merged or split, and thus is not eligible for merging or splitting.")
	})
}

func TestSDKMergeShards(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 3)
		merge := func(a, b string) error {
			_, err := k.MergeShards(k.ctx, &kinesis.MergeShardsInput{StreamARN: &arn, ShardToMerge: &a, AdjacentShardToMerge: &b})
			return err
		}
		const shard2 = "shardId-000000000002"
		for _, pair := range [][2]string{{shard1, shard0}, {shard0, shard2}, {shard0, shard0}} {
			failsWith[errArgument](t, merge(pair[0], pair[1]), fmt.Sprintf("Shards %s and %s in stream orders under account 000000000000 are not an adjacent pair of shards eligible for merging", pair[0], pair[1]))
		}
		failsWith[errNotFound](t, merge("a", "b"), "Could not find shard a in stream orders")
		failsWith[errNotFound](t, merge(shard2, "shardId-000000000003"), "Could not find shard shardId-000000000003 in stream orders")
		require.NoError(t, merge(shard0, shard1))
		shards := k.shards("orders")
		child := shards[3]
		require.Equal(t, shard0, *child.ParentShardId)
		require.Equal(t, shard1, *child.AdjacentParentShardId)
		require.Equal(t, *shards[0].HashKeyRange.StartingHashKey, *child.HashKeyRange.StartingHashKey)
		require.Equal(t, *shards[1].HashKeyRange.EndingHashKey, *child.HashKeyRange.EndingHashKey)
		failsWith[errArgument](t, merge(shard1, shard2), "has already been merged or split")
	})
}

// If the parents of shards have expired, the shards cover the hash-key space even at moments when
// only the parents existed, so that a reader that begins there gets the remaining records.
func TestSDKShardFiltersOfExpiredParents(t *testing.T) {
	for _, retention := range []time.Duration{24 * time.Hour, -1} { // -1: records do not expire, shards without any do
		inBubble(t, nil, func(t *testing.T, k *sdk) {
			stream, err := k.db.CreateStream(k.ctx, "orders", &braid.StreamOptions{Shards: 2, Retention: retention})
			require.NoError(t, err)
			k.sleep(time.Hour)
			_, err = k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamName: aws.String("orders"), ShardToSplit: aws.String(shard0), NewStartingHashKey: middle(k, shard0)})
			require.NoError(t, err)
			k.sleep(26 * time.Hour)
			want := []string{shard1, "shardId-000000000002", "shardId-000000000003"}
			require.Equal(t, want, shardIDs(k.shards("orders")))
			require.Equal(t, want, shardIDs(k.filtered("orders", &types.ShardFilter{Type: types.ShardFilterTypeAtTimestamp, Timestamp: aws.Time(stream.CreatedAt())})))
			if retention > 0 {
				require.NoError(t, stream.IncreaseRetention(k.ctx, 48*time.Hour))
			}
			require.Equal(t, want, shardIDs(k.filtered("orders", &types.ShardFilter{Type: types.ShardFilterTypeAtTrimHorizon})))
		})
	}
}

// TestSDKUpdateShardCount: the final numbers of shards are those observed on the service.
func TestSDKUpdateShardCount(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		for _, test := range []struct{ from, to, total int }{{2, 4, 6}, {4, 5, 15}, {10, 13, 37}, {4, 2, 6}, {5, 3, 7}, {10, 3, 17}, {3, 3, 3}} {
			name := fmt.Sprintf("from-%d-to-%d", test.from, test.to)
			arn := k.create(name, test.from)
			out, err := k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamName: &name, TargetShardCount: aws.Int32(int32(test.to)), ScalingType: types.ScalingTypeUniformScaling})
			require.NoError(t, err)
			require.EqualValues(t, test.from, *out.CurrentShardCount)
			require.EqualValues(t, test.to, *out.TargetShardCount)
			require.Equal(t, name, *out.StreamName)
			require.Equal(t, arn, *out.StreamARN)
			require.Len(t, k.shards(name), test.total, name)
			open := k.filtered(name, &types.ShardFilter{Type: types.ShardFilterTypeAtLatest})
			require.Len(t, open, test.to, name)
			requireTiles(t, open)
			require.EqualValues(t, test.to, *k.summary(name).OpenShardCount)
		}
		_, err := k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamName: aws.String("from-3-to-3"), TargetShardCount: aws.Int32(10001), ScalingType: types.ScalingTypeUniformScaling})
		failsWith[errLimit](t, err, "")
		_, err = k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamName: aws.String("absent"), TargetShardCount: aws.Int32(1), ScalingType: types.ScalingTypeUniformScaling})
		failsWith[errNotFound](t, err, "")
		_, err = k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamName: aws.String("from-3-to-3"), TargetShardCount: aws.Int32(4), ScalingType: "SOMEHOW"})
		failsWith[errValidation](t, err, "")
	})
}
