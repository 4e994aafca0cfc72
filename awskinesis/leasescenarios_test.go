package awskinesis_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/kpl"
)

// These are scenarios of a KCL application, with leases in DynamoDB. Package consumer has the same
// scenarios with leases in a database.

// diary records the events of a fleet's workers, in order.
type diary struct {
	mu    sync.Mutex // guards the field below
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last call.
func (d *diary) take() (lines []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines, d.lines = d.lines, nil
	return lines
}

// actor is the processor of a lease. It records its calls.
type actor struct {
	diary   *diary
	shard   string                                                 // its last digit
	process func(ctx context.Context, batch *consumer.Batch) error // nil notes the records
	gate    chan struct{}                                          // the shard does not end before it is closed; nil for none

	initializations, ends int // how many fail before one succeeds
}

func (a *actor) Initialize(context.Context, *consumer.Checkpointer) error {
	if a.initializations--; a.initializations >= 0 {
		return errors.New("not now")
	}
	a.diary.add("%s begins", a.shard)
	return nil
}

func (a *actor) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	if a.process != nil {
		return a.process(ctx, batch)
	}
	for _, r := range batch.Records {
		a.diary.add("%s: %s", a.shard, r.Data)
	}
	return nil
}

func (a *actor) ShardEnded(context.Context, *consumer.Checkpointer) error {
	if a.gate != nil {
		<-a.gate
	}
	a.diary.add("%s ends", a.shard)
	if a.ends--; a.ends >= 0 {
		return errors.New("not now")
	}
	return nil
}

func (a *actor) LeaseLost(_ context.Context, cause error) {
	a.diary.add("%s lost: %t", a.shard, errors.Is(cause, consumer.ErrLeaseLost))
}

// acting returns a processor whose actor for each lease is changed by change.
func (d *diary) acting(change func(a *actor)) consumer.Processor {
	return consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
		a := &actor{diary: d, shard: string(lease.Shard[len(lease.Shard)-1:])}
		if change != nil {
			change(a)
		}
		return a
	})
}

// hire is join with a configuration.
func (f *fleet) hire(name string, cfg consumer.Config, processor consumer.Processor) *joined {
	f.Helper()
	j := &joined{line: &line{dynamo: f.dynamo}}
	client := f.dynamo.Client(func(o *dynamodb.Options) { o.HTTPClient = &http.Client{Transport: j.line} })
	store, err := awskinesis.NewLeaseStore(f.Context(), client, "billing", &awskinesis.LeaseStoreOptions{Stream: "orders", Logger: quietLogger()})
	require.NoError(f, err)
	cfg.App, cfg.WorkerID, cfg.Streams, cfg.Leases, cfg.Logger = "billing", name, []string{"orders"}, store, quietLogger()
	cfg.HandOverTimeout = cmp.Or(cfg.HandOverTimeout, 20*time.Second)
	w, err := consumer.New(f.kit.DB(), &cfg, processor)
	require.NoError(f, err)
	j.app = w.App()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }() // until stop
	var once sync.Once
	var failure error
	j.stop = func() error {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = w.Stop(ctx) // returns the error of Run
			failure = <-ended
		})
		return failure
	}
	f.Cleanup(func() { _ = j.stop() })
	return j
}

// Scenario 1: closed and open shards, with each start.
func TestFleetBeginsWhereItsStartSays(t *testing.T) {
	for name, row := range map[string]struct {
		start func(middle time.Time) braid.Position
		want  []string
	}{
		"trim horizon":               {func(time.Time) braid.Position { return braid.TrimHorizon() }, []string{"old", "middle", "new", "later"}},
		"a time in the closed shard": {braid.AtTime, []string{"middle", "new", "later"}},
		"a time after it":            {func(m time.Time) braid.Position { return braid.AtTime(m.Add(time.Second)) }, []string{"new", "later"}},
		"latest":                     {func(time.Time) braid.Position { return braid.Latest() }, []string{"later"}},
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, 1, func(f *fleet) {
				var d diary
				f.kit.Put("orders", "key", "old")
				time.Sleep(time.Hour)
				middle := time.Now()
				f.kit.Put("orders", "key", "middle")
				f.kit.Split("orders", "shardId-000000000000")
				time.Sleep(time.Hour)
				f.kit.Put("orders", "key", "new")
				one := f.hire("one", consumer.Config{Start: row.start(middle)}, d.acting(nil))
				time.Sleep(time.Minute)
				f.kit.Put("orders", "key", "later")
				time.Sleep(time.Minute)
				require.NoError(f, one.stop())
				var got []string
				for _, line := range d.take() {
					if _, data, is := strings.Cut(line, ": "); is && !strings.Contains(line, "lost") {
						got = append(got, data)
					}
				}
				require.Equal(f, row.want, got)
			})
		})
	}
}

// Scenarios 2 and 6: the parents of a merge end at different workers, in both orders and at once.
func TestFleetWaitsForBothParents(t *testing.T) {
	for _, first := range []string{"0", "1", ""} {
		t.Run("first "+first, func(t *testing.T) {
			inFleet(t, 2, func(f *fleet) {
				var d diary
				gates := map[string]chan struct{}{"0": make(chan struct{}), "1": make(chan struct{})}
				gate := func(a *actor) { a.gate = gates[a.shard] }
				one := f.hire("one", consumer.Config{}, d.acting(gate))
				two := f.hire("two", consumer.Config{}, d.acting(gate))
				time.Sleep(time.Minute)
				require.Equal(f, map[string]int{"one": 1, "two": 1}, f.owners())
				f.kit.Merge("orders", "shardId-000000000000", "shardId-000000000001")
				time.Sleep(2 * time.Minute)
				d.take()
				if first != "" {
					close(gates[first])
					time.Sleep(2 * time.Minute)
					require.Equal(f, []string{first + " ends"}, d.take(), "the other parent has not ended")
				}
				for name, gate := range gates {
					if name != first {
						close(gate)
					}
				}
				time.Sleep(2 * time.Minute)
				lines := d.take()
				require.Equal(f, "2 begins", lines[len(lines)-1])
				require.Equal(f, 1, count(lines, "2 begins"))
				require.NoError(f, one.stop())
				require.NoError(f, two.stop())
			})
		})
	}
}

func count(lines []string, line string) (n int) {
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}

// Scenario 3: records in progress at a dead worker are delivered again, from its last checkpoint
// on.
func TestFleetGoesOnForADeadWorker(t *testing.T) {
	inFleet(t, 2, func(f *fleet) {
		f.put()
		one := f.join("one", nil, nil)
		time.Sleep(10 * time.Second)
		require.Zero(f, f.requireAll())
		require.NoError(f, one.stop())

		stuck := make(chan struct{})
		dead := f.hire("dead", consumer.Config{}, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			if err := f.process(ctx, batch); err != nil {
				return err
			}
			<-stuck // it never returns
			return ctx.Err()
		}))
		f.put()
		time.Sleep(10 * time.Second)
		dead.line.set(true)
		f.put()
		two := f.join("two", nil, nil)
		time.Sleep(2 * time.Minute)
		require.Equal(f, map[string]int{"two": 2}, f.owners())
		repeated := f.requireAll()
		require.Positive(f, repeated)
		require.LessOrEqual(f, repeated, 20, "checkpointed records are not repeated")
		close(stuck)
		require.NoError(f, two.stop())
	})
}

// Scenario 5: a processor that does not return loses its lease at the deadline, and its later calls
// are refused.
func TestFleetTakesFromAProcessorThatDoesNotReturn(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		release, refusals := make(chan struct{}), make(chan error, 1)
		one := f.hire("one", consumer.Config{HandOverTimeout: 10 * time.Second}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			<-release
			refusals <- batch.CheckpointAt(context.Background(), batch.Records[0])
			return nil
		}))
		f.put()
		time.Sleep(15 * time.Second)
		require.Equal(f, map[string]int{"one": 1}, f.owners())
		require.NoError(f, one.app.Pause(f.Context(), consumer.LeaseKey{})) // it has to hand over
		time.Sleep(30 * time.Second)
		lease := f.leases()["shardId-000000000000"]
		require.Empty(f, lease.Owner)
		close(release)
		require.ErrorIs(f, <-refusals, consumer.ErrLeaseLost)
		require.Equal(f, lease.Checkpoint, f.leases()["shardId-000000000000"].Checkpoint)
		require.NoError(f, one.stop())

		two := f.join("two", nil, nil)
		require.NoError(f, two.app.Resume(f.Context(), consumer.LeaseKey{}))
		time.Sleep(30 * time.Second)
		require.Zero(f, f.requireAll())
		require.NoError(f, two.stop())
	})
}

// Scenario 7: a record that always fails is handled as configured, and affects only its shard.
func TestFleetPassesARecordThatAlwaysFails(t *testing.T) {
	inFleet(t, 2, func(f *fleet) {
		var attempts atomic.Int64
		one := f.hire("one", consumer.Config{MaxAttempts: 3, SkipFailed: true}, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			if string(batch.Records[0].Data) == "poison" && len(batch.Records) == 1 {
				attempts.Add(1)
				return errors.New("cannot be processed")
			}
			for _, r := range batch.Records {
				if string(r.Data) == "poison" {
					return errors.New("cannot be processed")
				}
			}
			return f.process(ctx, batch)
		}))
		f.put()
		f.kit.Put("orders", "key 0", "poison")
		f.put()
		time.Sleep(2 * time.Minute)
		require.Zero(f, f.requireAll())
		require.GreaterOrEqual(f, attempts.Load(), int64(3))
		require.NoError(f, one.stop())
	})
}

// Scenario 8: ShardEnded is called until it succeeds, and the children begin once.
func TestFleetEndsAShardUntilThatSucceeds(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		var d diary
		one := f.hire("one", consumer.Config{}, d.acting(func(a *actor) {
			if a.shard == "0" {
				a.ends = 2
			}
		}))
		time.Sleep(15 * time.Second)
		f.kit.Split("orders", "shardId-000000000000")
		time.Sleep(2 * time.Minute)
		lines := d.take()
		require.Equal(f, []string{"0 begins", "0 ends", "0 ends", "0 ends"}, lines[:4])
		require.ElementsMatch(f, []string{"1 begins", "2 begins"}, lines[4:])
		require.NoError(f, one.stop())
	})
}

// Scenario 9: a worker stops at once though Initialize always fails.
func TestFleetStopsWhileAShardCannotBegin(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		var d diary
		one := f.hire("one", consumer.Config{}, d.acting(func(a *actor) { a.initializations = 1 << 30 }))
		time.Sleep(10 * time.Minute)
		begun := time.Now()
		require.NoError(f, one.stop())
		require.Less(f, time.Since(begun), time.Second)
		require.Empty(f, d.take())
	})
}

// Scenario 10: workers come and go. A lease has one owner in each epoch, and the remaining workers
// have even shares.
func TestFleetWhoseWorkersComeAndGo(t *testing.T) {
	const shards = 8
	inFleet(t, shards, func(f *fleet) {
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex // guards epochs
		epochs := make(map[string]string)
		processor := func(name string) consumer.Processor {
			return consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
				mu.Lock()
				defer mu.Unlock()
				at := fmt.Sprint(lease.Shard, " ", lease.Epoch)
				if other := epochs[at]; other != "" {
					f.Errorf("%s and %s both have the epoch %s", name, other, at)
				}
				epochs[at] = name
				return consumer.ProcessorFunc(f.process)
			})
		}
		workers := make(map[string]*joined)
		for round := range 12 {
			name := fmt.Sprint("worker ", round)
			workers[name] = f.hire(name, consumer.Config{}, processor(name))
			if len(workers) > 1 && random.IntN(3) > 0 {
				for name, w := range workers { // any of them
					require.NoError(f, w.stop())
					delete(workers, name)
					break
				}
			}
			f.put()
			time.Sleep(time.Duration(random.IntN(40)) * time.Second)
		}
		time.Sleep(3 * time.Minute)
		shares := f.owners()
		require.Len(f, shares, min(shards, len(workers)))
		for name, n := range shares {
			require.GreaterOrEqual(f, n, shards/len(workers), name)
			require.LessOrEqual(f, n, (shards+len(workers)-1)/len(workers), name)
		}
		require.Zero(f, f.requireAll(), "all have stopped gracefully")

		before := f.leases() // a new worker moves its share, and no other lease
		last := f.hire("last", consumer.Config{}, processor("last"))
		time.Sleep(3 * time.Minute)
		moved := 0
		for shard, lease := range f.leases() {
			if lease.Owner != before[shard].Owner {
				require.Equal(f, "last", lease.Owner)
				moved++
			}
		}
		require.Equal(f, shards/(len(workers)+1), moved)
		require.NoError(f, last.stop())
		for _, w := range workers {
			require.NoError(f, w.stop())
		}
	})
}

// Scenario 11: an aggregate has records of both halves of a split. Those that belong to its shard
// are processed; after a restart, the rest of them.
func TestFleetGoesOnInsideOfAnAggregate(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		f.kit.Split("orders", "shardId-000000000000")
		stream, err := f.kit.DB().Stream("orders")
		require.NoError(f, err)
		lower, err := stream.Shard("shardId-000000000001")
		require.NoError(f, err)
		var a kpl.Aggregator
		var want []string
		for i := range 40 {
			entry := braid.Entry{PartitionKey: fmt.Sprint("key-", i), Data: fmt.Append(nil, i)}
			require.NoError(f, a.Add(entry))
			if lower.HashKeyRange().Contains(entry.HashKey()) {
				want = append(want, fmt.Sprintf("1: %d", i))
			}
		}
		begin := lower.HashKeyRange().Start
		results, err := stream.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "a", ExplicitHashKey: &begin, Data: a.AppendAggregate(nil)}})
		requireStored(f, results, err)
		require.Greater(f, len(want), 5)
		require.Less(f, len(want), 35)

		var d diary
		run := func(cfg consumer.Config, process func(context.Context, *consumer.Batch) error) []string {
			cfg.Deaggregate = true
			one := f.hire("one", cfg, d.acting(func(a *actor) { a.process = process }))
			time.Sleep(time.Minute)
			require.NoError(f, one.stop())
			return slices.DeleteFunc(d.take(), func(line string) bool { return !strings.HasPrefix(line, "1: ") })
		}
		require.Empty(f, run(consumer.Config{Checkpoints: consumer.Manual}, func(ctx context.Context, batch *consumer.Batch) error {
			return batch.CheckpointAt(ctx, batch.Records[2])
		}))
		require.Equal(f, want[3:], run(consumer.Config{}, nil))
		require.Empty(f, run(consumer.Config{}, nil))
	})
}

// Scenario 12: an application that began at LATEST skips nothing, even though it had processed
// nothing when it stopped.
func TestFleetAtLatestSkipsNothing(t *testing.T) {
	inFleet(t, 2, func(f *fleet) {
		f.kit.Put("orders", "key 0", "before")
		require.NoError(f, func() error {
			one := f.hire("one", consumer.Config{Start: braid.Latest()}, consumer.ProcessorFunc(f.process))
			time.Sleep(time.Minute)
			return one.stop()
		}())
		f.put()
		time.Sleep(time.Hour)
		two := f.hire("two", consumer.Config{Start: braid.Latest()}, consumer.ProcessorFunc(f.process))
		time.Sleep(time.Minute)
		require.Zero(f, f.requireAll())
		require.NoError(f, two.stop())
	})
}

// Scenario 13: a slow application gets a report of records that retention removed, and continues
// with the rest.
func TestFleetIsToldWhatRetentionHasRemoved(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		var d diary
		run := func() []string {
			one := f.hire("one", consumer.Config{OnGap: func(_ context.Context, _ string, gap *braid.TrimmedError) error {
				d.add("gap in %s", gap.Shard)
				return nil
			}}, d.acting(nil))
			time.Sleep(time.Minute)
			require.NoError(f, one.stop())
			return slices.DeleteFunc(d.take(), func(line string) bool { return !strings.Contains(line, "gap") && !strings.Contains(line, ": record") })
		}
		f.kit.Put("orders", "key", "record 1")
		require.Equal(f, []string{"0: record 1"}, run())
		f.kit.Put("orders", "key", "record 2", "record 3")
		time.Sleep(25 * time.Hour)
		f.kit.Put("orders", "key", "record 4")
		require.Equal(f, []string{"gap in shardId-000000000000", "0: record 4"}, run())
		require.Empty(f, run(), "the gap is reported once")
	})
}

// Scenario 15: writes whose responses are lost lose no lease.
func TestFleetKeepsLeasesWhenAnswersAreLost(t *testing.T) {
	inFleet(t, 2, func(f *fleet) {
		var d diary
		one := f.hire("one", consumer.Config{}, d.acting(nil))
		time.Sleep(15 * time.Second)
		// Every 10th attempt for each lease. The SDK retries as long as few of its calls fail.
		writes, lost := make(map[string]int), 0
		f.dynamo.SetFaults(func(op string, in map[string]any) string {
			if op != "UpdateItem" {
				return ""
			}
			key := fmt.Sprint(in["Key"])
			if writes[key]++; writes[key]%10 != 0 {
				return ""
			}
			lost++
			return "after abort"
		})
		for i := range 120 { // renewals and checkpoints
			f.kit.Put("orders", fmt.Sprint("key ", i), fmt.Sprint("record ", i))
			time.Sleep(5 * time.Second)
		}
		f.dynamo.SetFaults(nil)
		time.Sleep(time.Minute)
		lines := d.take()
		require.NotContains(f, lines, "0 lost: true")
		require.NotContains(f, lines, "1 lost: true")
		require.Len(f, lines, 2+120, "each shard begins once, and each record is delivered once: %v", lines)
		require.Greater(f, lost, 15)
		require.NoError(f, one.stop())
	})
}

// Scenario 16: the owner dies while a hand-over is requested. The requesting worker gets the lease
// when it expires.
func TestFleetWhoseOwnerDiesInAHandOver(t *testing.T) {
	inFleet(t, 2, func(f *fleet) {
		stuck := make(chan struct{})
		one := f.hire("one", consumer.Config{HandOverTimeout: time.Hour}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
			<-stuck
			return nil
		}))
		f.put() // both shards are busy
		time.Sleep(15 * time.Second)
		two := f.hire("two", consumer.Config{HandOverTimeout: time.Hour}, consumer.ProcessorFunc(f.process))
		asked := func() bool {
			for _, lease := range f.leases() {
				if lease.NextOwner == "two" {
					return true
				}
			}
			return false
		}
		for range 600 {
			if asked() {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.True(f, asked())
		one.line.set(true)
		died := time.Now()
		for f.owners()["two"] < 2 {
			time.Sleep(100 * time.Millisecond)
			require.Less(f, time.Since(died), 21*time.Second)
		}
		for _, lease := range f.leases() {
			require.Empty(f, lease.NextOwner)
		}
		synctest.Wait()
		require.Zero(f, f.requireAll())
		close(stuck)
		require.NoError(f, two.stop())
	})
}

// Scenario 18: the owner of a parent dies when the children have leases, but before the parent's
// lease says that it has ended. The next owner continues from there.
func TestFleetWhoseOwnerDiesAtTheEndOfAShard(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		var d diary
		one := f.hire("one", consumer.Config{}, d.acting(nil))
		time.Sleep(15 * time.Second)
		var refusedEnds atomic.Int64
		f.dynamo.SetFaults(func(op string, in map[string]any) string {
			values, _ := in["ExpressionAttributeValues"].(map[string]any)
			for _, value := range values {
				if op == "UpdateItem" && dynamotest.Text(value.(map[string]any)) == "SHARD_END" {
					refusedEnds.Add(1)
					return "abort"
				}
			}
			return ""
		})
		f.kit.Put("orders", "key", "record 1")
		f.kit.Split("orders", "shardId-000000000000")
		f.kit.Put("orders", "key", "record 2")
		time.Sleep(30 * time.Second)
		require.Positive(f, refusedEnds.Load())
		require.False(f, f.leases()["shardId-000000000000"].Checkpoint.ShardEnd)
		one.line.set(true)
		time.Sleep(time.Second)
		f.dynamo.SetFaults(nil)
		two := f.hire("two", consumer.Config{}, d.acting(nil))
		time.Sleep(2 * time.Minute)
		lines := d.take()
		for _, line := range []string{"1 begins", "2 begins"} {
			require.Equal(f, 1, count(lines, line), "%v", lines)
		}
		require.Equal(f, 1, slices.IndexFunc(lines, func(l string) bool { return strings.HasSuffix(l, "record 1") }), "%v", lines)
		records := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, "record") })
		require.Len(f, records, 2, "each once")
		require.Len(f, f.leases(), 3)
		require.True(f, f.leases()["shardId-000000000000"].Checkpoint.ShardEnd)
		require.NoError(f, two.stop())
	})
}
