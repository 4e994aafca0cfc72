package modeltest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

// This file damages every file of databases in several states in every way. The open is
// refused with an error that names the damage, and has changed nothing; or all is there
// that was acknowledged, but for records of which their readers are told. Nothing is
// missing silently, and no empty database takes the place of a damaged one.

// files is the content of a directory in memory, by path.
type files map[string][]byte

// filesOf returns all files below the database's directory.
func filesOf(t *testing.T, mem *vfs.MemFS) files {
	t.Helper()
	all := make(files)
	var walk func(dir string)
	walk = func(dir string) {
		names, err := mem.List(dir)
		require.NoError(t, err)
		for _, name := range names {
			p := path.Join(dir, name)
			info, err := mem.Stat(p)
			if errors.Is(err, fs.ErrNotExist) { // removed since it was listed, by a database that is open
				continue
			}
			require.NoError(t, err)
			if info.IsDir() {
				walk(p)
				continue
			}
			f, err := mem.Open(p)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			require.NoError(t, err)
			all[p], err = io.ReadAll(f)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	}
	walk(damageDir)
	return all
}

// lay returns a disk with these files.
func (f files) lay(t *testing.T) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewMem()
	require.NoError(t, mem.MkdirAll(damageDir+"/store", 0o755))
	for p, data := range f {
		require.NoError(t, mem.MkdirAll(path.Dir(p), 0o755))
		file, err := mem.Create(p, vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = file.Write(bytes.Clone(data)) // which a file may change
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
	return mem
}

// with returns these files with one of them changed; nil removes it.
func (f files) with(p string, data []byte) files {
	changed := maps.Clone(f)
	if data == nil {
		delete(changed, p)
	} else {
		changed[p] = data
	}
	return changed
}

func (f files) paths() []string { return slices.Sorted(maps.Keys(f)) }

// damageState is a database whose files are to be damaged.
type damageState struct {
	files   files
	older   files // of the same database some time before
	options braid.Options
	records map[string]map[braid.SequenceNumber]string // that were acknowledged, and not trimmed; by stream
	keys    map[string]string
}

// damageBuilder builds one.
type damageBuilder struct {
	t      *testing.T
	random *rand.Rand
	mem    *vfs.MemFS
	db     *braid.DB
	damageState
}

func (b *damageBuilder) open() {
	b.t.Helper()
	var err error
	b.db, err = open(damageDir, &b.options, companion.Environment{FS: b.mem})
	require.NoError(b.t, err)
}

func (b *damageBuilder) put(stream string, shards, n, size int) {
	b.t.Helper()
	s, err := b.db.OpenStream(b.t.Context(), stream, &braid.StreamOptions{Shards: shards})
	require.NoError(b.t, err)
	if b.options.KeyProvider != nil {
		require.NoError(b.t, s.StartEncryption(b.t.Context(), "a"))
	}
	if b.records[stream] == nil {
		b.records[stream] = make(map[braid.SequenceNumber]string)
	}
	for range n {
		data := randomBytes(b.random, 1+b.random.IntN(2*size))
		res, err := s.PutRecord(b.t.Context(), fmt.Sprint(b.random.IntN(100)), data)
		require.NoError(b.t, err)
		b.records[stream][res.SequenceNumber] = string(data)
	}
}

func (b *damageBuilder) set(n int) {
	b.t.Helper()
	for range n {
		key, value := fmt.Sprintf("key-%d", b.random.IntN(50)), fmt.Sprint(b.random.Uint64())
		require.NoError(b.t, b.db.Update(b.t.Context(), func(tx *braid.Tx) error { return tx.Set([]byte(key), []byte(value)) }))
		b.keys[key] = value
	}
}

// remember takes the files for an older state.
func (b *damageBuilder) remember() {
	<-time.After(2 * time.Second) // the ledger is written
	synctest.Wait()
	b.older = filesOf(b.t, b.mem)
}

// kill ends the process a while after its last write, close in an orderly way.
func (b *damageBuilder) kill() {
	b.t.Helper()
	<-time.After(2 * time.Second)
	synctest.Wait()
	b.files = filesOf(b.t, b.mem)
	require.NoError(b.t, b.db.Close())
}

func (b *damageBuilder) close() {
	b.t.Helper()
	require.NoError(b.t, b.db.Close())
	b.files = filesOf(b.t, b.mem)
}

// damageStates are how the states come about.
var damageStates = map[string]func(b *damageBuilder){
	"young, killed": func(b *damageBuilder) {
		b.put("orders", 1, 60, 300)
		b.remember()
		b.put("orders", 1, 60, 300)
		b.kill()
	},
	"young, closed": func(b *damageBuilder) {
		b.put("orders", 2, 40, 300)
		b.set(20)
		b.remember()
		b.set(20)
		b.close()
	},
	"opened again, killed": func(b *damageBuilder) {
		b.put("orders", 1, 30, 300)
		require.NoError(b.t, b.db.Close())
		b.open()
		b.put("orders", 1, 30, 300)
		b.remember()
		b.put("orders", 1, 30, 300)
		b.kill()
	},
	"keys written last, killed": func(b *damageBuilder) {
		b.put("orders", 2, 500, 1500)
		b.set(30)
		b.remember()
		b.set(60)
		b.kill()
	},
	"many tables, closed": func(b *damageBuilder) {
		for range 3 {
			b.put("orders", 3, 200, 800)
			b.set(10)
			b.remember()
			require.NoError(b.t, b.db.Close())
			b.open()
		}
		b.close()
	},
	"split and trimmed, killed": func(b *damageBuilder) {
		b.put("orders", 1, 100, 500)
		b.put("bills", 1, 100, 500)
		s, err := b.db.Stream("orders")
		require.NoError(b.t, err)
		_, _, err = s.SplitShard(b.t.Context(), s.Shards()[0].ID(), nil)
		require.NoError(b.t, err)
		b.remember()
		bills, err := b.db.Stream("bills")
		require.NoError(b.t, err)
		require.NoError(b.t, bills.Trim(b.t.Context(), braid.Latest()))
		clear(b.records["bills"])
		b.put("orders", 1, 50, 500)
		b.put("bills", 1, 50, 500)
		b.kill()
	},
	"encrypted, killed": func(b *damageBuilder) {
		b.options.KeyProvider = twoKeys
		b.open()
		b.put("orders", 1, 60, 300)
		b.remember()
		b.put("orders", 1, 60, 300)
		b.kill()
	},
}

func buildDamageState(t *testing.T, name string) damageState {
	t.Helper()
	b := &damageBuilder{
		t: t, random: rand.New(rand.NewPCG(11, uint64(len(name)))), mem: vfs.NewMem(),
		damageState: damageState{options: damageOptions, records: make(map[string]map[braid.SequenceNumber]string), keys: make(map[string]string)},
	}
	b.options.Logger = slog.New(slog.DiscardHandler)
	if !strings.HasPrefix(name, "encrypted") {
		b.open()
	}
	damageStates[name](b)
	return b.damageState
}

// damageCase is one damage of one state.
type damageCase struct {
	what  string
	kind  string
	class string // the kind, and of which sort of file
	files files
}

// damages returns damages of every file. most bounds how many there are of a kind in a
// large file, and of a table, where each costs the engine long.
func (s *damageState) damages(random *rand.Rand, other files, most int) (cases []damageCase) {
	add := func(kind, p string, changed files, detail string, args ...any) {
		class := kind + " " + strings.TrimRight(path.Base(p), "0123456789.")
		if ext := path.Ext(p); ext == ".log" || ext == ".sst" {
			class = kind + " *" + ext
		} else if strings.HasPrefix(path.Base(p), "marker.") {
			class = kind + " " + strings.Split(path.Base(p), ".")[1] + " marker"
		}
		cases = append(cases, damageCase{kind + " " + p + fmt.Sprintf(" "+detail, args...), kind, class, changed})
	}
	for _, p := range s.files.paths() {
		data := s.files[p]
		n, flips := most, most
		if strings.HasSuffix(p, ".sst") {
			n, flips = max(1, most/8), max(1, most/16)
		}
		add("delete", p, s.files.with(p, nil), "")
		for _, at := range places(random, len(data), flips) {
			changed := bytes.Clone(data)
			changed[at] ^= 1 << random.IntN(8)
			add("flip", p, s.files.with(p, changed), "at %d of %d", at, len(data))
		}
		cuts := places(random, len(data), n)
		borders := recordBorders(p, data)
		for _, i := range places(random, len(borders), n) {
			cuts = append(cuts, borders[i])
		}
		for _, at := range cuts {
			add("cut", p, s.files.with(p, bytes.Clone(data[:at:at])), "to %d of %d", at, len(data))
		}
		for _, page := range places(random, (len(data)+4095)/4096, max(1, flips/2)) {
			changed := bytes.Clone(data)
			clear(changed[page*4096 : min(len(data), page*4096+4096)])
			add("zero", p, s.files.with(p, changed), "page %d", page)
		}
		if old, ok := s.older[p]; ok && !bytes.Equal(old, data) {
			add("older", p, s.files.with(p, old), "")
		}
		if foreign, ok := other[p]; ok {
			add("of another database", p, s.files.with(p, foreign), "")
		}
	}
	for _, prefix := range []string{"marker.manifest.", "marker.format"} { // a marker says all with its name
		was, is := s.older.named(prefix), s.files.named(prefix)
		if was != is && was != "" {
			add("older", is, s.files.with(is, nil).with(was, []byte{}), "replaced by %s", was)
			add("older", is, s.files.with(is, nil).with(was, []byte{}).with(manifestOf(was), s.older[manifestOf(was)]), "and its manifest")
		}
	}
	paths := s.files.paths()
	for i, p := range paths {
		for _, q := range paths[i+1:] {
			alike := path.Ext(p) == path.Ext(q)
			if bytes.Equal(s.files[p], s.files[q]) || random.IntN(40) >= most && random.IntN(2) > 0 || !alike && random.IntN(4) > 0 {
				continue
			}
			add("swap", p, s.files.with(p, s.files[q]).with(q, s.files[p]), "with %s", q)
		}
	}
	add("delete", "store", s.files.only(func(p string) bool { return !strings.Contains(p, "/store/") }), "")
	add("delete", "ledgers", s.files.only(func(p string) bool { return !strings.Contains(p, "/LEDGER.") }), "")
	add("delete", "all logs", s.files.only(func(p string) bool { return !strings.HasSuffix(p, ".log") }), "")
	add("delete", "all but the identity", s.files.only(func(p string) bool { return strings.HasSuffix(p, "/BRAID") }), "")
	return cases
}

// places returns up to most numbers below n, the first and the last among them.
func places(random *rand.Rand, n, most int) (at []int) {
	if n <= most {
		for i := range n {
			at = append(at, i)
		}
		return at
	}
	at = []int{0, n - 1}
	for len(at) < most {
		at = append(at, random.IntN(n))
	}
	return at
}

// recordBorders returns where records of a log or manifest end.
func recordBorders(p string, data []byte) (borders []int) {
	var number uint64
	if _, err := fmt.Sscanf(path.Base(p), "%d.log", &number); err != nil && !strings.Contains(p, "MANIFEST-") {
		return nil
	}
	r := newRecordReader(record.NewReader, bytes.NewReader(data), number)
	for {
		next, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, next)
		}
		if err != nil {
			return borders
		}
		borders = append(borders, int(r.Offset()))
	}
}

// newRecordReader is record.NewReader, of whose second argument the type has no name
// here.
func newRecordReader[N ~uint64](newReader func(io.Reader, N) *record.Reader, r io.Reader, number uint64) *record.Reader {
	return newReader(r, N(number))
}

func (f files) only(keep func(p string) bool) files {
	kept := maps.Clone(f)
	maps.DeleteFunc(kept, func(p string, _ []byte) bool { return !keep(p) })
	return kept
}

// named returns the path of the last file of the store whose name begins so.
func (f files) named(prefix string) (found string) {
	for p := range f {
		if strings.HasPrefix(path.Base(p), prefix) {
			found = max(found, p)
		}
	}
	return found
}

// manifestOf returns the path of the manifest that a marker names.
func manifestOf(marker string) string {
	return path.Join(path.Dir(marker), marker[strings.LastIndexByte(marker, '.')+1:])
}

// TestEveryFileDamaged: see above. In short runs it takes a sample.
func TestEveryFileDamaged(t *testing.T) {
	most := 40
	if testing.Short() {
		most = 4
	}
	for _, name := range slices.Sorted(maps.Keys(damageStates)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				state := buildDamageState(t, name)
				other := buildDamageState(t, name).files
				random := rand.New(rand.NewPCG(5, 5))
				outcomes := make(map[string]int)
				for _, c := range state.damages(random, other, most) {
					outcomes[c.kind+": "+state.judge(t, c)]++
				}
				for _, outcome := range slices.Sorted(maps.Keys(outcomes)) {
					t.Logf("%-40s %5d", outcome, outcomes[outcome])
				}
			})
		})
	}
}

// judge opens a damaged database, and returns what came of it.
func (s *damageState) judge(t *testing.T, c damageCase) string {
	t.Helper()
	mem := c.files.lay(t)
	db, err := open(damageDir, &s.options, companion.Environment{FS: mem})
	if err != nil {
		requireFileDamage(t, err, c.what)
		after := filesOf(t, mem)
		require.Equal(t, c.files.paths(), after.paths(), c.what)
		for p, data := range c.files {
			require.True(t, bytes.Equal(data, after[p]), "%s: the refused open has changed %s", c.what, p)
		}
		return "refused"
	}
	defer func() { _ = db.Close() }() // which damage may make fail
	told := s.judgeContent(t, db, c.what)
	if told > 0 {
		return "readers are told"
	}
	return "all is there"
}

// requireFileDamage checks that an error names a file, or the rows that are damaged.
func requireFileDamage(t *testing.T, err error, what string) {
	t.Helper()
	require.True(t, errors.Is(err, braid.ErrCorrupt) || errors.Is(err, braid.ErrDataLoss), "%s: %v", what, err)
	var damage *braid.FileDamageError
	if errors.As(err, &damage) {
		require.NotEmpty(t, damage.File, what)
		require.NotEmpty(t, damage.Lost, what)
		require.ErrorContains(t, err, damage.File)
	}
}

// judgeContent compares what is in a database with what was acknowledged. It returns how
// many errors it met.
func (s *damageState) judgeContent(t *testing.T, db *braid.DB, what string) (told int) {
	t.Helper()
	for name, want := range s.records {
		stream, err := db.Stream(name)
		require.NoError(t, err, what)
		got := make(map[braid.SequenceNumber]string)
		var gaps []*braid.CorruptError
		for _, sh := range stream.Shards() {
			records, damages := readAround(t, sh, braid.TrimHorizon())
			gaps = append(gaps, damages...)
			for _, r := range records {
				got[r.SequenceNumber] = string(r.Data)
			}
		}
		told += len(gaps)
		for number, data := range want {
			is, ok := got[number]
			if !ok {
				require.True(t, slices.ContainsFunc(gaps, func(gap *braid.CorruptError) bool {
					return counter(gap.FirstLost) <= counter(number) && counter(number) < counter(gap.FirstAvailable)
				}), "%s: record %s is missing, and nobody is told", what, number)
				continue
			}
			require.Equal(t, data, is, what)
			delete(got, number)
		}
		require.Empty(t, got, "%s: records that were never put", what)
	}
	for key, want := range s.keys {
		err := db.View(t.Context(), func(tx *braid.Tx) error {
			value, err := tx.Get([]byte(key))
			if err == nil {
				require.Equal(t, want, string(value), what)
			}
			return err
		})
		if err != nil {
			require.True(t, errors.Is(err, braid.ErrCorrupt) || errors.Is(err, braid.ErrDataLoss), "%s: key %s: %v", what, key, err)
			told++
		}
	}
	return told
}

// TestLossAccepted: what was refused is opened with AcceptLoss, or refused again. If it
// opens, then records are there, or their readers are told; nothing is there that was
// never put; the loss is listed; everything takes records, whose numbers are new; and
// all of that is so when it is opened once more.
func TestLossAccepted(t *testing.T) {
	most, rounds := 12, 400
	if testing.Short() {
		most, rounds = 2, 25
	}
	for _, name := range slices.Sorted(maps.Keys(damageStates)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				state := buildDamageState(t, name)
				random := rand.New(rand.NewPCG(6, 6))
				outcomes := make(map[string]int)
				cases := state.damages(random, buildDamageState(t, name).files, most)
				random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
				for _, c := range cases[:min(len(cases), rounds)] {
					outcomes[c.kind+": "+state.accept(t, c)]++
				}
				for _, outcome := range slices.Sorted(maps.Keys(outcomes)) {
					t.Logf("%-50s %5d", outcome, outcomes[outcome])
				}
			})
		})
	}
}

// accept opens a damaged database with what is left, and returns what came of it.
func (s *damageState) accept(t *testing.T, c damageCase) string {
	t.Helper()
	ctx := t.Context()
	mem := c.files.lay(t)
	if db, err := open(damageDir, &s.options, companion.Environment{FS: mem}); err == nil {
		require.Empty(t, db.Losses(), c.what)
		_ = db.Close()
		return "not refused"
	}
	options := s.options
	options.AcceptLoss = true
	db, err := open(damageDir, &options, companion.Environment{FS: mem})
	if err != nil {
		requireFileDamage(t, err, c.what)
		_, err := open(damageDir, &s.options, companion.Environment{FS: mem})
		require.Error(t, err, c.what)
		return "refused all the same"
	}
	defer func() { _ = db.Close() }() // of the last one, if something is wrong
	require.NotEmpty(t, db.Losses(), c.what)
	outcome := "accepted, with all there"
	if s.judgeRest(t, db, c.what) {
		outcome = "accepted, with a loss"
	}

	var highest uint64
	for _, records := range s.records {
		for number := range records {
			highest = max(highest, counter(number))
		}
	}
	put := make(map[string]braid.SequenceNumber)
	for _, stream := range db.Streams() {
		res, err := stream.PutRecord(ctx, "key", []byte("new"))
		require.NoError(t, err, c.what)
		require.Greater(t, counter(res.SequenceNumber), highest, "%s: a number that was given out before", c.what)
		put[stream.Name()] = res.SequenceNumber
	}
	losses := db.Losses()
	_ = db.Close()

	db, err = open(damageDir, &s.options, companion.Environment{FS: mem})
	require.NoError(t, err, c.what)
	require.Equal(t, losses, db.Losses(), c.what)
	for _, stream := range db.Streams() {
		found := false
		for _, sh := range stream.Shards() {
			records, _ := readAround(t, sh, braid.TrimHorizon())
			for _, r := range records {
				found = found || r.SequenceNumber == put[stream.Name()]
			}
		}
		require.True(t, found, "%s: what was put after the loss", c.what)
		require.NoError(t, stream.Trim(ctx, braid.Latest()), c.what)
		for _, sh := range stream.Shards() {
			_, damages := readAround(t, sh, braid.TrimHorizon())
			require.Empty(t, damages, c.what)
		}
	}
	_ = db.Close()
	return outcome
}

// judgeRest checks what is left of a database. It reports whether anything is missing.
func (s *damageState) judgeRest(t *testing.T, db *braid.DB, what string) (lost bool) {
	t.Helper()
	for name, want := range s.records {
		stream, err := db.Stream(name)
		if errors.Is(err, braid.ErrStreamNotFound) { // it came after what is left
			lost = true
			continue
		}
		require.NoError(t, err, what)
		got := make(map[braid.SequenceNumber]string)
		var gaps []*braid.CorruptError
		for _, sh := range stream.Shards() {
			records, damages := readAround(t, sh, braid.TrimHorizon())
			gaps = append(gaps, damages...)
			for _, r := range records {
				got[r.SequenceNumber] = string(r.Data)
			}
		}
		for number, data := range want {
			if is, ok := got[number]; ok {
				require.Equal(t, data, is, what)
				continue
			}
			lost = true
			require.True(t, slices.ContainsFunc(gaps, func(gap *braid.CorruptError) bool {
				return counter(gap.FirstLost) <= counter(number) && counter(number) < counter(gap.FirstAvailable)
			}), "%s: record %s is missing, and nobody is told: %v", what, number, gaps)
		}
	}
	for key, want := range s.keys {
		_ = db.View(t.Context(), func(tx *braid.Tx) error {
			value, err := tx.Get([]byte(key))
			lost = lost || err != nil || string(value) != want
			return err
		})
	}
	return lost
}

// TestCopyOfALiveDirectory: the files are copied one after the other while the database
// is written to. The copy is refused, or has all that was acknowledged before.
func TestCopyOfALiveDirectory(t *testing.T) {
	for round := range 10 {
		synctest.Test(t, func(t *testing.T) {
			b := &damageBuilder{
				t: t, random: rand.New(rand.NewPCG(13, uint64(round))), mem: vfs.NewMem(),
				damageState: damageState{options: damageOptions, records: make(map[string]map[braid.SequenceNumber]string), keys: make(map[string]string)},
			}
			b.options.Logger = slog.New(slog.DiscardHandler)
			b.open()
			defer func() { _ = b.db.Close() }()
			b.put("orders", 1, 200+100*round, 1500)
			b.remember()
			before := maps.Clone(b.records["orders"])
			copied := make(files)
			for p := range maps.Keys(filesOf(t, b.mem)) {
				if data, ok := filesOf(t, b.mem)[p]; ok {
					copied[p] = data
				}
				b.put("orders", 1, 60, 1500)
				if b.random.IntN(3) == 0 {
					<-time.After(2 * time.Second)
				}
			}
			db, err := open(damageDir, &b.options, companion.Environment{FS: copied.lay(t)})
			if err != nil {
				requireFileDamage(t, err, "a copy")
				return
			}
			defer func() { _ = db.Close() }()
			stream, err := db.Stream("orders")
			require.NoError(t, err)
			records, told := readAround(t, stream.Shards()[0], braid.TrimHorizon())
			require.Empty(t, told)
			for _, r := range records {
				delete(before, r.SequenceNumber)
			}
			require.Empty(t, before, "acknowledged before the copy began")
		})
	}
}
