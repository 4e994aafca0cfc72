package braid

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

// cutShort are the places at which a copy to salvageTo fails and then removes what it has
// written.
var cutShort = map[string]func(last, op testdisk.Op) bool{
	"": func(_, _ testdisk.Op) bool { return false },
	"at the store": func(_, op testdisk.Op) bool {
		return op.Kind == errorfs.OpRename && op.Path == salvageTo+"/salvage/new/store" || op.OnTable() && path.Dir(op.Path) == salvageTo+"/store"
	},
	"at the rename": func(_, op testdisk.Op) bool {
		return op.Kind == errorfs.OpRename && op.Path == salvageTo+"/BRAID.new"
	},
	"at the mark": func(_, op testdisk.Op) bool {
		return op.Kind == errorfs.OpRemoveAll && op.Path == salvageTo+"/UNFINISHED"
	},
	"behind the mark": func(last, op testdisk.Op) bool {
		return op.Syncs() && last.Kind == errorfs.OpRemoveAll && last.Path == salvageTo+"/UNFINISHED"
	},
}

// copyImages are the states that a power loss, or a kill, may leave at each step of a copy.
type copyImages struct {
	mu     sync.Mutex // guards the fields below: stores write in the background
	random *rand.Rand
	all    []copyImage
	last   testdisk.Op // the previous operation
	failed bool
}

type copyImage struct {
	*vfs.MemFS
	before string
}

// watch takes images before each change of a file of the copy, and makes one operation fail.
func (c *copyImages) watch(disk *testdisk.Disk, fails func(last, op testdisk.Op) bool) {
	disk.Before(func(op testdisk.Op) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !strings.HasPrefix(op.Path, salvageTo) || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		c.take(disk, fmt.Sprintf("%v %s", op.Kind, op.Path))
		last := c.last
		c.last = op
		if !c.failed && fails(last, op) {
			c.failed = true
			return syscall.EIO
		}
		return nil
	})
}

func (c *copyImages) take(disk *testdisk.Disk, before string) {
	for _, percent := range []int{0, 20 + c.random.IntN(60), 100} {
		image := disk.Mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.random})
		c.all = append(c.all, copyImage{image, fmt.Sprintf("%s, %d %%", before, percent)})
	}
	killed := vfs.NewMem() // removals count, synced or not
	if _, err := vfs.Clone(disk.Mem, killed, "/data", "/data"); err != nil {
		panic(err) // both are in memory, and a file that was just removed is no error
	}
	c.all = append(c.all, copyImage{killed, before + ", killed"})
}

// TestCrashesOfABackup crashes the machine at each step of a backup, whole or cut short.
func TestCrashesOfABackup(t *testing.T) {
	for where, fails := range cutShort {
		for _, verify := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, verify %v", where, verify), func(t *testing.T) {
				testCopyCrashes(t, fails, where != "", func(disk *testdisk.Disk) error {
					db := openSalvage(t, disk, salvageFrom)
					defer func() { require.NoError(t, db.Close()) }()
					return db.Backup(t.Context(), salvageTo, &BackupOptions{Verify: verify})
				})
			})
		}
	}
}

// TestCrashesOfASalvage crashes the machine at each step of a salvage, whole or cut short.
func TestCrashesOfASalvage(t *testing.T) {
	for where, fails := range cutShort {
		t.Run(where, func(t *testing.T) {
			testCopyCrashes(t, fails, where != "", func(disk *testdisk.Disk) error {
				_, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: disk})
				return err
			})
		})
	}
}

func testCopyCrashes(t *testing.T, fails func(last, op testdisk.Op) bool, cut bool, run func(disk *testdisk.Disk) error) {
	src := buildSalvage(t, salvageStates[0].build, false)
	disk := testdisk.On(src.mem)
	images := &copyImages{random: rand.New(rand.NewPCG(4, 5))}
	images.watch(disk, fails)
	err := run(disk)
	disk.Before(nil)
	images.take(disk, "the end")
	if cut {
		require.ErrorIs(t, err, syscall.EIO)
	} else {
		require.NoError(t, err)
	}
	require.Greater(t, len(images.all), 40)

	last := images.all[len(images.all)-4] // an image of what is durable
	require.Equal(t, !cut, fileIsThere(last, salvageTo+"/BRAID"))
	require.False(t, fileIsThere(last, salvageTo+"/UNFINISHED"))
	seen := make(map[string]int)
	for n, image := range images.all {
		seen[requireTold(t, image, src.truth, n%7 == 0)]++
	}
	require.NotZero(t, seen["nothing"])
	require.NotZero(t, seen["unfinished"])
	if !cut {
		require.NotZero(t, seen["whole"])
	}
	t.Logf("%v", seen)
}

// requireTold requires that the directory of a copy is empty, or a complete database, or that
// every call refuses it as an unfinished copy. thorough also salvages it.
func requireTold(t *testing.T, image copyImage, truth contents, thorough bool) string {
	t.Helper()
	names, err := image.List(salvageTo)
	if err != nil || len(names) == 0 {
		return "nothing"
	}
	if fileIsThere(image, salvageTo+"/BRAID") {
		db := openSalvage(t, image, salvageTo)
		if thorough {
			require.Equal(t, truth, contentsOf(t, db), "before %s", image.before)
		}
		require.NoError(t, db.Close())
		require.False(t, fileIsThere(image, salvageTo+"/UNFINISHED"))
		return "whole"
	}
	before := treeOf(t, image, salvageTo)
	refused := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, ErrInvalidArgument, "before %s", image.before)
		require.ErrorContains(t, err, "unfinished backup or salvage", "before %s", image.before)
		require.Equal(t, before, treeOf(t, image, salvageTo), "before %s", image.before)
	}
	for _, options := range []*Options{nil, {ReadOnly: true}, {AcceptLoss: true}} {
		_, err := open(salvageTo, options, environment{fs: image, byHand: true})
		refused(err)
	}
	if !thorough {
		return "unfinished"
	}
	_, err = salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: image})
	refused(err)
	db := openSalvage(t, image, salvageFrom)
	for _, verify := range []bool{false, true} {
		refused(db.Backup(t.Context(), salvageTo, &BackupOptions{Verify: verify}))
	}
	require.NoError(t, db.Close())

	// The unfinished copy can be salvaged, and the report does not call it complete.
	report, err := salvageDir(t.Context(), salvageTo, "/data/again", nil, environment{fs: image})
	if err != nil {
		require.ErrorContains(t, err, "unfinished backup or salvage", "before %s", image.before)
	} else {
		require.False(t, report.Whole())
		require.Contains(t, report.Damaged[0].Problem, "unfinished backup or salvage")
	}
	return "unfinished"
}

func fileIsThere(files vfs.FS, name string) bool {
	_, err := files.Stat(name)
	return err == nil
}

// treeOf returns the files below a directory, with their lengths.
func treeOf(t *testing.T, files vfs.FS, dir string) (all []string) {
	t.Helper()
	names, err := files.List(dir)
	require.NoError(t, err)
	slices.Sort(names)
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := files.Stat(name)
		require.NoError(t, err)
		if info.IsDir() {
			all = append(all, treeOf(t, files, name)...)
		}
		all = append(all, fmt.Sprintf("%s %d", name, info.Size()))
	}
	return all
}
