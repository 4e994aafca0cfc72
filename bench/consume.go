package main

import (
	"encoding/binary"
	"errors"
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

// The floors of T11: Shard.Records reads the same records, in a goroutine for each shard; and a
// goroutine waits in Shard.Follow.
const (
	recordsEntry = "braid, Shard.Records"
	followEntry  = "braid, Shard.Follow"
)

// consumeWorkloads are T11: consumers that store their positions, without fsync.
func consumeWorkloads() []*workload {
	systems := []system{braidSystem, jetstreamSystem}
	return []*workload{{
		id:      "T11/backlog-100B",
		about:   "1 consumer that checkpoints, 4 shards, 100 B, without fsync: a backlog, and beside 1 producer of batches of 500",
		main:    backlogPerSecond,
		base:    jetstreamSystem.name,
		columns: []string{cpuPerRecord, processedPerSecond, putsPerSecond, cpuPerProcessed},
		notes: []string{
			"backlog: a new consumer in a store that was just opened, from the first record to the last, while nobody puts; processed: beside the producer, whose puts bound it; CPU us/rec: of the backlog, CPU us/proc: of consumer and producer",
			"braid: a worker with leases, and batches of up to 10,000 in memory that is used again (ReuseRecords)",
			fmt.Sprintf("JetStream: messages published asynchronously, which is faster than atomic batches; a durable pull consumer, an AckAll for each %d and no bound of what is not acknowledged", jetstreamPull),
		},
		entries: append(entriesOf(systems, consumeBatches), entry{name: recordsEntry, run: readBacklog}),
		targets: []target{atLeastTimes(0.7, backlogPerSecond, recordsEntry)},
	}, {
		id:      "T11/wake",
		about:   "put to process without fsync, 1 KiB: 1 producer, a put each millisecond, 1 shard, 1 consumer that checkpoints each record",
		main:    processP50,
		base:    jetstreamSystem.name,
		columns: []string{processP99, putP50, putsPerSecond, cpuPerProcessed},
		notes:   []string{"process: from the call of the put to the processor that holds the record; " + followEntry + ": to a reader that does nothing else, as in T8"},
		entries: append(entriesOf(systems, consumeOneByOne), entry{name: followEntry, run: followOneByOne}),
		targets: []target{beyondAtMost(15, braidSystem.name, processP50, followEntry, processP50)},
	}}
}

const backlogShards, backlogBytes = 4, 100

// backlogRecords returns the number of records of a backlog. They are small, so reading many
// takes a moment.
func (e *environment) backlogRecords() int64 { return 5 * int64(e.records) }

// withBacklog runs fn with a store that has a backlog and was reopened afterwards, so that none
// of it is in memory.
func withBacklog(e *environment, dir string, sys system, fn func(store) (metrics, error)) (metrics, error) {
	s := settings{shards: backlogShards, callers: 1, batches: true, apart: true}
	_, err := withStore(sys, dir, s, func(st store) (metrics, error) {
		return nil, fillBatches(st, newValues(backlogBytes), e.backlogRecords(), liveBatch)
	})
	if err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	return withStore(sys, dir, s, fn)
}

// readBacklog reads the shards of a backlog concurrently, without a consumer.
func readBacklog(e *environment, dir string) (metrics, error) {
	want := e.backlogRecords()
	return withBacklog(e, dir, braidSystem, func(st store) (metrics, error) {
		var group sync.WaitGroup
		var read atomic.Int64
		errs := make([]error, backlogShards)
		used := usageNow()
		for shard := range errs {
			group.Go(func() {
				var n int64
				n, _, errs[shard] = st.(scanner).scan(shard)
				read.Add(n)
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		if read.Load() != want {
			return nil, fmt.Errorf("read %d records where %d were put", read.Load(), want)
		}
		after, m := usageNow(), metrics{}
		after.perRecord(m, used, float64(want))
		m[backlogPerSecond] = float64(want) / after.at.Sub(used.at).Seconds()
		return m, nil
	})
}

// followOneByOne has a reader instead of a consumer.
func followOneByOne(e *environment, dir string) (metrics, error) {
	m, err := oneWaiting.run(e, dir, braidSystem)
	if err != nil {
		return nil, err
	}
	return metrics{
		processP50: m[getP50], processP99: m[getP99], putP50: m[putP50],
		putsPerSecond: m[putsPerSecond], cpuPerProcessed: m[cpuPerDelivery],
	}, nil
}

// consumeBatches has one consumer with a backlog, and one that runs with a producer.
func consumeBatches(e *environment, dir string, sys system) (metrics, error) {
	m := metrics{}
	live, err := consuming{shards: backlogShards, batch: liveBatch, size: backlogBytes}.run(e, filepath.Join(dir, "live"), sys)
	if err != nil {
		return nil, err
	}
	m[processedPerSecond], m[putsPerSecond], m[cpuPerProcessed] = live[deliveriesPerSecond], live[putsPerSecond], live[cpuPerDelivery]
	want := e.backlogRecords()
	_, err = withBacklog(e, filepath.Join(dir, "backlog"), sys, func(st store) (metrics, error) {
		var processed atomic.Int64
		done := make(chan struct{})
		used := usageNow()
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
			return nil, fmt.Errorf("consumer got only %d of %d records in a minute", processed.Load(), want)
		}
		after := usageNow()
		after.perRecord(m, used, float64(want))
		m[backlogPerSecond] = float64(want) / after.at.Sub(used.at).Seconds()
		return nil, nil
	})
	return m, err
}

// consumeOneByOne has a consumer that gets a record each millisecond.
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

// consuming has a producer and a consumer at the same time.
type consuming struct {
	shards, batch, size int
	pace                time.Duration
	each                bool // each record is checkpointed
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
