package kpl

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"

	"github.com/braidstream/braid"
)

const (
	maxPartitionKeyChars = 256

	// carrierKey is the partition key of a carrier, the one that the KPL uses. The carrier's
	// explicit hash key chooses the shard, but the service requires a partition key too.
	carrierKey = "a"
)

// Aggregator packs user records into one aggregate. The zero value is empty and ready for
// use. After Reset it can be used again, and keeps its memory. It must not be used by
// several goroutines at once.
type Aggregator struct {
	partitionKeys table[string]
	hashKeys      table[braid.HashKey]
	records       []byte // the encoded Records
	first         braid.HashKey
	single        braid.Entry // the first record; while it is the only one, its Data aliases the end of records
	count         int
}

// Add appends a copy of a record to the aggregate. Error: [braid.ErrInvalidArgument] for
// a partition key that is not 1 to 256 characters of UTF-8; the aggregate then stays
// unchanged.
func (a *Aggregator) Add(e braid.Entry) error {
	if n := utf8.RuneCountInString(e.PartitionKey); n == 0 || n > maxPartitionKeyChars || !utf8.ValidString(e.PartitionKey) {
		return &braid.InvalidArgumentError{
			Field: "PartitionKey", Value: fmt.Sprintf("%.64q, %d characters", e.PartitionKey, n),
			Rule: "must be 1 to 256 characters of UTF-8",
		}
	}
	a.add(e)
	return nil
}

func (a *Aggregator) add(e braid.Entry) {
	size := a.recordSize(&e)
	a.records = binary.AppendUvarint(a.records, aggregateRecord<<3|wireBytes)
	a.records = binary.AppendUvarint(a.records, uint64(size))
	a.records = appendVarint(a.records, recordPartitionKey, a.partitionKeys.index(e.PartitionKey, len(e.PartitionKey)))
	if e.ExplicitHashKey != nil {
		key := *e.ExplicitHashKey
		a.records = appendVarint(a.records, recordHashKey, a.hashKeys.index(key, digits(key)))
	}
	a.records = appendBytes(a.records, recordData, e.Data)
	if a.count == 0 {
		a.single, a.first = e, e.HashKey()
		a.single.Data = a.records[len(a.records)-len(e.Data):]
	}
	a.count++
}

// Len returns the number of packed records.
func (a *Aggregator) Len() int { return a.count }

// Size returns the size of the current aggregate in bytes.
func (a *Aggregator) Size() int {
	return len(magic) + a.partitionKeys.size + a.hashKeys.size + len(a.records) + md5.Size
}

// SizeWith returns the exact value that Size will return after e is added, including
// tables of keys.
func (a *Aggregator) SizeWith(e braid.Entry) int {
	size := a.Size() + bytesSize(a.recordSize(&e)) + a.partitionKeys.growth(e.PartitionKey, len(e.PartitionKey))
	if e.ExplicitHashKey != nil {
		size += a.hashKeys.growth(*e.ExplicitHashKey, digits(*e.ExplicitHashKey))
	}
	return size
}

// recordSize returns the bytes of the Record message of e.
func (a *Aggregator) recordSize(e *braid.Entry) int {
	size := 1 + varintSize(a.partitionKeys.find(e.PartitionKey)) + bytesSize(len(e.Data))
	if e.ExplicitHashKey != nil {
		size += 1 + varintSize(a.hashKeys.find(*e.ExplicitHashKey))
	}
	return size
}

// AppendAggregate appends the aggregate, Size bytes, to dst.
func (a *Aggregator) AppendAggregate(dst []byte) []byte {
	start := len(dst) + len(magic)
	dst = append(dst, magic...)
	for _, key := range a.partitionKeys.keys {
		dst = appendBytes(dst, aggregatePartitionKey, key)
	}
	for _, key := range a.hashKeys.keys {
		dst = appendBytes(dst, aggregateHashKey, key.String())
	}
	dst = append(dst, a.records...)
	sum := md5.Sum(dst[start:])
	return append(dst, sum[:]...)
}

// Carrier returns the record to put to a stream. Its data is the aggregate. Its explicit
// hash key is that of the first user record, so that it goes to the shard of that record;
// pack only records of one shard. Its partition key is "a", as in the KPL.
//
// A single record is returned unchanged, because an aggregate of one record would only add bytes.
// The exception is a record whose data begins like an aggregate, so that a consumer would unpack
// it. Carrier must not be called on an empty aggregator. The data is a copy.
func (a *Aggregator) Carrier() braid.Entry {
	if a.count == 1 && (len(a.single.Data) < len(magic) || string(a.single.Data[:len(magic)]) != magic) {
		e := a.single
		e.Data = append(make([]byte, 0, len(e.Data)), e.Data...)
		return e
	}
	first := a.first
	return braid.Entry{
		PartitionKey:    carrierKey,
		ExplicitHashKey: &first,
		Data:            a.AppendAggregate(make([]byte, 0, a.Size())),
	}
}

// Reset makes the aggregator empty.
func (a *Aggregator) Reset() {
	a.partitionKeys.reset()
	a.hashKeys.reset()
	a.records, a.single, a.count = a.records[:0], braid.Entry{}, 0
}

// table is a key table under construction; it has each key once.
type table[K comparable] struct {
	keys    []K
	indices map[K]uint64
	size    int // bytes of the encoded table
}

// find returns the index of key, or the index at which it would be added.
func (t *table[K]) find(key K) uint64 {
	if i, known := t.indices[key]; known {
		return i
	}
	return uint64(len(t.keys))
}

// index returns the index of key, which is n bytes long, and adds the key if it is
// missing.
func (t *table[K]) index(key K, n int) uint64 {
	i := t.find(key)
	if i == uint64(len(t.keys)) {
		if t.indices == nil {
			t.indices = make(map[K]uint64)
		}
		t.keys, t.indices[key] = append(t.keys, key), i
		t.size += bytesSize(n)
	}
	return i
}

// growth returns how many bytes index would add to the table.
func (t *table[K]) growth(key K, n int) int {
	if _, known := t.indices[key]; known {
		return 0
	}
	return bytesSize(n)
}

func (t *table[K]) reset() {
	clear(t.keys)
	clear(t.indices)
	t.keys, t.size = t.keys[:0], 0
}

func digits(key braid.HashKey) int { return len(key.String()) }

// bytesSize returns the size of a field of n bytes whose number is below 16.
func bytesSize(n int) int { return 1 + varintSize(uint64(n)) + n }

func varintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

func appendVarint(dst []byte, number, value uint64) []byte {
	dst = binary.AppendUvarint(dst, number<<3|wireVarint)
	return binary.AppendUvarint(dst, value)
}

func appendBytes[T string | []byte](dst []byte, number uint64, value T) []byte {
	dst = binary.AppendUvarint(dst, number<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}
