package main

import "time"

// Names of metrics of opening.
const (
	openMillis  = "open ms"
	closeMillis = "close ms"
	heapMiB     = "heap MiB"
)

// openWorkloads are T9: opening after a clean close, and what an open store
// holds while nothing happens.
func openWorkloads() []*workload {
	return []*workload{{
		id:      "T9/open",
		about:   "open a store of many records of 1 KiB in 64 shards, after a clean close",
		main:    openMillis,
		columns: []string{closeMillis, heapMiB},
		notes:   []string{"heap: of Go, right after opening; with cgo, caches and memtables lie outside of it"},
		entries: entriesOf([]system{braidSystem, pebbleSystem}, openFilled),
		targets: []target{
			atMost(100, braidSystem.name, openMillis),
			// The cache, one memtable at rest, and 32 MiB.
			atMost(32+64+32, braidSystem.name, heapMiB),
		},
	}}
}

func openFilled(e *environment, dir string, sys system) (metrics, error) {
	s := settings{shards: 64, callers: 1, batches: true}
	st, err := sys.open(dir, s)
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
	if st, err = sys.open(dir, s); err != nil {
		return nil, err
	}
	m[openMillis] = millis(time.Since(began))
	heap := heapBytes()
	if err := st.close(); err != nil {
		return nil, err
	}
	// What is gone now is what the store held. Other things may have come and
	// gone before it was opened.
	m[heapMiB] = float64(heap-heapBytes()) / mib
	return m, nil
}
