package consumer

import "sync/atomic"

// budget sizes the reads of a worker's shards, so that they hold no more than
// Config.MaxBytes together. No shard waits for it: one whose processor hangs keeps what
// it holds for as long as it hangs, and others would wait with it. Instead, reads get
// smaller the less is free.
//
// A read may bring an eighth of what is free. So shards that all have a backlog settle at
// even shares, with something left for the next one, and what hangs in many shards
// together never takes all that is free, unless their records are large. A read that
// finds nothing free may still bring the least size, or one record. One that waits at the tip
// takes nothing before a record comes, and so brings no more than that.
//
// Invariant: shards hold no more than MaxBytes, and a read of the least size or a record
// each; with a tracker, BatchBytes and such a read. TestStuckShardsDoNotStarveOthers holds it.
type budget struct {
	most, batch, least int64
	held               atomic.Int64 // may be above most
}

const (
	// budgetPart is the part of what is free that one read may bring.
	budgetPart = 8

	// budgetLeast is the part of MaxBytes that a read may always bring: it takes
	// that many shards to exceed MaxBytes by as much again.
	budgetLeast = 1024
)

func newBudget(maxBytes int64, batchBytes int) *budget {
	batch := int64(batchBytes)
	return &budget{most: maxBytes, batch: batch, least: max(1, min(batch, maxBytes/budgetLeast))}
}

// size returns how many bytes a read may bring now. A read while nothing is held may
// be a whole batch, even if MaxBytes is no more than that.
func (b *budget) size() int { return b.sizeAt(b.held.Load()) }

func (b *budget) sizeAt(held int64) int {
	if held == 0 {
		return int(b.batch)
	}
	return int(min(max((b.most-held)/budgetPart, b.least), b.batch))
}

// take takes the bytes for a read.
func (b *budget) take() (bytes int) {
	for {
		held := b.held.Load()
		if bytes = b.sizeAt(held); b.held.CompareAndSwap(held, held+int64(bytes)) {
			return bytes
		}
	}
}

// give gives bytes back; a negative number takes more, for a record that is larger than
// what was taken for it.
func (b *budget) give(bytes int) { b.held.Add(-int64(bytes)) }
