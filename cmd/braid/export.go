package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/cmd/braid/internal/archive"
)

// export has the flags of verb export.
type export struct {
	from, until string
	format      string
	resume      bool
}

func (p *program) exportCommand() *cobra.Command {
	var e export
	cmd := &cobra.Command{
		Use: "export STREAM [FILE]", Short: "Write a stream to a file, with numbers and times", GroupID: groupRecords,
		Long: `export writes the records of a stream, up to its tip at the start of the command, to a file or, without FILE or with
-, to standard output. It keeps partition keys, explicit hash keys, data, sequence numbers, arrival times and the
settings of the stream.

The binary form is compact, and each of its blocks has a checksum. NDJSON is for other tools: its first line
describes the export, each further line is a record, and the last has the number of records and the SHA-256 of all
bytes before it.

--resume continues an interrupted export: an incomplete part at the end of the file is removed, and the records
after the last complete one follow. The file contains the records of encrypted streams in the clear.

` + positionHelp,
		Args: arguments(1, 2), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(reads, func(ctx context.Context, s store, args []string) error {
			if len(args) == 1 || args[1] == "-" {
				return p.exportToStdout(ctx, s, args[0], e)
			}
			return p.exportToFile(ctx, s, args[0], args[1], e)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&e.from, "from", "start", "`POSITION` to begin at")
	f.StringVar(&e.until, "until", "", "`TIME` to end at")
	f.StringVar(&e.format, "format", "", "`form` of the file: binary or ndjson (default: ndjson for a FILE that ends with it, otherwise binary)")
	f.BoolVar(&e.resume, "resume", false, "continue an export that was interrupted")
	return cmd
}

// form returns the form for the flags and the name of the file.
func (e export) form(name string) (archive.Form, error) {
	text := e.format
	if text == "" {
		text = "binary"
		if _, ok := cutSuffixFold(name, ".ndjson"); ok {
			text = "ndjson"
		}
	}
	form, ok := archive.ParseForm(text)
	if !ok {
		return 0, usagef("--format %q must be binary or ndjson", e.format)
	}
	return form, nil
}

func (p *program) exportToStdout(ctx context.Context, s store, stream string, e export) error {
	form, err := e.form("")
	switch {
	case err != nil:
		return err
	case e.resume:
		return usagef("--resume needs a FILE: standard output cannot be resumed")
	case p.terminal && form == archive.Binary:
		return usagef("the binary form cannot be written to a terminal: give a FILE, or --format ndjson")
	}
	d, err := s.Stream(ctx, stream)
	if err != nil {
		return err
	}
	from, err := parsePosition("--from", e.from)
	if err != nil {
		return err
	}
	out, err := archive.NewWriter(p.stdout, form, archive.NewHeader(d))
	if err != nil {
		return err
	}
	return p.exportRecords(ctx, s, d, e, from, out, func() error { return nil })
}

func (p *program) exportToFile(ctx context.Context, s store, stream, name string, e export) (err error) {
	form, err := e.form(name)
	if err != nil {
		return err
	}
	d, err := s.Stream(ctx, stream)
	if err != nil {
		return err
	}
	from, err := parsePosition("--from", e.from)
	if err != nil {
		return err
	}
	flags := os.O_RDWR | os.O_CREATE | os.O_EXCL
	if e.resume {
		flags = os.O_RDWR
	}
	file, err := os.OpenFile(name, flags, 0o600) // because it may contain the decrypted data of an encrypted stream
	switch {
	case errors.Is(err, fs.ErrExist):
		return usagef("%s exists: remove it, or continue it with --resume", name)
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var out *archive.Writer
	if e.resume {
		if out, from, err = resume(file, d, from); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(p.stderr, "%s has %s; the export continues after them.\n", name, count(out.Records, "record"))
	} else if out, err = archive.NewWriter(file, form, archive.NewHeader(d)); err != nil {
		return err
	}
	if err := p.exportRecords(ctx, s, d, e, from, out, file.Sync); err != nil {
		return fmt.Errorf("%s has %s, and can be continued with --resume: %w", name, count(out.Records, "record"), err)
	}
	return p.done(exported{d.Name, name, out.Records, out.Bytes}, "%s exported from %s to %s, %s.",
		wereRecords(out.Records), d.Name, name, size(out.Bytes))
}

// exported is the result of an export, in JSON.
type exported struct {
	Stream, File   string
	Records, Bytes int64
}

// resume continues an export of the same stream.
func resume(file archive.File, d braid.StreamDescription, from braid.Position) (*archive.Writer, braid.Position, error) {
	out, head, err := archive.Resume(file)
	if err != nil {
		return nil, from, err
	}
	if head.Stream != d.Name || !head.CreatedAt.Equal(d.CreatedAt) {
		return nil, from, fmt.Errorf("it is an export of stream %s, created %s, and cannot be continued with %s, created %s",
			head.Stream, moments(head.CreatedAt), d.Name, moments(d.CreatedAt))
	}
	if !out.Last.IsZero() {
		from = braid.AfterSequence(out.Last)
	}
	return out, from, nil
}

// exportRecords writes the records and the end. Whatever it returns, everything written
// so far is flushed and, by sync, on disk.
func (p *program) exportRecords(ctx context.Context, s store, d braid.StreamDescription, e export, from braid.Position,
	out *archive.Writer, sync func() error,
) (err error) {
	f, err := (&reading{until: e.until}).filter()
	if err != nil {
		return err
	}
	bar := p.newProgress("export "+d.Name, out.Records, number)
	defer bar.clear()
	defer func() { err = errors.Join(err, out.Flush(), sync()) }()
	for rec, err := range s.Records(ctx, d.Name, "", from, false) {
		if err != nil {
			return err
		}
		if f.ended(&rec) {
			break
		}
		if err := out.Write(&rec); err != nil {
			return err
		}
		bar.set(out.Records, d.Records)
	}
	return out.Finish()
}

func (p *program) importCommand() *cobra.Command {
	var i importing
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Put the records of an export into a stream", GroupID: groupRecords,
		Long: `import puts the records of an export into a stream. If the stream does not exist, it is created with the settings of the
exported one. FILE may be - for standard input. Records keep their partition keys, explicit hash keys, data and order. Like
every record that is put, they get new sequence numbers and arrival times.

A file is verified as a whole before its first record is put. With --dir, each batch is one commit with the progress of the
import. An import that was interrupted, even by a crash, therefore continues when it is run again, and puts no record
twice. The progress is stored under a key of the application that begins with braid/import/ and is removed at the end.
With --url, and from standard input, an import always begins with the first record.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withStore(cmd.Context(), creates, func(s store) error { return p.importFile(cmd.Context(), s, args[0], i) })
		},
	}
	cmd.Flags().StringVar(&i.stream, "stream", "", "`name` of the stream (default: that of the exported one)")
	cmd.Flags().BoolVar(&i.existing, "existing", false, "refuse to create the stream")
	return cmd
}

// importing has the flags of verb import.
type importing struct {
	stream   string
	existing bool
}

// importer puts the records of an export.
type importer struct {
	s      store
	stream string
	key    []byte // the key under which the database stores the progress; nil if nowhere
	batch  []braid.Entry
	size   int
	done   int64 // number of the export's records that are in the stream
}

func (p *program) importFile(ctx context.Context, s store, name string, i importing) error {
	var in *archive.Reader
	var err error
	total := int64(-1)
	if name == "-" {
		in, err = archive.NewReader(p.stdin)
	} else {
		var file *os.File
		if file, err = os.Open(name); err != nil {
			return err
		}
		defer file.Close() // it was only read
		if total, err = p.verifyExport(ctx, file, name); err != nil {
			return err
		}
		in, err = archive.NewReader(file)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	to := importer{s: s, stream: in.Header().Stream}
	if i.stream != "" {
		to.stream = i.stream
	}
	if err := to.prepare(ctx, in.Header(), i.existing, total >= 0); err != nil {
		return err
	}
	if to.done > 0 {
		fmt.Fprintf(p.stderr, "%s of %s were imported before; the import continues after them.\n", count(to.done, "record"), name)
	}
	bar := p.newProgress("import "+to.stream, to.done, number)
	err = to.copy(ctx, in, func() { bar.set(to.done, total) })
	bar.clear()
	if err != nil {
		if to.key == nil {
			return fmt.Errorf("%s: %s imported into %s before the import ended: %w", name, wereRecords(to.done), to.stream, err)
		}
		return fmt.Errorf("%s: %s imported into %s; run the import again to continue: %w", name, wereRecords(to.done), to.stream, err)
	}
	return p.done(exported{to.stream, name, in.Records, in.Bytes}, "%s imported from %s into %s, %s.",
		wereRecords(in.Records), name, to.stream, size(in.Bytes))
}

// verifyExport reads a file to its end, and returns its number of records. It then
// rewinds the file.
func (p *program) verifyExport(ctx context.Context, file *os.File, name string) (records int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	bar := p.newProgress("verify "+name, 0, size)
	defer bar.clear()
	read := &countingReader{r: file}
	in, err := archive.NewReader(read)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		_, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			_, err := file.Seek(0, io.SeekStart)
			return in.Records, err
		case err != nil:
			return 0, fmt.Errorf("%s: %w; nothing was imported", name, err)
		}
		bar.set(read.n, info.Size())
	}
}

// countingReader counts the bytes read.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// prepare makes sure that the stream exists, and finds the progress of an earlier import.
func (i *importer) prepare(ctx context.Context, head archive.Header, existing, resumable bool) error {
	_, err := i.s.Stream(ctx, i.stream)
	switch {
	case errors.Is(err, braid.ErrStreamNotFound) && !existing:
		if err := i.s.Create(ctx, i.stream, &head.Settings); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	d, ok := i.s.(*directory)
	if !ok || !resumable {
		return nil
	}
	i.key = []byte("braid/import/" + head.ID + "/" + i.stream)
	return d.db.View(ctx, func(tx *braid.Tx) error {
		value, err := tx.Get(i.key)
		if errors.Is(err, braid.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Sscanf(string(value), "%d", &i.done); err != nil {
			return fmt.Errorf("the key %q holds %q, which is not a number of records: %w", i.key, value, err)
		}
		return nil
	})
}

// copy puts the records of the export that are not in the stream yet.
func (i *importer) copy(ctx context.Context, in *archive.Reader, progress func()) error {
	for {
		rec, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errors.Join(i.put(ctx), err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if in.Records <= i.done {
			continue
		}
		entry := braid.Entry{PartitionKey: rec.PartitionKey, ExplicitHashKey: rec.ExplicitHashKey, Data: rec.Data}
		i.batch = append(i.batch, entry)
		if i.size += entry.Size(); i.size >= importBytes || len(i.batch) == importRecords {
			if err := i.put(ctx); err != nil {
				return err
			}
			progress()
		}
	}
	if err := i.put(ctx); err != nil {
		return err
	}
	if d, ok := i.s.(*directory); ok && i.key != nil {
		return d.db.Update(ctx, func(tx *braid.Tx) error { return tx.Delete(i.key) })
	}
	return nil
}

// Limits of one commit of an import: with one more record of any size it stays below the
// limit of a transaction, which openDirectory sets.
const (
	importRecords = 5000
	importBytes   = 2 << 20
)

// put puts the batch. With a key, the progress is stored in the same commit.
func (i *importer) put(ctx context.Context) error {
	if len(i.batch) == 0 {
		return nil
	}
	var err error
	if i.key != nil {
		err = i.putTx(ctx)
	} else {
		_, err = i.s.Put(ctx, i.stream, i.batch)
	}
	if err != nil {
		return err
	}
	i.done += int64(len(i.batch))
	i.batch, i.size = i.batch[:0], 0
	return nil
}

// putTx puts the batch in one commit with the progress. If that exceeds the current
// capacity of the stream, it waits, since the batch cannot be divided.
func (i *importer) putTx(ctx context.Context) error {
	for {
		err := i.s.(*directory).db.Update(ctx, func(tx *braid.Tx) error {
			for _, entry := range i.batch {
				if err := tx.PutEntry(i.stream, entry); err != nil {
					return err
				}
			}
			return tx.Set(i.key, fmt.Append(nil, i.done+int64(len(i.batch))))
		})
		var throttled *braid.ThroughputExceededError
		if !errors.As(err, &throttled) {
			return err
		}
		select {
		case <-time.After(throttled.RetryAfter):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
