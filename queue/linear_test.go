package queue_test

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/queuetest"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

var linearSeed = flag.Uint64("braid.linear", 0, "the first history of TestLinearizable: the number that a failure names")

// Many goroutines use a queue with several shards in every way at once, while calls are
// abandoned, the disk is full, the power is cut, and shards split and merge. All answers
// must be possible for a queue that does one thing after the other, and forgets nothing.
func TestLinearizable(t *testing.T) {
	histories := 5 * *twinSeeds
	if testing.Short() {
		histories = min(histories, 40)
	}
	met := make(map[queuetest.Verb]int) // number of answered calls, and under "maybe" of unanswered ones
	for i := range uint64(histories) {
		seed := *linearSeed + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &linear{
					T: t, seed: seed, began: time.Now(), order: seed%4 == 3,
					records: make(map[string][]queuetest.Call), keys: make(map[string]string),
				}
				l.run()
				l.check(met)
				if l.order {
					l.checkOrder()
				}
			})
		})
	}
	if met[queuetest.Put] < 1000 {
		return // only some of the histories ran
	}
	for _, v := range [...]queuetest.Verb{
		queuetest.Receive, queuetest.ReceiveDead, queuetest.Missing, queuetest.MissingDead, queuetest.Ack, queuetest.AckTx, queuetest.Extend,
		queuetest.Release, queuetest.Return, queuetest.Reject, queuetest.Restore, queuetest.RestoreAll, queuetest.Update, "maybe",
	} {
		require.Greater(t, met[v], 50, "%s", v)
	}
}

const (
	linearWorkers = 6
	linearSteps   = 25 // of a worker, per epoch
	linearEpochs  = 4
)

// linear is a history of a queue in progress. An epoch is the time for which the database
// is open.
type linear struct {
	*testing.T
	seed   uint64
	began  time.Time
	most   int // the initial Options.MaxReceives
	ticks  atomic.Int64
	named  atomic.Int64 // number of deliveries
	put    atomic.Int64
	disk   *testdisk.Disk
	db     *braid.DB
	stream *braid.Stream
	queue  *queue.Queue
	order  bool        // the queue is one with Options.OrderByKey
	full   bool        // the disk is full for a while in this epoch
	calm   bool        // no call is abandoned
	over   atomic.Bool // the epoch ends
	cut    cut

	mu       sync.Mutex                  // guards the fields below
	records  map[string][]queuetest.Call // by data of the record
	keys     map[string]string           // partition keys, by data
	everyone []seen                      // calls that concern all records
	held     []delivery
	epoch    int64 // when the epoch began
}

// cut is the state left by a power cut. It is set during one file operation, and read
// when all have ended.
type cut struct {
	disk        *vfs.MemFS
	begun, done int64 // it contains everything that had ended before begun, and nothing that began after done
}

// seen is a call that concerns all records except some.
type seen struct {
	queuetest.Call
	except map[string]bool
}

// delivery is a receipt that was received.
type delivery struct {
	data    string
	name    int
	receipt queue.Receipt
	dead    bool
	ended   int64 // when the receive ended
}

func (l *linear) run() {
	random := rand.New(rand.NewPCG(l.seed, 0))
	mem := vfs.NewCrashableMem()
	for epoch := range linearEpochs {
		l.open(mem, random)
		how := random.IntN(4)
		l.full = how == 1
		l.calm = l.full // a commit may wait for space
		left := atomic.Int64{}
		left.Store(int64(20 + random.IntN(250))) // number of file changes until something happens
		l.disk.Before(func(op testdisk.Op) error {
			if random := rand.Uint32(); random%8 == 0 {
				runtime.Gosched()
			}
			if !op.Changes() {
				return nil
			}
			switch n := left.Add(-1); {
			case how == 0 && n == 0 && !l.over.Load():
				l.takeCut()
			case l.full && n <= 0 && n > -30 && op.TakesSpace():
				return syscall.ENOSPC
			}
			return nil
		})
		var workers sync.WaitGroup
		for id := range uint64(linearWorkers) {
			w := &linearWorker{l, rand.New(rand.NewPCG(l.seed, uint64(epoch)*100+id+1))}
			workers.Go(func() {
				for i := 0; i < linearSteps && !l.over.Load(); i++ {
					w.step()
				}
			})
		}
		workers.Wait()
		mem = l.end()
	}
	l.open(mem, random)
	l.calm = true
	time.Sleep(time.Minute)
	last := &linearWorker{l, random}
	for got := last.receive(false, 1000, -1); l.order && len(got) > 0; got = last.receive(false, 1000, -1) {
		last.settleThese(got, queuetest.Ack, 0, l.queue.Ack) // others wait for them
	}
	last.receive(true, 1000, -1)
	require.NoError(l, l.db.Close())
}

// open opens the database, and the queue.
func (l *linear) open(mem *vfs.MemFS, random *rand.Rand) {
	l.disk, l.cut = testdisk.On(mem), cut{}
	l.over.Store(false)
	l.epoch = l.ticks.Add(1)
	db, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}, companion.Environment{FS: vfs.FS(l.disk)})
	require.NoError(l, err)
	l.db = db.(*braid.DB)
	if l.stream, err = l.db.Stream("s"); errors.Is(err, braid.ErrStreamNotFound) {
		l.stream, err = l.db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 3, Retention: -1})
		l.most = cmp.Or(random.IntN(5), -1)
		if l.order {
			l.most = -1 // dead letters hold back nothing
		}
	}
	require.NoError(l, err)
	l.queue, err = queue.Open(ctx, l.db, "q", &queue.Options{Stream: "s", MaxReceives: l.most, OrderByKey: l.order})
	require.NoError(l, err)
	time.Sleep(time.Millisecond) // counters may have been ahead of the clock by nanoseconds
}

// takeCut copies the current state of the disk. The epoch ends.
func (l *linear) takeCut() {
	l.over.Store(true)
	begun := l.ticks.Add(1)
	random := rand.New(rand.NewPCG(l.seed, uint64(begun)))
	disk := l.disk.Mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut{disk, begun, l.ticks.Add(1)}
}

// end ends an epoch, and returns the state that it has left.
func (l *linear) end() *vfs.MemFS {
	mem := l.disk.Mem
	if l.full {
		l.disk.Before(nil)
		time.Sleep(time.Minute)
	}
	require.NoError(l, l.db.Close())
	l.disk.Before(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	lasted, done := l.ticks.Add(1), l.ticks.Load()
	if l.cut.disk != nil {
		mem, lasted, done = l.cut.disk, l.cut.begun, l.cut.done
	}
	// Calls that had not ended by then may have happened; calls that began later have not.
	judge := func(c queuetest.Call) (queuetest.Call, bool) {
		if c.Begun > l.epoch {
			if c.Ended > lasted {
				c.Maybe = true
			}
			c.Ended = min(c.Ended, done)
		}
		return c, c.Begun <= done && !(c.Maybe && (c.Looks() || c.Err != nil))
	}
	for data, all := range l.records {
		var kept []queuetest.Call
		for _, c := range all {
			if c, there := judge(c); there {
				kept = append(kept, c)
			}
		}
		l.records[data] = kept
	}
	var kept []seen
	for _, s := range l.everyone {
		if c, there := judge(s.Call); there {
			kept = append(kept, seen{c, s.except})
		}
	}
	l.everyone = kept
	l.held = slices.DeleteFunc(l.held, func(d delivery) bool { return d.ended > lasted })
	return mem
}

// check orders the calls on each record, and counts them.
func (l *linear) check(met map[queuetest.Verb]int) {
	settled := l.settledBy()
	for _, data := range slices.Sorted(maps.Keys(l.records)) {
		history := slices.Clone(l.records[data])
		put := slices.IndexFunc(history, func(c queuetest.Call) bool { return c.Verb == queuetest.Put })
		if put < 0 {
			continue // a crash has removed it
		}
		for _, s := range l.everyone {
			if !s.except[data] && s.Ended > history[put].Begun {
				history = append(history, s.Call)
			}
		}
		for _, s := range l.everyone { // earlier calls: they say which settings apply
			if s.Ended <= history[put].Begun && s.Verb == queuetest.Update {
				history = append(history, s.Call)
			}
		}
		for i := range history {
			c := &history[i]
			if c.Maybe {
				c.Ended = settled(c)
				met["maybe"]++
			} else if c.Err == nil {
				met[c.Verb]++
			}
		}
		// A receive that finds nothing may have come before another was durable.
		unsure := slices.DeleteFunc(slices.Clone(history), func(c queuetest.Call) bool { return !c.Maybe })
		history = slices.DeleteFunc(history, func(c queuetest.Call) bool {
			return c.Looks() && slices.ContainsFunc(unsure, func(m queuetest.Call) bool { return m.Begun < c.Ended && m.Ended > c.Begun })
		})
		if err := queuetest.Linearize(history, l.most); err != nil {
			l.Fatalf("record %s of history %d: %v", data, l.seed, err)
		}
	}
}

// checkOrder requires that no record was received before all earlier ones of its key were
// acknowledged.
func (l *linear) checkOrder() {
	first := func(history []queuetest.Call, verbs ...queuetest.Verb) (first *queuetest.Call) {
		for i := range history { // in the order in which they have ended
			if c := &history[i]; slices.Contains(verbs, c.Verb) && c.Err == nil && (first == nil || c.Begun < first.Begun) {
				first = c
			}
		}
		return first
	}
	for data, history := range l.records {
		put := first(history, queuetest.Put)
		if put == nil || put.Maybe {
			continue // a crash may have removed it
		}
		ack := first(history, queuetest.Ack, queuetest.AckTx)
		require.NotNil(l, ack, "record %s of history %d was never acknowledged:\n%s", data, l.seed, queuetest.TextOf(history))
		for later, other := range l.records {
			second := first(other, queuetest.Put)
			if l.keys[later] != l.keys[data] || second == nil || second.Begun < put.Ended {
				continue
			}
			got := first(other, queuetest.Receive)
			require.True(l, got == nil || got.Maybe || got.Ended > ack.Begun,
				"history %d: record %s was received before record %s of its key was acknowledged:\n%v\n%v", l.seed, later, data, got, ack)
		}
	}
}

// settledBy returns a function that returns when a call can no longer have an effect,
// even after it has returned. That is before the bubble's time advances, since only the
// disk can delay it.
func (l *linear) settledBy() func(*queuetest.Call) int64 {
	ends := make(map[time.Duration]int64) // of calls that began at that time
	each := func(c *queuetest.Call) { ends[c.From] = max(ends[c.From], c.Begun) }
	for _, all := range l.records {
		for i := range all {
			each(&all[i])
		}
	}
	for i := range l.everyone {
		each(&l.everyone[i].Call)
	}
	return func(c *queuetest.Call) int64 { return max(c.Ended, ends[c.To]) }
}
