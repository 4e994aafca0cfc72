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
	fresh bool  // its commit begins a memtable
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

// BeginMemTable makes the commit begin a new memtable: these changes and later ones go to it,
// and the old memtable is written to tables in the background.
func (b *Batch) BeginMemTable() { b.fresh = true }

// Reset empties the batch. It keeps up to retainedBatchBytes of memory.
func (b *Batch) Reset() {
	b.batch.Reset()
	b.err, b.fresh = nil, false
}

// Commit applies the changes, all or none. With sync they are durable when it returns nil;
// without, they are visible and become durable later. While the disk is full, it waits. If the
// store fails meanwhile, Commit never returns: wait for [Store.Failed] in another goroutine. An
// error means that the batch was refused. Except for a batch that is too large, the store
// failed first, so only the next open decides whether the changes are durable.
func (b *Batch) Commit(sync bool) error {
	s := b.store
	if err := b.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	s.room.turn.RLock()
	defer s.room.turn.RUnlock()
	if b.fresh {
		if _, err := s.db.AsyncFlush(); err != nil {
			return s.failCommit(err)
		}
	}
	options := pebble.NoSync
	if sync && !s.cfg.InMemory {
		options = pebble.Sync
	}
	return b.commit(options)
}

// TryCommit is Commit for a caller that must not wait for the disk. It returns false, and has
// done nothing, if Commit might wait: with sync, if the batch begins a memtable or does not fit
// in the current one, and while another call changes the store. A store without a log does not
// report new memtables, so there it always returns false.
func (b *Batch) TryCommit(sync bool) (done bool, err error) {
	s := b.store
	if err := b.enter(); err != nil {
		return true, err
	}
	defer s.gate.leave()
	if sync || b.fresh || s.cfg.InMemory || s.cfg.NoLog || !s.room.turn.TryLock() {
		return false, nil
	}
	defer s.room.turn.Unlock()
	if !s.room.fits(b.batch) {
		return false, nil
	}
	return true, b.commit(pebble.NoSync)
}

// enter checks that the batch can be committed, and enters the gate if so.
func (b *Batch) enter() error {
	s := b.store
	if b.err != nil {
		return b.err
	}
	if err := s.gate.enter(); err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		s.gate.leave()
		return err
	}
	return nil
}

// commit is Commit inside the gate, with the room's turn held.
func (b *Batch) commit(options *pebble.WriteOptions) error {
	s := b.store
	rotations := s.room.rotations.Load()
	if err := b.batch.Commit(options); err != nil {
		return s.failCommit(err)
	}
	s.room.take(b.batch, rotations)
	return nil
}

// failCommit fails the store for a commit that Pebble has refused, and returns its error.
func (s *Store) failCommit(err error) error {
	s.guard.Fail(fmt.Errorf("commit: %w", err))
	return s.Err()
}

// Close frees the batch, which must not be used again.
func (b *Batch) Close() {
	if b.lent {
		return
	}
	// The only error is that the batch was closed before, which does no harm.
	_ = b.batch.Close()
}
