package awskinesis_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
)

// fleetWorkerVariable turns this test binary into a braid worker. Its value has the worker's name,
// and the addresses of Kinesis and DynamoDB.
const fleetWorkerVariable = "BRAID_FLEET_WORKER"

// Workers of the KCL and of braid share eight shards, each worker in its own process: through
// splits and a merge, a graceful stop of each kind, a kill of each kind, and a kill of a leader of
// each kind. No record is lost, those of a key come in order, every parent ends, and the table is
// consistent.
func TestKCLAndBraidShareAnApplication(t *testing.T) {
	j := newJourneyOf(t, compileKCL(t), 4)
	f := &mixedFleet{journey: j, strategy: "plain", workers: make(map[string]*process)}
	stopFeeding := f.feed()
	defer stopFeeding()

	f.start("braid-0") // creates the table, and leads
	f.awaitShare("braid-0")
	f.start("java-1")
	f.awaitShare("braid-0", "java-1")
	f.stop("braid-0")
	f.awaitShare("java-1")
	require.Equal(t, "java-1", f.leader())
	f.start("braid-1")
	f.start("java-2")
	f.start("braid-2")
	f.awaitShare("java-1", "java-2", "braid-1", "braid-2")
	for shard := range 4 {
		j.split(shard) // into 4 to 11
	}
	f.awaitShare("java-1", "java-2", "braid-1", "braid-2")
	j.merge(8, 9)    // into 12
	j.split(10)      // into 13 and 14
	f.stop("java-2") // while shards end
	f.awaitShare("java-1", "braid-1", "braid-2")
	f.start("java-3")
	f.awaitShare("java-1", "java-3", "braid-1", "braid-2")
	f.stop("braid-2")
	f.awaitShare("java-1", "java-3", "braid-1")
	f.start("braid-3")
	f.awaitShare("java-1", "java-3", "braid-1", "braid-3")

	f.kill("java-3")
	f.awaitShare("java-1", "braid-1", "braid-3")
	f.kill("braid-3")
	f.awaitShare("java-1", "braid-1")

	require.Equal(t, "java-1", f.leader())
	f.kill("java-1") // the leader
	f.awaitShare("braid-1")
	require.Equal(t, "braid-1", f.leader())
	f.start("java-4")
	f.start("braid-4")
	f.awaitShare("java-4", "braid-1", "braid-4")
	j.merge(4, 5) // into 15, while braid leads
	j.split(6)    // into 16 and 17
	f.awaitShare("java-4", "braid-1", "braid-4")
	f.stop("java-4") // while braid leads
	f.awaitShare("braid-1", "braid-4")
	f.start("java-5")
	f.awaitShare("java-5", "braid-1", "braid-4")
	f.kill("java-5") // while braid leads
	f.awaitShare("braid-1", "braid-4")
	f.start("java-6")
	f.awaitShare("java-6", "braid-1", "braid-4")
	f.kill("braid-1") // the leader
	f.awaitShare("java-6", "braid-4")
	first, second, third := "java-6", "braid-4", "java-7"
	if f.leader() == second {
		first, second, third = second, first, "braid-5"
	}
	f.stop(first) // the leader
	f.awaitShare(second)
	require.Equal(t, second, f.leader())
	f.start(third)
	f.awaitShare(second, third)
	f.stop(second) // the leader
	f.awaitShare(third)
	require.Equal(t, third, f.leader())

	stopFeeding()
	j.await("everything", j.isComplete)
	f.requireConsistent()
	f.stop(third)
	j.requireOrder()
	repeated, total := j.repeated()
	t.Logf("%d records were processed, and %d more than once", total, repeated)
	require.Less(t, repeated, total/100, "only records that a killed worker had processed but not checkpointed")
}

// A leader of the KCL that assigns leases by the load of workers, as it does by default, gives braid
// workers their share. A braid leader follows, and gives KCL workers theirs.
func TestKCLSharesByLoadWithBraid(t *testing.T) {
	j := newJourneyOf(t, compileKCL(t), 4)
	f := &mixedFleet{journey: j, strategy: "load", workers: make(map[string]*process)}
	stopFeeding := f.feed()
	defer stopFeeding()

	f.start("java-1")
	f.awaitShare("java-1")
	f.start("braid-1")
	f.awaitShare("java-1", "braid-1")
	f.start("java-2")
	f.awaitShare("java-1", "java-2", "braid-1")
	for shard := range 4 {
		j.split(shard) // into 4 to 11
	}
	f.awaitShare("java-1", "java-2", "braid-1")
	f.kill("java-2")
	f.awaitShare("java-1", "braid-1")
	require.Equal(t, "java-1", f.leader())
	f.stop("java-1")
	f.awaitShare("braid-1")
	require.Equal(t, "braid-1", f.leader())
	f.start("java-3")
	f.awaitShare("java-3", "braid-1")
	f.stop("braid-1")
	f.awaitShare("java-3")
	require.Equal(t, "java-3", f.leader())
	f.start("braid-2")
	f.awaitShare("java-3", "braid-2")

	stopFeeding()
	j.await("everything", j.isComplete)
	f.requireConsistent()
	f.stop("java-3")
	f.stop("braid-2")
	j.requireOrder()
}

// A leader of the KCL whose workers measure their CPU utilization, as they do by default on AWS, gives
// braid workers their share. The KCL measures the CPU of the machine, which all workers of this test
// share, so there is one worker of the KCL at a time.
func TestKCLSharesByCPUWithBraid(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the KCL measures the CPU only on Linux")
	}
	j := newJourneyOf(t, compileKCL(t), 4)
	f := &mixedFleet{journey: j, strategy: "cpu", workers: make(map[string]*process)}
	stopFeeding := f.feed()
	defer stopFeeding()

	f.start("java-1")
	f.awaitShare("java-1")
	f.start("braid-1")
	f.awaitShare("java-1", "braid-1")
	require.Equal(t, "java-1", f.leader())
	require.NotNil(t, f.dynamo.Items("billing")["java-1"]["sts"]["M"].(map[string]any)["C"])
	f.start("braid-2")
	f.awaitShare("java-1", "braid-1", "braid-2")
	f.stop("java-1")
	f.awaitShare("braid-1", "braid-2")
	f.start("java-2")
	f.awaitShare("java-2", "braid-1", "braid-2")
	f.stop("braid-1")
	f.stop("braid-2")
	f.awaitShare("java-2")
	require.Equal(t, "java-2", f.leader())
	f.start("braid-3")
	f.awaitShare("java-2", "braid-3")

	stopFeeding()
	j.await("everything", j.isComplete)
	f.requireConsistent()
	f.stop("java-2")
	f.stop("braid-3")
	j.requireOrder()
}

// mixedFleet has the workers of an application.
type mixedFleet struct {
	*journey
	strategy string // of workers of the KCL
	workers  map[string]*process
}

// feed puts records until its result is called.
func (f *mixedFleet) feed() (stop func()) {
	ctx, cancel := context.WithCancel(f.Context())
	var feeder sync.WaitGroup
	feeder.Go(func() {
		for ctx.Err() == nil {
			f.put(1)
			time.Sleep(250 * time.Millisecond)
		}
	})
	return func() {
		cancel()
		feeder.Wait()
	}
}

// start starts a worker of the kind that its name indicates.
func (f *mixedFleet) start(name string) {
	f.Helper()
	f.Logf("%s: start %s", time.Now().Format("15:04:05"), name)
	if strings.HasPrefix(name, "java") {
		f.workers[name] = f.startJava(name, f.strategy)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFleetWorker$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", fleetWorkerVariable, name, f.kinesis.URL, f.table.URL))
	f.workers[name] = f.startProcess(name, cmd)
}

func (f *mixedFleet) stop(name string) {
	f.Helper()
	f.Logf("%s: stop %s", time.Now().Format("15:04:05"), name)
	f.workers[name].stop()
	delete(f.workers, name)
}

func (f *mixedFleet) kill(name string) {
	f.Helper()
	f.Logf("%s: kill %s", time.Now().Format("15:04:05"), name)
	f.workers[name].kill()
	delete(f.workers, name)
}

func (f *mixedFleet) leader() string {
	return dynamotest.Text(f.dynamo.Items("billing")["Leader"]["ownerName"])
}

// awaitShare waits until each of those workers has leases, nobody else has one of an open shard,
// and all records put so far are processed. The KCL's leader also counts leases of ended shards, so
// a worker may have only such leases.
func (f *mixedFleet) awaitShare(names ...string) {
	f.Helper()
	slices.Sort(names)
	var owners map[string]int
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		var all map[string]int
		owners, all = f.owners()
		if f.isTaken(names) && !slices.ContainsFunc(names, func(name string) bool { return all[name] == 0 }) {
			break
		}
		if time.Now().After(deadline) {
			f.Fatalf("%v have shards, not %v; the table:\n%s", owners, names, f.rows())
		}
	}
	f.Logf("%s: %v have shards, %s leads", time.Now().Format("15:04:05"), owners, f.leader())
	f.mu.Lock()
	want := maps.Clone(f.next)
	f.mu.Unlock()
	f.await("records that were put until now", func() bool {
		next := make(map[string]int)
		for _, s := range f.seen {
			next[s.key] = max(next[s.key], s.value+1)
		}
		for key, n := range want {
			if next[key] < n {
				return false
			}
		}
		return true
	})
	f.requireOrder()
}

// isTaken reports whether workers of those names have all open shards, and all closed ones have ended.
// A count of leases would not do: a split adds as many shards as a merge removes.
func (f *mixedFleet) isTaken(names []string) bool {
	stream, err := f.kit.DB().Stream("orders")
	require.NoError(f, err)
	rows := f.dynamo.Items("billing")
	return !slices.ContainsFunc(stream.Shards(), func(shard *braid.Shard) bool {
		row := rows[string(shard.ID())]
		if shard.Describe().Closed {
			return row != nil && dynamotest.Text(row["checkpoint"]) != "SHARD_END"
		}
		return row["checkpointOwner"] != nil || !slices.Contains(names, dynamotest.Text(row["leaseOwner"]))
	})
}

// owners returns how many open shards each worker has, and how many shards in all. A shard that is
// being handed over has two owners.
func (f *mixedFleet) owners() (open, all map[string]int) {
	open, all = make(map[string]int), make(map[string]int)
	for _, row := range f.dynamo.Items("billing") {
		if dynamotest.Text(row["entityType"]) != "LEASE" {
			continue
		}
		owner := dynamotest.Text(row["leaseOwner"])
		all[owner]++
		if dynamotest.Text(row["checkpoint"]) != "SHARD_END" {
			open[owner]++
			if current := row["checkpointOwner"]; current != nil {
				open["handed over by "+dynamotest.Text(current)]++
			}
		}
	}
	return open, all
}

func (f *mixedFleet) rows() string {
	var lines []string
	for key, row := range f.dynamo.Items("billing") {
		lines = append(lines, fmt.Sprintf("%s: owner %v, checkpointOwner %v, counter %v, checkpoint %v, parents %v, braid %v", key, row["leaseOwner"], row["checkpointOwner"], row["leaseCounter"], row["checkpoint"], row["parentShardId"], row["braid"]))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// requireConsistent requires that each open shard has a lease with a living owner, that each closed
// one has none or one at its end, and that no hand-over is unfinished.
func (f *mixedFleet) requireConsistent() {
	f.Helper()
	stream, err := f.kit.DB().Stream("orders")
	require.NoError(f, err)
	rows := f.dynamo.Items("billing")
	for _, shard := range stream.Shards() {
		row := rows[string(shard.ID())]
		if shard.Describe().Closed {
			require.True(f, row == nil || dynamotest.Text(row["checkpoint"]) == "SHARD_END", "%v", row)
			continue
		}
		require.NotNil(f, row, "%s", shard.ID())
		require.NotNil(f, f.workers[dynamotest.Text(row["leaseOwner"])], "%v", row)
		require.Nil(f, row["checkpointOwner"], "%v", row)
	}
	for key, row := range rows {
		switch dynamotest.Text(row["entityType"]) {
		case "LEASE":
			_, err := stream.Shard(braid.ShardID(key))
			require.NoError(f, err, "%s", key)
		case "WORKER_METRIC_STATS", "LEADER", "CLIENT_VERSION_MIGRATION", "TABLE_MIGRATION", "STREAM":
		default:
			f.Fatalf("the row %s: %v", key, row)
		}
	}
}

// TestFleetWorker is not a test, but a worker in its own process.
func TestFleetWorker(t *testing.T) {
	var name, kinesisURL, dynamoURL string
	if n, _ := fmt.Sscan(os.Getenv(fleetWorkerVariable), &name, &kinesisURL, &dynamoURL); n != 3 {
		t.Skip("only as a worker of TestKCLAndBraidShareAnApplication")
	}
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
	})
	source, err := awskinesis.NewSource(kinesis.New(kinesis.Options{
		Region: "eu-central-1", BaseEndpoint: &kinesisURL, Credentials: credentials, HTTPClient: http.DefaultClient,
	}), nil)
	require.NoError(t, err)
	client := dynamodb.New(dynamodb.Options{
		Region: "eu-central-1", BaseEndpoint: &dynamoURL, Credentials: credentials, HTTPClient: http.DefaultClient,
	})
	leases, err := awskinesis.NewLeaseStore(t.Context(), client, "billing", &awskinesis.LeaseStoreOptions{
		Stream: "orders", LeaseDuration: 3 * time.Second, MixedFleet: true,
	})
	require.NoError(t, err)
	worker, err := consumer.New(nil, &consumer.Config{
		App: "billing", WorkerID: name, Streams: []string{"orders"}, Source: source, Leases: leases,
		Deaggregate: true, BatchRecords: 3, Checkpoints: consumer.Manual,
	}, consumer.ProcessorFunc(printRecords))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := worker.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// printRecords prints records in the format of testdata/kcl/Worker.java.
func printRecords(ctx context.Context, batch *consumer.Batch) error {
	for _, r := range batch.Records {
		fmt.Println("record", r.ShardID, r.SequenceNumber, r.SubSequenceNumber, r.PartitionKey, string(r.Data))
		time.Sleep(10 * time.Millisecond)
	}
	last := batch.Records[len(batch.Records)-1]
	if err := batch.CheckpointAt(ctx, last); err != nil {
		return err
	}
	fmt.Println("checkpoint", last.ShardID, last.SequenceNumber, last.SubSequenceNumber)
	return nil
}
