package main

import (
	"fmt"
	"time"
)

// Names of metrics of reading.
const (
	streamCold    = "stream cold MB/s"
	streamWarm    = "stream warm MB/s"
	streamRecords = "stream rec/s"
	shardCold     = "shard cold MB/s"
	shardWarm     = "shard warm MB/s"
	shardRecords  = "shard rec/s"
)

const (
	readShards     = 64
	maxReadRecords = 1_000_000 // enough, however small they are
)

// readWorkloads are T7: replay.
func readWorkloads() []*workload {
	var all []*workload
	for _, size := range []int{kib, 100} {
		w := &workload{
			id:      fmt.Sprintf("T7/replay-%dB", size),
			about:   fmt.Sprintf("replay of records of %d B in 64 shards: the whole stream, and shard by shard", size),
			main:    streamCold,
			columns: []string{streamWarm, streamRecords, shardCold, shardWarm, shardRecords, allocsPerRecord, cpuPerRecord},
			notes: []string{
				"cold: right after opening, caches of the system empty (those of the operating system are not); warm: once more",
				borrowSystem.name + ": records whose data is valid for a moment only, as what raw Pebble shows",
				"raw Pebble reads a stream shard after shard, braid in the order of arrival; rec/s: the warm rate; allocs and CPU: of the whole stream, warm",
			},
			entries: entriesOf([]system{braidSystem, borrowSystem, secretSystem, pebbleSystem}, func(e *environment, dir string, sys system) (metrics, error) {
				return replay(e, dir, sys, size)
			}),
		}
		limit := 0.6
		if size == 100 {
			limit = 1
		}
		rates := []string{streamCold, streamWarm, shardCold, shardWarm}
		for _, metric := range rates {
			w.targets = append(w.targets, atLeastTimes(limit, metric, pebbleSystem.name))
		}
		for _, metric := range rates {
			w.targets = append(w.targets, target{
				name:  metric + " encrypted ≥ 0.70 × plain",
				limit: 0.7, atLeast: true,
				value: ratioTo(metric, secretSystem.name, braidSystem.name),
			})
		}
		all = append(all, w)
	}
	return all
}

// replay fills a store, and reads the stream and the shards twice each, after reopening the
// store.
func replay(e *environment, dir string, sys system, size int) (metrics, error) {
	s := settings{shards: readShards, callers: 1, batches: true}
	load := min(e.load, maxReadRecords*int64(size))
	_, err := withStore(sys, dir, s, func(st store) (metrics, error) {
		return nil, fill(st, newValues(size), load)
	})
	if err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	want := load / int64(size)
	m := metrics{}
	_, err = withStore(sys, dir, s, func(st store) (metrics, error) {
		stream := func() (int64, int64, error) { return st.(scanner).scan(allShards) }
		return nil, m.scanTwice(want, streamCold, streamWarm, streamRecords, stream)
	})
	if err != nil {
		return nil, err
	}
	_, err = withStore(sys, dir, s, func(st store) (metrics, error) {
		each := func() (records, bytes int64, err error) {
			for shard := range readShards {
				n, b, err := st.(scanner).scan(shard)
				if err != nil {
					return 0, 0, err
				}
				records, bytes = records+n, bytes+b
			}
			return records, bytes, nil
		}
		return nil, m.scanTwice(want, shardCold, shardWarm, shardRecords, each)
	})
	return m, err
}

// fill puts records with a total of that many bytes, in batches of a megabyte.
func fill(st store, values [][]byte, bytes int64) error {
	size := int64(len(values[0]))
	return fillBatches(st, values, bytes/size, mib/size)
}

// fillBatches puts n records, in batches of a size that the system accepts.
func fillBatches(st store, values [][]byte, records, size int64) error {
	p, err := st.producer(0)
	if err != nil {
		return err
	}
	cursor := startValues(values, 0)
	for left := records; left > 0; {
		batch := make([][]byte, min(left, size))
		cursor.fill(batch)
		if err := p.putBatch(batch); err != nil {
			return err
		}
		left -= int64(len(batch))
	}
	return nil
}

// scanTwice reads twice, and records the rates of the first and the second time.
func (m metrics) scanTwice(want int64, cold, warm, perSecond string, scan func() (records, bytes int64, err error)) error {
	for _, name := range []string{cold, warm} {
		used := usageNow()
		began := time.Now()
		records, bytes, err := scan()
		if err != nil {
			return err
		}
		if records != want {
			return fmt.Errorf("read %d records where %d were put", records, want)
		}
		took := time.Since(began).Seconds()
		m[name] = float64(bytes) / took / 1e6
		if name == warm {
			m[perSecond] = float64(records) / took
			if name == streamWarm {
				usageNow().perRecord(m, used, float64(records))
			}
		}
	}
	return nil
}
