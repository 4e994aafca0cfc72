//go:build unix

package braid_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// BenchmarkWake measures the time from the call of a put until a follower has the record,
// without fsync, and the cost of a delivery. Each is shown beside its lower bounds. An op is a
// put.
//
//   - braid: Stream.PutRecord and Shard.Follow.
//   - stream: the same with Stream.Follow.
//   - pebble: a raw put to Pebble, then a slice in memory and a closed channel.
//   - bare: only the slice and the channel.
//
// The paced ones wait in real time, so give them a number of puts: -benchtime 20000x.
func BenchmarkWake(b *testing.B) {
	loads := []wakeLoad{
		{name: "1 reader in turn", producers: 1, shards: 1, readers: 1, inTurn: true},
		{name: "1 reader paced", producers: 1, shards: 1, readers: 1, pace: time.Millisecond},
		{name: "1000 readers paced", producers: 16, shards: 64, readers: 1000, pace: time.Millisecond},
		{name: "1000 readers full speed", producers: 256, shards: 64, readers: 1000},
	}
	for _, onDisk := range []bool{false, true} {
		place := "memory"
		if onDisk {
			place = "disk"
		}
		for _, load := range loads {
			b.Run(fmt.Sprintf("%s/%s", load.name, place), func(b *testing.B) {
				b.Run("braid", func(b *testing.B) { load.run(b, openWakeBraid(b, onDisk, load.shards, false)) })
				if load.readers == 1 {
					b.Run("stream", func(b *testing.B) { load.run(b, openWakeBraid(b, onDisk, load.shards, true)) })
				}
				b.Run("pebble", func(b *testing.B) { load.run(b, openWakeFloor(b, onDisk, load.shards)) })
				if !onDisk {
					b.Run("bare", func(b *testing.B) { load.run(b, &wakeFloor{shards: make([]wakeFloorShard, load.shards)}) })
				}
			})
		}
	}
}

// wakeSystem is something that producers put to and readers follow.
type wakeSystem interface {
	// put returns the shard that got the record.
	put(n int, data []byte) (shard int, err error)
	// follow calls fn with every record put from now on, on a goroutine that close ends.
	follow(shard int, fn func(data []byte))
	close()
}

type wakeLoad struct {
	name                       string
	producers, shards, readers int
	pace                       time.Duration // the time between the puts of a producer
	inTurn                     bool          // whether a put waits until the reader has the previous record
}

const wakeDataBytes = 1024

func (l wakeLoad) run(b *testing.B, sys wakeSystem) {
	start := time.Now()
	shards := make([]struct {
		wanted atomic.Int64 // records that were put
		_      [56]byte
	}, l.shards)
	readers := make([]struct {
		got     int64 // it and the samples belong to its goroutine until close has returned
		samples []time.Duration
		seen    atomic.Int64 // a copy of got, updated from time to time
		_       [64]byte
	}, l.readers)
	every := int64(1)
	if l.pace == 0 && l.readers > 1 { // reading the clock would be a large part of the result
		every = 16
	}
	turn := make(chan struct{}, 1)
	for i := range readers {
		r := &readers[i]
		r.samples = make([]time.Duration, 0, 1+int64(b.N)/every)
		sys.follow(i%l.shards, func(data []byte) {
			if r.got%every == 0 {
				r.samples = append(r.samples, time.Since(start)-time.Duration(binary.LittleEndian.Uint64(data)))
			}
			r.got++
			r.seen.Store(r.got)
			if l.inTurn {
				turn <- struct{}{}
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	used := cpuTime()
	var next atomic.Int64
	var producers sync.WaitGroup
	for range l.producers {
		producers.Go(func() {
			var tick <-chan time.Time
			if l.pace > 0 {
				ticker := time.NewTicker(l.pace)
				defer ticker.Stop()
				tick = ticker.C
			}
			data := make([]byte, wakeDataBytes)
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if tick != nil {
					<-tick
				}
				binary.LittleEndian.PutUint64(data, uint64(time.Since(start)))
				shard, err := sys.put(int(n), data)
				if err != nil {
					b.Error(err)
					return
				}
				shards[shard].wanted.Add(1)
				if l.inTurn {
					<-turn
				}
			}
		})
	}
	producers.Wait()
	deliveries := int64(0)
	for i := range readers {
		wanted := shards[i%l.shards].wanted.Load()
		for readers[i].seen.Load() < wanted {
			runtime.Gosched()
		}
		deliveries += wanted
	}
	b.StopTimer()
	used = cpuTime() - used
	sys.close()
	var samples []time.Duration
	for i := range readers {
		samples = append(samples, readers[i].samples...)
	}
	slices.Sort(samples)
	quantile := func(q float64) float64 {
		return float64(samples[int(q*float64(len(samples)-1))].Nanoseconds()) / 1e3
	}
	if len(samples) > 0 {
		b.ReportMetric(quantile(0.50), "p50-µs")
		b.ReportMetric(quantile(0.99), "p99-µs")
		b.ReportMetric(float64(deliveries)/b.Elapsed().Seconds(), "deliveries/s")
		b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(deliveries), "CPU-µs/delivery")
	}
}

// cpuTime returns the CPU time of the process, in user space and in the kernel.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// wakeBraid follows shards, or the stream if it has but one.
type wakeBraid struct {
	b        *testing.B
	db       *braid.DB
	stream   *braid.Stream
	byStream bool
	shards   map[braid.ShardID]int

	ctx     context.Context
	cancel  context.CancelFunc
	readers sync.WaitGroup
}

func openWakeBraid(b *testing.B, onDisk bool, shards int, byStream bool) *wakeBraid {
	dir := braid.InMemory
	if onDisk {
		dir = b.TempDir()
	}
	db, err := braid.Open(dir, &braid.Options{Durability: braid.NoSync})
	require.NoError(b, err)
	stream, err := db.OpenStream(b.Context(), "bench", &braid.StreamOptions{Shards: shards})
	require.NoError(b, err)
	s := &wakeBraid{b: b, db: db, stream: stream, byStream: byStream, shards: make(map[braid.ShardID]int)}
	for i, sh := range stream.Shards() {
		s.shards[sh.ID()] = i
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *wakeBraid) put(n int, data []byte) (int, error) {
	result, err := s.stream.PutRecord(context.Background(), keys[n%len(keys)], data)
	return s.shards[result.ShardID], err
}

func (s *wakeBraid) follow(shard int, fn func([]byte)) {
	follow := s.stream.Shards()[shard].Follow(s.ctx, braid.Latest())
	if s.byStream {
		follow = s.stream.Follow(s.ctx, braid.Latest())
	}
	s.readers.Go(func() {
		for rec, err := range follow {
			if err != nil {
				if s.ctx.Err() == nil {
					s.b.Error(err)
				}
				return
			}
			fn(rec.Data)
		}
	})
}

func (s *wakeBraid) close() {
	s.cancel()
	s.readers.Wait()
	require.NoError(s.b, s.db.Close())
}

// wakeFloor is the lower bound: a slice in memory and a channel that is closed, after a put to
// Pebble if there is one.
type wakeFloor struct {
	store   *pebble.DB // nil for none
	shards  []wakeFloorShard
	readers sync.WaitGroup
}

type wakeFloorShard struct {
	mu      sync.Mutex // guards the fields below
	records [][]byte
	more    chan struct{} // closed when a record comes; nil while nobody waits
	ended   bool
}

func openWakeFloor(b *testing.B, onDisk bool, shards int) *wakeFloor {
	dir, opts := "db", &pebble.Options{FS: vfs.NewMem(), FormatMajorVersion: pebble.FormatNewest, MemTableSize: 64 << 20, Logger: quietLogger{}}
	if onDisk {
		dir, opts.FS = b.TempDir(), vfs.Default
	}
	store, err := pebble.Open(dir, opts)
	require.NoError(b, err)
	return &wakeFloor{store: store, shards: make([]wakeFloorShard, shards)}
}

type quietLogger struct{}

func (quietLogger) Infof(string, ...any)           {}
func (quietLogger) Errorf(string, ...any)          {}
func (quietLogger) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

func (s *wakeFloor) put(n int, data []byte) (int, error) {
	i := (n * 61) % len(s.shards)
	if s.store != nil {
		var key [20]byte
		binary.BigEndian.PutUint64(key[4:], uint64(i))
		binary.BigEndian.PutUint64(key[12:], uint64(n))
		if err := s.store.Set(key[:], data, pebble.NoSync); err != nil {
			return 0, err
		}
	}
	sh := &s.shards[i]
	sh.mu.Lock()
	sh.records = append(sh.records, append([]byte(nil), data...))
	if sh.more != nil {
		close(sh.more)
		sh.more = nil
	}
	sh.mu.Unlock()
	runtime.Gosched() // as a put that waits for something would
	return i, nil
}

func (s *wakeFloor) follow(shard int, fn func([]byte)) {
	sh := &s.shards[shard]
	s.readers.Go(func() {
		for at := 0; ; {
			sh.mu.Lock()
			records, ended := sh.records[at:], sh.ended
			if len(records) == 0 && sh.more == nil {
				sh.more = make(chan struct{})
			}
			more := sh.more
			sh.mu.Unlock()
			for _, data := range records {
				fn(data)
			}
			at += len(records)
			switch {
			case len(records) > 0:
			case ended:
				return
			default:
				<-more
			}
		}
	})
}

func (s *wakeFloor) close() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.ended = true
		if sh.more != nil {
			close(sh.more)
			sh.more = nil
		}
		sh.mu.Unlock()
	}
	s.readers.Wait()
	if s.store != nil {
		_ = s.store.Close() // its contents do not matter
	}
}
