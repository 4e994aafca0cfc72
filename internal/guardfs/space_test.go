package guardfs_test

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/testdisk"
)

func TestNoSpaceWaits(t *testing.T) {
	for _, op := range spaceOperations() {
		for _, noSpace := range shortages() {
			t.Run(op.name+" "+noSpace.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDisk(t)
					var s spaces
					g := guardfs.New(d, guardfs.Config{Dir: dir, OnSpace: s.tell})
					run := op.prepare(t, g)
					start := time.Now()
					d.failUntil(noSpace, 30*time.Second)
					result := inBackground(run)
					<-time.After(29 * time.Second)
					require.Equal(t, guardfs.None, g.Space())
					require.ErrorIs(t, g.Shortage(), noSpace)
					require.ErrorContains(t, g.Shortage(), "/db")
					require.NoError(t, <-result)
					require.NoError(t, g.Shortage())
					require.Less(t, time.Since(start), 31*time.Second+time.Millisecond)
					require.Less(t, d.Count(op.kind), 40, "it asks too often")
					synctest.Wait()
					require.Equal(t, []guardfs.Space{guardfs.None, guardfs.Enough}, s.all())
					require.NoError(t, g.Err())
					g.Close()
				})
			})
		}
	}
}

// TestDirectoriesAreWaitedFor: Pebble treats it as fatal if it cannot open a directory to sync
// it.
func TestDirectoriesAreWaitedFor(t *testing.T) {
	for name, run := range map[string]func(vfs.FS) error{
		"open":   func(fs vfs.FS) error { _, err := fs.OpenDir(dir); return err },
		"list":   func(fs vfs.FS) error { _, err := fs.List(dir); return err },
		"marker": createAs("/db/marker.manifest.000002.MANIFEST-000003"),
	} {
		for _, shortage := range shortages() {
			t.Run(name+" "+shortage.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDisk(t)
					g := guardfs.New(d, guardfs.Config{Dir: dir})
					d.Before(func(op testdisk.Op) error {
						if op.Kind == errorfs.OpOpenDir || op.Kind == errorfs.OpList {
							return shortage
						}
						return nil
					})
					result := inBackground(func() error { return run(g) })
					<-time.After(time.Minute)
					require.Equal(t, guardfs.None, g.Space())
					d.Before(nil)
					require.NoError(t, <-result)
					synctest.Wait()
					require.Equal(t, guardfs.Enough, g.Space())
					require.NoError(t, g.Err())
				})
			})
		}
	}
}

// shortFS makes files that accept only a part of the bytes before the disk is full.
type shortFS struct {
	vfs.FS
	room *atomic.Int64
}

func (s shortFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, category)
	return &shortFile{f, s.room}, err
}

func (s shortFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.OpenReadWrite(name, category, opts...)
	return &shortFile{f, s.room}, err
}

type shortFile struct {
	vfs.File
	room *atomic.Int64
}

func (f *shortFile) fit(p []byte, write func(p []byte) (int, error)) (int, error) {
	room := f.room.Load()
	if int64(len(p)) <= room {
		f.room.Add(-int64(len(p)))
		return write(p)
	}
	f.room.Add(-room)
	n, err := write(p[:room])
	if err == nil {
		err = syscall.ENOSPC
	}
	return n, err
}

func (f *shortFile) Write(p []byte) (int, error) { return f.fit(p, f.File.Write) }

func (f *shortFile) WriteAt(p []byte, at int64) (int, error) {
	return f.fit(p, func(p []byte) (int, error) { return f.File.WriteAt(p, at) })
}

func TestWriteGoesOnBehindWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var room atomic.Int64
		mem := vfs.NewMem()
		require.NoError(t, mem.MkdirAll(dir, 0o755))
		g := guardfs.New(shortFS{mem, &room}, guardfs.Config{Dir: dir})
		text := strings.Repeat("0123456789", 10)

		// A few bytes at a time become free, sometimes none.
		stop := make(chan struct{})
		go func() {
			for drop := int64(0); ; drop = (drop + 3) % 14 {
				select {
				case <-time.After(70 * time.Millisecond):
					room.Add(drop)
				case <-stop:
					return
				}
			}
		}()
		f := create(t, g, "/db/000002.log")
		write(t, f, text)
		write(t, f, "the end")
		require.Equal(t, text+"the end", content(t, g, "/db/000002.log"))

		f, err := g.OpenReadWrite("/db/000003.sst", vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		n, err := f.WriteAt([]byte(text), 0)
		require.NoError(t, err)
		require.Equal(t, len(text), n)
		require.Equal(t, text, content(t, g, "/db/000003.sst"))
		close(stop)
		require.Equal(t, guardfs.Enough, g.Space())
	})
}

func TestSyncOfTableWithoutSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		var s spaces
		g := guardfs.New(d, guardfs.Config{Dir: dir, OnSpace: s.tell})
		f := create(t, g, "/db/000002.sst")
		d.failWrites(syscall.ENOSPC)
		for range 100 { // many more than are allowed of other errors
			start := time.Now()
			require.ErrorIs(t, f.Sync(), syscall.ENOSPC)
			require.Equal(t, time.Second, time.Since(start))
			require.Equal(t, guardfs.None, g.Space())
		}
		d.Before(nil)
		require.NoError(t, writeOne(f))
		require.Equal(t, guardfs.None, g.Space(), "what was written need not fit")
		require.NoError(t, f.Sync(), "of a table that was given up")
		require.Equal(t, guardfs.None, g.Space())
		require.NoError(t, create(t, g, "/db/000003.sst").Sync())
		require.Equal(t, []guardfs.Space{guardfs.None, guardfs.Enough}, s.all())
		require.NoError(t, g.Err())
	})
}

func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		var s spaces
		g := guardfs.New(d, guardfs.Config{Dir: dir, ReserveBytes: 1000, OnSpace: s.tell})
		d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1000})
		create(t, g, "/db/000002.sst")
		require.Equal(t, guardfs.Enough, g.Space())

		d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 999})
		create(t, g, "/db/000003.sst")
		require.Equal(t, guardfs.Low, g.Space())
		require.EqualError(t, g.Shortage(), "ReserveBytes keeps 1000 bytes free on the disk of /db, and 999 are free")
		write(t, create(t, g, "/db/000004.log"), "the reserve can be used")
		<-time.After(time.Hour)
		require.Equal(t, guardfs.Low, g.Space())
		require.LessOrEqual(t, d.Count(errorfs.OpGetDiskUsage), 3610)

		d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 5000})
		<-time.After(time.Second)
		synctest.Wait()
		require.Equal(t, guardfs.Enough, g.Space())

		// Nobody checks while there is enough.
		before := d.Count(errorfs.OpGetDiskUsage)
		<-time.After(time.Hour)
		require.Equal(t, before, d.Count(errorfs.OpGetDiskUsage))
		require.Equal(t, []guardfs.Space{guardfs.Low, guardfs.Enough}, s.all())

		// Close ends the watcher; otherwise the bubble would not end.
		d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1})
		create(t, g, "/db/000005.sst")
		require.Equal(t, guardfs.Low, g.Space())
		g.Close()
		g.Close()
		create(t, g, "/db/000006.sst")
	})
}

func TestReserveOfFileSystemThatCannotTell(t *testing.T) {
	d := newDisk(t)
	g := guardfs.New(d, guardfs.Config{Dir: dir, ReserveBytes: 1 << 60})
	create(t, g, "/db/000002.sst")
	require.Equal(t, guardfs.Enough, g.Space())
}

func TestSpaceIsToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		var inside, told atomic.Int32
		var last atomic.Int32
		g := guardfs.New(d, guardfs.Config{Dir: dir, OnSpace: func(space guardfs.Space) {
			if inside.Add(1) != 1 {
				t.Error("two are told at a time")
			}
			if guardfs.Space(last.Swap(int32(space))) == space {
				t.Errorf("%v was told twice", space)
			}
			told.Add(1)
			<-time.After(7 * time.Millisecond) // others change the state meanwhile
			inside.Add(-1)
		}})
		var calls atomic.Int64
		d.Before(func(op testdisk.Op) error {
			if op.Kind == errorfs.OpFileWrite && calls.Add(1)%3 != 0 {
				return syscall.ENOSPC
			}
			return nil
		})
		var wg sync.WaitGroup
		for i := range 4 {
			f := create(t, g, d.PathJoin(dir, "f"+strconv.Itoa(i)))
			wg.Go(func() {
				for j := range 50 {
					if err := writeOne(f); err != nil {
						t.Error(err)
					}
					<-time.After(time.Duration(j%5*37) * time.Millisecond)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		require.Equal(t, guardfs.Enough, g.Space())
		require.Equal(t, g.Space(), guardfs.Space(last.Load()))
		require.Greater(t, told.Load(), int32(1), "how often depends on who is scheduled when")
	})
}

// reservingFS notes the ranges for which its files allocate space.
type reservingFS struct {
	vfs.FS
	asked *[]int64 // the end of each range
	err   error
}

func (r reservingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := r.FS.Create(name, category)
	return reservingFile{f, r}, err
}

type reservingFile struct {
	vfs.File
	fs reservingFS
}

func (f reservingFile) Preallocate(offset, length int64) error {
	*f.fs.asked = append(*f.fs.asked, offset+length)
	return f.fs.err
}

// TestLogsAskForSpaceAsTheyGrow: a log of a few records takes little space, a large one allocates
// rarely, and none allocates scarce space.
func TestLogsAskForSpaceAsTheyGrow(t *testing.T) {
	const wanted = 70 << 20
	synctest.Test(t, func(t *testing.T) {
		for _, refusal := range []error{nil, syscall.EOPNOTSUPP, syscall.ENOSPC} {
			d := newDisk(t)
			var asked []int64
			g := guardfs.New(reservingFS{d, &asked, refusal}, guardfs.Config{Dir: dir, ReserveBytes: 1000})
			d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
			f := create(t, g, "/db/000002.log")
			require.NoError(t, f.Preallocate(0, wanted))
			require.Empty(t, asked)
			write(t, f, "a record")
			write(t, f, "another")
			require.Equal(t, []int64{256 << 10}, asked)
			page := strings.Repeat("x", 64<<10)
			for written := 0; written < wanted+1<<20; written += len(page) {
				write(t, f, page)
			}
			require.Less(t, len(asked), 30)
			require.LessOrEqual(t, asked[len(asked)-1], int64(wanted+1<<16))
			require.Greater(t, asked[len(asked)-1], int64(wanted-1))

			asked = nil
			d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 999})
			f = create(t, g, "/db/000004.log")
			require.NoError(t, f.Preallocate(0, wanted))
			for range 40 {
				write(t, f, page)
			}
			require.Empty(t, asked, "there is too little")
			require.Equal(t, guardfs.Low, g.Space())
			g.Close()
		}
	})
}

// TestALogAsksForWhatTheLastOneNeeded: an fdatasync is faster in a log whose space was allocated
// before its first byte, but only a busy database needs much.
func TestALogAsksForWhatTheLastOneNeeded(t *testing.T) {
	const wanted = 70 << 20
	for _, test := range []struct {
		last, free, reserve, asked int64
	}{
		{last: 1 << 10, free: 1 << 40, asked: 256 << 10},
		{last: 8 << 20, free: 1 << 40, asked: 16 << 20},
		{last: 64 << 20, free: 1 << 40, asked: wanted},
		{last: 64 << 20, free: 1, asked: 256 << 10},
		{last: 64 << 20, free: 4 * wanted, asked: wanted},
		{last: 64 << 20, free: 4*wanted - 1, asked: 256 << 10},
		{last: 64 << 20, free: 4*wanted + 999, reserve: 1000, asked: 256 << 10},
		{last: 64 << 20, free: 4*wanted + 1000, reserve: 1000, asked: wanted},
	} {
		d := newDisk(t)
		var asked []int64
		g := guardfs.New(reservingFS{d, &asked, nil}, guardfs.Config{Dir: dir, ReserveBytes: test.reserve})
		f := create(t, g, "/db/000002.log")
		require.NoError(t, f.Preallocate(0, wanted))
		write(t, f, strings.Repeat("x", int(test.last)))
		require.NoError(t, f.Close())
		table := create(t, g, "/db/000003.sst")
		write(t, table, "no log")
		require.NoError(t, table.Close())

		asked = nil
		d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: uint64(test.free)})
		f = create(t, g, "/db/000004.log")
		require.NoError(t, f.Preallocate(0, wanted))
		write(t, f, "a record")
		require.Equal(t, []int64{test.asked}, asked, "%+v", test)
		g.Close()
	}
}

// TestReserveIsSeenWhileALogGrows, long before the next file is created.
func TestReserveIsSeenWhileALogGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		g := guardfs.New(d, guardfs.Config{Dir: dir, ReserveBytes: 1000})
		d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30})
		f := create(t, g, "/db/000002.log")
		require.NoError(t, f.Preallocate(0, 70<<20))
		write(t, f, "a record")
		d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 999})
		write(t, f, strings.Repeat("x", 1<<20))
		require.Equal(t, guardfs.Low, g.Space())
		g.Close()
	})
}
