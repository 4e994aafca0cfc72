package main

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
)

// Names of metrics of readers that wait.
const (
	deliveriesPerSecond = "deliveries/s"
	getP50              = "get p50 us"
	getP99              = "get p99 us"
	putP50              = "put p50 us"
	putsPerSecond       = "puts/s"
	cpuPerDelivery      = "CPU us/del"
)

// wakeWorkloads are T8: from the call of a put to a reader that holds the
// record, without fsync.
func wakeWorkloads() []*workload {
	paced := waking("T8/paced-1-reader", "1 producer, a put each millisecond, 1 reader", oneWaiting)
	paced.targets = []target{atMostTimes(1.3, getP50, wakeFloorSystem.name), atMostTimes(2, getP99, wakeFloorSystem.name)}
	many := waking("T8/paced-1000-readers", "16 producers, a put each millisecond, 64 shards, 1,000 readers", waiting{producers: 16, shards: 64, readers: 1000, pace: time.Millisecond})
	many.targets = []target{atMostTimes(2, getP50, fanOutFloorSystem.name)}
	full := waking("T8/full-speed", "256 producers at full speed, 64 shards, 1,000 readers", waiting{producers: 256, shards: 64, readers: 1000})
	full.main = deliveriesPerSecond
	full.columns = []string{getP50, getP99, putP50, putsPerSecond, cpuPerDelivery}
	full.targets = []target{atLeastTimes(0.7, deliveriesPerSecond, fanOutFloorSystem.name)}
	return []*workload{paced, many, full}
}

// oneWaiting is one reader that waits for each record.
var oneWaiting = waiting{producers: 1, shards: 1, readers: 1, pace: time.Millisecond}

// waiting has producers and waiting readers at the same time.
type waiting struct {
	producers, shards, readers int
	pace                       time.Duration
}

func waking(id, about string, w waiting) *workload {
	return &workload{
		id:      id,
		about:   "put to get without fsync, 1 KiB: " + about,
		main:    getP50,
		base:    jetstreamSystem.name,
		columns: []string{getP99, putP50, putsPerSecond, deliveriesPerSecond, cpuPerDelivery},
		notes: []string{
			"get: from the call of the put to the reader that holds the record (JetStream: a push consumer each)",
			wakeFloorSystem.name + ": a put of raw Pebble, then a slice in memory and a channel that is closed; " + fanOutFloorSystem.name + ": without the put",
		},
		entries: entriesOf([]system{braidSystem, jetstreamSystem, wakeFloorSystem, fanOutFloorSystem}, func(e *environment, dir string, sys system) (metrics, error) {
			return w.run(e, dir, sys)
		}),
	}
}

func (w waiting) run(e *environment, dir string, sys system) (m metrics, err error) {
	var phase phase
	var delivered atomic.Bool
	readers := make([]*reader, w.readers)
	s := settings{shards: w.shards, callers: w.producers}
	start := time.Now()
	stamp := func(value []byte) { binary.LittleEndian.PutUint64(value, uint64(time.Since(start))) }
	m, err = withStore(sys, dir, s, func(st store) (metrics, error) {
		for i := range readers {
			readers[i] = &reader{start: start, phase: &phase, every: w.sampleEvery(), delivered: &delivered}
			if err := st.(follower).follow(i%w.shards, readers[i].got); err != nil {
				return nil, fmt.Errorf("reader %d: %w", i, err)
			}
		}
		l := load{producers: w.producers, pace: w.pace, values: newValues(kib), stamp: stamp, enough: delivered.Load}
		return l.run(e, st, &phase)
	})
	if err != nil {
		return nil, err
	}
	// The store is closed, so no reader is at work any more.
	var latency histogram
	var records int64
	for _, r := range readers {
		latency.merge(&r.latency)
		records += r.records
	}
	deliveries := float64(records) / m[secondsMeasured]
	return metrics{
		getP50:              micros(latency.quantile(0.50)),
		getP99:              micros(latency.quantile(0.99)),
		putP50:              m[p50Micros],
		putsPerSecond:       m[recordsPerSecond],
		deliveriesPerSecond: deliveries,
		cpuPerDelivery:      m[cpuPerRecord] * m[recordsPerSecond] / deliveries,
	}, nil
}

// sampleEvery returns how many deliveries of a reader there are for each measured one. At full
// speed, reading the clock and a histogram for each of a thousand readers would distort the
// result.
func (w waiting) sampleEvery() int64 {
	if w.pace > 0 {
		return 1
	}
	return 16
}

// reader has the counts of one reader. It belongs to the goroutine that calls got.
type reader struct {
	start     time.Time
	phase     *phase
	every     int64        // as sampleEvery says
	delivered *atomic.Bool // set when any reader has got a record that counts

	records int64 // that count
	latency histogram
}

func (r *reader) got(value []byte) {
	if r.phase.Load() != measured {
		return
	}
	if r.records%r.every == 0 {
		put := time.Duration(binary.LittleEndian.Uint64(value))
		r.latency.add(time.Since(r.start) - put)
	}
	if r.records++; r.records == 1 {
		r.delivered.Store(true)
	}
}
