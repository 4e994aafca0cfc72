// Package decimal writes and reads unsigned numbers of up to 192 bits in decimal. It does not
// know what they mean: its callers write hash keys (internal/uint128) and sequence numbers
// (package braid).
package decimal

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
)

// MaxDigits is the number of digits of 2^192-1.
const MaxDigits = 58

// A chunk has the largest number of digits that always fit in one word.
const (
	chunkDigits = 19
	chunkSize   = 10_000_000_000_000_000_000
)

// ErrRange is the error of [Parse] for numbers of more than 192 bits. Callers with a smaller
// limit may return it for theirs.
var ErrRange = errors.New("it is too large")

// Append appends the digits of hi·2^128 + mid·2^64 + lo to dst, without leading
// zeros; zero is "0".
func Append(dst []byte, hi, mid, lo uint64) []byte {
	var tail [3 * chunkDigits]byte // filled from its end
	start := len(tail)
	for hi|mid != 0 {
		var chunk uint64
		hi, mid, lo, chunk = divide(hi, mid, lo)
		start -= chunkDigits
		putChunk((*[chunkDigits]byte)(tail[start:]), chunk)
	}
	dst = strconv.AppendUint(dst, lo, 10)
	return append(dst, tail[start:]...)
}

// divide returns the number divided by chunkSize, and the remainder.
func divide(hi, mid, lo uint64) (qHi, qMid, qLo, chunk uint64) {
	qHi, chunk = hi/chunkSize, hi%chunkSize
	qMid, chunk = bits.Div64(chunk, mid, chunkSize)
	qLo, chunk = bits.Div64(chunk, lo, chunkSize)
	return qHi, qMid, qLo, chunk
}

// putChunk writes all digits of a chunk, including leading zeros. It divides two halves,
// because their divisions run in parallel, and 32-bit division is cheaper.
func putChunk(dst *[chunkDigits]byte, chunk uint64) {
	const half = 1_000_000_000
	top := chunk / half // at most ten digits
	dst[0] = '0' + byte(top/half)
	put9((*[9]byte)(dst[1:10]), uint32(top%half))
	put9((*[9]byte)(dst[10:19]), uint32(chunk%half))
}

func put9(dst *[9]byte, v uint32) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = '0' + byte(v%10)
		v /= 10
	}
}

// Parse is the inverse of [Append]. It accepts digits without sign or leading zeros; its error
// says what is wrong with any other text.
func Parse(text string) (hi, mid, lo uint64, err error) {
	if err := check(text); err != nil {
		return 0, 0, 0, err
	}
	for len(text) > 0 {
		n := min(len(text), chunkDigits)
		scale, chunk := uint64(1), uint64(0)
		for _, digit := range []byte(text[:n]) {
			scale, chunk = scale*10, chunk*10+uint64(digit-'0')
		}
		text = text[n:]
		var carry uint64
		lo, carry = multiplyAdd(lo, scale, chunk)
		mid, carry = multiplyAdd(mid, scale, carry)
		hi, carry = multiplyAdd(hi, scale, carry)
		if carry != 0 {
			return 0, 0, 0, ErrRange
		}
	}
	return hi, mid, lo, nil
}

// check reports whether the text has the form of a number of any size.
func check(text string) error {
	if text == "" {
		return errors.New("it is empty")
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return fmt.Errorf("byte %d is %q, not a digit", i, text[i])
		}
	}
	if text[0] == '0' && len(text) > 1 {
		return errors.New("it has a leading zero")
	}
	return nil
}

// multiplyAdd returns the low and the high word of a·b + c.
func multiplyAdd(a, b, c uint64) (lo, hi uint64) {
	hi, lo = bits.Mul64(a, b)
	lo, carry := bits.Add64(lo, c, 0)
	return lo, hi + carry
}
