package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the disk for the files of a sample: that of -dir, or memory with syncs of a known
// duration. The zero value is the real disk.
type disk struct {
	sync time.Duration // the duration of a sync; 0 for the real disk
}

const realDisk = "real"

func (d disk) simulated() bool { return d.sync > 0 }

// String returns the disk's name as in -disks: "real", or the duration of a sync in
// milliseconds, such as "0.05ms".
func (d disk) String() string {
	if !d.simulated() {
		return realDisk
	}
	return fmt.Sprintf("%gms", millis(d.sync))
}

// workload returns the id of a workload on the disk: on the real disk, the plain id.
func (d disk) workload(id string) string {
	if !d.simulated() {
		return id
	}
	return id + "@" + d.String()
}

// diskOf returns the name of the disk in the id of a workload.
func diskOf(id string) string {
	_, name, _ := strings.Cut(id, "@")
	return cmp.Or(name, realDisk)
}

// parseDisks parses the value of -disks: names of disks, separated by commas.
func parseDisks(text string) ([]disk, error) {
	var disks []disk
	for name := range strings.SplitSeq(text, ",") {
		var d disk
		if name = strings.TrimSpace(name); name != realDisk {
			sync, err := time.ParseDuration(name)
			if err != nil || sync < 10*time.Microsecond || sync > time.Second {
				return nil, fmt.Errorf("-disks: %q is neither %q nor the time of a sync from 10us to 1s", name, realDisk)
			}
			d.sync = sync
		}
		if slices.Contains(disks, d) {
			return nil, fmt.Errorf("-disks: %s is named twice", d)
		}
		disks = append(disks, d)
	}
	return disks, nil
}

// memoryDir is Linux's file system in memory. Pebble has one, too, but copies growing files
// repeatedly: copying a log of 64 MiB takes 20 ms, while all callers wait.
const memoryDir = "/dev/shm"

// dir returns the parent of the samples' directories on the disk, given that on the real disk.
func (d disk) dir(realDir string) (string, error) {
	if !d.simulated() {
		return realDir, nil
	}
	if info, err := os.Stat(memoryDir); err != nil || !info.IsDir() {
		return "", skipped{"a simulated disk needs " + memoryDir}
	}
	return memoryDir, nil
}

// fs returns the file system of a store on the disk: the operating system's, with simulated
// syncs if the disk is simulated.
func (d disk) fs() vfs.FS {
	if !d.simulated() {
		return vfs.Default
	}
	return syncFS{vfs.Default, func(func() error) error {
		pause(d.sync)
		return nil
	}}
}

// countSyncs returns the file system of a store on the disk that counts its syncs.
func (d disk) countSyncs(n *atomic.Int64) vfs.FS {
	return syncFS{d.fs(), func(sync func() error) error {
		n.Add(1)
		return sync()
	}}
}

// syncFS is a file system that calls a function for each sync of a file or a directory, with
// the sync of the file system below. Syncs of different files do not wait for each other.
type syncFS struct {
	vfs.FS
	sync func(sync func() error) error
}

// Unwrap implements vfs.FS.
func (s syncFS) Unwrap() vfs.FS { return s.FS }

func (s syncFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(s.FS.Create(name, category))
}

func (s syncFS) Open(name string, options ...vfs.OpenOption) (vfs.File, error) {
	return s.wrap(s.FS.Open(name, options...))
}

func (s syncFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, options ...vfs.OpenOption) (vfs.File, error) {
	return s.wrap(s.FS.OpenReadWrite(name, category, options...))
}

func (s syncFS) OpenDir(name string) (vfs.File, error) { return s.wrap(s.FS.OpenDir(name)) }

func (s syncFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(s.FS.ReuseForWrite(old, name, category))
}

func (s syncFS) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return syncFile{file, s.sync}, nil
}

// syncFile is a file of a syncFS. It does not change SyncTo, which only starts a sync.
type syncFile struct {
	vfs.File
	sync func(sync func() error) error
}

func (f syncFile) Sync() error { return f.sync(f.File.Sync) }

func (f syncFile) SyncData() error { return f.sync(f.File.SyncData) }

// noDisk is the error of a system that cannot use a simulated disk.
func noDisk() error { return skipped{"takes no file system and has no way to wait in place of a sync"} }
