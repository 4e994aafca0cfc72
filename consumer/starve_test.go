package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// putIn puts a record into a shard.
func (f *fixture) putIn(shard *braid.Shard, key string, data []byte) {
	f.Helper()
	hash := shard.HashKeyRange().Start
	_, err := f.orders.PutRecords(f.Context(), []braid.Entry{{PartitionKey: key, ExplicitHashKey: &hash, Data: data}})
	require.NoError(f, err)
}

// meter counts the bytes of records that processors hold.
type meter struct {
	mu         sync.Mutex // guards the fields below
	held, peak int
	most       int // the largest batch
	healthy    int // records of healthy shards that were processed
}

func (m *meter) hold(batch *consumer.Batch) (bytes int) {
	for _, r := range batch.Records {
		bytes += len(r.PartitionKey) + len(r.Data)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held += bytes
	m.peak, m.most = max(m.peak, m.held), max(m.most, bytes)
	return bytes
}

func (m *meter) done(bytes, records int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held -= bytes
	m.healthy += records
}

// Most shards of a worker hang or fail, each with more than its part of MaxBytes. The
// records of the others are still processed at once, with any Config, and all shards
// together stay within the limit.
func TestStuckShardsDoNotStarveOthers(t *testing.T) {
	const healthy, records = 3, 40
	stuck := func(batch *consumer.Batch) bool { return strings.HasPrefix(batch.Records[0].PartitionKey, "stuck") }
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	fails := errors.New("fails")
	type fault func(ctx context.Context) error
	for _, row := range []struct {
		name   string
		shards int // 0 means 40
		bytes  int // of a record of a stuck shard; 0 means 64 KiB
		cfg    consumer.Config
		fault  fault
		tx     bool
	}{
		{name: "defaults, and records of 1 MiB", shards: 84, bytes: 1<<20 - 16, fault: hang},
		{name: "retried", fault: func(context.Context) error { return fails }, cfg: consumer.Config{MaxAttempts: -1}},
		{name: "stopped", fault: func(context.Context) error { return fails }, cfg: consumer.Config{MaxAttempts: 1}},
		{name: "dead letters that cannot be put", fault: func(context.Context) error { return fails }, cfg: consumer.Config{MaxAttempts: 1, DeadLetterStream: "missing"}},
		{name: "transactions", fault: hang, tx: true},
		{name: "transactions that are retried", fault: func(context.Context) error { return fails }, tx: true, cfg: consumer.Config{MaxAttempts: -1}},
		{name: "tiny budget", fault: hang, cfg: consumer.Config{MaxBytes: 1, BatchBytes: 1}},
		{name: "budget of one batch", fault: hang, cfg: consumer.Config{MaxBytes: 64 << 10, BatchBytes: 64 << 10}},
		{name: "tiny batches", fault: hang, cfg: consumer.Config{BatchBytes: 1, MaxBytes: 1 << 20}},
		{name: "huge batches", fault: hang, cfg: consumer.Config{BatchBytes: 10 << 20, MaxBytes: 10 << 20}},
		{name: "batches of one record", fault: hang, cfg: consumer.Config{BatchRecords: 1}},
		{name: "linger", fault: hang, cfg: consumer.Config{Linger: time.Second}},
		{name: "manual checkpoints", fault: hang, cfg: consumer.Config{Checkpoints: consumer.Manual}},
		{name: "lanes", fault: hang, cfg: consumer.Config{Lanes: 4}},
		{name: "lanes, tiny budget", fault: hang, cfg: consumer.Config{Lanes: 4, MaxBytes: 100, BatchBytes: 100}},
		{name: "lanes that retry", fault: func(context.Context) error { return fails }, cfg: consumer.Config{Lanes: 4, MaxAttempts: -1}},
		{name: "acks", fault: hang, cfg: consumer.Config{Checkpoints: consumer.Acks}},
		{name: "acks that never come", fault: func(context.Context) error { return nil }, cfg: consumer.Config{Checkpoints: consumer.Acks}},
		{name: "acks, tiny budget", fault: func(context.Context) error { return nil }, cfg: consumer.Config{Checkpoints: consumer.Acks, MaxBytes: 100, BatchBytes: 100}},
		{name: "acks of lanes", fault: hang, cfg: consumer.Config{Checkpoints: consumer.Acks, Lanes: 4}},
	} {
		t.Run(row.name, func(t *testing.T) {
			shards, size := row.shards, row.bytes
			if shards == 0 {
				shards, size = 40, 64<<10-16
			}
			bubble(t, shards, func(f *fixture) {
				cfg := row.cfg
				cfg.App, cfg.Streams = "billing", []string{"orders"}
				if cfg.MaxBytes == 0 && row.shards == 0 {
					cfg.MaxBytes, cfg.BatchBytes = 1<<20, 64<<10
				}
				for i, sh := range f.orders.Shards()[healthy:] {
					f.putIn(sh, fmt.Sprint("stuck", i), make([]byte, size))
				}
				var m meter
				process := func(ctx context.Context, batch *consumer.Batch) error {
					bytes := m.hold(batch)
					if stuck(batch) {
						if err := row.fault(ctx); err != nil {
							m.done(bytes, 0)
							return err
						}
						return nil
					}
					m.done(bytes, len(batch.Records))
					if cfg.Checkpoints == consumer.Acks {
						return batch.Ack(batch.Records...)
					}
					return nil
				}
				var w *consumer.Worker
				var err error
				if row.tx {
					w, err = consumer.NewTx(f.db, &cfg, consumer.TxProcessorFunc(func(ctx context.Context, _ *braid.Tx, batch *consumer.TxBatch) error {
						return process(ctx, &consumer.Batch{Records: batch.Records, Attempt: batch.Attempt})
					}))
				} else {
					w, err = consumer.New(f.db, &cfg, consumer.ProcessorFunc(process))
				}
				require.NoError(f, err)
				stop := f.start(w)
				for n := range records {
					for _, sh := range f.orders.Shards()[:healthy] {
						f.putIn(sh, fmt.Sprint("healthy", n), make([]byte, 100))
					}
				}
				time.Sleep(2 * cfg.Linger) // the last records linger, too
				synctest.Wait()
				m.mu.Lock()
				done, peak, most := m.healthy, m.peak, m.most
				m.mu.Unlock()
				require.Equal(f, healthy*records, done)
				budget := int(max(cfg.MaxBytes, 1))
				if row.shards > 0 {
					budget = 64 << 20
				}
				require.LessOrEqual(f, peak, budget+shards*most)
				if err := stop(); row.name == "stopped" {
					var stopped *consumer.StoppedShardsError
					require.ErrorAs(f, err, &stopped)
					require.Len(f, stopped.Shards, shards-healthy)
				} else {
					require.NoError(f, err)
				}
			})
		})
	}
}

// Processors that acknowledge only after collecting many records do not wait for each
// other, even if together they collect more than MaxBytes.
func TestCollectingProcessorsDoNotStarveEachOther(t *testing.T) {
	const shards, want = 40, 50
	bubble(t, shards, func(f *fixture) {
		var mu sync.Mutex
		collected := make(map[braid.ShardID][]consumer.Record)
		acked := 0
		p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			shard := batch.Lease().Shard
			if collected[shard] = append(collected[shard], batch.Records...); len(collected[shard]) < want {
				return nil
			}
			acked += len(collected[shard])
			return batch.Ack(collected[shard]...)
		})
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Acks, BatchBytes: 64 << 10, MaxBytes: 256 << 10}, p))
		for n := range want {
			for _, sh := range f.orders.Shards() {
				f.putIn(sh, fmt.Sprint(n), make([]byte, 1000))
			}
			synctest.Wait()
		}
		require.Equal(f, shards*want, acked)
		require.NoError(f, stop())
	})
}
