package braid

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

// These tests salvage on disks that fail, at the source or at the target, and from logs that
// are missing or wrong.

// salvageOn salvages, and returns the report and the contents of the new database.
func salvageOn(t *testing.T, files vfs.FS) (*SalvageReport, contents) {
	t.Helper()
	report, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: files})
	require.NoError(t, err)
	db := openSalvage(t, files, salvageTo)
	require.NoError(t, db.checkBooks(t.Context()))
	got := contentsOf(t, db)
	require.NoError(t, db.Close())
	return report, got
}

// namesIn returns the names of the source's files with an ending, in order.
func namesIn(t *testing.T, mem *vfs.MemFS, ending string) (names []string) {
	t.Helper()
	all, err := mem.List(salvageFrom + "/store")
	require.NoError(t, err)
	slices.Sort(all)
	for _, name := range all {
		if strings.HasSuffix(name, ending) {
			names = append(names, salvageFrom+"/store/"+name)
		}
	}
	return names
}

// TestSalvageOfALogWithABadSectorLosesNothingBehindIt: only that sector's commits are lost.
func TestSalvageOfALogWithABadSectorLosesNothingBehindIt(t *testing.T) {
	src := buildSalvage(t, salvageStates[1].build, true) // all of it is in a log
	logs := namesIn(t, src.mem, ".log")
	name := logs[len(logs)-1]
	const bad = 40 << 10
	disk := testdisk.On(src.mem)
	failed := disk.FailAlways(func(op testdisk.Op) bool { // fails reads of the sector: pages of 4 KiB, and all larger reads
		return op.Kind == errorfs.OpFileReadAt && op.Path == name && (op.Offset == bad || op.Offset == bad&^(32<<10-1))
	}, syscall.EIO)
	report, got := salvageOn(t, disk)
	require.Positive(t, failed.Load())
	require.NotEmpty(t, report.Damaged)
	require.Contains(t, report.Damaged[0].Problem, "input/output error")
	require.Less(t, len(src.truth.by)-len(got.by), 20, "of %d", len(src.truth.by))
	require.NotEmpty(t, report.Lost)
	require.Equal(t, []LostKeys{{}}, report.LostKeys)
	require.NotEmpty(t, report.Notes)
}

// TestSalvageDoesNotTakeAShortageForDamage: an id that could not be read for lack of file
// descriptors is not lost.
func TestSalvageDoesNotTakeAShortageForDamage(t *testing.T) {
	src := buildSalvage(t, salvageStates[0].build, false)
	disk := testdisk.On(src.mem)
	for _, name := range []string{"BRAID", "MANIFEST-", ".sst"} {
		failed := disk.FailAlways(func(op testdisk.Op) bool {
			return op.Kind == errorfs.OpOpen && strings.HasPrefix(op.Path, salvageFrom) && strings.Contains(op.Path, name)
		}, syscall.EMFILE)
		_, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: disk})
		require.ErrorIs(t, err, ErrOutOfResources, name)
		require.Positive(t, failed.Load())
	}
}

// TestSalvageWithoutTheNewestLogIsNotOfAClosedDatabase: the mark of a clean close is an
// earlier run's, so the records put after it are reported as lost.
func TestSalvageWithoutTheNewestLogIsNotOfAClosedDatabase(t *testing.T) {
	mem := vfs.NewCrashableMem()
	random := rand.New(rand.NewPCG(7, 9))
	db := salvageStates[0].build(t, mem, random)
	require.NoError(t, db.Close())
	db = openSalvage(t, mem, salvageFrom)
	s, err := db.Stream("s")
	require.NoError(t, err)
	putSome(t, db, s, random, 20, 100)
	truth := contentsOf(t, db)
	src := mem.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, db.Close())
	logs := namesIn(t, src, ".log")
	name := logs[len(logs)-1]

	cut := src.CrashClone(vfs.CrashCloneCfg{})
	writeMem(t, cut, name, nil)
	report, _ := salvageOn(t, cut)
	require.False(t, report.Closed)

	require.NoError(t, src.Remove(name))
	report, got := salvageOn(t, src)
	require.False(t, report.Closed)
	require.NotEmpty(t, report.Damaged)
	require.Equal(t, []LostKeys{{}}, report.LostKeys)
	for number, record := range truth.by {
		if _, is := got.by[number]; !is {
			require.True(t, isTold(report, got, record.shard, number), "%s", number)
		}
	}
	require.False(t, report.Lost[0].Exact)
	again, err := salvageDir(t.Context(), salvageTo, "/data/again", nil, environment{fs: src})
	require.NoError(t, err)
	require.Equal(t, report.Lost, again.Lost, "what was not known then is not known now")
	saved := openSalvage(t, src, salvageTo)
	s, err = saved.Stream("s")
	require.NoError(t, err)
	res, err := s.PutRecord(t.Context(), "key", nil)
	require.NoError(t, err)
	for number := range truth.by {
		require.Less(t, number.counter(), res.SequenceNumber.counter())
	}
	require.NoError(t, saved.Close())
}

// TestSalvageWithoutTheManifestSaysThatKeysMayBeOld: which tables are current is unknown.
func TestSalvageWithoutTheManifestSaysThatKeysMayBeOld(t *testing.T) {
	src := buildSalvage(t, salvageStates[0].build, false)
	for _, name := range namesIn(t, src.mem, "") {
		if strings.Contains(name, "/MANIFEST-") {
			require.NoError(t, src.mem.Remove(name))
		}
	}
	report, got := salvageOn(t, src.mem)
	require.Equal(t, src.truth.records, got.records)
	require.Equal(t, []LostKeys{{}}, report.LostKeys)
	require.NotEmpty(t, report.Notes)
}

// TestSalvageToAFullDisk: a salvage returns and leaves nothing, whether the disk is full at
// the first table or only at the last flush.
func TestSalvageToAFullDisk(t *testing.T) {
	for _, state := range []int{0, 2} {
		src := buildSalvage(t, salvageStates[state].build, false)
		disk := testdisk.On(src.mem)
		full := disk.FailAlways(func(op testdisk.Op) bool {
			return op.TakesSpace() && op.OnTable() && strings.HasPrefix(op.Path, salvageTo)
		}, syscall.ENOSPC)
		_, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: disk})
		require.ErrorIs(t, err, ErrDiskFull)
		require.Positive(t, full.Load())
		disk.Before(nil)
	}
}

// TestASalvageThatWasGivenUpMakesNoDatabase, even if the disk held it until its caller had
// returned.
func TestASalvageThatWasGivenUpMakesNoDatabase(t *testing.T) {
	src := buildSalvage(t, salvageStates[0].build, false)
	disk := testdisk.On(src.mem)
	release := disk.Hold(func(op testdisk.Op) bool {
		return op.Kind == errorfs.OpRename && op.Path == salvageTo+"/salvage/new/store"
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-disk.Held(); cancel() }()
	_, err := salvageDir(ctx, salvageFrom, salvageTo, nil, environment{fs: disk})
	require.ErrorIs(t, err, context.Canceled)
	removed := make(chan struct{})
	disk.Before(func(op testdisk.Op) error {
		if op.Kind == errorfs.OpRemoveAll && op.Path == salvageTo+"/store" { // the last removal
			close(removed)
		}
		return nil
	})
	release()
	<-removed
	_, err = src.mem.Stat(salvageTo + "/BRAID")
	require.Error(t, err)
}

// TestSalvageInADirectoryThatIsNotDurable: the salvage makes the directory durable.
func TestSalvageInADirectoryThatIsNotDurable(t *testing.T) {
	src := buildSalvage(t, salvageStates[0].build, false)
	require.NoError(t, src.mem.MkdirAll(salvageTo, 0o755))
	_, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: src.mem})
	require.NoError(t, err)
	mem := src.mem.CrashClone(vfs.CrashCloneCfg{})
	db := openSalvage(t, mem, salvageTo)
	require.Equal(t, src.truth, contentsOf(t, db))
	require.NoError(t, db.Close())

	// The new database can be salvaged itself, even if nobody has opened it.
	report, err := salvageDir(t.Context(), salvageTo, "/data/again", nil, environment{fs: src.mem})
	require.NoError(t, err)
	require.True(t, report.Whole(), "%+v", report)
	require.True(t, report.Closed)
}
