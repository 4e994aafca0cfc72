package braid

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

const damageDir = "/data/db"

var damageOptions = Options{MemtableBytes: minMemtableBytes, TailBytes: -1, CacheBytes: -1}

func openDamaged(t *testing.T, fs vfs.FS) *DB {
	t.Helper()
	db, err := open(damageDir, &damageOptions, environment{fs: fs})
	require.NoError(t, err)
	return db
}

// tables returns the names of the tables on the disk.
func tables(t *testing.T, mem *vfs.MemFS) (names []string) {
	t.Helper()
	all, err := mem.List(damageDir + "/store")
	require.NoError(t, err)
	for _, name := range all {
		if strings.HasSuffix(name, ".sst") {
			names = append(names, damageDir+"/store/"+name)
		}
	}
	slices.Sort(names)
	return names
}

func fileBytes(t *testing.T, mem *vfs.MemFS, name string) []byte {
	t.Helper()
	data, err := mem.UnsafeGetFileDataBuffer(name)
	require.NoError(t, err)
	return data
}

// placeOf returns the table that holds the text, and where.
func placeOf(t *testing.T, mem *vfs.MemFS, text []byte) (table string, at int) {
	t.Helper()
	for _, name := range tables(t, mem) {
		if at := bytes.Index(fileBytes(t, mem, name), text); at >= 0 {
			return name, at
		}
	}
	require.Fail(t, "no table holds the record")
	return "", 0
}

// flipRecord changes a bit of a record's data on the disk.
func flipRecord(t *testing.T, mem *vfs.MemFS, data []byte) {
	t.Helper()
	name, at := placeOf(t, mem, data)
	fileBytes(t, mem, name)[at+len(data)/2] ^= 1
}

// randomBytes does not compress, so it stands in a table as it is.
func randomBytes(r *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

// readAround reads a shard from a position to its end, past all damage. It returns
// what it found and what it was told.
func readAround(t *testing.T, sh *Shard, from Position) (records []Record, told []*CorruptError) {
	t.Helper()
	for {
		var damage *CorruptError
		for r, err := range sh.Records(t.Context(), from) {
			if err != nil {
				require.ErrorAs(t, err, &damage)
				require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrDataLoss) || errors.Is(err, syscall.EIO), "%v", err)
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
		from = AtSequence(damage.FirstAvailable)
	}
}

// TestDamageOfOneRecord: the first, a middle or the last record of a shard, put by itself
// or with others, is damaged or cannot be read. The database opens, more often than a process may leave
// databases behind; whoever comes to the record is told, and goes
// on behind it; the shard and all others take records, are split, trimmed and
// deleted.
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
	disk := &readFaults{}
	disk.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(disk.before))
	db := openDamaged(t, disk)
	want := make(map[string][][]byte)
	numbers := make(map[string][]SequenceNumber)
	put := func(name string) {
		s, err := db.OpenStream(ctx, name, nil)
		require.NoError(t, err)
		entries := make([]Entry, batch)
		for i := range entries {
			entries[i] = Entry{PartitionKey: "key", Data: randomBytes(random, size)}
		}
		results, err := s.PutRecords(ctx, entries)
		require.NoError(t, err)
		for i, res := range results {
			if n := numbers[name]; len(n) > 0 {
				require.Positive(t, res.SequenceNumber.Compare(n[len(n)-1]), "a number that was given out before")
			}
			want[name], numbers[name] = append(want[name], entries[i].Data), append(numbers[name], res.SequenceNumber)
		}
	}
	for range count / batch { // a block is shared by neighbours in the order of keys
		for _, name := range []string{"before", "gap-1", "damaged", "gap-2", "behind"} {
			put(name)
		}
	}
	require.NoError(t, db.Update(ctx, func(tx *Tx) error { return tx.Set([]byte("key"), []byte("value")) }))
	require.NoError(t, db.Close())

	table, at := placeOf(t, mem, want["damaged"][which])
	if kind == "flip" {
		fileBytes(t, mem, table)[at+size/2] ^= 1
	} else {
		disk.set(table, int64(at+size/2))
	}
	rounds := 2 // it takes Pebble long to find a wrong checksum
	if kind == "unreadable" {
		rounds = 9
	}
	for range rounds {
		db = openDamaged(t, disk)
		requireUndamaged(t, db, "before", want["before"])
		requireUndamaged(t, db, "behind", want["behind"])
		value := []byte(nil)
		require.NoError(t, db.View(ctx, func(tx *Tx) (err error) { value, err = tx.Get([]byte("key")); return err }))
		require.Equal(t, "value", string(value))

		s, err := db.Stream("damaged")
		require.NoError(t, err)
		sh := s.Shards()[0]
		require.EqualValues(t, len(want["damaged"]), sh.Describe().Records, "that of which the content is lost counts")
		requireAround(t, sh, want["damaged"], which)
		var stream [][]byte
		for r, err := range s.Records(ctx, TrimHorizon()) {
			if err != nil {
				require.ErrorAs(t, err, new(*CorruptError))
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

	// The damage can be trimmed away, and what is left is whole.
	db = openDamaged(t, disk)
	s, err := db.Stream("damaged")
	require.NoError(t, err)
	_, told := readAround(t, s.Shards()[0], TrimHorizon())
	require.Len(t, told, 1)
	require.NoError(t, s.Trim(ctx, AtSequence(told[0].FirstAvailable)))
	rest, told := readAround(t, s.Shards()[0], TrimHorizon())
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

func requireUndamaged(t *testing.T, db *DB, stream string, want [][]byte) {
	t.Helper()
	s, err := db.Stream(stream)
	require.NoError(t, err)
	var got [][]byte
	for r, err := range s.Records(t.Context(), TrimHorizon()) {
		require.NoError(t, err)
		got = append(got, r.Data)
	}
	require.Equal(t, want, got)
}

// requireAround checks that all that lies before and after the block with the
// damaged record can be read.
func requireAround(t *testing.T, sh *Shard, want [][]byte, which int) {
	t.Helper()
	got, told := readAround(t, sh, TrimHorizon())
	require.Len(t, told, 1)
	lost := len(want) - len(got)
	require.Positive(t, lost)
	require.LessOrEqual(t, lost, (32<<10+layout.MaxBlockBytes)/2000+1, "more than a block of the table is lost")
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

// readFaults is a disk that cannot read one byte of a file.
type readFaults struct {
	vfs.FS
	err  error      // that it returns; nil: EIO
	mu   sync.Mutex // guards the fields below
	name string
	at   int64
}

func (d *readFaults) set(name string, at int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.name, d.at = name, at
}

func (d *readFaults) before(op errorfs.Op) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.name != "" && op.Path == d.name && op.Kind == errorfs.OpFileReadAt && op.Offset <= d.at && d.at < op.Offset+33<<10 {
		return cmp.Or[error](d.err, syscall.EIO)
	}
	return nil
}

// TestRandomDamage changes one byte, or zeroes a page, of the tables of a closed
// database, at random. If it opens, then all records but those that lie beside each
// other in the damaged place are read, none is wrong, and everything can be written.
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
		db, err := open(damageDir, &damageOptions, environment{fs: mem})
		if err != nil { // rows about streams
			require.ErrorIs(t, err, ErrCorrupt, what)
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
	total := 0
	for _, name := range tables(t, mem) {
		total += len(fileBytes(t, mem, name))
	}
	at = random.IntN(total)
	for _, table = range tables(t, mem) {
		if data = fileBytes(t, mem, table); at < len(data) {
			break
		}
		at -= len(data)
	}
	return table, data, at
}

// storedRecord is a record and where it lies.
type storedRecord struct {
	stream string
	shard  ShardID
	epoch  uint32
	number SequenceNumber
	data   []byte
}

// damageSource returns a closed database of several epochs, streams and shards, and
// its records in the order of their keys.
func damageSource(t *testing.T) (*vfs.MemFS, []storedRecord) {
	t.Helper()
	ctx := t.Context()
	random := rand.New(rand.NewPCG(7, 7))
	mem := vfs.NewCrashableMem()
	db := openDamaged(t, mem)
	var streams []*Stream
	for i, shards := range []int{1, 4, 3} {
		s, err := db.CreateStream(ctx, fmt.Sprintf("stream-%d", i), &StreamOptions{Shards: shards})
		require.NoError(t, err)
		streams = append(streams, s)
	}
	for n := range 750 {
		s := streams[random.IntN(len(streams))]
		entries := make([]Entry, 1+random.IntN(3))
		for i := range entries {
			entries[i] = Entry{PartitionKey: fmt.Sprint(random.IntN(100)), Data: randomBytes(random, 1+random.IntN(3000))}
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
			require.NoError(t, streams[2].Trim(ctx, AtTime(time.Now())))
		}
	}
	var want []storedRecord
	for _, s := range streams {
		for _, sh := range s.Shards() {
			_, extents := sh.view()
			records, told := readAround(t, sh, TrimHorizon())
			require.Empty(t, told)
			for _, r := range records {
				epoch := extents.From(r.SequenceNumber.counter())[0].Epoch
				want = append(want, storedRecord{s.Name(), sh.ID(), epoch, r.SequenceNumber, r.Data})
			}
		}
	}
	require.NoError(t, db.Close())
	slices.SortStableFunc(want, func(a, b storedRecord) int { return cmp.Compare(a.epoch, b.epoch) })
	require.Greater(t, want[len(want)-1].epoch, want[0].epoch+1)
	return mem, want
}

func judgeDamaged(t *testing.T, db *DB, want []storedRecord, what string) {
	t.Helper()
	ctx := t.Context()
	got := make(map[SequenceNumber][]byte)
	told := 0
	for _, s := range db.Streams() {
		for _, sh := range s.Shards() {
			records, damages := readAround(t, sh, TrimHorizon())
			told += len(damages)
			for _, r := range records {
				got[r.SequenceNumber] = r.Data
			}
		}
	}
	first, last, lost := -1, -1, 0
	highest := SequenceNumber{}
	for i, w := range want {
		if w.number.counter() > highest.counter() {
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

	// Writing goes on everywhere, and what is written is read.
	for _, s := range db.Streams() {
		for _, sh := range s.Shards() {
			if sh.Describe().Closed {
				continue
			}
			res, err := s.PutRecords(ctx, []Entry{{PartitionKey: "key", Data: []byte("new"), ExplicitHashKey: &sh.hashKeys.Start}})
			require.NoError(t, err, what)
			require.Greater(t, res[0].SequenceNumber.counter(), highest.counter(), what)
			highest = res[0].SequenceNumber
			page, err := sh.GetRecords(ctx, AtSequence(highest), nil)
			require.NoError(t, err, what)
			require.Equal(t, "new", string(page.Records[0].Data))
		}
		require.NoError(t, s.Trim(ctx, Latest()), what)
		for _, sh := range s.Shards() {
			records, damages := readAround(t, sh, TrimHorizon())
			require.Empty(t, records, what)
			require.Empty(t, damages, what)
		}
	}
	require.NoError(t, db.store.Err(), what)
	require.NoError(t, db.Close(), what)
}

// TestDamageKeepsNoSpaceElsewhere: an epoch that cannot be rewritten for damage holds
// up no other one, is not tried again, and goes when nothing in it lives.
func TestDamageKeepsNoSpaceElsewhere(t *testing.T) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(5, 5))
	mem := vfs.NewMem()
	db := openDamaged(t, mem)
	var dead []byte
	for i := range 900 {
		for _, name := range []string{"dead", "alive"} {
			s, err := db.OpenStream(ctx, name, nil)
			require.NoError(t, err)
			data := randomBytes(random, 2000)
			_, err = s.PutRecord(ctx, "key", data)
			require.NoError(t, err)
			if name == "dead" && i == 100 {
				dead = data
			}
		}
	}
	require.NoError(t, db.Close())
	flipRecord(t, mem, dead)

	db, err := open(damageDir, &damageOptions, environment{fs: mem, byHand: true})
	require.NoError(t, err)
	require.NoError(t, db.DeleteStream(ctx, "dead"))
	damaged := make(map[uint32]bool)
	reclaimer := &reclaimer{db: db, damaged: damaged}
	returnSpace := func() error { // looks at all epochs
		require.NoError(t, db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
			for _, id := range a.epochs.IDs() {
				a.loose[id] = struct{}{}
			}
			return nil, nil
		}))
		return reclaimer.returnSpace(ctx)
	}
	cutEpochs := func() (ids []uint32) {
		cuts, err := reclaimer.loadCuts()
		require.NoError(t, err)
		for _, c := range cuts {
			ids = append(ids, c.epoch)
		}
		return ids
	}
	require.ErrorIs(t, returnSpace(), kv.ErrCorrupt)
	require.Equal(t, map[uint32]bool{1: true}, damaged)
	require.Contains(t, cutEpochs(), uint32(1))
	require.NotContains(t, cutEpochs(), uint32(2), "its space is not returned")
	require.NoError(t, returnSpace(), "it was tried again")

	require.NoError(t, db.DeleteStream(ctx, "alive"))
	require.NoError(t, returnSpace())
	require.NotContains(t, cutEpochs(), uint32(1))
	require.NoError(t, db.Close())
}
