package wire

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
)

// Blobs make up most of a document, so their base64 has its own inner loops, more than
// twice as fast as those of encoding/base64. Each loop does the bulk and leaves the end to
// encoding/base64.

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// strict64 refuses nonzero trailing bits. It skips line breaks, so callers exclude those
// first.
var strict64 = base64.StdEncoding.Strict()

// pairs has the two characters for 12 bits, in little-endian order. bits12 is its inverse,
// and notBase64 for all other pairs.
var (
	pairs  [1 << 12]uint16
	bits12 [1 << 16]uint16
)

const notBase64 = 0xffff

func init() {
	for i := range bits12 {
		bits12[i] = notBase64
	}
	for i := range pairs {
		pairs[i] = uint16(alphabet[i>>6]) | uint16(alphabet[i&0x3f])<<8
		bits12[pairs[i]] = uint16(i)
	}
}

// decode64 decodes src into dst, which has room for base64.StdEncoding.DecodedLen of
// it, and returns the length. It fails for anything but padded standard base64.
func decode64(dst, src []byte) (int, bool) {
	if len(src)%4 != 0 {
		return 0, false
	}
	room := len(dst)
	// Each round writes eight bytes, six of which count, so the loop stops before the end.
	for len(src) >= 8 && len(dst) >= 8 {
		w := binary.LittleEndian.Uint64(src)
		a, b, c, d := bits12[uint16(w)], bits12[uint16(w>>16)], bits12[uint16(w>>32)], bits12[w>>48]
		if (a|b|c|d)>>12 != 0 {
			break // an invalid character or padding; the code below distinguishes them
		}
		binary.BigEndian.PutUint64(dst, uint64(a)<<52|uint64(b)<<40|uint64(c)<<28|uint64(d)<<16)
		src, dst = src[8:], dst[6:]
	}
	for _, c := range src {
		if c == '\n' || c == '\r' {
			return 0, false
		}
	}
	n, err := strict64.Decode(dst, src)
	return room - len(dst) + n, err == nil
}

// append64 appends the padded standard base64 of src.
func append64(dst, src []byte) []byte {
	n := base64.StdEncoding.EncodedLen(len(src))
	start := len(dst)
	dst = slices.Grow(dst, n)[:start+n]
	out := dst[start:]
	for len(src) >= 8 { // of which six are used
		w := binary.BigEndian.Uint64(src)
		binary.LittleEndian.PutUint64(out, uint64(pairs[w>>52])|uint64(pairs[w>>40&0xfff])<<16|
			uint64(pairs[w>>28&0xfff])<<32|uint64(pairs[w>>16&0xfff])<<48)
		src, out = src[6:], out[8:]
	}
	base64.StdEncoding.Encode(out, src)
	return dst
}
