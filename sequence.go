package braid

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid/internal/decimal"
)

// SequenceNumber is the place of a record in its shard. It has the layout of Amazon Kinesis's
// numbers: an integer of 186 bits, with 56 decimal digits. Values can be compared with == and
// used as keys of maps. The zero value lies before every record; its text is "0".
//
// From the most significant digit, in hexadecimal:
//
//	digits  bits  holds
//	     1     4  2, the version of this layout
//	     9    36  when the shard was created, in Unix seconds
//	     1     4  the low bits of the shard's index
//	    16    64  the counter; its top bit is always 0
//	     2     8  zero; 1 in a position at a future time (see [RecordsPage].Next)
//	     9    36  when the record arrived, in Unix seconds
//	     8    32  the shard's index
//	     1     4  2 again
//
// Guarantees:
//
//   - Within a shard, numbers increase in the order in which records become
//     visible to readers.
//   - The numbers of a shard that came from a split or a merge are above all
//     numbers of its parents. So for one partition key, numbers increase across
//     any number of reshards.
//   - No two records of a database have the same number.
//   - The texts sort as the numbers do, since all have 56 digits; "0" sorts first.
//
// Numbers of two shards that exist at the same time do not show which record arrived
// first; [Record].ArrivalTime does. Numbers are not contiguous.
//
// Numbers from Kinesis itself have this type as well. Their counter is a plain count; in
// braid it is the arrival time in nanoseconds.
type SequenceNumber struct {
	// Invariant: all zero, or a number that validate accepts.
	hi, mid, lo uint64
}

// The places of the parts of a sequence number in its words.
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

// momentBit is one of the zero bits. Kinesis ignores them, and so do comparisons of a number
// with a shard.
const momentBit = 1 << 8 // in mid

const (
	// endingCounter is the counter of the number at which a shard ends. It is the largest
	// counter.
	endingCounter uint64 = 1<<63 - 1

	// maxCounter is the largest counter of a record: a record's number is always below the
	// one at which its shard ends.
	maxCounter = endingCounter - 1

	// createdSecondsEnd bounds a shard's creation time. Kinesis refuses this second, in the
	// year 2477, and later ones.
	createdSecondsEnd = 16_025_175_000
)

// newSequenceNumber composes a number of its parts. The counter is at most endingCounter.
// Both seconds are not negative, and below createdSecondsEnd; all times that fit a counter in
// nanoseconds are.
func newSequenceNumber(createdSeconds int64, counter uint64, seconds int64, shard uint32) SequenceNumber {
	return SequenceNumber{
		hi:  sequenceVersion<<topVersionShift | uint64(createdSeconds)<<createdShift | uint64(shard&0xf)<<indexNibbleShift | counter>>counterSplit,
		mid: counter<<counterShift | uint64(seconds)>>secondSplit,
		lo:  uint64(seconds)<<secondShift | uint64(shard)<<indexShift | sequenceVersion,
	}
}

// ParseSequenceNumber is the inverse of [SequenceNumber.String]. It accepts "0" and all
// numbers of Kinesis's current layout, even those of records that do not exist. For any other
// text it returns [ErrInvalidArgument].
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

// validate returns the rule that the number breaks, or "". As Kinesis does, it ignores the
// eight zero bits, and the repeated low bits of the index.
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

// moment returns the number with its momentBit set. The result is no record's: it stands for a
// time, perhaps in the future, at which no record has arrived. As a position it is never beyond
// the tip, in any copy of the database.
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

// UnmarshalText sets n as [ParseSequenceNumber] parses the text. An error leaves n unchanged.
func (n *SequenceNumber) UnmarshalText(text []byte) error {
	parsed, err := ParseSequenceNumber(string(text))
	if err == nil {
		*n = parsed
	}
	return err
}

// Compare returns -1, 0 or +1 if n is below, equal to or above m.
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

// ShardID returns the shard that the number belongs to; empty for the zero value.
func (n SequenceNumber) ShardID() ShardID {
	if n.IsZero() {
		return ""
	}
	return shardID(n.shardIndex())
}

// Time returns when the record arrived, to the second, in UTC; the zero time for the zero
// value. [Record].ArrivalTime is more precise.
func (n SequenceNumber) Time() time.Time {
	if n.IsZero() {
		return time.Time{}
	}
	seconds := n.mid&0xff<<secondSplit | n.lo>>secondShift
	return time.Unix(int64(seconds), 0).UTC()
}

// createdSeconds returns when the shard was created, in Unix seconds.
func (n SequenceNumber) createdSeconds() int64 {
	return int64(n.hi >> createdShift & (1<<36 - 1))
}

// counter returns the part that orders the numbers of a shard.
func (n SequenceNumber) counter() uint64 { return n.hi<<counterSplit | n.mid>>counterShift }

// shardIndex returns the index of the number's shard.
func (n SequenceNumber) shardIndex() uint32 { return uint32(n.lo >> indexShift) }

// ShardID names a shard of a stream, such as "shardId-000000000042". The 12 digits are the
// shard's index, so ids sort by index. Shards are numbered in the order of their creation,
// from 0 to 2,147,483,647, and a stream never reuses an index.
type ShardID string

// ParseShardID returns the full form of an id in any form that Kinesis accepts: for
// "shardId-000000000007", "shardId-7" and "7" it returns "shardId-000000000007". It uses the
// digits after the first hyphen, or the whole text if there is none. It does not check whether
// a stream has such a shard; [Stream.Shard] does. Errors: [ErrInvalidArgument].
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

// parseShardID returns the index in a shard's name. As in Kinesis, the index is the digits
// after the first hyphen, or the whole text if there is none, so "shardId-0", "x-0" and "0"
// all name the first shard. ok is false if the text cannot name a shard.
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
