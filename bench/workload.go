package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"
)

// metrics has the figures of one sample, by the names below.
type metrics map[string]float64

// Names of metrics, which are also the titles of columns.
const (
	secondsMeasured  = "seconds" // the duration behind rates
	recordsPerSecond = "records/s"
	mbPerSecond      = "MB/s"
	p50Micros        = "p50 us"
	p99Micros        = "p99 us"
	allocsPerRecord  = "allocs/rec"
	bytesPerRecord   = "B/rec"
	cpuPerRecord     = "CPU us/rec"
)

// workload is one measurement of one or several systems.
type workload struct {
	id      string // matched by -run, such as "T1/puts-c16"
	about   string
	main    string   // the metric whose ratio counts
	columns []string // further metrics to show, in order
	base    string   // the entry that others are compared with; raw Pebble if empty
	repeats int      // instead of the environment's, unless it is 0
	entries []entry
	targets []target
	notes   []string // notes on the figures
}

// entry is a system doing the workload.
type entry struct {
	name string
	run  func(env *environment, dir string) (metrics, error)
	slow bool // it is measured in the first round only, and not with -quick
	disk disk
}

// entriesOf returns one entry for each system, with the same measurement.
func entriesOf(systems []system, run func(env *environment, dir string, s system) (metrics, error)) []entry {
	var entries []entry
	for _, s := range systems {
		entries = append(entries, entry{name: s.name, run: func(env *environment, dir string) (metrics, error) {
			return run(env, dir, s)
		}})
	}
	return entries
}

// environment has the durations and sizes of measurements.
type environment struct {
	dir     string        // the parent of the samples' directories
	repeats int           // of each workload
	window  time.Duration // the measured time of a sample, after warmup
	warmup  time.Duration
	load    int64 // bytes to be read
	sustain int64 // bytes to be written by the workloads that write long
	retain  int64 // bytes that these retain when they trim
	records int   // in the store of open workloads

	// The needs of servers, made at the first use. An error of type skipped says why they are
	// unavailable.
	npmPackages  func() (dir string, err error)
	braidKinesis func() (program string, err error)
}

// round is one repeat of a workload: the metrics of each entry.
type round map[string]metrics

// rounds returns the number of repeats of a workload.
func (e *environment) rounds(w *workload) int { return cmp.Or(w.repeats, e.repeats) }

// runWorkload runs the entries in turn, beginning with another one in each round, so that
// changes of the machine affect all alike. It omits an entry that cannot run on this machine,
// and a note of the workload says why.
func (e *environment) runWorkload(w *workload, progress func(entry string, repeat int)) ([]round, error) {
	rounds := make([]round, e.rounds(w))
	without := make(map[string]bool)
	for repeat := range rounds {
		rounds[repeat] = make(round)
		for i := range w.entries {
			entry := &w.entries[(i+repeat)%len(w.entries)]
			if without[entry.name] || entry.slow && repeat > 0 {
				continue
			}
			progress(entry.name, repeat)
			m, err := e.sample(entry)
			if s, isSkip := errors.AsType[skipped](err); isSkip {
				without[entry.name] = true
				w.notes = append(w.notes, entry.name+" is "+s.Error())
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s with %s: %w", w.id, entry.name, err)
			}
			rounds[repeat][entry.name] = m
		}
	}
	return rounds, nil
}

// sample runs an entry once, in a fresh directory and with a clean heap.
func (e *environment) sample(entry *entry) (m metrics, err error) {
	dir, err := entry.disk.dir(e.dir)
	if err != nil {
		return nil, err
	}
	dir, err = os.MkdirTemp(dir, "braid-bench-sample-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	runtime.GC()
	debug.FreeOSMemory()
	return entry.run(e, filepath.Join(dir, "data"))
}

// withStore runs fn with an open store, and closes that.
func withStore(s system, dir string, settings settings, fn func(store) (metrics, error)) (m metrics, err error) {
	st, err := s.open(dir, settings)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() {
		if closed := st.close(); closed != nil {
			err = errors.Join(err, fmt.Errorf("close: %w", closed))
		}
	}()
	return fn(st)
}
