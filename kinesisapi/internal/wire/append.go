package wire

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends a struct, or the target of a pointer to one, as a JSON object. Nil
// members are left out. Invalid UTF-8 becomes U+FFFD.
func AppendJSON(dst []byte, out any) []byte {
	v, p := structOf(out)
	if !v.IsValid() {
		return append(dst, '{', '}')
	}
	return appendJSONStruct(dst, p, v)
}

func appendJSONStruct(dst []byte, p *plan, v reflect.Value) []byte {
	dst = append(dst, '{')
	start := len(dst)
	for i := range p.fields {
		f := &p.fields[i]
		before := len(dst)
		if before > start {
			dst = append(dst, ',')
		}
		dst = append(dst, f.json...)
		named := len(dst)
		if dst = appendJSONMember(dst, f, v); len(dst) == named {
			dst = dst[:before] // it is absent
		}
	}
	return append(dst, '}')
}

// appendJSONMember appends the value of a field, or nothing if it is absent.
func appendJSONMember(dst []byte, f *field, v reflect.Value) []byte {
	switch f.class {
	case classString:
		if p := *fieldAt[*string](v, f); p != nil {
			return appendJSONString(dst, *p)
		}
	case classPlainString:
		return appendJSONString(dst, *fieldAt[string](v, f))
	case classInt32:
		if p := *fieldAt[*int32](v, f); p != nil {
			return strconv.AppendInt(dst, int64(*p), 10)
		}
	case classPlainInt32:
		return strconv.AppendInt(dst, int64(*fieldAt[int32](v, f)), 10)
	case classInt64:
		if p := *fieldAt[*int64](v, f); p != nil {
			return strconv.AppendInt(dst, *p, 10)
		}
	case classPlainInt64:
		return strconv.AppendInt(dst, *fieldAt[int64](v, f), 10)
	case classBool:
		if p := *fieldAt[*bool](v, f); p != nil {
			return strconv.AppendBool(dst, *p)
		}
	case classPlainBool:
		return strconv.AppendBool(dst, *fieldAt[bool](v, f))
	case classTime:
		if p := *fieldAt[*time.Time](v, f); p != nil {
			return appendJSONTime(dst, *p)
		}
	case classPlainTime:
		return appendJSONTime(dst, *fieldAt[time.Time](v, f))
	case classBlob:
		if b := *fieldAt[[]byte](v, f); b != nil {
			dst = append(dst, '"')
			dst = append64(dst, b)
			return append(dst, '"')
		}
	case classStrings:
		if list := *fieldAt[[]string](v, f); list != nil {
			dst = append(dst, '[')
			for i, s := range list {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = appendJSONString(dst, s)
			}
			return append(dst, ']')
		}
	case classTags:
		if tags := *fieldAt[map[string]string](v, f); tags != nil {
			dst = append(dst, '{')
			for i, k := range sortedKeys(tags) {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(appendJSONString(dst, k), ':')
				dst = appendJSONString(dst, tags[k])
			}
			return append(dst, '}')
		}
	case classStruct:
		if p := v.Field(f.index); !p.IsNil() {
			return appendJSONStruct(dst, f.nested, p.Elem())
		}
	case classPlainStruct:
		return appendJSONStruct(dst, f.nested, v.Field(f.index))
	case classStructs:
		if list := v.Field(f.index); !list.IsNil() {
			dst = append(dst, '[')
			for i := range list.Len() {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = appendJSONStruct(dst, f.nested, list.Index(i))
			}
			return append(dst, ']')
		}
	}
	return dst
}

// appendJSONTime appends epoch seconds with three decimals.
func appendJSONTime(dst []byte, t time.Time) []byte {
	ms := t.UnixMilli()
	if ms < 0 {
		dst, ms = append(dst, '-'), -ms
	}
	dst = strconv.AppendInt(dst, ms/1000, 10)
	ms %= 1000
	return append(dst, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
}

func appendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0 // the part before it is appended
	for i := clean(s); i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[from:i]...)
				dst = utf8.AppendRune(dst, utf8.RuneError)
				from = i + 1
			}
			i += size
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i-1]...)
		from = i
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// clean returns how many bytes of s, from its beginning, are ASCII that needs no
// escape, to a multiple of eight.
func clean(s string) int {
	const lanes = 0x0101010101010101
	i := 0
	for ; i+8 <= len(s); i += 8 {
		b := s[i : i+8]
		w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		// The high bit of a byte is set if it is not ASCII. A borrow also sets it, if the byte is
		// below the space or equals the byte that it is compared with.
		if (w|(w-' '*lanes)|((w^'"'*lanes)-lanes)|((w^'\\'*lanes)-lanes))&(0x80*lanes) != 0 {
			break
		}
	}
	return i
}

// AppendCBOR appends a struct, or the target of a pointer to one, as a CBOR map in the form
// of the service: maps and arrays have indefinite length, and timestamps are tag 1 with an
// integer count of milliseconds. Otherwise it works as [AppendJSON].
func AppendCBOR(dst []byte, out any) []byte {
	v, p := structOf(out)
	if !v.IsValid() {
		return append(dst, cborMapStart, cborBreak)
	}
	return appendCBORStruct(dst, p, v)
}

// The initial bytes of items of indefinite length, and of simple values.
const (
	cborMapStart   = cborMap<<5 | 31
	cborArrayStart = cborArray<<5 | 31
	cborFalse      = cborSimple<<5 | 20
	cborTrue       = cborSimple<<5 | 21
)

func appendCBORStruct(dst []byte, p *plan, v reflect.Value) []byte {
	dst = append(dst, cborMapStart)
	for i := range p.fields {
		f := &p.fields[i]
		before := len(dst)
		dst = append(dst, f.cbor...)
		named := len(dst)
		if dst = appendCBORMember(dst, f, v); len(dst) == named {
			dst = dst[:before] // it is absent
		}
	}
	return append(dst, cborBreak)
}

// appendCBORMember appends the value of a field, or nothing if it is absent.
func appendCBORMember(dst []byte, f *field, v reflect.Value) []byte {
	switch f.class {
	case classString:
		if p := *fieldAt[*string](v, f); p != nil {
			return appendCBORText(dst, *p)
		}
	case classPlainString:
		return appendCBORText(dst, *fieldAt[string](v, f))
	case classInt32:
		if p := *fieldAt[*int32](v, f); p != nil {
			return appendCBORInt(dst, int64(*p))
		}
	case classPlainInt32:
		return appendCBORInt(dst, int64(*fieldAt[int32](v, f)))
	case classInt64:
		if p := *fieldAt[*int64](v, f); p != nil {
			return appendCBORInt(dst, *p)
		}
	case classPlainInt64:
		return appendCBORInt(dst, *fieldAt[int64](v, f))
	case classBool:
		if p := *fieldAt[*bool](v, f); p != nil {
			return appendCBORBool(dst, *p)
		}
	case classPlainBool:
		return appendCBORBool(dst, *fieldAt[bool](v, f))
	case classTime:
		if p := *fieldAt[*time.Time](v, f); p != nil {
			return appendCBORTime(dst, *p)
		}
	case classPlainTime:
		return appendCBORTime(dst, *fieldAt[time.Time](v, f))
	case classBlob:
		if b := *fieldAt[[]byte](v, f); b != nil {
			return append(appendCBORHead(dst, cborBytes, uint64(len(b))), b...)
		}
	case classStrings:
		if list := *fieldAt[[]string](v, f); list != nil {
			dst = append(dst, cborArrayStart)
			for _, s := range list {
				dst = appendCBORText(dst, s)
			}
			return append(dst, cborBreak)
		}
	case classTags:
		if tags := *fieldAt[map[string]string](v, f); tags != nil {
			dst = append(dst, cborMapStart)
			for _, k := range sortedKeys(tags) {
				dst = appendCBORText(dst, k)
				dst = appendCBORText(dst, tags[k])
			}
			return append(dst, cborBreak)
		}
	case classStruct:
		if p := v.Field(f.index); !p.IsNil() {
			return appendCBORStruct(dst, f.nested, p.Elem())
		}
	case classPlainStruct:
		return appendCBORStruct(dst, f.nested, v.Field(f.index))
	case classStructs:
		if list := v.Field(f.index); !list.IsNil() {
			dst = append(dst, cborArrayStart)
			for i := range list.Len() {
				dst = appendCBORStruct(dst, f.nested, list.Index(i))
			}
			return append(dst, cborBreak)
		}
	}
	return dst
}

func appendCBORTime(dst []byte, t time.Time) []byte {
	return appendCBORInt(append(dst, cborTag<<5|1), t.UnixMilli())
}

func appendCBORInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendCBORHead(dst, cborNegint, uint64(-1-n))
	}
	return appendCBORHead(dst, cborUint, uint64(n))
}

func appendCBORBool(dst []byte, is bool) []byte {
	if is {
		return append(dst, cborTrue)
	}
	return append(dst, cborFalse)
}

func appendCBORText(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	return append(appendCBORHead(dst, cborText, uint64(len(s))), s...)
}

// appendCBORHead appends the beginning of an item, in the shortest form.
func appendCBORHead(dst []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= 0xff:
		return append(dst, major|24, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

func sortedKeys(tags map[string]string) []string {
	keys := make([]string, 0, len(tags))
	for k := range tags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
