package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// records returns records of a database: of several shards, with and without explicit
// hash keys, with text and other data, empty and large.
func records(t *testing.T, n int) (braid.StreamDescription, []braid.Record) {
	t.Helper()
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	defer db.Close()
	s, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 3, Retention: 36 * time.Hour, Tags: map[string]string{"a": "b"}})
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	var entries []braid.Entry
	for i := range n {
		e := braid.Entry{PartitionKey: fmt.Sprintf("key <%d>\u2028", i%7), Data: fmt.Append(nil, "record ", i)}
		switch i % 5 {
		case 1:
			e.Data = []byte{0xff, 0, byte(i)}
		case 2:
			e.Data = nil
		case 3:
			key := braid.HashKeyOf(fmt.Sprint(r.Int()))
			e.ExplicitHashKey = &key
			e.Data = bytes.Repeat([]byte("x"), 1+r.IntN(4_000))
		}
		entries = append(entries, e)
	}
	_, err = s.PutRecords(t.Context(), entries)
	require.NoError(t, err)
	var out []braid.Record
	for rec, err := range s.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		out = append(out, rec)
	}
	require.Len(t, out, n)
	return s.Describe(), out
}

// write returns an export of these records.
func write(t *testing.T, form Form, d braid.StreamDescription, recs []braid.Record) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, form, NewHeader(d))
	require.NoError(t, err)
	for i := range recs {
		require.NoError(t, w.Write(&recs[i]))
	}
	require.NoError(t, w.Finish())
	return out.Bytes()
}

// read returns the records of an export, and the error at its end.
func read(export []byte) (recs []braid.Record, err error) {
	in, err := NewReader(bytes.NewReader(export))
	for err == nil {
		var rec braid.Record
		if rec, err = in.Next(); err == nil {
			recs = append(recs, rec)
		}
	}
	return recs, err
}

// requireSame compares the parts of records that an export keeps: it ignores the zone of
// times, and nil and empty data are equal.
func requireSame(t *testing.T, want, got []braid.Record) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, LineOf(&want[i]), LineOf(&got[i]))
	}
}

var forms = map[string]Form{"binary": Binary, "ndjson": NDJSON}

func TestAnExportIsReadAsItWasWritten(t *testing.T) {
	d, recs := records(t, 500)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			parsed, ok := ParseForm(name)
			require.True(t, ok)
			require.Equal(t, form, parsed)
			export := write(t, form, d, recs)
			got, err := read(export)
			require.ErrorIs(t, err, io.EOF)
			requireSame(t, recs, got)

			in, err := NewReader(bytes.NewReader(export))
			require.NoError(t, err)
			head := in.Header()
			require.Equal(t, "orders", head.Stream)
			require.True(t, d.CreatedAt.Equal(head.CreatedAt))
			require.Len(t, head.ID, 32)
			require.Equal(t, braid.StreamOptions{Shards: 3, MaxRecordBytes: 1 << 20, Retention: 36 * time.Hour, Tags: map[string]string{"a": "b"}}, head.Settings)
		})
	}
	_, ok := ParseForm("xml")
	require.False(t, ok)
}

func TestAnEmptyExportIsWhole(t *testing.T) {
	d, _ := records(t, 0)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			got, err := read(write(t, form, d, nil))
			require.ErrorIs(t, err, io.EOF)
			require.Empty(t, got)
		})
	}
}

func TestTheBinaryFormIsCompact(t *testing.T) {
	d, recs := records(t, 2000)
	for i := range recs {
		recs[i].Data = fmt.Appendf(nil, "{\"n\":%d}", i)
	}
	binary, text := len(write(t, Binary, d, recs)), len(write(t, NDJSON, d, recs))
	require.Less(t, 5*binary, text, "%d bytes, and %d of NDJSON", binary, text)
}

// Wherever an export is cut off, its reader returns the records before that place, and
// reports that the end is missing.
func TestACutExportIsIncomplete(t *testing.T) {
	d, recs := records(t, 60)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			export := write(t, form, d, recs)
			for cut := len(magic) + 2; cut < len(export); cut += 1 + len(export)/300 {
				got, err := read(export[:cut])
				require.ErrorIs(t, err, ErrIncomplete, "cut at %d of %d", cut, len(export))
				requireSame(t, recs[:len(got)], got)
			}
		})
	}
}

// Whichever bit of an export is changed, its reader reports it.
func TestAChangedBitIsFound(t *testing.T) {
	d, recs := records(t, 20)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			export := write(t, form, d, recs)
			r := rand.New(rand.NewPCG(3, 4))
			for range 500 {
				changed := bytes.Clone(export)
				at := r.IntN(len(export))
				changed[at] ^= 1 << r.IntN(8)
				got, err := read(changed)
				require.Error(t, err)
				require.False(t, errors.Is(err, io.EOF), "a bit of byte %d of %d was changed", at, len(export))
				require.LessOrEqual(t, len(got), len(recs))
			}
		})
	}
}

func TestWhatFollowsTheEndIsDamage(t *testing.T) {
	d, recs := records(t, 3)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			export := write(t, form, d, recs)
			_, err := read(append(export, export[len(export)-5:]...))
			require.ErrorIs(t, err, ErrDamaged)
		})
	}
}

func TestSomethingElseIsNoExport(t *testing.T) {
	for _, text := range []string{"", "b", "hello\n", "{}\n", "braidX2\n"} {
		_, err := NewReader(strings.NewReader(text))
		require.ErrorIs(t, err, ErrNotExport, "%q", text)
	}
	d, _ := records(t, 0)
	head := NewHeader(d)
	head.Version = 2
	for _, form := range forms {
		var out bytes.Buffer
		w, err := NewWriter(&out, form, head)
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		_, err = NewReader(&out)
		require.ErrorContains(t, err, "version 2; this program reads versions up to 1")
	}
}

// An interrupted export can be continued at any place, and is then the same as an
// uninterrupted one.
func TestAnExportIsResumed(t *testing.T) {
	d, recs := records(t, 300)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			export := write(t, form, d, recs)
			for cut := 600; cut < len(export); cut += 1 + len(export)/40 {
				path := filepath.Join(t.TempDir(), "export")
				require.NoError(t, os.WriteFile(path, export[:cut], 0o600))
				file, err := os.OpenFile(path, os.O_RDWR, 0)
				require.NoError(t, err)
				out, head, err := Resume(file)
				require.NoError(t, err)
				require.Equal(t, "orders", head.Stream)
				done := int(out.Records)
				if done > 0 {
					require.Equal(t, recs[done-1].SequenceNumber, out.Last)
				} else {
					require.True(t, out.Last.IsZero())
				}
				for i := range recs[done:] {
					require.NoError(t, out.Write(&recs[done+i]))
				}
				require.NoError(t, out.Finish())
				_, _, err = Resume(file)
				require.ErrorIs(t, err, ErrComplete)
				require.NoError(t, file.Close())
				resumed, err := os.ReadFile(path)
				require.NoError(t, err)
				got, err := read(resumed)
				require.ErrorIs(t, err, io.EOF)
				requireSame(t, recs, got)
				if form == NDJSON {
					require.Equal(t, string(export[bytes.IndexByte(export, '\n'):]), string(resumed[bytes.IndexByte(resumed, '\n'):]))
				}
			}
		})
	}
}

// Flushed records survive whatever happens afterwards.
func TestAFlushedExportCanBeResumedThere(t *testing.T) {
	d, recs := records(t, 10)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w, err := NewWriter(&out, form, NewHeader(d))
			require.NoError(t, err)
			for i := range recs {
				require.NoError(t, w.Write(&recs[i]))
			}
			require.NoError(t, w.Flush())
			got, err := read(out.Bytes())
			require.ErrorIs(t, err, ErrIncomplete)
			requireSame(t, recs, got)
		})
	}
}

func TestLinesThatAreNotUnderstood(t *testing.T) {
	for text, want := range map[string]string{
		`{"PartitionKey":"k","Text":"a","Data":"AA=="}`: "both Text and Data",
		`{"partitionKey":"k","Txt":"a"}`:                `unknown field "Txt"`,
		`{"PartitionKey":"k"} {}`:                       "data after",
		`{"PartitionKey":7}`:                            "PartitionKey",
		`{"PartitionKey":"k","Data":"?"}`:               "base64",
		`{"PartitionKey":"k","SequenceNumber":"12"}`:    "SequenceNumber",
		``: "EOF",
	} {
		_, err := ParseLine([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	line, err := ParseLine([]byte(`{"PartitionKey":"k"}`))
	require.NoError(t, err)
	rec := line.Record()
	require.Empty(t, rec.Data)
}
