package consumer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

const (
	shard0 = braid.ShardID("shardId-000000000000")
	shard1 = braid.ShardID("shardId-000000000001")
	shard2 = braid.ShardID("shardId-000000000002")
	shard3 = braid.ShardID("shardId-000000000003")
)

// fixture is a database with a stream "orders" in a bubble.
type fixture struct {
	*testing.T
	db     *braid.DB
	orders *braid.Stream
}

func bubble(t *testing.T, shards int, test func(f *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: shards})
		require.NoError(t, err)
		defer func() { // even if the test has failed: it ends the workers
			require.NoError(t, db.Close())
			synctest.Wait()
		}()
		test(&fixture{t, db, orders})
	})
}

// put appends records with the given data, which is also their partition key.
func (f *fixture) put(data ...string) {
	f.Helper()
	for _, d := range data {
		_, err := f.orders.PutRecord(f.Context(), d, []byte(d))
		require.NoError(f, err)
	}
}

// split splits a shard in the middle.
func (f *fixture) split(shard braid.ShardID) {
	f.Helper()
	_, _, err := f.orders.SplitShard(f.Context(), shard, nil)
	require.NoError(f, err)
}

// start runs a worker, and returns a function that stops it and waits for it.
func (f *fixture) start(w *consumer.Worker) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = w.Run(ctx)
	}()
	synctest.Wait()
	return func() error {
		cancel()
		<-ended
		return err
	}
}

func (f *fixture) worker(cfg consumer.Config, p consumer.Processor) *consumer.Worker {
	f.Helper()
	if cfg.App == "" {
		cfg.App = "billing"
	}
	if cfg.Streams == nil {
		cfg.Streams = []string{"orders"}
	}
	w, err := consumer.New(f.db, &cfg, p)
	require.NoError(f, err)
	return w
}

func (f *fixture) txWorker(cfg consumer.Config, p consumer.TxProcessorFunc) *consumer.Worker {
	f.Helper()
	cfg.App, cfg.Streams = "billing", []string{"orders"}
	w, err := consumer.NewTx(f.db, &cfg, p)
	require.NoError(f, err)
	return w
}

// status returns the status of a shard.
func (f *fixture) status(shard braid.ShardID) consumer.ShardStatus {
	f.Helper()
	synctest.Wait()
	app, err := consumer.OpenApp(f.db, "billing")
	require.NoError(f, err)
	status, err := app.Status(f.Context())
	require.NoError(f, err)
	for _, s := range status.Shards {
		if s.Shard == shard {
			return s
		}
	}
	require.Fail(f, "no such shard", "%s in %+v", shard, status)
	return consumer.ShardStatus{}
}

// shardOf returns the shard of a partition key.
func (f *fixture) shardOf(key string) braid.ShardID {
	for _, sh := range f.orders.Shards() {
		if sh.HashKeyRange().Contains(braid.HashKeyOf(key)) {
			return sh.ID()
		}
	}
	return ""
}

// stopped checks that Run has returned an error for the given shards, and returns the
// cause of the first one.
func (f *fixture) stopped(err error, shards ...braid.ShardID) error {
	f.Helper()
	var stopped *consumer.StoppedShardsError
	require.ErrorAs(f, err, &stopped)
	var keys []consumer.LeaseKey
	for _, shard := range shards {
		keys = append(keys, consumer.LeaseKey{Stream: "orders", Shard: shard})
	}
	var got []consumer.LeaseKey
	for _, shard := range stopped.Shards {
		got = append(got, shard.LeaseKey)
		require.ErrorIs(f, err, shard.Err)
	}
	require.Equal(f, keys, got)
	return stopped.Shards[0].Err
}

// journal has the calls of processors, line by line.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (l *journal) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// take waits until all other goroutines are blocked, and returns the lines since the last
// call. Sleeping would not order events: what is due at the same instant may happen
// later.
func (l *journal) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// collect is a processor that logs the data of records.
func (l *journal) collect(_ context.Context, batch *consumer.Batch) error {
	for _, r := range batch.Records {
		l.add("%s", r.Data)
	}
	return nil
}

func TestWorkerProcessesWhatIsThereAndWhatComes(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		f.put("a", "b")
		stop := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{"a", "b"}, seen.take())
		f.put("c")
		synctest.Wait()
		require.Equal(f, []string{"c"}, seen.take())
		require.NoError(f, stop())
		f.put("d")
		synctest.Wait()
		require.Empty(f, seen.take())
		stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{"d"}, seen.take(), "it goes on where it was")
		require.NoError(f, stop())
	})
}

// lifecycle is a processor that logs all calls.
type lifecycle struct {
	log   *journal
	name  string
	fail  map[string]int // how often each call fails
	mutex sync.Mutex
}

func (p *lifecycle) note(call string) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.log.add("%s %s", p.name, call)
	if p.fail[call] > 0 {
		p.fail[call]--
		return fmt.Errorf("%s fails", call)
	}
	return nil
}

func (p *lifecycle) Initialize(context.Context, *consumer.Checkpointer) error {
	return p.note("initialize")
}

func (p *lifecycle) ProcessRecords(_ context.Context, batch *consumer.Batch) error {
	for _, r := range batch.Records {
		if err := p.note(string(r.Data)); err != nil {
			return err
		}
	}
	return nil
}

func (p *lifecycle) ShutdownRequested(context.Context, *consumer.Checkpointer) error {
	return p.note("shutdown requested")
}

func (p *lifecycle) ShardEnded(context.Context, *consumer.Checkpointer) error {
	return p.note("shard ended")
}

func (p *lifecycle) LeaseLost(_ context.Context, cause error) {
	_ = p.note("lease lost")
}

// each makes a lifecycle for every lease, named after the last digit of its shard.
func (l *journal) each(fail map[string]int) consumer.Processor {
	return consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
		return &lifecycle{log: l, name: string(lease.Shard[len(lease.Shard)-1:]), fail: fail}
	})
}

func TestChildrenBeginWhenTheirParentIsDone(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		f.put("a")
		stop := f.start(f.worker(consumer.Config{}, seen.each(nil)))
		f.split("shardId-000000000000")
		f.put("b", "c")
		synctest.Wait()
		lines := seen.take()
		require.Equal(f, []string{"0 initialize", "0 a", "0 shard ended"}, lines[:3])
		require.Subset(f, lines[3:], []string{"1 initialize", "2 initialize"})
		require.Len(f, lines, 7)
		require.Equal(f, consumer.StateDone, f.status("shardId-000000000000").State)
		require.NoError(f, stop())
		require.ElementsMatch(f, []string{"1 shutdown requested", "1 lease lost", "2 shutdown requested", "2 lease lost"}, seen.take())
	})
}

func TestWorkersShareTheShards(t *testing.T) {
	bubble(t, 4, func(f *fixture) {
		var one, two journal
		stopOne := f.start(f.worker(consumer.Config{WorkerID: "one"}, one.each(nil)))
		require.Len(f, one.take(), 4)
		stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, two.each(nil)))
		require.ElementsMatch(f, []string{"2 shutdown requested", "2 lease lost", "3 shutdown requested", "3 lease lost"}, one.take())
		require.ElementsMatch(f, []string{"2 initialize", "3 initialize"}, two.take())
		require.NoError(f, stopOne())
		synctest.Wait()
		require.ElementsMatch(f, []string{"0 initialize", "1 initialize"}, two.take())
		require.NoError(f, stopTwo())
	})
}

func TestFailedBatchIsTriedAgainInPlace(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		f.put("a", "b")
		began := time.Now()
		stop := f.start(f.worker(consumer.Config{}, seen.each(map[string]int{"initialize": 1, "b": 2})))
		require.Equal(f, []string{"0 initialize"}, seen.take())
		require.Equal(f, consumer.StateRetrying, f.status("shardId-000000000000").State)
		time.Sleep(time.Minute)
		require.Equal(f, []string{"0 initialize", "0 a", "0 b", "0 a", "0 b", "0 a", "0 b"}, seen.take())
		require.Equal(f, consumer.StateRunning, f.status("shardId-000000000000").State)
		require.NoError(f, stop())
		require.Equal(f, time.Minute, time.Since(began))
	})
}
