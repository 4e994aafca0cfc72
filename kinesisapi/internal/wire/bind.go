package wire

import (
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Bind copies a document into the struct that into points to. The error is a [*TypeError]
// for the first member of the wrong type.
//
// Unknown members are ignored, and a null member is absent. If a member occurs twice, the
// last one counts. A null in a list becomes an empty value. Numbers are rounded down and
// clamped to the range of the field.
//
// The result does not refer to the body. But its strings and blobs share memory: copy one
// that is kept for long, or it keeps those of the whole request in memory.
func Bind(v Value, into any) error {
	return new(Memory).Bind(v, into)
}

// Memory is reusable memory for the blobs of one request after another. Allocating memory
// for the data of a large request would cost as much as all other work of this package. The
// zero Memory is ready for use.
type Memory struct{ blobs []byte }

// Bind is [Bind], except that the blobs of the result are valid only until the next call.
// Everything else remains valid.
func (m *Memory) Bind(v Value, into any) error {
	target := reflect.ValueOf(into).Elem()
	p := planOf(target.Type())
	if v.doc == nil {
		return &TypeError{"Expected null"}
	}
	b := binder{doc: v.doc, left: v.doc.text, memory: m, blobs: m.blobs}
	if err := b.object(p, v.at, target); err != nil {
		return err
	}
	return nil
}

// binder copies the nodes of a document into structs. Strings and blobs are many and small,
// so it cuts them from a few large pieces of memory.
type binder struct {
	doc     *document
	left    int // an upper bound for the bytes of the remaining strings and blobs
	texts   strings.Builder
	chunk   int // the least size of the next texts
	memory  *Memory
	blobs   []byte   // the unused rest
	strings []string // for fields that are pointers to strings
}

// object binds a map to a struct.
func (b *binder) object(p *plan, at uint32, into reflect.Value) *TypeError {
	nodes := b.doc.nodes
	n := &nodes[at]
	switch n.kind {
	case kindMap:
	case kindList:
		return errStartOfList
	default:
		return &TypeError{"Expected null"}
	}
	// Members mostly come in the order of the fields, so each search continues where the last
	// one ended.
	next := 0
	at++
	for range n.a {
		key, member := &nodes[at], at+1
		at = nodes[member].next
		name := b.doc.bytes(key)
		for i := range p.fields {
			if i += next; i >= len(p.fields) {
				i -= len(p.fields)
			}
			if p.fields[i].name == string(name) {
				if err := b.member(&p.fields[i], member, into); err != nil {
					return err
				}
				next = i + 1
				break
			}
		}
	}
	return nil
}

// member binds a node to a field.
func (b *binder) member(f *field, at uint32, into reflect.Value) *TypeError {
	n := &b.doc.nodes[at]
	if n.kind == kindNull {
		into.Field(f.index).SetZero()
		return nil
	}
	var err *TypeError
	switch f.class {
	case classString:
		var s string
		if s, err = b.string(n); err == nil {
			*fieldAt[*string](into, f) = b.pointer(s)
		}
	case classPlainString:
		*fieldAt[string](into, f), err = b.string(n)
	case classInt32:
		var i int64
		if i, err = b.number(n, "an Integer"); err == nil {
			*fieldAt[*int32](into, f) = new(clamp32(i))
		}
	case classPlainInt32:
		var i int64
		i, err = b.number(n, "an Integer")
		*fieldAt[int32](into, f) = clamp32(i)
	case classInt64:
		var i int64
		if i, err = b.number(n, "an Long"); err == nil {
			*fieldAt[*int64](into, f) = new(i)
		}
	case classPlainInt64:
		*fieldAt[int64](into, f), err = b.number(n, "an Long")
	case classBool:
		var is bool
		if is, err = b.bool(n); err == nil {
			*fieldAt[*bool](into, f) = new(is)
		}
	case classPlainBool:
		*fieldAt[bool](into, f), err = b.bool(n)
	case classTime:
		var t time.Time
		if t, err = b.time(n); err == nil {
			*fieldAt[*time.Time](into, f) = new(t)
		}
	case classPlainTime:
		*fieldAt[time.Time](into, f), err = b.time(n)
	case classBlob:
		*fieldAt[[]byte](into, f), err = b.blob(n)
	case classStrings:
		*fieldAt[[]string](into, f), err = b.list(n, at)
	case classTags:
		*fieldAt[map[string]string](into, f), err = b.tags(n, at)
	case classStruct:
		made := reflect.New(into.Field(f.index).Type().Elem())
		into.Field(f.index).Set(made)
		err = b.object(f.nested, at, made.Elem())
	case classPlainStruct:
		into.Field(f.index).SetZero()
		err = b.object(f.nested, at, into.Field(f.index))
	case classStructs:
		err = b.structs(f, n, at, into.Field(f.index))
	}
	return err
}

func (b *binder) structs(f *field, n *node, at uint32, into reflect.Value) *TypeError {
	if err := wantList(n); err != nil {
		return err
	}
	count := int(n.a)
	made := reflect.MakeSlice(into.Type(), count, count)
	into.Set(made)
	at++
	for i := range count {
		if element := &b.doc.nodes[at]; element.kind != kindNull {
			if err := b.object(f.nested, at, made.Index(i)); err != nil {
				return err
			}
		}
		at = b.doc.nodes[at].next
	}
	return nil
}

func (b *binder) list(n *node, at uint32) ([]string, *TypeError) {
	if err := wantList(n); err != nil {
		return nil, err
	}
	list := make([]string, n.a)
	at++
	for i := range list {
		if element := &b.doc.nodes[at]; element.kind != kindNull {
			s, err := b.string(element)
			if err != nil {
				return nil, err
			}
			list[i] = s
		}
		at = b.doc.nodes[at].next
	}
	return list, nil
}

func (b *binder) tags(n *node, at uint32) (map[string]string, *TypeError) {
	switch n.kind {
	case kindMap:
	case kindList:
		return nil, errStartOfList
	default:
		return nil, &TypeError{"Expected map or null"}
	}
	tags := make(map[string]string, n.a)
	at++
	for range n.a {
		key, value := string(b.doc.string(&b.doc.nodes[at])), &b.doc.nodes[at+1]
		if value.kind == kindNull {
			delete(tags, key)
		} else {
			s, err := b.string(value)
			if err != nil {
				return nil, err
			}
			tags[key] = s
		}
		at = value.next
	}
	return tags, nil
}

func (b *binder) string(n *node) (string, *TypeError) {
	if n.kind != kindString {
		return "", mismatch(n, "an String")
	}
	text := b.doc.string(n)
	b.left -= int(n.b - n.a)
	if b.texts.Cap()-b.texts.Len() < len(text) {
		// Strings from the old piece keep it in memory.
		b.chunk = min(max(2*b.chunk, 256), 32<<10)
		b.texts = strings.Builder{}
		b.texts.Grow(len(text) + min(b.chunk, max(b.left, 0)))
	}
	start := b.texts.Len()
	b.texts.Write(text)
	return b.texts.String()[start:], nil
}

// pointer returns a pointer to a string.
func (b *binder) pointer(s string) *string {
	if len(b.strings) == cap(b.strings) {
		b.strings = make([]string, 0, min(max(2*cap(b.strings), 4), 512))
	}
	b.strings = append(b.strings, s)
	return &b.strings[len(b.strings)-1]
}

// blob accepts a string with base64, even in CBOR.
func (b *binder) blob(n *node) ([]byte, *TypeError) {
	switch n.kind {
	case kindBlob:
		blob := b.cut(int(n.b-n.a), b.left)
		copy(blob, b.doc.raw(n))
		b.left -= len(blob)
		return blob, nil
	case kindString:
	default:
		return nil, mismatch(n, "a Blob")
	}
	text := b.doc.bytes(n)
	blob := b.cut(len(text)/4*3, b.left/4*3)
	size, ok := decode64(blob, text)
	if !ok {
		return nil, badBase64(string(text))
	}
	b.left -= int(n.b - n.a)
	return blob[:size:size], nil
}

// cut returns size bytes for exclusive use. If it allocates, it allocates enough for all
// remaining blobs, which have at most bound bytes.
func (b *binder) cut(size, bound int) []byte {
	if size == 0 {
		return []byte{}
	}
	if len(b.blobs) < size {
		b.memory.blobs = make([]byte, max(size, bound))
		b.blobs = b.memory.blobs
	}
	blob := b.blobs[:size:size]
	b.blobs = b.blobs[size:]
	return blob
}

func (b *binder) number(n *node, want string) (int64, *TypeError) {
	if !n.isNumber() || n.instant {
		return 0, mismatch(n, want)
	}
	return b.doc.integer(n, 0), nil
}

func (b *binder) bool(n *node) (bool, *TypeError) {
	switch n.kind {
	case kindTrue, kindFalse:
		return n.kind == kindTrue, nil
	case kindString:
		return false, &TypeError{"'" + strings.ToUpper(string(b.doc.string(n))) + "' can not be converted to an Boolean"}
	}
	return false, mismatch(n, "an Boolean")
}

// The range of times: the years 1 to 9999. Others are clamped.
const (
	minMillis = -62_135_596_800_000
	maxMillis = 253_402_300_799_999
)

// time reads text as seconds, and every other form as milliseconds.
func (b *binder) time(n *node) (time.Time, *TypeError) {
	if !n.isNumber() {
		return time.Time{}, mismatch(n, "milliseconds since epoch")
	}
	return time.UnixMilli(min(max(b.doc.integer(n, 3), minMillis), maxMillis)).UTC(), nil
}

func (n *node) isNumber() bool {
	return n.kind == kindDecimal || n.kind == kindUint || n.kind == kindNegint || n.kind == kindFloat
}

func clamp32(n int64) int32 {
	return int32(max(math.MinInt32, min(n, math.MaxInt32)))
}

var (
	errStartOfList = &TypeError{"Start of list found where not expected"}
	errStartOfMap  = &TypeError{"Start of structure or map found where not expected."}
)

func wantList(n *node) *TypeError {
	switch n.kind {
	case kindList:
		return nil
	case kindMap:
		return errStartOfMap
	}
	return &TypeError{"Expected list or null"}
}

// mismatch returns the error for a node that does not fit a scalar field.
func mismatch(n *node, want string) *TypeError {
	class := "com.amazon.coral.value.json.numbers.TruncatingBigNumber"
	switch {
	case n.kind == kindList:
		return errStartOfList
	case n.kind == kindMap:
		return errStartOfMap
	case n.kind == kindTrue || n.kind == kindFalse:
		class = "java.lang.Boolean"
	case n.kind == kindString:
		class = "java.lang.String"
	case n.kind == kindBlob:
		class = "java.nio.HeapByteBuffer"
	case n.instant:
		class = "java.util.Date"
	}
	return &TypeError{"class " + class + " can not be converted to " + want}
}

// badBase64 returns the error for a string that is known not to be base64.
func badBase64(text string) *TypeError {
	prefix := "'" + strings.ToValidUTF8(text, "\ufffd") + "' can not be converted to a Blob: "
	if n := length(text); n%4 != 0 {
		return &TypeError{prefix + "Base64 encoded length is expected a multiple of 4 bytes but found: " + strconv.Itoa(n)}
	}
	for i, c := range text {
		stray := c > '~' || c != '=' && strings.IndexByte(alphabet, byte(c)) < 0
		if stray || c == '=' && i+1 < len(text) && text[i+1] != '=' {
			return &TypeError{prefix + "Invalid Base64 character: '" + string(c) + "'"}
		}
	}
	return &TypeError{prefix + "Invalid last non-pad Base64 character dectected"}
}
