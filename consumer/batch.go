package consumer

import (
	"time"
)

// Batch is the records that a processor gets at once, in order, with the [Checkpointer]
// of their shard. A Batch made by a test of a processor needs no Checkpointer.
type Batch struct {
	*Checkpointer

	// Records may be kept, unless [Config].ReuseRecords is set.
	Records []Record

	// Attempt is 1 when exactly these records are given to the processor for the first time
	// under this lease, and counts up with each retry.
	Attempt int

	// BehindRecords and BehindBytes are how much the shard had after the batch when it was
	// read. Both are 0 at the tip. They are exact unless records are deaggregated. With Lanes
	// they are unknown, and 0.
	BehindRecords, BehindBytes int64

	// BehindLatest is the age of the last record of the batch.
	BehindLatest time.Duration
}

// TxBatch is the records that a [TxProcessor] gets at once, in order. It has no
// [Checkpointer]: the checkpoint is part of the transaction and made automatically.
type TxBatch struct {
	Records []Record

	// Attempt, BehindRecords, BehindBytes and BehindLatest are those of a [Batch]. A
	// transaction that runs again after a conflict is the same attempt.
	Attempt                    int
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration

	hold *hold // nil if a test of a processor made the batch
}

// Lease returns the lease of the shard: its key, the epoch under which it was taken, and
// its stored state. A TxBatch made by a test of a processor has the zero Lease.
func (b *TxBatch) Lease() Lease {
	if b.hold == nil {
		return Lease{}
	}
	return b.hold.current()
}

func (r *runner) batch(records []Record, page *Page, attempt int) *Batch {
	b := &Batch{Checkpointer: r.hold.checkpointer(), Records: records, Attempt: attempt, BehindLatest: ageOf(records)}
	if page != nil {
		b.BehindRecords, b.BehindBytes = page.BehindRecords, page.BehindBytes
	}
	return b
}

// txBatch is batch for a TxProcessor, which never has lanes.
func (r *runner) txBatch(records []Record, page *Page, attempt int) *TxBatch {
	return &TxBatch{
		Records:       records,
		Attempt:       attempt,
		BehindRecords: page.BehindRecords,
		BehindBytes:   page.BehindBytes,
		BehindLatest:  ageOf(records),
		hold:          r.hold,
	}
}

// ageOf returns the age of the last record.
func ageOf(records []Record) time.Duration {
	return max(0, time.Since(records[len(records)-1].ArrivalTime))
}
