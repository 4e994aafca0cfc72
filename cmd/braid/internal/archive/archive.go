// Package archive has the two forms in which command braid exports a stream to a file:
// NDJSON, for people and other tools, and a binary form, which is faster and a tenth of
// the size. Both keep sequence numbers and arrival times, expose corruption and a missing
// end, and can be continued after an interruption.
//
// Each form has a header, the records, and an end with the number of records. In NDJSON
// the header is a line with an object "Export", each record is a [Line], and the end is a
// line with an object "End", which has the SHA-256 of all bytes before it. binary.go
// describes the binary form.
package archive

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/braidstream/braid"
)

var (
	// ErrDamaged reports an export that differs from what was written.
	ErrDamaged = errors.New("export is damaged")

	// ErrIncomplete reports an export without its end: it was interrupted, and can be
	// resumed, or was truncated.
	ErrIncomplete = errors.New("export is incomplete: its end is missing")

	// ErrComplete reports that an export cannot be resumed, because it has its end.
	ErrComplete = errors.New("export is complete: there is nothing to resume")

	// ErrNotExport reports a file that is not an export.
	ErrNotExport = errors.New("not an export of braid")
)

// version is the version of both forms. A reader refuses higher versions.
const version = 1

// Form is the form of an export.
type Form int

// The forms.
const (
	Binary Form = iota
	NDJSON
)

// ParseForm returns the form of that name.
func ParseForm(name string) (Form, bool) {
	switch name {
	case "binary":
		return Binary, true
	case "ndjson":
		return NDJSON, true
	}
	return 0, false
}

// Header is the header of an export.
type Header struct {
	Version    int    // of the form
	ID         string // 32 hexadecimal digits, unique to the export
	ExportedAt time.Time
	Stream     string // its name
	CreatedAt  time.Time
	Settings   braid.StreamOptions // with which an import creates the stream
}

// NewHeader returns the header of an export that begins now.
func NewHeader(d braid.StreamDescription) Header {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	open := 0
	for i := range d.Shards {
		if !d.Shards[i].Closed {
			open++
		}
	}
	return Header{
		Version: version, ID: hex.EncodeToString(id[:]), ExportedAt: time.Now().UTC(),
		Stream: d.Name, CreatedAt: d.CreatedAt.UTC(),
		Settings: braid.StreamOptions{
			Shards: open, MaxRecordBytes: d.MaxRecordBytes, Retention: d.Retention, RetentionBytes: d.RetentionBytes,
			Capacity: d.Capacity, Tags: d.Tags,
		},
	}
}

// State is the progress of an export.
type State struct {
	Records int64
	Bytes   int64                // of partition keys and data
	Last    braid.SequenceNumber // of the last record; zero if there is none
}

func (s *State) count(rec *braid.Record) {
	s.Records++
	s.Bytes += int64(rec.Size())
	s.Last = rec.SequenceNumber
}

// End is the end of an export.
type End struct {
	Records, Bytes int64
	SHA256         string `json:",omitempty"` // of all bytes before the end; NDJSON only
}

// check compares the end with what was read.
func (e End) check(s State) error {
	if e.Records != s.Records || e.Bytes != s.Bytes {
		return fmt.Errorf("%w: its end says %d records of %d bytes, but it has %d of %d", ErrDamaged, e.Records, e.Bytes, s.Records, s.Bytes)
	}
	return nil
}

// Writer writes an export. It is used by one goroutine.
type Writer struct {
	form encoder
	State
}

// encoder writes a form.
type encoder interface {
	header(h Header) error
	record(rec *braid.Record) error
	flush() error
	end(e End) error
}

// NewWriter begins an export.
func NewWriter(w io.Writer, form Form, h Header) (*Writer, error) {
	out := &Writer{form: newEncoder(w, form)}
	return out, out.form.header(h)
}

func newEncoder(w io.Writer, form Form) encoder {
	if form == NDJSON {
		return newNDJSONEncoder(w)
	}
	return newBinaryEncoder(w)
}

// Write adds a record.
func (w *Writer) Write(rec *braid.Record) error {
	if err := w.form.record(rec); err != nil {
		return err
	}
	w.count(rec)
	return nil
}

// Flush writes everything so far to the file: if the export is interrupted after this, it
// can be resumed from here.
func (w *Writer) Flush() error { return w.form.flush() }

// Finish writes the end.
func (w *Writer) Finish() error {
	if err := w.form.flush(); err != nil {
		return err
	}
	return w.form.end(End{Records: w.Records, Bytes: w.Bytes})
}

// Reader reads an export. It is used by one goroutine.
type Reader struct {
	form decoder
	head Header
	State
}

// decoder reads a form.
type decoder interface {
	header() (Header, error)

	// record returns the next record, or the end, or one of the errors above. whole is the
	// number of complete bytes of the export, including that record's block or line.
	record() (rec braid.Record, end *End, err error)
	whole() int64
}

// NewReader begins to read an export of either form. It reads ahead.
func NewReader(r io.Reader) (*Reader, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	out := &Reader{form: newDecoder(in)}
	if out.form == nil {
		return nil, ErrNotExport
	}
	var err error
	if out.head, err = out.form.header(); err != nil {
		return nil, err
	}
	if out.head.Version > version {
		return nil, fmt.Errorf("the export has version %d; this program reads versions up to %d", out.head.Version, version)
	}
	return out, nil
}

func newDecoder(in *bufio.Reader) decoder {
	if begin, _ := in.Peek(len(magic)); string(begin) == magic {
		return newBinaryDecoder(in)
	}
	if begin, _ := in.Peek(len(ndjsonBegin)); bytes.Equal(begin, []byte(ndjsonBegin)) {
		return newNDJSONDecoder(in)
	}
	return nil
}

// Header returns the header.
func (r *Reader) Header() Header { return r.head }

// Next returns the next record, or io.EOF after the last one of a complete export. Other
// errors: [ErrIncomplete], [ErrDamaged], those of the underlying reader.
func (r *Reader) Next() (braid.Record, error) {
	rec, end, err := r.form.record()
	switch {
	case err != nil:
		return braid.Record{}, err
	case end != nil:
		if err := end.check(r.State); err != nil {
			return braid.Record{}, err
		}
		return braid.Record{}, io.EOF
	}
	r.count(&rec)
	return rec, nil
}

// File is what [Resume] continues: an *os.File.
type File interface {
	io.ReadWriteSeeker
	Truncate(size int64) error
}

// Resume reads an interrupted export, removes an incomplete part at its end, and returns
// a writer that continues it. Errors: [ErrComplete], [ErrDamaged], [ErrNotExport] and
// those of the file.
func Resume(f File) (*Writer, Header, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, Header{}, err
	}
	in, err := NewReader(f)
	if err != nil {
		return nil, Header{}, err
	}
	for err == nil {
		_, err = in.Next()
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil, Header{}, ErrComplete
	case !errors.Is(err, ErrIncomplete):
		return nil, Header{}, err
	}
	end := in.form.whole()
	if err := f.Truncate(end); err != nil {
		return nil, Header{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, Header{}, err
	}
	out := &Writer{State: in.State}
	if d, ok := in.form.(*ndjsonDecoder); ok {
		e := newNDJSONEncoder(f)
		e.sum = d.sum
		out.form = e
	} else {
		out.form = newBinaryEncoder(f)
	}
	_, err = f.Seek(end, io.SeekStart)
	return out, in.head, err
}
