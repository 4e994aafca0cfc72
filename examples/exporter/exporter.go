package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/braidstream/braid"
)

// exporter writes the records of all streams of a database into files, a record in JSON on
// each line. A stream has a directory of its own, and its files are numbered.
//
// The files say how far they have come: the last whole line has the number of the record
// to go on behind. So no checkpoint can be older or newer than what is in them, and each
// record is in the files once, whenever the exporter or the machine was stopped.
type exporter struct {
	db       *braid.DB
	dir      string
	maxBytes int64 // after which another file is begun

	// written is called when a record is in a file, from a goroutine for each stream.
	written func()
}

// run exports until ctx ends. Streams that are created meanwhile are exported, too.
func (e *exporter) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var exports sync.WaitGroup
	begun := make(map[string]bool)
	for ctx.Err() == nil {
		changed := e.db.Changed() // before looking, so that no change is missed
		for _, s := range e.db.Streams() {
			name := directoryOf(s)
			if begun[name] {
				continue
			}
			begun[name] = true
			exports.Go(func() {
				if err := e.export(ctx, s, filepath.Join(e.dir, name)); err != nil {
					cancel(fmt.Errorf("export %s: %w", s.Name(), err)) // and all others end
				}
			})
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	exports.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// directoryOf tells a stream apart from one of the same name that was deleted before.
func directoryOf(s *braid.Stream) string {
	return s.Name() + "-" + s.Describe().CreatedAt.UTC().Format("20060102T150405.000000000Z")
}

// export follows one stream until ctx ends, or the stream is deleted.
func (e *exporter) export(ctx context.Context, s *braid.Stream, dir string) (err error) {
	out, from, err := openFiles(dir, e.maxBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()
	// All shards in the order of arrival, through splits and merges. It waits at the tip.
	for rec, err := range s.Follow(ctx, from) {
		switch {
		case ctx.Err() != nil, errors.Is(err, braid.ErrStreamNotFound):
			return nil
		case err != nil: // such as a TrimmedError: the exporter was away for too long
			return err
		}
		if err := out.write(&rec); err != nil {
			return err
		}
		e.written()
	}
	return nil
}

// files are the files of one stream, of which the last one is open.
type files struct {
	dir      string
	maxBytes int64
	number   int
	file     *os.File
	bytes    int64
}

// openFiles opens the last file, and returns where in the stream it ends.
func openFiles(dir string, maxBytes int64) (_ *files, from braid.Position, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, from, err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		return nil, from, err
	}
	f := &files{dir: dir, maxBytes: maxBytes, number: max(1, len(names))}
	// The last file may have no whole line: then the one before it has the last record.
	for number := f.number; number > 0 && from.Equal(braid.TrimHorizon()); number-- {
		var end int64
		if from, end, err = endOf(f.name(number)); err != nil {
			return nil, from, err
		}
		if number == f.number {
			f.bytes = end
		}
	}
	if f.file, err = os.OpenFile(f.name(f.number), os.O_WRONLY|os.O_CREATE, 0o644); err != nil {
		return nil, from, err
	}
	// What follows the last whole line was being written when the machine stopped.
	if err := f.file.Truncate(f.bytes); err != nil {
		return nil, from, errors.Join(err, f.file.Close())
	}
	if _, err := f.file.Seek(f.bytes, io.SeekStart); err != nil {
		return nil, from, errors.Join(err, f.file.Close())
	}
	return f, from, nil
}

func (f *files) name(number int) string {
	return filepath.Join(f.dir, fmt.Sprintf("%08d.ndjson", number))
}

// endOf reads a file and returns the position behind its last record, and where in the
// file that ends.
func endOf(name string) (from braid.Position, end int64, err error) {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return from, 0, nil
	}
	if err != nil {
		return from, 0, err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 1<<20)
	var last []byte
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // line is empty, or not whole
		}
		if err != nil {
			return from, 0, err
		}
		last = line
		end += int64(len(line))
	}
	if last == nil {
		return from, 0, nil
	}
	var rec braid.Record
	if err := json.Unmarshal(bytes.TrimSpace(last), &rec); err != nil {
		return from, 0, fmt.Errorf("%s: the last line is no record: %w", name, err)
	}
	return braid.AfterSequence(rec.SequenceNumber), end, nil
}

// write adds a line, after beginning another file if this one is full.
func (f *files) write(rec *braid.Record) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if f.bytes > 0 && f.bytes+int64(len(line)) > f.maxBytes {
		// A file is durable before the next one begins, so only the end of the last one
		// can be missing after a power loss; it is written again then.
		if err := f.close(); err != nil {
			return err
		}
		f.number, f.bytes = f.number+1, 0
		if f.file, err = os.OpenFile(f.name(f.number), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return err
		}
	}
	n, err := f.file.Write(line)
	f.bytes += int64(n)
	return err
}

func (f *files) close() error {
	err := errors.Join(f.file.Sync(), f.file.Close())
	if errors.Is(err, os.ErrClosed) {
		return nil // by write, which could not open the next one
	}
	return err
}
