package main

import (
	"os"
	"sync"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
)

// raftWALStore is the log of a Raft implementation. Its indexes must follow one
// another, so puts take turns. It always syncs.
type raftWALStore struct {
	mu   sync.Mutex // guards last, and the log's order
	log  *raftwal.WAL
	last uint64
}

func openRaftWAL(dir string, s settings) (store, error) {
	log, err := openRaftLog(dir, s.disk)
	if err != nil {
		return nil, err
	}
	last, err := log.LastIndex()
	if err != nil {
		_ = log.Close() // the first error says more
		return nil, err
	}
	return &raftWALStore{log: log, last: last}, nil
}

func openRaftLog(dir string, d disk) (*raftwal.WAL, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if d.simulated() {
		files := raftFiles{d.fs()}
		return raftwal.Open(dir, raftwal.WithSegmentFiler(segment.NewFiler(dir, files)), raftwal.WithMetaStore(&raftMeta{sync: d.sync}))
	}
	return raftwal.Open(dir)
}

func (s *raftWALStore) close() error { return s.log.Close() }

func (s *raftWALStore) producer(int) (producer, error) {
	return &raftWALProducer{store: s}, nil
}

type raftWALProducer struct {
	store *raftWALStore
	logs  []*raft.Log // reused
}

func (p *raftWALProducer) put(value []byte) error { return p.putBatch([][]byte{value}) }

func (p *raftWALProducer) putBatch(values [][]byte) error {
	for len(p.logs) < len(values) {
		p.logs = append(p.logs, new(raft.Log))
	}
	logs := p.logs[:len(values)]
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, v := range values {
		s.last++
		*logs[i] = raft.Log{Index: s.last, Term: 1, Data: v}
	}
	return s.log.StoreLogs(logs)
}
