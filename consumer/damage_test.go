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

// A shard whose records cannot be read says so for as long as that is so, and goes on
// behind them when it is told to. Others do not mind.
func TestRecordsThatCannotBeReadAreNotPassedOver(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		f.putIn(f.orders.Shards()[0], "a", nil)
		f.putIn(f.orders.Shards()[0], "b", nil)
		f.putIn(f.orders.Shards()[1], "c", nil)
		described := f.orders.Shards()[0].Describe()
		first, next := described.First, described.Last
		damage := &braid.CorruptError{Shard: shard0, FirstLost: first, FirstAvailable: next, Err: braid.ErrCorrupt}
		source := &damagedSource{consumer.NewDBSource(f.db), damage}
		var seen []string
		w := f.worker(consumer.Config{Source: source, MaxRetryPause: time.Minute}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			for _, r := range batch.Records {
				seen = append(seen, r.PartitionKey)
			}
			return nil
		}))
		stop := f.start(w)
		require.Equal(f, []string{"c"}, seen)
		for range 10 {
			time.Sleep(time.Minute)
			synctest.Wait()
			status := f.status(shard0)
			require.Equal(f, consumer.StateRetrying, status.State)
			require.Empty(f, status.Wait, "the State says it")
			require.ErrorIs(f, status.Err, braid.ErrCorrupt)
		}
		require.Greater(f, f.status(shard0).Attempt, 10)
		require.NoError(f, w.App().Seek(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard0}, braid.AtSequence(next)))
		synctest.Wait()
		require.Equal(f, []string{"c", "b"}, seen)
		require.Equal(f, consumer.StateRunning, f.status(shard0).State)
		require.NoError(f, f.status(shard0).Err)
		require.NoError(f, stop())
	})
}

// damagedSource cannot read the first records of a shard.
type damagedSource struct {
	consumer.Source
	damage *braid.CorruptError
}

func (s *damagedSource) Read(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, maxRecords, maxBytes int) (consumer.Page, error) {
	page, err := s.Source.Read(ctx, stream, shard, from, maxRecords, maxBytes)
	if shard == s.damage.Shard && len(page.Records) > 0 && page.Records[0].SequenceNumber.Compare(s.damage.FirstAvailable) < 0 {
		return consumer.Page{}, s.damage
	}
	return page, err
}

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
