// Exporter is a tool built on the API: it writes the records of all streams to files,
// begins a new file when one is full, and continues where it was stopped. Here it is
// stopped in the middle of a line, while records are put, shards are split and a stream
// is created. Then the files are compared with the streams.
//
//	go run ./examples/exporter
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/braidstream/braid"
)

const (
	maxFileBytes = 64 << 10
	runs         = 4
	readings     = 500 // of each run and stream
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run runs the whole demonstration.
func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "braid-exporter-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	e := &exporter{db: db, dir: dir, maxBytes: maxFileBytes}
	var missing sync.WaitGroup // records that were put and are not in a file yet
	e.written = missing.Done
	for i := range runs {
		exporting, stop := context.WithCancelCause(ctx)
		exported := make(chan error, 1)
		go func() {
			err := e.run(exporting)
			stop(err)
			exported <- err
		}()
		err := measure(ctx, db, i, &missing)
		if err == nil && i == runs-1 {
			all := make(chan struct{})
			go func() { missing.Wait(); close(all) }()
			select {
			case <-all:
			case <-exporting.Done(): // because of an error
			}
		}
		stop(nil)
		if err := errors.Join(err, <-exported, e.tear()); err != nil {
			return err
		}
	}
	return e.compare(ctx, out)
}

// measure puts the measurements of two sensors, and later of more.
func measure(ctx context.Context, db *braid.DB, run int, missing *sync.WaitGroup) error {
	for _, name := range []string{"temperature", "wind", "rain"}[:min(3, 2+run/2)] {
		s, err := db.OpenStream(ctx, name, nil)
		if err != nil {
			return err
		}
		for i := range readings {
			missing.Add(1)
			data := fmt.Appendf(nil, `{"run":%d,"reading":%d}`, run, i)
			if _, err := s.PutRecord(ctx, fmt.Sprint("sensor-", i%20), data); err != nil {
				return err
			}
		}
		open := slices.DeleteFunc(s.Shards(), func(sh *braid.Shard) bool { return sh.Describe().Closed })
		if _, _, err := s.SplitShard(ctx, open[0].ID(), nil); err != nil {
			return err
		}
	}
	return nil
}

// tear leaves a half-written line, as a power loss may.
func (e *exporter) tear() error {
	names, err := filepath.Glob(filepath.Join(e.dir, "*", "*.ndjson"))
	if err != nil || len(names) == 0 {
		return err
	}
	file, err := os.OpenFile(names[len(names)-1], os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(`{"PartitionKey":"sens`)
	return errors.Join(err, file.Close())
}

// exported returns the sequence numbers of the records in the files of a stream, in
// order.
func (e *exporter) exported(s *braid.Stream) (numbers []braid.SequenceNumber, err error) {
	names, err := e.filesOf(s)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(text)
		for lines.Scan() {
			var rec braid.Record
			if json.Unmarshal(lines.Bytes(), &rec) == nil { // the last line may be incomplete
				numbers = append(numbers, rec.SequenceNumber)
			}
		}
		if err := errors.Join(lines.Err(), text.Close()); err != nil {
			return nil, err
		}
	}
	return numbers, nil
}

func (e *exporter) filesOf(s *braid.Stream) ([]string, error) {
	return filepath.Glob(filepath.Join(e.dir, directoryOf(s), "*.ndjson"))
}

// compare checks that each record is in the files once, in order, and reports that.
func (e *exporter) compare(ctx context.Context, out io.Writer) error {
	for _, s := range e.db.Streams() {
		numbers, err := e.exported(s)
		if err != nil {
			return err
		}
		i := 0
		for rec, err := range s.Records(ctx, braid.TrimHorizon()) {
			if err != nil {
				return err
			}
			if i == len(numbers) || numbers[i] != rec.SequenceNumber {
				return fmt.Errorf("record %d of %s is not in its place in the files", i, s.Name())
			}
			i++
		}
		if i != len(numbers) {
			return fmt.Errorf("the files of %s have %d records, and the stream has %d", s.Name(), len(numbers), i)
		}
		names, err := e.filesOf(s)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d records of %d shards are in %d files, each once, in order.\n", s.Name(), i, len(s.Shards()), len(names))
	}
	return nil
}
