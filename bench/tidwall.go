package main

import (
	"sync"

	"github.com/tidwall/wal"
)

// tidwallStore is a log of segment files. Its indexes must follow one another,
// so puts take turns.
type tidwallStore struct {
	mu   sync.Mutex // guards last, and the log's order
	log  *wal.Log
	last uint64
}

func openTidwall(dir string, s settings) (store, error) {
	options := *wal.DefaultOptions
	options.NoSync = !s.durable
	log, err := wal.Open(dir, &options)
	if err != nil {
		return nil, err
	}
	last, err := log.LastIndex()
	if err != nil {
		_ = log.Close() // the first error tells more
		return nil, err
	}
	return &tidwallStore{log: log, last: last}, nil
}

func (s *tidwallStore) close() error { return s.log.Close() }

func (s *tidwallStore) producer(int) (producer, error) {
	return &tidwallProducer{store: s}, nil
}

type tidwallProducer struct {
	store *tidwallStore
	batch wal.Batch
}

func (p *tidwallProducer) put(value []byte) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	return s.log.Write(s.last, value)
}

func (p *tidwallProducer) putBatch(values [][]byte) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		s.last++
		p.batch.Write(s.last, v)
	}
	return s.log.WriteBatch(&p.batch) // which clears it
}
