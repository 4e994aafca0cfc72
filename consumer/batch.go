package consumer

import (
	"time"
)

// Batch is the records that a processor gets at once, in order. With it comes the
// [Checkpointer] of their shard. A Batch that a test of a processor makes needs none.
type Batch struct {
	*Checkpointer

	// Records may be kept, unless [Config].ReuseRecords says otherwise.
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

// TxBatch is the records that a [TxProcessor] gets at once, in order. It has no
// [Checkpointer]: the checkpoint is part of the transaction, and follows by itself.
type TxBatch struct {
	Records []Record

	// Attempt, BehindRecords, BehindBytes and BehindLatest are those of a [Batch]. A
	// transaction that runs again because it met another one is the same attempt.
	Attempt                    int
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration

	hold *hold // nil if a test of a processor has made the batch
}

// Lease returns the lease of the shard: its key, the epoch under which it was taken, and
// what is stored of it. A TxBatch that a test of a processor has made has the zero Lease.
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
