package kv_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

func crashWithAll() vfs.CrashCloneCfg {
	return vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}
}

// crashes makes an image of the disk before each operation that changes it.
type crashes struct {
	mu     sync.Mutex // guards the fields below: Pebble removes files in the background
	rng    *rand.Rand
	images []image
}

// image is a state of the disk that a crash may leave.
type image struct {
	*vfs.MemFS
	before string // the operation before which the crash came
}

// watchCrashes starts to take images: with none, a part, and all of the bytes that are not
// durable.
func watchCrashes(d *testdisk.Disk, seed uint64) *crashes {
	c := &crashes{rng: rand.New(rand.NewPCG(seed, 0))}
	d.Before(func(op testdisk.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, percent := range []int{0, 20 + c.rng.IntN(60), 100} {
				clone := d.Mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.rng})
				c.images = append(c.images, image{clone, fmt.Sprintf("%v %s, %d %%", op.Kind, op.Path, percent)})
			}
		}
		return nil
	})
	return c
}

// creatable is a database with rows, in a directory that does not exist.
func creatable(files kv.FS) kv.Config {
	cfg := configOn(files)
	cfg.Init = func(b *kv.Batch) error {
		for i := range 10 {
			b.Set(fmt.Appendf(nil, "row %d", i), noise(uint64(i), 3000))
		}
		return nil
	}
	return cfg
}

// requireWhole opens the image of a crash, and checks that it is a usable database with all its
// first rows.
func requireWhole(t *testing.T, i image) (created bool) {
	t.Helper()
	s, err := kv.Open(creatable(i.MemFS))
	require.NoError(t, err, "before %s", i.before)
	require.True(t, s.Identity().Ready)
	require.Len(t, pairs(t, s, []byte("row"), []byte("rox")), 10, "before %s", i.before)
	mustPut(t, s, "a", "1")
	require.NoError(t, s.Close())
	return s.Created()
}

// TestCreationSurvivesCrashes crashes the machine before every change of a file while a
// database is created, and then while the image is opened.
func TestCreationSurvivesCrashes(t *testing.T) {
	const seed = 7
	d := testdisk.New()
	c := watchCrashes(d, seed)
	s := open(t, creatable(d))
	require.NoError(t, s.Close())
	d.Before(nil)
	require.Greater(t, len(c.images), 60)
	c.images = append(c.images, image{d.Mem.CrashClone(vfs.CrashCloneCfg{}), "after the close"})

	require.False(t, requireWhole(t, c.images[len(c.images)-1]), "what Open has returned is durable")
	again, second := 0, 0
	for n, i := range c.images {
		if n%20 == 0 { // crash again, while this one is opened
			d := testdisk.On(i.CrashClone(vfs.CrashCloneCfg{}))
			more := watchCrashes(d, seed+uint64(n))
			s := open(t, creatable(d))
			d.Before(nil)
			require.NoError(t, s.Close())
			for m := n % 9; m < len(more.images); m += 9 {
				requireWhole(t, more.images[m])
				second++
			}
		}
		if requireWhole(t, i) {
			again++
		}
	}
	require.Greater(t, again, 10, "some were created again")
	require.Greater(t, len(c.images)-again, 5, "some were ready")
	t.Logf("%d images, %d of them created again; %d images of a second crash", len(c.images), again, second)
}

// TestDirectoryOfSomebodyElseIsDurable creates a database in a directory that another program
// made without making it durable.
func TestDirectoryOfSomebodyElseIsDurable(t *testing.T) {
	d := testdisk.New()
	require.NoError(t, d.MkdirAll("/data", 0o755))
	root, err := d.OpenDir("/")
	require.NoError(t, err)
	require.NoError(t, root.Sync())
	require.NoError(t, root.Close())
	require.NoError(t, d.MkdirAll(memDir, 0o755))
	s := open(t, configOn(d))
	mustPut(t, s, "a", "1")
	image := d.Mem.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, s.Close())
	s = open(t, configOn(image))
	require.False(t, s.Created())
	requireValue(t, s, "a", "1")
	require.NoError(t, s.Close())
}

// TestReadyStaysReady: the creation is interrupted between the rename of the identity and the
// sync that makes it durable. The next open finds a ready database. Everything that it
// acknowledges must survive a power cut, which must not bring the older identity back.
func TestReadyStaysReady(t *testing.T) {
	childtest.Run(t, func(t *testing.T) {
		d := testdisk.New()
		renamed := 0
		d.Before(func(op testdisk.Op) error {
			if op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, "BRAID.new") {
				renamed++
			}
			if renamed == 2 && op.Kind == errorfs.OpFileSync && op.Path == memDir {
				return syscall.EIO
			}
			return nil
		})
		_, err := kv.Open(configOn(d))
		require.ErrorIs(t, err, syscall.EIO)
		d.Before(nil)

		s := open(t, configOn(d))
		require.False(t, s.Created())
		mustPut(t, s, "a", "1")
		image := d.Mem.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, s.Close())
		s = open(t, configOn(image))
		require.False(t, s.Created())
		requireValue(t, s, "a", "1")
		require.NoError(t, s.Close())
	})
}
