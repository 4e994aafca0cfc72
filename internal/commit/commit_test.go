package commit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

func openStore(t *testing.T) *kv.Store {
	t.Helper()
	store, err := kv.Open(kv.Config{
		InMemory:      true,
		Logger:        slog.New(slog.DiscardHandler),
		MemTableBytes: 1 << 20,
		Init:          func(b *kv.Batch) error { b.Set([]byte("made"), nil); return nil },
	})
	require.NoError(t, err)
	return store
}

// testLog gives requests their meaning: an Op is the key of a row to be set, or
// an error that refuses it.
type testLog struct {
	hold chan struct{} // if not nil, Apply waits for a token

	mu        sync.Mutex // guards the fields below
	groups    [][]string // as they were applied
	published []string
	applying  int
}

func (l *testLog) Apply(requests []*commit.Request, batch *kv.Batch) bool {
	l.mu.Lock()
	l.applying++
	l.mu.Unlock()
	if l.hold != nil {
		<-l.hold
	}
	var group []string
	for _, r := range requests {
		switch op := r.Op.(type) {
		case string:
			batch.Set([]byte(op), nil)
			group = append(group, op)
		case error:
			r.Err = op
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups = append(l.groups, group)
	return true
}

func (l *testLog) Publish(requests []*commit.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range requests {
		if op, ok := r.Op.(string); ok {
			l.published = append(l.published, op)
		}
	}
}

func (l *testLog) state() (groups [][]string, published []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.groups, l.published
}

// do has a request committed in the background.
func do(ctx context.Context, c *commit.Committer, r *commit.Request) <-chan error {
	result := make(chan error, 1)
	go func() { result <- c.Do(ctx, r) }()
	return result
}

// Each request that was acknowledged is in the store and published, in the order
// in which groups were applied, and a group is published before the next one is
// applied.
func TestOrder(t *testing.T) {
	for _, inline := range []commit.Inline{commit.NeverInline, commit.PromptInline, commit.AlwaysInline} {
		for _, producers := range []int{1, 2, 8} {
			testOrder(t, inline, producers)
		}
	}
}

func testOrder(t *testing.T, inline commit.Inline, producers int) {
	store := openStore(t)
	if inline == commit.PromptInline {
		require.NoError(t, store.Close())
		store = openStoreOn(t, testdisk.New())
	}
	order := &orderLog{t: t, store: store, inline: inline}
	c := commit.New(store, order, inline)
	var running sync.WaitGroup
	for p := range producers {
		running.Go(func() {
			for i := range 200 {
				if err := c.Do(t.Context(), &commit.Request{Op: fmt.Sprintf("%d/%d", p, i), Bytes: 100, Prompt: i%5 > 0}); err != nil {
					t.Error(err)
					return
				}
				if got := order.last[p].Load(); got != int64(i) {
					t.Errorf("producer %d: request %d was acknowledged when %d was published last", p, i, got)
				}
			}
		})
	}
	running.Wait()
	require.True(t, c.Close(t.Context()))
	require.EqualValues(t, producers*200, order.count.Load())
	require.NoError(t, store.Close())
}

type orderLog struct {
	t       *testing.T
	store   *kv.Store
	inline  commit.Inline
	applied atomic.Bool // a group was applied and not published
	last    [8]atomic.Int64
	count   atomic.Int64
}

func (l *orderLog) Apply(requests []*commit.Request, batch *kv.Batch) bool {
	if l.applied.Swap(true) {
		l.t.Error("a group was applied before the last one was published")
	}
	for _, r := range requests {
		batch.Set([]byte(r.Op.(string)), nil)
	}
	count := l.count.Load()
	if count%50 == 0 {
		batch.BeginMemTable()
	}
	return l.inline != commit.PromptInline || count%20 == 0
}

func (l *orderLog) Publish(requests []*commit.Request) {
	l.applied.Store(false)
	for _, r := range requests {
		var p, i int
		_, err := fmt.Sscanf(r.Op.(string), "%d/%d", &p, &i)
		if _, getErr := l.store.Get([]byte(r.Op.(string))); err != nil || getErr != nil {
			l.t.Errorf("%v was published and is not stored: %v, %v", r.Op, err, getErr)
		}
		l.last[p].Store(int64(i))
		l.count.Add(1)
	}
}

func TestRequestsThatWaitShareAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		first := do(t.Context(), c, &commit.Request{Op: "a"})
		synctest.Wait()
		var rest []<-chan error
		for _, op := range []string{"b", "c", "d"} {
			rest = append(rest, do(t.Context(), c, &commit.Request{Op: op}))
			synctest.Wait()
		}
		close(log.hold)
		require.NoError(t, <-first)
		for _, result := range rest {
			require.NoError(t, <-result)
		}
		groups, published := log.state()
		require.Equal(t, [][]string{{"a"}, {"b", "c", "d"}}, groups)
		require.Equal(t, []string{"a", "b", "c", "d"}, published)
		require.True(t, c.Close(t.Context()))
		require.NoError(t, store.Close())
	})
}

// If callers run groups, one that finds the committer asleep does so, and callers that come
// meanwhile share the next group, which the committer runs.
func TestACallerRunsItsGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.AlwaysInline)
		synctest.Wait() // it is asleep
		ctx, cancel := context.WithCancel(t.Context())
		first := do(ctx, c, &commit.Request{Op: "a"})
		synctest.Wait()
		cancel() // too late: it is at work
		b := do(t.Context(), c, &commit.Request{Op: "b"})
		hasty, giveUp := context.WithCancel(t.Context())
		withdrawn := do(hasty, c, &commit.Request{Op: "withdrawn"})
		d := do(t.Context(), c, &commit.Request{Op: "d"})
		synctest.Wait()
		giveUp()
		require.ErrorIs(t, <-withdrawn, context.Canceled)
		closed := make(chan bool)
		go func() { closed <- c.Close(t.Context()) }()
		synctest.Wait()
		require.ErrorIs(t, c.Do(t.Context(), &commit.Request{Op: "late"}), kv.ErrClosed)

		close(log.hold)
		require.NoError(t, <-first)
		require.NoError(t, <-b)
		require.NoError(t, <-d)
		require.True(t, <-closed)
		groups, _ := log.state()
		require.Equal(t, []string{"a"}, groups[0])
		require.ElementsMatch(t, []string{"b", "d"}, groups[1])
		require.NoError(t, store.Close())
	})
}

func TestALargeGroupIsDivided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		var results []<-chan error
		for i, megabytes := range []int{1, 2, 2, 1, 20, 1} {
			results = append(results, do(t.Context(), c, &commit.Request{Op: string(rune('a' + i)), Bytes: megabytes << 20}))
			synctest.Wait()
		}
		close(log.hold)
		for _, result := range results {
			require.NoError(t, <-result)
		}
		groups, _ := log.state()
		require.Equal(t, [][]string{{"a"}, {"b", "c"}, {"d"}, {"e"}, {"f"}}, groups)
		require.True(t, c.Close(t.Context()))
		require.NoError(t, store.Close())
	})
}

func TestTheLogMayRefuseARequest(t *testing.T) {
	store, log := openStore(t), new(testLog)
	c := commit.New(store, log, commit.NeverInline)
	refusal := errors.New("not this one")
	require.Equal(t, refusal, c.Do(t.Context(), &commit.Request{Op: refusal}))
	require.NoError(t, c.Do(t.Context(), &commit.Request{Op: "a"}))
	require.True(t, c.Close(t.Context()))
	require.ErrorIs(t, c.Do(t.Context(), &commit.Request{Op: "b"}), kv.ErrClosed)
	require.NoError(t, store.Close())
}

// Before its group is taken, a request can be withdrawn: nothing happens. After
// that the caller can only stop waiting.
func TestACancelledRequestIsRefusedOrUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		cause := errors.New("no more interest")
		ctx, cancel := context.WithCancelCause(t.Context())

		taken := do(ctx, c, &commit.Request{Op: "taken"})
		synctest.Wait()
		waiting := do(ctx, c, &commit.Request{Op: "waiting"})
		other := do(t.Context(), c, &commit.Request{Op: "other"})
		synctest.Wait()
		cancel(cause)
		err := <-taken
		require.ErrorIs(t, err, commit.ErrUnknown)
		require.ErrorIs(t, err, cause)
		require.Equal(t, cause, <-waiting)
		require.Equal(t, cause, c.Do(ctx, &commit.Request{Op: "late"}))

		close(log.hold)
		require.NoError(t, <-other)
		groups, _ := log.state()
		require.Equal(t, [][]string{{"taken"}, {"other"}}, groups)
		require.True(t, c.Close(t.Context()))
		require.NoError(t, store.Close())
	})
}

// The committer waits until the callers of a group have come back, and some of them have
// left before it ended: they must not be waited for, nor counted twice.
func TestTheCommitterDoesNotWaitForCallersThatHaveLeft(t *testing.T) {
	for leaving := range 4 {
		t.Run(fmt.Sprint(leaving, " of 3"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, log := openStore(t), &testLog{hold: make(chan struct{})}
				c := commit.New(store, log, commit.NeverInline)
				gone, leave := context.WithCancel(t.Context())
				first := do(t.Context(), c, &commit.Request{Op: "first"})
				synctest.Wait()
				var left, staying []<-chan error
				for i := range 3 {
					if op := fmt.Sprint(i); i < leaving {
						left = append(left, do(gone, c, &commit.Request{Op: op}))
					} else {
						staying = append(staying, do(t.Context(), c, &commit.Request{Op: op}))
					}
				}
				synctest.Wait()
				log.hold <- struct{}{} // the three are taken
				require.NoError(t, <-first)
				synctest.Wait()
				leave()
				for _, result := range left {
					require.ErrorIs(t, <-result, commit.ErrUnknown)
				}
				close(log.hold)
				for _, result := range staying {
					require.NoError(t, <-result)
				}
				for i := range 3 { // groups of several again, and of one
					results := []<-chan error{do(t.Context(), c, &commit.Request{Op: fmt.Sprint("a", i)}), do(t.Context(), c, &commit.Request{Op: fmt.Sprint("b", i)})}
					for _, result := range results {
						require.NoError(t, <-result)
					}
				}
				groups, _ := log.state()
				require.Len(t, groups[1], 3)
				require.True(t, c.Close(t.Context()))
				require.NoError(t, store.Close())
			})
		})
	}
}

// While much waits, further requests wait outside, under their contexts.
func TestWhatWaitsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		var results []<-chan error
		for range 20 { // one is taken; of the others eight fit
			results = append(results, do(t.Context(), c, &commit.Request{Op: "x", Bytes: 8 << 20}))
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		outside := do(ctx, c, &commit.Request{Op: "outside", Bytes: 8 << 20})
		synctest.Wait()
		cancel()
		require.Equal(t, context.Canceled, <-outside)
		log.hold <- struct{}{}
		synctest.Wait()
		require.Len(t, results[0], 1)

		close(log.hold)
		for _, result := range results {
			require.NoError(t, <-result)
		}
		groups, _ := log.state()
		require.Len(t, groups, 20)
		require.True(t, c.Close(t.Context()))
		require.NoError(t, store.Close())
	})
}

func TestAFullDiskRefusesAllButTheEssential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		taken := do(t.Context(), c, &commit.Request{Op: "taken"})
		synctest.Wait()
		waiting := do(t.Context(), c, &commit.Request{Op: "waiting"})
		trim := do(t.Context(), c, &commit.Request{Op: "trim", Essential: true})
		synctest.Wait()

		c.SetFull(true)
		c.SetFull(true)
		require.ErrorIs(t, <-waiting, kv.ErrDiskFull)
		require.ErrorIs(t, c.Do(t.Context(), &commit.Request{Op: "new"}), kv.ErrDiskFull)
		deletion := do(t.Context(), c, &commit.Request{Op: "deletion", Essential: true})
		synctest.Wait()
		require.Empty(t, taken, "it is on its way, and waits for space")
		close(log.hold)
		require.NoError(t, <-taken)
		require.NoError(t, <-trim)
		require.NoError(t, <-deletion, "it frees space")

		c.SetFull(false)
		require.NoError(t, c.Do(t.Context(), &commit.Request{Op: "again"}))
		_, published := log.state()
		require.Equal(t, []string{"taken", "trim", "deletion", "again"}, published)
		require.True(t, c.Close(t.Context()))
		require.NoError(t, store.Close())
	})
}

// A request that the full disk has refused is not withdrawn as well by a caller whose
// context has ended by then.
func TestARefusedRequestIsNotWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		taken := do(t.Context(), c, &commit.Request{Op: "taken"})
		synctest.Wait()
		trim := do(t.Context(), c, &commit.Request{Op: "trim", Essential: true}) // keeps the group
		synctest.Wait()
		for range 100 { // of two channels that are ready, either may be seen
			require.ErrorIs(t, c.Do(&fullContext{t.Context(), c}, &commit.Request{Op: "refused"}), kv.ErrDiskFull)
			c.SetFull(false)
		}
		close(log.hold)
		require.NoError(t, <-taken)
		require.NoError(t, <-trim)
		_, published := log.state()
		require.Equal(t, []string{"taken", "trim"}, published)
		require.True(t, c.Close(t.Context()))
		require.NoError(t, store.Close())
	})
}

// fullContext has ended when a caller waits for it, and the disk is then full.
type fullContext struct {
	context.Context
	c *commit.Committer
}

func (f *fullContext) Done() <-chan struct{} {
	f.c.SetFull(true)
	ended := make(chan struct{})
	close(ended)
	return ended
}

// Close commits the waiting requests, and wakes callers that wait for space.
func TestCloseFinishesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		var inside []<-chan error
		for range 9 {
			inside = append(inside, do(t.Context(), c, &commit.Request{Op: "x", Bytes: 8 << 20}))
			synctest.Wait()
		}
		outside := do(t.Context(), c, &commit.Request{Op: "outside", Bytes: 8 << 20})
		synctest.Wait()
		closed := make(chan bool, 1)
		go func() { closed <- c.Close(t.Context()) }()
		synctest.Wait()
		require.ErrorIs(t, <-outside, kv.ErrClosed)
		require.Empty(t, closed)
		close(log.hold)
		require.True(t, <-closed)
		for _, result := range inside {
			require.NoError(t, <-result)
		}
		require.NoError(t, store.Close())
	})
}

// A committer that is held by a full disk is left behind after a while.
func TestCloseDoesNotWaitForAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := openStore(t), &testLog{hold: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		taken := do(t.Context(), c, &commit.Request{Op: "taken"})
		synctest.Wait()
		c.SetFull(true)
		start := time.Now()
		require.False(t, c.Close(t.Context()))
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
		close(log.hold) // there is space again
		require.NoError(t, <-taken)
		synctest.Wait()
		require.NoError(t, store.Close())
	})
}

// A store that is closed before the committer, as one is that was given up while its
// disk was full and has space again, ends all requests: nothing of them was done.
func TestAClosedStoreEndsAllRequests(t *testing.T) {
	for _, inline := range []commit.Inline{commit.NeverInline, commit.AlwaysInline} {
		synctest.Test(t, func(t *testing.T) {
			store, log := openStore(t), &testLog{hold: make(chan struct{})}
			c := commit.New(store, log, inline)
			synctest.Wait() // it is asleep
			results := []<-chan error{do(t.Context(), c, &commit.Request{Op: "taken"})}
			synctest.Wait()
			results = append(results,
				do(t.Context(), c, &commit.Request{Op: "waiting"}),
				do(t.Context(), c, &commit.Request{Op: "trim", Essential: true}))
			synctest.Wait()
			require.NoError(t, store.Close())
			close(log.hold)
			for _, result := range results {
				err := <-result
				require.ErrorIs(t, err, kv.ErrClosed)
				require.NotErrorIs(t, err, commit.ErrUnknown)
			}
			require.ErrorIs(t, c.Do(t.Context(), &commit.Request{Op: "late"}), kv.ErrClosed)
			require.True(t, c.Close(t.Context()))
			_, published := log.state()
			require.Empty(t, published)
		})
	}
}

// When the store fails, a request on its way is unknown and one that waits is refused,
// at once, though the goroutine that runs groups is held.
func TestAFailedStoreEndsAllRequests(t *testing.T) {
	childtest.Run(t, func(t *testing.T) { // it leaves a store behind
		var broken atomic.Bool
		disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && op.Kind == errorfs.OpFileSyncData {
				return errors.New("broken")
			}
			return nil
		}))
		store, err := kv.Open(kv.Config{Dir: "/db", FS: disk, Logger: slog.New(slog.DiscardHandler), MemTableBytes: 1 << 20})
		require.NoError(t, err)
		log := &heldLog{applying: make(chan struct{})}
		c := commit.New(store, log, commit.NeverInline)
		taken := do(context.Background(), c, &commit.Request{Op: "taken"})
		<-log.applying
		ctx := &askedContext{Context: context.Background(), asked: make(chan struct{})}
		waiting := do(ctx, c, &commit.Request{Op: "waiting"})
		essential := do(context.Background(), c, &commit.Request{Op: "trim", Essential: true})
		<-ctx.asked // it is in the queue

		broken.Store(true)
		require.ErrorIs(t, store.Sync(), kv.ErrFailed)
		for _, result := range []<-chan error{waiting, essential} {
			err := <-result
			require.ErrorIs(t, err, kv.ErrFailed)
			require.NotErrorIs(t, err, commit.ErrUnknown)
		}
		err = <-taken
		require.ErrorIs(t, err, commit.ErrUnknown)
		require.ErrorIs(t, err, kv.ErrFailed)
		require.ErrorIs(t, c.Do(context.Background(), &commit.Request{Op: "late"}), kv.ErrFailed)
		require.False(t, c.Close(t.Context()))
	})
}

// heldLog never ends the first group.
type heldLog struct{ applying chan struct{} }

func (l *heldLog) Apply([]*commit.Request, *kv.Batch) bool {
	close(l.applying)
	select {}
}

func (l *heldLog) Publish([]*commit.Request) {}

// askedContext tells when a request waits for its end.
type askedContext struct {
	context.Context
	asked chan struct{}
}

func (c *askedContext) Done() <-chan struct{} {
	close(c.asked)
	return make(chan struct{})
}
