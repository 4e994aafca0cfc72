package braid

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid/internal/decimal"
)

// SequenceNumber is the place of a record in its shard. It is the number that
// Amazon Kinesis uses: an integer of 186 bits, 56 digits in decimal. Values can
// be compared with == and be keys of maps. The zero value lies before every
// record, and its text is "0".
//
// From the most significant digit, in hexadecimal:
//
//	digits  bits  holds
//	     1     4  2, the version of this layout
//	     9    36  when the shard was created, in Unix seconds
//	     1     4  the low bits of the shard's index
//	    16    64  the counter; its top bit is always 0
//	     2     8  zero; 1 in a position for which no record has come (see [RecordsPage].Next)
//	     9    36  when the record arrived, in Unix seconds
//	     8    32  the shard's index
//	     1     4  2 again
//
// What may be relied on:
//
//   - Within a shard, numbers increase in the order in which records become
//     visible to readers.
//   - The numbers of a shard that came from a split or a merge are above all
//     numbers of its parents. So for one partition key numbers increase through
//     any number of reshards.
//   - No two records of a database have the same number.
//   - In 56 digits the order of the texts is the order of the numbers. "0", too,
//     sorts first.
//
// Numbers of two shards that exist side by side say nothing about which record
// came first; [Record].ArrivalTime does. Numbers are not contiguous.
//
// Numbers that were read from Kinesis itself are of this type as well. There,
// the counter is a plain count, and in braid the arrival time in nanoseconds.
type SequenceNumber struct {
	// Invariant: all zero, or a number that validate accepts.
	hi, mid, lo uint64
}

// Where the parts of a sequence number lie in its words.
//
//	hi   version 8 | created 36 | index 4 | counter 16, its top bits
//	mid  counter 48, the rest of it | zero 8 | second 8, its top bits
//	lo   second 28, the rest of it | index 32 | version 4
const (
	sequenceVersion = 2

	topVersionShift  = 56 // in hi
	createdShift     = 20
	indexNibbleShift = 16
	counterSplit     = 48 // bits of the counter that do not fit hi
	counterShift     = 16 // in mid
	secondSplit      = 28 // bits of the second that do not fit mid
	secondShift      = 36 // in lo
	indexShift       = 4
)

// momentBit is one of the zero bits, which nobody looks at: neither Kinesis nor
// what compares a number with a shard.
const momentBit = 1 << 8 // in mid

const (
	// endingCounter is the counter of the number at which a shard ends. It is
	// the largest that there is.
	endingCounter uint64 = 1<<63 - 1

	// maxCounter is the largest counter that a record may have: a record's
	// number always lies below the one at which its shard ends.
	maxCounter = endingCounter - 1

	// createdSecondsEnd bounds a shard's creation time; Kinesis refuses this
	// second, of the year 2477, and later ones.
	createdSecondsEnd = 16_025_175_000
)

// newSequenceNumber puts a number together. The counter is at most
// endingCounter; both seconds are not negative and below createdSecondsEnd,
// which holds for all times that fit a counter in nanoseconds.
func newSequenceNumber(createdSeconds int64, counter uint64, seconds int64, shard uint32) SequenceNumber {
	return SequenceNumber{
		hi:  sequenceVersion<<topVersionShift | uint64(createdSeconds)<<createdShift | uint64(shard&0xf)<<indexNibbleShift | counter>>counterSplit,
		mid: counter<<counterShift | uint64(seconds)>>secondSplit,
		lo:  uint64(seconds)<<secondShift | uint64(shard)<<indexShift | sequenceVersion,
	}
}

// ParseSequenceNumber is the inverse of [SequenceNumber.String]. It takes "0"
// and numbers of Kinesis's current layout, also those of records that do not
// exist. Any other text is an [ErrInvalidArgument].
func ParseSequenceNumber(text string) (SequenceNumber, error) {
	hi, mid, lo, err := decimal.Parse(text)
	n := SequenceNumber{hi, mid, lo}
	rule := ""
	if err != nil {
		rule = "must be decimal digits of a sequence number (" + err.Error() + ")"
	} else {
		rule = n.validate()
	}
	if rule != "" {
		return SequenceNumber{}, &InvalidArgumentError{Field: "SequenceNumber", Value: fmt.Sprintf("%.64q", text), Rule: rule}
	}
	return n, nil
}

// validate returns the rule that the number breaks, or "". It does not look at
// the parts that Kinesis does not look at: the eight bits of zeros, and whether
// the low bits of the index are those of the index.
func (n SequenceNumber) validate() string {
	switch {
	case n.IsZero():
		return ""
	case n.hi>>topVersionShift != sequenceVersion || n.lo&0xf != sequenceVersion:
		return "must be 0 or a Kinesis sequence number of the current version, which has 56 digits"
	case n.createdSeconds() >= createdSecondsEnd:
		return fmt.Sprintf("must have a shard creation time below %d seconds", int64(createdSecondsEnd))
	case n.counter() > endingCounter:
		return "must have a counter below 2^63"
	}
	return ""
}

// moment returns the number as that of a moment, at which no record has arrived:
// it was not given out, and may lie in the future. As a position it is not beyond
// the tip, in whatever copy of the database.
func (n SequenceNumber) moment() SequenceNumber {
	n.mid |= momentBit
	return n
}

func (n SequenceNumber) isMoment() bool { return n.mid&momentBit != 0 }

// withCounter returns the number of the same shard with that counter.
func (n SequenceNumber) withCounter(counter uint64) SequenceNumber {
	return newSequenceNumber(n.createdSeconds(), counter, int64(counter/uint64(time.Second)), n.shardIndex())
}

// String returns the number in decimal: 56 digits, or "0".
func (n SequenceNumber) String() string {
	var buf [decimal.MaxDigits]byte
	return string(decimal.Append(buf[:0], n.hi, n.mid, n.lo))
}

// AppendText appends the text of [SequenceNumber.String] to dst. The error is
// always nil.
func (n SequenceNumber) AppendText(dst []byte) ([]byte, error) {
	return decimal.Append(dst, n.hi, n.mid, n.lo), nil
}

// MarshalText returns the text of [SequenceNumber.String]. The error is always
// nil.
func (n SequenceNumber) MarshalText() ([]byte, error) {
	return n.AppendText(make([]byte, 0, decimal.MaxDigits))
}

// UnmarshalText is [ParseSequenceNumber]. After an error n is as it was.
func (n *SequenceNumber) UnmarshalText(text []byte) error {
	parsed, err := ParseSequenceNumber(string(text))
	if err == nil {
		*n = parsed
	}
	return err
}

// Compare returns -1, 0 or +1 as n is below, equal to or above m.
func (n SequenceNumber) Compare(m SequenceNumber) int {
	if n.hi != m.hi {
		return cmp.Compare(n.hi, m.hi)
	}
	if n.mid != m.mid {
		return cmp.Compare(n.mid, m.mid)
	}
	return cmp.Compare(n.lo, m.lo)
}

// IsZero reports whether n is the zero value, which no record has.
func (n SequenceNumber) IsZero() bool { return n == SequenceNumber{} }

// ShardID is the shard that the number belongs to; empty for the zero value.
func (n SequenceNumber) ShardID() ShardID {
	if n.IsZero() {
		return ""
	}
	return shardID(n.shardIndex())
}

// Time is when the record arrived, to the second, in UTC; the zero time for the
// zero value. [Record].ArrivalTime is more precise.
func (n SequenceNumber) Time() time.Time {
	if n.IsZero() {
		return time.Time{}
	}
	seconds := n.mid&0xff<<secondSplit | n.lo>>secondShift
	return time.Unix(int64(seconds), 0).UTC()
}

// createdSeconds is when the shard was created, in Unix seconds.
func (n SequenceNumber) createdSeconds() int64 {
	return int64(n.hi >> createdShift & (1<<36 - 1))
}

// counter is what orders the numbers of a shard.
func (n SequenceNumber) counter() uint64 { return n.hi<<counterSplit | n.mid>>counterShift }

// shardIndex is the index of the number's shard.
func (n SequenceNumber) shardIndex() uint32 { return uint32(n.lo >> indexShift) }

// ShardID names a shard of a stream, such as "shardId-000000000042". The digits
// are the shard's index: shards are counted in the order in which the stream got
// them, from 0 to 2,147,483,647, and an index is never used again. There are
// always 12 of them, so ids sort by their index.
type ShardID string

// ParseShardID returns the full form of an id that is written in any way that
// Kinesis understands: "shardId-000000000007", "shardId-7" and "7" all are
// "shardId-000000000007". It goes by the digits after the first hyphen, or by the
// whole text if there is none. Whether a stream has such a shard is for
// [Stream.Shard] to say. Errors: [ErrInvalidArgument].
func ParseShardID(text string) (ShardID, error) {
	index, ok := parseShardID(text)
	if !ok {
		return "", &InvalidArgumentError{
			"ShardID", fmt.Sprintf("%.64q", text),
			fmt.Sprintf("must be shardId- and an index from 0 to %d, or the index alone", maxShardIndex),
		}
	}
	return shardID(index), nil
}

// Index returns the shard's index, such as 42 for "shardId-000000000042". It is -1
// for a text that [ParseShardID] refuses.
func (id ShardID) Index() int {
	index, ok := parseShardID(string(id))
	if !ok {
		return -1
	}
	return int(index)
}

const (
	shardIDPrefix = "shardId-"
	shardIDDigits = 12
	maxShardIndex = 1<<31 - 1
)

// shardID returns the name of the shard with that index.
func shardID(index uint32) ShardID {
	var digits [shardIDDigits]byte
	text := strconv.AppendUint(digits[:0], uint64(index), 10)
	buf := make([]byte, 0, len(shardIDPrefix)+shardIDDigits)
	buf = append(buf, shardIDPrefix...)
	for range shardIDDigits - len(text) {
		buf = append(buf, '0')
	}
	return ShardID(append(buf, text...))
}

// parseShardID returns the index that a shard's name stands for. As Kinesis
// does, it goes by the digits after the first hyphen, or by the whole text if
// there is none, so "shardId-0", "x-0" and "0" are all the first shard. ok is
// false for what can name no shard.
func parseShardID(text string) (index uint32, ok bool) {
	if _, after, found := strings.Cut(text, "-"); found {
		text = after
	}
	var n uint64
	for _, digit := range []byte(text) {
		n = n*10 + uint64(digit-'0')
		if digit < '0' || digit > '9' || n > maxShardIndex {
			return 0, false
		}
	}
	return uint32(n), text != ""
}
