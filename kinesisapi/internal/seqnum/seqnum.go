// Package seqnum decodes sequence numbers of Kinesis, including old layouts that Kinesis no
// longer issues but still accepts in requests. It knows numbers, and must not know streams.
// A number that decodes need not belong to a record.
package seqnum

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// Number is the content of a sequence number. The version decides which fields it has.
//
// In hexadecimal digits, from the most significant one:
//
//	version  digits
//	      2  2, CreateSeconds 9, the low digit of ShardIndex, SeqIx 16, 0 0, Seconds 9, ShardIndex 8, 2
//	      1  2, CreateSeconds 9, the low digit of ShardIndex, 0 0, Seconds 9, random 14, SeqIx 2, ShardIndex 8, 1
//	      0  1, CreateSeconds 9, 0 0, random 16, ShardIndex 4
//
// The zeros, the random digits and the lone low digit have no meaning.
type Number struct {
	Version       int
	CreateSeconds int64  // when the shard was created, in Unix seconds
	ShardIndex    int32  // never negative in numbers that Kinesis issues, but accepted
	SeqIx         uint64 // orders the records of a shard; 0 in version 0
	Seconds       int64  // when the record arrived, in Unix seconds; 0 in version 0
}

// ErrInvalid is the class of errors about texts that are not sequence numbers.
var ErrInvalid = errors.New("invalid sequence number")

const (
	// createSecondsEnd bounds CreateSeconds in versions 0 and 2. It lies in the year 2477.
	createSecondsEnd = 16_025_175_000

	maxSeqIx = 1<<63 - 1

	maxDigits = 56 // of numbers below 3·2^184, above which nothing is valid

	mask36 = 1<<36 - 1 // nine hexadecimal digits
)

// Parse decodes a sequence number. A number below 2^124 counts as one of version 0 without
// its first digits, so "5" belongs to shard 5. All errors are [ErrInvalid].
func Parse(text string) (Number, error) {
	hi, mid, lo, err := words(text)
	if err != nil {
		return Number{}, err
	}
	var n Number
	switch {
	case hi < 2: // below 2^129
		n = version0(hi, mid, lo)
	case hi>>56 != 2: // not 2 as the first of 47 digits
		return Number{}, invalid("it has the size of no version")
	case lo&0xf == 1:
		n = version1(hi, mid, lo)
	case lo&0xf == 2:
		n = version2(hi, mid, lo)
	default:
		return Number{}, invalid("its version is %d, where 1 and 2 are allowed", lo&0xf)
	}
	if n.Version != 1 && n.CreateSeconds >= createSecondsEnd {
		return Number{}, invalid("its shard was created at second %d, where less than %d is allowed", n.CreateSeconds, int64(createSecondsEnd))
	}
	if n.SeqIx > maxSeqIx {
		return Number{}, invalid("its counter is %d, where up to %d is allowed", n.SeqIx, int64(maxSeqIx))
	}
	return n, nil
}

// words returns the number in decimal text as hi·2^128 + mid·2^64 + lo. Signs and
// leading zeros are not allowed.
func words(text string) (hi, mid, lo uint64, err error) {
	switch {
	case text == "":
		return 0, 0, 0, invalid("it is empty")
	case strings.Trim(text, "0123456789") != "":
		return 0, 0, 0, invalid("it has other characters than digits")
	case text[0] == '0' && text != "0":
		return 0, 0, 0, invalid("it has leading zeros")
	case len(text) > maxDigits:
		return 0, 0, 0, invalid("it has the size of no version")
	}
	for _, digit := range []byte(text) { // maxDigits digits fit into 192 bits
		var carry uint64
		lo, carry = timesTen(lo, uint64(digit-'0'))
		mid, carry = timesTen(mid, carry)
		hi, _ = timesTen(hi, carry)
	}
	return hi, mid, lo, nil
}

// timesTen returns 10·word + add, as a word and the carry.
func timesTen(word, add uint64) (low, carry uint64) {
	high, low := bits.Mul64(word, 10)
	low, carry = bits.Add64(low, add, 0)
	return low, high + carry
}

func version0(hi, mid, lo uint64) Number {
	// The layout counts from the first digit. The last of 33 digits is not part of it.
	if hi != 0 {
		mid, lo = hi<<60|mid>>4, mid<<60|lo>>4
	}
	return Number{
		Version:       0,
		CreateSeconds: int64(mid >> 24 & mask36),
		ShardIndex:    int32(lo & 0xffff),
	}
}

func version1(hi, mid, lo uint64) Number {
	return Number{
		Version:       1,
		CreateSeconds: int64(hi >> 20 & mask36),
		ShardIndex:    int32(lo >> 4),
		SeqIx:         lo >> 36 & 0xff,
		Seconds:       int64(hi&0xff<<28 | mid>>36),
	}
}

func version2(hi, mid, lo uint64) Number {
	return Number{
		Version:       2,
		CreateSeconds: int64(hi >> 20 & mask36),
		ShardIndex:    int32(lo >> 4),
		SeqIx:         hi<<48 | mid>>16,
		Seconds:       int64(mid&0xff<<28 | lo>>36),
	}
}

// ShardID returns the name of the number's shard. Error messages of Kinesis also show a
// name for a negative index, which no shard has.
func (n Number) ShardID() string { return fmt.Sprintf("shardId-%012d", n.ShardIndex) }

// ValidForOrdering reports whether the text can be the SequenceNumberForOrdering of a
// request that arrives at the given time: a number that decodes and is not from the future.
// Its shard and stream do not matter.
func ValidForOrdering(text string, now time.Time) bool {
	n, err := Parse(text)
	return err == nil && !time.Unix(n.Seconds, 0).After(now)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
