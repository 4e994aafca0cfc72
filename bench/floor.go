package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// floorSystem is what no store can beat: records appended to one file, with an
// fdatasync each. It is for one producer.
var floorSystem = system{name: "floor: append", open: openFloor(0)}

// recycledFloorSystem does the same in a file that has its size already, as the
// logs of Pebble, and so of braid, have after a while: the file system has less
// to note.
var recycledFloorSystem = system{name: "floor: overwrite", open: openFloor(recycledFloorBytes)}

const recycledFloorBytes = 64 * mib

type floorStore struct {
	file  vfs.File
	size  int64 // of a file that is written from the start again; 0 for one that grows
	at    int64
	chunk []byte
}

func openFloor(size int64) func(dir string, _ settings) (store, error) {
	return func(dir string, _ settings) (store, error) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		name := filepath.Join(dir, "log")
		if size > 0 {
			if err := os.WriteFile(name, make([]byte, size), 0o644); err != nil {
				return nil, err
			}
		}
		file, err := vfs.Default.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
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
