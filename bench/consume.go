package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Names of metrics of consumers.
const (
	processedPerSecond = "processed/s"
	processP50         = "process p50 us"
	processP99         = "process p99 us"
	backlogPerSecond   = "backlog/s"
	cpuPerProcessed    = "CPU us/proc"
)

const liveBatch = 500 // JetStream takes 1,000 at most

// consumeWorkloads are C1 and C2: consumers that store how far they are, without
// fsync. None has a target.
func consumeWorkloads() []*workload {
	systems := []system{braidSystem, jetstreamSystem}
	return []*workload{{
		id:      "C1/consume-100B",
		about:   "1 consumer that checkpoints, 4 shards, 100 B, without fsync: a backlog, and beside 1 producer of batches of 500",
		main:    backlogPerSecond,
		base:    jetstreamSystem.name,
		columns: []string{processedPerSecond, putsPerSecond, cpuPerProcessed},
		notes: []string{
			"backlog: a new consumer, from the first record to the last, while nobody puts; processed: beside the producer, whose puts bound it; CPU: of both",
			"braid: a worker with leases, and batches of up to 10,000",
			fmt.Sprintf("JetStream: messages published asynchronously, which is faster than atomic batches; a durable pull consumer, an AckAll for each %d and no bound of what is not acknowledged", jetstreamPull),
		},
		entries: entriesOf(systems, consumeBatches),
	}, {
		id:      "C2/consume-wake",
		about:   "put to process without fsync, 1 KiB: 1 producer, a put each millisecond, 1 shard, 1 consumer that checkpoints each record",
		main:    processP50,
		base:    jetstreamSystem.name,
		columns: []string{processP99, putP50, putsPerSecond, cpuPerProcessed},
		notes:   []string{"process: from the call of the put to the processor that holds the record"},
		entries: entriesOf(systems, consumeOneByOne),
	}}
}

// consumeBatches is C1.
func consumeBatches(e *environment, dir string, sys system) (metrics, error) {
	const shards, size = 4, 100
	m := metrics{}
	s := settings{shards: shards, callers: 1, batches: true, apart: true}
	live, err := consuming{shards: shards, batch: liveBatch, size: size}.run(e, filepath.Join(dir, "live"), sys)
	if err != nil {
		return nil, err
	}
	m[processedPerSecond], m[putsPerSecond], m[cpuPerProcessed] = live[deliveriesPerSecond], live[putsPerSecond], live[cpuPerDelivery]
	want := int64(e.records)
	_, err = withStore(sys, filepath.Join(dir, "backlog"), s, func(st store) (metrics, error) {
		if err := fillBatches(st, newValues(size), want, liveBatch); err != nil {
			return nil, fmt.Errorf("fill: %w", err)
		}
		var processed atomic.Int64
		done := make(chan struct{})
		began := time.Now()
		count := func() func([]byte) {
			return func([]byte) {
				if processed.Add(1) == want {
					close(done)
				}
			}
		}
		if err := st.(consumerStore).consume(false, count); err != nil {
			return nil, err
		}
		select {
		case <-done:
		case <-time.After(time.Minute):
			return nil, fmt.Errorf("a consumer has got %d of %d records in a minute", processed.Load(), want)
		}
		m[backlogPerSecond] = float64(want) / time.Since(began).Seconds()
		return nil, nil
	})
	return m, err
}

// consumeOneByOne is C2.
func consumeOneByOne(e *environment, dir string, sys system) (metrics, error) {
	got, err := consuming{shards: 1, pace: time.Millisecond, size: kib, each: true}.run(e, dir, sys)
	if err != nil {
		return nil, err
	}
	return metrics{
		processP50:      got[getP50],
		processP99:      got[getP99],
		putP50:          got[putP50],
		putsPerSecond:   got[putsPerSecond],
		cpuPerProcessed: got[cpuPerDelivery],
	}, nil
}

// consuming is a producer and a consumer at work at the same time.
type consuming struct {
	shards, batch, size int
	pace                time.Duration
	each                bool // each record is checkpointed by itself
}

func (c consuming) run(e *environment, dir string, sys system) (m metrics, err error) {
	var phase phase
	var delivered atomic.Bool
	var mu sync.Mutex // guards readers until the store is closed
	var readers []*reader
	start := time.Now()
	newReader := func() func([]byte) {
		r := &reader{start: start, phase: &phase, every: 1, delivered: &delivered}
		if c.batch > 0 {
			r.every = 1 << 20 // values of batches have no stamp
		}
		mu.Lock()
		defer mu.Unlock()
		readers = append(readers, r)
		return r.got
	}
	s := settings{shards: c.shards, callers: 1, batches: c.batch > 0, apart: true}
	m, err = withStore(sys, dir, s, func(st store) (metrics, error) {
		if err := st.(consumerStore).consume(c.each, newReader); err != nil {
			return nil, err
		}
		l := load{producers: 1, batch: c.batch, pace: c.pace, values: newValues(c.size), enough: delivered.Load}
		if c.batch == 0 {
			l.stamp = func(value []byte) { binary.LittleEndian.PutUint64(value, uint64(time.Since(start))) }
		}
		return l.run(e, st, &phase)
	})
	if err != nil {
		return nil, err
	}
	var latency histogram
	var records int64
	for _, r := range readers {
		latency.merge(&r.latency)
		records += r.records
	}
	processed := float64(records) / m[secondsMeasured]
	return metrics{
		getP50:              micros(latency.quantile(0.50)),
		getP99:              micros(latency.quantile(0.99)),
		putP50:              m[p50Micros],
		putsPerSecond:       m[recordsPerSecond],
		deliveriesPerSecond: processed,
		cpuPerDelivery:      m[cpuPerRecord] * m[recordsPerSecond] / processed,
	}, nil
}
