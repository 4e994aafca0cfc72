package braid

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unique"
)

// Position is a place in a shard or a stream from which to read. It is a value, made by
// [TrimHorizon], [Latest], [AtSequence], [AfterSequence] or [AtTime]. The zero value is
// TrimHorizon. Compare positions with [Position.Equal].
type Position struct {
	kind   positionKind
	number SequenceNumber
	token  unique.Handle[string] // of kindAtToken

	// detail is the time of kindAtTime, in nanoseconds. In a position with a number it is the
	// ordinal of the next record, plus one, or 0 if that is unknown. (Package consumer keeps a
	// position for each record, so the struct must stay small.)
	detail uint64
}

type positionKind uint8

const (
	kindTrimHorizon positionKind = iota
	kindLatest
	kindAtSequence
	kindAfterSequence
	kindAtTime
	kindAtToken
)

// TrimHorizon returns the position of the oldest record that was not trimmed. Kinesis:
// TRIM_HORIZON.
func TrimHorizon() Position { return Position{} }

// Latest returns the position after the newest record. The call that gets it fixes the place
// when it begins, so records put after that are read. Kinesis: LATEST.
func Latest() Position { return Position{kind: kindLatest} }

// AtSequence returns the position of the record with number n, or of the first record after
// that. In a stream, it is that point in the order of arrival over all shards. The zero
// number gives [TrimHorizon]. Kinesis: AT_SEQUENCE_NUMBER.
func AtSequence(n SequenceNumber) Position {
	if n.IsZero() {
		return Position{}
	}
	return Position{kind: kindAtSequence, number: n}
}

// AfterSequence returns the position after the record with number n. A reader that has read n
// resumes there. In a stream, it is that point in the order of arrival over all shards, so one
// number is enough to resume [Stream.Follow]. The zero number gives [TrimHorizon]. Kinesis:
// AFTER_SEQUENCE_NUMBER.
func AfterSequence(n SequenceNumber) Position {
	if n.IsZero() {
		return Position{}
	}
	return Position{kind: kindAfterSequence, number: n}
}

// AtTime returns the position of the first record that arrived at t or later. t may lie in
// the future. If t is before the trim horizon, reading begins at the horizon. Kinesis:
// AT_TIMESTAMP.
func AtTime(t time.Time) Position {
	p := Position{kind: kindAtTime, detail: uint64(t.UnixNano())}
	switch { // a time that nanoseconds cannot express lies before or after all records
	case t.Before(time.Unix(0, 0)):
		p.detail = 0
	case t.After(time.Unix(0, math.MaxInt64)):
		p.detail = math.MaxInt64
	}
	return p
}

// AtToken returns a position without a number: a text that only its maker understands, such as
// another service's iterator. It is for implementations of consumer.Source, whose positions
// can then be stored in leases and written as text like any other. Methods of a database
// refuse such a position with [ErrInvalidArgument]. The empty token gives [TrimHorizon].
func AtToken(token string) Position {
	if token == "" {
		return Position{}
	}
	return Position{kind: kindAtToken, token: unique.Make(token)}
}

// ParsePosition is the inverse of [Position.String]. For any other text it returns
// [ErrInvalidArgument].
func ParsePosition(text string) (Position, error) {
	kind, at, _ := strings.Cut(text, " ")
	var p Position
	var err error
	switch kind {
	case "TRIM_HORIZON":
	case "LATEST":
		p = Latest()
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
		var n SequenceNumber
		if n, err = ParseSequenceNumber(at); err == nil && kind[1] == 'T' {
			p = AtSequence(n)
		} else {
			p = AfterSequence(n)
		}
	case "AT_TIMESTAMP":
		var t time.Time
		t, err = time.Parse(time.RFC3339Nano, at)
		p = AtTime(t)
	case "AT_TOKEN":
		p = AtToken(at)
	}
	if err != nil || p.String() != text {
		return Position{}, &InvalidArgumentError{
			"Position", fmt.Sprintf("%.120q", text),
			"must be TRIM_HORIZON, LATEST, AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER with a number, " +
				"AT_TIMESTAMP with a time in UTC as RFC 3339 writes it, or AT_TOKEN with a token",
		}
	}
	return p, nil
}

// MarshalText returns the text of [Position.String].
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText sets p as [ParsePosition] parses the text. An error leaves p unchanged.
func (p *Position) UnmarshalText(text []byte) error {
	parsed, err := ParsePosition(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// String returns the position as text, with Kinesis's names, such as "TRIM_HORIZON".
func (p Position) String() string {
	switch p.kind {
	case kindLatest:
		return "LATEST"
	case kindAtSequence:
		return "AT_SEQUENCE_NUMBER " + p.number.String()
	case kindAfterSequence:
		return "AFTER_SEQUENCE_NUMBER " + p.number.String()
	case kindAtTime:
		return "AT_TIMESTAMP " + time.Unix(0, int64(p.detail)).UTC().Format(time.RFC3339Nano)
	case kindAtToken:
		return "AT_TOKEN " + p.Token()
	default:
		return "TRIM_HORIZON"
	}
}

// SequenceNumber returns the number of a position of [AtSequence] or [AfterSequence], such as
// [RecordsPage].Next. It is zero for every other position.
func (p Position) SequenceNumber() SequenceNumber { return p.number }

// Token returns the token given to [AtToken], and "" for any other position.
func (p Position) Token() string {
	if p.kind != kindAtToken {
		return ""
	}
	return p.token.Value()
}

// Equal reports whether p and q are the same position: they have the same text. Use it in
// place of ==, which also compares a hint that makes the next read cheaper.
func (p Position) Equal(q Position) bool {
	return p.kind == q.kind && p.number == q.number && p.token == q.token && (p.kind != kindAtTime || p.detail == q.detail)
}
