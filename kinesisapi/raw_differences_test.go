package kinesisapi_test

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

// This file has one test for each known difference between emulators of Kinesis and the
// service, unless another test covers it.

func objects(v any) []map[string]any {
	elements := v.([]any)
	out := make([]map[string]any, len(elements))
	for i := range elements {
		out[i] = elements[i].(map[string]any)
	}
	return out
}

// Answers about unencrypted data have no EncryptionType, except descriptions of streams.
func TestRawEncryptionType(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		it := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
		consumer := r.register("s", "c")
		for _, kind := range []any{nil, "KMS", nil} {
			put := r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)
			puts := r.does("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""}]}`)
			page := r.doesf("GetRecords", `{"ShardIterator":%q}`, it)
			it = page["NextShardIterator"].(string)
			subscription := r.subscribe(consumer, "0", fmt.Sprintf(`"Type":"AT_SEQUENCE_NUMBER","SequenceNumber":%q`, put["SequenceNumber"]))
			event := subscription.event()
			require.NoError(t, subscription.body.Close())
			synctest.Wait()
			for _, answer := range []map[string]any{put, puts, objects(page["Records"])[0], objects(event["Records"])[0]} {
				require.Equal(t, kind, answer["EncryptionType"])
				require.Equal(t, kind != nil, has(answer, "EncryptionType"))
			}
			require.False(t, has(objects(puts["Records"])[0], "EncryptionType"))
			for operation, member := range map[string]string{"DescribeStream": "StreamDescription", "DescribeStreamSummary": "StreamDescriptionSummary"} {
				d := r.does(operation, `{"StreamName":"s"}`)[member].(map[string]any)
				if kind == nil {
					require.Equal(t, "NONE", d["EncryptionType"])
					require.NotContains(t, d, "KeyId")
				} else {
					require.Equal(t, kind, d["EncryptionType"])
					require.Equal(t, "alias/one", d["KeyId"])
				}
			}
			if kind == nil {
				r.does("StartStreamEncryption", `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/one"}`)
			} else {
				r.does("StopStreamEncryption", `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/one"}`)
			}
		}
	})
}

func has(m map[string]any, member string) bool {
	_, ok := m[member]
	return ok
}

// At the end of a shard an answer has children and no next iterator; elsewhere it has a
// next iterator and no children.
func TestRawEndOfShard(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		r.does("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""},{"PartitionKey":"a","Data":""}]}`)
		early, late := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`), r.iterator("s", "0", `"ShardIteratorType":"LATEST"`)
		page := r.doesf("GetRecords", `{"ShardIterator":%q}`, late)
		require.NotContains(t, page, "ChildShards")
		require.Equal(t, 0., page["MillisBehindLatest"])
		r.does("SplitShard", `{"StreamName":"s","ShardToSplit":"0","NewStartingHashKey":"5"}`)

		children := []any{
			map[string]any{"ShardId": "shardId-000000000001", "ParentShards": []any{shard0}, "HashKeyRange": map[string]any{"StartingHashKey": "0", "EndingHashKey": "4"}},
			map[string]any{"ShardId": "shardId-000000000002", "ParentShards": []any{shard0}, "HashKeyRange": map[string]any{"StartingHashKey": "5", "EndingHashKey": maxHash}},
		}
		page = r.doesf("GetRecords", `{"ShardIterator":%q,"Limit":1}`, early)
		require.Len(t, page["Records"], 1)
		require.NotContains(t, page, "ChildShards")
		require.Contains(t, page, "NextShardIterator")
		page = r.doesf("GetRecords", `{"ShardIterator":%q}`, page["NextShardIterator"])
		require.Len(t, page["Records"], 1)
		for has(page, "NextShardIterator") {
			require.NotContains(t, page, "ChildShards")
			page = r.doesf("GetRecords", `{"ShardIterator":%q}`, page["NextShardIterator"])
		}
		require.Equal(t, children, page["ChildShards"])
		for _, it := range []string{late, r.iterator("s", "0", `"ShardIteratorType":"LATEST"`)} {
			page = r.doesf("GetRecords", `{"ShardIterator":%q}`, it)
			require.Equal(t, map[string]any{"Records": []any{}, "MillisBehindLatest": 0., "ChildShards": children}, page, "at the first call")
		}
	})
}

// For every moment, the shards that a filter selects tile the space of hash keys, although
// the sequence numbers of a parent and its children are seconds apart.
func TestRawShardFilters(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		born := time.Now()
		r.create("s", 3)
		pass(10 * time.Second)
		r.does("SplitShard", `{"StreamName":"s","ShardToSplit":"1","NewStartingHashKey":"170000000000000000000000000000000000000"}`)
		pass(10 * time.Second)
		r.does("MergeShards", `{"StreamName":"s","ShardToMerge":"0","AdjacentShardToMerge":"3"}`)
		pass(10 * time.Second)
		selected := func(filter string) (shards []map[string]any) {
			return objects(r.doesf("ListShards", `{"StreamName":"s","ShardFilter":{%s}}`, filter)["Shards"])
		}
		tiles := func(filter string, want int) {
			t.Helper()
			covered := make(map[string]string)
			shards := selected(filter)
			require.Len(t, shards, want, filter)
			for _, sh := range shards {
				keys := sh["HashKeyRange"].(map[string]any)
				covered[keys["StartingHashKey"].(string)] = keys["EndingHashKey"].(string)
			}
			for at := "0"; ; {
				require.Contains(t, covered, at, filter)
				if at = covered[at]; at == maxHash {
					return
				}
				n, _ := new(big.Int).SetString(at, 10)
				at = n.Add(n, big.NewInt(1)).String()
			}
		}
		tiles(`"Type":"AT_LATEST"`, 3)
		tiles(`"Type":"AT_TRIM_HORIZON"`, 3)
		seen := make(map[int]bool)
		for ms := -2000; ms <= 30_000; ms += 125 {
			at := fmt.Sprintf(`"Type":"AT_TIMESTAMP","Timestamp":%.3f`, float64(born.UnixMilli()+int64(ms))/1000)
			n := len(selected(at))
			seen[n] = true
			tiles(at, n)
		}
		require.Equal(t, map[int]bool{3: true, 4: true}, seen)
		require.Len(t, selected(`"Type":"FROM_TRIM_HORIZON"`), 6)
		require.Len(t, selected(fmt.Sprintf(`"Type":"FROM_TIMESTAMP","Timestamp":%d`, time.Now().Unix())), 3)
		require.Len(t, selected(`"Type":"AFTER_SHARD_ID","ShardId":"shardId-000000000002"`), 3)
		// Expired shards are not listed, and the others still tile the space.
		pass(24*time.Hour - 15*time.Second)
		tiles(`"Type":"AT_TRIM_HORIZON"`, 4)
		require.Len(t, selected(`"Type":"FROM_TRIM_HORIZON"`), 5)
		pass(24 * time.Hour)
		tiles(`"Type":"AT_TRIM_HORIZON"`, 3)
		require.Len(t, r.does("ListShards", `{"StreamName":"s"}`)["Shards"], 3)
	})
}

func TestRawListShardsPages(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.does("CreateStream", `{"StreamName":"s","ShardCount":1001}`)
		page := r.does("ListShards", `{"StreamName":"s","ShardFilter":{"Type":"AT_LATEST"},"MaxResults":10000}`)
		require.Len(t, page["Shards"], 1000)
		require.LessOrEqual(t, len(page["NextToken"].(string)), 1048576)
		page = r.doesf("ListShards", `{"NextToken":%q}`, page["NextToken"])
		require.Len(t, page["Shards"], 1)
		require.NotContains(t, page, "NextToken")

		d := r.does("DescribeStream", `{"StreamName":"s","Limit":10000}`)["StreamDescription"].(map[string]any)
		require.Len(t, d["Shards"], 100)
		require.Equal(t, true, d["HasMoreShards"])
		d = r.does("DescribeStream", `{"StreamName":"s","ExclusiveStartShardId":"shardId-000000000999"}`)["StreamDescription"].(map[string]any)
		require.Len(t, d["Shards"], 1)
		require.Equal(t, false, d["HasMoreShards"])
	})
}

// The limits of throughput: rounded, per shard, and with the text of the service.
func TestRawThrottling(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{ExactLimits: true}, func(r *rig) {
		r.create("s", 2)
		const exceeded = "Rate exceeded for shard " + shard0 + " in stream s under account " + account + "."
		put := func(n int) string {
			return fmt.Sprintf(`{"StreamName":"s","PartitionKey":"a","ExplicitHashKey":"0","Data":%q}`, base64.StdEncoding.EncodeToString(make([]byte, n)))
		}
		// Every record counts as whole kilobytes: 512 of them, not 931.
		for range 512 {
			r.does("PutRecord", put(1100))
		}
		r.refuses(refusal{throughput, exceeded, "PutRecord", put(1)})
		puts := r.does("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":"","ExplicitHashKey":"0"},{"PartitionKey":"a","Data":"","ExplicitHashKey":"`+maxHash+`"}]}`)
		require.Equal(t, 1., puts["FailedRecordCount"])
		require.Equal(t, map[string]any{"ErrorCode": throughput, "ErrorMessage": exceeded}, objects(puts["Records"])[0])
		require.Equal(t, "shardId-000000000001", objects(puts["Records"])[1]["ShardId"], "a refused entry does not stop the others")
		pass(time.Second)
		r.does("PutRecord", put(1))

		it := r.iterator("s", "0", `"ShardIteratorType":"LATEST"`)
		for range 5 {
			r.doesf("GetRecords", `{"ShardIterator":%q}`, it)
		}
		r.refuses(refusal{throughput, exceeded, "GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, it)})
		pass(time.Second)
		r.doesf("GetRecords", `{"ShardIterator":%q}`, it)
	})
}

// The maximum record size is a setting of the stream, and applies to later puts.
func TestRawRecordSizes(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{UpdateDelay: time.Second}, func(r *rig) {
		r.create("s", 1)
		data := base64.StdEncoding.EncodeToString(make([]byte, 2<<20-1))
		put := fmt.Sprintf(`{"StreamName":"s","PartitionKey":"a","Data":%q}`, data)
		long := func(most int) refusal {
			return refusal{validation, fmt.Sprintf("1 validation error detected: Value at 'data' failed to satisfy constraint: Member must have length less than or equal to %d", most), "PutRecord", put}
		}
		r.refuses(long(1 << 20))
		require.Nil(t, r.doesf("UpdateMaxRecordSize", `{"StreamARN":"%ss","MaxRecordSizeInKiB":2048}`, streamARN), "no body")
		r.refuses(long(1 << 20))
		require.Equal(t, "UPDATING", r.does("DescribeStreamSummary", `{"StreamName":"s"}`)["StreamDescriptionSummary"].(map[string]any)["StreamStatus"])
		pass(time.Second)
		r.does("PutRecord", put)
		r.doesf("UpdateMaxRecordSize", `{"StreamARN":"%ss","MaxRecordSizeInKiB":1024}`, streamARN)
		pass(time.Second)
		r.refuses(long(1 << 20))
		it := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
		require.Equal(t, data, objects(r.doesf("GetRecords", `{"ShardIterator":%q}`, it)["Records"])[0]["Data"], "stays readable")
	})
}

// A page has at most 10 MiB, but always at least one record.
func TestRawPageBytes(t *testing.T) {
	r := newRig(t, nil)
	r.create("s", 1)
	data := base64.StdEncoding.EncodeToString(make([]byte, 1<<20-1))
	for range 11 {
		r.doesf("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":%q}`, data)
	}
	it := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
	page := r.doesf("GetRecords", `{"ShardIterator":%q}`, it)
	require.Len(t, page["Records"], 10)
	require.Greater(t, page["MillisBehindLatest"], -1.)
	require.Len(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, page["NextShardIterator"])["Records"], 1)
}

// The shards of a new stream divide the 2^128 hash keys equally.
func TestRawInitialShards(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		whole := new(big.Int).Lsh(big.NewInt(1), 128)
		for _, n := range []int64{1, 2, 3, 4, 5, 7, 16} {
			name := fmt.Sprint("s", n)
			r.create(name, int(n))
			step := new(big.Int).Div(whole, big.NewInt(n))
			shards := objects(r.doesf("ListShards", `{"StreamName":%q}`, name)["Shards"])
			for i, sh := range shards {
				start := new(big.Int).Mul(step, big.NewInt(int64(i)))
				end := new(big.Int).Add(start, step)
				if i == len(shards)-1 {
					end = whole
				}
				require.Equal(t, map[string]any{"StartingHashKey": start.String(), "EndingHashKey": new(big.Int).Sub(end, big.NewInt(1)).String()}, sh["HashKeyRange"])
				require.Equal(t, fmt.Sprintf("shardId-%012d", i), sh["ShardId"])
				if i > 0 {
					difference := new(big.Int).Sub(firstNumber(sh), firstNumber(shards[i-1]))
					require.Equal(t, "22300745198530623141535718272648361505980432", difference.String())
				}
			}
		}
		// The hash of a partition key decides.
		for key, shard := range map[string]int{"a": 0, "b": 1, "e": 2, "f": 1} {
			put := r.doesf("PutRecord", `{"StreamName":"s3","PartitionKey":%q,"Data":""}`, key)
			require.Equal(t, fmt.Sprintf("shardId-%012d", shard), put["ShardId"])
		}
	})
}

func firstNumber(shard map[string]any) *big.Int {
	n, _ := new(big.Int).SetString(shard["SequenceNumberRange"].(map[string]any)["StartingSequenceNumber"].(string), 10)
	return n
}

// Sequence numbers have 56 digits and contain the time. Those of children are above all of
// their parents', and the ending number of a parent is above all of its records'.
func TestRawSequenceNumbers(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		start := r.create("s", 1)[0]
		require.Len(t, start, 56)
		put := r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)["SequenceNumber"]
		require.Greater(t, put, start)
		r.does("SplitShard", `{"StreamName":"s","ShardToSplit":"0","NewStartingHashKey":"5"}`)
		shards := objects(r.does("ListShards", `{"StreamName":"s"}`)["Shards"])
		end := shards[0]["SequenceNumberRange"].(map[string]any)["EndingSequenceNumber"]
		require.Len(t, end, 56)
		require.Greater(t, end, put)
		n, _ := new(big.Int).SetString(end.(string), 10)
		hex := n.Text(16)
		require.Equal(t, "7fffffffffffffff", hex[11:27], hex)
		for _, child := range shards[1:] {
			require.Positive(t, firstNumber(child).Cmp(n))
		}
		first, _ := new(big.Int).SetString(start, 10)
		parentCreated, childCreated := first.Text(16)[1:10], firstNumber(shards[1]).Text(16)[1:10]
		require.Less(t, parentCreated, childCreated)
		require.Less(t, hex[29:38], childCreated, "a shard ends in a second before that in which its children begin")
	})
}

// Reads from a timestamp begin with the first record that arrived then or later, or wait
// for it.
func TestRawAtTimestamp(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"AAAA"}`)
		pass(1250 * time.Millisecond)
		at := func(d time.Duration) string {
			return r.iterator("s", "0", fmt.Sprintf(`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":%.3f`, float64(time.Now().Add(-d).UnixMilli())/1000))
		}
		now := at(0)
		require.Empty(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, now)["Records"], "what is old is not read again")
		require.Len(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, at(1250*time.Millisecond))["Records"], 1)
		require.Empty(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, at(1249*time.Millisecond))["Records"])
		r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"AQEB"}`)
		records := objects(r.doesf("GetRecords", `{"ShardIterator":%q}`, now)["Records"])
		require.Len(t, records, 1)
		require.Equal(t, float64(time.Now().UnixMilli())/1000, records[0]["ApproximateArrivalTimestamp"], "to the millisecond")
		latest := r.iterator("s", "0", `"ShardIteratorType":"LATEST"`)
		r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"AgIC"}`)
		require.Len(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, latest)["Records"], 1, "its place was fixed when it was issued")
	})
}

// A page's distance from the tip is measured in time.
func TestRawMillisBehindLatest(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		for range 3 {
			r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)
			pass(time.Minute)
		}
		it := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
		for _, behind := range []float64{180_000, 120_000, 0} {
			page := r.doesf("GetRecords", `{"ShardIterator":%q,"Limit":1}`, it)
			it = page["NextShardIterator"].(string)
			if behind > 0 {
				require.InDelta(t, behind, page["MillisBehindLatest"], 60_000)
				require.Positive(t, page["MillisBehindLatest"])
			} else {
				require.Equal(t, behind, page["MillisBehindLatest"])
			}
		}
	})
}

func TestRawPolicies(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		for _, arn := range []string{streamARN + "s", r.register("s", "c")} {
			require.Equal(t, map[string]any{"Policy": "{}"}, r.doesf("GetResourcePolicy", `{"ResourceARN":%q}`, arn))
			none := refusal{notFound, "No resource policy found for resource ARN " + arn, "DeleteResourcePolicy", fmt.Sprintf(`{"ResourceARN":%q}`, arn)}
			r.refuses(none)
			require.Nil(t, r.doesf("PutResourcePolicy", `{"ResourceARN":%q,"Policy":"{ \"a\": 1 }"}`, arn))
			require.Equal(t, map[string]any{"Policy": `{ "a": 1 }`}, r.doesf("GetResourcePolicy", `{"ResourceARN":%q}`, arn), "the same text")
			require.Nil(t, r.doesf("DeleteResourcePolicy", `{"ResourceARN":%q}`, arn))
			r.refuses(none)
			a := r.call("PutResourcePolicy", fmt.Sprintf(`{"ResourceARN":%q,"Policy":"x"}`, arn))
			require.Equal(t, 400, a.status)
			require.Contains(t, a.body, invalid)
			// Even a very long text does not cause a failure of the server.
			a = r.call("PutResourcePolicy", fmt.Sprintf(`{"ResourceARN":%q,"Policy":"[%s]"}`, arn, strings.Repeat(" ", 9<<20)))
			require.Equal(t, 400, a.status, "%.200s", a.body)
			require.Contains(t, a.body, limit)
		}
		for _, stream := range []string{"a", "b", "c", "d"} {
			r.create(stream, 1)
			require.Nil(t, r.doesf("PutResourcePolicy", `{"ResourceARN":"%s%s","Policy":"[%s]"}`, streamARN, stream, strings.Repeat(" ", 3<<20)))
		}
		require.Len(t, r.does("ListStreams", "{}")["StreamNames"], 5)
		r.refuses(refusal{notFound, noStream, "PutResourcePolicy", `{"ResourceARN":"` + streamARN + `x","Policy":"{}"}`})
	})
}

// Setting a stream's current mode succeeds, and its shards do not change.
func TestRawModes(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.does("CreateStream", `{"StreamName":"d"}`)
		d := r.does("DescribeStreamSummary", `{"StreamName":"d"}`)["StreamDescriptionSummary"].(map[string]any)
		require.Equal(t, map[string]any{"StreamMode": "ON_DEMAND"}, d["StreamModeDetails"])
		require.Equal(t, 4., d["OpenShardCount"])
		for _, mode := range []string{"ON_DEMAND", "PROVISIONED", "PROVISIONED"} {
			require.Nil(t, r.doesf("UpdateStreamMode", `{"StreamARN":"%sd","StreamModeDetails":{"StreamMode":%q}}`, streamARN, mode))
			d = r.does("DescribeStreamSummary", `{"StreamName":"d"}`)["StreamDescriptionSummary"].(map[string]any)
			require.Equal(t, map[string]any{"StreamMode": mode}, d["StreamModeDetails"])
			require.Equal(t, 4., d["OpenShardCount"])
		}
		limits := r.does("DescribeLimits", `{}`)
		require.Equal(t, map[string]any{
			"ChannelCount": 0., "ChannelCountLimit": 0., "OnDemandStreamCount": 0., "OnDemandStreamCountLimit": 50., "OpenShardCount": 4., "ShardLimit": 20000.,
		}, limits)
	})
}

// Lists with more than a hundred items have pages of a hundred.
func TestRawListPages(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		for i := range 102 {
			r.doesf("CreateStream", `{"StreamName":"s%03d","ShardCount":1}`, i)
		}
		page := r.does("ListStreams", `{"Limit":10000}`)
		require.Len(t, page["StreamNames"], 100)
		require.Len(t, page["StreamSummaries"], 100)
		require.Equal(t, true, page["HasMoreStreams"])
		for _, next := range []string{fmt.Sprintf(`{"NextToken":%q}`, page["NextToken"]), `{"ExclusiveStartStreamName":"s099"}`, `{"ExclusiveStartStreamName":"s099x"}`} {
			page = r.does("ListStreams", next)
			require.Equal(t, []any{"s100", "s101"}, page["StreamNames"])
			require.Equal(t, false, page["HasMoreStreams"])
			require.NotContains(t, page, "NextToken")
		}
		for i := range 101 {
			r.register("s000", fmt.Sprint("c", i))
		}
		page = r.doesf("ListStreamConsumers", `{"StreamARN":"%ss000"}`, streamARN)
		require.Len(t, page["Consumers"], 100)
		page = r.doesf("ListStreamConsumers", `{"StreamARN":"%ss000","NextToken":%q}`, streamARN, page["NextToken"])
		require.Len(t, page["Consumers"], 1)
		require.NotContains(t, page, "NextToken")
	})
}

// A dry run reports errors, and does nothing.
func TestRawDryRun(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		it := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
		for operation, body := range map[string]string{
			"PutRecord":        `"StreamName":"s","PartitionKey":"a","Data":""`,
			"PutRecords":       `"StreamName":"s","Records":[{"PartitionKey":"a","Data":""}]`,
			"GetRecords":       fmt.Sprintf(`"ShardIterator":%q`, it),
			"GetShardIterator": `"StreamName":"s","ShardId":"0","ShardIteratorType":"LATEST"`,
		} {
			r.refuses(refusal{"DryRunOperationException", "The request would have succeeded, but the DryRun parameter is set.", operation, `{"DryRun":true,` + body + `}`})
			r.does(operation, `{"DryRun":false,`+body+`}`)
		}
		require.Len(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, it)["Records"], 2)
		r.refuses(refusal{notFound, noStream, "PutRecord", `{"DryRun":true,"StreamName":"x","PartitionKey":"a","Data":""}`})
	})
}
