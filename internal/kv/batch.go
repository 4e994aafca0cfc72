package kv

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

const (
	initialBatchBytes  = 64 << 10
	retainedBatchBytes = 8 << 20 // holds the largest group of package commit

	// maxBatchBytes is well below 4 GiB, at which Pebble panics, and below 2 GiB,
	// which an int may not hold.
	maxBatchBytes = 1 << 30
)

// Batch gathers changes that are committed together. It is not for concurrent
// use. It can be committed once after each Reset.
type Batch struct {
	store *Store
	batch *pebble.Batch
	limit int   // of its size in bytes
	err   error // why the batch cannot be committed
	lent  bool  // an abandoned commit may still read the batch
}

// NewBatch returns an empty batch. Close it.
func (s *Store) NewBatch() *Batch {
	return &Batch{store: s, limit: maxBatchBytes, batch: s.db.NewBatchWithSize(initialBatchBytes,
		pebble.WithInitialSizeBytes(initialBatchBytes),
		pebble.WithMaxRetainedSizeBytes(retainedBatchBytes))}
}

// Set gives the key a value. Both are copied.
func (b *Batch) Set(key, value []byte) {
	k, v := b.SetDeferred(len(key), len(value))
	copy(k, key)
	copy(v, value)
}

// SetDeferred adds a key and a value, which the caller writes into the returned slices before
// its next call of the batch.
func (b *Batch) SetDeferred(keyLen, valueLen int) (key, value []byte) {
	if !b.admit(keyLen + valueLen) {
		return make([]byte, keyLen), make([]byte, valueLen)
	}
	op := b.batch.SetDeferred(keyLen, valueLen)
	return op.Key, op.Value
}

// Delete removes the key's value, if it has one.
func (b *Batch) Delete(key []byte) {
	if b.admit(len(key)) {
		copy(b.batch.DeleteDeferred(len(key)).Key, key)
	}
}

// DeleteRange deletes all keys from lower up to but not including upper.
func (b *Batch) DeleteRange(lower, upper []byte) {
	if b.admit(len(lower) + len(upper)) {
		op := b.batch.DeleteRangeDeferred(len(lower), len(upper))
		copy(op.Key, lower)
		copy(op.Value, upper)
	}
}

// admit reports whether a change of n bytes still fits.
func (b *Batch) admit(n int) bool {
	const overhead = 32 // of Pebble, per change
	if b.batch.Len()+n+overhead > b.limit {
		b.err = fmt.Errorf("a batch holds at most %d bytes", b.limit)
	}
	return b.err == nil
}

// Len returns the size in bytes.
func (b *Batch) Len() int { return b.batch.Len() }

// Count returns the number of changes.
func (b *Batch) Count() int { return int(b.batch.Count()) }

// Empty reports whether there are no changes.
func (b *Batch) Empty() bool { return b.batch.Empty() }

// Reset empties the batch. It keeps up to retainedBatchBytes of memory.
func (b *Batch) Reset() {
	b.batch.Reset()
	b.err = nil
}

// Commit applies the changes, all or none. With sync they are durable when it returns nil;
// without, they are visible and become durable later. While the disk is full, it waits. If the
// store fails meanwhile, Commit never returns: wait for [Store.Failed] in another goroutine. An
// error means that the batch was refused. Except for a batch that is too large, the store
// failed first, so only the next open decides whether the changes are durable.
func (b *Batch) Commit(sync bool) error {
	s := b.store
	if b.err != nil {
		return b.err
	}
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if err := s.writable(); err != nil {
		return err
	}
	options := pebble.NoSync
	if sync && !s.cfg.InMemory {
		options = pebble.Sync
	}
	if err := b.batch.Commit(options); err != nil {
		s.guard.Fail(fmt.Errorf("commit: %w", err))
		return s.Err()
	}
	return nil
}

// Close frees the batch, which must not be used again.
func (b *Batch) Close() {
	if b.lent {
		return
	}
	// The only error is that the batch was closed before, which does no harm.
	_ = b.batch.Close()
}
