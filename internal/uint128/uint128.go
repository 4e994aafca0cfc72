// Package uint128 is the arithmetic of hash keys: unsigned integers of 128 bits with their
// order, the few operations for dividing a range among shards, and their text and byte forms.
// It knows numbers, not streams. Its callers are internal/layout, which stores the numbers, and
// package braid, which gives them a meaning.
package uint128

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/braidstream/braid/internal/decimal"
)

// Uint128 is the number Hi·2^64 + Lo. The zero value is 0. Values can be
// compared with ==, and be keys of maps.
//
// Arithmetic is modulo 2^128, like that of Go's own unsigned integers.
type Uint128 struct{ Hi, Lo uint64 }

// Max is the largest number, 2^128-1.
var Max = Uint128{Hi: 1<<64 - 1, Lo: 1<<64 - 1}

// Compare returns -1, 0 or +1 as n is below, equal to or above m.
func (n Uint128) Compare(m Uint128) int {
	switch {
	case n == m:
		return 0
	case n.Less(m):
		return -1
	}
	return +1
}

// Less reports whether n is below m.
func (n Uint128) Less(m Uint128) bool {
	return n.Hi < m.Hi || n.Hi == m.Hi && n.Lo < m.Lo
}

// Add returns n + m modulo 2^128.
func (n Uint128) Add(m Uint128) Uint128 {
	lo, carry := bits.Add64(n.Lo, m.Lo, 0)
	hi, _ := bits.Add64(n.Hi, m.Hi, carry)
	return Uint128{hi, lo}
}

// Sub returns n - m modulo 2^128.
func (n Uint128) Sub(m Uint128) Uint128 {
	lo, borrow := bits.Sub64(n.Lo, m.Lo, 0)
	hi, _ := bits.Sub64(n.Hi, m.Hi, borrow)
	return Uint128{hi, lo}
}

// AddOne returns the number after n; after [Max] comes 0.
func (n Uint128) AddOne() Uint128 { return n.Add(Uint128{Lo: 1}) }

// SubOne returns the number before n; before 0 comes [Max].
func (n Uint128) SubOne() Uint128 { return n.Sub(Uint128{Lo: 1}) }

// Step returns floor(2^128/n), the size of each part when n shards divide the whole space
// equally. n must be at least 1. Step(1) is 2^128, the whole space, which is 0 modulo 2^128.
func Step(n uint64) Uint128 {
	// 2^128 does not fit, so divide 2^128-1 and correct for the missing 1: it matters only when
	// the remainder is n-1.
	hi, r := Max.Hi/n, Max.Hi%n
	lo, r := bits.Div64(r, Max.Lo, n)
	step := Uint128{hi, lo}
	if r == n-1 {
		step = step.AddOne()
	}
	return step
}

// Midpoint returns floor((a+b)/2) without overflow of the sum. The order of a and b does not
// matter; for a < b the result is in [a, b).
func Midpoint(a, b Uint128) Uint128 {
	lo, carry := bits.Add64(a.Lo, b.Lo, 0)
	hi, carry := bits.Add64(a.Hi, b.Hi, carry)
	return Uint128{Hi: carry<<63 | hi>>1, Lo: hi<<63 | lo>>1}
}

// String returns the decimal form, without leading zeros.
func (n Uint128) String() string {
	var buf [decimal.MaxDigits]byte
	return string(n.Append(buf[:0]))
}

// Append appends the decimal form to dst.
func (n Uint128) Append(dst []byte) []byte { return decimal.Append(dst, 0, n.Hi, n.Lo) }

// Parse is the inverse of [Uint128.String]: it accepts the digits of 0 to 2^128-1, without sign
// or leading zeros.
func Parse(text string) (Uint128, error) {
	above, hi, lo, err := decimal.Parse(text)
	if err == nil && above != 0 {
		err = decimal.ErrRange
	}
	if err != nil {
		return Uint128{}, fmt.Errorf("%.64q is not a decimal number from 0 to 2^128-1: %w", text, err)
	}
	return Uint128{hi, lo}, nil
}

// Bytes returns the big-endian form. Its order, byte by byte, is the order of
// the numbers.
func (n Uint128) Bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], n.Hi)
	binary.BigEndian.PutUint64(b[8:], n.Lo)
	return b
}

// FromBytes is the inverse of [Uint128.Bytes].
func FromBytes(b [16]byte) Uint128 {
	return Uint128{Hi: binary.BigEndian.Uint64(b[:8]), Lo: binary.BigEndian.Uint64(b[8:])}
}
