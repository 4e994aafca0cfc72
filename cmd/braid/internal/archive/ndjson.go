package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/braidstream/braid"
)

const (
	ndjsonBegin = `{"Export":`
	ndjsonEnd   = `{"End":`
)

// ndjsonEncoder is the encoder of NDJSON.
type ndjsonEncoder struct {
	w   *bufio.Writer
	buf []byte
	sum hash.Hash // of everything written so far
}

func newNDJSONEncoder(w io.Writer) *ndjsonEncoder {
	return &ndjsonEncoder{w: bufio.NewWriterSize(w, 256<<10), sum: sha256.New()}
}

func (e *ndjsonEncoder) header(h Header) error {
	line, err := json.Marshal(struct{ Export Header }{h})
	if err != nil {
		return err
	}
	return e.write(append(line, '\n'))
}

func (e *ndjsonEncoder) record(rec *braid.Record) (err error) {
	line := LineOf(rec)
	if e.buf, err = line.AppendTo(e.buf[:0]); err != nil {
		return err
	}
	return e.write(e.buf)
}

func (e *ndjsonEncoder) write(line []byte) error {
	e.sum.Write(line)
	_, err := e.w.Write(line)
	return err
}

func (e *ndjsonEncoder) flush() error { return e.w.Flush() }

func (e *ndjsonEncoder) end(end End) error {
	end.SHA256 = hex.EncodeToString(e.sum.Sum(nil))
	line, err := json.Marshal(struct{ End End }{end})
	if err != nil {
		return err
	}
	if err := e.write(append(line, '\n')); err != nil {
		return err
	}
	return e.flush()
}

// ndjsonDecoder is the decoder of NDJSON.
type ndjsonDecoder struct {
	in     *bufio.Reader
	sum    hash.Hash // of complete lines
	offset int64     // of the next line
	number int       // of the last line read
}

func newNDJSONDecoder(in *bufio.Reader) *ndjsonDecoder {
	return &ndjsonDecoder{in: in, sum: sha256.New()}
}

func (d *ndjsonDecoder) whole() int64 { return d.offset }

// line returns the next complete line.
func (d *ndjsonDecoder) line() ([]byte, error) {
	line, err := d.in.ReadBytes('\n')
	switch {
	case errors.Is(err, io.EOF): // the last line was written partially
		return nil, ErrIncomplete
	case err != nil:
		return nil, err
	}
	d.number++
	return line, nil
}

// taken counts a complete line.
func (d *ndjsonDecoder) taken(line []byte) {
	d.sum.Write(line)
	d.offset += int64(len(line))
}

func (d *ndjsonDecoder) header() (Header, error) {
	line, err := d.line()
	if err != nil {
		return Header{}, err
	}
	var head struct{ Export Header }
	if err := json.Unmarshal(line, &head); err != nil {
		return Header{}, fmt.Errorf("%w: line 1: %w", ErrDamaged, err)
	}
	d.taken(line)
	return head.Export, nil
}

func (d *ndjsonDecoder) record() (braid.Record, *End, error) {
	line, err := d.line()
	if err != nil {
		return braid.Record{}, nil, err
	}
	if bytes.HasPrefix(line, []byte(ndjsonEnd)) {
		end, err := d.end(line)
		return braid.Record{}, end, err
	}
	parsed, err := ParseLine(line)
	if err != nil {
		return braid.Record{}, nil, fmt.Errorf("%w: line %d: %w", ErrDamaged, d.number, err)
	}
	if parsed.SequenceNumber.IsZero() {
		return braid.Record{}, nil, fmt.Errorf("%w: line %d: the record has no SequenceNumber", ErrDamaged, d.number)
	}
	d.taken(line)
	return parsed.Record(), nil, nil
}

func (d *ndjsonDecoder) end(line []byte) (*End, error) {
	var last struct{ End End }
	if err := json.Unmarshal(line, &last); err != nil {
		return nil, fmt.Errorf("%w: line %d: %w", ErrDamaged, d.number, err)
	}
	if sum := hex.EncodeToString(d.sum.Sum(nil)); sum != last.End.SHA256 {
		return nil, fmt.Errorf("%w: its end has the SHA-256 %s, but the bytes before it have %s", ErrDamaged, last.End.SHA256, sum)
	}
	if more, _ := d.in.Peek(1); len(more) > 0 {
		return nil, fmt.Errorf("%w: data after its end, in line %d", ErrDamaged, d.number+1)
	}
	return &last.End, nil
}
