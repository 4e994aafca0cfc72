package main

import (
	"fmt"
	"math"
)

// putColumns are shown of all workloads that put records for a while.
var putColumns = []string{p50Micros, p99Micros, allocsPerRecord, bytesPerRecord, cpuPerRecord}

// putting returns entries of systems under a load.
func putting(systems []system, s settings, producers, batch, size int) []entry {
	s.callers, s.batches = producers, batch > 0
	return entriesOf(systems, func(e *environment, dir string, sys system) (metrics, error) {
		return withStore(sys, dir, s, func(st store) (metrics, error) {
			l := load{producers: producers, batch: batch, values: newValues(size)}
			return l.run(e, st, new(phase))
		})
	})
}

// writeWorkloads are T1 to T4 and T6: puts for a short while.
func writeWorkloads() []*workload {
	all := []*workload{
		durablePuts("T1/puts-c16", 16, atLeastTimes(1.3, recordsPerSecond, pebbleSystem.name), atLeastTimes(8, recordsPerSecond, jetstreamSystem.name)),
		durablePuts("T1/puts-c256", 256, atLeastTimes(1.3, recordsPerSecond, pebbleSystem.name), atLeastTimes(25, recordsPerSecond, jetstreamSystem.name)),
	}
	for _, size := range []int{kib, 100} {
		for _, callers := range []int{16, 1} {
			all = append(all, durableBatches(size, callers))
		}
	}
	one := durablePuts("T3/puts-c1", 1, atLeastTimes(0.9, recordsPerSecond, pebbleSystem.name), oneSyncAnd20())
	one.entries = append(one.entries, putting([]system{floorSystem, recycledFloorSystem}, settings{durable: true, shards: 1}, 1, 0, kib)...)
	all = append(all, one)
	for _, producers := range []int{1, 16} {
		all = append(all, carelessPuts(producers))
	}
	return append(all, manyShards("T6/batches", 1000, 4, kib), manyShards("T6/puts-c256", 0, 256, kib))
}

// durablePuts is single puts with fsync. T1 is with 16 and 256 producers; T3 is
// with one.
func durablePuts(id string, producers int, targets ...target) *workload {
	return &workload{
		id:      id,
		about:   fmt.Sprintf("durable single puts of 1 KiB, %s", plural(producers, "producer")),
		main:    recordsPerSecond,
		columns: putColumns,
		entries: putting(systemsFor(true), settings{durable: true, shards: 1}, producers, 0, kib),
		targets: targets,
	}
}

// oneSyncAnd20 allows a put 20 microseconds beside the fsync that it needs.
func oneSyncAnd20() target {
	return target{
		name:  "p50 us − that of an append with fdatasync ≤ 20",
		limit: 20,
		value: func(r round) (float64, bool) {
			put, ok := r.figure(braidSystem.name, p50Micros)
			floor, alsoOK := r.figure(floorSystem.name, p50Micros)
			return put - floor, ok && alsoOK
		},
	}
}

// twoAllocations allows a put two of them. The figure is the whole process's, so
// what flushes allocate meanwhile is rounded away.
func twoAllocations() target {
	t := atMost(2, braidSystem.name, allocsPerRecord)
	value := t.value
	t.value = func(r round) (float64, bool) {
		v, ok := value(r)
		return math.Round(10*v) / 10, ok
	}
	return t
}

func durableBatches(size, callers int) *workload {
	const batch = 500
	w := &workload{
		id:      fmt.Sprintf("T2/batches-%dB-c%d", size, callers),
		about:   fmt.Sprintf("durable batches of %d records of %d B, %s (JetStream: atomic batches)", batch, size, plural(callers, "caller")),
		main:    recordsPerSecond,
		columns: append([]string{mbPerSecond}, putColumns...),
		entries: putting(systemsFor(true), settings{durable: true, shards: 1}, callers, batch, size),
		notes:   []string{"p50 and p99 are those of a batch"},
	}
	if callers > 1 {
		w.targets = []target{atLeastTimes(0.85, recordsPerSecond, pebbleSystem.name)}
	}
	return w
}

// carelessPuts is single puts without fsync.
func carelessPuts(producers int) *workload {
	w := &workload{
		id:      fmt.Sprintf("T4/nosync-c%d", producers),
		about:   fmt.Sprintf("single puts of 1 KiB without fsync, %s", plural(producers, "producer")),
		main:    recordsPerSecond,
		columns: putColumns,
		entries: putting(systemsFor(false), settings{shards: 1}, producers, 0, kib),
		targets: []target{
			atLeastTimes(0.8, recordsPerSecond, pebbleSystem.name),
			twoAllocations(),
		},
	}
	if producers == 1 {
		w.targets = append(w.targets, atMost(3, braidSystem.name, p50Micros))
	}
	return w
}

// manyShards is the same load on 1, 64 and 1,000 shards.
func manyShards(id string, batch, producers, size int) *workload {
	w := &workload{
		id:      id,
		about:   fmt.Sprintf("durable puts of %d B by %d producers, spread over shards", size, producers),
		main:    recordsPerSecond,
		base:    "braid, 1 shard",
		columns: append([]string{mbPerSecond}, putColumns...),
	}
	if batch > 0 {
		w.about = fmt.Sprintf("durable batches of %d records of %d B by %d callers, spread over shards", batch, size, producers)
	}
	for _, s := range []system{braidSystem, pebbleSystem} {
		for _, shards := range []int{1, 64, 1000} {
			e := putting([]system{s}, settings{durable: true, shards: shards}, producers, batch, size)[0]
			e.name = fmt.Sprintf("%s, %s", s.name, plural(shards, "shard"))
			w.entries = append(w.entries, e)
		}
	}
	w.targets = []target{{
		name: "records/s at 1,000 shards ≥ 0.8 × at 1", limit: 0.8, atLeast: true,
		value: func(r round) (float64, bool) {
			return r.ratio("braid, 1,000 shards", recordsPerSecond, "braid, 1 shard", recordsPerSecond)
		},
	}}
	return w
}

// plural returns a number of things in words.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(float64(n)) + " " + thing + "s"
}
