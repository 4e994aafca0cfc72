package awskinesis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/kpl"
)

// journal has the records that processors got, in order.
type journal struct {
	mu   sync.Mutex // guards data
	data []string
}

func (j *journal) process(_ context.Context, b *consumer.Batch) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range b.Records {
		j.data = append(j.data, string(r.Data))
	}
	return nil
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	data := j.data
	j.data = nil
	return data
}

// reshard splits or merges shards at random.
func (f *sourceFixture) reshard(random *rand.Rand) {
	f.Helper()
	stream, err := f.kit.DB().Stream("orders")
	require.NoError(f, err)
	var open []*braid.Shard
	for _, sh := range stream.Shards() {
		if !sh.Describe().Closed {
			open = append(open, sh)
		}
	}
	i := random.IntN(len(open))
	for j := range open {
		next, more := open[i].HashKeyRange().End.Next()
		if len(open) > 3 && more && open[j].HashKeyRange().Start == next {
			f.kit.Merge("orders", string(open[i].ID()), string(open[j].ID()))
			return
		}
	}
	f.kit.Split("orders", string(open[i].ID()))
}

// Two workers, each with its own client, process records through splits and merges, and while they
// replace each other. Workers that stop process each record once, in order per key, and every
// closed shard is finished.
func TestWorkersOnKinesisProcessThroughReshards(t *testing.T) {
	eachMode(t, 2, func(f *sourceFixture, m mode) {
		random := rand.New(rand.NewPCG(1, 2))
		leases := newLeases()
		var seen journal
		_, stopFirst := f.worker(f.source, leases, consumer.Config{WorkerID: "first"}, seen.process)
		stop := stopFirst
		var last *consumer.Worker
		for round := range 8 {
			f.put(40)
			f.reshard(random)
			f.put(40)
			if round%2 == 1 { // another worker joins, and the earlier one leaves
				w, stopNext := f.worker(f.newSource(m.options()), leases, consumer.Config{WorkerID: fmt.Sprint(round)}, seen.process)
				time.Sleep(20 * time.Second)
				f.put(20)
				stop()
				stop, last = stopNext, w
			}
			time.Sleep(10 * time.Second)
		}
		ctx, cancel := context.WithTimeout(f.Context(), 10*time.Minute)
		defer cancel()
		require.NoError(f, last.App().WaitCaughtUp(ctx))
		status, err := last.App().Status(f.Context())
		require.NoError(f, err)
		ended := 0
		for _, sh := range status.Shards {
			if sh.State == consumer.StateDone {
				ended++
			}
		}
		closed := 0
		stream, err := f.kit.DB().Stream("orders")
		require.NoError(f, err)
		for _, sh := range stream.Shards() {
			if sh.Describe().Closed {
				closed++
			}
		}
		require.Equal(f, closed, ended)
		require.GreaterOrEqual(f, closed, 8)
		stop()
		data := seen.take()
		f.kit.RequireProcessed("orders", data)
		require.Len(f, data, f.puts, "each record once")
		f.kit.RequireOrderPerKey("orders")
		f.requireNoThrottle()
	})
}

// Whatever happens to calls, no record is lost or out of order.
func TestWorkerOnKinesisStandsFaults(t *testing.T) {
	eachMode(t, 2, func(f *sourceFixture, m mode) {
		var seen journal
		w, stop := f.worker(f.source, newLeases(), consumer.Config{}, seen.process)
		f.put(50)
		time.Sleep(time.Second)
		operations := map[mode][]string{
			polling: {"GetRecords", "GetShardIterator"},
			fanOut:  {"SubscribeToShard"},
		}[m]
		for round := range 6 {
			for _, op := range operations {
				switch round {
				case 0:
					f.kit.Fail(op, 3, "ProvisionedThroughputExceededException")
				case 1:
					f.kit.Fail(op, 2, "InternalFailure")
				case 2:
					f.kit.DropBefore(op, 2)
				case 3:
					f.kit.DropAfter(op, 2)
				case 4:
					f.kit.Fail(op, 2, "KMSThrottlingException")
				case 5:
					f.kit.Delay(op, 2, 40*time.Second)
				}
			}
			f.put(50)
			f.kit.ExpireIterators()
			if round == 3 {
				f.kit.Split("orders", "1")
				f.kit.Fail("ListShards", 2, "LimitExceededException")
			}
			time.Sleep(6 * time.Minute) // a subscription is renewed meanwhile
		}
		require.NoError(f, w.App().WaitCaughtUp(f.Context()))
		stop()
		data := seen.take()
		f.kit.RequireProcessed("orders", data)
		require.Len(f, data, f.puts)
	})
}

// Calls fail, responses are lost, connections break, iterators expire, listings lag behind, shards
// split and merge, and workers come and go: no record is lost, and none comes before an earlier one
// of its key.
func TestWorkersOnKinesisStandChaos(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 2
	}
	for _, m := range []mode{polling, fanOut} {
		for seed := range seeds {
			t.Run(fmt.Sprint(m, " ", seed), func(t *testing.T) {
				sourceBubble(t, 2, m.options(), func(f *sourceFixture) { f.chaos(m, seed) })
			})
		}
	}
}

func (f *sourceFixture) chaos(m mode, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	var before *kinesis.ListShardsOutput
	f.client.set(func() {
		lag := rand.New(rand.NewPCG(seed, 1))
		f.client.random = rand.New(rand.NewPCG(seed, 2))
		f.client.listed = func(out *kinesis.ListShardsOutput) {
			now := *out
			if before != nil && lag.IntN(4) == 0 {
				out.Shards = before.Shards
			}
			before = &now
		}
	})
	leases := newLeases()
	var seen journal
	var alive []func() // stop the workers
	join := func(id string) {
		_, stop := f.worker(f.newSource(m.options()), leases, consumer.Config{WorkerID: id}, seen.process)
		alive = append(alive, stop)
	}
	join("first")
	for round := range 20 {
		f.put(random.IntN(60))
		switch random.IntN(6) {
		case 0:
			f.reshard(random)
		case 1:
			f.kit.ExpireIterators()
		case 2:
			join(fmt.Sprint(round))
		case 3:
			if len(alive) > 1 {
				alive[0]()
				alive = alive[1:]
			}
		}
		f.put(random.IntN(60))
		time.Sleep(time.Duration(random.IntN(20_000)) * time.Millisecond)
	}
	f.client.set(func() { f.client.random, f.client.listed = nil, nil })
	time.Sleep(5 * time.Minute)
	for _, stop := range alive {
		stop()
	}
	f.kit.RequireProcessed("orders", seen.take())
}

// A power cut of the service breaks every connection.
func TestWorkerOnKinesisStandsCrashes(t *testing.T) {
	eachMode(t, 2, func(f *sourceFixture, _ mode) {
		var seen journal
		w, stop := f.worker(f.source, newLeases(), consumer.Config{}, seen.process)
		for range 5 {
			f.put(30)
			time.Sleep(700 * time.Millisecond)
			f.kit.Crash()
			f.put(30)
			time.Sleep(20 * time.Second)
		}
		require.NoError(f, w.App().WaitCaughtUp(f.Context()))
		stop()
		data := seen.take()
		f.kit.RequireProcessed("orders", data)
		require.Len(f, data, f.puts)
	})
}

// The calls per idle shard and hour are those in the documentation. The KCL polls every 1.5 s, and
// renews a subscription every 5 minutes.
func TestSourceAtRestMakesFewCalls(t *testing.T) {
	eachMode(t, 4, func(f *sourceFixture, m mode) {
		var seen journal
		_, stop := f.worker(f.source, newLeases(), consumer.Config{}, seen.process)
		f.put(20)
		time.Sleep(5 * time.Minute)
		require.Len(f, seen.take(), 20)
		before := make(map[string]int)
		for _, c := range f.kit.Calls("") {
			before[c.Operation]++
		}
		time.Sleep(time.Hour)
		perHour := make(map[string]float64) // per shard; listings per stream
		for _, c := range f.kit.Calls("") {
			perHour[c.Operation]++
		}
		for op, n := range before {
			if perHour[op] -= float64(n); op != "ListShards" && op != "DescribeStreamSummary" {
				perHour[op] /= 4
			}
			if perHour[op] == 0 {
				delete(perHour, op)
			}
		}
		f.Log("calls in an hour:", perHour)
		require.InDelta(f, 60, perHour["ListShards"], 1)
		require.InDelta(f, 12, perHour["DescribeStreamSummary"], 1)
		switch m {
		case polling:
			require.Len(f, perHour, 3)
			require.InDelta(f, 2400, perHour["GetRecords"], 2)
		case fanOut:
			require.Len(f, perHour, 3)
			require.InDelta(f, 13, perHour["SubscribeToShard"], 1)
		}
		f.requireNoThrottle()
		stop()
	})
}

// Workers in one process share the quota of each shard, with each other and with Status, which
// peeks.
func TestWorkersOfAProcessShareTheBudget(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		var seen journal
		leases := newLeases()
		var stops []func()
		var last *consumer.Worker
		for i := range 3 {
			w, stop := f.worker(f.source, leases, consumer.Config{WorkerID: fmt.Sprint(i)}, seen.process)
			stops, last = append(stops, stop), w
		}
		time.Sleep(time.Second) // the application exists by then
		for range 20 {
			f.put(10)
			for range 3 {
				_, err := last.App().Status(f.Context())
				require.NoError(f, err)
			}
		}
		require.NoError(f, last.App().WaitCaughtUp(f.Context()))
		require.Len(f, seen.take(), 200)
		f.requireNoThrottle()
		for _, stop := range stops {
			stop()
		}
	})
}

// A worker unpacks the producer's aggregates. After a checkpoint inside an aggregate it continues
// with the rest of it.
func TestWorkerOnKinesisTakesAggregatesApart(t *testing.T) {
	eachMode(t, 1, func(f *sourceFixture, _ mode) {
		var a kpl.Aggregator
		for i := range 5 {
			require.NoError(f, a.Add(braid.Entry{PartitionKey: "k", Data: fmt.Append(nil, i)}))
		}
		f.kit.Put("orders", "k", string(a.AppendAggregate(nil)))
		leases := newLeases()
		var seen journal
		for _, at := range []int{1, 0, 1} {
			_, stop := f.worker(f.source, leases, consumer.Config{Deaggregate: true, Checkpoints: consumer.Manual}, func(ctx context.Context, b *consumer.Batch) error {
				if err := seen.process(ctx, b); err != nil {
					return err
				}
				return b.CheckpointAt(ctx, b.Records[at])
			})
			time.Sleep(30 * time.Second)
			stop()
		}
		require.Equal(f, []string{"0", "1", "2", "3", "4", "2", "3", "4", "3", "4"}, seen.take())
	})
}

// A permanent refusal stops the shard until it is resumed, without further calls. A temporary
// failure is retried.
func TestWorkerOnKinesisStopsAtWhatIsDenied(t *testing.T) {
	for code, permanent := range map[string]bool{
		"AccessDeniedException":    true,
		"KMSAccessDeniedException": true,
		"KMSDisabledException":     true,
		"KMSNotFoundException":     true,
		"KMSOptInRequired":         true,
		"KMSInvalidStateException": false,
		"KMSThrottlingException":   false,
		"ExpiredTokenException":    false,
		"InternalFailure":          false,
	} {
		t.Run(code, func(t *testing.T) {
			sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
				var seen journal
				w, stop := f.worker(f.source, newLeases(), consumer.Config{}, seen.process)
				time.Sleep(10 * time.Second)
				f.kit.Fail("GetRecords", 1, code)
				f.put(1)
				time.Sleep(time.Minute)
				if permanent {
					require.Empty(f, seen.take())
					status, err := w.App().Status(f.Context())
					require.NoError(f, err)
					require.Equal(f, consumer.StateFailed, status.Shards[0].State)
					var is *consumer.PermanentError
					require.ErrorAs(f, status.Shards[0].Err, &is)
					if code != "AccessDeniedException" {
						require.ErrorIs(f, is, braid.ErrKeyUnavailable)
					}
					reads := len(f.kit.Calls("GetRecords"))
					time.Sleep(time.Hour)
					require.Len(f, f.kit.Calls("GetRecords"), reads)
					require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{}))
					time.Sleep(time.Minute)
				}
				require.Equal(f, []string{"0"}, seen.take())
				stop()
			})
		})
	}
}

// A stream that was deleted and created again is processed from its beginning.
func TestWorkerOnKinesisGoesOnInANewStream(t *testing.T) {
	eachMode(t, 1, func(f *sourceFixture, _ mode) {
		var seen journal
		_, stop := f.worker(f.source, newLeases(), consumer.Config{}, seen.process)
		f.put(3)
		time.Sleep(30 * time.Second)
		require.Len(f, seen.take(), 3)
		require.NoError(f, f.kit.DB().DeleteStream(f.Context(), "orders"))
		time.Sleep(2 * time.Second)
		_, err := f.kit.DB().CreateStream(f.Context(), "orders", &braid.StreamOptions{Shards: 1})
		require.NoError(f, err)
		data := f.put(3)
		time.Sleep(3 * time.Minute)
		require.Equal(f, data, seen.take())
		stop()
	})
}

// An application that begins at LATEST misses nothing that is put while it is down.
func TestLatestIsKept(t *testing.T) {
	eachMode(t, 2, func(f *sourceFixture, _ mode) {
		f.put(10)
		time.Sleep(time.Second)
		leases := newLeases()
		var seen journal
		_, stop := f.worker(f.source, leases, consumer.Config{Start: braid.Latest()}, seen.process)
		time.Sleep(10 * time.Second)
		stop()
		data := f.put(10)
		time.Sleep(time.Hour)
		_, stop = f.worker(f.source, leases, consumer.Config{Start: braid.Latest()}, seen.process)
		time.Sleep(10 * time.Second)
		require.ElementsMatch(f, data, seen.take())
		stop()
	})
}
