package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// usage is the resources that the process has used up to a moment.
type usage struct {
	at             time.Time
	cpu            time.Duration // of all threads; 0 where unknown
	allocs, allocB uint64
}

func usageNow() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{at: time.Now(), cpu: cpuTime(), allocs: m.Mallocs, allocB: m.TotalAlloc}
}

// perRecord adds the usage since an earlier moment, divided by n records.
func (u usage) perRecord(m metrics, since usage, n float64) {
	if n == 0 {
		return
	}
	m[allocsPerRecord] = float64(u.allocs-since.allocs) / n
	m[bytesPerRecord] = float64(u.allocB-since.allocB) / n
	if u.cpu > 0 {
		m[cpuPerRecord] = micros(u.cpu-since.cpu) / n
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// bytesWritten returns the bytes that the process has written to disks. They are known only on
// Linux.
func bytesWritten() (n int64, known bool) {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(data) {
		if rest, found := bytes.CutPrefix(line, []byte("write_bytes: ")); found {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// diskBytes returns the total size of all files below dir. A file that is removed meanwhile
// counts 0.
func diskBytes(dir string) int64 {
	var total int64
	// The function returns no error, so WalkDir returns none.
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// heapBytes returns the live bytes on Go's heap.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // frees memory that finalizers and pools held after the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
