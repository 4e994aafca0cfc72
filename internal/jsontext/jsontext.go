// Package jsontext encodes durations and errors as readable text in JSON. A struct's
// MarshalJSON embeds the struct itself, as a type without methods, next to fields of the same
// names and these types; encoding/json uses the outer fields.
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

// Duration returns d as a time.Duration.
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

// Error is the text of an error. Decoding returns an error with that text.
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
