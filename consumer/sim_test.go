package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// The simulation tests the package's promises about ownership, checkpoints and effects.
// Random histories, each from one seed, run in a bubble: workers join, leave and hang,
// processors fail, panic and are stuck beside healthy ones, shards are split, merged and
// trimmed, the application is paused and the power is cut. Every commit of a lease is
// checked, in order. The disk is copied in the middle of file operations: a worker
// continues on each such image, and every record must have had its effect exactly once.
//
//	go test -run Simulation -braid.seeds 5000 ./consumer    # more
//	go test -run Simulation -braid.seed 17 -v ./consumer    # one again

var (
	simSeeds  = flag.Int("braid.seeds", 260, "how many seeds the simulation runs")
	simSeed   = flag.Int("braid.seed", -1, "run only this seed of the simulation")
	simImages = flag.Int("braid.images", 26, "the most crash images that a seed takes")
)

const simSteps = 60

type simTotals struct {
	records, deliveries, checkpoints, takes, zombies, thefts, ended, stops, stuck, images, restarts, tips, unread, gaps, refusals atomic.Int64
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	first, seeds := 0, *simSeeds
	if testing.Short() {
		seeds /= 10
	}
	if *simSeed >= 0 {
		first, seeds = *simSeed, 1
	}
	var totals simTotals
	t.Run("seed", func(t *testing.T) {
		for seed := first; seed < first+seeds; seed++ {
			t.Run(strconv.Itoa(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { simulate(t, uint64(seed), &totals) })
			})
		}
	})
	t.Logf("%d records, %d deliveries, %d checkpoints, %d leases taken, %d of them from processors that were still at work, %d stolen before a commit, %d shards ended, %d stops, %d stuck shards, %d restarts, %d crash images, %d times at the tip, %d reshards of a shard whose parents were unread, %d gaps of expired shards, of which %d were refused",
		totals.records.Load(), totals.deliveries.Load(), totals.checkpoints.Load(), totals.takes.Load(), totals.zombies.Load(), totals.thefts.Load(), totals.ended.Load(), totals.stops.Load(), totals.stuck.Load(), totals.restarts.Load(), totals.images.Load(), totals.tips.Load(), totals.unread.Load(), totals.gaps.Load(), totals.refusals.Load())
	if seeds >= 260 && !t.Failed() { // a generator that never produces these cases proves nothing
		for _, n := range []*atomic.Int64{&totals.takes, &totals.zombies, &totals.thefts, &totals.ended, &totals.stops, &totals.stuck, &totals.images, &totals.restarts, &totals.tips, &totals.unread, &totals.gaps, &totals.refusals} {
			require.Positive(t, n.Load())
		}
	}
}

// simulation is one history.
type simulation struct {
	t      *testing.T
	totals *simTotals
	random *rand.Rand
	lossy  bool // records are trimmed, and shards expire before they are processed
	disk   *testdisk.Disk
	images *simImageTaker
	db     *braid.DB
	stream *braid.Stream
	judge  *judge
	nextID int
	names  int

	workers map[string]*simWorker
	steps   []string // for readers of a failure

	mu      sync.Mutex                      // guards the fields below
	chaos   *rand.Rand                      // for the processors, whose order depends on the scheduler
	calm    bool                            // random failures and hangs have ended
	stuck   map[braid.ShardID]chan struct{} // processors of these shards hang until it is closed
	stopped map[string]bool                 // workers whose Stop has returned
}

type simWorker struct {
	w     *consumer.Worker
	ended chan struct{}
	err   error
}

const simHandOver = 10 * time.Second

func simulate(t *testing.T, seed uint64, totals *simTotals) {
	s := &simulation{
		t: t, totals: totals,
		random:  rand.New(rand.NewPCG(seed, 1)),
		chaos:   rand.New(rand.NewPCG(seed, 2)),
		lossy:   seed%5 == 4,
		workers: make(map[string]*simWorker),
		stopped: make(map[string]bool),
	}
	defer func() {
		if t.Failed() {
			t.Logf("seed %d:\n%s", seed, strings.Join(s.steps, "\n"))
		}
	}()
	s.images = newSimImages(seed, *simImages)
	s.disk = s.images.watch(vfs.NewCrashableMem())
	s.open()
	for range simSteps {
		s.step()
		if t.Failed() {
			break
		}
	}
	s.settle()
	s.close()
	for i, image := range s.images.all() {
		s.totals.images.Add(1)
		if s.checkImage(image); t.Failed() {
			t.Logf("in image %d", i)
			return
		}
	}
}

func (s *simulation) logf(format string, args ...any) {
	s.steps = append(s.steps, fmt.Sprintf(format, args...))
}

func (s *simulation) open() {
	db, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, TailBytes: 16 << 10, ReserveBytes: -1}, companion.Environment{FS: s.disk})
	require.NoError(s.t, err)
	s.db = db.(*braid.DB)
	s.stream, err = s.db.OpenStream(s.t.Context(), "in", &braid.StreamOptions{Shards: 1 + s.random.IntN(4)})
	require.NoError(s.t, err)
	s.judge = newJudge(s)
	companion.DBOf(s.db).OnCommit(s.judge.commit)
}

// close ends the database under its workers.
func (s *simulation) close() {
	require.NoError(s.t, s.db.Close())
	for name, w := range s.workers {
		<-w.ended
		if w.err != nil && !errors.Is(w.err, braid.ErrClosed) {
			var stuck *consumer.HungShardsError
			require.ErrorAs(s.t, w.err, &stuck, name)
		}
	}
	clear(s.workers)
	synctest.Wait()
}

func (s *simulation) step() {
	switch n := s.random.IntN(100); {
	case n < 45:
		s.put()
	case n < 57:
		s.join()
	case n < 65:
		s.leave()
	case n < 75:
		s.reshard()
	case n < 77 && s.lossy:
		s.expire()
	case n < 78 && s.lossy:
		s.logf("trim")
		require.NoError(s.t, s.stream.Trim(s.t.Context(), braid.AtTime(time.Now())))
	case n < 83:
		s.pause()
	case n < 87:
		s.crash()
	case n < 90:
		s.stick()
	default:
		d := time.Duration(s.random.IntN(30000)) * time.Millisecond
		s.logf("sleep %v", d)
		time.Sleep(d)
	}
	if s.random.IntN(2) == 0 {
		synctest.Wait()
		require.NoError(s.t, consumer.CheckView(s.t.Context(), s.db, "sim"))
	}
}

func (s *simulation) put() {
	n := 1 + s.random.IntN(18)
	entries := make([]braid.Entry, n)
	for i := range entries {
		entries[i] = braid.Entry{PartitionKey: fmt.Sprint("key", s.random.IntN(12)), Data: []byte(strconv.Itoa(s.nextID))}
		s.nextID++
	}
	s.totals.records.Add(int64(n))
	s.logf("put %d", n)
	_, err := s.stream.PutRecords(s.t.Context(), entries)
	require.NoError(s.t, err)
}

func (s *simulation) join() {
	if len(s.workers) >= 6 {
		return
	}
	s.names++
	s.run(fmt.Sprint("w", s.names))
}

func (s *simulation) run(name string) {
	s.logf("%s joins", name)
	cfg := &consumer.Config{App: "sim", Streams: []string{"in"}, WorkerID: name, HandOverTimeout: simHandOver, BatchRecords: 1 + s.random.IntN(9), MaxAttempts: -1, OnGap: s.judge.gap}
	if s.random.IntN(2) == 0 { // a budget that a single batch uses up
		cfg.BatchBytes = 1 + s.random.IntN(64)
		cfg.MaxBytes = int64(cfg.BatchBytes + s.random.IntN(64))
	}
	w, err := consumer.NewTx(s.db, cfg, simProcessor{s})
	require.NoError(s.t, err)
	sw := &simWorker{w: w, ended: make(chan struct{})}
	s.workers[name] = sw
	go func() {
		defer close(sw.ended)
		sw.err = w.Run(context.Background())
	}()
}

func (s *simulation) leave() {
	for name, w := range s.workers {
		s.logf("%s leaves", name)
		patience := time.Duration(s.random.IntN(2000)) * time.Millisecond
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		began := time.Now()
		err := w.w.Stop(ctx)
		cancel()
		if took := time.Since(began); took > patience+100*time.Millisecond {
			s.t.Errorf("Stop took %v where it had %v", took, patience)
		}
		var stuck *consumer.HungShardsError
		var refused *consumer.StoppedShardsError
		if err != nil && !errors.As(err, &stuck) && !(s.lossy && errors.As(err, &refused)) {
			s.t.Errorf("stop: %v", err)
		}
		s.totals.stops.Add(1)
		s.mu.Lock()
		s.stopped[name] = true
		s.mu.Unlock()
		delete(s.workers, name)
		return
	}
}

func (s *simulation) reshard() {
	var open []*braid.Shard
	for _, sd := range s.stream.Describe().Shards {
		if !sd.Closed {
			sh, err := s.stream.Shard(sd.ID)
			require.NoError(s.t, err)
			open = append(open, sh)
		}
	}
	slices.SortFunc(open, func(a, b *braid.Shard) int { return a.HashKeyRange().Start.Compare(b.HashKeyRange().Start) })
	i := s.random.IntN(len(open))
	if s.judge.isUnread(open[i].Parents()) {
		s.totals.unread.Add(1)
	}
	if i > 0 && (s.random.IntN(2) == 0 || len(open) > 8) {
		s.logf("merge %s and %s", open[i-1].ID(), open[i].ID())
		_, err := s.stream.MergeShards(s.t.Context(), open[i-1].ID(), open[i].ID())
		require.NoError(s.t, err)
		return
	}
	s.logf("split %s", open[i].ID())
	_, _, err := s.stream.SplitShard(s.t.Context(), open[i].ID(), nil)
	require.NoError(s.t, err)
}

// expire lets shards with children expire while no worker runs.
func (s *simulation) expire() {
	for len(s.workers) > 0 {
		s.leave()
	}
	s.put()
	s.reshard()
	s.put()
	s.logf("a day passes")
	time.Sleep(longerThanRetention)
}

// resume makes the shards continue whose gaps were refused.
func (s *simulation) resume() {
	synctest.Wait()
	app, err := consumer.OpenApp(s.db, "sim")
	require.NoError(s.t, err)
	err = app.Resume(s.t.Context(), consumer.LeaseKey{Stream: "in"})
	if !errors.Is(err, braid.ErrStreamNotFound) && !errors.Is(err, consumer.ErrAppNotFound) { // the application has begun
		require.NoError(s.t, err)
	}
}

func (s *simulation) pause() {
	app, err := consumer.OpenApp(s.db, "sim")
	require.NoError(s.t, err)
	key := consumer.LeaseKey{Stream: "in"}
	err = app.Pause(s.t.Context(), key)
	if errors.Is(err, braid.ErrStreamNotFound) || errors.Is(err, consumer.ErrAppNotFound) {
		return // the application has not begun
	}
	s.logf("pause and resume")
	require.NoError(s.t, err)
	time.Sleep(time.Duration(s.random.IntN(3)) * time.Second)
	require.NoError(s.t, app.Resume(s.t.Context(), key))
}

// stick makes the processors of some shards hang, and checks that the others are not
// affected, even if a single record uses up the worker's budget.
func (s *simulation) stick() {
	if len(s.workers) == 0 {
		return
	}
	release := make(chan struct{})
	stuck := make(map[braid.ShardID]chan struct{})
	for _, sh := range s.stream.Shards() {
		if s.random.IntN(2) == 0 {
			stuck[sh.ID()] = release
		}
	}
	s.logf("%d shards are stuck", len(stuck))
	s.mu.Lock()
	s.calm, s.stuck = true, stuck
	s.mu.Unlock()
	s.resume()
	s.put()
	time.Sleep(10 * simHandOver) // so that earlier hangs and retries are over
	synctest.Wait()
	s.put()
	time.Sleep(simHandOver) // a hanging transaction may have the turn among conflicting ones
	synctest.Wait()
	app, err := consumer.OpenApp(s.db, "sim")
	require.NoError(s.t, err)
	status, err := app.Status(s.t.Context())
	require.NoError(s.t, err)
	for _, shard := range status.Shards {
		if stuck[shard.Shard] == nil && shard.BehindRecords > 0 && len(shard.WaitingFor) == 0 {
			s.t.Errorf("beside stuck shards there is %s", describe(shard))
		}
	}
	s.totals.stuck.Add(int64(len(stuck)))
	s.mu.Lock()
	s.calm, s.stuck = false, nil
	s.mu.Unlock()
	close(release)
	synctest.Wait()
}

// crash cuts the power, and continues with what is left.
func (s *simulation) crash() {
	s.logf("power cut")
	s.totals.restarts.Add(1)
	mem := s.disk.Mem.CrashClone(vfs.CrashCloneCfg{})
	s.images.setOff(true)
	s.close()
	s.images.setOff(false)
	s.disk = s.images.watch(mem)
	s.open()
}

// settle lets workers finish, and checks that every record had its effect.
func (s *simulation) settle() {
	s.mu.Lock()
	s.calm = true
	s.mu.Unlock()
	s.resume()
	if len(s.workers) == 0 {
		s.run("last")
	}
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	app, err := consumer.OpenApp(s.db, "sim")
	require.NoError(s.t, err)
	status, err := app.Status(s.t.Context())
	require.NoError(s.t, err)
	count := make(map[string]int)
	for _, shard := range status.Shards {
		if shard.BehindRecords != 0 || shard.State != consumer.StateRunning && shard.State != consumer.StateDone {
			s.t.Errorf("at the end there is %s", describe(shard))
		}
		if shard.State == consumer.StateRunning {
			count[shard.Owner]++
		}
	}
	for name := range s.workers { // as evenly as possible
		for other := range s.workers {
			if count[name] > count[other]+1 {
				s.t.Errorf("the shards are shared unevenly: %v", count)
			}
		}
	}
	s.checkEffects(s.db, s.nextID)
}

// simProcessor is the processor of a simulation, with a hook.
type simProcessor struct{ *simulation }

func (s simProcessor) ProcessRecords(ctx context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
	return s.process(ctx, tx, batch)
}

// TipReached checks that all records of the shard are processed. Time stands still while
// it is called.
func (s simProcessor) TipReached(ctx context.Context, lease consumer.Lease) error {
	stream, err := s.db.Stream("in")
	if err != nil {
		return nil // the database ends
	}
	shard, err := stream.Shard(lease.Shard)
	if err != nil {
		return nil // the shard has expired
	}
	from := lease.Checkpoint.Start
	if n := lease.Checkpoint.SequenceNumber; !n.IsZero() {
		from = braid.AfterSequence(n)
	}
	page, err := shard.GetRecords(ctx, from, &braid.GetRecordsOptions{Unmetered: true})
	if err != nil {
		return nil
	}
	s.totals.tips.Add(1)
	for _, r := range page.Records {
		if r.ArrivalTime.Before(time.Now()) {
			s.t.Errorf("%s: at the tip after %s, and %s came %v before", lease.LeaseKey, lease.Checkpoint, r.SequenceNumber, time.Since(r.ArrivalTime))
		}
	}
	return nil
}

// process gives every record its effect, which must not exist yet, and must come in the
// order of its key.
func (s *simulation) process(ctx context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
	lease := batch.Lease()
	s.mu.Lock()
	if s.stopped[lease.Owner] {
		s.t.Errorf("%s: %s is called after it was stopped", lease.LeaseKey, lease.Owner)
	}
	s.mu.Unlock()
	s.judge.deliver(lease, batch)
	s.totals.deliveries.Add(int64(len(batch.Records)))
	if err := effect(tx, batch.Records); err != nil {
		if !errors.Is(err, errTwice) {
			return err
		}
		s.t.Errorf("%s: %v", lease.LeaseKey, err)
		return err
	}
	s.mu.Lock()
	fate, calm, stuck := s.chaos.IntN(40), s.calm, s.stuck[lease.Shard]
	hang := time.Duration(s.chaos.IntN(4)) * simHandOver
	s.mu.Unlock()
	switch {
	case stuck != nil:
		<-stuck
	case calm:
	case fate < 3:
		return errors.New("the processor fails")
	case fate == 3:
		panic("the processor panics")
	case fate < 7:
		timer := time.NewTimer(hang)
		defer timer.Stop()
		<-timer.C // it ignores ctx
		if errors.Is(context.Cause(ctx), consumer.ErrLeaseLost) {
			s.totals.zombies.Add(1) // and then it tries to commit
		}
	case fate < 9:
		return s.steal(ctx, lease, fate == 7)
	}
	return nil
}

// steal gives a lease a new epoch while its processor is working, possibly with the same
// owner again. The context of the processor ends when the application's group has seen
// that, which may be after the commit: only the commit itself can refuse it.
func (s *simulation) steal(ctx context.Context, lease consumer.Lease, again bool) error {
	store := consumer.NewDBLeases(s.db, "sim")
	stored, found, err := store.Get(ctx, lease.LeaseKey)
	if err != nil || !found || stored.Epoch != lease.Epoch {
		return err
	}
	stored.Epoch++
	if !again {
		stored.Owner = ""
	}
	if done, err := store.CompareAndSet(ctx, stored); err != nil || !done {
		return err
	}
	s.totals.thefts.Add(1)
	return nil
}

// describe returns everything that a status says of a shard; %v would print its key
// alone.
func describe(shard consumer.ShardStatus) string {
	text, err := json.Marshal(shard)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// simImageTaker copies the disk before some operations that change files.
type simImageTaker struct {
	mu     sync.Mutex // guards the fields below
	random *rand.Rand
	want   int
	off    bool
	taken  []*vfs.MemFS
}

func newSimImages(seed uint64, images int) *simImageTaker {
	return &simImageTaker{random: rand.New(rand.NewPCG(seed, 3)), want: images}
}

// watch returns a disk of which images are taken.
func (it *simImageTaker) watch(mem *vfs.MemFS) *testdisk.Disk {
	disk := testdisk.On(mem)
	disk.Before(func(op testdisk.Op) error {
		if op.Changes() {
			it.before(mem)
		}
		return nil
	})
	return disk
}

func (it *simImageTaker) setOff(off bool) {
	it.mu.Lock()
	defer it.mu.Unlock()
	it.off = off
}

func (it *simImageTaker) all() []*vfs.MemFS {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.taken
}

func (it *simImageTaker) before(mem *vfs.MemFS) {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.off || len(it.taken) >= it.want || it.random.IntN(16) > 0 {
		return
	}
	percent := []int{0, 100, it.random.IntN(101)}[it.random.IntN(3)]
	it.taken = append(it.taken, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: it.random}))
}
