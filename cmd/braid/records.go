package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/cmd/braid/internal/archive"
)

// recordWriter writes records in one of the forms of --output.
type recordWriter interface {
	write(rec *braid.Record) error
	end() error // called once, last
}

const outputRule = "must be text, data, json or ndjson"

// newRecordWriter returns the writer of a form. A template replaces the form.
func newRecordWriter(w io.Writer, form, text string) (recordWriter, error) {
	if text != "" {
		t, err := template.New("record").Funcs(templateFuncs).Parse(text)
		if err != nil {
			return nil, usagef("--template: %v", err)
		}
		return &templateWriter{w, t}, nil
	}
	switch form {
	case "text":
		return textWriter{w}, nil
	case "data":
		return dataWriter{w}, nil
	case "ndjson":
		return &ndjsonWriter{w: w}, nil
	case "json":
		return &jsonWriter{ndjsonWriter: ndjsonWriter{w: w}}, nil
	}
	return nil, usagef("--output %q %s", form, outputRule)
}

// textWriter writes a line for people: the time, the shard, the key and the data.
type textWriter struct{ w io.Writer }

func (t textWriter) write(rec *braid.Record) error {
	_, err := fmt.Fprintf(t.w, "%s  %s  %s  %s\n",
		moments(rec.ArrivalTime), short(rec.ShardID), printable(rec.PartitionKey), printable(string(rec.Data)))
	return err
}

func (textWriter) end() error { return nil }

// dataWriter writes the data alone, unchanged, and adds a newline if it does not end with
// one.
type dataWriter struct{ w io.Writer }

func (d dataWriter) write(rec *braid.Record) error {
	data := rec.Data
	if !bytes.HasSuffix(data, []byte{'\n'}) {
		data = append(bytes.Clone(data), '\n')
	}
	_, err := d.w.Write(data)
	return err
}

func (dataWriter) end() error { return nil }

// ndjsonWriter writes a JSON object on each line.
type ndjsonWriter struct {
	w   io.Writer
	buf []byte
}

func (n *ndjsonWriter) encode(rec *braid.Record) (err error) {
	line := archive.LineOf(rec)
	n.buf, err = line.AppendTo(n.buf[:0])
	return err
}

func (n *ndjsonWriter) write(rec *braid.Record) error {
	if err := n.encode(rec); err != nil {
		return err
	}
	_, err := n.w.Write(n.buf)
	return err
}

func (n *ndjsonWriter) end() error { return nil }

// jsonWriter writes one array, with a record on each line.
type jsonWriter struct {
	ndjsonWriter
	begun bool
}

func (j *jsonWriter) write(rec *braid.Record) error {
	if err := j.encode(rec); err != nil {
		return err
	}
	before := ",\n "
	if !j.begun {
		j.begun, before = true, "[\n "
	}
	_, err := fmt.Fprintf(j.w, "%s%s", before, bytes.TrimSuffix(j.buf, []byte{'\n'}))
	return err
}

func (j *jsonWriter) end() error {
	text := "\n]\n"
	if !j.begun {
		text = "[]\n"
	}
	_, err := io.WriteString(j.w, text)
	return err
}

// templateRecord is what a template sees: the fields of a braid.Record, and more.
type templateRecord struct{ braid.Record }

// Text returns the data as text.
func (t templateRecord) Text() string { return string(t.Data) }

// JSON returns the decoded data, which must be JSON.
func (t templateRecord) JSON() (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(t.Data))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("the data of record %s is not JSON: %w", t.SequenceNumber, err)
	}
	return value, nil
}

var templateFuncs = template.FuncMap{
	"time":  func(t time.Time, layout string) string { return t.UTC().Format(layout) },
	"quote": printable,
}

// templateWriter writes the result of a template for each record, and adds a newline if
// it does not end with one.
type templateWriter struct {
	w io.Writer
	t *template.Template
}

func (t *templateWriter) write(rec *braid.Record) error {
	var text strings.Builder
	if err := t.t.Execute(&text, templateRecord{*rec}); err != nil {
		return err
	}
	if !strings.HasSuffix(text.String(), "\n") {
		text.WriteByte('\n')
	}
	_, err := io.WriteString(t.w, text.String())
	return err
}

func (t *templateWriter) end() error { return nil }
