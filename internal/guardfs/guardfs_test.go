package guardfs_test

import (
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/testdisk"
)

const dir = "/db" // the guarded directory of all tests

// disk is a disk with the guarded directory.
type disk struct{ *testdisk.Disk }

func newDisk(t *testing.T) disk {
	t.Helper()
	d := disk{testdisk.On(vfs.NewMem())}
	require.NoError(t, d.Mem.MkdirAll(dir, 0o755))
	return d
}

// failWrites makes all operations that change a file fail.
func (d disk) failWrites(err error) {
	d.Before(func(op testdisk.Op) error {
		if isChange(op) {
			return err
		}
		return nil
	})
}

// failUntil makes changes fail until the time has passed.
func (d disk) failUntil(err error, after time.Duration) {
	end := time.Now().Add(after)
	d.Before(func(op testdisk.Op) error {
		if isChange(op) && time.Now().Before(end) {
			return err
		}
		return nil
	})
}

// isChange reports whether the operation changes a file, or may create one.
func isChange(op testdisk.Op) bool {
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite || op.Path == "/db/made-by-opening"
}

// spaces records the calls of OnSpace.
type spaces struct {
	mu   sync.Mutex // guards the field below
	told []guardfs.Space
}

func (s *spaces) tell(space guardfs.Space) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, space)
}

func (s *spaces) all() []guardfs.Space {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

func create(t *testing.T, fs vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	return f
}

func write(t *testing.T, f vfs.File, text string) {
	t.Helper()
	n, err := f.Write([]byte(text))
	require.NoError(t, err)
	require.Equal(t, len(text), n)
}

func content(t *testing.T, fs vfs.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	require.NoError(t, err)
	data, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return string(data)
}

// operation is a change of a file about whose error the guard must decide.
type operation struct {
	name    string
	kind    errorfs.OpKind
	prepare func(t *testing.T, fs vfs.FS) (run func() error)
}

// onFile is an operation on the open file of that name.
func onFile(name, file string, kind errorfs.OpKind, run func(f vfs.File) error) operation {
	return operation{name + " " + file, kind, func(t *testing.T, fs vfs.FS) func() error {
		f := create(t, fs, file)
		return func() error { return run(f) }
	}}
}

// onNames is an operation on names of files, the first of which exists.
func onNames(name, file string, kind errorfs.OpKind, run func(fs vfs.FS) error) operation {
	return operation{name + " " + file, kind, func(t *testing.T, fs vfs.FS) func() error {
		require.NoError(t, create(t, fs, file).Close())
		return func() error { return run(fs) }
	}}
}

func sync1(f vfs.File) error    { return f.Sync() }
func syncData(f vfs.File) error { return f.SyncData() }
func syncTo(f vfs.File) error   { _, err := f.SyncTo(1); return err }
func writeOne(f vfs.File) error { _, err := f.Write([]byte("x")); return err }
func createAs(name string) func(vfs.FS) error {
	return func(fs vfs.FS) error { _, err := fs.Create(name, vfs.WriteCategoryUnspecified); return err }
}

// criticalOperations are operations that durability depends on.
func criticalOperations() []operation {
	return []operation{
		onFile("write", "/db/000002.log", errorfs.OpFileWrite, writeOne),
		onFile("sync data of", "/db/000002.log", errorfs.OpFileSyncData, syncData),
		onFile("sync", "/db/000002.log", errorfs.OpFileSync, sync1),
		onFile("sync a part of", "/db/000002.log", errorfs.OpFileSyncTo, syncTo),
		onFile("write", "/db/store/MANIFEST-000001", errorfs.OpFileWrite, writeOne),
		onFile("sync", "/db/store/MANIFEST-000001", errorfs.OpFileSync, sync1),
		onNames("create next to", "/db/old", errorfs.OpCreate, createAs("/db/000004.log")),
		onNames("create a marker next to", "/db/old", errorfs.OpFileSync, createAs("/db/marker.manifest.000002.MANIFEST-000003")),
		onNames("remove", "/db/marker.manifest.000001.MANIFEST-000001", errorfs.OpFileSync, func(fs vfs.FS) error {
			return fs.Remove("/db/marker.manifest.000001.MANIFEST-000001")
		}),
		onNames("rename to a log", "/db/old", errorfs.OpRename, func(fs vfs.FS) error {
			return fs.Rename("/db/old", "/db/000005.log")
		}),
		onNames("reuse", "/db/000002.log", errorfs.OpReuseForWrite, func(fs vfs.FS) error {
			_, err := fs.ReuseForWrite("/db/000002.log", "/db/000006.log", vfs.WriteCategoryUnspecified)
			return err
		}),
		{"sync the directory", errorfs.OpFileSync, func(t *testing.T, fs vfs.FS) func() error {
			d, err := fs.OpenDir(dir)
			require.NoError(t, err)
			return d.Sync
		}},
	}
}

// spaceOperations are operations that wait when there is no space, on any file.
func spaceOperations() []operation {
	return []operation{
		onFile("write", "/db/000002.log", errorfs.OpFileWrite, writeOne),
		onFile("write", "/db/000002.sst", errorfs.OpFileWrite, writeOne),
		onNames("create", "/db/old", errorfs.OpCreate, createAs("/db/000004.sst")),
		onNames("create a log next to", "/db/old", errorfs.OpCreate, createAs("/db/000004.log")),
		onNames("open for writing", "/db/old", errorfs.OpOpen, func(fs vfs.FS) error {
			_, err := fs.OpenReadWrite("/db/made-by-opening", vfs.WriteCategoryUnspecified)
			return err
		}),
		onNames("rename", "/db/old", errorfs.OpRename, func(fs vfs.FS) error { return fs.Rename("/db/old", "/db/new") }),
		onNames("link", "/db/old", errorfs.OpLink, func(fs vfs.FS) error { return fs.Link("/db/old", "/db/new") }),
		onNames("remove", "/db/old", errorfs.OpRemove, func(fs vfs.FS) error { return fs.Remove("/db/old") }),
		onNames("remove all of", "/db/old", errorfs.OpRemoveAll, func(fs vfs.FS) error { return fs.RemoveAll("/db/old") }),
		onNames("make a directory beside", "/db/old", errorfs.OpMkdirAll, func(fs vfs.FS) error { return fs.MkdirAll("/db/dir", 0o755) }),
		onNames("reuse", "/db/000002.log", errorfs.OpReuseForWrite, func(fs vfs.FS) error {
			_, err := fs.ReuseForWrite("/db/000002.log", "/db/000006.log", vfs.WriteCategoryUnspecified)
			return err
		}),
	}
}

// inBackground runs the operation and returns a channel with its result.
func inBackground(run func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- run() }()
	return result
}

// shortages are the errors after which an operation is repeated.
func shortages() []error {
	return []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}
}

// spoiling is a disk that changes the caller's buffer after the write, as a writer may that
// reuses the buffer.
type spoiling struct{ vfs.FS }

type spoilingFile struct{ vfs.File }

func (s spoiling) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, category)
	return spoilingFile{f}, err
}

func (f spoilingFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	for i := range p {
		//lint:ignore SA1023 that files do so is what is tested
		p[i] ^= 0xff
	}
	return n, err
}

// TestSumsAreOfWhatWasToBeWritten: a file that changes the caller's bytes does not change the
// checksums.
func TestSumsAreOfWhatWasToBeWritten(t *testing.T) {
	g := guardfs.New(spoiling{newDisk(t)}, guardfs.Config{Dir: dir})
	defer g.Close()
	g.Track(dir, guardfs.Durable{}, nil)
	f, err := g.Create(dir+"/000001.sst", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write([]byte("a table"))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	tables := g.Durable(0, 0).Tables
	require.Len(t, tables, 1)
	require.Equal(t, layout.LedgerSum(0, []byte("a table")), tables[0].Sum)
}

// TestDurableListsWholeTables: a table that is synced while it is written is listed only when it
// is complete.
func TestDurableListsWholeTables(t *testing.T) {
	d := newDisk(t)
	g := guardfs.New(d, guardfs.Config{Dir: dir})
	defer g.Close()
	g.Track(dir, guardfs.Durable{}, nil)
	f, err := g.Create(dir+"/000001.sst", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	for range 2 {
		_, err = f.Write([]byte("half"))
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		require.Empty(t, g.Durable(0, 0).Tables)
	}
	require.NoError(t, f.Close())
	tables := g.Durable(0, 0).Tables
	require.Len(t, tables, 1)
	require.EqualValues(t, 8, tables[0].Size)

	f, err = g.Create(dir+"/000002.sst", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	_, err = f.Write([]byte("not synced"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, tables, g.Durable(0, 0).Tables)
}
