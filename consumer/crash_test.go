package consumer_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// crasher is a processor that crashes in one of its methods, a given number of times.
type crasher struct {
	method string
	crash  func()

	mu    sync.Mutex
	left  int      // crashes to come
	calls []string // all calls, in order
	last  *consumer.Batch
}

func (p *crasher) call(method string) error {
	p.mu.Lock()
	p.calls = append(p.calls, method)
	crash := p.method == method && p.left > 0
	if crash {
		p.left--
	}
	p.mu.Unlock()
	if crash {
		p.crash()
	}
	return nil
}

// count returns how often a method was called.
func (p *crasher) count(method string) (n int) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, call := range p.calls {
		if call == method {
			n++
		}
	}
	return n
}

func (p *crasher) Initialize(context.Context, *consumer.Checkpointer) error {
	return p.call("Initialize")
}

func (p *crasher) ProcessRecords(_ context.Context, batch *consumer.Batch) error {
	if err := p.call("ProcessRecords"); err != nil {
		return err
	}
	p.mu.Lock()
	p.last = batch
	p.mu.Unlock()
	err := batch.Ack(batch.Records...)
	if errors.Is(err, braid.ErrInvalidArgument) {
		return nil // they are not acknowledged, but done
	}
	return err
}

func (p *crasher) TipReached(context.Context, *consumer.Checkpointer) error {
	return p.call("TipReached")
}

func (p *crasher) ShutdownRequested(context.Context, *consumer.Checkpointer) error {
	return p.call("ShutdownRequested")
}

func (p *crasher) ShardEnded(context.Context, *consumer.Checkpointer) error {
	return p.call("ShardEnded")
}

func (p *crasher) LeaseLost(context.Context, error) { _ = p.call("LeaseLost") }

// crashModes are the ways of processing a shard, each with goroutines of its own.
var crashModes = map[string]consumer.Config{
	"plain":    {},
	"interval": {CheckpointInterval: time.Second},
	"lanes":    {Lanes: 3},
	"acks":     {Checkpoints: consumer.Acks},
}

// A panic in a hook counts as an error: hooks before the end are called again, those of
// the end once. The shard is still processed to its end.
func TestPanicInAHookIsAnError(t *testing.T) {
	for mode, cfg := range crashModes {
		for _, method := range []string{"Initialize", "ProcessRecords", "TipReached", "ShutdownRequested", "ShardEnded", "LeaseLost"} {
			t.Run(mode+"/"+method, func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					p := &crasher{method: method, crash: func() { panic("crash") }, left: 2}
					f.put("a", "b")
					w := f.worker(cfg, p)
					stop := f.start(w)
					time.Sleep(time.Minute)
					require.NoError(f, w.App().Pause(f.Context(), consumer.LeaseKey{}))
					time.Sleep(time.Minute)
					require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{}))
					f.put("c")
					f.split(shard0)
					time.Sleep(time.Minute)
					require.Equal(f, consumer.StateDone, f.status(shard0).State)
					require.Nil(f, f.status(shard0).Err)
					switch method {
					case "ShutdownRequested", "LeaseLost":
						require.Equal(f, 1, p.count(method), "it is called once for the lease that was paused")
					default:
						require.GreaterOrEqual(f, p.count(method), 3)
					}
					require.NoError(f, stop())
				})
			})
		}
	}
}

// missing is an error whose method panics if it is nil.
type missing struct{ what string }

func (m *missing) Error() string { return "no " + m.what }

// An error whose Error method panics is a panic of the processor: it neither ends the process
// nor stops the shard.
func TestErrorWhoseMethodPanicsIsAPanic(t *testing.T) {
	for mode, cfg := range crashModes {
		t.Run(mode, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				_, err := f.db.CreateStream(f.Context(), "dead", nil)
				require.NoError(f, err)
				cfg := cfg
				cfg.MaxAttempts, cfg.DeadLetterStream = 2, "dead"
				f.put("a")
				stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
					var m *missing
					return m
				})))
				time.Sleep(time.Minute)
				require.Nil(f, f.status(shard0).Err)
				letters := 0
				dead, err := f.db.Stream("dead")
				require.NoError(f, err)
				for r, err := range dead.Records(f.Context(), braid.TrimHorizon()) {
					require.NoError(f, err)
					require.Contains(f, string(r.Data), "panic: runtime error: invalid memory address")
					letters++
				}
				require.Equal(f, 1, letters)
				require.NoError(f, stop())
			})
		})
	}
}

// A hook, or OnGap, that ends its goroutine, as testing's FailNow does, stops its shard
// and nothing else. No goroutine of the shard is left behind, or the bubble could not
// end, and the bytes that it has read are free for other shards.
func TestHookThatEndsItsGoroutineStopsTheShard(t *testing.T) {
	for mode, cfg := range crashModes {
		for _, method := range []string{"Initialize", "ProcessRecords", "TipReached", "ShardEnded", "OnGap"} {
			t.Run(mode+"/"+method, func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					p := &crasher{method: method, crash: runtime.Goexit, left: 1}
					f.put("a")
					switch method {
					case "ShardEnded":
						f.split(shard0)
					case "OnGap":
						require.NoError(f, f.start(f.worker(consumer.Config{}, nothing))())
						f.put("c")
						require.NoError(f, f.orders.Trim(f.Context(), braid.Latest()))
						f.put("d")
					}
					cfg := cfg
					cfg.OnGap = func(context.Context, string, *braid.TrimmedError) error { return p.call("OnGap") }
					w := f.worker(cfg, p)
					stop := f.start(w)
					time.Sleep(time.Minute)
					status := f.status(shard0)
					require.Equal(f, consumer.StateFailed, status.State)
					require.ErrorContains(f, status.Err, "Goexit")
					require.Equal(f, 1, p.count(method))
					require.Zero(f, consumer.HeldBytes(w))
					require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{}))
					synctest.Wait()
					require.Equal(f, 2, p.count(method))
					require.NoError(f, stop())
				})
			})
		}
	}
}

// A shard whose last hook has ended its goroutine does not hold records that nobody
// acknowledges.
func TestShardThatEndsItsGoroutineHoldsNothing(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b")
		f.split(shard0)
		w := f.worker(consumer.Config{Checkpoints: consumer.Acks}, exitingAtTheEnd{})
		stop := f.start(w)
		require.Equal(f, consumer.StateFailed, f.status(shard0).State)
		require.Zero(f, consumer.HeldBytes(w))
		f.stopped(stop(), shard0)
	})
}

type exitingAtTheEnd struct{}

func (exitingAtTheEnd) ProcessRecords(context.Context, *consumer.Batch) error { return nil }

func (exitingAtTheEnd) ShardEnded(context.Context, *consumer.Checkpointer) error {
	runtime.Goexit()
	return nil
}

// A processor that ignores its context, in any of its methods, keeps neither its shard
// from moving to another worker nor its own worker from ending. What it does afterwards
// has no effect.
func TestProcessorThatIgnoresItsContextIsLeftBehind(t *testing.T) {
	for mode, cfg := range crashModes {
		for _, method := range []string{"Initialize", "ProcessRecords", "TipReached", "ShutdownRequested"} {
			t.Run(mode+"/"+method, func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					release := make(chan struct{})
					p := &crasher{method: method, crash: func() { <-release }, left: 1}
					f.put("a", "b")
					cfg := cfg
					cfg.WorkerID, cfg.HandOverTimeout = "deaf", time.Minute
					one := f.worker(cfg, p)
					f.start(one)
					cfg.WorkerID = "other"
					stopOther := f.start(f.worker(cfg, &crasher{}))
					ctx, cancel := context.WithTimeout(f.Context(), 10*time.Second)
					defer cancel()
					err := one.Stop(ctx)
					var hung *consumer.HungShardsError
					require.ErrorAs(f, err, &hung)
					require.EqualError(f, err, `consumer: the processors of ["shardId-000000000000 of orders"] did not return in time`)
					f.put("c")
					time.Sleep(2 * time.Minute)
					require.Equal(f, "other", f.status(shard0).Owner)
					require.Zero(f, f.status(shard0).BehindRecords)
					epoch, calls := f.status(shard0).Epoch, len(p.calls)
					close(release)
					time.Sleep(time.Minute)
					synctest.Wait()
					require.Len(f, p.calls, calls, "it is not called again")
					require.Equal(f, epoch, f.status(shard0).Epoch)
					require.NoError(f, stopOther())
				})
			})
		}
	}
}

// Run even waits for the checkpoint that is being stored when a hook has ended the
// goroutine of its shard.
func TestNothingIsStoredAfterRunHasReturned(t *testing.T) {
	expiry(t, 1, func(c *cluster) {
		var storing atomic.Int64
		l := &link{Memory: c.store}
		l.set(func(ctx context.Context, op string, lease consumer.Lease) error {
			if op != "CompareAndSet" || lease.Checkpoint.SequenceNumber.IsZero() {
				return nil
			}
			storing.Add(1)
			defer storing.Add(-1)
			<-ctx.Done()
			time.Sleep(time.Millisecond)
			return context.Cause(ctx)
		})
		p := &crasher{method: "TipReached", crash: runtime.Goexit, left: 1}
		c.put("a")
		w, err := consumer.New(nil, &consumer.Config{App: "billing", Streams: []string{"orders"}, Source: consumer.NewDBSource(c.db), Leases: l, CheckpointInterval: time.Millisecond}, p)
		require.NoError(c, err)
		stop := c.start(w)
		require.EqualValues(c, 1, storing.Load())
		c.stopped(stop(), shard0)
		require.Zero(c, storing.Load())
	})
}
