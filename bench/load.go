package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// load is a number of producers that put records for a while.
type load struct {
	producers int
	batch     int           // records of a call; 0 for single puts
	pace      time.Duration // between the calls of a producer; 0 for none
	values    [][]byte

	// stamp, if not nil, is called with each value right before it is put, and may change it:
	// then each producer has values of its own.
	stamp func(value []byte)

	// enough, if not nil, reports whether the window has measured enough. The window is
	// extended until it has.
	enough func() bool
}

// phase is the phase of a load. It is read constantly and rarely written, so it has a cache
// line of its own.
type phase struct {
	_ [64]byte
	atomic.Int32
	_ [64]byte
}

// The phases of a load.
const (
	warmingUp int32 = iota
	measured
	over
)

// run puts records until the window is over, and returns the rate, the latencies of calls and
// their costs.
func (l *load) run(e *environment, st store, phase *phase) (metrics, error) {
	workers := make([]*worker, l.producers)
	for i := range workers {
		p, err := st.producer(i)
		if err != nil {
			return nil, err
		}
		workers[i] = l.newWorker(i, p)
	}
	var group sync.WaitGroup
	for _, w := range workers {
		group.Go(func() { w.run(phase) })
	}
	wait(e.warmup)
	before, usedBefore := records(workers), usageNow()
	phase.CompareAndSwap(warmingUp, measured)
	wait(e.window)
	after := records(workers)
	for (after == before || l.enough != nil && !l.enough()) && phase.Load() != over {
		// A call that takes longer than the window is still measured.
		wait(e.window)
		after = records(workers)
	}
	usedAfter := usageNow()
	phase.Store(over)
	group.Wait()

	var latency histogram
	for _, w := range workers {
		if w.err != nil {
			return nil, w.err
		}
		latency.merge(&w.latency)
	}
	n := float64(after - before)
	seconds := usedAfter.at.Sub(usedBefore.at).Seconds()
	m := metrics{
		secondsMeasured:  seconds,
		recordsPerSecond: n / seconds,
		mbPerSecond:      n * float64(len(l.values[0])) / seconds / 1e6,
		p50Micros:        micros(latency.quantile(0.50)),
		p99Micros:        micros(latency.quantile(0.99)),
	}
	usedAfter.perRecord(m, usedBefore, n)
	return m, nil
}

// wait sleeps while other goroutines work.
func wait(d time.Duration) { <-time.After(d) }

func records(workers []*worker) (n int64) {
	for _, w := range workers {
		n += w.records.Load()
	}
	return n
}

// worker is one producer.
type worker struct {
	producer producer
	values   valueCursor
	batch    [][]byte // nil for single puts
	pace     time.Duration
	stamp    func([]byte)

	records atomic.Int64
	_       [64]byte // keeps the counters of workers off each other's cache lines

	// Its goroutine's, until that has ended:
	latency histogram
	err     error
}

func (l *load) newWorker(n int, p producer) *worker {
	w := &worker{producer: p, values: startValues(l.values, n), pace: l.pace, stamp: l.stamp}
	if l.batch > 0 {
		w.batch = make([][]byte, l.batch)
	}
	if l.stamp != nil {
		own := make([]byte, len(l.values[0]))
		copy(own, l.values[n%len(l.values)])
		w.values = valueCursor{values: [][]byte{own}}
	}
	return w
}

// run puts until the phase is over, or a put fails.
func (w *worker) run(phase *phase) {
	var tick <-chan time.Time
	if w.pace > 0 {
		ticker := time.NewTicker(w.pace)
		defer ticker.Stop()
		tick = ticker.C
	}
	began := time.Now()
	for {
		started := phase.Load()
		if started == over {
			return
		}
		if tick != nil {
			<-tick
			began = time.Now()
		}
		n, err := w.call()
		if err != nil {
			w.err = err
			phase.Store(over) // the others need not go on
			return
		}
		// Without a pace, one reading of the clock ends a call and begins the next: a reading
		// costs a notable part of a put without fsync.
		ended := time.Now()
		if started == measured {
			w.latency.add(ended.Sub(began))
		}
		w.records.Add(n)
		began = ended
	}
}

func (w *worker) call() (records int64, err error) {
	if w.batch != nil {
		w.values.fill(w.batch)
		return int64(len(w.batch)), w.producer.putBatch(w.batch)
	}
	value := w.values.next()
	if w.stamp != nil {
		w.stamp(value)
	}
	return 1, w.producer.put(value)
}
