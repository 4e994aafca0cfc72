package awskinesis_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
)

// An application with several streams moves from the KCL in multi-stream mode to braid and back.
// Each continues in the other's rows, whose keys consist of account, stream, creation time and
// shard. No record is lost or repeated, since all workers stop gracefully.
func TestFromTheKCLToBraidAndBackWithSeveralStreams(t *testing.T) {
	classPath := compileKCL(t)
	j := newJourney(t, classPath)
	_, err := j.kit.DB().CreateStream(t.Context(), "refunds", &braid.StreamOptions{Shards: 2, Capacity: braid.Capacity{Mode: braid.Provisioned}})
	require.NoError(t, err)
	var identifiers []string
	for _, name := range []string{"orders", "refunds"} {
		stream, err := j.kit.DB().Stream(name)
		require.NoError(t, err)
		identifiers = append(identifiers, fmt.Sprintf("000000000000:%s:%d", name, stream.Describe().CreatedAt.Unix()))
	}
	j.javaOptions = []string{"-Dstreams=" + strings.Join(identifiers, ",")}
	var keys []string // of the leases
	for _, identifier := range identifiers {
		for shard := range 2 {
			keys = append(keys, fmt.Sprintf("%s:shardId-%012d", identifier, shard))
		}
	}

	j.putBoth(40)
	java := j.startJava("java-1", "go on")
	j.await("records of both streams", func() bool { return j.countOf("java-1", "orders") > 60 && j.countOf("java-1", "refunds") > 60 })
	java.stop()
	require.Equal(t, keys, j.leaseKeys())
	atJava := j.checkpoints()

	store, err := awskinesis.NewLeaseStore(j.Context(), j.dynamo.Client(), "billing", &awskinesis.LeaseStoreOptions{Streams: identifiers, LeaseDuration: 3 * time.Second, Logger: quietLogger()})
	require.NoError(t, err)
	w, err := consumer.New(j.kit.DB(), &consumer.Config{
		App: "billing", WorkerID: "braid-1", Streams: []string{"orders", "refunds"}, Leases: store, Deaggregate: true, BatchRecords: 7, Logger: quietLogger(),
	}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
		time.Sleep(20 * time.Millisecond)
		for _, r := range batch.Records {
			j.note(sight{"braid-1", batch.Lease().Stream + "/" + string(r.ShardID), fmt.Sprint(r.SequenceNumber, "/", r.SubSequenceNumber), r.PartitionKey, valueOf(r.Data)})
		}
		return nil
	}))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }() // until it is stopped below
	j.putBoth(20)
	j.await("records of both streams", func() bool { return j.countOf("braid-1", "orders") > 60 && j.countOf("braid-1", "refunds") > 60 })
	require.NoError(t, w.Stop(t.Context()))
	require.NoError(t, <-ended)
	require.Equal(t, keys, j.leaseKeys(), "braid continues in the rows of the KCL")
	atBraid := j.checkpoints()
	for _, key := range keys {
		require.Greater(t, atBraid[key], atJava[key], "the checkpoint of %s", key)
	}

	j.putBoth(20)
	java = j.startJava("java-2", "go on")
	j.await("everything", j.isComplete)
	java.stop()
	require.Equal(t, keys, j.leaseKeys(), "the KCL continues in the rows of braid")
	j.requireAll(nil)
	t.Logf("%d records were given to java-1, %d to braid-1, %d to java-2", j.count("java-1"), j.count("braid-1"), j.count("java-2"))
}

func valueOf(data []byte) (value int) {
	_, _ = fmt.Sscan(string(data), &value)
	return value
}

// putBoth puts that many records of each key into both streams, with different keys.
func (j *journey) putBoth(rounds int) {
	j.Helper()
	for _, name := range []string{"orders", "refunds"} {
		var entries []braid.Entry
		for range rounds {
			for i := range 12 {
				key := fmt.Sprint(name, "-", i)
				entries = append(entries, braid.Entry{PartitionKey: key, Data: fmt.Append(nil, j.next[key])})
				j.next[key]++
			}
		}
		stream, err := j.kit.DB().Stream(name)
		require.NoError(j, err)
		results, err := stream.PutRecordsWait(j.Context(), entries)
		requireStored(j, results, err)
	}
}

// countOf returns how many records of a stream a worker got.
func (j *journey) countOf(worker, stream string) (n int) {
	for _, s := range j.seen {
		if s.worker == worker && strings.HasPrefix(s.shard, stream+"/") {
			n++
		}
	}
	return n
}

// leaseKeys returns the keys of the rows that contain leases.
func (j *journey) leaseKeys() []string {
	rows := j.dynamo.Items("billing")
	maps.DeleteFunc(rows, func(_ string, row dynamotest.Item) bool { return dynamotest.Text(row["entityType"]) != "LEASE" })
	return slices.Sorted(maps.Keys(rows))
}

// checkpoints returns the sequence numbers of the leases, which have equal lengths.
func (j *journey) checkpoints() map[string]string {
	at := make(map[string]string)
	for key, row := range j.dynamo.Items("billing") {
		at[key] = dynamotest.Text(row["checkpoint"])
	}
	return at
}
