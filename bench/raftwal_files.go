package main

import (
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft-wal/types"
)

// raftFiles gives raft-wal the files of a vfs.FS.
type raftFiles struct{ vfs.FS }

var _ types.VFS = raftFiles{}

func (f raftFiles) ListDir(dir string) ([]string, error) {
	names, err := f.List(dir)
	slices.Sort(names)
	return names, err
}

func (f raftFiles) Create(dir, name string, _ uint64) (types.WritableFile, error) {
	return f.OpenWriter(dir, name)
}

func (f raftFiles) Delete(dir, name string) error { return f.Remove(f.PathJoin(dir, name)) }

func (f raftFiles) OpenReader(dir, name string) (types.ReadableFile, error) {
	return f.Open(f.PathJoin(dir, name))
}

func (f raftFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	return f.OpenReadWrite(f.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
}

// raftMeta keeps the list of segments in memory. A change takes as long as the two syncs of
// bbolt, which keeps the list by default.
type raftMeta struct {
	sync time.Duration

	mu     sync.Mutex // guards the fields below
	state  types.PersistentState
	stable map[string][]byte
}

var _ types.MetaStore = (*raftMeta)(nil)

func (m *raftMeta) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, nil
}

func (m *raftMeta) CommitState(state types.PersistentState) error {
	pause(bboltSyncs * m.sync)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	return nil
}

func (m *raftMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stable[string(key)], nil
}

func (m *raftMeta) SetStable(key, value []byte) error {
	pause(bboltSyncs * m.sync)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stable == nil {
		m.stable = make(map[string][]byte)
	}
	m.stable[string(key)] = slices.Clone(value)
	return nil
}

func (m *raftMeta) Close() error { return nil }
