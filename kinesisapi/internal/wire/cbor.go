package wire

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// cborMode decides what is well-formed. The protocol has neither NaN nor infinities.
var cborMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels:  maxDepth,
		MaxArrayElements: maxNodes,
		MaxMapPairs:      maxNodes,
		NaN:              cbor.NaNDecodeForbidden,
		Inf:              cbor.InfDecodeForbidden,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// ParseCBOR parses a CBOR document, with definite or indefinite lengths. Any error means
// that the body is not well-formed, or exceeds the limits of this package. The Value may
// refer to body.
//
// Tag 1 marks milliseconds since the epoch: the protocol differs from the standard here.
// Other tags are dropped, and their content is used.
func ParseCBOR(body []byte) (Value, error) {
	if len(body) > maxBody {
		return Value{}, errLimit
	}
	if err := cborMode.Wellformed(body); err != nil {
		return Value{}, err
	}
	w := walker{document{body: body, nodes: make([]node, 0, 16+len(body)/256)}}
	if _, err := w.item(0, false); err != nil {
		return Value{}, err
	}
	return Value{doc: &w.document}, nil
}

// The major types of CBOR.
const (
	cborUint = iota
	cborNegint
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

// cborBreak ends an item of indefinite length.
const cborBreak = 0xff

// walker builds the nodes of a document that the decoder has found well-formed. So it need
// not check for the end of the body, and can trust the lengths in it.
type walker struct{ document }

// head is the start of an item.
type head struct {
	major      byte
	info       byte
	indefinite bool
	argument   uint64
	end        int
}

func (w *walker) head(i int) head {
	h := head{major: w.body[i] >> 5, info: w.body[i] & 0x1f, end: i + 1}
	switch rest := w.body[i+1:]; h.info {
	case 24:
		h.argument, h.end = uint64(rest[0]), i+2
	case 25:
		h.argument, h.end = uint64(binary.BigEndian.Uint16(rest)), i+3
	case 26:
		h.argument, h.end = uint64(binary.BigEndian.Uint32(rest)), i+5
	case 27:
		h.argument, h.end = binary.BigEndian.Uint64(rest), i+9
	case 31:
		h.indefinite = true
	default:
		h.argument = uint64(h.info)
	}
	return h
}

func (w *walker) add(n node) {
	n.next = uint32(len(w.nodes) + 1)
	w.nodes = append(w.nodes, n)
}

// item reads the item at i and returns the position of the next. instant means that the
// item is the content of tag 1.
func (w *walker) item(i int, instant bool) (int, error) {
	if len(w.nodes) >= maxNodes {
		return 0, errLimit
	}
	h := w.head(i)
	switch h.major {
	case cborUint, cborNegint:
		n := node{kind: kindUint, instant: instant}
		if h.major == cborNegint {
			n.kind = kindNegint
		}
		n.setBits(h.argument)
		w.add(n)
		return h.end, nil
	case cborBytes, cborText:
		n, end, err := w.string(h)
		if err != nil {
			return 0, err
		}
		w.add(n)
		w.text += int(n.b - n.a)
		return end, nil
	case cborArray, cborMap:
		return w.container(h)
	case cborTag:
		return w.item(h.end, h.argument == 1)
	}
	switch h.info {
	case 20:
		w.add(node{kind: kindFalse})
	case 21:
		w.add(node{kind: kindTrue})
	case 22, 23: // null and undefined
		w.add(node{kind: kindNull})
	case 25, 26, 27:
		var f float64
		if err := cborMode.Unmarshal(w.body[i:h.end], &f); err != nil {
			return 0, err
		}
		n := node{kind: kindFloat, instant: instant}
		n.setBits(math.Float64bits(f))
		w.add(n)
	default:
		return 0, errMalformed // a simple value without a meaning
	}
	return h.end, nil
}

// string reads a text or byte string. If it comes in pieces, it is joined.
func (w *walker) string(h head) (node, int, error) {
	n := node{kind: kindBlob}
	if h.major == cborText {
		n.kind = kindString
	}
	end := h.end
	if h.indefinite {
		n.joined, n.a = true, uint32(len(w.joined))
		for w.body[end] != cborBreak {
			piece := w.head(end)
			end = piece.end + int(piece.argument)
			w.joined = append(w.joined, w.body[piece.end:end]...)
		}
		n.b = uint32(len(w.joined))
		end++
	} else {
		end += int(h.argument)
		n.a, n.b = uint32(h.end), uint32(end)
	}
	if n.kind == kindString && !utf8.Valid(w.raw(&n)) {
		return node{}, 0, errMalformed
	}
	return n, end, nil
}

// container reads the elements of an array, or the members of a map, whose keys must
// be text.
func (w *walker) container(h head) (int, error) {
	at := len(w.nodes)
	n := node{kind: kindList}
	if h.major == cborMap {
		n.kind = kindMap
	}
	w.add(n)
	count, i := uint64(0), h.end
	for {
		if h.indefinite && w.body[i] == cborBreak {
			i++
			break
		}
		if !h.indefinite && count == h.argument {
			break
		}
		if n.kind == kindMap {
			key := w.head(i)
			if key.major != cborText {
				return 0, errMalformed
			}
			name, end, err := w.string(key)
			if err != nil {
				return 0, err
			}
			w.add(name)
			i = end
		}
		end, err := w.item(i, false)
		if err != nil {
			return 0, err
		}
		i = end
		count++
	}
	w.nodes[at].a = uint32(count)
	w.nodes[at].next = uint32(len(w.nodes))
	return i, nil
}
