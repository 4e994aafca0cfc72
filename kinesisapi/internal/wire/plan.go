package wire

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// class is the type of a field. The pointer classes are absent when nil. The plain
// ones are always there.
type class uint8

const (
	classString class = iota
	classInt32
	classInt64
	classBool
	classTime
	classStruct
	classBlob    // []byte
	classStrings // []string
	classStructs // a slice of structs
	classTags    // map[string]string
	classPlainString
	classPlainInt32
	classPlainInt64
	classPlainBool
	classPlainTime
	classPlainStruct
)

var classes = map[reflect.Type]class{
	reflect.TypeFor[*string]():           classString,
	reflect.TypeFor[*int32]():            classInt32,
	reflect.TypeFor[*int64]():            classInt64,
	reflect.TypeFor[*bool]():             classBool,
	reflect.TypeFor[*time.Time]():        classTime,
	reflect.TypeFor[[]byte]():            classBlob,
	reflect.TypeFor[[]string]():          classStrings,
	reflect.TypeFor[map[string]string](): classTags,
	reflect.TypeFor[string]():            classPlainString,
	reflect.TypeFor[int32]():             classPlainInt32,
	reflect.TypeFor[int64]():             classPlainInt64,
	reflect.TypeFor[bool]():              classPlainBool,
	reflect.TypeFor[time.Time]():         classPlainTime,
}

// plan has the facts about a struct type that this package needs.
type plan struct {
	name   string
	fields []field
}

// field is a member of a struct.
type field struct {
	index    int
	name     string // on the wire
	path     string // in the text of a failed constraint
	json     string // the name as a JSON key, with the colon
	cbor     string // the name as a CBOR key
	class    class
	required bool
	shape    *shape // nil if the value has no constraints
	nested   *plan  // of the struct, or of the structs in the slice
}

// plans caches the plan of each struct type, by its reflect.Type.
var plans sync.Map

// planOf returns the plan of a struct type. It panics if the type cannot be part of a
// document: that is a mistake in the program.
func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("wire: %v is no struct", t))
	}
	p := &plan{name: t.Name()}
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			p.fields = append(p.fields, planField(t, f, i))
		}
	}
	made, _ := plans.LoadOrStore(t, p)
	return made.(*plan)
}

func planField(t reflect.Type, f reflect.StructField, index int) field {
	made := field{
		index: index,
		name:  f.Name,
		path:  strings.ToLower(f.Name[:1]) + f.Name[1:],
		json:  strconv.Quote(f.Name) + ":",
		cbor:  string(appendCBORText(nil, f.Name)),
	}
	class, known := classes[f.Type]
	switch k := f.Type.Kind(); {
	case known:
		made.class = class
	case k == reflect.Struct:
		made.class, made.nested = classPlainStruct, planOf(f.Type)
	case k == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct:
		made.class, made.nested = classStruct, planOf(f.Type.Elem())
	case k == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
		made.class, made.nested = classStructs, planOf(f.Type.Elem())
	default:
		panic(fmt.Sprintf("wire: field %s of %v has type %v, which no member has", f.Name, t, f.Type))
	}
	tag := f.Tag.Get("kinesis")
	if tag == "" {
		return made
	}
	for word := range strings.SplitSeq(tag, ",") {
		if word == "required" {
			made.required = true
			continue
		}
		s, ok := shapes[word]
		switch {
		case !ok:
			panic(fmt.Sprintf("wire: field %s of %v names shape %q, which is unknown", f.Name, t, word))
		case !s.suits(made.class):
			panic(fmt.Sprintf("wire: field %s of %v has type %v, which shape %s does not suit", f.Name, t, f.Type, word))
		}
		made.shape = s
	}
	return made
}

// structOf returns the struct in, or its target if in is a pointer, with addressable
// fields. The result is invalid if in is a nil pointer.
func structOf(in any) (reflect.Value, *plan) {
	v := reflect.ValueOf(in)
	if v.Kind() == reflect.Pointer {
		return v.Elem(), planOf(v.Type().Elem())
	}
	p := planOf(v.Type())
	copied := reflect.New(v.Type()).Elem()
	copied.Set(v)
	return copied, p
}

// fieldAt returns a pointer of type *T to the field. The class of the field guarantees that
// its type is T. reflect.Value.Addr would also work, but it looks up the pointer type in a
// map on each call.
func fieldAt[T any](v reflect.Value, f *field) *T {
	return (*T)(unsafe.Pointer(v.Field(f.index).UnsafeAddr()))
}
