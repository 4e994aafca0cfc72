package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// bboltStore keeps records in a B+ tree, in one bucket, by number.
//
// It opens real files, and has no hook for its syncs. On a simulated disk they are
// switched off. Instead a transaction waits, while it holds the writers' lock, for as
// long as the two syncs of a commit would take: that of the pages and that of the meta page.
type bboltStore struct {
	db     *bbolt.DB
	shared bool // single puts of several producers share a transaction
	wait   time.Duration

	paid int // the transaction that has waited; used only by the one writer
}

const bboltSyncs = 2 // of a commit

var bboltBucket = []byte("records")

func openBbolt(dir string, s settings) (store, error) {
	options := *bbolt.DefaultOptions
	options.NoSync = !s.durable
	b := &bboltStore{shared: s.callers > 1}
	if s.disk.simulated() {
		options.NoSync = true
		b.wait = bboltSyncs * s.disk.sync
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "bench.db"), 0o644, &options)
	if err != nil {
		return nil, err
	}
	// A transaction starts when all producers have joined it, so that none waits for the timer,
	// as most would with the defaults.
	db.MaxBatchSize = max(1, s.callers)
	db.MaxBatchDelay = time.Millisecond
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bboltBucket)
		return err
	})
	if err != nil {
		_ = db.Close() // the first error says more
		return nil, err
	}
	b.db = db
	return b, nil
}

func (s *bboltStore) close() error { return s.db.Close() }

func (s *bboltStore) producer(int) (producer, error) { return bboltProducer{s}, nil }

type bboltProducer struct{ store *bboltStore }

func (p bboltProducer) put(value []byte) error {
	add := func(tx *bbolt.Tx) error { return p.store.append(tx, value) }
	if p.store.shared {
		return p.store.db.Batch(add)
	}
	return p.store.db.Update(add)
}

func (p bboltProducer) putBatch(values [][]byte) error {
	return p.store.db.Update(func(tx *bbolt.Tx) error { return p.store.append(tx, values...) })
}

// append is called several times in a transaction that producers share. The first call waits
// instead of the commit, with the same effect: no other transaction can write.
func (s *bboltStore) append(tx *bbolt.Tx, values ...[]byte) error {
	if s.wait > 0 && s.paid != tx.ID() {
		s.paid = tx.ID()
		pause(s.wait)
	}
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
