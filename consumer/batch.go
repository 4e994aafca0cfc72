package consumer

import (
	"time"
)

// Batch is the records that a processor gets at once, in order. With it comes the
// [Checkpointer] of their shard.
type Batch struct {
	*Checkpointer

	Records []Record

	// Attempt is 1 when exactly these records are given to the processor for the
	// first time under this lease.
	Attempt int

	// How far the shard went on after the batch when it was read: both are 0 at the
	// tip, and exact if records are not taken apart. With Lanes they are not known,
	// and 0.
	BehindRecords, BehindBytes int64

	// BehindLatest is the age of the last record of the batch.
	BehindLatest time.Duration
}

func (r *runner) batch(records []Record, page *Page, attempt int) *Batch {
	b := &Batch{
		Checkpointer: r.checkpointer(),
		Records:      records,
		Attempt:      attempt,
		BehindLatest: max(0, time.Since(records[len(records)-1].ArrivalTime)),
	}
	if page != nil {
		b.BehindRecords, b.BehindBytes = page.BehindRecords, page.BehindBytes
	}
	return b
}
