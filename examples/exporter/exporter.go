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

// exporter writes the records of all streams of a database to files, each record as JSON
// on its own line. Each stream has its own directory, and its files are numbered.
//
// The files themselves show the progress: the last complete line has the sequence number
// after which to continue. So no checkpoint can be older or newer than the files, and
// each record is in the files once, whenever the exporter or the machine was stopped.
type exporter struct {
	db       *braid.DB
	dir      string
	maxBytes int64 // after which a new file is begun

	// written is called after a record was written to a file, from one goroutine per stream.
	written func()
}

// run exports until ctx ends, including streams that are created meanwhile.
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
					cancel(fmt.Errorf("export %s: %w", s.Name(), err)) // all others end, too
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

// directoryOf returns a directory that differs from that of a deleted stream of the same
// name.
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
	// All shards in the order of arrival, through splits and merges. Follow waits at the tip.
	for rec, err := range s.Follow(ctx, from) {
		switch {
		case ctx.Err() != nil, errors.Is(err, braid.ErrStreamNotFound):
			return nil
		case err != nil: // for example a TrimmedError: the exporter was away for too long
			return err
		}
		if err := out.write(&rec); err != nil {
			return err
		}
		e.written()
	}
	return nil
}

// files are the files of one stream; the last one is open.
type files struct {
	dir      string
	maxBytes int64
	number   int
	file     *os.File
	bytes    int64
}

// openFiles opens the last file, and returns where it ends in the stream.
func openFiles(dir string, maxBytes int64) (_ *files, from braid.Position, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, from, err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		return nil, from, err
	}
	f := &files{dir: dir, maxBytes: maxBytes, number: max(1, len(names))}
	// The last file may have no complete line: the one before it then has the last record.
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
	// The rest was being written when the machine stopped.
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

// endOf reads a file, and returns the position after its last record, and where that
// record ends in the file.
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
			break // the line is empty or incomplete
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
		return from, 0, fmt.Errorf("%s: the last line is not a record: %w", name, err)
	}
	return braid.AfterSequence(rec.SequenceNumber), end, nil
}

// write adds a line. If the file is full, it begins a new one first.
func (f *files) write(rec *braid.Record) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if f.bytes > 0 && f.bytes+int64(len(line)) > f.maxBytes {
		// A file is durable before the next one begins. So a power loss can only remove the end
		// of the last file, which is then written again.
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
		return nil // write could not open the next file
	}
	return err
}
