package braid

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// BenchmarkDisks measures single puts of 1 KiB on disks whose fsync takes a known time,
// so that its result does not depend on the disk of the machine. Three designs take turns:
// braid; Pebble with a batch per put, which keeps no order; and group, a bare form of
// braid's own design, which shows what braid's path costs beyond it. Reported are the
// medians in records per second, and braid's ratio to the others. Run it with -benchtime 1x.
func BenchmarkDisks(b *testing.B) {
	for _, fsync := range []time.Duration{0, 50 * time.Microsecond, 200 * time.Microsecond, time.Millisecond} {
		for _, producers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("fsync=%v/producers=%d", fsync, producers), func(b *testing.B) {
				for range b.N {
					benchmarkDisk(b, fsync, producers)
				}
			})
		}
	}
}

// benchmarkDisk compares the designs. If fsync is 0, nothing is synced.
func benchmarkDisk(b *testing.B, fsync time.Duration, producers int) {
	const turns = 5
	designs := []struct {
		name string
		open func(b *testing.B, disk vfs.FS, sync bool) (put func(i uint64, data []byte) error, stop func() error)
	}{{"braid", openBraid}, {"pebble", openPebble}, {"group", openGroups}}
	rates := make(map[string][]float64)
	for turn := range turns {
		for i := range designs {
			d := designs[(turn+i)%len(designs)]
			put, stop := d.open(b, newTimedDisk(fsync), fsync > 0)
			rates[d.name] = append(rates[d.name], putRate(b, producers, put))
			require.NoError(b, stop())
			runtime.GC()
		}
	}
	median := func(name string) float64 {
		slices.Sort(rates[name])
		return rates[name][turns/2]
	}
	for _, d := range designs {
		b.ReportMetric(median(d.name), d.name+"/s")
	}
	b.ReportMetric(median("braid")/median("pebble"), "of-pebble")
	b.ReportMetric(median("braid")/median("group"), "of-group")
	b.ReportMetric(0, "ns/op")
}

// putRate lets producers put for a while, and returns how many records a second they put.
func putRate(b *testing.B, producers int, put func(i uint64, data []byte) error) float64 {
	const warmUp, length = 50 * time.Millisecond, 300 * time.Millisecond
	counts := make([]int, producers)
	start := time.Now()
	var running sync.WaitGroup
	for p := range producers {
		running.Go(func() {
			data := make([]byte, 1024)
			for i := uint64(p); ; i += uint64(producers) {
				if err := put(i, data); err != nil {
					b.Error(err)
					return
				}
				switch age := time.Since(start); {
				case age > warmUp+length:
					return
				case age > warmUp:
					counts[p]++
				}
			}
		})
	}
	running.Wait()
	n := 0
	for _, count := range counts {
		n += count
	}
	return float64(n) / length.Seconds()
}

// newTimedDisk returns a file system in memory whose files take that long to sync.
func newTimedDisk(fsync time.Duration) vfs.FS { return timedDisk{vfs.NewMem(), fsync} }

type timedDisk struct {
	vfs.FS
	fsync time.Duration
}

func (d timedDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	return d.wrap(f, name), err
}

func (d timedDisk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, category)
	return d.wrap(f, newname), err
}

func (d timedDisk) wrap(f vfs.File, name string) vfs.File {
	timed := timedFile{f, d.fsync}
	if strings.HasSuffix(name, ".log") {
		return &timedLog{timedFile: timed}
	}
	return timed
}

type timedFile struct {
	vfs.File
	fsync time.Duration
}

func (f timedFile) Sync() error     { return f.SyncData() }
func (f timedFile) SyncData() error { f.wait(); return nil }

// wait puts the thread to sleep, as a system call to a real disk does. A timer would not.
func (f timedFile) wait() {
	if f.fsync > 0 {
		const setTimerSlack = 29 // PR_SET_TIMERSLACK: otherwise Linux adds 50 µs
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
		spec := syscall.NsecToTimespec(int64(f.fsync))
		_ = syscall.Nanosleep(&spec, nil)
	}
}

// timedLog copies written data once, as the kernel does, and drops it. A file in memory would
// be copied again and again while it grows.
type timedLog struct {
	timedFile
	cache [1 << 20]byte
	used  int
}

func (f *timedLog) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := copy(f.cache[f.used:], rest)
		rest, f.used = rest[n:], (f.used+n)%len(f.cache)
	}
	return len(p), nil
}

func openBraid(b *testing.B, disk vfs.FS, sync bool) (put func(uint64, []byte) error, stop func() error) {
	opts := &Options{ReserveBytes: -1}
	if !sync {
		opts.Durability = NoSync
	}
	db, err := open("/db", opts, environment{fs: disk})
	require.NoError(b, err)
	s, err := db.CreateStream(b.Context(), "s", nil)
	require.NoError(b, err)
	var keys [1024]string
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%04d", i)
	}
	return func(i uint64, data []byte) error {
		_, err := s.PutRecord(context.Background(), keys[i%uint64(len(keys))], data)
		return err
	}, db.Close
}

// openTuned opens Pebble with the options that matter to a log.
func openTuned(b *testing.B, disk vfs.FS) *pebble.DB {
	db, err := pebble.Open("/db", &pebble.Options{
		FS:                          disk,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      quietLogger{},
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       32,
		L0StopWritesThreshold:       1000,
		CacheSize:                   32 << 20,
	})
	require.NoError(b, err)
	return db
}

type quietLogger struct{ pebble.Logger }

func (quietLogger) Infof(string, ...any)  {}
func (quietLogger) Errorf(string, ...any) {}

func openPebble(b *testing.B, disk vfs.FS, sync bool) (put func(uint64, []byte) error, stop func() error) {
	db := openTuned(b, disk)
	options := &pebble.WriteOptions{Sync: sync}
	return func(i uint64, data []byte) error {
		return db.Set(rowKey(i), data, options)
	}, db.Close
}

func rowKey(i uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 8, 16), i)
}

// rowGroup is a group of rows that are committed together.
type rowGroup struct {
	rows []row
	done chan struct{} // closed when it is committed
	err  error
}

type row struct{ key, value []byte }

// openGroups starts a goroutine that commits the rows of callers in groups. It yields while
// the group still grows.
func openGroups(b *testing.B, disk vfs.FS, durable bool) (put func(uint64, []byte) error, stop func() error) {
	db := openTuned(b, disk)
	options := &pebble.WriteOptions{Sync: durable}
	var (
		mu     sync.Mutex // guards the group and closed
		group  = &rowGroup{done: make(chan struct{})}
		closed bool
		bell   = make(chan struct{}, 1)
		ended  = make(chan struct{})
	)
	ring := func() {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
	take := func() *rowGroup {
		for {
			for seen, yields := 0, 0; yields < 4; yields++ {
				mu.Lock()
				n := len(group.rows)
				mu.Unlock()
				if n == seen {
					break
				}
				seen = n
				runtime.Gosched()
			}
			mu.Lock()
			if g := group; len(g.rows) > 0 || closed {
				group = &rowGroup{rows: make([]row, 0, len(g.rows)), done: make(chan struct{})}
				mu.Unlock()
				return g
			}
			mu.Unlock()
			<-bell
		}
	}
	go func() {
		defer close(ended)
		batch := db.NewBatch()
		for {
			g := take()
			if len(g.rows) == 0 {
				return
			}
			for _, r := range g.rows {
				if err := batch.Set(r.key, r.value, nil); err != nil {
					g.err = err
				}
			}
			if err := batch.Commit(options); err != nil {
				g.err = err
			}
			batch.Reset()
			close(g.done)
		}
	}()
	put = func(i uint64, data []byte) error {
		r := row{rowKey(i), data}
		mu.Lock()
		g := group
		g.rows = append(g.rows, r)
		first := len(g.rows) == 1
		mu.Unlock()
		if first {
			ring()
		}
		<-g.done
		return g.err
	}
	stop = func() error {
		mu.Lock()
		closed = true
		mu.Unlock()
		ring()
		<-ended
		return db.Close()
	}
	return put, stop
}
