package consumer_test

import (
	"context"
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
			require.Equal(f, consumer.WaitRetry, status.Wait)
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
