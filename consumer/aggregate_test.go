package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/kpl"
)

// join returns the aggregate of the records.
func join(t testing.TB, users []braid.Entry) []byte {
	t.Helper()
	var a kpl.Aggregator
	for _, user := range users {
		require.NoError(t, a.Add(user))
	}
	return a.AppendAggregate(nil)
}

func TestAggregatedRecords(t *testing.T) {
	// The shards of the two halves get records of both. Each half drops the records of the
	// other, since their producer sends them again.
	users := []braid.Entry{}
	for n := range 10 {
		users = append(users, braid.Entry{PartitionKey: fmt.Sprint("user", n), Data: []byte(fmt.Sprint("data", n))})
	}
	collect := func(seen *journal) consumer.ProcessorFunc {
		return func(_ context.Context, batch *consumer.Batch) error {
			for _, r := range batch.Records {
				seen.add("%s %s %d %v", r.PartitionKey, r.Data, r.SubSequenceNumber, r.Aggregated)
			}
			return nil
		}
	}
	t.Run("are taken apart", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			_, err := f.orders.PutRecord(f.Context(), "a", join(t, users))
			require.NoError(f, err)
			f.put("plain")
			stop := f.start(f.worker(consumer.Config{Deaggregate: true}, collect(&seen)))
			lines := seen.take()
			require.Len(f, lines, 11)
			require.Equal(f, "user3 data3 3 true", lines[3])
			require.Equal(f, "plain plain 0 false", lines[10])
			require.Zero(f, f.status(shard0).BehindRecords)
			require.NoError(f, stop())
		})
	})
	t.Run("are given out to the shard that they belong to", func(t *testing.T) {
		bubble(t, 2, func(f *fixture) {
			var seen, all journal
			low, high := f.orders.Shards()[0].HashKeyRange().Start, f.orders.Shards()[1].HashKeyRange().Start
			_, err := f.orders.PutRecords(f.Context(), []braid.Entry{
				{PartitionKey: "a", ExplicitHashKey: &low, Data: join(t, users)},
				{PartitionKey: "a", ExplicitHashKey: &high, Data: join(t, users)},
			})
			require.NoError(f, err)
			stop := f.start(f.worker(consumer.Config{Deaggregate: true}, collect(&seen)))
			lines := seen.take()
			require.Len(f, lines, 10)
			slices.Sort(lines)
			require.Len(f, slices.Compact(lines), 10)
			require.NoError(f, stop())
			stop = f.start(f.worker(consumer.Config{App: "keeper", Deaggregate: true, KeepForeign: true}, collect(&all)))
			require.Len(f, all.take(), 20)
			require.NoError(f, stop())
		})
	})
	t.Run("are checkpointed one by one", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			_, err := f.orders.PutRecord(f.Context(), "a", join(t, users))
			require.NoError(f, err)
			f.put("plain")
			var seen journal
			cfg := consumer.Config{Deaggregate: true, Checkpoints: consumer.Manual}
			for _, at := range []int{0, 3, 4} {
				stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
					seen.add("%s", batch.Records[0].Data)
					return batch.CheckpointAt(ctx, batch.Records[at])
				})))
				require.NoError(f, stop())
			}
			require.Equal(f, []string{"data0", "data1", "data5"}, seen.take())
			stop := f.start(f.worker(cfg, collect(&seen)))
			require.Equal(f, []string{"plain plain 0 false"}, seen.take())
			require.NoError(f, stop())
		})
	})
}

func TestAggregateComesAgainWholeIfItIsNotTakenApartAnyMore(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var users []braid.Entry
		for i := range 5 {
			users = append(users, braid.Entry{PartitionKey: "x", Data: []byte(fmt.Sprint(i))})
		}
		carrier := join(t, users)
		_, err := f.orders.PutRecord(f.Context(), "a", carrier)
		require.NoError(f, err)
		stop := f.start(f.worker(consumer.Config{Deaggregate: true, Checkpoints: consumer.Manual}, consumer.ProcessorFunc(func(ctx context.Context, b *consumer.Batch) error {
			r := b.Records[1] // built from its exported fields
			return b.CheckpointAt(ctx, consumer.Record{Record: r.Record, SubSequenceNumber: r.SubSequenceNumber, Aggregated: r.Aggregated, Partial: r.Partial})
		})))
		require.NoError(f, stop())
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		var seen journal
		stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{string(carrier)}, seen.take())
		require.NoError(f, stop())
	})
}

func TestEndOfAPageThatIsNotForTheProcessorIsDone(t *testing.T) {
	for _, lanes := range []int{1, 4} {
		bubble(t, 2, func(f *fixture) {
			low, high := f.orders.Shards()[0].HashKeyRange().Start, f.orders.Shards()[1].HashKeyRange().Start
			foreign := join(t, []braid.Entry{{PartitionKey: "x", ExplicitHashKey: &high, Data: []byte("x")}})
			_, err := f.orders.PutRecords(f.Context(), []braid.Entry{
				{PartitionKey: "a", ExplicitHashKey: &low, Data: []byte("own")},
				{PartitionKey: "a", ExplicitHashKey: &low, Data: foreign},
			})
			require.NoError(f, err)
			var seen journal
			w := f.worker(consumer.Config{Deaggregate: true, Lanes: lanes}, consumer.ProcessorFunc(seen.collect))
			stop := f.start(w)
			require.NoError(f, w.App().WaitFor(f.Context(), consumer.Status.CaughtUp))
			require.Equal(f, []string{"own"}, seen.take())
			require.NoError(f, stop())
		})
	}
}
