package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

const takePatience = time.Minute

// leaseWorker is a worker that ignores its records.
type leaseWorker struct {
	db     *braid.DB
	config consumer.Config
	leases int // the number that it should get

	cancel context.CancelFunc
	ended  chan error
}

func newLeaseWorker(db *braid.DB, app, stream string) *leaseWorker {
	return &leaseWorker{
		db: db, leases: 1,
		config: consumer.Config{App: app, Streams: []string{stream}, Start: braid.Latest()},
	}
}

// start starts the worker and returns when it has its leases.
func (w *leaseWorker) start(ctx context.Context) error {
	var got atomic.Int64
	all := make(chan struct{})
	worker, err := consumer.New(w.db, &w.config, consumer.PerLease(func(consumer.Lease) consumer.Processor {
		if got.Add(1) == int64(w.leases) {
			close(all)
		}
		return consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
	}))
	if err != nil {
		return err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.ended = make(chan error, 1)
	go func() { w.ended <- worker.Run(ctx) }()
	select {
	case <-all:
		return nil
	case err := <-w.ended:
		return errors.Join(errors.New("worker has ended"), err)
	case <-time.After(takePatience):
		w.stop()
		return fmt.Errorf("worker got only %d of %d leases in a minute", got.Load(), w.leases)
	}
}

// stop stops the worker and returns when it has released its leases. Run returns the error of
// its context.
func (w *leaseWorker) stop() {
	w.cancel()
	<-w.ended
}

// takeShards has one worker with many shards that get no records.
func takeShards() *workload {
	w := &workload{
		id:      "T10/worker",
		about:   "one worker takes all shards of a stream, without fsync, and then gets nothing",
		main:    takeMillis,
		base:    plural(10, "shard"),
		columns: []string{idleCPU, heapMiB},
		notes:   []string{"idle CPU: of the whole process, in the second after the worker has all shards; heap: what the worker adds"},
	}
	for _, n := range []int{10, 100, 1000, 10_000} {
		w.entries = append(w.entries, entry{name: plural(n, "shard"), run: func(e *environment, dir string) (metrics, error) {
			return takeAll(e, dir, n)
		}})
	}
	many := plural(10_000, "shard")
	w.targets = []target{atMost(2000, many, takeMillis), atMost(1, many, idleCPU)}
	return w
}

func takeAll(e *environment, dir string, shards int) (metrics, error) {
	return withStore(braidSystem, dir, settings{shards: shards}, func(st store) (metrics, error) {
		s := st.(*braidStore)
		if _, err := s.stream.PutRecords(s.ctx, entryForEachShard(s.stream)); err != nil {
			return nil, err
		}
		w := newLeaseWorker(s.db, "bench", s.stream.Name())
		w.leases = shards
		before := heapBytes()
		began := time.Now()
		if err := w.start(s.ctx); err != nil {
			return nil, err
		}
		defer w.stop()
		m := metrics{takeMillis: millis(time.Since(began))}
		wait(e.warmup) // until the work of the start is done
		m[heapMiB] = float64(heapBytes()-before) / mib
		used := usageNow()
		wait(e.window)
		after := usageNow()
		m[idleCPU] = 100 * float64(after.cpu-used.cpu) / float64(after.at.Sub(used.at))
		return m, nil
	})
}
