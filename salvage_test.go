package braid

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/testdisk"
)

// These tests salvage databases in several states, with each of their files damaged in
// several ways, and compare the result with the undamaged database.

const salvageFrom, salvageTo = "/data/db", "/data/saved"

// salvageSource is a database that a test damages.
type salvageSource struct {
	mem   *vfs.MemFS
	truth contents
}

// contents are everything that the API shows of a database, and its leases.
type contents struct {
	streams map[string]string             // descriptions, by name
	shards  map[string]string             // descriptions, by stream and shard
	records map[string][]Record           // by stream and shard
	told    map[string][]*CorruptError    // the errors of reading, by stream and shard
	keys    map[string]string             // rows of application keys and leases
	by      map[SequenceNumber]salvagedID // all records
}

type salvagedID struct{ shard, key, data string }

func openSalvage(t *testing.T, mem vfs.FS, dir string) *DB {
	t.Helper()
	db, err := open(dir, &Options{TailBytes: -1, KeyProvider: blockKeys, MemtableBytes: minMemtableBytes}, environment{fs: mem, byHand: true})
	require.NoError(t, err)
	return db
}

// contentsOf reads everything.
func contentsOf(t *testing.T, db *DB) contents {
	t.Helper()
	c := contents{
		streams: make(map[string]string), shards: make(map[string]string), records: make(map[string][]Record),
		told: make(map[string][]*CorruptError), keys: make(map[string]string), by: make(map[SequenceNumber]salvagedID),
	}
	for _, s := range db.Streams() {
		text, err := json.Marshal(s.Describe())
		require.NoError(t, err)
		c.streams[s.Name()] = string(text)
		for _, sh := range s.Shards() {
			name := s.Name() + "/" + string(sh.ID())
			horizon, _ := sh.view()
			end := sh.closing.Load()
			c.shards[name] = fmt.Sprintf("%v %v %d %d %v %v %+v", sh.HashKeyRange(), sh.Parents(), sh.createdSeconds, sh.createdCounter, end != nil, sh.starting(), horizon)
			c.records[name], c.told[name] = readAround(t, sh, TrimHorizon())
			for _, r := range c.records[name] {
				c.by[r.SequenceNumber] = salvagedID{name, r.PartitionKey, string(r.Data)}
			}
		}
	}
	lower, _ := layout.LeaseSpan()
	_, upper := layout.LeaseSpan()
	add := func(key, value []byte) error { c.keys[string(key)] = string(value); return nil }
	require.NoError(t, scan(db.store, lower, upper, add))
	lower, upper = layout.AppSpan(nil, nil)
	require.NoError(t, scan(db.store, lower, upper, add))
	return c
}

// putSome puts records to all open shards, with some keys and leases.
func putSome(t *testing.T, db *DB, s *Stream, random *rand.Rand, records, size int) {
	t.Helper()
	for records > 0 {
		entries := make([]Entry, min(records, 1+random.IntN(6)))
		for i := range entries {
			entries[i] = Entry{PartitionKey: fmt.Sprintf("key-%d", random.IntN(1000)), Data: randomBytes(random, 1+random.IntN(size))}
		}
		_, err := s.PutRecords(t.Context(), entries)
		require.NoError(t, err)
		records -= len(entries)
	}
	require.NoError(t, db.Update(t.Context(), func(tx *Tx) error {
		for range 5 {
			if err := tx.Set(fmt.Appendf(nil, "app-%d", random.IntN(40)), randomBytes(random, 30)); err != nil {
				return err
			}
		}
		return tx.Delete(fmt.Appendf(nil, "app-%d", random.IntN(40)))
	}))
	putLease(t, db, random, s)
}

func putLease(t *testing.T, db *DB, random *rand.Rand, s *Stream) {
	t.Helper()
	shards := s.Shards()
	sh := shards[random.IntN(len(shards))]
	key := layout.LeaseKey("app", s.Name(), string(sh.ID()))
	row := layout.LeaseRow{Stream: s.createdCounter, Version: random.Uint64() >> 1, Epoch: 3, Owner: "worker", Checkpoint: layout.LeaseCheckpoint{Start: "TRIM_HORIZON", Number: sh.number(sh.log.LastCounter()).String()}}
	storeBlock(t, db, key, row.Encode(key))
}

// salvageStates build databases, and leave them closed, or as a kill leaves them.
var salvageStates = []struct {
	name  string
	build func(t *testing.T, mem *vfs.MemFS, random *rand.Rand) *DB
	kill  bool
}{
	{name: "young", build: func(t *testing.T, mem *vfs.MemFS, random *rand.Rand) *DB {
		db := openSalvage(t, mem, salvageFrom)
		s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2, Tags: map[string]string{"a": "b"}})
		require.NoError(t, err)
		putSome(t, db, s, random, 60, 2000)
		return db
	}},
	{name: "young and killed", kill: true, build: func(t *testing.T, mem *vfs.MemFS, random *rand.Rand) *DB {
		db := openSalvage(t, mem, salvageFrom)
		s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
		require.NoError(t, err)
		putSome(t, db, s, random, 60, 2000)
		return db
	}},
	{name: "many tables", build: manyTables},
	{name: "many tables and killed", kill: true, build: manyTables},
	{name: "reshards, trims and deletions", build: reshardsAndTrims},
	{name: "reshards, trims and deletions, killed", kill: true, build: reshardsAndTrims},
	{name: "encrypted", build: func(t *testing.T, mem *vfs.MemFS, random *rand.Rand) *DB {
		db := openSalvage(t, mem, salvageFrom)
		s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
		require.NoError(t, err)
		require.NoError(t, s.StartEncryption(t.Context(), "main"))
		for range 3 {
			putSome(t, db, s, random, 300, 2000)
			require.NoError(t, db.store.Flush())
		}
		return db
	}},
}

func manyTables(t *testing.T, mem *vfs.MemFS, random *rand.Rand) *DB {
	db := openSalvage(t, mem, salvageFrom)
	for round := range 3 {
		for _, name := range []string{"a", "b"} {
			s, err := db.OpenStream(t.Context(), name, &StreamOptions{Shards: 3})
			require.NoError(t, err)
			putSome(t, db, s, random, 400, 2500)
		}
		if round == 1 {
			require.NoError(t, db.Close())
			db = openSalvage(t, mem, salvageFrom)
		}
	}
	return db
}

func reshardsAndTrims(t *testing.T, mem *vfs.MemFS, random *rand.Rand) *DB {
	db := openSalvage(t, mem, salvageFrom)
	ctx := t.Context()
	s, err := db.CreateStream(ctx, "s", &StreamOptions{Shards: 2})
	require.NoError(t, err)
	gone, err := db.CreateStream(ctx, "gone", nil)
	require.NoError(t, err)
	putSome(t, db, gone, random, 300, 2000)
	putSome(t, db, s, random, 400, 2000)
	first := s.Shards()[0]
	_, _, err = s.SplitShard(ctx, first.ID(), nil)
	require.NoError(t, err)
	putSome(t, db, s, random, 400, 2000)
	records, _ := readAround(t, s.Shards()[1], TrimHorizon())
	require.NoError(t, s.Trim(ctx, AtSequence(records[len(records)/2].SequenceNumber)))
	require.NoError(t, db.DeleteStream(ctx, "gone"))
	require.NoError(t, (&reclaimer{db: db, damaged: make(map[uint32]bool)}).returnSpace(ctx))
	require.NoError(t, db.store.Flush())
	open := s.topology.Load().open
	_, err = s.MergeShards(ctx, open[0].ID(), open[1].ID())
	require.NoError(t, err)
	putSome(t, db, s, random, 300, 2000)
	gone, err = db.CreateStream(ctx, "gone", nil)
	require.NoError(t, err)
	putSome(t, db, gone, random, 10, 200)
	return db
}

func buildSalvage(t *testing.T, build func(*testing.T, *vfs.MemFS, *rand.Rand) *DB, kill bool) salvageSource {
	t.Helper()
	mem := vfs.NewCrashableMem()
	db := build(t, mem, rand.New(rand.NewPCG(7, 9)))
	src := salvageSource{truth: contentsOf(t, db)}
	if kill {
		src.mem = mem.CrashClone(vfs.CrashCloneCfg{})
	}
	require.NoError(t, db.Close())
	if !kill {
		src.mem = mem.CrashClone(vfs.CrashCloneCfg{})
	}
	for _, told := range src.truth.told {
		require.Empty(t, told)
	}
	return src
}

// TestSalvageOfAnUndamagedDatabase: nothing is lost, and the API shows the same contents.
func TestSalvageOfAnUndamagedDatabase(t *testing.T) {
	for _, state := range salvageStates {
		t.Run(state.name, func(t *testing.T) {
			src := buildSalvage(t, state.build, state.kill)
			files := filesOf(t, src.mem, salvageFrom)
			var done, total int64
			report, err := salvageDir(t.Context(), salvageFrom, salvageTo, &SalvageOptions{Progress: func(d, n int64) { done, total = d, n }}, environment{fs: src.mem})
			require.NoError(t, err)
			require.True(t, report.Whole(), "%+v", report)
			require.Equal(t, !state.kill, report.Closed)
			require.Equal(t, int64(len(src.truth.by)), report.Records)
			require.Equal(t, total, done)
			require.Equal(t, files, filesOf(t, src.mem, salvageFrom))

			db := openSalvage(t, src.mem, salvageTo)
			require.NoError(t, db.checkBooks(t.Context()))
			requireWhole(t, db)
			require.Equal(t, src.truth, contentsOf(t, db))
			for _, s := range db.Streams() {
				putSome(t, db, s, rand.New(rand.NewPCG(1, 1)), 20, 100)
			}
			requireWhole(t, db)
			require.NoError(t, db.Close())

			original := openSalvage(t, src.mem, salvageFrom)
			require.Equal(t, src.truth, contentsOf(t, original))
			require.NoError(t, original.Close())
		})
	}
}

// filesOf returns the contents of all files below a directory.
func filesOf(t *testing.T, mem *vfs.MemFS, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	names, err := mem.List(dir)
	require.NoError(t, err)
	for _, name := range names {
		path := mem.PathJoin(dir, name)
		info, err := mem.Stat(path)
		require.NoError(t, err)
		if info.IsDir() {
			files[path] = "directory"
			for below, content := range filesOf(t, mem, path) {
				files[below] = content
			}
			continue
		}
		content, err := mem.UnsafeGetFileDataBuffer(path)
		require.NoError(t, err)
		files[path] = string(content)
	}
	return files
}

// damages are the ways to damage a file. Each returns the rest of the file, nil if it is
// removed, and how many of its bytes may be lost.
var damages = []struct {
	name string
	do   func(content []byte, random *rand.Rand) (left []byte, lost int)
}{
	{"a bit is flipped", func(content []byte, random *rand.Rand) ([]byte, int) {
		if len(content) > 0 {
			content[random.IntN(len(content))] ^= 1 << random.IntN(8)
		}
		return content, 1
	}},
	{"a page is zero", func(content []byte, random *rand.Rand) ([]byte, int) {
		from := random.IntN(len(content)+1) &^ 4095
		clear(content[from:min(len(content), from+4096)])
		return content, 4096
	}},
	{"it is cut", func(content []byte, random *rand.Rand) ([]byte, int) {
		n := random.IntN(len(content) + 1)
		return content[:n], len(content) - n
	}},
	{"it is gone", func(content []byte, _ *rand.Rand) ([]byte, int) { return nil, len(content) }},
}

var salvageRounds = flag.Int("braid.salvage", 2, "how often each file is damaged in each way")

// TestSalvageOfADamagedDatabase: each file of each database is damaged in each way. All losses
// are in the report, and readers get errors for them. Nothing else is missing, nothing is
// changed, and nothing deleted comes back.
func TestSalvageOfADamagedDatabase(t *testing.T) {
	rounds := *salvageRounds
	if testing.Short() {
		rounds = 1
	}
	for _, state := range salvageStates {
		t.Run(state.name, func(t *testing.T) {
			src := buildSalvage(t, state.build, state.kill)
			random := rand.New(rand.NewPCG(uint64(len(state.name)), 3))
			for name, content := range filesOf(t, src.mem, salvageFrom) {
				if content == "directory" {
					continue
				}
				only := random.IntN(2 * len(damages)) // in short mode, one kind of damage for the large ones
				for i, damage := range damages {
					if testing.Short() && (len(src.truth.by) > 500 && i != only || i%2 != only%2) {
						continue
					}
					for range rounds {
						mem := src.mem.CrashClone(vfs.CrashCloneCfg{})
						left, lost := damage.do([]byte(content), random)
						if left == nil {
							require.NoError(t, mem.Remove(name))
						} else {
							writeMem(t, mem, name, left)
						}
						what := fmt.Sprintf("%s: %s", mem.PathBase(name), damage.name)
						if !salvageAndCompare(t, mem, src.truth, what, mem.PathBase(name), lost) {
							return
						}
						if left == nil || len(content) == 0 {
							break
						}
					}
				}
			}
		})
	}
}

func writeMem(t *testing.T, mem *vfs.MemFS, name string, content []byte) {
	t.Helper()
	f, err := mem.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(bytes.Clone(content))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

// salvageAndCompare salvages a database of which one file was damaged.
func salvageAndCompare(t *testing.T, mem *vfs.MemFS, truth contents, what, file string, lostBytes int) bool {
	t.Helper()
	files := filesOf(t, mem, salvageFrom)
	report, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: mem})
	require.NoError(t, err, what)
	require.Equal(t, files, filesOf(t, mem, salvageFrom), "%s: the source has changed", what)
	if data, _ := json.Marshal(report); testing.Verbose() && !report.Whole() {
		t.Logf("%s: %.2000s", what, data)
	}
	require.False(t, report.NewID, "%s: the ledger has the id, too", what)
	db := openSalvage(t, mem, salvageTo)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, db.checkBooks(t.Context()), what)
	got := contentsOf(t, db)

	for number, record := range got.by {
		want, was := truth.by[number]
		if !was && strings.HasSuffix(file, ".sst") && slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "outdated") }) {
			continue // the row with its trim is lost
		}
		if !was { // compared without require, since these are millions of comparisons
			t.Fatalf("%s: a record of %s came back, or was invented", what, record.shard)
		}
		if record.key != want.key || record.data != want.data {
			t.Fatalf("%s: %s of %s is not as it was put", what, number, record.shard)
		}
	}
	var missing, missingBytes int
	for number, record := range truth.by {
		if _, is := got.by[number]; is {
			continue
		}
		missing, missingBytes = missing+1, missingBytes+len(record.data)
		if !isTold(report, got, record.shard, number) && !isExcused(report, got, record.shard, number, file) {
			t.Fatalf("%s: %s of %s is missing, and nothing says so: %+v", what, number, record.shard, report)
		}
	}
	isRows := len(report.Notes) > 0
	if strings.HasSuffix(file, ".sst") && !isRows {
		require.LessOrEqual(t, missingBytes, lostBytes+3*(32<<10), "%s: more is missing than was damaged", what)
	}
	if !strings.HasSuffix(file, ".sst") && !strings.HasSuffix(file, ".log") {
		if file != "BRAID" || len(got.streams) != 1 || !strings.Contains(got.streams["s"], "main") {
			require.Zero(t, missing, "%s: %+v", what, report)
			require.Equal(t, truth.shards, got.shards, what)
			require.Equal(t, truth.streams, got.streams, what)
		}
		require.Equal(t, truth.keys, got.keys, what)
	}
	for name, told := range got.told {
		for _, e := range told {
			if report.NewID && strings.Contains(got.streams["s"], "main") {
				continue
			}
			require.True(t, slices.ContainsFunc(report.Lost, func(l LostRecords) bool {
				return l.Stream+"/"+string(l.Shard) == name && l.FirstAvailable == e.FirstAvailable && l.FirstLost.Compare(e.FirstAvailable) < 0
			}), "%s: readers of %s are told of what the report has not: %v, %+v", what, name, e, report.Lost)
		}
	}
	for key, value := range truth.keys {
		if got.keys[key] != value && (report.Closed || !strings.HasSuffix(file, ".log")) {
			require.NotEmpty(t, report.Damaged, "%s: the key %q has changed", what, key)
		}
	}
	for key := range got.keys {
		if _, was := truth.keys[key]; !was && (report.Closed || !strings.HasSuffix(file, ".log")) {
			require.NotEmpty(t, report.Damaged, "%s: the key %q came back", what, key)
		}
	}
	for _, s := range db.Streams() {
		res, err := s.PutRecord(t.Context(), "new", []byte("new"))
		require.NoError(t, err, what)
		for number := range truth.by {
			if res.SequenceNumber.counter() == number.counter() {
				t.Fatalf("%s: a record gets the counter of %s", what, number)
			}
			if number.ShardID() == res.ShardID && number.createdSeconds() == res.SequenceNumber.createdSeconds() && res.SequenceNumber.Compare(number) <= 0 {
				t.Fatalf("%s: a record gets %s, which is below %s", what, res.SequenceNumber, number)
			}
		}
	}
	return !t.Failed()
}

// isTold reports whether both the report and a reader's error cover a missing record.
func isTold(report *SalvageReport, got contents, shard string, number SequenceNumber) bool {
	return slices.ContainsFunc(report.Lost, func(l LostRecords) bool {
		return l.Stream+"/"+string(l.Shard) == shard && l.FirstLost.Compare(number) <= 0 && number.Compare(l.FirstAvailable) < 0
	}) && slices.ContainsFunc(got.told[shard], func(e *CorruptError) bool {
		return number.Compare(e.FirstAvailable) < 0
	})
}

// isExcused reports whether nothing is left by which Salvage could notice a missing record:
// the rows of its shard are lost, and the report says so; or it was among the last before a
// kill, and the log that had them is damaged.
func isExcused(report *SalvageReport, got contents, shard string, number SequenceNumber, file string) bool {
	if _, is := got.shards[shard]; !is {
		return len(report.Damaged) > 0 || !report.Closed
	}
	if report.NewID {
		return true
	}
	if report.Closed || !strings.HasSuffix(file, ".log") {
		return false
	}
	records := got.records[shard]
	return len(records) == 0 || records[len(records)-1].SequenceNumber.Compare(number) < 0
}

// TestReadersOfASalvagedDatabaseAreToldWhereverTheyBegin: a reader that begins right before
// lost records, or among them, gets the same error as one that begins at the horizon.
func TestReadersOfASalvagedDatabaseAreToldWhereverTheyBegin(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	records := src.truth.records["a/shardId-000000000001"]
	victim := records[len(records)/2]
	_, content, at, err := testdisk.Find(src.mem, salvageFrom+"/store", victim.Data)
	require.NoError(t, err)
	content[at] ^= 1
	report, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: src.mem})
	require.NoError(t, err)
	require.NotEmpty(t, report.Lost)
	var lost LostRecords
	for _, l := range report.Lost {
		if l.Stream == "a" && l.FirstLost.Compare(victim.SequenceNumber) <= 0 && victim.SequenceNumber.Compare(l.FirstAvailable) < 0 {
			lost = l
		}
	}
	require.True(t, lost.Exact)
	db := openSalvage(t, src.mem, salvageTo)
	s, err := db.Stream("a")
	require.NoError(t, err)
	sh := s.Shards()[1]
	n := 0
	for i, r := range records {
		in := lost.FirstLost.Compare(r.SequenceNumber) <= 0 && r.SequenceNumber.Compare(lost.FirstAvailable) < 0
		if in {
			n++
		}
		for _, from := range []Position{AtSequence(r.SequenceNumber), AfterSequence(r.SequenceNumber)} {
			page, err := sh.GetRecords(t.Context(), from, &GetRecordsOptions{Limit: 1})
			last := i+1 < len(records) && lost.FirstLost.Compare(records[i+1].SequenceNumber) <= 0 && from != AtSequence(r.SequenceNumber) && records[i+1].SequenceNumber.Compare(lost.FirstAvailable) < 0
			var corrupt *CorruptError
			if in && from == AtSequence(r.SequenceNumber) || last {
				require.ErrorAs(t, err, &corrupt)
				require.Equal(t, lost.FirstAvailable, corrupt.FirstAvailable)
				require.ErrorIs(t, err, ErrCorrupt)
			} else if err == nil && len(page.Records) > 0 {
				require.Contains(t, src.truth.by, page.Records[0].SequenceNumber)
			}
		}
	}
	require.Equal(t, int64(n), lost.Records)

	// The losses can be trimmed away, and salvaging again changes nothing.
	again, err := salvageDir(t.Context(), salvageTo, "/data/again", nil, environment{fs: crashedOf(t, src.mem, db)})
	require.NoError(t, err)
	require.Equal(t, report.Lost, again.Lost)
	require.NoError(t, sh.stream.Trim(t.Context(), AtSequence(lost.FirstAvailable)))
	got, told := readAround(t, sh, TrimHorizon())
	require.Empty(t, told)
	require.Equal(t, records[len(records)-len(got):], got)
	require.NoError(t, db.Close())
}

// crashedOf returns the disk as a kill would leave it.
func crashedOf(t *testing.T, mem *vfs.MemFS, db *DB) *vfs.MemFS {
	t.Helper()
	require.NoError(t, db.store.Flush())
	return mem.CrashClone(vfs.CrashCloneCfg{})
}

// requireWhole requires that nothing in the database is damaged.
func requireWhole(t *testing.T, db *DB) {
	t.Helper()
	_, err := db.Verify(t.Context(), &VerifyOptions{BytesPerSecond: -1})
	require.NoError(t, err)
}
