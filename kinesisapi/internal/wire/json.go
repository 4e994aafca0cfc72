package wire

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// ParseJSON parses a JSON document. Any error means that the body is not well-formed, or
// exceeds the limits of this package. The Value refers to body.
//
// It accepts exactly RFC 8259, except that strings may contain invalid UTF-8, as in
// encoding/json.
func ParseJSON(body []byte) (Value, error) {
	if len(body) > maxBody {
		return Value{}, errLimit
	}
	s := scanner{
		body:    body,
		nodes:   make([]node, 0, 16+len(body)/256),
		escapes: bytes.IndexByte(body, '\\') >= 0,
	}
	end := s.value(s.space(0), 0)
	if end >= 0 && s.space(end) != len(body) {
		end = malformed
	}
	switch end {
	case malformed:
		return Value{}, errMalformed
	case beyondLimit:
		return Value{}, errLimit
	}
	return Value{doc: &document{body: body, nodes: s.nodes, text: s.text}}, nil
}

// The results of a scanner's methods, instead of a position, when they fail.
const (
	malformed   = -1
	beyondLimit = -2
)

// scanner reads a JSON text. Its methods take a position in the body, and return the
// position after what they have read.
type scanner struct {
	body  []byte
	nodes []node
	text  int // as in document
	// escapes is set if there is a backslash somewhere in the body.
	escapes bool
}

// space skips white space.
func (s *scanner) space(i int) int {
	for i < len(s.body) && s.body[i] <= ' ' {
		if c := s.body[i]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			break
		}
		i++
	}
	return i
}

// value reads the value at i, which is nested in depth lists and maps.
func (s *scanner) value(i, depth int) int {
	if i >= len(s.body) {
		return malformed
	}
	if len(s.nodes) >= maxNodes {
		return beyondLimit
	}
	switch c := s.body[i]; c {
	case '"':
		end, escaped := s.closing(i + 1)
		if end < 0 {
			return malformed
		}
		s.add(node{kind: kindString, escaped: escaped, a: uint32(i + 1), b: uint32(end)})
		s.text += end - i - 1
		return end + 1
	case '{':
		return s.object(i+1, depth+1)
	case '[':
		return s.array(i+1, depth+1)
	case 'n':
		return s.word(i, "null", kindNull)
	case 't':
		return s.word(i, "true", kindTrue)
	case 'f':
		return s.word(i, "false", kindFalse)
	default:
		return s.number(i)
	}
}

func (s *scanner) add(n node) {
	n.next = uint32(len(s.nodes) + 1)
	s.nodes = append(s.nodes, n)
}

// object reads the members of an object, starting after its opening brace.
func (s *scanner) object(i, depth int) int {
	if depth > maxDepth {
		return beyondLimit
	}
	at := len(s.nodes)
	s.add(node{kind: kindMap})
	count := uint32(0)
	if i = s.space(i); i < len(s.body) && s.body[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(s.body) || s.body[i] != '"' {
			return malformed
		}
		end, escaped := s.closing(i + 1)
		if end < 0 {
			return malformed
		}
		s.add(node{kind: kindString, escaped: escaped, a: uint32(i + 1), b: uint32(end)})
		if i = s.space(end + 1); i >= len(s.body) || s.body[i] != ':' {
			return malformed
		}
		if i = s.value(s.space(i+1), depth); i < 0 {
			return i
		}
		count++
		if i = s.space(i); i >= len(s.body) {
			return malformed
		}
		switch s.body[i] {
		case ',':
			i = s.space(i + 1)
		case '}':
			s.close(at, count)
			return i + 1
		default:
			return malformed
		}
	}
}

// array reads the elements of an array, starting after its opening bracket.
func (s *scanner) array(i, depth int) int {
	if depth > maxDepth {
		return beyondLimit
	}
	at := len(s.nodes)
	s.add(node{kind: kindList})
	count := uint32(0)
	if i = s.space(i); i < len(s.body) && s.body[i] == ']' {
		return i + 1
	}
	for {
		if i = s.value(i, depth); i < 0 {
			return i
		}
		count++
		if i = s.space(i); i >= len(s.body) {
			return malformed
		}
		switch s.body[i] {
		case ',':
			i = s.space(i + 1)
		case ']':
			s.close(at, count)
			return i + 1
		default:
			return malformed
		}
	}
}

// close ends the list or map at the given node.
func (s *scanner) close(at int, count uint32) {
	s.nodes[at].a = count
	s.nodes[at].next = uint32(len(s.nodes))
}

func (s *scanner) word(i int, word string, k kind) int {
	end := i + len(word)
	if end > len(s.body) || string(s.body[i:end]) != word {
		return malformed
	}
	s.add(node{kind: k})
	return end
}

func (s *scanner) number(i int) int {
	start := i
	if s.body[i] == '-' {
		i++
	}
	if i < len(s.body) && s.body[i] == '0' {
		i++
	} else if i = s.digits(i); i < 0 {
		return malformed
	}
	if i < len(s.body) && s.body[i] == '.' {
		if i = s.digits(i + 1); i < 0 {
			return malformed
		}
	}
	if i < len(s.body) && s.body[i]|0x20 == 'e' {
		i++
		if i < len(s.body) && (s.body[i] == '+' || s.body[i] == '-') {
			i++
		}
		if i = s.digits(i); i < 0 {
			return malformed
		}
	}
	s.add(node{kind: kindDecimal, a: uint32(start), b: uint32(i)})
	return i
}

// digits reads one digit or more.
func (s *scanner) digits(i int) int {
	start := i
	for i < len(s.body) && '0' <= s.body[i] && s.body[i] <= '9' {
		i++
	}
	if i == start {
		return malformed
	}
	return i
}

// closing returns the position of the quote that ends a string, searching from the first
// byte of its content, and whether the string has escapes. The position is negative if
// there is no such quote, or if the string is not well-formed.
//
// It sees every byte of a request, so it leaves as much as possible to the vector
// instructions of bytes.IndexByte.
func (s *scanner) closing(i int) (end int, escaped bool) {
	n := bytes.IndexByte(s.body[i:], '"')
	if n < 0 {
		return malformed, false
	}
	text := s.body[i : i+n]
	if s.escapes && bytes.IndexByte(text, '\\') >= 0 {
		return closingEscaped(s.body, i), true
	}
	if hasControl(text) {
		return malformed, false
	}
	return i + n, false
}

// closingEscaped is closing for a string with escapes in it.
func closingEscaped(b []byte, i int) int {
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			return i
		case c == '\\':
			if i = escape(b, i+1); i < 0 {
				return malformed
			}
		case c < ' ':
			return malformed
		default:
			i++
		}
	}
	return malformed
}

// hasControl reports whether b has an ASCII control character, a byte below the space. It
// checks eight bytes at once.
func hasControl(b []byte) bool {
	const lanes = 0x0101010101010101
	found := uint64(0) // in the high bit of any byte
	for len(b) >= 32 {
		w, x := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		y, z := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
		// A byte below the space borrows, which sets its high bit. That may spoil
		// the bytes above it, but then the answer is known.
		found |= (w-' '*lanes)&^w | (x-' '*lanes)&^x | (y-' '*lanes)&^y | (z-' '*lanes)&^z
		b = b[32:]
	}
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		found |= (w - ' '*lanes) &^ w
	}
	for _, c := range b {
		if c < ' ' {
			return true
		}
	}
	return found&(0x80*lanes) != 0
}

// escape reads what follows a backslash.
func escape(b []byte, i int) int {
	if i >= len(b) {
		return malformed
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if _, ok := hex4(b[i+1:]); ok {
			return i + 5
		}
	}
	return malformed
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	r := rune(0)
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendUnescaped appends the content of a well-formed JSON string. The result is
// not longer than the string. Half a surrogate pair becomes U+FFFD.
func appendUnescaped(dst, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(s[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(0)
				if rest := s[i+1:]; len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
					low, _ = hex4(rest[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
