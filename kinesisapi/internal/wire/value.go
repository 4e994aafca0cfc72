package wire

import (
	"errors"
	"math"
	"unicode/utf8"
)

// Limits on documents of any format. Legal requests stay far below. The limits bound the
// memory and the stack that a hostile request can use.
const (
	maxDepth = 64
	maxNodes = 1 << 20
	maxBody  = math.MaxInt32 // positions in a body have 32 bits
)

var (
	errMalformed = errors.New("wire: the document is not well-formed")
	errLimit     = errors.New("wire: the document is nested too deeply, or has too many elements")
)

// kind is the kind of a node.
type kind uint8

const (
	kindNull    kind = iota
	kindFalse        // no content
	kindTrue         // no content
	kindDecimal      // a number as text; a, b: where it is
	kindUint         // a, b: high and low half of the number
	kindNegint       // a, b: high and low half of n, for the number -1-n
	kindFloat        // a, b: high and low half of the bits
	kindString       // a, b: where its text is
	kindBlob         // a, b: where its bytes are
	kindList         // a: the count of elements
	kindMap          // a: the count of members
)

// node is an element of a document. The nodes of a document are in one slice, in the order
// of the text. A list is followed by its elements. A map is followed by its members, each a
// key node and a value node.
type node struct {
	kind    kind
	escaped bool // a string that still has its JSON escapes
	joined  bool // a string or blob that lies in document.joined
	instant bool // a number that counts milliseconds since the epoch, by its tag
	a, b    uint32
	next    uint32 // the node after this one and all its contents
}

// document is a parsed body.
type document struct {
	body   []byte
	joined []byte // strings and blobs that came in pieces
	nodes  []node
	text   int // an upper bound for the bytes of all strings and blobs, without keys
}

// Value is a node of a parsed document. The zero Value is null. A Value may refer to
// the body that it was parsed from, so the body must not change while it is in use.
type Value struct {
	doc *document
	at  uint32
}

// IsMap reports whether the node is a map (an object, in JSON).
func (v Value) IsMap() bool {
	return v.doc != nil && v.doc.nodes[v.at].kind == kindMap
}

// TypeError is the error for a member of the wrong type. Its message is that of the
// service's SerializationException.
type TypeError struct{ Message string }

func (e *TypeError) Error() string { return e.Message }

// raw returns the bytes of a node as they are in the body.
func (d *document) raw(n *node) []byte {
	if n.joined {
		return d.joined[n.a:n.b]
	}
	return d.body[n.a:n.b]
}

// bytes returns the content of a string or a blob. It may alias the body.
func (d *document) bytes(n *node) []byte {
	raw := d.raw(n)
	if n.escaped {
		return appendUnescaped(make([]byte, 0, len(raw)), raw)
	}
	return raw
}

// string returns the text of a string. Invalid UTF-8 is replaced.
func (d *document) string(n *node) []byte {
	text := d.bytes(n)
	if !utf8.Valid(text) {
		return []byte(string([]rune(string(text))))
	}
	return text
}

func (n *node) bits() uint64 { return uint64(n.a)<<32 | uint64(n.b) }

func (n *node) setBits(v uint64) { n.a, n.b = uint32(v>>32), uint32(v) }

// integer returns a number times ten to the given power, rounded down and clamped to int64.
// Only text is scaled.
func (d *document) integer(n *node, power int) int64 {
	switch bits := n.bits(); n.kind {
	case kindDecimal:
		return decimal(d.raw(n), power)
	case kindUint:
		return int64(min(bits, math.MaxInt64))
	case kindNegint:
		return -1 - int64(min(bits, math.MaxInt64))
	default:
		f := math.Floor(math.Float64frombits(bits))
		switch {
		case f >= math.MaxInt64: // the constant is 2^63 as a float64
			return math.MaxInt64
		case f <= math.MinInt64:
			return math.MinInt64
		}
		return int64(f)
	}
}

// decimal returns the floor of a JSON number times ten to the given power, clamped to
// int64. It is exact, because it uses no floats.
func decimal(text []byte, power int) int64 {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	end := len(text)
	for i, c := range text {
		if c == 'e' || c == 'E' {
			power += exponent(text[i+1:])
			end = i
			break
		}
	}
	// The digits are read as one whole number. point is the number of digits before the decimal
	// point, after the exponent has moved it.
	point, fraction := power, false
	for _, c := range text[:end] {
		if c == '.' {
			break
		}
		point++
	}
	n, seen, over := uint64(0), 0, false
	for _, c := range text[:end] {
		if c == '.' {
			continue
		}
		if seen < point {
			n, over = shifted(n, uint64(c-'0'), over)
		} else if c != '0' {
			fraction = true
		}
		seen++
	}
	for ; seen < point && n != 0 && !over; seen++ {
		n, over = shifted(n, 0, over)
	}
	if !negative {
		if over {
			return math.MaxInt64
		}
		return int64(n)
	}
	if over {
		return math.MinInt64
	}
	if fraction {
		return -int64(n) - 1 // at least the least int64, as n is at most the greatest
	}
	return -int64(n)
}

// shifted appends a digit to n. Once n exceeds int64, it stays there.
func shifted(n, digit uint64, over bool) (uint64, bool) {
	if over || n > (math.MaxInt64-digit)/10 {
		return n, true
	}
	return n*10 + digit, false
}

// exponent reads the exponent of a number. It is clamped at a billion: no body has that
// many digits.
func exponent(text []byte) int {
	negative := text[0] == '-'
	if negative || text[0] == '+' {
		text = text[1:]
	}
	n := 0
	for _, c := range text {
		n = min(n*10+int(c-'0'), 1_000_000_000)
	}
	if negative {
		return -n
	}
	return n
}
