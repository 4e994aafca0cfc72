package kv_test

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// damagedRows is the number of rows of damagedBytes in the damaged table: about ten blocks.
const damagedRows, damagedBytes = 40, 1000

func damagedKey(i int) string { return fmt.Sprintf("d%03d", i) }

// withDamagedTable returns a disk with a closed store of two regions: rows "d…" in
// one table, whose name is returned, and the row "z" in another.
func withDamagedTable(t *testing.T) (d *testdisk.Disk, table string, cfg kv.Config) {
	t.Helper()
	d = testdisk.New()
	cfg = configOn(d)
	cfg.TableBlockBytes = 4 << 10
	cfg.TableBoundary = func(key []byte) []byte {
		if key == nil || string(key) >= "e" {
			return nil
		}
		return []byte("e")
	}
	s := open(t, cfg)
	for i := range damagedRows {
		mustPut(t, s, damagedKey(i), string(noise(uint64(i), damagedBytes)))
	}
	require.NoError(t, s.Flush())
	tables := tableNames(t, d)
	require.Len(t, tables, 1)
	mustPut(t, s, "z", "well")
	require.NoError(t, s.Flush())
	require.NoError(t, s.Close())
	return d, tables[0], cfg
}

// TestALookReadsNoBlockBefore: a seek to a key between two blocks of a table, as close to the
// first block as possible, reads only the second one.
func TestALookReadsNoBlockBefore(t *testing.T) {
	d := testdisk.New()
	cfg := configOn(d)
	s := open(t, cfg)
	first, between, second := "k\x00\x10", "k\x00\x11", "k\x00\x96"
	value := noise(1, 40_000) // a block of its own
	mustPut(t, s, first, string(value))
	mustPut(t, s, second, string(noise(2, 40_000)))
	require.NoError(t, s.Flush())
	require.NoError(t, s.Close())
	tables := tableNames(t, d)
	require.Len(t, tables, 1)
	data, err := d.Mem.UnsafeGetFileDataBuffer(tables[0])
	require.NoError(t, err)
	at := bytes.Index(data, value)
	require.Positive(t, at)
	unreadableAt(d, tables[0], int64(at+len(value)/2))

	s = open(t, cfg)
	it, err := s.NewIter([]byte("k"), []byte("l"))
	require.NoError(t, err)
	require.False(t, it.SeekGE([]byte(first)))
	require.ErrorIs(t, it.Error(), syscall.EIO)
	require.True(t, it.SeekGE([]byte(between)), "%v", it.Error())
	require.Equal(t, second, string(it.Key()))
	require.NoError(t, it.Close())
	require.NoError(t, s.Close())
}

// tableDamages are kinds of damage to a table of size bytes.
func tableDamages() map[string]func(d *testdisk.Disk, data []byte, name string) {
	flipAt := func(at func(size int) int) func(*testdisk.Disk, []byte, string) {
		return func(_ *testdisk.Disk, data []byte, _ string) { data[at(len(data))] ^= 0x10 }
	}
	unreadable := func(from int64) func(d *testdisk.Disk, data []byte, name string) {
		return func(d *testdisk.Disk, data []byte, name string) {
			d.Before(func(op testdisk.Op) error {
				if op.Path == name && op.Kind == errorfs.OpFileReadAt && op.Offset >= from {
					return syscall.EIO
				}
				return nil
			})
		}
	}
	damages := map[string]func(d *testdisk.Disk, data []byte, name string){
		"zeroed page":      func(_ *testdisk.Disk, data []byte, _ string) { clear(data[4096:8192]) },
		"every block":      func(_ *testdisk.Disk, data []byte, _ string) { clear(data[:len(data)-4096]) },
		"unreadable":       unreadable(0),
		"unreadable there": func(d *testdisk.Disk, data []byte, name string) { unreadableAt(d, name, 5000) },
		"last byte":        flipAt(func(size int) int { return size - 1 }),
		"first byte":       flipAt(func(int) int { return 0 }),

		"a byte of the first block":  flipAt(func(int) int { return 1000 }),
		"a byte of the second block": flipAt(func(size int) int { return size - 4000 }),
	}
	for _, back := range []int{20, 60, 100, 500, 900} {
		// Footer, index of meta blocks, properties, index.
		damages[fmt.Sprintf("%d bytes from the end", back)] = flipAt(func(size int) int { return size - back })
	}
	return damages
}

// unreadableAt makes reads of that byte of a file fail.
func unreadableAt(d *testdisk.Disk, name string, at int64) {
	d.Before(func(op testdisk.Op) error {
		if op.Path == name && op.Kind == errorfs.OpFileReadAt && op.Offset <= at && at < op.Offset+32<<10 {
			return syscall.EIO
		}
		return nil
	})
}

// TestDamageIsTheReadersAlone: for each kind of damage, one process opens a store more often
// than stores may be abandoned. A reader of damaged rows gets an error, or the rows as written;
// everything else goes on, and the store closes. Excising the range removes the damage.
func TestDamageIsTheReadersAlone(t *testing.T) {
	for name, damage := range tableDamages() {
		rounds := 1
		if name == "unreadable" || name == "last byte" { // the others take Pebble longer
			rounds = 11
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { damageIsTheReadersAlone(t, damage, rounds) })
		})
	}
}

func damageIsTheReadersAlone(t *testing.T, damage func(*testdisk.Disk, []byte, string), rounds int) {
	d, table, cfg := withDamagedTable(t)
	data, err := d.Mem.UnsafeGetFileDataBuffer(table)
	require.NoError(t, err)
	damage(d, data, table)
	for round := range rounds {
		s := open(t, cfg)
		snap, err := s.NewSnapshot()
		require.NoError(t, err)
		readDamaged(t, []kv.Reader{s, snap}[round%2])
		require.NoError(t, snap.Close(t.Context()))

		// Write outside the damaged range and into it, and let Pebble work on it.
		mustPut(t, s, "z", fmt.Sprint(round))
		mustPut(t, s, "e", fmt.Sprint(round))
		require.NoError(t, s.Flush())
		mustPut(t, s, damagedKey(damagedRows), fmt.Sprint(round))
		require.NoError(t, s.Flush())
		if err := s.Compact(t.Context(), []byte("d"), []byte("e")); err != nil {
			requireDamage(t, err)
		}
		require.NoError(t, s.Compact(t.Context(), []byte("e"), []byte("zz")))
		<-time.After(time.Minute)
		require.NoError(t, s.Err())
		requireValue(t, s, "z", fmt.Sprint(round))
		s.Metrics()
		if round == rounds-1 {
			require.NoError(t, s.Excise(t.Context(), []byte("d"), []byte("e")))
			require.Empty(t, pairs(t, s, []byte("d"), []byte("e")))
			require.NoError(t, s.Compact(t.Context(), []byte("a"), []byte("zz")))
		}
		begin := time.Now()
		require.NoError(t, s.Close())
		require.Less(t, time.Since(begin), time.Second)
	}
	s := open(t, cfg)
	last := rounds - 1
	require.Equal(t, []string{fmt.Sprintf("e=%d", last), fmt.Sprintf("z=%d", last)}, pairs(t, s, nil, nil))
	require.NoError(t, s.Close())
}

// readDamaged reads the rows in each way. A read that succeeds must return the right row.
func readDamaged(t *testing.T, r kv.Reader) {
	t.Helper()
	for i := 0; i < damagedRows; i += 9 {
		value, err := r.Get([]byte(damagedKey(i)))
		if err != nil {
			requireDamage(t, err)
			continue
		}
		require.Equal(t, noise(uint64(i), damagedBytes), value)
	}
	for _, step := range []struct {
		first func(*kv.Iter) bool
		next  func(*kv.Iter) bool
	}{
		{(*kv.Iter).First, (*kv.Iter).Next},
		{(*kv.Iter).Last, (*kv.Iter).Prev},
	} {
		it, err := r.NewIter([]byte("d"), []byte("d~"))
		if err != nil {
			requireDamage(t, err)
			continue
		}
		n := 0
		for ok := step.first(it); ok; ok = step.next(it) {
			var i int
			_, err := fmt.Sscanf(string(it.Key()), "d%d", &i)
			require.NoError(t, err)
			value := it.Value()
			if it.Error() == nil && i < damagedRows {
				require.Equal(t, noise(uint64(i), damagedBytes), value)
				n++
			}
		}
		if it.Error() == nil {
			require.Equal(t, damagedRows, n, "rows are missing without an error")
		} else {
			requireDamage(t, it.Error())
		}
		if err := it.Close(); err != nil {
			requireDamage(t, err)
		}
	}
	_, err := r.Get([]byte("z"))
	require.NoError(t, err)
}

// requireDamage checks that the error reports damage, or is the disk's own.
func requireDamage(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, kv.ErrCorrupt) && !errors.Is(err, kv.ErrDataLoss) && !errors.Is(err, syscall.EIO) {
		require.NoError(t, err)
	}
	require.NotErrorIs(t, err, kv.ErrFailed)
}

// TestLostTableRefusesTheOpen: Pebble compares its tables with its manifest before it opens,
// and changes nothing. This can be repeated: no store is abandoned.
func TestLostTableRefusesTheOpen(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, d *testdisk.Disk, table string){
		"missing": func(t *testing.T, d *testdisk.Disk, table string) { require.NoError(t, d.Mem.Remove(table)) },
		"cut": func(t *testing.T, d *testdisk.Disk, table string) {
			data, err := d.Mem.UnsafeGetFileDataBuffer(table)
			require.NoError(t, err)
			head := string(data[:len(data)/2])
			f, err := d.Mem.Create(table, "")
			require.NoError(t, err)
			_, err = f.Write([]byte(head))
			require.NoError(t, err)
			require.NoError(t, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, table, cfg := withDamagedTable(t)
			lose(t, d, table)
			before := tableNames(t, d)
			for range 12 {
				_, err := kv.Open(cfg)
				require.Error(t, err)
				requireDamage(t, err)
			}
			require.ElementsMatch(t, before, tableNames(t, d))
		})
	}
}

// TestCompactionsPauseAtDamage: the compaction of a damaged table of level 0 is retried about
// once a minute, and other tables are compacted meanwhile.
func TestCompactionsPauseAtDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, table, cfg := withDamagedTable(t)
		data, err := d.Mem.UnsafeGetFileDataBuffer(table)
		require.NoError(t, err)
		data[len(data)/2] ^= 1
		s := open(t, cfg)
		for i := range 64 { // level 0 is compacted before it has that many
			mustPut(t, s, damagedKey(damagedRows/2), fmt.Sprint(i))
			require.NoError(t, s.Flush())
		}
		<-time.After(time.Minute)
		before := s.Metrics().BackgroundErrors
		require.Positive(t, before, "no compaction met the damage")
		<-time.After(10 * time.Minute)
		require.LessOrEqual(t, s.Metrics().BackgroundErrors-before, int64(25))
		for i := range 64 {
			mustPut(t, s, "y", fmt.Sprint(i))
			require.NoError(t, s.Flush())
		}
		require.NoError(t, s.Err())
		requireValue(t, s, "y", "63")
		requireValue(t, s, damagedKey(damagedRows/2), "63")
		begin := time.Now()
		require.NoError(t, s.Close())
		require.Less(t, time.Since(begin), time.Second)
	})
}

// TestStoreThatFailedUnstuckCloses: no goroutine is parked, so nothing is abandoned.
func TestStoreThatFailedUnstuckCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		for i := range 12 {
			s := open(t, configOn(d))
			mustPut(t, s, "k", fmt.Sprint(i))
			snap, err := s.NewSnapshot() // Close has to close it
			require.NoError(t, err)
			requireValue(t, snap, "k", fmt.Sprint(i))
			kv.FailSoftly(s, syscall.EIO)
			require.ErrorIs(t, put(s, "k", "later", true), kv.ErrFailed)
			requireValue(t, s, "k", fmt.Sprint(i))
			err = s.Close()
			require.ErrorIs(t, err, kv.ErrFailed)
			require.ErrorIs(t, err, syscall.EIO)
		}
		s := open(t, configOn(d))
		requireValue(t, s, "k", "11")
		require.NoError(t, s.Close())
	})
}
