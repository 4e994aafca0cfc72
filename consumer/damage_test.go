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

// A shard whose records cannot be read reports that for as long as it is so, and
// continues after them when it is told to. Other shards are not affected.
func TestRecordsThatCannotBeReadAreNotPassedOver(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		f.putIn(f.orders.Shards()[0], "a", nil)
		f.putIn(f.orders.Shards()[0], "b", nil)
		f.putIn(f.orders.Shards()[1], "c", nil)
		described := f.orders.Shards()[0].Describe()
		first, next := described.First, described.Last
		damage := &braid.CorruptError{Shard: shard0, FirstLost: first, FirstAvailable: next, Err: braid.ErrCorrupt}
		source := &wrappedSource{consumer.NewDBSource(f.db), func(_ context.Context, shard braid.ShardID, next func() (consumer.Page, error)) (consumer.Page, error) {
			page, err := next()
			if shard == shard0 && len(page.Records) > 0 && page.Records[0].SequenceNumber.Compare(damage.FirstAvailable) < 0 {
				return consumer.Page{}, damage
			}
			return page, err
		}}
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

// A record that cannot be read at the place where an application begins holds up only its
// own shard.
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

// An application continues on a salvaged database from its checkpoints, and the loss is
// reported to it like any other damage.
func TestAnApplicationGoesOnOverASalvagedDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, saved := t.TempDir(), filepath.Join(t.TempDir(), "saved")
		random := rand.New(rand.NewPCG(5, 6))
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		var victim []byte
		put := func(records int) {
			for i := range records {
				for n, sh := range s.Shards() {
					data := make([]byte, 2000)
					for j := range data {
						data[j] = byte(random.Uint32())
					}
					if i == records/2 && n == 0 {
						victim = data
					}
					start := sh.HashKeyRange().Start
					_, err := s.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "key", Data: data, ExplicitHashKey: &start}})
					require.NoError(t, err)
				}
			}
		}
		var seen journal
		run := func(db *braid.DB) (w *consumer.Worker, stop func()) {
			w, err := consumer.New(db, &consumer.Config{App: "app", Streams: []string{"orders"}, MaxRetryPause: time.Second},
				consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
					for _, rec := range batch.Records {
						seen.add("%s", rec.SequenceNumber)
					}
					return nil
				}))
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- w.Run(ctx) }()
			time.Sleep(time.Minute)
			synctest.Wait()
			return w, func() { cancel(); <-done }
		}
		put(10)
		_, stop := run(db)
		require.Len(t, seen.take(), 20)
		stop()
		put(90)
		require.NoError(t, db.Close())
		flip(t, dir, victim)
		logs, err := filepath.Glob(filepath.Join(dir, "store", "*.log"))
		require.NoError(t, err)
		for _, name := range logs { // a log that is no longer needed may have it, too
			content, err := os.ReadFile(name)
			require.NoError(t, err)
			if at := bytes.Index(content, victim[:100]); at >= 0 {
				content[at] ^= 1
				require.NoError(t, os.WriteFile(name, content, 0o600))
			}
		}
		report, err := braid.Salvage(t.Context(), dir, saved, nil)
		require.NoError(t, err)
		require.NotEmpty(t, report.Lost)
		missing := 0
		for _, lost := range report.Lost {
			require.True(t, lost.Exact)
			missing += int(lost.Records)
		}

		db, err = braid.Open(saved, nil)
		require.NoError(t, err)
		w, stop := run(db)
		status, err := w.App().Status(t.Context())
		require.NoError(t, err)
		found := seen.take()
		for i, lost := range report.Lost {
			require.ErrorIs(t, status.Shards[i].Err, braid.ErrCorrupt)
			require.NoError(t, w.App().Seek(t.Context(), consumer.LeaseKey{Stream: "orders", Shard: lost.Shard}, braid.AtSequence(lost.FirstAvailable)))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		found = append(found, seen.take()...)
		require.Len(t, found, 180-missing)
		once := make(map[string]bool)
		for _, number := range found {
			require.False(t, once[number], "records before the checkpoints do not come again")
			once[number] = true
		}
		stop()
		require.NoError(t, db.Close())
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
