package queue_test

import (
	"cmp"
	"context"
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
	first := func(history []queuetest.Call, verbs ...queuetest.Verb) *queuetest.Call {
		i := slices.IndexFunc(history, func(c queuetest.Call) bool { return slices.Contains(verbs, c.Verb) && c.Err == nil })
		if i < 0 {
			return nil
		}
		return &history[i]
	}
	for data, history := range l.records {
		put := first(history, queuetest.Put)
		if put == nil || put.Maybe {
			continue // a crash may have removed it
		}
		ack := first(history, queuetest.Ack, queuetest.AckTx) // no other acknowledgement precedes it
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

// linearWorker is one of the goroutines that use the queue.
type linearWorker struct {
	*linear
	random *rand.Rand
}

// span returns a time of up to n seconds, which never ends exactly when a step begins.
func (w *linearWorker) span(n int) time.Duration {
	return time.Duration(1+w.random.IntN(1000*n))*time.Millisecond + 500*time.Microsecond
}

func (w *linearWorker) step() {
	if w.random.IntN(2) == 0 {
		time.Sleep(time.Duration(w.random.IntN(2500)) * time.Millisecond)
	}
	for range w.random.IntN(20) {
		runtime.Gosched()
	}
	n := w.random.IntN(100)
	if w.order && n >= 82 {
		n = 98 // nothing dies
	}
	switch {
	case n < 15:
		w.putOne()
	case n < 40:
		w.receive(false, 1+w.random.IntN(4), time.Duration(w.random.IntN(3)-1)*second)
	case n < 48:
		w.receive(true, 1+w.random.IntN(3), -1)
	case n < 60:
		w.settle(queuetest.Ack, false, 0, w.queue.Ack)
	case n < 66:
		w.settle(queuetest.AckTx, false, 0, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.db.Update(ctx, func(tx *braid.Tx) error { return w.queue.AckTx(tx, receipts...) })
		})
	case n < 73:
		d := w.span(5) * time.Duration(w.random.IntN(2))
		w.settle(queuetest.Extend, false, d, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.queue.Extend(ctx, d, receipts...)
		})
	case n < 79:
		d := w.span(5) * time.Duration(w.random.IntN(2))
		w.settle(queuetest.Release, false, d, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.queue.Release(ctx, d, receipts...)
		})
	case n < 82:
		w.settle(queuetest.Return, false, 0, w.queue.Return)
	case n < 84:
		w.settle(queuetest.Reject, false, 0, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.queue.Reject(ctx, "", receipts...)
		})
	case n < 89:
		w.settle(queuetest.Restore, true, 0, w.queue.DeadLetters().Restore)
	case n < 91:
		w.settle(queuetest.Ack, true, 0, w.queue.DeadLetters().Discard)
	case n < 93:
		d := w.span(5)
		w.settle(queuetest.Extend, true, d, func(ctx context.Context, receipts ...queue.Receipt) error {
			return w.queue.DeadLetters().Extend(ctx, d, receipts...)
		})
	case n < 94:
		w.everything(queuetest.Call{Verb: queuetest.RestoreAll}, func(ctx context.Context) error {
			_, err := w.queue.DeadLetters().RestoreAll(ctx)
			return err
		})
	case n < 98:
		most := cmp.Or(w.random.IntN(5), -1)
		w.everything(queuetest.Call{Verb: queuetest.Update, Most: most}, func(ctx context.Context) error {
			return w.queue.Update(ctx, func(o *queue.Options) { o.MaxReceives = most })
		})
	default:
		w.judge(w.stream.UpdateShardCount(ctx, 1+w.random.IntN(4)))
	}
}

// begin begins a call. Some calls are abandoned after a while.
func (w *linearWorker) begin() (c queuetest.Call, limited context.Context, stop func()) {
	limited, stop = context.WithCancel(ctx)
	if !w.calm && w.random.IntN(12) == 0 {
		yields := w.random.IntN(30)
		go func() {
			for range yields {
				runtime.Gosched()
			}
			stop()
		}()
	}
	return queuetest.Call{Begun: w.ticks.Add(1), From: time.Since(w.began)}, limited, stop
}

func (w *linearWorker) end(c *queuetest.Call) { c.To, c.Ended = time.Since(w.began), w.ticks.Add(1) }

// judge requires that a failed call has a valid reason. It reports whether the call may
// have had an effect.
func (w *linearWorker) judge(err error) (happened, unsure bool) {
	switch {
	case err == nil:
		return true, false
	case errors.Is(err, braid.ErrOutcomeUnknown):
		return true, true
	case errors.Is(err, context.Canceled), errors.Is(err, braid.ErrDiskFull):
		return false, false
	}
	require.NoError(w, err)
	return false, false
}

func (w *linearWorker) note(data string, c queuetest.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records[data] = append(w.records[data], c)
}

func (w *linearWorker) putOne() {
	data := fmt.Sprint(w.put.Add(1))
	key := fmt.Sprint("k", w.random.IntN(9))
	w.mu.Lock()
	w.keys[data] = key
	w.mu.Unlock()
	c, limited, stop := w.begin()
	defer stop()
	_, err := w.stream.PutRecord(limited, key, []byte(data))
	w.end(&c)
	if happened, unsure := w.judge(err); happened {
		c.Verb, c.Maybe = queuetest.Put, unsure
		w.note(data, c)
	}
}

func (w *linearWorker) everything(what queuetest.Call, do func(context.Context) error) {
	c, limited, stop := w.begin()
	defer stop()
	err := do(limited)
	w.end(&c)
	c.Verb, c.Most = what.Verb, what.Most
	happened, unsure := w.judge(err)
	if !happened {
		return
	}
	c.Maybe = unsure
	w.mu.Lock()
	defer w.mu.Unlock()
	w.everyone = append(w.everyone, seen{c, nil})
}

// receive returns its deliveries.
func (w *linearWorker) receive(dead bool, n int, wait time.Duration) (all []delivery) {
	o := &queue.ReceiveOptions{Wait: cmp.Or(wait, -1), VisibilityTimeout: w.span(8), Whole: true}
	receive, got, missed := w.queue.Receive, queuetest.Receive, queuetest.Missing
	if dead {
		receive, got, missed = w.queue.DeadLetters().Receive, queuetest.ReceiveDead, queuetest.MissingDead
	}
	c, limited, stop := w.begin()
	defer stop()
	records, err := receive(limited, n, o)
	w.end(&c)
	w.judge(err)
	c.Verb, c.Delay = got, o.VisibilityTimeout
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, braid.ErrDiskFull) {
		return nil
	}
	if err != nil { // it may have taken any records, and given them back since, or still may
		c.Maybe, c.Delivery = true, int(w.named.Add(1))
		back := c
		back.Verb = queuetest.Return
		w.everyone = append(w.everyone, seen{c, nil}, seen{back, nil})
		return nil
	}
	those := make(map[string]bool)
	for _, r := range records {
		data := string(r.Data)
		those[data] = true
		c.Delivery, c.Receives = int(w.named.Add(1)), r.Receives
		w.records[data] = append(w.records[data], c)
		all = append(all, delivery{data, c.Delivery, r.Receipt, dead, c.Ended})
	}
	w.held = append(w.held, all...)
	if len(records) < n && !w.order { // otherwise they may be held back
		c.Verb = missed
		w.everyone = append(w.everyone, seen{c, those})
	}
	return all
}

// settle does something with some receipts, mostly new ones, of different records.
func (w *linearWorker) settle(what queuetest.Verb, dead bool, delay time.Duration, do func(context.Context, ...queue.Receipt) error) {
	var chosen []delivery
	w.mu.Lock()
	for range 1 + w.random.IntN(3) {
		var all []delivery
		for _, d := range w.held {
			if d.dead == dead && !slices.ContainsFunc(chosen, func(other delivery) bool { return other.data == d.data }) {
				all = append(all, d)
			}
		}
		if w.random.IntN(4) > 0 {
			all = all[max(0, len(all)-10):]
		}
		if len(all) > 0 {
			chosen = append(chosen, all[w.random.IntN(len(all))])
		}
	}
	w.mu.Unlock()
	if len(chosen) > 0 {
		w.settleThese(chosen, what, delay, do)
	}
}

func (w *linearWorker) settleThese(chosen []delivery, what queuetest.Verb, delay time.Duration, do func(context.Context, ...queue.Receipt) error) {
	var receipts []queue.Receipt
	for _, d := range chosen {
		receipts = append(receipts, d.receipt)
	}
	c, limited, stop := w.begin()
	defer stop()
	err := do(limited, receipts...)
	w.end(&c)
	var refused *queue.ReceiptsError
	if !errors.As(err, &refused) {
		happened, unsure := w.judge(err)
		if !happened {
			return
		}
		c.Maybe = unsure
	}
	c.Verb, c.Delay = what, delay
	for i, d := range chosen {
		c := c
		c.Delivery = d.name
		if refused != nil {
			if at := slices.IndexFunc(refused.Failed, func(f queue.ReceiptError) bool { return f.Index == i }); at >= 0 {
				c.Err = refused.Failed[at].Err
			} else if what == queuetest.AckTx {
				continue // all or nothing
			}
		}
		w.note(d.data, c)
	}
}
