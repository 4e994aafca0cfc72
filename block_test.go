package braid

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// These tests check which records share a block, and that everything is still exact for each
// single record. The model and the damage tests have blocks, too.

const blockDir = "/data/db"

// blockKeys is the key ring of these tests.
var blockKeys = func() *KeyRing {
	ring, err := NewKeyRing(map[string][]byte{"main": make([]byte, 32)})
	if err != nil {
		panic(err)
	}
	return ring
}()

// storedBlock is a block and its row.
type storedBlock struct {
	layout.Block
	key, value []byte
}

// blocksOf returns the stored blocks of a shard.
func blocksOf(t *testing.T, sh *Shard) (blocks []storedBlock) {
	t.Helper()
	_, err := sh.stream.db.Verify(t.Context(), &VerifyOptions{BytesPerSecond: -1})
	require.NoError(t, err)
	_, extents := sh.view()
	for _, extent := range extents {
		lower, upper := sh.extentSpan(extent, extent.FirstCounter)
		require.NoError(t, scan(sh.stream.db.store, lower, upper, func(key, value []byte) error {
			key, value = bytes.Clone(key), bytes.Clone(value)
			block, err := layout.DecodeBlock(key, value)
			blocks = append(blocks, storedBlock{block, key, value})
			return err
		}))
	}
	return blocks
}

// damageBlock changes a bit of a stored block in a way that the store itself does not notice.
func damageBlock(t *testing.T, db *DB, block storedBlock) {
	t.Helper()
	value := bytes.Clone(block.value)
	value[len(value)/2] ^= 1
	storeBlock(t, db, block.key, value)
}

func storeBlock(t *testing.T, db *DB, key, value []byte) {
	t.Helper()
	batch := db.store.NewBatch()
	defer batch.Close()
	batch.Set(key, value)
	require.NoError(t, batch.Commit(true))
}

func openBlocks(t *testing.T, fs vfs.FS, keys KeyProvider) (*DB, *Shard) {
	t.Helper()
	db, err := open(blockDir, &Options{TailBytes: -1, KeyProvider: keys}, environment{fs: fs})
	require.NoError(t, err)
	s, err := db.OpenStream(t.Context(), "s", nil)
	require.NoError(t, err)
	return db, s.Shards()[0]
}

// putBlock puts records with one commit, and returns them as a reader gets them.
func putBlock(t *testing.T, sh *Shard, random *rand.Rand, count, size int) []Record {
	t.Helper()
	entries := make([]Entry, count)
	for i := range entries {
		entries[i] = Entry{PartitionKey: fmt.Sprintf("key-%d", random.IntN(1000)), Data: randomBytes(random, size)}
		if random.IntN(5) == 0 {
			entries[i].ExplicitHashKey = &HashKey{sh.hashKeys.Start.n}
		}
	}
	results, err := sh.stream.PutRecords(t.Context(), entries)
	require.NoError(t, err)
	records := make([]Record, count)
	for i, res := range results {
		records[i] = Record{
			PartitionKey: entries[i].PartitionKey, ExplicitHashKey: entries[i].ExplicitHashKey, Data: entries[i].Data, ShardID: res.ShardID,
			SequenceNumber: res.SequenceNumber, ArrivalTime: time.Unix(0, int64(res.SequenceNumber.counter())), Encrypted: res.Encrypted,
		}
	}
	return records
}

func randomBytes(random *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

// together makes the calls while the committer is held, so that they share a group, in
// this order.
func together(db *DB, calls ...func()) {
	held := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		_ = db.control(context.Background(), func(*appender, *kv.Batch) (func(), error) {
			<-held
			return nil, nil
		})
	})
	synctest.Wait()
	for _, call := range calls {
		running.Go(call)
		synctest.Wait()
	}
	close(held)
	running.Wait()
}

// readAround reads the shard to its end, past all damage. It returns the records and the
// errors.
func readAround(t *testing.T, sh *Shard, from Position) (records []Record, told []*CorruptError) {
	t.Helper()
	for {
		var damage *CorruptError
		for r, err := range sh.Records(t.Context(), from) {
			if err != nil {
				require.ErrorAs(t, err, &damage)
				break
			}
			records = append(records, r)
		}
		if damage == nil {
			return records, told
		}
		require.Positive(t, damage.FirstAvailable.Compare(damage.FirstLost), "%v", damage)
		told, from = append(told, damage), AtSequence(damage.FirstAvailable)
	}
}

func sizeOf(records []Record) (n int64) {
	for i := range records {
		n += int64(records[i].Size())
	}
	return n
}

// One commit stores its records of a shard in as few rows as possible, whether they come from
// one caller or several.
func TestACommitIsFewRows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	synctest.Test(t, func(t *testing.T) {
		db, sh := openBlocks(t, vfs.NewMem(), blockKeys)
		putBlock(t, sh, random, 500, 100)
		blocks := blocksOf(t, sh)
		require.Len(t, blocks, 500*108/layout.MaxBlockBytes+1)
		putBlock(t, sh, random, 600, 1)
		require.Len(t, blocksOf(t, sh)[len(blocks):], 600/layout.MaxBlockRecords+1)

		n := len(blocksOf(t, sh))
		putBlock(t, sh, random, 3, layout.MaxBlockBytes)
		require.Len(t, blocksOf(t, sh), n+3, "a large one is a block of its own")

		// The records of all callers in a group share a block, except across a change of the
		// encryption.
		n = len(blocksOf(t, sh))
		put := func() { putBlock(t, sh, random, 2, 10) }
		require.NoError(t, sh.stream.StartEncryption(t.Context(), "main"))
		together(db, put, put, put)
		require.Equal(t, []int{6}, recordCounts(blocksOf(t, sh)[n:]))
		together(db, put, put, func() { require.NoError(t, sh.stream.StopEncryption(t.Context())) }, put, put)
		last := blocksOf(t, sh)[n+1:]
		require.Equal(t, []int{4, 4}, recordCounts(last))
		require.True(t, last[0].Sealed)
		require.False(t, last[1].Sealed)
		require.NoError(t, db.Close())
	})
}

func recordCounts(blocks []storedBlock) (counts []int) {
	for _, b := range blocks {
		counts = append(counts, b.Count)
	}
	return counts
}

// A page of any length, from any record, has that record and the following ones, and its
// counts of the rest are exact: in the clear and encrypted, within a block and across several.
func TestPagesBeginAndEndInsideOfBlocks(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		random := rand.New(rand.NewPCG(2, 2))
		fs := vfs.NewMem()
		db, sh := openBlocks(t, fs, blockKeys)
		if encrypted {
			require.NoError(t, sh.stream.StartEncryption(t.Context(), "main"))
		}
		var want []Record
		for _, count := range []int{1, 30, 1, 1, 12} {
			want = append(want, putBlock(t, sh, random, count, random.IntN(100))...) // fewer than an encrypted block may hold
		}
		require.Equal(t, []int{1, 30, 1, 1, 12}, recordCounts(blocksOf(t, sh)))
		require.NoError(t, db.Close())
		db, sh = openBlocks(t, fs, blockKeys)
		for first := range want {
			for _, limit := range []int{1, 2, 7, 29, 30, 31, 100} {
				records := want[first:min(len(want), first+limit)]
				bytes := sizeOf(records)
				for _, q := range []struct {
					from    Position
					options GetRecordsOptions
				}{
					{AtSequence(want[first].SequenceNumber), GetRecordsOptions{Limit: limit}},
					{AtTime(want[first].ArrivalTime), GetRecordsOptions{Limit: limit}},
					{AtTime(want[first].ArrivalTime), GetRecordsOptions{LimitBytes: int(bytes)}},
					{AtTime(want[first].ArrivalTime), GetRecordsOptions{LimitBytes: int(bytes) + want[min(len(want)-1, first+limit)].Size() - 1}},
				} {
					page, err := sh.GetRecords(t.Context(), q.from, &q.options)
					require.NoError(t, err)
					require.Equal(t, records, page.Records)
					require.EqualValues(t, len(want)-first-len(records), page.BehindRecords)
					require.Equal(t, sizeOf(want[first+len(records):]), page.BehindBytes)
					require.Equal(t, page.BehindRecords > 0, page.BehindLatest > 0)
					require.Equal(t, records[len(records)-1].SequenceNumber, page.Next.SequenceNumber())
				}
			}
		}
		require.NoError(t, db.Close())
	}
}

// The border of a trim is exact, wherever in a block it lies, even without the key of
// encrypted records. If blocks are damaged, it is as exact as possible.
func TestATrimEndsInsideOfABlock(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	fs := vfs.NewMem()
	db, sh := openBlocks(t, fs, blockKeys)
	want := putBlock(t, sh, random, 10, 50)
	require.NoError(t, sh.stream.StartEncryption(t.Context(), "main"))
	for range 2 {
		want = append(want, putBlock(t, sh, random, 10, 70)...)
	}
	blocks := blocksOf(t, sh)
	require.Equal(t, []int{10, 10, 10}, recordCounts(blocks))
	require.NoError(t, db.Close())

	border := func(sh *Shard, i int) (layout.Horizon, error) {
		horizon, extents := sh.view()
		return sh.lastBefore(t.Context(), want[i].SequenceNumber.counter(), horizon, extents)
	}
	exact := func(i int) layout.Horizon {
		return layout.Horizon{Counter: want[i-1].SequenceNumber.counter() + 1, Ordinal: uint64(i), Offset: uint64(sizeOf(want[:i]))}
	}
	db, sh = openBlocks(t, fs, nil)
	for i := 1; i < len(want); i++ {
		got, err := border(sh, i)
		require.NoError(t, err)
		require.Equal(t, exact(i), got)
	}
	damageBlock(t, db, blocks[1])
	for i := 1; i < len(want); i++ {
		got, err := border(sh, i)
		require.NoError(t, err)
		switch {
		case i == 20: // known from the first record that stays
			require.Equal(t, exact(i).Ordinal, got.Ordinal)
			require.Equal(t, exact(i).Offset, got.Offset)
		case i > 10 && i < 20: // no record of the damaged block is trimmed
			require.Equal(t, exact(10), got)
		default:
			require.Equal(t, exact(i), got)
		}
	}
	damageBlock(t, db, blocks[2]) // the block after the border is damaged, too
	_, err := border(sh, 20)
	require.ErrorIs(t, err, ErrCorrupt)
	for _, block := range blocks {
		storeBlock(t, db, block.key, block.value)
	}
	require.Len(t, blocksOf(t, sh), 3)

	for i := 1; i < len(want); i++ {
		require.NoError(t, sh.stream.Trim(t.Context(), AtSequence(want[i].SequenceNumber)))
		d := sh.Describe()
		require.EqualValues(t, len(want)-i, d.Records)
		require.Equal(t, sizeOf(want[i:]), d.Bytes)
		require.Equal(t, want[i].SequenceNumber, d.First)
		_, err := sh.GetRecords(t.Context(), AtSequence(want[i-1].SequenceNumber), nil)
		var trimmed *TrimmedError
		require.ErrorAs(t, err, &trimmed)
		require.Equal(t, want[i-1].SequenceNumber, trimmed.LastLost)
		if i%7 == 0 {
			require.NoError(t, db.Close())
			db, sh = openBlocks(t, fs, blockKeys)
		}
		if sh.stream.db.opts.KeyProvider != nil {
			records, told := readAround(t, sh, TrimHorizon())
			require.Empty(t, told)
			require.Equal(t, want[i:], records)
		}
		require.NoError(t, db.checkBooks(t.Context()))
	}
	require.NoError(t, db.Close())
}

// A damaged block loses its own records and no others. A reader that reaches them, from
// anywhere, gets an error with the end of the block.
func TestDamageOfABlockIsThatOfItsRecords(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		random := rand.New(rand.NewPCG(4, 4))
		db, sh := openBlocks(t, vfs.NewMem(), blockKeys)
		if encrypted {
			require.NoError(t, sh.stream.StartEncryption(t.Context(), "main"))
		}
		var want []Record
		for range 5 {
			want = append(want, putBlock(t, sh, random, 10, 50)...)
		}
		damageBlock(t, db, blocksOf(t, sh)[2])
		after := want[29].SequenceNumber.withCounter(want[29].SequenceNumber.counter() + 1)
		for first := range want {
			records, told := readAround(t, sh, AtSequence(want[first].SequenceNumber))
			rest := want[max(first, 30):]
			if first >= 30 {
				require.Empty(t, told)
			} else {
				rest = append(append([]Record{}, want[min(first, 20):20]...), rest...)
				require.Len(t, told, 1)
				require.Equal(t, after, told[0].FirstAvailable)
				lost := want[max(first, 20)].SequenceNumber.counter()
				if first < 20 { // the reader has already read the records before it
					lost = want[19].SequenceNumber.counter() + 1
				}
				require.Equal(t, lost, told[0].FirstLost.counter())
			}
			require.Equal(t, rest, records)
		}
		page, err := sh.GetRecords(t.Context(), AtSequence(want[15].SequenceNumber), &GetRecordsOptions{Limit: 5})
		require.NoError(t, err, "a page that ends before the block")
		require.Equal(t, want[15:20], page.Records)
		require.EqualValues(t, 30, page.BehindRecords)
		require.EqualValues(t, 50, sh.Describe().Records)
		require.NoError(t, sh.stream.Trim(t.Context(), AtSequence(after)))
		require.EqualValues(t, 20, sh.Describe().Records)
		require.Equal(t, sizeOf(want[30:]), sh.Describe().Bytes)
		require.NoError(t, db.Close())
	}
}

// The last block before a crash is damaged, and no row has its number of records. They count
// as one, and neither their numbers nor their key are used again, even if the clock has gone
// back.
func TestADamagedLastBlockIsCountedAsOneRecord(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	fs := vfs.NewCrashableMem()
	db, sh := openBlocks(t, fs, nil)
	want := append(putBlock(t, sh, random, 10, 50), putBlock(t, sh, random, 10, 50)...)
	damageBlock(t, db, blocksOf(t, sh)[1])
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, db.Close())

	opts := &Options{TailBytes: -1}
	db, err := open(blockDir, opts, environment{fs: crashed, clock: func() time.Time { return time.Now().Add(-time.Hour) }})
	require.NoError(t, err)
	s, err := db.Stream("s")
	require.NoError(t, err)
	sh = s.Shards()[0]
	require.EqualValues(t, 11, sh.Describe().Records)
	later := putBlock(t, sh, random, 3, 10)
	require.Positive(t, later[0].SequenceNumber.Compare(want[19].SequenceNumber))
	records, told := readAround(t, sh, TrimHorizon())
	require.Len(t, told, 1)
	require.Equal(t, append(want[:10:10], later...), records)
	require.NoError(t, db.checkBooks(context.Background()))
	require.NoError(t, db.Close())
}

// A database in the previous format, in which each record was a row, is refused with
// ErrFormatTooOld, with and without ReadOnly.
func TestADatabaseOfTheFormerFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	db, sh := openBlocks(t, fs, nil)
	putBlock(t, sh, rand.New(rand.NewPCG(6, 6)), 3, 10)
	id := layout.Identity{Format: 1, OldestReader: 1, ID: db.store.ID(), Ready: true}.Encode()
	require.NoError(t, db.Close())
	f, err := fs.Create(blockDir+"/BRAID", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(bytes.Clone(id)) // Write may change its argument
	require.NoError(t, err)
	require.NoError(t, f.Close())
	for _, readOnly := range []bool{false, true} {
		_, err := open(blockDir, &Options{ReadOnly: readOnly}, environment{fs: fs})
		require.ErrorIs(t, err, ErrFormatTooOld)
		require.NotErrorIs(t, err, ErrCorrupt)
		require.ErrorContains(t, err, "has format 1, and format 3 is the oldest that can be read")
		found, err := fs.UnsafeGetFileDataBuffer(blockDir + "/BRAID")
		require.NoError(t, err)
		require.Equal(t, id, found)
	}
}
