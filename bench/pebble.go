package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleStore is a hand-written store: keys of shard and counter, a batch for each put, Pebble
// tuned for a log. Records may become visible in another order than their numbers; it has no
// checks and wakes no reader.
type pebbleStore struct {
	db     *pebble.DB
	shards int
	write  *pebble.WriteOptions
	last   atomic.Uint64 // the last counter used
}

const pebbleKeyBytes = 4 + 4 + 8 // stream, shard, counter

func openPebble(dir string, s settings) (store, error) {
	options := tunedPebble()
	if s.disk.simulated() {
		options.FS = s.disk.fs()
	}
	db, err := pebble.Open(dir, options)
	if err != nil {
		return nil, err
	}
	write := pebble.NoSync
	if s.durable {
		write = pebble.Sync
	}
	return &pebbleStore{db: db, shards: s.shards, write: write}, nil
}

// tunedPebble returns options for a log: with the defaults a sharded log is several times
// slower, and stalls. The cache is as large as braid's.
func tunedPebble() *pebble.Options {
	o := &pebble.Options{
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLogger{},
		CacheSize:                   32 << 20,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               512 << 20,
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, 2 },
	}
	o.TargetFileSizes[0] = 32 << 20
	for i := range o.Levels {
		o.Levels[i].BlockSize = 32 << 10
		o.Levels[i].IndexBlockSize = 256 << 10
	}
	return o
}

// pebbleLogger logs only errors.
type pebbleLogger struct{}

func (pebbleLogger) Infof(string, ...any) {}

func (pebbleLogger) Errorf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "pebble: "+format+"\n", args...)
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	os.Exit(1)
}

func (s *pebbleStore) close() error { return s.db.Close() }

func putPebbleKey(key []byte, shard int, counter uint64) {
	binary.BigEndian.PutUint32(key, 1) // the only stream
	binary.BigEndian.PutUint32(key[4:], uint32(shard))
	binary.BigEndian.PutUint64(key[8:], counter)
}

func (s *pebbleStore) producer(n int) (producer, error) {
	return &pebbleProducer{store: s, next: n}, nil
}

type pebbleProducer struct {
	store *pebbleStore
	next  int
	key   [pebbleKeyBytes]byte
}

func (p *pebbleProducer) shard() int {
	p.next++
	return p.next % p.store.shards
}

func (p *pebbleProducer) put(value []byte) error {
	putPebbleKey(p.key[:], p.shard(), p.store.last.Add(1))
	return p.store.db.Set(p.key[:], value, p.store.write)
}

func (p *pebbleProducer) putBatch(values [][]byte) error {
	batch := p.store.db.NewBatch()
	for _, v := range values {
		op := batch.SetDeferred(pebbleKeyBytes, len(v))
		putPebbleKey(op.Key, p.shard(), p.store.last.Add(1))
		copy(op.Value, v)
	}
	return errors.Join(batch.Commit(p.store.write), batch.Close())
}

func (s *pebbleStore) mark() uint64 { return s.last.Load() + 1 }

func (s *pebbleStore) trim(before uint64) error {
	batch := s.db.NewBatch()
	for shard := range s.shards {
		var lower, upper [pebbleKeyBytes]byte
		putPebbleKey(lower[:], shard, 0)
		putPebbleKey(upper[:], shard, before)
		if err := batch.DeleteRange(lower[:], upper[:], nil); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	return errors.Join(batch.Commit(s.write), batch.Close())
}

func (s *pebbleStore) scan(shard int) (records, bytes int64, err error) {
	var lower, upper [pebbleKeyBytes]byte
	putPebbleKey(lower[:], max(shard, 0), 0)
	putPebbleKey(upper[:], shard+1, 0)
	if shard == allShards {
		putPebbleKey(upper[:], s.shards, 0)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower[:], UpperBound: upper[:]})
	if err != nil {
		return 0, 0, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		records++
		bytes += int64(len(it.Value()))
	}
	return records, bytes, errors.Join(it.Error(), it.Close())
}
