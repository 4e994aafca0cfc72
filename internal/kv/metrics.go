package kv

import (
	"time"

	"github.com/braidstream/braid/internal/wake"
)

// Metrics are the measurements of a store at one moment. Counters count from Open.
type Metrics struct {
	DiskBytes int64 // of all files, including those that wait for removal
	Tables    int64
	L0Tables  int64
	WALBytes  int64 // of the logs on disk, including those kept for reuse
	WALFiles  int64

	MemTableBytes int64
	CacheBytes    int64
	CacheHits     int64
	CacheMisses   int64

	Snapshots int64
	Iterators int64 // over tables

	IngestedBytes  int64 // written to the log by commits
	FlushedBytes   int64 // written to tables from memtables
	CompactedBytes int64 // written to tables from tables
	Compactions    int64

	BackgroundErrors int64 // of flushes and compactions, which Pebble retries
}

// metricsPatience is how long Metrics waits for Pebble.
const metricsPatience = 100 * time.Millisecond

// Metrics returns the store's measurements, zero after Close. If the store has failed, waits
// for space, or lies on a stalled disk, they are those of an earlier call: Pebble's own metrics
// wait for its manifest, which may be stuck.
func (s *Store) Metrics() Metrics {
	if s.gate.enter() != nil {
		return Metrics{}
	}
	if s.Err() != nil || wake.IsClosed(s.stuck()) {
		s.gate.leave()
		return s.lastMetrics()
	}
	patience := time.NewTimer(metricsPatience)
	defer patience.Stop()
	for {
		done, own := s.startMeasuring()
		select {
		case <-done:
			if own {
				return s.lastMetrics()
			}
			continue // that measurement may have begun before this call
		case <-patience.C:
		case <-s.stuck():
		case <-s.Failed():
		}
		if !own {
			s.gate.leave()
		}
		return s.lastMetrics()
	}
}

// startMeasuring starts a goroutine that calls measure, unless one is running: while the disk
// is stalled they must not pile up. If own is true, that goroutine leaves the gate for the
// caller.
func (s *Store) startMeasuring() (done <-chan struct{}, own bool) {
	s.measuring.Lock()
	defer s.measuring.Unlock()
	if s.measuring.done != nil {
		return s.measuring.done, false
	}
	finished := make(chan struct{})
	s.measuring.done = finished
	go func() {
		defer s.gate.leave()
		m := s.measure()
		s.metrics.Store(&m)
		s.measuring.Lock()
		s.measuring.done = nil
		s.measuring.Unlock()
		close(finished)
	}()
	return finished, true
}

func (s *Store) lastMetrics() Metrics {
	if m := s.metrics.Load(); m != nil {
		return *m
	}
	return Metrics{}
}

// measure reads Pebble's metrics.
func (s *Store) measure() Metrics {
	m := s.db.Metrics()
	total := m.Total()
	return Metrics{
		DiskBytes:        int64(m.DiskSpaceUsage()),
		Tables:           total.TablesCount,
		L0Tables:         m.Levels[0].TablesCount,
		WALBytes:         int64(m.WAL.PhysicalSize + m.WAL.ObsoletePhysicalSize),
		WALFiles:         m.WAL.Files + m.WAL.ObsoleteFiles,
		MemTableBytes:    int64(m.MemTable.Size),
		CacheBytes:       m.BlockCache.Size,
		CacheHits:        m.BlockCache.Hits,
		CacheMisses:      m.BlockCache.Misses,
		Snapshots:        int64(m.Snapshots.Count),
		Iterators:        m.TableIters,
		IngestedBytes:    int64(m.WAL.BytesIn),
		FlushedBytes:     int64(m.Levels[0].TableBytesFlushed), // the total has the log's in it as well,
		CompactedBytes:   int64(total.TableBytesCompacted),
		Compactions:      m.Compact.Count,
		BackgroundErrors: s.reporter.backgroundErrors.Load(),
	}
}
