package kinesistest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

func TestRequireRecords(t *testing.T) {
	t.Parallel()
	k := New(t, Stream("orders", 2))
	k.RequireRecords("orders")
	k.Put("orders", "a", "a1", "a2")
	k.Put("orders", "b", "b1")
	k.RequireRecords("orders", "a1", "a2", "b1")
	k.RequireRecords("orders", "b1", "a1", "a2")

	require.Equal(t, strings.Join([]string{
		`kinesistest: stream orders does not hold the records that are wanted:`,
		`  not wanted: "a2"`,
		`  not wanted: "b1"`,
		`  missing: "c1" 2 times`,
		`  it holds 3 records:`,
		`    shardId-000000000000 key "a": "a1" "a2"`,
		`    shardId-000000000001 key "b": "b1"`,
	}, "\n"), failure(t, func(tb testing.TB) { k.as(tb).RequireRecords("orders", "c1", "a1", "c1") }))
	require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireRecords("orders", "a2", "a1", "b1") }),
		`of key "a" "a2" is not wanted in the order in which it is there`)

	k.Trim("orders")
	require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireRecords("orders", "a1") }), "it holds no records")
	require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireRecords("bills", "a1") }), `stream "bills"`)
}

func TestMessagesAreShort(t *testing.T) {
	t.Parallel()
	k := New(t, Stream("orders", 1))
	for range 300 {
		k.Put("orders", "a", strings.Repeat("x", 5000))
	}
	message := failure(t, func(tb testing.TB) { k.as(tb).RequireRecords("orders", "y") })
	require.Contains(t, message, "(5000 bytes)")
	require.Contains(t, message, "and 280 more")
	require.Less(t, len(message), 3000)
}

func TestRequireProcessed(t *testing.T) {
	t.Parallel()
	k := New(t, Stream("orders", 2))
	k.RequireProcessed("orders", nil)
	k.Put("orders", "a", "a1", "a2", "a3")
	k.Put("orders", "b", "b1", "b2")
	k.RequireProcessed("orders", []string{"a1", "a2", "b1", "a3", "b2"})
	k.RequireProcessed("orders", []string{"b1", "a1", "a2", "a1", "a2", "b2", "b2", "a3", "what was trimmed"})

	for _, test := range []struct{ processed, message string }{
		{"a1 a2 b1 b2", `not processed: "a3" of key "a"`},
		{"a1 a3 a2 b1 b2 a3", `number 2 processed, "a3", comes before "a2" of the same key "a"`},
		{"b2", `number 1 processed, "b2", comes before "b1" of the same key "b"`},
		{"", `not processed: "b2" of key "b"`},
	} {
		message := failure(t, func(tb testing.TB) { k.as(tb).RequireProcessed("orders", strings.Fields(test.processed)) })
		require.Contains(t, message, test.message)
		require.Contains(t, message, "processed were")
	}
}

func TestRequireCaughtUp(t *testing.T) {
	t.Parallel()
	k := New(t, Stream("orders", 1))
	client := k.Kinesis()
	caughtUp := func() string {
		t.Helper()
		return failure(t, func(tb testing.TB) { k.as(tb).RequireCaughtUp("orders") })
	}
	require.Contains(t, caughtUp(), "nobody has read it")
	k.Put("orders", "a", "one", "two")
	at := iterator(t, client, shard0)
	require.Contains(t, caughtUp(), `2 records not read, from "one" on`)
	out, err := client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: at, Limit: aws.Int32(1)})
	require.NoError(t, err)
	require.Contains(t, caughtUp(), `1 record not read, from "two" on`)
	at = getRecords(t, client, out.NextShardIterator).NextShardIterator
	k.RequireCaughtUp("orders")

	k.Put("orders", "a", "three")
	lower, upper := k.Split("orders", "0")
	require.Contains(t, caughtUp(), `from "three" on`)
	out = getRecords(t, client, at)
	require.Nil(t, out.NextShardIterator)
	k.RequireCaughtUp("orders") // the children are empty
	k.Put("orders", "a", "four")
	require.Contains(t, caughtUp(), "nobody has begun to")
	for _, shard := range []string{lower, upper} {
		getRecords(t, client, iterator(t, client, shard))
	}
	k.RequireCaughtUp("orders")
	k.RequireOrderPerKey("orders")

	k.Put("orders", "a", "five")
	k.Trim("orders")
	k.RequireCaughtUp("orders")
}

func TestRequireOrderPerKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		client := k.Kinesis()
		k.RequireOrderPerKey("orders")
		k.Put("orders", "a", "one")
		lower, upper := k.Split("orders", "0")
		k.Put("orders", "a", "two")
		for _, shard := range []string{lower, upper} { // children first
			getRecords(t, client, iterator(t, client, shard))
		}
		k.RequireOrderPerKey("orders")
		getRecords(t, client, iterator(t, client, shard0))
		message := failure(t, func(tb testing.TB) { k.as(tb).RequireOrderPerKey("orders") })
		require.Contains(t, message, `of key "a" "one" (`+shard0)
		require.Contains(t, message, `was delivered after "two" (`)
	})
}

// Records of a stream with the strategy AUTO may have no partition key, and so no order.
func TestRecordsWithoutKeysHaveNoOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t)
		client := k.Kinesis()
		_, err := client.CreateStream(t.Context(), &kinesis.CreateStreamInput{
			StreamName:                 aws.String("orders"),
			StreamModeDetails:          &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand},
			RecordDistributionStrategy: types.RecordDistributionStrategyAuto,
		})
		require.NoError(t, err)
		var data []string
		for i := range 30 {
			data = append(data, fmt.Sprint(i))
			_, err := client.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("orders"), Data: []byte(data[i])})
			require.NoError(t, err)
		}
		require.Empty(t, k.Records("orders")[0].PartitionKey)
		for i := range 4 { // shard by shard, which is no order of the whole
			getRecords(t, client, iterator(t, client, fmt.Sprintf("shardId-%012d", i)))
		}
		k.RequireOrderPerKey("orders")
		slices.Reverse(data)
		k.RequireRecords("orders", data...)
		k.RequireProcessed("orders", append(data, data...))
		require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireProcessed("orders", data[1:]) }), `not processed: "29"`)
		require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireRecords("orders", data[1:]...) }), `not wanted: "29"`)
	})
}

func TestRepetitionsAreInOrder(t *testing.T) {
	t.Parallel()
	k := New(t, Stream("orders", 1))
	k.Put("orders", "a", "one", "two")
	for range 2 {
		getRecords(t, k.Kinesis(), iterator(t, k.Kinesis(), shard0))
	}
	k.RequireOrderPerKey("orders")
}

func TestAnotherStreamOfTheNameIsAnother(t *testing.T) {
	t.Parallel()
	k := New(t, Stream("orders", 1))
	k.Put("orders", "a", "one")
	getRecords(t, k.Kinesis(), iterator(t, k.Kinesis(), shard0))
	k.RequireCaughtUp("orders")
	require.NoError(t, k.DB().DeleteStream(t.Context(), "orders"))
	_, err := k.DB().CreateStream(t.Context(), "orders", nil)
	require.NoError(t, err)
	require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireCaughtUp("orders") }), "nobody has read it")
}

func TestAFaultThatNobodyMetFailsTheTest(t *testing.T) {
	t.Parallel()
	f := (&fakeTB{TB: t}).run(func(tb testing.TB) {
		k := New(tb, Stream("orders", 1))
		k.Fail("PutRecord", 3, throttled)
		k.FailEntries(throttled, 1)
		require.Error(t, putRecord(t.Context(), k.Kinesis(once), "a", "one"))
	})
	require.Equal(t, []string{
		"kinesistest: the test ended before 2 calls of PutRecord met a fault: " + throttled,
		"kinesistest: the test ended before 1 call of PutRecords met a fault: " + throttled + " for entries [1]",
	}, f.errors)
}

func TestAnEntryThatACallLacksFailsTheTest(t *testing.T) {
	t.Parallel()
	f := (&fakeTB{TB: t}).run(func(tb testing.TB) {
		k := New(tb, Stream("orders", 1))
		k.FailEntries(throttled, 1, 2)
		require.EqualValues(t, 1, *putRecords(t, k.Kinesis(), "one", "two").FailedRecordCount)
	})
	require.Equal(t, []string{"kinesistest: entry 2 (counted from 0) was to fail in a PutRecords call that had 2 entries"}, f.errors)
}

func TestAFailedTestShowsWhatWasThere(t *testing.T) {
	t.Parallel()
	f := (&fakeTB{TB: t}).run(func(tb testing.TB) {
		k := New(tb, Stream("orders", 1))
		for range 30 {
			require.NoError(t, putRecord(t.Context(), k.Kinesis(), "a", "one"))
		}
		k.Fail("PutRecord", 1, throttled)
		require.Error(t, putRecord(t.Context(), k.Kinesis(once), "a", "one"))
		tb.Errorf("it failed")
	})
	require.Len(t, f.logs, 1)
	require.Contains(t, f.logs[0], "calls: 31\n    … 11 more, and then\n")
	require.Contains(t, f.logs[0], "PutRecord: "+throttled)
	require.Contains(t, f.logs[0], "stream orders, 1 shard\n  it holds 30 records:\n")

	f = (&fakeTB{TB: t}).run(func(tb testing.TB) { New(tb, Stream("orders", 1)) })
	require.Empty(t, f.logs)
	require.Empty(t, f.errors)
}

func TestMistakesAreExplained(t *testing.T) {
	t.Parallel()
	for message, mistake := range map[string]func(*Kit){
		`there is no operation "PutRekord"; there are AcknowledgeDeadLetterQueueRecords, `:    func(k *Kit) { k.Fail("PutRekord", 1, throttled) },
		`the service has no error "Throttled"; it has AccessDeniedException, `:                func(k *Kit) { k.Fail("PutRecord", 1, "Throttled") },
		`a fault must be met by 1 call at least, not by 0`:                                    func(k *Kit) { k.DropAfter("PutRecord", 0) },
		`FailEntries needs the entries that are to fail, counted from 0; it was given []`:     func(k *Kit) { k.FailEntries(throttled) },
		`FailEntries needs the entries that are to fail, counted from 0; it was given [-1 2]`: func(k *Kit) { k.FailEntries(throttled, -1, 2) },
		`stream "bills": `:             func(k *Kit) { k.Put("bills", "a", "one") },
		`shard "7" of orders: `:        func(k *Kit) { k.Split("orders", "7") },
		`put to orders: `:              func(k *Kit) { k.Put("orders", "", "one") },
		`there is no operation "Gets"`: func(k *Kit) { k.Calls("Gets") },
	} {
		require.Contains(t, failure(t, func(tb testing.TB) { mistake(New(tb, Stream("orders", 1))) }), "kinesistest: "+message)
	}
	require.Contains(t, failure(t, func(tb testing.TB) { New(tb, Stream("no name", 1)) }), `make stream "no name": `)
	var closed *Kit
	(&fakeTB{TB: t}).run(func(tb testing.TB) { closed = New(tb) })
	require.Contains(t, failure(t, func(tb testing.TB) { closed.as(tb).Records("orders") }), "the kit is closed")
	require.Error(t, putRecord(t.Context(), closed.Kinesis(once), "a", "one"))
}
