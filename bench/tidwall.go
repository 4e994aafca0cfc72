package main

import (
	"sync"
	"time"

	"github.com/tidwall/wal"
)

// tidwallStore is a log of segment files. Its indexes must follow one another,
// so puts take turns.
//
// It opens real files. On a simulated disk its syncs are switched off, and each put waits
// instead.
type tidwallStore struct {
	mu   sync.Mutex // guards last, and the log's order
	log  *wal.Log
	last uint64

	wait time.Duration // instead of a sync
}

func openTidwall(dir string, s settings) (store, error) {
	options := *wal.DefaultOptions
	options.NoSync = !s.durable
	t := &tidwallStore{wait: s.disk.sync}
	options.NoSync = options.NoSync || s.disk.simulated()
	log, err := wal.Open(dir, &options)
	if err != nil {
		return nil, err
	}
	last, err := log.LastIndex()
	if err != nil {
		_ = log.Close() // the first error says more
		return nil, err
	}
	t.log, t.last = log, last
	return t, nil
}

func (s *tidwallStore) close() error { return s.log.Close() }

// wrote ends a write of the log that ended with err.
func (s *tidwallStore) wrote(err error) error {
	if err == nil && s.wait > 0 {
		pause(s.wait)
	}
	return err
}

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
	return s.wrote(s.log.Write(s.last, value))
}

func (p *tidwallProducer) putBatch(values [][]byte) error {
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		s.last++
		p.batch.Write(s.last, v)
	}
	return s.wrote(s.log.WriteBatch(&p.batch)) // clears the batch
}
