package main

import "time"

// Names of metrics of opening.
const (
	openMillis  = "open ms"
	closeMillis = "close ms"
	crashMillis = "after a kill ms"
	heapMiB     = "heap MiB"
)

var openSettings = settings{shards: 64, callers: 1, batches: true}

// openWorkloads are T9: opening after a clean close and after a kill, and the memory of an idle
// store.
func openWorkloads() []*workload {
	return []*workload{{
		id:      "T9/open",
		about:   "open a store of many records of 1 KiB in 64 shards, after a clean close and after a kill",
		main:    openMillis,
		columns: []string{crashMillis, closeMillis, heapMiB},
		notes: []string{
			"heap: of Go, right after opening; with cgo, caches and memtables lie outside of it",
			"after a kill: another process has written as many records, without fsync, and was killed right after the last one",
		},
		entries: entriesOf([]system{braidSystem, pebbleSystem}, openFilled),
		targets: []target{
			atMost(50, braidSystem.name, openMillis),
			atMost(400, braidSystem.name, crashMillis),
			// The cache, one memtable at rest, and 16 MiB.
			atMost(32+64+16, braidSystem.name, heapMiB),
		},
	}}
}

func openFilled(e *environment, dir string, sys system) (metrics, error) {
	st, err := sys.open(dir, openSettings)
	if err != nil {
		return nil, err
	}
	filled := fill(st, newValues(kib), int64(e.records)*kib)
	began := time.Now()
	if err := st.close(); err != nil {
		return nil, err
	}
	m := metrics{closeMillis: millis(time.Since(began))}
	if filled != nil {
		return nil, filled
	}
	began = time.Now()
	if st, err = sys.open(dir, openSettings); err != nil {
		return nil, err
	}
	m[openMillis] = millis(time.Since(began))
	heap := heapBytes()
	if err := st.close(); err != nil {
		return nil, err
	}
	// The memory freed by the close is the store's. Memory from before its opening does not
	// count.
	m[heapMiB] = float64(heap-heapBytes()) / mib
	if sys.name != braidSystem.name {
		return m, nil
	}
	crashed := dir + "-killed"
	if err := fillAndDie(crashed, e.records); err != nil {
		return nil, err
	}
	began = time.Now()
	if st, err = sys.open(crashed, openSettings); err != nil {
		return nil, err
	}
	m[crashMillis] = millis(time.Since(began))
	return m, st.close()
}
