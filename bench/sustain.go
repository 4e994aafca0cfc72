package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Names of metrics of writing for long.
const (
	firstMBs      = "first MB/s"
	lastMBs       = "last MB/s"
	lastOverFirst = "last/first"
	stallMillis   = "stall ms"
	callP99       = "call p99 ms"
	writtenTimes  = "written x"
	diskPeakMiB   = "disk MiB"
	trimP50       = "trim p50 ms"
	trimMax       = "trim max ms"
	cpuPerGiB     = "CPU s/GiB"
)

const (
	sustainShards  = 64
	sustainCallers = 2
	sustainBatch   = 1000 // records of 1 KiB: about a megabyte
	trimEvery      = 64 * mib

	// The share of the size of records, which are half compressible, that tables take, and
	// other data on the disk: logs of four memtables, and some slack.
	compressedShare = 0.57
	walMiB          = 4 * 64
	slackMiB        = 128
)

// sustainWorkloads are T5: writing for so long that no work can be deferred.
func sustainWorkloads() []*workload {
	columns := []string{firstMBs, lastMBs, stallMillis, callP99, writtenTimes, diskPeakMiB, cpuPerGiB, cpuPerRecord}
	targets := []target{
		atLeast(0.9, braidSystem.name, lastOverFirst),
		atLeastTimes(1.8, mbPerSecond, pebbleSystem.name),
		atMost(300, braidSystem.name, stallMillis),
		atMost(1.65, braidSystem.name, writtenTimes),
		cpuTarget(1),
	}
	notes := []string{
		"first and last: the first and the last GiB, or thirds if there are not three GiB; disk: the peak of the second half",
		"stall: the longest time in which no call returned; written x: bytes given to the disk by byte of records",
	}
	grow := &workload{
		id:      "T5/grow",
		about:   "durable batches of 1000 records of 1024 B by 2 callers to 64 shards, nothing trimmed",
		main:    mbPerSecond,
		columns: columns,
		notes:   notes,
		targets: targets,
		entries: sustaining(false),
	}
	slide := &workload{
		id:      "T5/slide",
		about:   "the same, repeatedly trimmed to the newest records",
		main:    mbPerSecond,
		columns: slices.Concat([]string{trimP50, trimMax}, columns, diskAt[:]),
		notes:   append(notes, "disk @ 20 % and so on: size of the directory in MiB when that share was written; flat if space is reclaimed"),
		targets: append(append([]target{}, targets...), diskBound()),
		entries: sustaining(true),
	}
	return []*workload{grow, slide}
}

// diskAt has the names of the metrics of the directory's size after each fifth.
var diskAt = [...]string{"disk @ 20 %", "@ 40 %", "@ 60 %", "@ 80 %", "@ 100 %"}

// diskExcess is the peak of the disk's usage above the necessary size.
const diskExcess = "disk excess MiB"

// diskBound is the sum of live data, the logs of four memtables, and 128 MiB.
func diskBound() target {
	t := atMost(slackMiB, braidSystem.name, diskExcess)
	t.name = "disk − live − WAL (MiB) ≤ " + number(slackMiB)
	return t
}

func sustaining(slide bool) []entry {
	return entriesOf([]system{braidSystem, pebbleSystem}, func(e *environment, dir string, sys system) (metrics, error) {
		s := settings{durable: true, shards: sustainShards, callers: sustainCallers, batches: true}
		return withStore(sys, dir, s, func(st store) (metrics, error) {
			run := &sustained{env: e, store: st, dir: dir, values: newValues(kib)}
			if slide {
				run.trimmer = st.(trimmer)
			}
			return run.measure()
		})
	})
}

// sustained is one sample.
type sustained struct {
	env     *environment
	store   store
	dir     string
	values  [][]byte
	trimmer trimmer // nil without trims

	claimed atomic.Int64 // bytes that callers have claimed to write

	mu      sync.Mutex // guards the fields below
	done    []progress // in the order in which calls returned
	marks   []mark     // not trimmed yet, oldest first
	latency histogram
	trims   histogram
}

// progress is the number of bytes written at a time since the start.
type progress struct {
	at    time.Duration
	bytes int64
}

// mark is a position in the order of records.
type mark struct {
	bytes int64
	place uint64
}

func (s *sustained) measure() (metrics, error) {
	writtenBefore, known := bytesWritten()
	used := usageNow()
	stop := make(chan struct{})
	watched := make(chan diskUse)
	go func() { watched <- s.watchDisk(stop) }()

	var group sync.WaitGroup
	errs := make([]error, sustainCallers)
	for i := range errs {
		group.Go(func() { errs[i] = s.call(i, used.at) })
	}
	group.Wait()
	usedAfter := usageNow()
	writtenAfter, _ := bytesWritten()
	close(stop)
	use := <-watched
	disk := float64(use.peak) / mib
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	total := float64(s.done[len(s.done)-1].bytes)
	chunk := min(gib, int64(total)/3)
	m := metrics{
		mbPerSecond: total / usedAfter.at.Sub(used.at).Seconds() / 1e6,
		firstMBs:    s.rate(0, chunk),
		lastMBs:     s.rate(int64(total)-chunk, int64(total)),
		stallMillis: millis(s.longestGap()),
		callP99:     millis(s.latency.quantile(0.99)),
		diskPeakMiB: disk,
	}
	m[lastOverFirst] = m[lastMBs] / m[firstMBs]
	if usedAfter.cpu > 0 {
		m[cpuPerGiB] = (usedAfter.cpu - used.cpu).Seconds() / (total / gib)
		m[cpuPerRecord] = micros(usedAfter.cpu-used.cpu) / (total / kib)
	}
	if known {
		m[writtenTimes] = float64(writtenAfter-writtenBefore) / total
	}
	if s.trimmer != nil {
		for i, bytes := range use.at {
			m[diskAt[i]] = float64(bytes) / mib
		}
		m[trimP50] = millis(s.trims.quantile(0.5))
		m[trimMax] = millis(s.trims.max)
		m[diskExcess] = disk - compressedShare*float64(s.env.retain)/mib - walMiB
	}
	return m, nil
}

// call is a caller: it writes until all is claimed.
func (s *sustained) call(n int, start time.Time) error {
	p, err := s.store.producer(n)
	if err != nil {
		return err
	}
	values := startValues(s.values, n)
	batch := make([][]byte, sustainBatch)
	size := int64(len(batch) * len(s.values[0]))
	for s.claimed.Add(size) <= s.env.sustain {
		values.fill(batch)
		began := time.Now()
		if err := p.putBatch(batch); err != nil {
			return err
		}
		place, due := s.note(start, began, size)
		if !due {
			continue
		}
		began = time.Now()
		if err := s.trimmer.trim(place); err != nil {
			return fmt.Errorf("trim: %w", err)
		}
		s.mu.Lock()
		s.trims.add(time.Since(began))
		s.mu.Unlock()
	}
	return nil
}

// note records the return of a call. It returns the mark to trim to, if more than the retained
// bytes follow it.
func (s *sustained) note(start, began time.Time, size int64) (place uint64, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.latency.add(now.Sub(began))
	bytes := size
	if n := len(s.done); n > 0 {
		bytes += s.done[n-1].bytes
	}
	s.done = append(s.done, progress{now.Sub(start), bytes})
	if s.trimmer == nil {
		return 0, false
	}
	if n := len(s.marks); n == 0 || bytes-s.marks[n-1].bytes >= trimEvery {
		s.marks = append(s.marks, mark{bytes, s.trimmer.mark()})
	}
	if bytes-s.marks[0].bytes < s.env.retain {
		return 0, false
	}
	place = s.marks[0].place
	s.marks = s.marks[1:]
	return place, true
}

// rate returns the MB/s between two amounts of written bytes.
func (s *sustained) rate(from, to int64) float64 {
	begin := progress{}
	for _, p := range s.done {
		if p.bytes <= from {
			begin = p
		}
		if p.bytes >= to {
			return float64(p.bytes-begin.bytes) / (p.at - begin.at).Seconds() / 1e6
		}
	}
	return 0
}

// longestGap returns the longest time in which no call returned.
func (s *sustained) longestGap() time.Duration {
	var longest, last time.Duration
	for _, p := range s.done {
		longest = max(longest, p.at-last)
		last = p.at
	}
	return longest
}

// diskUse is the size of the directory over time.
type diskUse struct {
	peak int64              // the maximum since half was written
	at   [len(diskAt)]int64 // after each fifth
}

// watchDisk measures the directory until stop is closed.
func (s *sustained) watchDisk(stop <-chan struct{}) (use diskUse) {
	fifth := 0
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			bytes := diskBytes(s.dir)
			for ; fifth < len(use.at); fifth++ {
				use.at[fifth] = bytes
			}
			use.peak = max(use.peak, bytes)
			return use
		case <-ticker.C:
			claimed := s.claimed.Load()
			if next := int64(fifth+1) * s.env.sustain / int64(len(use.at)); claimed >= next && fifth < len(use.at) {
				use.at[fifth] = diskBytes(s.dir)
				fifth++
			}
			if claimed > s.env.sustain/2 {
				use.peak = max(use.peak, diskBytes(s.dir))
			}
		}
	}
}
