// Package jsontext has values whose JSON is text that people read and write, for
// structs whose fields have types of the standard library that have none. A struct
// embeds itself, without its methods, beside fields of the same names and these types:
// the outer fields are taken.
//
//	type plain Status
//	return json.Marshal(struct {
//		plain
//		Age jsontext.Duration
//		Err jsontext.Error `json:",omitzero"`
//	}{plain(s), jsontext.Duration(s.Age), jsontext.Error{Err: s.Err}})
package jsontext

import (
	"errors"
	"time"
)

// Duration is a duration such as "1m30s".
type Duration time.Duration

// Duration returns it as the standard library has it.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err == nil {
		*d = Duration(parsed)
	}
	return err
}

// Error is the text of an error. What is read back is an error with that text.
type Error struct{ Err error }

// MarshalText implements encoding.TextMarshaler.
func (e Error) MarshalText() ([]byte, error) {
	if e.Err == nil {
		return nil, nil
	}
	return []byte(e.Err.Error()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (e *Error) UnmarshalText(text []byte) error {
	e.Err = nil
	if len(text) > 0 {
		e.Err = errors.New(string(text))
	}
	return nil
}
