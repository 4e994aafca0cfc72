package braid

import "time"

// retentionClock is the time by which records age: that of the wall clock when
// the database was opened, or of the last record if that was later, plus the
// time that the process has run since. So a step of the wall clock while it runs
// makes no record older.
type retentionClock struct {
	base  uint64 // Unix time in nanoseconds
	start time.Time
}

func newRetentionClock(wall time.Time, last uint64) retentionClock {
	return retentionClock{base: max(last, uint64(max(0, wall.UnixNano()))), start: time.Now()}
}

func (c retentionClock) now() uint64 { return c.at(time.Now()) }

func (c retentionClock) at(t time.Time) uint64 { return c.base + uint64(t.Sub(c.start)) }
