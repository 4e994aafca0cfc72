package consumer_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// A record that cannot be read where an application begins holds up its own shard and no
// other one.
func TestDamageWhereAnApplicationBeginsIsItsShardsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		random := rand.New(rand.NewPCG(3, 4))
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		began := time.Now()
		time.Sleep(time.Second)
		var first []byte // record of the first shard
		for i := range 100 {
			for n, sh := range s.Shards() {
				data := make([]byte, 2000)
				for j := range data {
					data[j] = byte(random.Uint32())
				}
				if i == 0 && n == 0 {
					first = data
				}
				start := sh.HashKeyRange().Start
				_, err := s.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "key", Data: data, ExplicitHashKey: &start}})
				require.NoError(t, err)
			}
		}
		require.NoError(t, db.Close())
		flip(t, dir, first)

		db, err = braid.Open(dir, nil)
		require.NoError(t, err)
		defer db.Close()
		var seen journal
		w, err := consumer.New(db, &consumer.Config{App: "app", Streams: []string{"orders"}, Start: braid.AtTime(began)},
			consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				for _, rec := range batch.Records {
					seen.add("%s", rec.ShardID)
				}
				return nil
			}))
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		healthy := 0
		for _, id := range seen.take() {
			if id == string(s.Shards()[1].ID()) {
				healthy++
			}
		}
		require.Equal(t, 100, healthy)
		app, err := consumer.OpenApp(db, "app")
		require.NoError(t, err)
		status, err := app.Status(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, status.Shards[0].Err, braid.ErrCorrupt)
		require.NoError(t, status.Shards[1].Err)
		stop()
		<-done
	})
}

// flip changes one bit of data in the tables of a database that is closed.
func flip(t *testing.T, dir string, data []byte) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "store", "*.sst"))
	require.NoError(t, err)
	for _, name := range tables {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		if at := bytes.Index(content, data); at >= 0 {
			content[at+len(data)/2] ^= 1
			require.NoError(t, os.WriteFile(name, content, 0o600))
			return
		}
	}
	t.Fatal("no table has the record")
}
