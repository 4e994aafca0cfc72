package layout_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
)

var exampleLedger = layout.Ledger{
	Sequence: 17, Database: uuid.MustParse("9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11"), Ready: true, Manifest: "MANIFEST-000004",
	Files: []layout.LedgerFile{{Name: "000007.log", Size: 123456, Sum: 0xa885d993, Head: 1}, {Name: "MANIFEST-000004", Size: 789, Sum: 0x0c1d2e3f, Head: 0x0c1d2e3f}},
}

var exampleTables = layout.TableLedger{
	Sequence: 3, Database: exampleLedger.Database,
	Tables: []layout.LedgerTable{
		{LedgerFile: layout.LedgerFile{Name: "000005.sst", Size: 1 << 33, Sum: 1}, Tail: 0xffffffff},
		{LedgerFile: layout.LedgerFile{Name: "000006.sst", Size: 901}},
	},
}

// golden compares data with a file, or rewrites the file.
func golden(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	path := "testdata/" + name + ".golden"
	if *update {
		require.NoError(t, os.WriteFile(path, data, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(data))
	return want
}

func TestLedgerGolden(t *testing.T) {
	creating := exampleLedger
	creating.Ready, creating.Files = false, nil
	for name, want := range map[string]layout.Ledger{"ledger-3": exampleLedger, "ledger-3-creating": creating} {
		got, err := layout.DecodeLedger(golden(t, name, want.Encode()))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got, err := layout.DecodeTableLedger(golden(t, "tables-3", exampleTables.Encode()))
	require.NoError(t, err)
	require.Equal(t, exampleTables, got)
}

// A ledger is written over an older one, which may be longer, and the write may stop anywhere.
func TestLedgerOverAnother(t *testing.T) {
	longer := exampleLedger
	longer.Files = append(longer.Files[:1:1], layout.LedgerFile{Name: "000008.log", Size: 1 << 40, Sum: 7}, longer.Files[1])
	longer.Sequence--
	before, after := longer.Encode(), exampleLedger.Encode()
	for n := range after {
		torn := append(after[:n:n], before[n:]...)
		got, err := layout.DecodeLedger(torn)
		if string(torn) == string(before) {
			require.NoError(t, err)
			require.Equal(t, longer, got)
			continue
		}
		if string(torn[:len(after)]) != string(after) {
			require.ErrorIs(t, err, layout.ErrCorrupt, "%d bytes", n)
		}
	}
	got, err := layout.DecodeLedger(append(after[:len(after):len(after)], before[len(after):]...))
	require.NoError(t, err)
	require.Equal(t, exampleLedger, got)
}

func TestLedgerFindsEveryFlippedBit(t *testing.T) {
	for _, data := range [][]byte{exampleLedger.Encode(), exampleTables.Encode()} {
		decode := func(data []byte) error {
			_, err := layout.DecodeLedger(data)
			if strings.HasPrefix(string(data), "braid tables") {
				_, err = layout.DecodeTableLedger(data)
			}
			return err
		}
		require.NoError(t, decode(data))
		for i := range data {
			for bit := range 8 {
				data[i] ^= 1 << bit
				require.ErrorIs(t, decode(data), layout.ErrCorrupt, "byte %d bit %d", i, bit)
				data[i] ^= 1 << bit
			}
			require.ErrorIs(t, decode(data[:i]), layout.ErrCorrupt, "cut to %d bytes", i)
		}
	}
}

func FuzzDecodeLedger(f *testing.F) {
	f.Add(exampleLedger.Encode())
	f.Add(exampleTables.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := layout.DecodeLedger(data); err == nil {
			require.Equal(t, string(l.Encode()), string(data[:len(l.Encode())]))
		} else {
			require.ErrorIs(t, err, layout.ErrCorrupt)
		}
		if l, err := layout.DecodeTableLedger(data); err == nil {
			require.Equal(t, string(l.Encode()), string(data[:len(l.Encode())]))
		} else {
			require.ErrorIs(t, err, layout.ErrCorrupt)
		}
	})
}

func TestLossesGolden(t *testing.T) {
	want := layout.Losses{Marked: true, Losses: []layout.Loss{
		{Time: time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC), File: "store/000012.log", Damage: "short", Offset: 4096, Text: "it \"ends\"\nthere"},
		{Time: time.Date(2026, 11, 28, 9, 0, 1, 0, time.UTC), File: "BRAID", Damage: "missing", Offset: -1},
	}}
	data := golden(t, "losses-3", want.Encode())
	got, err := layout.DecodeLosses(data)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for i := range data {
		data[i] ^= 1
		_, err := layout.DecodeLosses(data)
		require.ErrorIs(t, err, layout.ErrCorrupt, "byte %d", i)
		data[i] ^= 1
		_, err = layout.DecodeLosses(data[:i])
		require.ErrorIs(t, err, layout.ErrCorrupt, "cut to %d bytes", i)
	}
}

func FuzzDecodeLosses(f *testing.F) {
	f.Add((&layout.Losses{}).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := layout.DecodeLosses(data); err != nil {
			require.ErrorIs(t, err, layout.ErrCorrupt)
		}
	})
}
