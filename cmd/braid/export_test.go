package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// content is the content of a stream without numbers and times.
const content = "{{.PartitionKey}} {{.ExplicitHashKey}} {{printf \"%q\" .Data}}"

func TestExportAndImport(t *testing.T) {
	for _, name := range []string{"orders.braid", "orders.ndjson"} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			s := k.stream("orders", 3, 7000)
			key := braid.MaxHashKey()
			_, err := s.PutRecords(t.Context(), []braid.Entry{
				{PartitionKey: "x", ExplicitHashKey: &key, Data: []byte{0xff}}, {PartitionKey: "y", Data: bytes.Repeat([]byte("y"), 1<<20)},
			})
			require.NoError(t, err)
			file := filepath.Join(t.TempDir(), name)
			require.Equal(t, fmt.Sprintf("7,002 records were exported from orders to %s, 1 MiB.\n", file), k.ok("export", "orders", file))
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			require.Contains(t, k.fails(exitUsage, "export", "orders", file), "exists: remove it, or continue it with --resume")
			require.Contains(t, k.fails(exitFailure, "export", "orders", file, "--resume"), "export is complete: there is nothing to resume")

			other := newKit(t)
			require.Equal(t, fmt.Sprintf("7,002 records were imported from %s into orders, 1 MiB.\n", file), other.ok("import", file))
			require.Equal(t, k.ok("cat", "orders", "--template", content), other.ok("cat", "orders", "--template", content))
			require.Contains(t, other.ok("ls"), "orders       3    7,002")
			requireNoKeys(t, other.db)

			// Again, into an existing stream, from standard input.
			piped, err := os.ReadFile(file)
			require.NoError(t, err)
			other.stdin = string(piped)
			other.ok("create", "copy")
			require.Contains(t, other.ok("import", "-", "--stream", "copy", "--existing"), "into copy")
			require.Equal(t, k.ok("cat", "orders", "--template", content), other.ok("cat", "copy", "--template", content))
			require.Contains(t, other.fails(exitNotFound, "import", file, "--stream", "new", "--existing"), "no such stream")
			require.Len(t, other.db.Streams(), 2)
		})
	}
}

// requireNoKeys requires that the database has no key of an application.
func requireNoKeys(t *testing.T, db *braid.DB) {
	t.Helper()
	require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
		for kv, err := range tx.Scan(nil, nil) {
			require.NoError(t, err)
			require.Fail(t, "a key is left", "%q", kv.Key)
		}
		return nil
	}))
}

func TestExportOfAPart(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 2, 0)
		for i := range 6 {
			k.put(s, i, i+1)
			time.Sleep(time.Minute)
		}
		got := k.ok("export", "orders", "--format", "ndjson", "--from", "-5m", "--until", "-2m")
		lines := strings.Split(strings.TrimSpace(got), "\n")
		require.Len(t, lines, 5)
		require.Contains(t, lines[0], `{"Export":{"Version":1,`)
		for i, line := range lines[1:4] {
			require.Contains(t, line, fmt.Sprintf(`"Text":"%d"`, i+1))
		}
		require.Contains(t, lines[4], `{"End":{"Records":3,`)
		k.program = func(p *program) { p.terminal = true }
		require.Contains(t, k.fails(exitUsage, "export", "orders"), "the binary form cannot be written to a terminal")
	})
}

// An interrupted export can be continued; an export of another stream cannot.
func TestExportIsResumed(t *testing.T) {
	for _, name := range []string{"orders.braid", "orders.ndjson"} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			s := k.stream("orders", 2, 3000)
			file := filepath.Join(t.TempDir(), name)
			var cancel context.CancelFunc
			k.ctx, cancel = context.WithCancel(t.Context())
			k.program = func(p *program) {
				p.open = func(context.Context, target, access) (store, error) {
					return &stoppingStore{&directory{db: k.db, close: func() error { return nil }}, 1234, cancel}, nil
				}
			}
			code, stdout, stderr := k.run("export", "orders", file)
			require.Equal(t, exitInterrupted, code)
			require.Empty(t, stdout)
			require.Equal(t, "braid: interrupted\n", stderr)
			k.ctx, k.program = t.Context(), nil
			require.Contains(t, k.fails(exitDamage, "import", file), "incomplete: its end is missing; nothing was imported")
			k.put(s, 3000, 3100)
			k.stream("other", 1, 1)
			require.Contains(t, k.fails(exitFailure, "export", "other", file, "--resume"), "it is an export of stream orders")

			code, stdout, stderr = k.run("export", "orders", file, "--resume")
			require.Equal(t, exitOK, code, stderr)
			require.Equal(t, file+" has 1,234 records; the export continues after them.\n", stderr)
			require.Contains(t, stdout, "3,100 records were exported")
			k.ok("import", file, "--stream", "copy")
			require.Equal(t, k.ok("cat", "orders", "--template", content), k.ok("cat", "copy", "--template", content))
		})
	}
}

// stoppingStore ends the context after that many records.
type stoppingStore struct {
	store
	records int
	cancel  context.CancelFunc
}

func (s *stoppingStore) Records(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, follow bool) recordSeq {
	return func(yield func(braid.Record, error) bool) {
		n := 0
		for rec, err := range s.store.Records(ctx, stream, shard, from, follow) {
			if n == s.records {
				s.cancel()
				yield(braid.Record{}, context.Cause(ctx))
				return
			}
			n++
			if !yield(rec, err) {
				return
			}
		}
	}
}

// An interrupted import continues when it is run again, and puts no record twice.
func TestImportIsResumed(t *testing.T) {
	k := newKit(t)
	k.stream("orders", 2, 12_000)
	file := filepath.Join(t.TempDir(), "orders.braid")
	k.ok("export", "orders", file)
	for i, before := range []string{"", "5,000", "10,000"} {
		ctx, cancel := context.WithCancel(t.Context())
		k.ctx = ctx
		k.program = func(p *program) { // a bar is first drawn after the first batch
			p.bars = true
			p.stderr = io.MultiWriter(p.stderr, writerFunc(func(b []byte) {
				if bytes.Contains(b, []byte("import copy")) {
					cancel()
				}
			}))
		}
		code, stdout, stderr := k.run("import", file, "--stream", "copy")
		if before != "" {
			require.Contains(t, stderr, before+" records of "+file+" were imported before; the import continues after them.\n")
		}
		if i < 2 {
			require.Equal(t, exitInterrupted, code, stderr)
			require.Empty(t, stdout)
		} else {
			require.Contains(t, stdout, "12,000 records were imported")
		}
	}
	k.ctx, k.program = t.Context(), nil
	require.Equal(t, k.ok("cat", "orders", "--template", content), k.ok("cat", "copy", "--template", content))
	requireNoKeys(t, k.db)
}

type writerFunc func(p []byte)

func (w writerFunc) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// Nothing is imported from a damaged file. From damaged standard input, the records
// before the damage are imported.
func TestImportOfDamage(t *testing.T) {
	for _, name := range []string{"orders.braid", "orders.ndjson"} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.stream("orders", 1, 3000)
			file := filepath.Join(t.TempDir(), name)
			k.ok("export", "orders", file)
			export, err := os.ReadFile(file)
			require.NoError(t, err)
			export[len(export)/2] ^= 4
			require.NoError(t, os.WriteFile(file, export, 0o600))
			require.Contains(t, k.fails(exitDamage, "import", file, "--stream", "copy"), "; nothing was imported\n")
			require.Len(t, k.db.Streams(), 1)
			require.Contains(t, k.fails(exitDamage, "replay", "--file", file, "--to", "orders", "--speed", "max"), "export is damaged")
			require.Contains(t, k.fails(exitDamage, "export", "orders", file, "--resume"), "export is damaged")
			k.stdin = string(export)
			require.Contains(t, k.fails(exitDamage, "import", "-", "--stream", "copy"), "imported into copy before the import ended: ")
		})
	}
	k := newKit(t)
	file := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(file, []byte("hello\n"), 0o600))
	require.Contains(t, k.fails(exitFailure, "import", file), "not an export of braid")
}

// A stream with a limited capacity is filled at that pace.
func TestImportWaitsForCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		s := k.stream("orders", 1, 12_000)
		require.NoError(t, s.UpdateCapacity(t.Context(), braid.Capacity{Mode: braid.Provisioned, WriteRecordsPerSecond: 1000}))
		file := filepath.Join(t.TempDir(), "orders.braid")
		k.ok("export", "orders", file)
		began := time.Now()
		require.Contains(t, k.ok("import", file, "--stream", "copy"), "12,000 records were imported")
		require.Equal(t, k.ok("cat", "orders", "--template", content), k.ok("cat", "copy", "--template", content))
		require.Greater(t, time.Since(began), 8*time.Second)
		require.Less(t, time.Since(began), 20*time.Second)
	})
}

func TestABarIsDrawnOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &program{stderr: &out, bars: true, width: func() int { return 79 }}
		bar := p.newProgress("export orders", 1000, number)
		bar.set(1000, 4000)
		bar.set(1001, 4000) // too soon to be drawn
		time.Sleep(2 * time.Second)
		bar.set(2000, 4000)
		time.Sleep(2 * time.Second)
		bar.set(5000, 4000) // more than the total that was known
		bar.clear()
		golden(t, "bar.txt", strings.ReplaceAll(out.String(), "\r", "\\r\n"))

		out.Reset()
		p.bars = false
		bar = p.newProgress("export orders", 0, number)
		bar.set(1, 2)
		bar.clear()
		require.Empty(t, out.String())
	})
}
