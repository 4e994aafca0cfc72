package main

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// floorSystem is the limit that no store can beat: records appended to one file, each with an
// fdatasync. It is for one producer.
var floorSystem = system{name: "floor: append", open: openFloor(0)}

// recycledFloorSystem does the same in a file that already has its size, like the logs of
// Pebble, and so of braid, after a while: the file system has less metadata to write.
var recycledFloorSystem = system{name: "floor: overwrite", open: openFloor(floorBytes)}

// readyGroups is the name of an entry that appends prepared groups of one record per producer,
// and syncs each: a group commit whose callers cost nothing.
const readyGroups = "floor: ready groups"

// floorBytes is the size of a recycled file.
const floorBytes = 64 * mib

type floorStore struct {
	file  vfs.File
	size  int64 // of a recycled file; 0 for one that grows
	at    int64
	chunk []byte
}

func openFloor(size int64) func(dir string, s settings) (store, error) {
	return func(dir string, s settings) (store, error) {
		fs, size := s.disk.fs(), size
		if s.disk.simulated() {
			size = floorBytes // memory is limited
		}
		if err := fs.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		file, err := fs.OpenReadWrite(fs.PathJoin(dir, "log"), vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		if size > 0 {
			_, err = file.WriteAt(make([]byte, size), 0)
		}
		if err := errors.Join(err, file.Sync()); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		return &floorStore{file: file, size: size}, nil
	}
}

func (s *floorStore) close() error { return s.file.Close() }

func (s *floorStore) producer(int) (producer, error) { return s, nil }

func (s *floorStore) put(value []byte) error {
	if s.size > 0 && s.at+int64(len(value)) > s.size {
		s.at = 0
	}
	n, err := s.file.WriteAt(value, s.at)
	if err != nil {
		return err
	}
	s.at += int64(n)
	return s.file.SyncData()
}

func (s *floorStore) putBatch(values [][]byte) error {
	s.chunk = s.chunk[:0]
	for _, v := range values {
		s.chunk = append(s.chunk, v...)
	}
	return s.put(s.chunk)
}
