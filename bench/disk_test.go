package main

import (
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func TestParseDisks(t *testing.T) {
	disks, err := parseDisks("real, 0.05ms,200us,1ms,5ms")
	require.NoError(t, err)
	var names []string
	for _, d := range disks {
		names = append(names, d.String())
		require.Equal(t, d.String(), diskOf(d.workload("T1/x")))
		again, err := parseDisks(d.String())
		require.NoError(t, err)
		require.Equal(t, []disk{d}, again)
	}
	require.Equal(t, []string{"real", "0.05ms", "0.2ms", "1ms", "5ms"}, names)
	require.Equal(t, "T1/x", disk{}.workload("T1/x"))
	for _, wrong := range []string{"", "real,real", "1ms,1000us", "fast", "1", "-1ms", "0ms", "2s", "real,"} {
		_, err := parseDisks(wrong)
		require.Error(t, err, "%q", wrong)
	}
}

func TestSyncsAreCountedAndDone(t *testing.T) {
	var n atomic.Int64
	fs := disk{}.countSyncs(&n)
	name := filepath.Join(t.TempDir(), "a")
	file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	require.NoError(t, file.Sync())
	require.NoError(t, file.SyncData())
	require.NoError(t, file.Close())
	dir, err := fs.OpenDir(filepath.Dir(name))
	require.NoError(t, err)
	require.NoError(t, dir.Sync())
	require.NoError(t, dir.Close())
	require.EqualValues(t, 3, n.Load())
	require.Error(t, file.Sync(), "the file below is asked")
}

// The overhead of a sync depends on the machine, so only the lower bound is certain.
func TestSyncsTakeTheirTime(t *testing.T) {
	for _, took := range []time.Duration{50 * time.Microsecond, time.Millisecond} {
		fs, path := disk{sync: took}.fs(), t.TempDir()
		syncs := map[string]func() error{}
		created, err := fs.Create(filepath.Join(path, "a"), vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		syncs["a file that was created"] = created.Sync
		syncs["the data of a file"] = created.SyncData
		opened, err := fs.OpenReadWrite(filepath.Join(path, "b"), vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		syncs["a file that was opened"] = opened.SyncData
		read, err := fs.Open(filepath.Join(path, "b"))
		require.NoError(t, err)
		syncs["a file to read"] = read.Sync
		dir, err := fs.OpenDir(path)
		require.NoError(t, err)
		syncs["a directory"] = dir.Sync
		reused, err := fs.ReuseForWrite(filepath.Join(path, "b"), filepath.Join(path, "c"), vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		syncs["a file that is used again"] = reused.SyncData
		for name, sync := range syncs {
			began := time.Now()
			require.NoError(t, sync(), name)
			require.GreaterOrEqual(t, time.Since(began), took, name)
		}
	}
}

func TestPauseIsNeverShort(t *testing.T) {
	for _, d := range []time.Duration{0, time.Microsecond, 20 * time.Microsecond, 100 * time.Microsecond, 2 * time.Millisecond} {
		for range 10 {
			began := time.Now()
			pause(d)
			require.GreaterOrEqual(t, time.Since(began), d)
		}
	}
}

// On a simulated disk, a system waits before it acknowledges.
func TestDurableSystemsWaitForTheDisk(t *testing.T) {
	d := disk{sync: 3 * time.Millisecond}
	for _, sys := range append(slices.Clone(allSystems), floorSystem, recycledFloorSystem) {
		t.Run(sys.name, func(t *testing.T) {
			st, err := sys.open(t.TempDir(), settings{durable: true, shards: 1, callers: 1, disk: d})
			if sys.name == jetstreamSystem.name {
				require.ErrorContains(t, err, "skipped")
				return
			}
			require.NoError(t, err)
			p, err := st.producer(0)
			require.NoError(t, err)
			values := newValues(100)[:3]
			for range 3 {
				began := time.Now()
				require.NoError(t, p.put(values[0]))
				require.GreaterOrEqual(t, time.Since(began), d.sync)
				began = time.Now()
				require.NoError(t, p.putBatch(values))
				require.GreaterOrEqual(t, time.Since(began), d.sync)
			}
			require.NoError(t, st.close())
		})
	}
}

func TestSyncTimes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("disks are simulated on Linux only")
	}
	p50, p99, err := disk{sync: time.Millisecond}.syncTimes(t.TempDir())
	require.NoError(t, err)
	require.GreaterOrEqual(t, p50, 990*time.Microsecond, "as exact as a histogram is")
	require.GreaterOrEqual(t, p99, p50)
}

func TestDiskKindOfARelativeDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	require.Equal(t, diskKind(dir), diskKind("."))
}

func TestMountOf(t *testing.T) {
	mounts := []byte(strings.Join([]string{
		"/dev/a / ext4 rw 0 0", "tmpfs /tmp tmpfs rw 0 0", "/dev/b /tmp/b xfs rw 0 0", "broken", "/dev/c /tmp/b btrfs rw 0 0",
	}, "\n"))
	for dir, want := range map[string]string{
		"/home": "ext4", "/tmp": "tmpfs", "/tmp/x": "tmpfs",
		"/tmp/b/c": "btrfs", "/tmp/bc": "tmpfs", "/tmpx": "ext4",
	} {
		kind, found := mountOf(mounts, dir)
		require.True(t, found, dir)
		require.Equal(t, want, kind, dir)
	}
	_, found := mountOf(nil, "/")
	require.False(t, found)
}
