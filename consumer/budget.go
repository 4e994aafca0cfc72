package consumer

import "sync/atomic"

// budget sizes the reads of a worker's shards, so that together they hold no more than
// Config.MaxBytes. No shard waits for memory: a shard whose processor hangs keeps what it
// holds, and others would wait as long as it hangs. Instead, reads get smaller as less is
// free.
//
// A read may take an eighth of what is free. So shards that all have a backlog settle at
// even shares, with something left for the next one, and hanging shards never take
// everything, unless their records are large. If nothing is free, a read may still take
// the least size, or one record. A read that waits at the tip takes nothing until a
// record comes, and then no more than this.
//
// Invariant: shards hold no more than MaxBytes plus, for each, a read of the least size
// or one record; with a tracker, also BatchBytes. TestStuckShardsDoNotStarveOthers checks
// it.
type budget struct {
	most, batch, least int64
	held               atomic.Int64 // may exceed most
}

const (
	// budgetPart is the part of the free bytes that one read may take.
	budgetPart = 8

	// budgetLeast is the part of MaxBytes that a read may always take. It takes that many
	// shards to exceed MaxBytes by as much again.
	budgetLeast = 1024
)

func newBudget(maxBytes int64, batchBytes int) *budget {
	batch := int64(batchBytes)
	return &budget{most: maxBytes, batch: batch, least: max(1, min(batch, maxBytes/budgetLeast))}
}

// size returns how many bytes a read may take now. While nothing is held, a read may be a
// whole batch, even if MaxBytes is no more than that.
func (b *budget) size() int { return b.sizeAt(b.held.Load()) }

func (b *budget) sizeAt(held int64) int {
	if held == 0 {
		return int(b.batch)
	}
	return int(min(max((b.most-held)/budgetPart, b.least), b.batch))
}

// take reserves the bytes for a read.
func (b *budget) take() (bytes int) {
	for {
		held := b.held.Load()
		if bytes = b.sizeAt(held); b.held.CompareAndSwap(held, held+int64(bytes)) {
			return bytes
		}
	}
}

// give returns bytes. A negative number takes more, for a record that is larger than what
// was reserved for it.
func (b *budget) give(bytes int) { b.held.Add(-int64(bytes)) }
