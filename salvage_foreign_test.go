package braid

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// These tests salvage databases with undamaged files that belong to another place or database.

// buildListed builds a database whose ledger lists everything that was written, and leaves it
// closed, or as a kill leaves it.
func buildListed(t *testing.T, build func(*testing.T, *vfs.MemFS, *rand.Rand) *DB, kill bool, seed uint64) salvageSource {
	t.Helper()
	mem := vfs.NewCrashableMem()
	db := build(t, mem, rand.New(rand.NewPCG(seed, 9)))
	src := salvageSource{truth: contentsOf(t, db)}
	<-time.After(2 * time.Second)
	synctest.Wait()
	if kill {
		src.mem = mem.CrashClone(vfs.CrashCloneCfg{})
	}
	require.NoError(t, db.Close())
	if !kill {
		src.mem = mem.CrashClone(vfs.CrashCloneCfg{})
	}
	return src
}

// kindOf returns the kind of a store's file, by its name; empty if files of that kind are not
// compared with the ledger.
func kindOf(name string) string {
	for _, kind := range []string{".sst", ".log"} {
		if strings.HasSuffix(name, kind) {
			return kind
		}
	}
	if strings.HasPrefix(path.Base(name), "MANIFEST-") {
		return "MANIFEST-"
	}
	return ""
}

// insteadOf returns the files of a database that can take the place of one: all files of its
// kind with other contents, in the order of their names. In short mode, it returns only the one
// of the same name, or the first after it.
func insteadOf(files map[string]string, name, content string) (all []string) {
	for _, other := range slices.Sorted(maps.Keys(files)) {
		if kindOf(other) == kindOf(name) && files[other] != content && files[other] != "" {
			all = append(all, other)
		}
	}
	if n := len(all); testing.Short() && n > 0 {
		next, _ := slices.BinarySearch(all, name)
		return []string{all[next%n]}
	}
	return all
}

// TestSalvageTellsForeignFiles: each log, table and manifest is replaced by others of its
// kind, of the same database, and of another one that has the same streams.
func TestSalvageTellsForeignFiles(t *testing.T) {
	for _, state := range salvageStates {
		t.Run(state.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := buildListed(t, state.build, state.kill, 7)
				other := buildListed(t, state.build, state.kill, 8)
				own, foreign := filesOf(t, src.mem, salvageFrom), filesOf(t, other.mem, salvageFrom)
				tried := 0
				for _, name := range slices.Sorted(maps.Keys(own)) {
					if kindOf(name) == "" {
						continue
					}
					for i, files := range []map[string]string{own, foreign} {
						for _, from := range insteadOf(files, name, own[name]) {
							mem := src.mem.CrashClone(vfs.CrashCloneCfg{})
							writeMem(t, mem, name, []byte(files[from]))
							what := fmt.Sprintf("%s is %s of %s", path.Base(name), path.Base(from), []string{"the same database", "another one"}[i])
							if !salvageAndCompare(t, mem, src.truth, what, path.Base(name), len(own[name])) {
								return
							}
							tried++
						}
					}
				}
				require.Positive(t, tried)
			})
		})
	}
}

// TestSalvageOfTablesThatChangedPlacesLosesNothing: each of the two is recognized by its end.
func TestSalvageOfTablesThatChangedPlacesLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := buildListed(t, manyTables, false, 7)
		tables := namesIn(t, src.mem, ".sst")
		files := filesOf(t, src.mem, salvageFrom)
		require.Greater(t, len(tables), 3)
		for i, name := range tables {
			next := tables[(i+1)%len(tables)]
			mem := src.mem.CrashClone(vfs.CrashCloneCfg{})
			writeMem(t, mem, name, []byte(files[next]))
			writeMem(t, mem, next, []byte(files[name]))
			report, got := salvageOn(t, mem)
			require.Equal(t, src.truth, got)
			require.Empty(t, report.Lost)
			require.Empty(t, report.LostKeys)
			var named []string
			for _, d := range report.Damaged {
				named = append(named, d.Name)
			}
			slices.Sort(named)
			want := []string{path.Base(name), path.Base(next)}
			slices.Sort(want)
			require.Equal(t, want, named)
		}
	})
}

// asChunkOf returns the first chunk of a log as the log with another number would have it.
func asChunkOf(content string, number uint32) []byte {
	length := int(binary.LittleEndian.Uint16([]byte(content[4:])))
	chunk := []byte(content[:19+length])
	binary.LittleEndian.PutUint32(chunk[7:], number)
	crc := crc32.Checksum(chunk[6:], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(chunk, (crc>>15|crc<<17)+0xa282ead8)
	return chunk
}

// TestSalvageReadsNoLogOfAnotherDatabase: such a log is reported as missing, whether it is
// shorter or longer than the right one, and whichever logs its file was before. Pebble reuses
// the files of logs, so the file of one log may hold chunks of others.
func TestSalvageReadsNoLogOfAnotherDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		build := func(records int) func(*testing.T, *vfs.MemFS, *rand.Rand) *DB {
			return func(t *testing.T, mem *vfs.MemFS, random *rand.Rand) *DB {
				db := openSalvage(t, mem, salvageFrom)
				s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
				require.NoError(t, err)
				require.NoError(t, db.store.Flush()) // so that the stream's row is in a table
				putSome(t, db, s, random, records, 2000)
				return db
			}
		}
		shapes := []struct {
			name string
			of   func(content string, number uint32) []byte
		}{
			{"as it is", func(content string, _ uint32) []byte { return []byte(content) }},
			{"begins as a later log", func(content string, number uint32) []byte {
				head := asChunkOf(content, number+7)
				return append(head, content[len(head):]...)
			}},
			{"begins as the end of a later log", func(content string, number uint32) []byte {
				return append(binary.LittleEndian.AppendUint32([]byte{0, 0, 0, 0, 0, 0, 5}, number+8), content[11:]...)
			}},
			{"ends after its first chunk, and was an earlier log", func(content string, number uint32) []byte {
				left := asChunkOf(content, number)
				old := asChunkOf(content, number-1)
				for len(left) < len(content) {
					left = append(left, old...)
				}
				return left
			}},
		}
		src := buildListed(t, build(60), true, 7)
		logs := namesIn(t, src.mem, ".log")
		log := logs[len(logs)-1]
		number, err := strconv.ParseUint(strings.TrimSuffix(path.Base(log), ".log"), 10, 32)
		require.NoError(t, err)
		for _, records := range []int{2, 30, 120} {
			other := buildListed(t, build(records), true, 8)
			content := filesOf(t, other.mem, salvageFrom)[log]
			require.NotEmpty(t, content)
			for _, shape := range shapes {
				mem := src.mem.CrashClone(vfs.CrashCloneCfg{})
				writeMem(t, mem, log, shape.of(content, uint32(number)))
				report, got := salvageOn(t, mem)
				require.Empty(t, got.by, shape.name)
				require.NotEmpty(t, got.streams)
				require.True(t, slices.ContainsFunc(report.Damaged, func(d DamagedFile) bool { return d.Name == path.Base(log) }), "%s: %+v", shape.name, report)
				for number, record := range src.truth.by {
					require.True(t, isTold(report, got, record.shard, number), "%s: %s: %+v", shape.name, number, report)
				}
			}
		}
	})
}

// TestSalvageWithoutALedgerSaysThatNothingWasCompared, and saves what it can.
func TestSalvageWithoutALedgerSaysThatNothingWasCompared(t *testing.T) {
	for _, ledger := range []string{"LEDGER", "TABLES"} {
		src := buildSalvage(t, salvageStates[0].build, false)
		for n := 1; n <= 2; n++ {
			writeMem(t, src.mem, fmt.Sprintf("%s/%s.%d", salvageFrom, ledger, n), []byte("damaged"))
		}
		report, got := salvageOn(t, src.mem)
		require.Equal(t, src.truth, got)
		require.Len(t, report.Damaged, 1)
		require.True(t, strings.HasPrefix(report.Damaged[0].Name, ledger))
		require.Len(t, report.Notes, 1)
		require.Contains(t, report.Notes[0], "another database")
	}
}

// TestSalvageTakesTheManifestOfTheLedger: with the earlier manifest that the marker names,
// all newer tables would look like obsolete ones.
func TestSalvageTakesTheManifestOfTheLedger(t *testing.T) {
	mem := vfs.NewCrashableMem()
	random := rand.New(rand.NewPCG(7, 9))
	db := openSalvage(t, mem, salvageFrom)
	s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
	require.NoError(t, err)
	putSome(t, db, s, random, 60, 2000)
	require.NoError(t, db.Close())
	old := make(map[string]string) // the manifest and its marker
	for name, content := range filesOf(t, mem, salvageFrom) {
		if base := path.Base(name); strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "marker.manifest.") {
			old[name] = content
		}
	}
	require.Len(t, old, 2)
	db = openSalvage(t, mem, salvageFrom)
	s, err = db.Stream("s")
	require.NoError(t, err)
	for range 3 { // so that the first tables are compacted, and keys are deleted
		putSome(t, db, s, random, 300, 2500)
		require.NoError(t, db.store.Flush())
	}
	truth := contentsOf(t, db)
	require.NoError(t, db.Close())
	intact := mem.CrashClone(vfs.CrashCloneCfg{})
	putBack := func() *vfs.MemFS {
		mem := intact.CrashClone(vfs.CrashCloneCfg{})
		for _, name := range namesIn(t, mem, "") {
			if strings.HasPrefix(path.Base(name), "marker.manifest.") {
				require.NoError(t, mem.Remove(name))
			}
		}
		for name, content := range old {
			writeMem(t, mem, name, []byte(content))
		}
		return mem
	}

	report, got := salvageOn(t, putBack())
	require.Equal(t, truth, got)
	require.Empty(t, report.Lost)
	require.Len(t, report.Damaged, 1)
	require.Equal(t, "marker.manifest", report.Damaged[0].Name)

	// Without the newer manifest it is unknown which tables are obsolete, so all are read.
	mem = putBack()
	for _, name := range namesIn(t, mem, "") {
		if _, is := old[name]; !is && strings.HasPrefix(path.Base(name), "MANIFEST-") {
			require.NoError(t, mem.Remove(name))
		}
	}
	report, got = salvageOn(t, mem)
	require.Equal(t, truth.by, got.by)
	require.NotEmpty(t, report.Notes)
	require.Len(t, report.Damaged, 2)
}

// TestSalvageTellsForeignTablesThatNoLedgerListsBySize: of tables written right before a kill,
// the manifest has the sizes.
func TestSalvageTellsForeignTablesThatNoLedgerListsBySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no time passes in the bubble, so no ledger is written
		build := func(t *testing.T, mem *vfs.MemFS, random *rand.Rand) *DB {
			db := openSalvage(t, mem, salvageFrom)
			s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
			require.NoError(t, err)
			for range 3 {
				putSome(t, db, s, random, 200, 2000)
				require.NoError(t, db.store.Flush())
			}
			return db
		}
		src := buildSalvage(t, build, true)
		time.Sleep(time.Millisecond) // so that the numbers differ
		mem := vfs.NewCrashableMem()
		db := build(t, mem, rand.New(rand.NewPCG(8, 9)))
		require.NoError(t, db.Close())
		own, foreign := filesOf(t, src.mem, salvageFrom), filesOf(t, mem, salvageFrom)
		tried := 0
		for _, name := range namesIn(t, src.mem, ".sst") {
			for _, from := range insteadOf(foreign, name, own[name]) {
				if len(foreign[from]) == len(own[name]) {
					continue
				}
				mem := src.mem.CrashClone(vfs.CrashCloneCfg{})
				writeMem(t, mem, name, []byte(foreign[from]))
				if !salvageAndCompare(t, mem, src.truth, path.Base(name)+" is "+path.Base(from), path.Base(name), len(own[name])) {
					return
				}
				tried++
			}
		}
		require.Positive(t, tried)
	})
}
