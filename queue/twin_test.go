package queue_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/queuetest"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

var (
	twinSeeds = flag.Int("braid.seeds", 40, "histories of the twin")
	twinSteps = flag.Int("braid.steps", 150, "steps of a history")
)

// twin is a queue and its model, which do the same, step by step.
type twin struct {
	*queuetest.Twin
	k      *kit
	random *rand.Rand
	q      *queue.Queue
	disk   *testdisk.Disk
	images *imageTaker
	put    int
}

func TestTwin(t *testing.T) {
	seeds := *twinSeeds
	if testing.Short() {
		seeds = min(seeds, 12)
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runTwin(t, uint64(seed)) })
		})
	}
}

func runTwin(t *testing.T, seed uint64) {
	tw := &twin{random: rand.New(rand.NewPCG(seed, 1))}
	tw.images = &imageTaker{random: rand.New(rand.NewPCG(seed, 2))}
	tw.disk = tw.images.watch(vfs.NewCrashableMem())
	tw.open(t)
	s, err := tw.k.db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 1 + tw.random.IntN(3), Retention: -1})
	require.NoError(t, err)
	tw.k.stream = s
	o := queue.Options{
		Stream: "s", VisibilityTimeout: tw.seconds(20), MaxReceives: 1 + tw.random.IntN(5),
		MaxInFlight: 1 + tw.random.IntN(30),
	}
	if tw.random.IntN(5) == 0 {
		o.MaxReceives = -1
	}
	tw.q, err = queue.Open(ctx, tw.k.db, "q", &o)
	require.NoError(t, err)
	tw.Twin = queuetest.NewTwin(o, 0)
	for range *twinSteps {
		tw.step()
		tw.images.promise(tw.Twin)
	}
	require.NoError(t, tw.k.db.Close())
	tw.images.off.Store(true)
	tw.images.promise(tw.Twin) // for images of the end
	require.NotEmpty(t, tw.images.taken)
	for i, image := range tw.images.taken {
		image.check(t, i)
	}
}

func (tw *twin) open(t *testing.T) {
	db, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}, companion.Environment{FS: vfs.FS(tw.disk)})
	require.NoError(t, err)
	tw.k = &kit{t, db.(*braid.DB), nil}
}

// reopen opens the database again, after an orderly close or a power cut.
func (tw *twin) reopen(cut bool) {
	t := tw.k.T
	mem := tw.disk.Mem
	if cut {
		mem = mem.CrashClone(vfs.CrashCloneCfg{})
	}
	tw.images.off.Store(true)
	require.NoError(t, tw.k.db.Close())
	tw.images.off.Store(false)
	tw.disk = tw.images.watch(mem)
	tw.open(t)
	var err error
	tw.k.stream, err = tw.k.db.Stream("s")
	require.NoError(t, err)
	tw.q, err = queue.Get(ctx, tw.k.db, "q")
	require.NoError(t, err)
	time.Sleep(time.Millisecond) // counters may have been ahead of the clock by nanoseconds
}

// seconds returns a span of up to n seconds, which never ends exactly when a step begins.
func (tw *twin) seconds(n int) time.Duration {
	return time.Duration(1+tw.random.IntN(n))*time.Second + 500*time.Microsecond
}

// now is the time by which the age of records is measured.
func (tw *twin) now() time.Duration { return agingOf(tw.k.db) }

func agingOf(db *braid.DB) time.Duration { return time.Duration(inside.DBOf(db).Aging()) }

func (tw *twin) step() {
	t := tw.k.T
	switch n := tw.random.IntN(100); {
	case n < 25:
		for range 1 + tw.random.IntN(6) {
			_, err := tw.k.stream.PutRecord(ctx, fmt.Sprint("k", tw.random.IntN(9)), []byte(fmt.Sprint(tw.put)))
			require.NoError(t, err)
			tw.put++
		}
	case n < 50:
		tw.receive(false)
	case n < 56:
		tw.receive(true)
	case n < 67:
		tw.settle(queuetest.Ack, 0, false, tw.q.Ack)
	case n < 70:
		tw.settle(queuetest.AckTx, 0, false, func(ctx context.Context, receipts ...queue.Receipt) error {
			return tw.k.db.Update(ctx, func(tx *braid.Tx) error { return tw.q.AckTx(tx, receipts...) })
		})
	case n < 76:
		d, dead := tw.seconds(30)*time.Duration(tw.random.IntN(2)), tw.random.IntN(4) == 0
		tw.settle(queuetest.Extend, d, dead, func(ctx context.Context, receipts ...queue.Receipt) error {
			if dead {
				return tw.q.DeadLetters().Extend(ctx, d, receipts...)
			}
			return tw.q.Extend(ctx, d, receipts...)
		})
	case n < 82:
		d := tw.seconds(30) * time.Duration(tw.random.IntN(2))
		tw.settle(queuetest.Release, d, false, func(ctx context.Context, receipts ...queue.Receipt) error {
			return tw.q.Release(ctx, d, receipts...)
		})
	case n < 84:
		tw.settle(queuetest.Return, 0, false, tw.q.Return)
	case n < 85:
		tw.settle(queuetest.Reject, 0, false, func(ctx context.Context, receipts ...queue.Receipt) error {
			return tw.q.Reject(ctx, "why", receipts...)
		})
	case n < 86:
		tw.settle(queuetest.Ack, 0, true, tw.q.DeadLetters().Discard)
	case n < 88:
		tw.settle(queuetest.Restore, 0, true, tw.q.DeadLetters().Restore)
	case n < 89:
		got, err := tw.q.DeadLetters().RestoreAll(ctx)
		require.NoError(t, err)
		require.NoError(t, tw.RestoreAll(tw.now(), got))
	case n < 91:
		require.NoError(t, tw.k.stream.UpdateShardCount(ctx, 1+tw.random.IntN(4)))
	case n < 92:
		tw.trim()
	case n < 94:
		most := 1 + tw.random.IntN(5)
		require.NoError(t, tw.q.Update(ctx, func(o *queue.Options) { o.MaxReceives = most }))
		require.NoError(t, tw.Update(tw.now(), most))
	case n < 96:
		tw.reopen(tw.random.IntN(2) == 0)
		tw.Reopened(tw.now())
	default:
		time.Sleep(time.Duration(tw.random.IntN(20_000)) * time.Millisecond)
	}
	tw.look()
	require.NoError(t, tw.Check(tw.k.describe(tw.q), tw.now(), tw.now()))
}

// look tells the model the contents of the stream.
func (tw *twin) look() (counters []uint64) {
	for r, err := range tw.k.stream.Records(ctx, braid.TrimHorizon()) {
		require.NoError(tw.k, err)
		counters = append(counters, uint64(r.ArrivalTime.UnixNano()))
	}
	tw.Stream(counters)
	return counters
}

func (tw *twin) receive(dead bool) {
	n := 1 + tw.random.IntN(8)
	o := &queue.ReceiveOptions{Wait: -1, Whole: tw.random.IntN(4) > 0}
	timeout := tw.VisibilityTimeout
	if tw.random.IntN(3) == 0 {
		timeout = tw.seconds(5)
		o.VisibilityTimeout = timeout
	}
	receive := tw.q.Receive
	if dead {
		receive = tw.q.DeadLetters().Receive
	}
	records, err := receive(ctx, n, o)
	require.NoError(tw.k, err)
	require.NoError(tw.k, tw.Receive(tw.now(), n, timeout, dead, o.Whole, records))
}

// settle does something with some receipts: mostly new ones, and mostly of the right
// kind.
func (tw *twin) settle(verb queuetest.Verb, delay time.Duration, dead bool, call func(context.Context, ...queue.Receipt) error) {
	chosen := tw.Choose(tw.random, dead)
	var receipts []queue.Receipt
	for _, d := range chosen {
		receipts = append(receipts, d.Receipt)
	}
	if len(chosen) > 0 {
		err := call(ctx, receipts...)
		require.NoError(tw.k, tw.Settle(tw.now(), verb, delay, dead, chosen, err))
	}
}

// trim removes the oldest records from the stream.
func (tw *twin) trim() {
	all := tw.look()
	to := braid.Latest()
	if n := tw.random.IntN(len(all)/4 + 1); n < len(all) {
		to = braid.AtTime(time.Unix(0, int64(all[n])))
	}
	require.NoError(tw.k, tw.k.stream.Trim(ctx, to))
}

// imageTaker copies the disk in the middle of file operations.
type imageTaker struct {
	off atomic.Bool

	mu       sync.Mutex // guards the fields below
	random   *rand.Rand
	promised *queuetest.Twin // after the last completed step; nil before the first
	taken    []*image
	begun    int // number of images taken before the current step
}

// image is the state that a crash would leave, together with what was promised by then:
// the state between two steps, one of which was in progress.
type image struct {
	mem           *vfs.MemFS
	before, after *queuetest.Twin
}

func (it *imageTaker) watch(mem *vfs.MemFS) *testdisk.Disk {
	disk := testdisk.On(mem)
	disk.Before(func(op testdisk.Op) error {
		if it.off.Load() || !op.Changes() {
			return nil
		}
		it.mu.Lock()
		defer it.mu.Unlock()
		if it.promised != nil && it.random.IntN(25) == 0 && len(it.taken) < 8 {
			clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: it.random.IntN(101), RNG: it.random})
			it.taken = append(it.taken, &image{mem: clone, before: it.promised})
		}
		return nil
	})
	return disk
}

// promise notes the state after a step.
func (it *imageTaker) promise(tw *queuetest.Twin) {
	now := tw.Clone()
	it.mu.Lock()
	defer it.mu.Unlock()
	it.promised = now
	for _, im := range it.taken[it.begun:] {
		im.after = now
	}
	it.begun = len(it.taken)
}

// check opens the image: no settled record is received, every other one is, and counts
// have not decreased. The step in progress has either happened or not.
func (im *image) check(t *testing.T, n int) {
	opened, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}, companion.Environment{FS: vfs.FS(im.mem)})
	require.NoError(t, err)
	db := opened.(*braid.DB)
	defer func() { require.NoError(t, db.Close()) }()
	q, err := queue.Get(ctx, db, "q")
	require.NoError(t, err)
	now := func() time.Duration { return agingOf(db) }
	err = queuetest.CheckReopened(ctx, q, now, []*queuetest.Twin{im.before, im.after}, true)
	require.NoError(t, err, "image %d", n)
}
