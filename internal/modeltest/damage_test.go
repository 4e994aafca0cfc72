package modeltest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/testdisk"
)

const damageDir = "/data/db"

var damageOptions = braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, CacheBytes: -1}

// damageBlock is the size of a block of a table where tests damage many: Pebble needs long for one
// of the usual size, and these find the same faults.
const damageBlock = 4 << 10

// openState opens the database before or after it is damaged.
func openState(fs vfs.FS, options *braid.Options) (*braid.DB, error) {
	return open(damageDir, options, companion.Environment{FS: fs, TableBlockBytes: damageBlock})
}

func openDamaged(t *testing.T, fs vfs.FS) *braid.DB {
	t.Helper()
	db, err := openState(fs, &damageOptions)
	require.NoError(t, err)
	return db
}

// placeOf returns the table that contains the text, its content, and the offset.
func placeOf(t *testing.T, mem *vfs.MemFS, text []byte) (table string, content []byte, at int) {
	t.Helper()
	table, content, at, err := testdisk.Find(mem, damageDir+"/store", text)
	require.NoError(t, err)
	return table, content, at
}

// flipRecord flips a bit of a record's data on disk.
func flipRecord(t *testing.T, mem *vfs.MemFS, data []byte) {
	t.Helper()
	_, content, at := placeOf(t, mem, data)
	content[at+len(data)/2] ^= 1
}

// randomBytes does not compress, so a table contains it unchanged.
func randomBytes(r *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// readAround reads a shard from a position to its end, past all damage. It returns the records and
// the errors.
func readAround(t *testing.T, sh *braid.Shard, from braid.Position) (records []braid.Record, told []*braid.CorruptError) {
	t.Helper()
	for {
		var damage *braid.CorruptError
		for r, err := range sh.Records(t.Context(), from) {
			if err != nil {
				require.ErrorAs(t, err, &damage)
				require.True(t, errors.Is(err, braid.ErrCorrupt) || errors.Is(err, braid.ErrDataLoss) || errors.Is(err, syscall.EIO), "%v", err)
				break
			}
			records = append(records, r)
		}
		if damage == nil {
			return records, told
		}
		require.Equal(t, sh.ID(), damage.Shard)
		require.Positive(t, damage.FirstAvailable.Compare(damage.FirstLost), "%v", damage)
		if len(records) > 0 {
			require.Positive(t, damage.FirstLost.Compare(records[len(records)-1].SequenceNumber))
		}
		told = append(told, damage)
		from = braid.AtSequence(damage.FirstAvailable)
	}
}

// The first, a middle or the last record of a shard, put alone or with others, is damaged or cannot
// be read. The database opens; a reader that reaches the record gets an error, and continues behind
// it; this shard and all others accept records, and are split, trimmed and deleted.
//
// This opens more databases than one process may leave behind.
func TestDamageOfOneRecord(t *testing.T) {
	for _, which := range []int{0, 50, 99} {
		for _, kind := range []string{"flip", "unreadable"} {
			for _, batch := range []int{1, 5} {
				t.Run(fmt.Sprintf("%s %d of batches of %d", kind, which, batch), func(t *testing.T) { damageOfOneRecord(t, kind, which, batch) })
			}
		}
	}
}

func damageOfOneRecord(t *testing.T, kind string, which, batch int) {
	const count, size = 100, 2000
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, uint64(which)))
	mem := vfs.NewMem()
	disk := testdisk.On(mem)
	db := openDamaged(t, disk)
	want := make(map[string][][]byte)
	numbers := make(map[string][]braid.SequenceNumber)
	put := func(name string) {
		s, err := db.OpenStream(ctx, name, nil)
		require.NoError(t, err)
		entries := make([]braid.Entry, batch)
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: "key", Data: randomBytes(random, size)}
		}
		results, err := s.PutRecords(ctx, entries)
		require.NoError(t, err)
		for i, res := range results {
			if n := numbers[name]; len(n) > 0 {
				require.Positive(t, res.SequenceNumber.Compare(n[len(n)-1]), "a sequence number was used twice")
			}
			want[name], numbers[name] = append(want[name], entries[i].Data), append(numbers[name], res.SequenceNumber)
		}
	}
	for range count / batch { // keys that are adjacent share a block
		for _, name := range []string{"before", "gap-1", "damaged", "gap-2", "behind"} {
			put(name)
		}
	}
	require.NoError(t, db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("key"), []byte("value")) }))
	require.NoError(t, db.Close())

	table, content, at := placeOf(t, mem, want["damaged"][which])
	if kind == "flip" {
		content[at+size/2] ^= 1
	} else {
		failReads(disk, table, at+size/2, syscall.EIO)
	}
	rounds := 2 // Pebble needs long to find a wrong checksum
	if kind == "unreadable" {
		rounds = 9
	}
	for range rounds {
		db = openDamaged(t, disk)
		requireUndamaged(t, db, "before", want["before"])
		requireUndamaged(t, db, "behind", want["behind"])
		value := []byte(nil)
		require.NoError(t, db.View(ctx, func(tx *braid.Tx) (err error) { value, err = tx.Get([]byte("key")); return err }))
		require.Equal(t, "value", string(value))

		s, err := db.Stream("damaged")
		require.NoError(t, err)
		sh := s.Shards()[0]
		require.EqualValues(t, len(want["damaged"]), sh.Describe().Records, "the record with lost content counts")
		requireAround(t, sh, want["damaged"], which)
		var stream [][]byte
		for r, err := range s.Records(ctx, braid.TrimHorizon()) {
			if err != nil {
				require.ErrorAs(t, err, new(*braid.CorruptError))
				break
			}
			stream = append(stream, r.Data)
		}
		require.Less(t, len(stream), which+1)
		require.Equal(t, want["damaged"][:len(stream)], nonNil(stream))

		put("damaged")
		put("before")
		require.NoError(t, db.Close())
	}

	// The damage can be trimmed away, and the rest is intact.
	db = openDamaged(t, disk)
	s, err := db.Stream("damaged")
	require.NoError(t, err)
	_, told := readAround(t, s.Shards()[0], braid.TrimHorizon())
	require.Len(t, told, 1)
	require.NoError(t, s.Trim(ctx, braid.AtSequence(told[0].FirstAvailable)))
	rest, told := readAround(t, s.Shards()[0], braid.TrimHorizon())
	require.Empty(t, told)
	require.NotEmpty(t, rest)
	require.EqualValues(t, len(rest), s.Shards()[0].Describe().Records)
	_, _, err = s.SplitShard(ctx, s.Shards()[0].ID(), nil)
	require.NoError(t, err)
	put("damaged")
	require.NoError(t, db.DeleteStream(ctx, "damaged"))
	require.NoError(t, db.Close())
	db = openDamaged(t, disk)
	requireUndamaged(t, db, "before", want["before"])
	requireUndamaged(t, db, "behind", want["behind"])
	require.NoError(t, db.Close())
}

func nonNil(s [][]byte) [][]byte {
	if s == nil {
		return [][]byte{}
	}
	return s
}

func requireUndamaged(t *testing.T, db *braid.DB, stream string, want [][]byte) {
	t.Helper()
	s, err := db.Stream(stream)
	require.NoError(t, err)
	var got [][]byte
	for r, err := range s.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		got = append(got, r.Data)
	}
	require.Equal(t, want, got)
}

// requireAround checks that everything before and after the block with the damaged record can be
// read.
func requireAround(t *testing.T, sh *braid.Shard, want [][]byte, which int) {
	t.Helper()
	got, told := readAround(t, sh, braid.TrimHorizon())
	require.Len(t, told, 1)
	lost := len(want) - len(got)
	require.Positive(t, lost)
	require.LessOrEqual(t, lost, (32<<10+layout.MaxBlockBytes)/2000+1, "more than one block of the table is lost")
	first := 0
	for first < len(got) && bytes.Equal(got[first].Data, want[first]) {
		first++
	}
	require.LessOrEqual(t, first, which)
	require.Greater(t, first+lost, which)
	for i := first; i < len(got); i++ {
		require.Equal(t, want[lost+i], got[i].Data)
	}
}

// failReads makes reads of one byte of a file fail.
func failReads(disk *testdisk.Disk, name string, at int, err error) {
	disk.FailAlways(func(op testdisk.Op) bool {
		return op.Path == name && op.Kind == errorfs.OpFileReadAt && op.Offset <= int64(at) && int64(at) < op.Offset+33<<10
	}, err)
}

// TestRandomDamage changes one byte, or zeroes a page, at random in the tables of a closed
// database. If it opens, then all records are read but adjacent ones in the damaged place, none is
// wrong, and everything accepts writes.
func TestRandomDamage(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 4
	}
	source, want := damageSource(t)
	opened := 0
	for round := range rounds {
		random := rand.New(rand.NewPCG(uint64(round), 2))
		mem := source.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: random})
		table, data, at := randomPlace(t, mem, random)
		what := fmt.Sprintf("round %d: %s, byte %d of %d", round, table, at, len(data))
		if random.IntN(4) == 0 {
			clear(data[at&^4095 : min(len(data), at&^4095+4096)])
		} else {
			data[at] ^= 1 << random.IntN(8)
		}
		db, err := openState(mem, &damageOptions)
		if err != nil { // rows about streams
			require.ErrorIs(t, err, braid.ErrCorrupt, what)
			continue
		}
		opened++
		judgeDamaged(t, db, want, what)
	}
	require.GreaterOrEqual(t, opened, rounds/2)
}

// randomPlace returns a byte of the tables, each as likely as any other.
func randomPlace(t *testing.T, mem *vfs.MemFS, random *rand.Rand) (table string, data []byte, at int) {
	t.Helper()
	tables, err := testdisk.Tables(mem, damageDir+"/store")
	require.NoError(t, err)
	total := 0
	contents := make([][]byte, len(tables))
	for i, name := range tables {
		contents[i], err = mem.UnsafeGetFileDataBuffer(name)
		require.NoError(t, err)
		total += len(contents[i])
	}
	at = random.IntN(total)
	for i, data := range contents {
		if at < len(data) {
			return tables[i], data, at
		}
		at -= len(data)
	}
	panic("unreachable")
}

// storedRecord is a record and its place.
type storedRecord struct {
	stream string
	shard  braid.ShardID
	epoch  uint32
	number braid.SequenceNumber
	data   []byte
}

// damageSource returns a closed database of several epochs, streams and shards, and its records in
// the order of their keys.
func damageSource(t *testing.T) (*vfs.MemFS, []storedRecord) {
	t.Helper()
	ctx := t.Context()
	random := rand.New(rand.NewPCG(7, 7))
	mem := vfs.NewCrashableMem()
	db := openDamaged(t, mem)
	var streams []*braid.Stream
	for i, shards := range []int{1, 4, 3} {
		s, err := db.CreateStream(ctx, fmt.Sprintf("stream-%d", i), &braid.StreamOptions{Shards: shards})
		require.NoError(t, err)
		streams = append(streams, s)
	}
	for n := range 750 {
		s := streams[random.IntN(len(streams))]
		entries := make([]braid.Entry, 1+random.IntN(3))
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: fmt.Sprint(random.IntN(100)), Data: randomBytes(random, 1+random.IntN(3000))}
		}
		_, err := s.PutRecords(ctx, entries)
		require.NoError(t, err)
		switch n {
		case 250:
			_, _, err := streams[1].SplitShard(ctx, streams[1].Shards()[2].ID(), nil)
			require.NoError(t, err)
		case 350:
			require.NoError(t, db.Close())
			db = openDamaged(t, mem)
			for i, s := range streams {
				streams[i], err = db.Stream(s.Name())
				require.NoError(t, err)
			}
		case 400:
			require.NoError(t, streams[2].Trim(ctx, braid.AtTime(time.Now())))
		}
	}
	epochs := epochsOf(t, db)
	var want []storedRecord
	for _, s := range streams {
		for _, sh := range s.Shards() {
			records, told := readAround(t, sh, braid.TrimHorizon())
			require.Empty(t, told)
			for _, r := range records {
				want = append(want, storedRecord{s.Name(), sh.ID(), epochs[counter(r.SequenceNumber)], r.SequenceNumber, r.Data})
			}
		}
	}
	require.NoError(t, db.Close())
	slices.SortStableFunc(want, func(a, b storedRecord) int { return cmp.Compare(a.epoch, b.epoch) })
	require.Greater(t, want[len(want)-1].epoch, want[0].epoch+1)
	return mem, want
}

// epochsOf returns the epoch of each stored record, by its counter.
func epochsOf(t *testing.T, db *braid.DB) map[uint64]uint32 {
	t.Helper()
	epochs := make(map[uint64]uint32)
	eachBlock(t, db, func(place layout.BlockKey, key, value []byte) {
		block, err := layout.DecodeBlock(key, value)
		require.NoError(t, err)
		for it := block.Records(); it.Next(); {
			epochs[it.Counter] = place.Epoch
		}
	})
	return epochs
}

func judgeDamaged(t *testing.T, db *braid.DB, want []storedRecord, what string) {
	t.Helper()
	ctx := t.Context()
	got := make(map[braid.SequenceNumber][]byte)
	told := 0
	for _, s := range db.Streams() {
		for _, sh := range s.Shards() {
			records, damages := readAround(t, sh, braid.TrimHorizon())
			told += len(damages)
			for _, r := range records {
				got[r.SequenceNumber] = r.Data
			}
		}
	}
	first, last, lost := -1, -1, 0
	highest := braid.SequenceNumber{}
	for i, w := range want {
		if counter(w.number) > counter(highest) {
			highest = w.number
		}
		data, ok := got[w.number]
		if ok {
			require.Equal(t, w.data, data, what)
			delete(got, w.number)
			continue
		}
		if first < 0 {
			first = i
		}
		last = i
		lost++
	}
	require.Empty(t, got, "%s: records that were never put", what)
	if lost > 0 {
		require.Equal(t, last-first+1, lost, "%s: an undamaged record cannot be read", what)
		require.Equal(t, want[first].epoch, want[last].epoch, what)
		require.Positive(t, told, what)
	}

	// All streams still accept records, which can be read.
	for _, s := range db.Streams() {
		for _, sh := range s.Shards() {
			if sh.Describe().Closed {
				continue
			}
			start := sh.HashKeyRange().Start
			res, err := s.PutRecords(ctx, []braid.Entry{{PartitionKey: "key", Data: []byte("new"), ExplicitHashKey: &start}})
			require.NoError(t, err, what)
			require.Greater(t, counter(res[0].SequenceNumber), counter(highest), what)
			highest = res[0].SequenceNumber
			page, err := sh.GetRecords(ctx, braid.AtSequence(highest), nil)
			require.NoError(t, err, what)
			require.Equal(t, "new", string(page.Records[0].Data))
		}
		require.NoError(t, s.Trim(ctx, braid.Latest()), what)
		for _, sh := range s.Shards() {
			records, damages := readAround(t, sh, braid.TrimHorizon())
			require.Empty(t, records, what)
			require.Empty(t, damages, what)
		}
	}
	require.NoError(t, db.Metrics().Failed, what)
	require.NoError(t, db.Close(), what)
}
