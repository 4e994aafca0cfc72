// Package txlog finds conflicts of transactions: it remembers which keys recent ones wrote. It
// knows neither the store nor the meaning of the keys. The committer owns the log.
package txlog

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
)

// MaxKeys is the minimum number of recently written keys that are remembered. A transaction that
// began before the oldest of them cannot be checked, and must run again.
const MaxKeys = 1 << 16

// Range is a range of keys: from Start up to, but not including, End.
type Range struct{ Start, End []byte }

// Contains reports whether the key lies in the range.
func (r Range) Contains(key []byte) bool {
	return bytes.Compare(r.Start, key) <= 0 && bytes.Compare(key, r.End) < 0
}

// Log remembers which keys recent transactions wrote. The zero value is ready for use.
type Log struct {
	version uint64 // the version of the newest transaction that wrote keys
	oldest  uint64 // transactions that began at this version or later can be checked
	writes  []write
}

type write struct {
	version uint64
	key     string
}

// Version returns the version of the state after the newest transaction.
func (l *Log) Version() uint64 { return l.version }

// Add logs the keys that a transaction wrote, as the next version. It forgets the oldest keys if
// there are too many.
func (l *Log) Add(keys iter.Seq[string]) {
	l.version++
	for key := range keys {
		l.writes = append(l.writes, write{l.version, key})
	}
	if len(l.writes) > 2*MaxKeys {
		cut := len(l.writes) - MaxKeys
		l.oldest = l.writes[cut-1].version
		l.writes = append(l.writes[:0], l.writes[cut:]...)
		clear(l.writes[len(l.writes):cap(l.writes)])
	}
}

// Conflicts reports whether any of the keys and ranges was written after the state of that
// version, or may have been. A transaction that read them from that state must run again.
func (l *Log) Conflicts(version uint64, keys map[string]struct{}, ranges []Range) bool {
	if len(keys) == 0 && len(ranges) == 0 {
		return false
	}
	if version < l.oldest {
		return true
	}
	first, _ := slices.BinarySearchFunc(l.writes, version+1, func(w write, version uint64) int {
		return cmp.Compare(w.version, version)
	})
	for _, w := range l.writes[first:] {
		if _, read := keys[w.key]; read {
			return true
		}
		for _, r := range ranges {
			if r.Contains([]byte(w.key)) {
				return true
			}
		}
	}
	return false
}
