package queue_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

var (
	twinSeeds = flag.Int("braid.seeds", 40, "histories of the twin")
	twinSteps = flag.Int("braid.steps", 150, "steps of a history")
)

// twin is a queue as anybody would write it who has no disk and no hurry: maps, and a look
// at everything each time. A real queue does the same beside it, step by step.
type twin struct {
	k       *kit
	random  *rand.Rand
	q       *queue.Queue
	options queue.Options
	disk    *testdisk.Disk
	images  *imageTaker

	order   []string               // data of the records, as they were put; unique
	records map[string]*twinRecord // by data
	put     int
}

type twinRecord struct {
	settled, dead bool // dead for good, whatever the limit
	received      bool
	gone          bool // trimmed
	receives      int
	visible       time.Time     // when it is again
	waiting       bool          // it was given back
	holds         queue.Receipt // the newest
	asDead        bool          // which was given out for a dead letter
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
	tw := &twin{random: rand.New(rand.NewPCG(seed, 1)), records: make(map[string]*twinRecord)}
	tw.images = &imageTaker{random: rand.New(rand.NewPCG(seed, 2))}
	tw.disk = tw.images.watch(vfs.NewCrashableMem())
	tw.open(t)
	s, err := tw.k.db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 1 + tw.random.IntN(3), Retention: -1})
	require.NoError(t, err)
	tw.k.stream = s
	tw.options = queue.Options{
		Stream: "s", VisibilityTimeout: tw.seconds(20), MaxReceives: 1 + tw.random.IntN(5),
		MaxInFlight: 1 + tw.random.IntN(30),
	}
	if tw.random.IntN(5) == 0 {
		tw.options.MaxReceives = -1
	}
	tw.q, err = queue.Open(ctx, tw.k.db, "q", &tw.options)
	require.NoError(t, err)
	for range *twinSteps {
		tw.step()
		tw.images.promise(tw.records)
	}
	require.NoError(t, tw.k.db.Close())
	tw.images.off.Store(true)
	require.NotEmpty(t, tw.images.taken)
	for _, image := range tw.images.taken {
		image.check(t)
	}
}

func (tw *twin) open(t *testing.T) {
	db, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}, companion.Environment{FS: vfs.FS(tw.disk)})
	require.NoError(t, err)
	tw.k = &kit{t, db.(*braid.DB), nil}
}

// reopen opens the database again, after an orderly end or a power cut.
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

// seconds returns a span of up to n seconds, at the end of which no step begins.
func (tw *twin) seconds(n int) time.Duration {
	return time.Duration(1+tw.random.IntN(n))*time.Second + 500*time.Microsecond
}

func (tw *twin) step() {
	t := tw.k.T
	switch n := tw.random.IntN(100); {
	case n < 25:
		for range 1 + tw.random.IntN(6) {
			tw.putOne()
		}
	case n < 50:
		tw.receive(false)
	case n < 56:
		tw.receive(true)
	case n < 70:
		tw.settle(func(r *twinRecord, at time.Time) bool { r.settled = true; return true }, true, func(receipts ...queue.Receipt) error {
			return tw.q.Ack(ctx, receipts...)
		})
	case n < 76:
		d := tw.seconds(30) * time.Duration(tw.random.IntN(2))
		tw.settle(func(r *twinRecord, at time.Time) bool { r.visible = at.Add(d); return true }, false, func(receipts ...queue.Receipt) error {
			return tw.q.Extend(ctx, d, receipts...)
		})
	case n < 82:
		d := tw.seconds(30) * time.Duration(tw.random.IntN(2))
		tw.settle(func(r *twinRecord, at time.Time) bool {
			r.visible, r.waiting = at.Add(d), true
			if tw.exhausted(r) {
				r.visible, r.dead, r.waiting = at, true, false
			}
			return true
		}, false, func(receipts ...queue.Receipt) error { return tw.q.Release(ctx, d, receipts...) })
	case n < 85:
		tw.settle(func(r *twinRecord, at time.Time) bool {
			r.visible, r.waiting = at, true
			r.receives--
			return true
		}, false, func(receipts ...queue.Receipt) error { return tw.q.Return(ctx, receipts...) })
	case n < 86:
		tw.settle(func(r *twinRecord, at time.Time) bool { r.visible, r.dead = at, true; return true }, false, func(receipts ...queue.Receipt) error {
			return tw.q.Reject(ctx, "why", receipts...)
		})
	case n < 89:
		count := 0
		for _, r := range tw.records {
			if tw.isDead(r) {
				*r = twinRecord{received: true, visible: time.Now()}
				count++
			}
		}
		got, err := tw.q.DeadLetters().RestoreAll(ctx)
		require.NoError(t, err)
		require.Equal(t, count, got)
	case n < 91:
		require.NoError(t, tw.k.stream.UpdateShardCount(ctx, 1+tw.random.IntN(4)))
	case n < 92:
		tw.trim()
	case n < 94:
		most := 1 + tw.random.IntN(5)
		for _, r := range tw.records {
			r.dead = r.dead || tw.isDead(r) && !r.settled
		}
		require.NoError(t, tw.q.Update(ctx, func(o *queue.Options) { o.MaxReceives = most }))
		tw.options.MaxReceives = most
	case n < 96:
		tw.reopen(tw.random.IntN(2) == 0)
	default:
		time.Sleep(time.Duration(tw.random.IntN(20_000)) * time.Millisecond)
	}
	tw.compare()
}

func (tw *twin) putOne() {
	data := fmt.Sprint(tw.put)
	tw.put++
	_, err := tw.k.stream.PutRecord(ctx, fmt.Sprint("k", tw.random.IntN(9)), []byte(data))
	require.NoError(tw.k, err)
	tw.order = append(tw.order, data)
	tw.records[data] = &twinRecord{}
}

func (tw *twin) exhausted(r *twinRecord) bool {
	return tw.options.MaxReceives > 0 && r.receives >= tw.options.MaxReceives
}

func (r *twinRecord) locked() bool { return r.received && time.Now().Before(r.visible) }

func (tw *twin) isDead(r *twinRecord) bool {
	return !r.settled && !r.gone && (r.dead || r.received && !r.locked() && tw.exhausted(r))
}

// isVisible reports whether a record can be received.
func (tw *twin) isVisible(r *twinRecord) bool {
	return !r.settled && !r.gone && !tw.isDead(r) && !r.locked()
}

func (tw *twin) receive(dead bool) {
	t := tw.k.T
	n := 1 + tw.random.IntN(8)
	o := &queue.ReceiveOptions{Wait: -1, Whole: true}
	timeout := tw.options.VisibilityTimeout
	if tw.random.IntN(3) == 0 {
		timeout = tw.seconds(5)
		o.VisibilityTimeout = timeout
	}
	can := func(r *twinRecord) bool {
		if dead {
			return tw.isDead(r) && !r.locked()
		}
		return tw.isVisible(r)
	}
	there, flying := 0, 0
	for _, r := range tw.records {
		if can(r) {
			there++
		}
		if !r.settled && !r.gone && r.locked() && !r.waiting && tw.isDead(r) == dead {
			flying++
		}
	}
	var records []queue.Record
	var err error
	if dead {
		records, err = tw.q.DeadLetters().Receive(ctx, n, o)
	} else {
		records, err = tw.q.Receive(ctx, n, o)
	}
	require.NoError(t, err)
	require.Len(t, records, min(n, there, tw.options.MaxInFlight-flying))
	for _, got := range records {
		r := tw.records[string(got.Data)]
		require.True(t, can(r), "%s", got.Data)
		r.receives++
		r.received, r.waiting, r.dead, r.asDead = true, false, r.dead || dead, dead
		r.visible, r.holds = time.Now().Add(timeout), got.Receipt
		require.Equal(t, r.receives, got.Receives)
	}
}

// settle does something to some records that are, or were, in flight. late says that it can
// be done however late.
func (tw *twin) settle(do func(*twinRecord, time.Time) bool, late bool, call func(...queue.Receipt) error) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(tw.records)) {
		if r := tw.records[name]; r.holds != "" && !r.asDead && tw.random.IntN(4) == 0 {
			names = append(names, name)
		}
	}
	var receipts []queue.Receipt
	want := make(map[int]error)
	for i, name := range names {
		r := tw.records[name]
		receipts = append(receipts, r.holds)
		switch {
		case late && !r.settled && !r.gone:
			do(r, time.Now())
		case late:
		case r.settled || r.gone:
			want[i] = queue.ErrRecordSettled
		case r.waiting || r.dead || !r.locked():
			want[i] = queue.ErrReceiptExpired
		default:
			do(r, time.Now())
		}
	}
	err := call(receipts...)
	if len(want) == 0 {
		require.NoError(tw.k, err)
		return
	}
	requireFailed(tw.k, err, want)
}

// trim removes the oldest records from the stream.
func (tw *twin) trim() {
	n := tw.random.IntN(len(tw.order)/4 + 1)
	i := 0
	for rec, err := range tw.k.stream.Records(ctx, braid.TrimHorizon()) {
		require.NoError(tw.k, err)
		if i == n {
			require.NoError(tw.k, tw.k.stream.Trim(ctx, braid.AtTime(rec.ArrivalTime)))
			return
		}
		tw.records[string(rec.Data)].gone = true
		i++
	}
	for _, r := range tw.records {
		r.gone = true
	}
	require.NoError(tw.k, tw.k.stream.Trim(ctx, braid.Latest()))
}

// compare requires that the queue counts as the twin does.
func (tw *twin) compare() {
	var want [4]int64
	for _, r := range tw.records {
		switch {
		case r.settled || r.gone:
		case tw.isDead(r):
			want[3]++
		case tw.isVisible(r):
			want[0]++
		case r.waiting:
			want[2]++
		default:
			want[1]++
		}
	}
	d := tw.k.describe(tw.q)
	require.Equal(tw.k, want, [4]int64{d.Visible, d.InFlight, d.Delayed, d.Dead}, "visible, in flight, delayed, dead")
}

// imageTaker copies the disk in the middle of file operations.
type imageTaker struct {
	off atomic.Bool

	mu       sync.Mutex // guards the fields below
	random   *rand.Rand
	promised map[string]twinRecord // after the last step that has ended; nil before the first
	taken    []*image
	begun    int // how many were taken before the step on its way
}

// image is what a crash would leave, and what had been promised by then: the state between
// two steps, one of which was on its way.
type image struct {
	mem           *vfs.MemFS
	before, after map[string]twinRecord
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
func (it *imageTaker) promise(records map[string]*twinRecord) {
	now := make(map[string]twinRecord, len(records))
	for name, r := range records {
		now[name] = *r
	}
	it.mu.Lock()
	defer it.mu.Unlock()
	it.promised = now
	for _, im := range it.taken[it.begun:] {
		im.after = now
	}
	it.begun = len(it.taken)
}

// check opens the image: nothing that was settled is received, everything else is, and
// counts have not fallen.
func (im *image) check(t *testing.T) {
	opened, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}, companion.Environment{FS: vfs.FS(im.mem)})
	require.NoError(t, err)
	db := opened.(*braid.DB)
	defer func() { require.NoError(t, db.Close()) }()
	q, err := queue.Get(ctx, db, "q")
	require.NoError(t, err)
	require.NoError(t, q.Update(ctx, func(o *queue.Options) { o.MaxInFlight, o.MaxReceives = 1000, -1 }))
	time.Sleep(time.Minute)
	seen := make(map[string]bool)
	for _, dead := range []bool{false, true} {
		receive := q.Receive
		if dead {
			receive = q.DeadLetters().Receive
		}
		records, err := receive(ctx, 1000, &queue.ReceiveOptions{Wait: -1, Whole: true})
		require.NoError(t, err)
		for _, r := range records {
			require.False(t, seen[string(r.Data)], "%s came twice", r.Data)
			seen[string(r.Data)] = true
			before := im.before[string(r.Data)]
			require.False(t, before.settled || before.gone, "%s was settled", r.Data)
			least := before.receives
			if after, ok := im.after[string(r.Data)]; ok { // the step may have given it back, or restored it
				least = min(least, after.receives)
			}
			require.Greater(t, r.Receives, least, "%s", r.Data)
		}
	}
	for name, r := range im.before {
		after := im.after[name]
		require.True(t, seen[name] || r.settled || r.gone || after.settled || after.gone, "%s is lost", name)
	}
}
