package main

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/companion"
)

// braidStore is one stream of a DB with default options except the durability.
type braidStore struct {
	db     *braid.DB
	stream *braid.Stream

	ctx     context.Context // of the readers; close ends it
	cancel  context.CancelFunc
	readers sync.WaitGroup
}

// partitionKeys is large enough that every shard gets about the same number of keys.
func partitionKeys(shards int) []string {
	keys := allPartitionKeys()
	return keys[:max(1<<14, min(16*shards, len(keys)))]
}

var allPartitionKeys = sync.OnceValue(func() []string {
	keys := make([]string, 1<<18)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%06d", i)
	}
	return keys
})

// secretKey is the id of the key of records that are encrypted.
const secretKey = "bench"

// openDB opens a braid database.
func openDB(dir string, s settings) (*braid.DB, error) {
	options := &braid.Options{Durability: braid.NoSync}
	if s.durable {
		options.Durability = braid.Sync
	}
	if s.secret {
		ring, err := braid.NewKeyRing(map[string][]byte{secretKey: make([]byte, 32)})
		if err != nil {
			return nil, err
		}
		options.KeyProvider = ring
	}
	fs := s.disk.fs()
	switch {
	case s.syncs != nil:
		fs = s.disk.countSyncs(s.syncs)
	case !s.disk.simulated():
		return braid.Open(dir, options)
	}
	db, err := companion.Open(dir, options, companion.Environment{FS: fs})
	if err != nil {
		return nil, err
	}
	return db.(*braid.DB), nil
}

func openBraid(dir string, s settings) (store, error) {
	db, err := openDB(dir, s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := db.OpenStream(ctx, "bench", &braid.StreamOptions{Shards: s.shards})
	if err == nil && s.secret && stream.Describe().EncryptionKey == "" {
		err = stream.StartEncryption(ctx, secretKey)
	}
	if err != nil {
		cancel()
		_ = db.Close() // the first error says more
		return nil, err
	}
	return &braidStore{db: db, stream: stream, ctx: ctx, cancel: cancel}, nil
}

func openSecret(dir string, s settings) (store, error) {
	s.secret = true
	return openBraid(dir, s)
}

func (s *braidStore) close() error {
	s.cancel()
	s.readers.Wait()
	return s.db.Close()
}

func (s *braidStore) producer(n int) (producer, error) {
	return &braidProducer{stream: s.stream, keys: partitionKeys(len(s.stream.Shards())), next: n * 61}, nil
}

type braidProducer struct {
	stream  *braid.Stream
	keys    []string
	next    int
	entries []braid.Entry
}

// key iterates over the partition keys. Their hashes select the shards at random.
func (p *braidProducer) key() string {
	p.next++
	return p.keys[p.next%len(p.keys)]
}

func (p *braidProducer) put(value []byte) error {
	_, err := p.stream.PutRecord(context.Background(), p.key(), value)
	return err
}

func (p *braidProducer) putBatch(values [][]byte) error {
	p.entries = p.entries[:0]
	for _, v := range values {
		p.entries = append(p.entries, braid.Entry{PartitionKey: p.key(), Data: v})
	}
	_, err := p.stream.PutRecords(context.Background(), p.entries)
	return err
}

// mark returns a time: braid orders records by arrival.
func (s *braidStore) mark() uint64 { return uint64(time.Now().UnixNano()) }

func (s *braidStore) trim(before uint64) error {
	return s.stream.Trim(context.Background(), braid.AtTime(time.Unix(0, int64(before))))
}

// scan of the whole stream is in the order of arrival over all shards, unlike raw Pebble's.
func (s *braidStore) scan(shard int) (records, bytes int64, err error) {
	if shard == allShards {
		return countRecords(s.stream.Records(context.Background(), braid.TrimHorizon()))
	}
	return countRecords(s.stream.Shards()[shard].Records(context.Background(), braid.TrimHorizon()))
}

// borrowingStore reads with BorrowRecords.
type borrowingStore struct{ *braidStore }

func openBorrowing(dir string, s settings) (store, error) {
	st, err := openBraid(dir, s)
	if err != nil {
		return nil, err
	}
	return borrowingStore{st.(*braidStore)}, nil
}

func (s borrowingStore) scan(shard int) (records, bytes int64, err error) {
	if shard == allShards {
		return countRecords(s.stream.BorrowRecords(context.Background(), braid.TrimHorizon()))
	}
	return countRecords(s.stream.Shards()[shard].BorrowRecords(context.Background(), braid.TrimHorizon()))
}

func countRecords(all iter.Seq2[braid.Record, error]) (records, bytes int64, err error) {
	for rec, err := range all {
		if err != nil {
			return 0, 0, err
		}
		records++
		bytes += int64(len(rec.Data))
	}
	return records, bytes, nil
}

func (s *braidStore) follow(shard int, fn func([]byte)) error {
	follow := s.stream.Shards()[shard].Follow(s.ctx, braid.Latest())
	s.readers.Go(func() {
		for rec, err := range follow {
			if err != nil {
				return // close has ended it; a failure shows in what the producers get
			}
			fn(rec.Data)
		}
	})
	return nil
}

// consume runs a worker with the leases of all shards, and a goroutine for each.
func (s *braidStore) consume(each bool, reader func() func([]byte)) error {
	cfg := consumer.Config{App: "bench", Streams: []string{s.stream.Name()}, ReuseRecords: true}
	if each {
		cfg.BatchRecords = 1
	}
	w, err := consumer.New(s.db, &cfg, consumer.PerLease(func(consumer.Lease) consumer.Processor {
		fn := reader()
		return consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			for i := range batch.Records {
				fn(batch.Records[i].Data)
			}
			return nil
		})
	}))
	if err != nil {
		return err
	}
	s.readers.Go(func() {
		_ = w.Run(s.ctx) // close has ended it; a failure shows in what the producers get
	})
	return nil
}
