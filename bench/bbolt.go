package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// bboltStore keeps records in a B+ tree, in one bucket, by number.
type bboltStore struct {
	db     *bbolt.DB
	shared bool // single puts of several producers share a transaction
}

var bboltBucket = []byte("records")

func openBbolt(dir string, s settings) (store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	options := *bbolt.DefaultOptions
	options.NoSync = !s.durable
	db, err := bbolt.Open(filepath.Join(dir, "bench.db"), 0o644, &options)
	if err != nil {
		return nil, err
	}
	// A transaction starts when all producers have joined it, so that none waits
	// for the timer, which would be the usual thing with the defaults.
	db.MaxBatchSize = max(1, s.callers)
	db.MaxBatchDelay = time.Millisecond
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bboltBucket)
		return err
	})
	if err != nil {
		_ = db.Close() // the first error tells more
		return nil, err
	}
	return &bboltStore{db: db, shared: s.callers > 1}, nil
}

func (s *bboltStore) close() error { return s.db.Close() }

func (s *bboltStore) producer(int) (producer, error) { return bboltProducer{s}, nil }

type bboltProducer struct{ store *bboltStore }

func (p bboltProducer) put(value []byte) error {
	add := func(tx *bbolt.Tx) error { return bboltAppend(tx, value) }
	if p.store.shared {
		return p.store.db.Batch(add)
	}
	return p.store.db.Update(add)
}

func (p bboltProducer) putBatch(values [][]byte) error {
	return p.store.db.Update(func(tx *bbolt.Tx) error { return bboltAppend(tx, values...) })
}

func bboltAppend(tx *bbolt.Tx, values ...[]byte) error {
	b := tx.Bucket(bboltBucket)
	b.FillPercent = 0.95 // keys only go up; the setting does not outlive a transaction
	for _, v := range values {
		number, err := b.NextSequence()
		if err != nil {
			return err
		}
		if err := b.Put(binary.BigEndian.AppendUint64(nil, number), v); err != nil {
			return err
		}
	}
	return nil
}
