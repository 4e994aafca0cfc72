package braid

import (
	"crypto/md5"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid/internal/uint128"
)

// Limits of a record and of a call.
const (
	maxPartitionKeyChars = 256
	maxDataBytes         = 10 << 20 // Kinesis: MaxRecordSizeInKiB up to 10240
	defaultDataBytes     = 1 << 20
	maxPutRecordsBytes   = 16 << 20 // one call is one batch, and must fit a memtable
)

// Record is a record that was read from a shard.
//
// A record may be kept. It then also keeps alive up to 72 KiB of memory, which holds records that
// were read or put together with it. All readers of the record may share its memory, so do not
// change Data.
type Record struct {
	// PartitionKey is the partition key that the producer gave.
	PartitionKey string

	// ExplicitHashKey is the hash key that the producer gave to choose the shard; nil if it
	// gave none.
	ExplicitHashKey *HashKey

	// Data is the data that the producer gave. It may be empty. Do not change it.
	Data []byte

	// ShardID is the shard that holds the record.
	ShardID ShardID

	// SequenceNumber is the record's place in its shard. It is unique in the
	// database.
	SequenceNumber SequenceNumber

	// ArrivalTime is when braid accepted the record, to the nanosecond. Within a shard it
	// never goes back, even if the clock does. Kinesis: ApproximateArrivalTimestamp.
	ArrivalTime time.Time

	// Encrypted reports whether the record is stored encrypted: see
	// [Stream.StartEncryption]. Kinesis: EncryptionType.
	Encrypted bool
}

// Size returns the size of the partition key and the data together, in bytes. This is the
// size that [RecordsPage].BehindBytes, [StreamDescription].Bytes and [Metrics].BytesPut
// count. [StreamOptions].MaxRecordBytes bounds Data alone.
func (r *Record) Size() int { return len(r.PartitionKey) + len(r.Data) }

// Entry is one record of a [Stream.PutRecords] call.
type Entry struct {
	// PartitionKey decides the shard of the record, by its MD5 hash. Records with the same key
	// keep their order. It must have 1 to 256 characters of UTF-8; a character is a Unicode code
	// point, whatever its length in bytes.
	PartitionKey string

	// ExplicitHashKey, if not nil, decides the shard in place of the hash of the partition
	// key.
	ExplicitHashKey *HashKey

	// Data is the record's content: 0 bytes up to the stream's MaxRecordBytes.
	// It is copied before the call returns.
	Data []byte
}

// Size returns the size of the partition key and the data together, in bytes. The limit of a
// [Stream.PutRecords] call counts it, and [Record.Size] returns the same.
// [StreamOptions].MaxRecordBytes bounds Data alone.
func (e *Entry) Size() int { return len(e.PartitionKey) + len(e.Data) }

// HashKey returns the hash key that decides the shard: ExplicitHashKey if there is one,
// otherwise [HashKeyOf] the partition key.
func (e *Entry) HashKey() HashKey {
	if e.ExplicitHashKey != nil {
		return *e.ExplicitHashKey
	}
	return HashKeyOf(e.PartitionKey)
}

// PutResult is the result of putting a record: where it was stored, or why it was not.
type PutResult struct {
	ShardID        ShardID
	SequenceNumber SequenceNumber

	// Encrypted reports whether the record was encrypted. Kinesis: EncryptionType.
	Encrypted bool

	// Err, in a result of [Stream.PutRecords], says why this entry was not stored:
	// [ErrThroughputExceeded]. It is nil if the entry was stored. With [Unlimited] capacity it is
	// always nil. [Stream.PutRecordsWait] also returns other errors here.
	Err error
}

// validate checks an entry against the stream's limits. name is a prefix for field names in
// errors.
func (e *Entry) validate(maxData int, name string) error {
	switch {
	case e.PartitionKey == "":
		return &InvalidArgumentError{name + "PartitionKey", `""`, "must be 1 to 256 characters"}
	case !utf8.ValidString(e.PartitionKey):
		return &InvalidArgumentError{name + "PartitionKey", fmt.Sprintf("%.64q", e.PartitionKey), "must be UTF-8"}
	case len(e.PartitionKey) > maxPartitionKeyChars && utf8.RuneCountInString(e.PartitionKey) > maxPartitionKeyChars:
		n := utf8.RuneCountInString(e.PartitionKey)
		return &InvalidArgumentError{name + "PartitionKey", fmt.Sprintf("%d characters long", n), "must be 1 to 256 characters"}
	case len(e.Data) > maxData:
		return &InvalidArgumentError{name + "Data", fmt.Sprintf("%d bytes long", len(e.Data)), fmt.Sprintf("must be at most %d bytes", maxData)}
	}
	return nil
}

// HashKey is a number of 128 bits, a point in the space that a stream's shards divide among
// them. The zero value is 0, the lowest. Values can be compared with ==.
type HashKey struct{ n uint128.Uint128 }

// MaxHashKey returns the highest hash key, 2^128-1.
func MaxHashKey() HashKey { return HashKey{uint128.Max} }

// HashKeyOf returns the hash key of a partition key: its MD5, as an unsigned big-endian
// number, as in Kinesis.
func HashKeyOf(partitionKey string) HashKey {
	var buf [128]byte // so that most keys need no allocation
	return HashKey{uint128.FromBytes(md5.Sum(append(buf[:0], partitionKey...)))}
}

// ParseHashKey parses the decimal form: 0 to 2^128-1 without leading zeros. For any other
// text it returns [ErrInvalidArgument].
func ParseHashKey(text string) (HashKey, error) {
	n, err := uint128.Parse(text)
	if err != nil {
		return HashKey{}, &InvalidArgumentError{"HashKey", fmt.Sprintf("%.64q", text), "must be a decimal number from 0 to 2^128-1"}
	}
	return HashKey{n}, nil
}

// String returns the decimal form.
func (k HashKey) String() string { return k.n.String() }

// MarshalText returns the decimal form.
func (k HashKey) MarshalText() ([]byte, error) { return []byte(k.n.String()), nil }

// UnmarshalText sets k as [ParseHashKey] parses the text. After an error k is 0.
func (k *HashKey) UnmarshalText(text []byte) (err error) {
	*k, err = ParseHashKey(string(text))
	return err
}

// Compare returns -1, 0 or +1 if k is below, equal to or above other.
func (k HashKey) Compare(other HashKey) int { return k.n.Compare(other.n) }

// Next returns the hash key after k. ok is false for [MaxHashKey], which has none. Two ranges
// are adjacent if the Next of one's End is the other's Start.
func (k HashKey) Next() (next HashKey, ok bool) {
	if k.n == uint128.Max {
		return HashKey{}, false
	}
	return HashKey{k.n.AddOne()}, true
}

// HashKeyRange is a range of hash keys. Both ends belong to it.
type HashKeyRange struct{ Start, End HashKey }

// Contains reports whether the key lies in the range.
func (r HashKeyRange) Contains(k HashKey) bool {
	return r.Start.Compare(k) <= 0 && k.Compare(r.End) <= 0
}

// middle returns the hash key that divides the range into halves: the first of the upper half.
func (r HashKeyRange) middle() uint128.Uint128 {
	return uint128.Midpoint(r.Start.n, r.End.n).AddOne()
}

// evenRanges divides the hash-key space among n shards as Kinesis does: in equal steps of
// floor(2^128/n); the last shard also gets the remainder.
func evenRanges(n int) []HashKeyRange {
	step := uint128.Step(uint64(n))
	ranges := make([]HashKeyRange, n)
	var start uint128.Uint128
	for i := range ranges {
		next := start.Add(step)
		ranges[i] = HashKeyRange{HashKey{start}, HashKey{next.Sub(uint128.Uint128{Lo: 1})}}
		start = next
	}
	ranges[n-1].End = MaxHashKey()
	return ranges
}
