package awskinesis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/capture"
	"github.com/braidstream/braid/kpl"
)

// Records put into an outbox reach Kinesis, and from there a stream of a database, through
// throttling, partial failures, lost requests and reshards: nothing is lost, each key is in order,
// and keys, data and hash keys are unchanged. Records are duplicated only where responses were
// lost, which no client can avoid, and exactly as often.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(max(1, *seeds/10)) { // each takes as long as ten of TestOrderPerKey
		for _, lost := range []bool{false, true} {
			for _, aggregate := range []int{0, 4 << 10} {
				t.Run(fmt.Sprintf("seed=%d,lostAnswers=%v,aggregate=%d", seed, lost, aggregate), func(t *testing.T) {
					inBubble(t, 2, 2, awskinesis.ForwarderOptions{}, func(o *outbox) { o.roundTrip(seed, lost, aggregate) })
				})
			}
		}
	}
}

func (o *outbox) roundTrip(seed uint64, lost bool, aggregate int) {
	o.connect(&awskinesis.ProducerOptions{AggregateBytes: aggregate})
	source, err := awskinesis.NewSource(o.kit.Kinesis(), &awskinesis.SourceOptions{Logger: quiet()})
	require.NoError(o, err)
	keep := &capture.Options{Logger: quiet()}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { require.NoError(o, capture.Run(ctx, source, "orders", o.db, "copy", keep)) })
	stop := make(chan struct{})
	running.Go(func() { (&fixture{T: o.T, kit: o.kit}).reshard(rand.New(rand.NewPCG(seed, 2)), stop) })
	o.start()

	random := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		switch random.IntN(4) {
		case 0:
			o.kit.FailEntries("ProvisionedThroughputExceededException", 0)
			o.kit.FailEntries("InternalFailure", 0)
		case 1:
			o.kit.Fail("PutRecords", 1+random.IntN(4), "ProvisionedThroughputExceededException")
			o.kit.Fail("GetRecords", 1+random.IntN(4), "ProvisionedThroughputExceededException")
		case 2:
			if !lost { // they could not know
				o.kit.DropBefore("PutRecords", 1+random.IntN(3))
			}
			o.kit.DropAfter("GetRecords", 1+random.IntN(3))
			o.kit.Fail("ListShards", 1, "InternalFailureException")
		case 3:
			if lost {
				o.kit.DropAfter("PutRecords", 1+random.IntN(2))
			}
		}
		o.putKeyed(random, 40)
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
	}
	close(stop)
	o.caughtUp()
	require.NoError(o, o.stop())
	cancel()
	running.Wait()
	keep.UntilTip = true
	require.NoError(o, capture.Run(context.Background(), source, "orders", o.db, "copy", keep))

	doubled := o.requireAll()
	switch {
	case !lost:
		o.requireOnce()
	case aggregate == 0:
		require.Equal(o, o.lostEntries(), doubled)
		require.Positive(o, doubled)
	}
	o.requireCopied()
}

// putKeyed puts numbered records of any keys. The hash key of an upper-case key is not its MD5.
func (o *outbox) putKeyed(random *rand.Rand, n int) {
	entries := make([]braid.Entry, n)
	for i := range entries {
		key := keys[random.IntN(len(keys))]
		if random.IntN(2) == 0 {
			key = strings.ToUpper(key)
		}
		o.next[key]++
		entries[i] = braid.Entry{PartitionKey: key, Data: fmt.Append(nil, o.next[key]), ExplicitHashKey: placeOf(key)}
	}
	results, err := o.stream().PutRecords(context.Background(), entries)
	requireStored(o, results, err)
}

// placeOf returns the explicit hash key of a key, nil if it has none.
func placeOf(key string) *braid.HashKey {
	if key == strings.ToLower(key) {
		return nil
	}
	place := braid.HashKeyOf("not " + key)
	return &place
}

// lostEntries returns how many records were stored by calls whose response was lost.
func (o *outbox) lostEntries() (n int) {
	for _, call := range o.kit.Calls("PutRecords") {
		if call.Err == "no answer" {
			n += len(call.Input.(*kinesis.PutRecordsInput).Records) - len(call.Refused)
		}
	}
	return n
}

// requireCopied requires that the copy equals the records in Kinesis, and that all records are in
// the shards of their hash keys.
func (o *outbox) requireCopied() {
	o.Helper()
	orders, err := o.kit.DB().Stream("orders")
	require.NoError(o, err)
	copied, err := o.db.Stream("copy")
	require.NoError(o, err)
	text := func(r braid.Record) string {
		return fmt.Sprintf("%s %q %s %s %d", r.PartitionKey, r.Data, r.ShardID, r.SequenceNumber, r.ArrivalTime.UnixMilli())
	}
	var want, got, replayed []string
	seen, last := make(map[string]bool), make(map[string]int)
	for rec, err := range orders.Records(context.Background(), braid.TrimHorizon()) {
		require.NoError(o, err)
		want = append(want, text(rec))
		if users, aggregated := kpl.Split(rec.Data); aggregated {
			for _, user := range users {
				require.Equal(o, placeOf(user.PartitionKey), user.ExplicitHashKey, "the hash key of %s", user.PartitionKey)
			}
			continue
		}
		hash := (&braid.Entry{PartitionKey: rec.PartitionKey, ExplicitHashKey: placeOf(rec.PartitionKey)}).HashKey()
		shard, err := orders.Shard(rec.ShardID)
		require.NoError(o, err)
		require.True(o, shard.HashKeyRange().Contains(hash), "the shard of %s", rec.PartitionKey)
		require.Equal(o, placeOf(rec.PartitionKey), rec.ExplicitHashKey, "the hash key of %s", rec.PartitionKey)
	}
	for rec, err := range copied.Records(context.Background(), braid.TrimHorizon()) {
		require.NoError(o, err)
		was, err := capture.Original(rec)
		require.NoError(o, err)
		require.Equal(o, was.PartitionKey, rec.PartitionKey)
		got = append(got, text(was))
	}
	for rec, err := range capture.Replay(context.Background(), copied, nil) {
		require.NoError(o, err)
		replayed = append(replayed, text(rec))
		if _, aggregated := kpl.Split(rec.Data); aggregated {
			continue // the copy has the order of Kinesis, which was checked there
		}
		if name := fmt.Sprintf("%s %q", rec.PartitionKey, rec.Data); !seen[name] {
			seen[name] = true
			require.Greater(o, number(o, string(rec.Data)), last[rec.PartitionKey], "the order of %s", rec.PartitionKey)
			last[rec.PartitionKey] = number(o, string(rec.Data))
		}
	}
	require.ElementsMatch(o, want, got)
	require.ElementsMatch(o, want, replayed)
}
