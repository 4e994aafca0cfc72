package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid"
)

// Line is a line of NDJSON with a record. Its data is in Text if it is UTF-8, so that
// people and scripts can read it, otherwise in Data, in base64.
type Line struct {
	ShardID         braid.ShardID        `json:",omitempty"`
	SequenceNumber  braid.SequenceNumber `json:",omitzero"`
	ArrivalTime     time.Time            `json:",omitzero"`
	PartitionKey    string
	ExplicitHashKey *braid.HashKey `json:",omitempty"`
	Text            *string        `json:",omitempty"`
	Data            []byte         `json:",omitempty"`
	Encrypted       bool           `json:",omitempty"` // it was stored encrypted; the data here is decrypted
}

// LineOf returns the line of a record. It shares the record's data.
func LineOf(rec *braid.Record) Line {
	line := Line{
		ShardID: rec.ShardID, SequenceNumber: rec.SequenceNumber, ArrivalTime: rec.ArrivalTime.UTC(),
		PartitionKey: rec.PartitionKey, ExplicitHashKey: rec.ExplicitHashKey, Encrypted: rec.Encrypted,
	}
	if utf8.Valid(rec.Data) {
		text := string(rec.Data)
		line.Text = &text
	} else {
		line.Data = rec.Data
	}
	return line
}

// AppendTo appends the line, with a newline.
func (l *Line) AppendTo(dst []byte) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	encoder := json.NewEncoder(buf)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(l)
	return buf.Bytes(), err
}

// ParseLine reads a line. An unknown field is an error, because it may be misspelled; so
// is a line with both Text and Data.
func ParseLine(text []byte) (Line, error) {
	var line Line
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&line); err != nil {
		return Line{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Line{}, errors.New("data after the JSON object")
	}
	if line.Text != nil && line.Data != nil {
		return Line{}, fmt.Errorf("both Text and Data are given: give Text for UTF-8, or Data in base64")
	}
	return line, nil
}

// Record returns the record of the line.
func (l *Line) Record() braid.Record {
	rec := braid.Record{
		ShardID: l.ShardID, SequenceNumber: l.SequenceNumber, ArrivalTime: l.ArrivalTime,
		PartitionKey: l.PartitionKey, ExplicitHashKey: l.ExplicitHashKey, Data: l.Data, Encrypted: l.Encrypted,
	}
	if l.Text != nil {
		rec.Data = []byte(*l.Text)
	}
	return rec
}
