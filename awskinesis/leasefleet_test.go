package awskinesis_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
	"github.com/braidstream/braid/kpl"
)

// fleet has workers that share only a stream and a lease table, as if each was in its own process.
type fleet struct {
	*testing.T
	kit    *kinesistest.Kit
	dynamo *dynamotest.Service
	mixed  bool // workers join a mixed fleet

	mu   sync.Mutex // guards next and seen
	next map[string]int
	seen map[string][]int // processed numbers, by key
}

// inFleet runs a test in a bubble, with a stream of that many shards.
func inFleet(t *testing.T, shards int, test func(f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(&fleet{
			T:      t,
			kit:    kinesistest.New(t, kinesistest.Stream("orders", shards)),
			dynamo: dynamotest.New(),
			next:   make(map[string]int), seen: make(map[string][]int),
		})
	})
}

// line is a worker's connection to the service. It can be cut, and be slow and faulty at random.
type line struct {
	dynamo *dynamotest.Service

	mu     sync.Mutex // guards the fields below
	cut    bool
	random *rand.Rand // nil for none
}

func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	cut, fate := l.cut, 100
	var before, after time.Duration
	if l.random != nil {
		fate = l.random.IntN(40)
		before, after = time.Duration(l.random.IntN(300))*time.Millisecond, time.Duration(l.random.IntN(300))*time.Millisecond
	}
	l.mu.Unlock()
	if err := wait(r.Context(), before); err != nil || cut || fate == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	response, err := l.dynamo.RoundTrip(r)
	if waited := wait(r.Context(), after); err == nil && (waited != nil || fate == 1) {
		return nil, io.ErrUnexpectedEOF
	}
	return response, err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
}

// joined is a running worker.
type joined struct {
	line *line
	app  *consumer.App
	stop func() error
}

// join starts a worker with its own connection.
func (f *fleet) join(name string, random *rand.Rand, processor consumer.Processor) *joined {
	f.Helper()
	j := &joined{line: &line{dynamo: f.dynamo, random: random}}
	client := f.dynamo.Client(func(o *dynamodb.Options) { o.HTTPClient = &http.Client{Transport: j.line} })
	var store *awskinesis.LeaseStore
	for {
		var err error
		if store, err = awskinesis.NewLeaseStore(f.Context(), client, "billing", &awskinesis.LeaseStoreOptions{Stream: "orders", MixedFleet: f.mixed, Logger: quietLogger()}); err == nil {
			break
		}
		require.NotNil(f, random, "%v", err) // a random failure
	}
	if processor == nil {
		processor = consumer.ProcessorFunc(f.process)
	}
	w, err := consumer.New(f.kit.DB(), &consumer.Config{
		App: "billing", WorkerID: name, Streams: []string{"orders"}, Leases: store, HandOverTimeout: 20 * time.Second, Deaggregate: true, Logger: quietLogger(),
	}, processor)
	require.NoError(f, err)
	j.app = w.App()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var failure error
	go func() {
		defer close(ended)
		failure = w.Run(ctx)
	}()
	j.stop = func() error {
		cancel()
		<-ended
		return failure
	}
	f.Cleanup(func() { _ = j.stop() })
	return j
}

// process notes the records of a batch.
func (f *fleet) process(_ context.Context, batch *consumer.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range batch.Records {
		value, err := strconv.Atoi(string(r.Data))
		if err != nil {
			return err
		}
		f.seen[r.PartitionKey] = append(f.seen[r.PartitionKey], value)
	}
	return nil
}

// put puts the next record of each key.
func (f *fleet) put() {
	f.Helper()
	for i := range 20 {
		name := fmt.Sprint("key ", i)
		f.mu.Lock()
		value := f.next[name]
		f.next[name]++
		f.mu.Unlock()
		f.kit.Put("orders", name, strconv.Itoa(value))
	}
}

// requireAll requires that each record was processed, in order except for repetitions, and returns
// the number of repetitions.
func (f *fleet) requireAll() (repeated int) {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, count := range f.next {
		next := 0
		for _, value := range f.seen[name] {
			require.LessOrEqual(f, value, next, "%s: %v", name, f.seen[name])
			if value == next {
				next++
			} else {
				repeated++
			}
		}
		require.Equal(f, count, next, "%s: %v", name, f.seen[name])
	}
	return repeated
}

// leases returns the leases in the table.
func (f *fleet) leases() map[braid.ShardID]consumer.Lease {
	f.Helper()
	all, err := ordersStore(f, f.dynamo, func(o *awskinesis.LeaseStoreOptions) { o.MixedFleet = f.mixed }).List(f.Context())
	require.NoError(f, err)
	leases := make(map[braid.ShardID]consumer.Lease)
	for _, lease := range all {
		leases[lease.Shard] = lease
	}
	delete(leases, "")
	return leases
}

func (f *fleet) owners() map[string]int {
	f.Helper()
	owners := make(map[string]int)
	for _, lease := range f.leases() {
		if !lease.Checkpoint.ShardEnd {
			owners[lease.Owner]++
		}
	}
	return owners
}

func TestFleetSharesTheLeaseTable(t *testing.T) {
	inFleet(t, 4, func(f *fleet) {
		one := f.join("one", nil, nil)
		f.put()
		time.Sleep(time.Minute)
		require.Equal(f, map[string]int{"one": 4}, f.owners())
		two := f.join("two", nil, nil)
		f.put()
		time.Sleep(time.Minute)
		require.Equal(f, map[string]int{"one": 2, "two": 2}, f.owners(), "leases are handed over")
		f.put()
		f.kit.Split("orders", "shardId-000000000000") // into 4 and 5
		f.kit.Merge("orders", "shardId-000000000002", "shardId-000000000003")
		f.put()
		time.Sleep(time.Minute)
		leases := f.leases()
		require.Len(f, leases, 7)
		for shard := range 7 {
			lease := leases[braid.ShardID(fmt.Sprintf("shardId-%012d", shard))]
			require.Equal(f, slices.Contains([]int{0, 2, 3}, shard), lease.Checkpoint.ShardEnd, "%d", shard)
			require.NotZero(f, lease.HashKeyRange)
		}
		require.Equal(f, []braid.ShardID{"shardId-000000000002", "shardId-000000000003"}, leases["shardId-000000000006"].Parents)

		store := ordersStore(f, f.dynamo, nil) // the KCL deletes the leases of finished parents
		for _, shard := range []string{"shardId-000000000000", "shardId-000000000002", "shardId-000000000003"} {
			deleted, err := store.Delete(f.Context(), leases[braid.ShardID(shard)])
			require.NoError(f, err)
			require.True(f, deleted)
		}
		require.NoError(f, one.stop())
		time.Sleep(time.Minute)
		require.Equal(f, map[string]int{"two": 4}, f.owners(), "they were released")
		f.put()
		time.Sleep(time.Minute)
		require.Zero(f, f.requireAll())

		require.NoError(f, two.app.Seek(f.Context(), consumer.LeaseKey{Stream: "orders"}, braid.TrimHorizon()))
		time.Sleep(2 * time.Minute)
		require.Positive(f, f.requireAll(), "everything again, in order")
		require.NoError(f, two.stop())
		require.Equal(f, map[string]int{"": 4}, f.owners())
	})
}

// The leases of a dead KCL worker are taken after a LeaseDuration, and processing continues at
// their positions: inside an aggregate, at LATEST, after a shard whose row was deleted.
func TestFleetGoesOnWhereTheKCLHasStopped(t *testing.T) {
	inFleet(t, 2, func(f *fleet) {
		ordersStore(f, f.dynamo, nil) // creates the table
		stream, err := f.kit.DB().Stream("orders")
		require.NoError(f, err)
		putIn := func(shard int, data []byte) braid.SequenceNumber {
			hash := stream.Shards()[shard].HashKeyRange().Start
			results, err := stream.PutRecords(f.Context(), []braid.Entry{{PartitionKey: fmt.Sprint("shard ", shard), ExplicitHashKey: &hash, Data: data}})
			requireStored(f, results, err)
			return results[0].SequenceNumber
		}
		pack := func(shard int, values ...int) []byte {
			var a kpl.Aggregator
			for _, value := range values {
				hash := stream.Shards()[shard].HashKeyRange().Start
				require.NoError(f, a.Add(braid.Entry{PartitionKey: fmt.Sprint("shard ", shard), ExplicitHashKey: &hash, Data: fmt.Append(nil, value)}))
			}
			return a.AppendAggregate(nil)
		}
		putIn(0, []byte("0"))
		f.kit.Split("orders", "shardId-000000000000") // into 2 and 3
		half := putIn(2, pack(2, 0, 1, 2, 3))
		plain := putIn(3, []byte("0"))
		putIn(3, []byte("1"))
		putIn(1, []byte("0"))
		for shard, checkpoint := range map[string]dynamotest.Item{
			"shardId-000000000001": {"checkpoint": s("LATEST"), "checkpointSubSequenceNumber": n("0")},
			"shardId-000000000002": {"checkpoint": s(half.String()), "checkpointSubSequenceNumber": n("1")},
			"shardId-000000000003": {"checkpoint": s(plain.String()), "checkpointSubSequenceNumber": n("0")},
		} {
			row := dynamotest.Item{"leaseKey": s(shard), "leaseCounter": n("17"), "leaseOwner": s("java-1"), "ownerSwitchesSinceCheckpoint": n("0")}
			maps.Copy(row, checkpoint)
			f.dynamo.Put(f, "billing", row)
		}
		one := f.join("one", nil, nil)
		time.Sleep(30 * time.Second)
		putIn(1, []byte("1"))
		time.Sleep(time.Second)
		f.mu.Lock()
		require.Equal(f, map[string][]int{"shard 1": {1}, "shard 2": {2, 3}, "shard 3": {1}}, f.seen)
		f.mu.Unlock()
		require.NoError(f, one.stop())
	})
}

// A worker that cannot reach the table loses its leases to another one, after one to two
// LeaseDurations. Its later writes are refused.
func TestZombieIsRefusedByTheLeaseTable(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		entered, release := make(chan *consumer.Batch, 1), make(chan struct{})
		refusal := make(chan error, 1)
		one := f.join("one", nil, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			entered <- batch
			<-release
			refusal <- batch.Checkpoint(context.Background())
			return nil
		}))
		f.put()
		<-entered
		one.line.set(true)
		two := f.join("two", nil, nil)
		time.Sleep(21 * time.Second)
		require.Equal(f, map[string]int{"two": 1}, f.owners())
		require.Zero(f, f.requireAll())
		lease := f.leases()["shardId-000000000000"]
		one.line.set(false)
		close(release)
		require.ErrorIs(f, <-refusal, consumer.ErrLeaseLost)
		require.Equal(f, lease.Checkpoint, f.leases()["shardId-000000000000"].Checkpoint)
		require.NoError(f, two.stop())
	})
}

// Scenario 4: a worker that stalled for longer than its lease lasts is told once that it has lost it.
func TestFleetTellsAWorkerThatStalled(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		var ofOne, ofTwo diary
		entered, release, refusal := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		one := f.hire("one", consumer.Config{Checkpoints: consumer.Manual}, ofOne.acting(func(a *actor) {
			a.process = func(_ context.Context, batch *consumer.Batch) error {
				close(entered)
				<-release
				refusal <- batch.Checkpoint(context.Background())
				return nil
			}
		}))
		f.kit.Put("orders", "key", "record")
		<-entered
		one.line.set(true)
		two := f.hire("two", consumer.Config{}, ofTwo.acting(nil))
		time.Sleep(time.Minute)
		require.Equal(f, []string{"0 begins", "0: record"}, ofTwo.take())
		one.line.set(false)
		close(release)
		require.ErrorIs(f, <-refusal, consumer.ErrLeaseLost)
		time.Sleep(5 * time.Minute)
		require.Equal(f, []string{"0 begins", "0 lost: true"}, ofOne.take())
		require.Equal(f, map[string]int{"two": 1}, f.owners())
		require.NoError(f, one.stop())
		require.NoError(f, two.stop())
	})
}

// Scenario 19: what a worker gives back when it stops is taken without waiting for its expiry, and
// nothing comes twice: at once by one that begins then, and soon by one that is there already.
func TestFleetGoesOnAtOnceAfterAStop(t *testing.T) {
	inFleet(t, 4, func(f *fleet) {
		one := f.join("one", nil, nil)
		f.put()
		time.Sleep(10 * time.Second)
		f.put()
		require.NoError(f, one.stop())
		two := f.join("two", nil, nil)
		f.put()
		time.Sleep(time.Second)
		require.Equal(f, map[string]int{"two": 4}, f.owners())
		require.Zero(f, f.requireAll())

		three := f.join("three", nil, nil)
		time.Sleep(time.Minute)
		require.Equal(f, map[string]int{"two": 2, "three": 2}, f.owners())
		f.put()
		require.NoError(f, two.stop())
		f.put()
		time.Sleep(11 * time.Second) // it lists the leases of others once in a LeaseDuration
		require.Equal(f, map[string]int{"three": 4}, f.owners())
		require.Zero(f, f.requireAll())
		require.NoError(f, three.stop())
	})
}

// Whatever the network and the service do to requests, no record is lost or out of order.
func TestFleetOnABadNetwork(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inFleet(t, 3, func(f *fleet) {
				random := rand.New(rand.NewPCG(seed, 1))
				chance := func() *rand.Rand { return rand.New(rand.NewPCG(random.Uint64(), 2)) }
				workers := []*joined{f.join("one", chance(), nil)}
				for round := range 12 {
					f.put()
					time.Sleep(time.Duration(random.IntN(20_000)) * time.Millisecond)
					switch w := workers[random.IntN(len(workers))]; round {
					case 2, 5:
						workers = append(workers, f.join(fmt.Sprint("worker ", round), chance(), nil))
					case 3:
						f.kit.Split("orders", "shardId-000000000001")
					case 4, 7:
						w.line.set(true)
						time.AfterFunc(30*time.Second, func() { w.line.set(false) })
					case 8:
						f.kit.Merge("orders", "shardId-000000000003", "shardId-000000000004")
					case 9:
						require.NoError(f, workers[0].stop())
						workers = workers[1:]
					}
				}
				time.Sleep(5 * time.Minute)
				f.requireAll()
				for _, lease := range f.leases() {
					require.Equal(f, slices.Contains([]braid.ShardID{"shardId-000000000001", "shardId-000000000003", "shardId-000000000004"}, lease.Shard), lease.Checkpoint.ShardEnd, "%s", lease.Shard)
				}
				for _, w := range workers {
					require.NoError(f, w.stop())
				}
			})
		})
	}
}

// Idle leases cost what the documentation of LeaseStore says.
func TestCostOfLeasesAtRest(t *testing.T) {
	const shards = 8
	inFleet(t, shards, func(f *fleet) {
		one, two := f.join("one", nil, nil), f.join("two", nil, nil)
		f.put()
		time.Sleep(time.Minute)
		f.dynamo.Costs()
		time.Sleep(20 * time.Minute)
		calls, reads, writes := f.dynamo.Costs()
		f.Logf("20 minutes of %d leases and 2 workers: %v, %v read and %v write units", shards, calls, reads, writes)
		require.InDelta(f, shards*360, writes, shards*4)
		require.EqualValues(f, writes, calls["UpdateItem"], "a row is one unit")
		const workers, listings = 2, 120 // one in each LeaseDuration
		require.Equal(f, map[string]int{"UpdateItem": calls["UpdateItem"], "Scan": workers * 2 * listings}, calls)
		require.EqualValues(f, workers*listings*(1+math.Ceil(shards/6.)), reads)
		require.NoError(f, one.stop())
		require.NoError(f, two.stop())
	})
}

// Scenario 20: the writes of idle shards grow with their number, and with nothing else.
func TestCostOfManyLeasesAtRest(t *testing.T) {
	const shards = 40
	inFleet(t, shards, func(f *fleet) {
		one := f.join("one", nil, nil)
		time.Sleep(time.Minute)
		f.dynamo.Costs() // begins anew
		time.Sleep(5 * time.Minute)
		calls, _, writes := f.dynamo.Costs()
		require.InDelta(f, shards*90, writes, shards*2, "three in each LeaseDuration")
		require.EqualValues(f, writes, calls["UpdateItem"])
		require.NoError(f, one.stop())
	})
}
