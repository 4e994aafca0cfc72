package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/queue"
)

// Names of metrics of queues.
const (
	settledPerSecond = "settled/s"
	syncsPerBatch    = "syncs/batch"
	addedMiB         = "added MiB"
)

const (
	queueBatch    = 10 // records of a receive, and of the acknowledgement that follows
	queueBytes    = 100
	queueShards   = 4
	queueFlight   = 120_000
	queueFew      = 10_000 // are more than braid reads ahead
	queueMany     = 1_000_000
	queuePatience = time.Minute
)

// workEntry is braid's Queue.Work, which acknowledges a batch in the commit of the next
// receive.
const workEntry = "braid, Queue.Work"

// queueWorkloads are Q1 to Q5: records that are received and acknowledged one by one.
func queueWorkloads() []*workload {
	one := settling(1)
	one.targets = append(one.targets, syncsTarget(2.05, braidSystem.name), syncsTarget(1.05, workEntry))
	some := settling(16)
	some.targets = append(some.targets, atLeastTimes(10, settledPerSecond, jetstreamSystem.name), syncsTarget(1.05, braidSystem.name))
	return []*workload{one, some, settling(256), waitingMemory(), flightMemory(), queueWake()}
}

// syncsTarget is Q2. One consumer that calls Receive and Ack waits for two commits, so a
// batch takes two syncs; Work has one commit for both, and many consumers share them.
func syncsTarget(limit float64, entry string) target {
	t := atMost(limit, entry, syncsPerBatch)
	t.id, t.name = "Q2", fmt.Sprintf("%s of %s ≤ %s", syncsPerBatch, entry, number(limit))
	return t
}

func settling(consumers int) *workload {
	w := &workload{
		id:      fmt.Sprintf("Q1/receive-ack-c%d", consumers),
		about:   fmt.Sprintf("queue: receive and acknowledge batches of %d, %d B, durable: %s", queueBatch, queueBytes, plural(consumers, "consumer")),
		main:    settledPerSecond,
		base:    jetstreamSystem.name,
		columns: []string{p50Micros, p99Micros, syncsPerBatch, allocsPerRecord, cpuPerRecord},
		notes: []string{
			"p50, p99: of a receive together with its acknowledgement; syncs: of files and directories, for each 10 records",
			workEntry + " acknowledges a batch in one commit with the next receive",
			"JetStream: a work queue, explicit acknowledgements of which the last of a batch is awaited, fetches of 10; it hands out messages before what it notes of that is durable",
			"bbolt: a bucket of records that wait and one of those in flight, and a transaction for each receive and each acknowledgement",
		},
	}
	w.entries = entriesOf([]system{braidSystem, jetstreamSystem, bboltSystem}, func(e *environment, dir string, sys system) (metrics, error) {
		return settleBacklog(e, dir, sys, func(ctx context.Context, st store, s *settled) error {
			return receiveAndAck(ctx, st, s, consumers)
		})
	})
	w.entries = append(w.entries, entry{name: workEntry, run: func(e *environment, dir string) (metrics, error) {
		return settleBacklog(e, dir, braidSystem, func(ctx context.Context, st store, s *settled) error {
			return workOff(ctx, st, s, consumers)
		})
	}})
	return w
}

// settled counts the records that the consumers of a sample have settled.
type settled struct {
	phase   phase
	records atomic.Int64
	want    int64         // the number of records
	all     chan struct{} // closed when all are settled

	mu      sync.Mutex
	latency histogram // guarded by mu
}

func (s *settled) add(n int) {
	if total := s.records.Add(int64(n)); total >= s.want && total-int64(n) < s.want {
		close(s.all)
	}
}

func (s *settled) merge(h *histogram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency.merge(h)
}

// fillQueue makes a store with waiting records, and closes it, so that they are on disk.
func fillQueue(dir string, sys system, s settings, records int) error {
	s.durable, s.syncs, s.batches, s.apart = false, nil, true, true
	_, err := withStore(sys, dir, s, func(st store) (metrics, error) {
		return nil, fillBatches(st, newValues(queueBytes), int64(records), liveBatch)
	})
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// settleBacklog measures consumers that settle a backlog. consume returns when the context has
// ended, or with an error.
func settleBacklog(e *environment, dir string, sys system, consume func(ctx context.Context, st store, s *settled) error) (metrics, error) {
	var syncs atomic.Int64
	records := max(e.records, queueFew) // the consumers leave some
	set := settings{durable: true, shards: queueShards, callers: 1, queue: true, syncs: &syncs}
	if err := fillQueue(dir, sys, set, records); err != nil {
		return nil, err
	}
	return withStore(sys, dir, set, func(st store) (m metrics, err error) {
		s := &settled{want: int64(records), all: make(chan struct{})}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- consume(ctx, st, s) }()
		defer func() {
			stop()
			s.phase.Store(over)
			err = errors.Join(err, <-ended)
			if err == nil && s.latency.total > 0 {
				m[p50Micros] = micros(s.latency.quantile(0.50))
				m[p99Micros] = micros(s.latency.quantile(0.99))
			}
		}()
		if !s.await(e.warmup, ended) {
			return nil, errors.New("all records were settled before the window began")
		}
		used, syncsBefore, before := usageNow(), syncs.Load(), s.records.Load()
		s.phase.Store(measured)
		for began := time.Now(); s.await(e.window, ended) && s.records.Load() == before; {
			if time.Since(began) > queuePatience {
				return nil, errors.New("no record was settled in a minute")
			}
		}
		after := usageNow()
		n := float64(s.records.Load() - before)
		m = metrics{settledPerSecond: n / after.at.Sub(used.at).Seconds()}
		after.perRecord(m, used, n)
		if sys.name == braidSystem.name {
			m[syncsPerBatch] = float64(syncs.Load()-syncsBefore) / (n / queueBatch)
		}
		return m, nil
	})
}

// await waits for a time and reports whether consumers still have records to settle.
func (s *settled) await(d time.Duration, ended chan error) bool {
	select {
	case <-time.After(d):
		return true
	case err := <-ended: // only an error ends it
		ended <- err
		return false
	case <-s.all:
		return false
	}
}

// receiveAndAck runs consumers that alternately receive and acknowledge a batch.
func receiveAndAck(ctx context.Context, st store, s *settled, consumers int) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	receivers := make([]receiver, consumers)
	for i := range receivers {
		var err error
		if receivers[i], err = st.(queueStore).receiver(i); err != nil {
			return err
		}
	}
	var group sync.WaitGroup
	for _, r := range receivers {
		group.Go(func() {
			if err := s.run(ctx, r); err != nil && ctx.Err() == nil {
				stop(err)
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// run is one consumer, until the context ends.
func (s *settled) run(ctx context.Context, r receiver) error {
	var latency histogram
	defer func() { s.merge(&latency) }()
	for ctx.Err() == nil {
		began := time.Now()
		n, err := r.receive(ctx, queueBatch, func([]byte) {})
		if err == nil {
			err = r.acknowledge(ctx)
		}
		if err != nil {
			return err
		}
		if s.phase.Load() == measured {
			latency.add(time.Since(began))
		}
		s.add(n)
	}
	return nil
}

// workOff runs braid's Queue.Work.
func workOff(ctx context.Context, st store, s *settled, consumers int) error {
	q, err := st.(*braidStore).openQueue()
	if err != nil {
		return err
	}
	return q.Work(ctx, func(context.Context, queue.Record) error {
		s.add(1)
		return nil
	}, &queue.WorkOptions{Concurrency: consumers, Batch: queueBatch})
}

// waitingMemory is Q3: the memory of a queue for records that were never received.
func waitingMemory() *workload {
	few, many := queueRow(braidSystem, queueFew, "waiting"), queueRow(braidSystem, queueMany, "waiting")
	w := &workload{
		id:    "Q3/waiting",
		about: fmt.Sprintf("queue: Go's heap for waiting records of %d B", queueBytes),
		main:  addedMiB,
		base:  few,
		notes: []string{"added: memory for the queue's first receive and acknowledgement in an open store, without the store's own memory for its records"},
		targets: []target{{
			name:  fmt.Sprintf("%s of %s − of %s ≤ 1", addedMiB, number(queueMany), number(queueFew)),
			limit: 1,
			value: func(r round) (reading, bool) {
				small, ok := r.figure(few, addedMiB)
				large, alsoOK := r.figure(many, addedMiB)
				return reading{large - small, []part{{few, small}, {many, large}}}, ok && alsoOK
			},
		}},
	}
	for _, row := range []struct {
		sys     system
		records int
	}{{braidSystem, queueFew}, {braidSystem, queueMany}, {jetstreamSystem, queueMany}} {
		w.entries = append(w.entries, entry{name: queueRow(row.sys, row.records, "waiting"), run: func(_ *environment, dir string) (metrics, error) {
			return withQueue(dir, row.sys, row.records, func(ctx context.Context, st queueStore) (float64, error) {
				return heapGrowth(func() error { return settleOne(ctx, st) })
			})
		}})
	}
	return w
}

// flightMemory is Q4: the memory of a queue for records in flight.
func flightMemory() *workload {
	w := &workload{
		id:      "Q4/in-flight",
		about:   fmt.Sprintf("queue: Go's heap for %s records in flight", number(queueFlight)),
		main:    addedMiB,
		base:    jetstreamSystem.name,
		notes:   []string{"added: the consumer has dropped the records that it received; JetStream's figure includes server and client"},
		targets: []target{atMost(64, braidSystem.name, addedMiB)},
	}
	w.entries = entriesOf([]system{braidSystem, jetstreamSystem}, func(_ *environment, dir string, sys system) (metrics, error) {
		return withQueue(dir, sys, queueFlight+queueFew, func(ctx context.Context, st queueStore) (float64, error) {
			if err := settleOne(ctx, st); err != nil {
				return 0, err
			}
			return heapGrowth(func() error { return receiveMany(ctx, st, queueFlight) })
		})
	})
	return w
}

// receiveMany receives n records and discards them.
func receiveMany(ctx context.Context, st queueStore, n int) error {
	r, err := st.receiver(0)
	for err == nil && n > 0 {
		var got int
		got, err = r.receive(ctx, min(1000, n), func([]byte) {})
		n -= got
	}
	return err
}

// heapGrowth returns how many MiB fn adds to the live heap.
func heapGrowth(fn func() error) (float64, error) {
	awaitQuiet() // work after the opening of a store holds memory
	before := heapBytes()
	if err := fn(); err != nil {
		return 0, err
	}
	awaitQuiet()
	return float64(heapBytes()-before) / mib, nil
}

func queueRow(sys system, n int, what string) string {
	return fmt.Sprintf("%s, %s %s", sys.name, number(float64(n)), what)
}

// settleOne receives and acknowledges a batch, which allocates everything that the first use of
// a queue needs.
func settleOne(ctx context.Context, st queueStore) error {
	r, err := st.receiver(0)
	if err != nil {
		return err
	}
	if _, err := r.receive(ctx, queueBatch, func([]byte) {}); err != nil {
		return err
	}
	return r.acknowledge(ctx)
}

// withQueue runs fn with a store without fsync that has waiting records and was reopened after
// they were put. fn returns MiB of memory.
func withQueue(dir string, sys system, records int, fn func(ctx context.Context, st queueStore) (float64, error)) (metrics, error) {
	set := settings{shards: queueShards, callers: 1, queue: true}
	if err := fillQueue(dir, sys, set, records); err != nil {
		return nil, err
	}
	return withStore(sys, dir, set, func(st store) (metrics, error) {
		ctx, cancel := context.WithTimeout(context.Background(), queuePatience)
		defer cancel()
		took, err := fn(ctx, st.(queueStore))
		return metrics{addedMiB: took}, err
	})
}

// queueWake is Q5: T8 with a queue instead of a reader.
func queueWake() *workload {
	w := &workload{
		id:      "Q5/wake",
		about:   "queue: put to receive without fsync, 1 KiB: 1 producer, a put each millisecond, 1 shard, 1 consumer that waits",
		main:    getP50,
		base:    jetstreamSystem.name,
		columns: []string{getP99, putP50, putsPerSecond, cpuPerDelivery},
		notes: []string{
			"get: from the call of the put to the consumer that holds the record, which it acknowledges before it waits again (JetStream: a fetch of one)",
			"braid commits a receive before it returns, and so does " + noteFloorSystem.name + "; " + followEntry + " and " + wakeFloorSystem.name + " are those of T8, and commit nothing",
		},
		entries: entriesOf([]system{braidSystem, jetstreamSystem}, receiveOneByOne),
		targets: []target{atMostTimes(1.3, getP50, wakeFloorSystem.name), atMostTimes(1.3, getP50, noteFloorSystem.name)},
	}
	follower := braidSystem
	follower.name = followEntry
	w.entries = append(w.entries, entriesOf([]system{follower, wakeFloorSystem, noteFloorSystem}, oneWaiting.run)...)
	return w
}

// receiveOneByOne has a consumer that gets a record each millisecond.
func receiveOneByOne(e *environment, dir string, sys system) (metrics, error) {
	var phase phase
	var delivered atomic.Bool
	start := time.Now()
	got := &reader{start: start, phase: &phase, every: 1, delivered: &delivered}
	m, err := withStore(sys, dir, settings{shards: 1, callers: 1, queue: true}, func(st store) (m metrics, err error) {
		r, err := st.(queueStore).receiver(0)
		if err != nil {
			return nil, err
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			for {
				_, err := r.receive(ctx, 1, got.got)
				if err == nil {
					err = r.acknowledge(ctx)
				}
				if err != nil {
					if ctx.Err() != nil {
						err = nil // it was stopped
					}
					phase.Store(over)
					ended <- err
					return
				}
			}
		}()
		defer func() {
			stop()
			err = errors.Join(err, <-ended)
		}()
		stamp := func(value []byte) { binary.LittleEndian.PutUint64(value, uint64(time.Since(start))) }
		l := load{producers: 1, pace: time.Millisecond, values: newValues(kib), stamp: stamp, enough: delivered.Load}
		return l.run(e, st, &phase)
	})
	if err != nil {
		return nil, err
	}
	deliveries := float64(got.records) / m[secondsMeasured]
	return metrics{
		getP50:              micros(got.latency.quantile(0.50)),
		getP99:              micros(got.latency.quantile(0.99)),
		putP50:              m[p50Micros],
		putsPerSecond:       m[recordsPerSecond],
		deliveriesPerSecond: deliveries,
		cpuPerDelivery:      m[cpuPerRecord] * m[recordsPerSecond] / deliveries,
	}, nil
}
