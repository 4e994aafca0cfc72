package braid

import "time"

// retentionClock is the time by which records age. It starts at the wall clock's time when the
// database is opened, or at the last record's if that is later, and then advances with the
// time that the process runs. So a step of the wall clock while the process runs makes no
// record older.
type retentionClock struct {
	base  uint64 // Unix time in nanoseconds
	start time.Time
}

func newRetentionClock(wall time.Time, last uint64) retentionClock {
	return retentionClock{base: max(last, uint64(max(0, wall.UnixNano()))), start: time.Now()}
}

func (c retentionClock) now() uint64 { return c.base + uint64(time.Since(c.start)) }

func (c retentionClock) at(t time.Time) uint64 { return c.base + uint64(t.Sub(c.start)) }
