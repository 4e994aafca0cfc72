package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/cmd/braid/internal/archive"
)

func (p *program) putCommand() *cobra.Command {
	var key, separator string
	var ndjson bool
	cmd := &cobra.Command{
		Use: "put STREAM [DATA...]", Short: "Put records: arguments, or lines of standard input", GroupID: groupRecords,
		Long: `put puts a record for each DATA or, without one, for each line of standard input. All have the partition key of
--key; without it each has a random one, so that they spread over the shards. With --key-separator : a line is a key, a colon and the data.

With --ndjson each line is a JSON object with PartitionKey, Text or Data (base64), and optionally ExplicitHashKey, as
written by cat -o ndjson; other fields are ignored.

Lines that are available at once share a commit, up to 1,000 of them or 4 MiB. Records are put in the order of the
input; if put fails, the records before the line that it names were put.`,
		Example: `  braid --dir data put orders --key customer-42 ordered paid
  braid --dir data cat orders -o ndjson | braid --dir other put orders --ndjson`,
		Args: arguments(1, -1), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			switch {
			case ndjson && (key != "" || separator != "" || len(args) > 1):
				return usagef("--ndjson reads keys and data from standard input: leave out --key, --key-separator and DATA")
			case separator != "" && key != "":
				return usagef("--key and --key-separator exclude each other")
			}
			parse := func(line []byte) (braid.Entry, error) { return entryOf(line, key, separator) }
			if ndjson {
				parse = entryOfJSON
			}
			put := putter{p: p, s: s, stream: args[0], parse: parse}
			if len(args) > 1 {
				return put.all(ctx, args[1:])
			}
			return put.lines(ctx)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "`partition key` of all records (default: a random one for each)")
	f.StringVar(&separator, "key-separator", "", "`text` between the partition key and the data of each record")
	f.BoolVar(&ndjson, "ndjson", false, "read JSON objects from the lines of standard input")
	return cmd
}

// entryOf makes an entry from a line of text.
func entryOf(line []byte, key, separator string) (braid.Entry, error) {
	switch {
	case separator != "":
		before, after, found := bytes.Cut(line, []byte(separator))
		if !found {
			return braid.Entry{}, fmt.Errorf("it has no key separator %q", separator)
		}
		return braid.Entry{PartitionKey: string(before), Data: after}, nil
	case key == "":
		var random [8]byte
		_, _ = rand.Read(random[:]) // it never fails
		key = hex.EncodeToString(random[:])
	}
	return braid.Entry{PartitionKey: key, Data: line}, nil
}

// entryOfJSON makes an entry from a line of NDJSON.
func entryOfJSON(line []byte) (braid.Entry, error) {
	parsed, err := archive.ParseLine(line)
	if err != nil {
		return braid.Entry{}, err
	}
	rec := parsed.Record()
	return braid.Entry{PartitionKey: rec.PartitionKey, ExplicitHashKey: rec.ExplicitHashKey, Data: rec.Data}, nil
}

// The limits of one commit of put.
const (
	batchRecords = 1000
	batchBytes   = 4 << 20
)

// putter puts entries in batches.
type putter struct {
	p      *program
	s      store
	stream string
	parse  func([]byte) (braid.Entry, error)

	batch []braid.Entry
	size  int   // bytes in the batch
	first int64 // the ordinal of the batch's first input, from 1

	inputs  int64 // lines or arguments read so far
	records int64 // records that were put
	bytes   int64
}

// all puts the arguments.
func (w *putter) all(ctx context.Context, args []string) error {
	for _, arg := range args {
		if err := w.add(ctx, []byte(arg)); err != nil {
			return err
		}
	}
	return w.finish(ctx)
}

// lines puts the lines of standard input until it ends. Lines that are already there
// share a commit.
func (w *putter) lines(ctx context.Context) error {
	lines, failed := readLines(ctx, w.p.stdin)
	for {
		var line []byte
		var more bool
		select {
		case line, more = <-lines:
		default: // no line is waiting, so put those read so far
			if err := w.put(ctx); err != nil {
				return err
			}
			select {
			case line, more = <-lines:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if !more {
			if err := <-failed; err != nil {
				return errors.Join(w.finish(ctx), fmt.Errorf("standard input: %w", err))
			}
			return w.finish(ctx)
		}
		if err := w.add(ctx, line); err != nil {
			return err
		}
	}
}

// readLines reads lines until the input or ctx ends. It then closes lines, and sends the
// error of reading, or nil, to failed. A read that blocks keeps its goroutine beyond ctx,
// until the program ends.
func readLines(ctx context.Context, r io.Reader) (lines <-chan []byte, failed <-chan error) {
	out, outErr := make(chan []byte, 4*batchRecords), make(chan error, 1)
	go func() {
		defer close(out)
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, maxLine)
		for scanner.Scan() {
			select {
			case out <- bytes.Clone(scanner.Bytes()):
			case <-ctx.Done():
				outErr <- context.Cause(ctx)
				return
			}
		}
		err := scanner.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("a line is longer than %s", size(maxLine))
		}
		outErr <- err
	}()
	return out, outErr
}

// maxLine is the length of the longest line: a record of the maximum size, in base64, and
// its keys.
const maxLine = 16 << 20

// add adds an input to the batch, and puts the batch when it is full.
func (w *putter) add(ctx context.Context, input []byte) error {
	w.inputs++
	entry, err := w.parse(input)
	if err != nil {
		return errors.Join(w.finish(ctx), fmt.Errorf("input %d: %w", w.inputs, err))
	}
	if len(w.batch) > 0 && w.size+entry.Size() > batchBytes {
		if err := w.put(ctx); err != nil {
			return err
		}
	}
	if len(w.batch) == 0 {
		w.first = w.inputs
	}
	w.batch = append(w.batch, entry)
	w.size += entry.Size()
	if len(w.batch) == batchRecords {
		return w.put(ctx)
	}
	return nil
}

// put puts the batch.
func (w *putter) put(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	results, err := w.s.Put(ctx, w.stream, w.batch)
	if err != nil {
		return fmt.Errorf("%s: %w (before, %s put)", w.where(err), err, wereRecords(w.records))
	}
	w.records += int64(len(w.batch))
	w.bytes += int64(w.size)
	w.batch, w.size = w.batch[:0], 0
	if !w.p.json {
		return nil
	}
	encoder := json.NewEncoder(w.p.stdout)
	for _, result := range results {
		if err := encoder.Encode(result); err != nil {
			return err
		}
	}
	return w.p.flush()
}

// where names the inputs that an error of the batch is about: the invalid one, if there
// is one.
func (w *putter) where(err error) string {
	var invalid *braid.InvalidArgumentError
	var i int64
	if errors.As(err, &invalid) {
		if _, err := fmt.Sscanf(invalid.Field, "Entries[%d]", &i); err == nil {
			return fmt.Sprintf("input %d", w.first+i)
		}
	}
	if len(w.batch) == 1 {
		return fmt.Sprintf("input %d", w.first)
	}
	return fmt.Sprintf("inputs %d to %d", w.first, w.first+int64(len(w.batch))-1)
}

func wereRecords(n int64) string {
	if n == 1 {
		return "1 record was"
	}
	return number(n) + " records were"
}

// finish puts the rest, and reports how much was put.
func (w *putter) finish(ctx context.Context) error {
	if err := w.put(ctx); err != nil {
		return err
	}
	if !w.p.json {
		fmt.Fprintf(w.p.stdout, "%s put to %s, %s.\n", wereRecords(w.records), w.stream, size(w.bytes))
	}
	return nil
}
