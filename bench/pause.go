package main

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

// pause blocks the goroutine for d, as precisely as the machine can without burning a core: it
// sleeps in the kernel for d less the usual oversleep, and reads the clock until the rest is
// over. Like in an fsync, the thread is in a system call.
func pause(d time.Duration) {
	end := time.Now().Add(d)
	if early := d - oversleep(); early > 0 {
		sleep(early)
	}
	for time.Until(end) > 0 {
	}
}

const (
	pauseTrials = 64
	pauseTrial  = 50 * time.Microsecond
)

// oversleep returns how much longer than requested a sleep in the kernel usually takes.
var oversleep = sync.OnceValue(func() time.Duration {
	over := make([]time.Duration, pauseTrials)
	for i := range over {
		began := time.Now()
		sleep(pauseTrial)
		over[i] = time.Since(began) - pauseTrial
	}
	slices.Sort(over)
	return over[len(over)*3/4]
})

// syncTimes measures the real durations of syncs of the disk.
func (d disk) syncTimes(realDir string) (p50, p99 time.Duration, err error) {
	dir, err := d.dir(realDir)
	if err != nil {
		return 0, 0, err
	}
	if dir, err = os.MkdirTemp(dir, "braid-bench-disk-"); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := settings{durable: true, shards: 1, callers: 1, disk: d}
	st, err := floorSystem.open(dir, s)
	if err != nil {
		return 0, 0, err
	}
	p, err := st.producer(0)
	if err != nil {
		return 0, 0, err
	}
	var h histogram
	value := make([]byte, kib)
	for began := time.Now(); h.total < 20 || time.Since(began) < 50*time.Millisecond; {
		call := time.Now()
		if err := p.put(value); err != nil {
			return 0, 0, err
		}
		h.add(time.Since(call))
	}
	return h.quantile(0.5), h.quantile(0.99), st.close()
}
