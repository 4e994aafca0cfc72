package braid

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

// A page that is damaged on the disk is reported with its table, and the records around it
// are read.
func TestVerifyFindsDamagedTables(t *testing.T) {
	ctx := t.Context()
	random := rand.NewChaCha8([32]byte{9})
	noise := func(n int) []byte {
		data := make([]byte, n)
		_, _ = random.Read(data)
		return data
	}
	mem := vfs.NewMem()
	options := &Options{MemtableBytes: minMemtableBytes, TailBytes: -1, CacheBytes: -1}
	db, err := open("/db", options, environment{fs: mem})
	require.NoError(t, err)
	s, err := db.OpenStream(ctx, "s", nil)
	require.NoError(t, err)
	var record, value []byte
	var numbers []SequenceNumber
	for i := range 300 {
		data := noise(2000)
		res, err := s.PutRecord(ctx, "key", data)
		require.NoError(t, err)
		numbers = append(numbers, res.SequenceNumber)
		if i == 100 {
			record = data
		}
		require.NoError(t, db.Update(ctx, func(tx *Tx) error {
			data := noise(2000)
			if i == 200 {
				value = data
			}
			return tx.Set(fmt.Appendf(nil, "key-%03d", i), data)
		}))
	}
	require.NoError(t, db.Close())
	tables := make(map[string]bool)
	for _, damaged := range [][]byte{record, value} {
		table, content, at, err := testdisk.Find(mem, "/db/store", damaged)
		require.NoError(t, err)
		content[at+len(damaged)/2] ^= 1
		tables["store/"+path.Base(table)] = true
	}
	for _, readOnly := range []bool{true, false} {
		options := *options
		options.ReadOnly = readOnly
		db, err = open("/db", &options, environment{fs: mem, byHand: true})
		require.NoError(t, err)
		report, err := db.Verify(ctx, unpaced)
		require.ErrorIs(t, err, ErrCorrupt)
		require.Len(t, report.Problems, len(tables)+2)
		found := make(map[string]bool)
		for _, p := range report.Problems[:len(tables)] {
			require.Equal(t, "file", p.Kind)
			var damage *FileDamageError
			require.ErrorAs(t, p, &damage)
			require.Equal(t, p.File, damage.File)
			require.Equal(t, "changed", damage.Damage)
			require.NotContains(t, p.Error(), "AcceptLoss")
			found[p.File] = true
		}
		require.Equal(t, tables, found)

		first, second := report.Problems[len(tables)], report.Problems[len(tables)+1]
		var corrupt *CorruptError
		require.ErrorAs(t, first, &corrupt)
		require.Equal(t, "records", first.Kind)
		require.Equal(t, "s", first.Stream)
		require.True(t, tables[first.File], first.File)
		require.LessOrEqual(t, corrupt.FirstLost.Compare(numbers[100]), 0)
		require.Positive(t, corrupt.FirstAvailable.Compare(numbers[100]))
		require.Greater(t, report.Records, int64(250))
		require.Less(t, report.Records, int64(300))

		require.Equal(t, "key", second.Kind)
		require.True(t, tables[second.File], second.File)
		require.Less(t, string(second.AfterKey), "key-200")
		require.Greater(t, string(second.BeforeKey), "key-200")
		require.Greater(t, report.Keys, int64(250))
		require.Less(t, report.Keys, int64(300))

		// A copy has the same damage, so it does not become a backup.
		err = db.Backup(ctx, "/copy", &BackupOptions{Verify: true})
		require.ErrorIs(t, err, ErrCorrupt)
		require.ErrorContains(t, err, "the copy cannot be verified")
		names, err := mem.List("/copy")
		require.NoError(t, err)
		require.Empty(t, names)

		require.NoError(t, db.Close())
	}
}

// A flipped bit in a table is found anywhere while the database is in use, and reported with
// the file: in the index, in other parts at the table's end, and in trimmed records.
func TestVerifyFindsDamageThatNobodyReads(t *testing.T) {
	mem := vfs.NewMem()
	options := &Options{KeyProvider: blockKeys, MemtableBytes: minMemtableBytes}
	db, err := open("/db", options, environment{fs: mem, byHand: true})
	require.NoError(t, err)
	s := verifySource(t, db)
	sh := s.Shards()[1]
	block := liveBlocks(t, sh)[3]
	block.value = bytes.Clone(block.value)
	require.NoError(t, db.Close())
	db, err = open("/db", options, environment{fs: mem, byHand: true})
	require.NoError(t, err)
	s, err = db.Stream("orders")
	require.NoError(t, err)
	require.NoError(t, s.Trim(t.Context(), Latest()))

	report, err := db.Verify(t.Context(), unpaced)
	require.NoError(t, err)
	require.Greater(t, report.Files, int64(3), "a log, the manifest and tables")
	require.Greater(t, report.FileBytes, report.Bytes)
	table, content, at, err := testdisk.Find(mem, "/db/store", block.value[len(block.value)/2:len(block.value)/2+100])
	require.NoError(t, err)
	places := []int{at}
	for n := 1; n < 2000; n += 97 {
		places = append(places, len(content)-n)
	}
	for _, at := range places {
		content[at] ^= 4
		report, err = db.Verify(t.Context(), unpaced)
		require.ErrorIs(t, err, ErrCorrupt)
		require.Equal(t, "file", report.Problems[0].Kind)
		require.Equal(t, "store/"+path.Base(table), report.Problems[0].File)
		require.Len(t, report.Problems, 1, "nothing is lost by it")
		content[at] ^= 4
	}
	_, err = db.Verify(t.Context(), unpaced)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}
