package wire

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxFaults is the maximum number of reported failures of a request.
const maxFaults = 10

// maxPrinted bounds the printed text of a list of structs, which could be much longer than
// the request.
const maxPrinted = 1000

// Validate checks the constraints on the members of a request. It returns the message of
// the service's ValidationException, which has the first ten failures at most. The message
// is empty if there are none.
func Validate(in any) string {
	v, p := structOf(in)
	c := checker{}
	c.object(p, v)
	switch len(c.faults) {
	case 0:
		return ""
	case 1:
		return "1 validation error detected: " + c.faults[0]
	}
	return strconv.Itoa(len(c.faults)) + " validation errors detected: " + strings.Join(c.faults, "; ")
}

// checker collects the failures of a request.
type checker struct {
	path   []step
	faults []string
}

// step leads from a struct to a struct in one of its fields.
type step struct {
	field *field
	index int // in a list, from 1; 0 if the field is not a list
}

func (c *checker) object(p *plan, v reflect.Value) {
	for i := range p.fields {
		if len(c.faults) >= maxFaults {
			return
		}
		c.member(&p.fields[i], v)
	}
}

func (c *checker) member(f *field, v reflect.Value) {
	var faults []string
	switch s := f.shape; f.class {
	case classString:
		if p := *fieldAt[*string](v, f); p == nil {
			c.absent(f)
		} else if s != nil {
			if faults = s.checkString(nil, *p); faults != nil {
				c.fail(f, *p, faults)
			}
		}
	case classPlainString:
		if p := fieldAt[string](v, f); s != nil {
			if faults = s.checkString(nil, *p); faults != nil {
				c.fail(f, *p, faults)
			}
		}
	case classInt32:
		if p := *fieldAt[*int32](v, f); p == nil {
			c.absent(f)
		} else {
			c.number(f, int64(*p))
		}
	case classInt64:
		if p := *fieldAt[*int64](v, f); p == nil {
			c.absent(f)
		} else {
			c.number(f, *p)
		}
	case classPlainInt32:
		c.number(f, int64(*fieldAt[int32](v, f)))
	case classPlainInt64:
		c.number(f, *fieldAt[int64](v, f))
	case classBool, classTime:
		if v.Field(f.index).IsNil() {
			c.absent(f)
		}
	case classBlob:
		if b := *fieldAt[[]byte](v, f); b == nil {
			c.absent(f)
		} else if s != nil {
			if faults = s.checkLength(nil, len(b)); faults != nil {
				n := strconv.Itoa(len(b))
				c.fail(f, "java.nio.HeapByteBuffer[pos=0 lim="+n+" cap="+n+"]", faults)
			}
		}
	case classStrings:
		if list := *fieldAt[[]string](v, f); list == nil {
			c.absent(f)
		} else if s != nil {
			if faults = s.checkStrings(nil, list); faults != nil {
				c.fail(f, "["+strings.Join(list, ", ")+"]", faults)
			}
		}
	case classTags:
		if tags := *fieldAt[map[string]string](v, f); tags == nil {
			c.absent(f)
		} else if s != nil {
			if faults = s.checkTags(nil, tags); faults != nil {
				c.fail(f, tagsText(tags), faults)
			}
		}
	case classStruct:
		if p := v.Field(f.index); p.IsNil() {
			c.absent(f)
		} else {
			c.nested(f, 0, p.Elem())
		}
	case classPlainStruct:
		c.nested(f, 0, v.Field(f.index))
	case classStructs:
		list := v.Field(f.index)
		if list.IsNil() {
			c.absent(f)
			return
		}
		if s != nil {
			if faults = s.checkLength(nil, list.Len()); faults != nil {
				c.fail(f, structsText(f.nested, list.Len()), faults)
			}
		}
		for i := 0; i < list.Len() && len(c.faults) < maxFaults; i++ {
			c.nested(f, i+1, list.Index(i))
		}
	}
}

func (c *checker) nested(f *field, index int, v reflect.Value) {
	c.path = append(c.path, step{f, index})
	c.object(f.nested, v)
	c.path = c.path[:len(c.path)-1]
}

func (c *checker) number(f *field, n int64) {
	if f.shape == nil {
		return
	}
	if faults := f.shape.checkNumber(nil, n); faults != nil {
		c.fail(f, strconv.FormatInt(n, 10), faults)
	}
}

func (c *checker) absent(f *field) {
	if f.required {
		c.report("Value null", f, "Member must not be null")
	}
}

func (c *checker) fail(f *field, value string, faults []string) {
	for _, fault := range faults {
		c.report("Value '"+value+"'", f, fault)
	}
}

// report adds a failure of a field of the struct at the current path.
func (c *checker) report(value string, f *field, fault string) {
	if len(c.faults) >= maxFaults {
		return
	}
	var path strings.Builder
	for _, s := range c.path {
		path.WriteString(s.field.path)
		if s.index > 0 {
			path.WriteString("." + strconv.Itoa(s.index) + ".member")
		}
		path.WriteByte('.')
	}
	path.WriteString(f.path)
	c.faults = append(c.faults, value+" at '"+path.String()+"' failed to satisfy constraint: "+fault)
}

func tagsText(tags map[string]string) string {
	pairs := make([]string, 0, len(tags))
	for k, v := range tags {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return "{" + strings.Join(pairs, ", ") + "}"
}

// structsText prints a list of structs as the service does: each with an identity and
// without content. Here the identity comes from the index in the list.
func structsText(p *plan, n int) string {
	var text strings.Builder
	text.WriteByte('[')
	for i := range n {
		if i > 0 {
			text.WriteString(", ")
		}
		if i == maxPrinted {
			text.WriteString("...")
			break
		}
		text.WriteString("com.amazonaws.kinesis.v20131202." + p.name + "@")
		text.WriteString(strconv.FormatUint(uint64(uint32(i+1)*0x9e3779b1), 16))
	}
	text.WriteByte(']')
	return text.String()
}
