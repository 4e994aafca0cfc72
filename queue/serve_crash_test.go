package queue_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

// Records are put while receivers of two queues wait in line, and the power is cut
// before, between and after the operations of the disk. At any such moment, no record
// that was put is lost, no acknowledged one comes back, and none that a receiver got
// comes again before its timeout has passed.
func TestPowerCutsWhileReceiversWait(t *testing.T) {
	seeds := 20
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runPowerCuts(t, uint64(seed)) })
		})
	}
}

// lineQueues are the names of the queues.
var lineQueues = [...]string{"q", "other"}

const (
	lineTimeout = 12 * time.Hour // longer than everything before the power cuts
	lineImages  = 15             // per history
)

// told is what callers knew at one moment.
type told struct {
	known map[string]bool                  // data of records whose put had returned
	got   [len(lineQueues)]map[string]bool // data of records that receivers of a queue had got
	gone  [len(lineQueues)]map[string]bool // data of records whose acknowledgement had begun
	done  [len(lineQueues)]map[string]bool // data of acknowledged records
}

func (l *told) clone() *told {
	c := &told{known: maps.Clone(l.known)}
	for i := range lineQueues {
		c.got[i], c.gone[i], c.done[i] = maps.Clone(l.got[i]), maps.Clone(l.gone[i]), maps.Clone(l.done[i])
	}
	return c
}

// powerCuts is a history.
type powerCuts struct {
	kit
	mem *vfs.MemFS

	mu     sync.Mutex // guards the fields below
	random *rand.Rand
	told
	images  []lineImage
	watched bool // the disk is watched
}

// lineImage is the state that a power cut would leave.
type lineImage struct {
	mem *vfs.MemFS
	*told
	stored map[string]bool        // data of the records in the stream
	left   [len(lineQueues)]int64 // number of unsettled records in each queue
}

func (im *lineImage) open(t *testing.T) *braid.DB {
	return openOn(t, vfs.FS(im.mem), &braid.Options{ReserveBytes: -1, MemtableBytes: 1 << 20})
}

func runPowerCuts(t *testing.T, seed uint64) {
	pc := &powerCuts{mem: vfs.NewCrashableMem(), random: rand.New(rand.NewPCG(seed, 3))}
	pc.known = make(map[string]bool)
	disk := testdisk.On(pc.mem)
	db := openOn(t, vfs.FS(disk), &braid.Options{ReserveBytes: -1, MemtableBytes: 1 << 20})
	s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2, Retention: -1})
	require.NoError(t, err)
	pc.kit = kit{t, db, s}
	receive, end := context.WithCancel(ctx)
	var receivers sync.WaitGroup
	for i, name := range lineQueues {
		pc.got[i], pc.gone[i], pc.done[i] = make(map[string]bool), make(map[string]bool), make(map[string]bool)
		q := pc.open(name, queue.Options{VisibilityTimeout: lineTimeout, MaxReceives: -1, OrderByKey: seed%2 == 1})
		for range 4 {
			receivers.Go(func() { pc.receiver(receive, i, q) })
		}
	}
	synctest.Wait()
	disk.Before(func(op testdisk.Op) error {
		if op.OnLog() && op.Syncs() {
			for range 100 { // a record that is visible too early is seen now
				runtime.Gosched()
			}
		}
		if op.Changes() {
			pc.mu.Lock()
			defer pc.mu.Unlock()
			if pc.watched && pc.random.IntN(4) == 0 {
				pc.imageLocked()
			}
		}
		return nil
	})
	pc.watch(true)
	for i := range 40 {
		pc.putSome(fmt.Sprint(i, "/"))
		if pc.intN(10) == 0 {
			require.NoError(t, s.UpdateShardCount(ctx, 1+pc.intN(4)))
		}
		time.Sleep(time.Duration(pc.intN(2)) * time.Millisecond)
	}
	pc.watch(false)
	end()
	receivers.Wait()
	synctest.Wait() // the last deliveries are given back
	require.NoError(t, db.Close())
	require.NotEmpty(t, pc.images)
	for i := range pc.images {
		pc.images[i].check(t)
	}
	time.Sleep(lineTimeout + second) // the clock of records may be ahead by nanoseconds
	for i := range pc.images {
		pc.images[i].checkLater(t)
	}
}

func (pc *powerCuts) intN(n int) int {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	return pc.random.IntN(n)
}

func (pc *powerCuts) watch(on bool) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.watched = on
}

// imageLocked takes an image, with a random part of the data that was not synced. Each
// image of a long history is equally likely to be kept.
func (pc *powerCuts) imageLocked() {
	cut := vfs.CrashCloneCfg{UnsyncedDataPercent: pc.random.IntN(101), RNG: pc.random}
	image := lineImage{mem: pc.mem.CrashClone(cut), told: pc.told.clone()}
	if len(pc.images) < lineImages {
		pc.images = append(pc.images, image)
	} else {
		pc.images[pc.random.IntN(lineImages)] = image
	}
}

// putSome puts a few records with one call, or with concurrent ones.
func (pc *powerCuts) putSome(prefix string) {
	var puts sync.WaitGroup
	for call := range 1 + pc.intN(3) {
		var entries []braid.Entry
		for i := range 1 + pc.intN(4) {
			data := fmt.Sprint(prefix, call, "/", i)
			entries = append(entries, braid.Entry{PartitionKey: fmt.Sprint(pc.intN(6)), Data: []byte(data)})
		}
		puts.Go(func() {
			if _, err := pc.stream.PutRecords(ctx, entries); err != nil {
				pc.Error(err)
				return
			}
			pc.mu.Lock()
			defer pc.mu.Unlock()
			for i := range entries {
				pc.known[string(entries[i].Data)] = true
			}
		})
	}
	puts.Wait()
}

// receiver receives records and acknowledges most of them.
func (pc *powerCuts) receiver(receive context.Context, i int, q *queue.Queue) {
	for {
		records, err := q.Receive(receive, 1+pc.intN(3), nil)
		if err != nil {
			return // it has ended
		}
		pc.mu.Lock()
		for _, text := range texts(records) {
			if pc.got[i][text] {
				pc.Errorf("%s was received twice", text)
			}
			pc.got[i][text] = true
		}
		if pc.watched && pc.random.IntN(3) == 0 {
			pc.imageLocked()
		}
		if pc.random.IntN(4) == 0 {
			pc.mu.Unlock()
			continue
		}
		for _, text := range texts(records) {
			pc.gone[i][text] = true
		}
		pc.mu.Unlock()
		if err := q.Ack(ctx, receipts(records)...); err != nil {
			pc.Error(err)
			return
		}
		pc.mu.Lock()
		for _, text := range texts(records) {
			pc.done[i][text] = true
		}
		pc.mu.Unlock()
	}
}

// check checks the image before any timeout has passed.
func (im *lineImage) check(t *testing.T) {
	db := im.open(t)
	s, err := db.Stream("s")
	require.NoError(t, err)
	im.stored = make(map[string]bool)
	for rec, err := range s.Records(ctx, braid.TrimHorizon()) {
		require.NoError(t, err)
		im.stored[string(rec.Data)] = true
	}
	for text := range im.known {
		require.True(t, im.stored[text], "%s is not in the stream", text)
	}
	for i, name := range lineQueues {
		q, err := queue.Get(ctx, db, name)
		require.NoError(t, err)
		d, err := q.Describe(ctx)
		require.NoError(t, err)
		im.left[i] = d.Visible + d.InFlight + d.Held
		for text := range im.got[i] {
			require.True(t, im.stored[text], "%s was received, and is not in the stream", text)
		}
		receiveAll(t, q, func(r queue.Record) {
			require.False(t, im.got[i][string(r.Data)], "%s comes again before its timeout", r.Data)
			require.Equal(t, 1, r.Receives, "%s", r.Data)
		})
	}
	require.NoError(t, db.Close())
}

// checkLater checks the image after all timeouts have passed.
func (im *lineImage) checkLater(t *testing.T) {
	db := im.open(t)
	for i, name := range lineQueues {
		q, err := queue.Get(ctx, db, name)
		require.NoError(t, err)
		seen := make(map[string]bool)
		receiveAll(t, q, func(r queue.Record) {
			text := string(r.Data)
			require.False(t, seen[text], "%s comes twice", text)
			require.True(t, im.stored[text], "%s is not in the stream", text)
			require.False(t, im.done[i][text], "%s comes back", text)
			if im.got[i][text] {
				require.Greater(t, r.Receives, 1, "%s", text)
			}
			seen[text] = true
			require.NoError(t, q.Ack(ctx, r.Receipt))
		})
		require.EqualValues(t, im.left[i], len(seen))
		for text := range im.stored {
			require.True(t, seen[text] || im.gone[i][text], "%s is lost", text)
		}
	}
	require.NoError(t, db.Close())
}

// receiveAll receives all that is visible.
func receiveAll(t *testing.T, q *queue.Queue, see func(queue.Record)) {
	for {
		records, err := q.Receive(ctx, 100, noWait)
		require.NoError(t, err)
		if len(records) == 0 {
			return
		}
		for _, r := range records {
			see(r)
		}
	}
}
