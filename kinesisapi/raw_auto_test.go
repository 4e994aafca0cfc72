package kinesisapi_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// TestRawAutoDistribution: with AUTO, neither partition keys nor explicit hash keys decide
// the shard. The service spreads records evenly over the open shards.
func TestRawAutoDistribution(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.does("CreateStream", `{"StreamName":"s","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"RecordDistributionStrategy":"AUTO"}`)
		spread := func() map[string]int { // of 60 records, each of four kinds of request having 15
			counts := make(map[string]int)
			count := func(shard any) { counts[shard.(string)]++ }
			record := `{"PartitionKey":"a","ExplicitHashKey":"0","Data":"QUJD"}`
			for range 15 {
				count(r.does("PutRecord", `{"StreamName":"s",`+record[1:])["ShardId"])
				status, out := r.callCBOR("PutRecord", map[string]any{"StreamName": "s", "PartitionKey": "a", "Data": []byte("ABC")})
				require.Equal(r.t, 200, status)
				count(out.(map[string]any)["ShardId"])
			}
			out := r.doesf("PutRecords", `{"StreamName":"s","Records":[%s]}`, strings.Repeat(record+",", 14)+record)
			for _, result := range out["Records"].([]any) {
				count(result.(map[string]any)["ShardId"])
			}
			var records []any
			for range 15 {
				records = append(records, map[string]any{"ExplicitHashKey": "7", "Data": []byte("ABC")})
			}
			status, answer := r.callCBOR("PutRecords", map[string]any{"StreamName": "s", "Records": records})
			require.Equal(r.t, 200, status)
			for _, result := range answer.(map[string]any)["Records"].([]any) {
				count(result.(map[string]any)["ShardId"])
			}
			return counts
		}
		require.Equal(r.t, map[string]int{shard0: 15, shard1: 15, "shardId-000000000002": 15, "shardId-000000000003": 15}, spread())
		iterator := r.does("GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":"TRIM_HORIZON"}`)["ShardIterator"]
		records := r.doesf("GetRecords", `{"ShardIterator":%q}`, iterator)["Records"].([]any)
		require.Equal(r.t, "a", records[0].(map[string]any)["PartitionKey"], "keys are kept")

		// After a reshard it continues over the open shards, whatever their ranges.
		stream, err := r.db.Stream("s")
		require.NoError(r.t, err)
		_, _, err = stream.SplitShard(r.t.Context(), shard0, nil)
		require.NoError(r.t, err)
		require.Equal(r.t, map[string]int{shard1: 12, "shardId-000000000002": 12, "shardId-000000000003": 12, "shardId-000000000004": 12, "shardId-000000000005": 12}, spread())
		_, err = stream.MergeShards(r.t.Context(), "shardId-000000000004", "shardId-000000000005")
		require.NoError(r.t, err)
		_, err = stream.MergeShards(r.t.Context(), "shardId-000000000006", shard1)
		require.NoError(r.t, err)
		require.Equal(r.t, map[string]int{"shardId-000000000002": 20, "shardId-000000000003": 20, "shardId-000000000007": 20}, spread())

		// All servers of the database know the strategy, even those that start later.
		second, err := kinesisapi.New(r.db, nil)
		require.NoError(r.t, err)
		defer second.Close()
		first := r.client
		r.client = second.Client()
		require.Len(r.t, spread(), 3)
		set := func(strategy string) {
			r.doesf("UpdateStreamRecordDistributionStrategy", `{"StreamARN":%q,"RecordDistributionStrategy":%q}`, streamARN+"s", strategy)
		}
		set("USER_PARTITION_KEY")
		r.client = first
		byKey := func() bool {
			shards := make(map[any]bool)
			for range 6 {
				shards[r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)["ShardId"]] = true
			}
			return len(shards) == 1
		}
		require.True(r.t, byKey())
		r.isError(r.call("PutRecord", `{"StreamName":"s","Data":""}`), "ValidationException",
			"1 validation error detected: Value null at 'partitionKey' failed to satisfy constraint: Member must not be null")
		set("AUTO")
		require.False(r.t, byKey())
		r.isError(r.call("PutRecord", `{"StreamName":"s","PartitionKey":"a","ExplicitHashKey":"340282366920938463463374607431768211456","Data":""}`), "InvalidArgumentException",
			"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was 340282366920938463463374607431768211456")

		// The strategy ends with the stream, and with the on-demand mode.
		r.doesf("UpdateStreamMode", `{"StreamARN":%q,"StreamModeDetails":{"StreamMode":"PROVISIONED"}}`, streamARN+"s")
		require.True(r.t, byKey())
		r.doesf("UpdateStreamMode", `{"StreamARN":%q,"StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`, streamARN+"s")
		set("AUTO")
		require.False(r.t, byKey())
		require.NoError(r.t, r.db.DeleteStream(r.t.Context(), "s"))
		_, err = r.db.CreateStream(r.t.Context(), "s", &braid.StreamOptions{Shards: 4})
		require.NoError(r.t, err)
		require.True(r.t, byKey())
	})
}
