package main

import (
	"fmt"
	"math"
)

// putColumns are the columns of all workloads that put records for a while.
var putColumns = []string{p50Micros, p99Micros, allocsPerRecord, bytesPerRecord, cpuPerRecord}

const batchRecords = 500 // of a batch of T2

// putting returns one entry for each system under a load.
func putting(systems []system, s settings, producers, batch, size int) []entry {
	s.callers, s.batches = producers, batch > 0
	entries := entriesOf(systems, func(e *environment, dir string, sys system) (metrics, error) {
		return withStore(sys, dir, s, func(st store) (metrics, error) {
			l := load{producers: producers, batch: batch, values: newValues(size)}
			return l.run(e, st, new(phase))
		})
	})
	for i := range entries {
		entries[i].disk = s.disk
	}
	return entries
}

// durableWorkloads are T1 to T3 and T6: durable puts for a short while. They are
// measured on each disk.
func durableWorkloads(d disk) []*workload {
	many, crowd := durablePuts("T1/puts-c16", 16, d), durablePuts("T1/puts-c256", 256, d)
	for _, w := range []*workload{many, crowd} {
		limit := 1.4
		if w == crowd {
			limit = 1.7
		}
		w.targets = []target{
			atLeastTimes(limit, recordsPerSecond, pebbleSystem.name), aheadOfPeers(recordsPerSecond),
			atLeastTimes(0.4, recordsPerSecond, readyGroups),
		}
		w.targets = append(w.targets, d.cpuTargets(1)...)
	}
	all := []*workload{many, crowd}
	for _, shards := range []int{1, 64} {
		for _, size := range []int{kib, 100} {
			for _, callers := range []int{16, 1} {
				all = append(all, durableBatches(size, callers, shards, d))
			}
		}
	}
	one := durablePuts("T3/puts-c1", 1, d)
	one.entries = append(one.entries, putting([]system{floorSystem, recycledFloorSystem}, settings{durable: true, shards: 1, disk: d}, 1, 0, kib)...)
	one.targets = []target{
		atLeastTimes(0.97, recordsPerSecond, pebbleSystem.name),
		beyondAtMost(20, braidSystem.name, p50Micros, floorSystem.name, p50Micros),
	}
	one.targets = append(one.targets, d.cpuTargets(1)...)
	return append(all, one, manyShards("T6/batches", 1000, 4, d), manyShards("T6/puts-c256", 0, 256, d))
}

// carelessWorkloads are T4, which do not depend on a disk.
func carelessWorkloads() []*workload {
	return []*workload{carelessPuts(1), carelessPuts(16)}
}

// durablePuts is single puts with fsync. T1 is with 16 and 256 producers; T3 is
// with one.
func durablePuts(id string, producers int, d disk) *workload {
	w := &workload{
		id:      d.workload(id),
		about:   "durable single puts of 1 KiB, " + plural(producers, "producer"),
		main:    recordsPerSecond,
		columns: putColumns,
		entries: putting(systemsFor(true), settings{durable: true, shards: 1, disk: d}, producers, 0, kib),
	}
	if producers > 1 {
		w.entries = append(w.entries, readyGroupsOf(producers, kib, d))
		w.notes = []string{readyGroups + ": one goroutine appends as many records at once as there are producers, and syncs; p50 and p99 are those of a group"}
	}
	return w
}

// readyGroupsOf returns the floor of a load with that many records in concurrent calls.
func readyGroupsOf(records, size int, d disk) entry {
	e := putting([]system{floorSystem}, settings{durable: true, shards: 1, disk: d}, 1, records, size)[0]
	e.name = readyGroups
	return e
}

// cpuTargets is T12 on the disk. A simulated disk has no target: waiting costs some CPU time,
// too.
func (d disk) cpuTargets(limit float64) []target {
	if d.simulated() {
		return nil
	}
	return []target{cpuTarget(limit)}
}

// noAllocations is a target for braid's allocations per put. The figure is of the whole
// process, so allocations of flushes are rounded away.
func noAllocations(limit float64) target {
	t := atMost(limit, braidSystem.name, allocsPerRecord)
	value := t.value
	t.value = func(r round) (reading, bool) {
		read, ok := value(r)
		read.value = math.Round(10*read.value) / 10
		return read, ok
	}
	return t
}

func durableBatches(size, callers, shards int, d disk) *workload {
	id := fmt.Sprintf("T2/batches-%dB-c%d", size, callers)
	if shards > 1 {
		id = fmt.Sprintf("%s-s%d", id, shards)
	}
	w := &workload{
		id: d.workload(id),
		about: fmt.Sprintf("durable batches of %d records of %d B, %s, %s (JetStream: atomic batches)",
			batchRecords, size, plural(callers, "caller"), plural(shards, "shard")),
		main:    recordsPerSecond,
		columns: append([]string{mbPerSecond}, putColumns...),
		entries: putting(systemsFor(true), settings{durable: true, shards: shards, disk: d}, callers, batchRecords, size),
		notes:   []string{"p50 and p99 are those of a batch; raw Pebble writes a row for each record; bbolt, tidwall/wal and raft-wal know no shards"},
	}
	w.entries = append(w.entries, readyGroupsOf(callers*batchRecords, size, d))
	limit, cpu := 1.1, 1.0
	switch {
	case size < kib && shards == 1:
		limit, cpu = 1.5, 0.8
	case size < kib:
		limit, cpu = 1.25, 0.8
	case shards > 1:
		limit = 1
	}
	w.targets = []target{atLeastTimes(limit, recordsPerSecond, pebbleSystem.name)}
	if shards == 1 {
		w.targets = append(w.targets, aheadOfPeers(recordsPerSecond))
	}
	w.targets = append(w.targets, d.cpuTargets(cpu)...)
	return w
}

// carelessPuts is single puts without fsync.
func carelessPuts(producers int) *workload {
	limit := 0.9
	if producers > 1 {
		limit = 1.2
	}
	return &workload{
		id:      fmt.Sprintf("T4/nosync-c%d", producers),
		about:   fmt.Sprintf("single puts of 1 KiB without fsync, %s", plural(producers, "producer")),
		main:    recordsPerSecond,
		columns: putColumns,
		entries: putting(systemsFor(false), settings{shards: 1}, producers, 0, kib),
		targets: []target{
			atLeastTimes(limit, recordsPerSecond, pebbleSystem.name),
			atMostTimes(1.3, p50Micros, pebbleSystem.name),
			noAllocations(1.5), cpuTarget(1),
		},
	}
}

// shardCounts are the numbers of shards in T6.
var shardCounts = []int{1, 64, 1000, 10_000}

// manyShards is the same load on 1 to 10,000 shards.
func manyShards(id string, batch, producers int, d disk) *workload {
	w := &workload{
		id:      d.workload(id),
		about:   fmt.Sprintf("durable puts of 1 KiB by %d producers, spread over shards", producers),
		main:    recordsPerSecond,
		base:    onShards(braidSystem, 1),
		columns: append([]string{mbPerSecond}, putColumns...),
	}
	if batch > 0 {
		w.about = fmt.Sprintf("durable batches of %d records of 1 KiB by %d callers, spread over shards", batch, producers)
	}
	for _, s := range []system{braidSystem, pebbleSystem} {
		for _, shards := range shardCounts {
			e := putting([]system{s}, settings{durable: true, shards: shards, disk: d}, producers, batch, kib)[0]
			e.name = onShards(s, shards)
			w.entries = append(w.entries, e)
		}
	}
	for _, t := range []struct {
		shards int
		limit  float64
	}{{1000, 0.85}, {10_000, 0.7}} {
		w.targets = append(w.targets, target{
			name:  fmt.Sprintf("records/s at %s shards ≥ %s × at 1", number(float64(t.shards)), number(t.limit)),
			limit: t.limit, atLeast: true,
			value: ratioTo(recordsPerSecond, onShards(braidSystem, t.shards), onShards(braidSystem, 1)),
		})
	}
	return w
}

// onShards returns the name of an entry of T6.
func onShards(s system, shards int) string {
	return fmt.Sprintf("%s, %s", s.name, plural(shards, "shard"))
}

// plural returns a number of things in words.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(float64(n)) + " " + thing + "s"
}
