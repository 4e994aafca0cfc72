package kv

import "github.com/cockroachdb/pebble/v2"

// Iter walks the keys in order, in the state that the store had when the iterator was made. It
// pins the memory and files of that state: close it before waiting for anything. It is not safe
// for concurrent use.
type Iter struct {
	iter *pebble.Iterator
	gate *gate // left by Close; nil for an iterator that holds none
	told bool  // Error has returned an error
}

// NewIter returns an iterator over the latest state. See [Reader]. The store
// cannot be closed before the iterator is.
func (s *Store) NewIter(lower, upper []byte) (*Iter, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	iter, err := newIter(s.db, lower, upper)
	if err != nil {
		s.gate.leave()
		return nil, err
	}
	iter.gate = &s.gate
	return iter, nil
}

// iterable is what Pebble's DB and Snapshot have in common.
type iterable interface {
	NewIter(*pebble.IterOptions) (*pebble.Iterator, error)
}

func newIter(from iterable, lower, upper []byte) (*Iter, error) {
	iter, err := from.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, readError(err)
	}
	return &Iter{iter: iter}, nil
}

// First moves to the first key, if there is one.
func (i *Iter) First() bool { return i.iter.First() }

// Last moves to the last key, if there is one.
func (i *Iter) Last() bool { return i.iter.Last() }

// SeekGE moves to the first key that is not below key.
func (i *Iter) SeekGE(key []byte) bool { return i.iter.SeekGE(key) }

// SeekLT moves to the last key below key.
func (i *Iter) SeekLT(key []byte) bool { return i.iter.SeekLT(key) }

// Next moves to the next key.
func (i *Iter) Next() bool { return i.iter.Next() }

// Prev moves to the previous key.
func (i *Iter) Prev() bool { return i.iter.Prev() }

// SetBounds changes the bounds. Position the iterator again afterwards.
func (i *Iter) SetBounds(lower, upper []byte) { i.iter.SetBounds(lower, upper) }

// Key returns the key, which is valid until the iterator moves.
func (i *Iter) Key() []byte { return i.iter.Key() }

// Value returns the value, which is valid until the iterator moves.
func (i *Iter) Value() []byte { return i.iter.Value() }

// Error returns the error that made the last move find nothing, or nil if there was no key.
// Check it after every loop.
func (i *Iter) Error() error {
	err := readError(i.iter.Error())
	i.told = i.told || err != nil
	return err
}

// Close closes the iterator and returns its error, unless Error has returned it already.
// Further calls do nothing.
func (i *Iter) Close() error {
	if i.iter == nil {
		return nil
	}
	err := i.iter.Close()
	i.iter = nil
	if i.gate != nil {
		i.gate.leave()
	}
	if i.told {
		return nil // Pebble returns the same error again
	}
	return readError(err)
}
