package consumer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func TestApplicationBeginsWhereItsStartSays(t *testing.T) {
	for _, row := range []struct {
		name  string
		start func(middle time.Time) braid.Position
		want  []string
	}{
		{"trim horizon", func(time.Time) braid.Position { return braid.TrimHorizon() }, []string{"old", "middle", "new", "later"}},
		{"a time in the closed shard", func(middle time.Time) braid.Position { return braid.AtTime(middle) }, []string{"middle", "new", "later"}},
		{"a time after it", func(middle time.Time) braid.Position { return braid.AtTime(middle.Add(time.Second)) }, []string{"new", "later"}},
		{"a time to come", func(middle time.Time) braid.Position { return braid.AtTime(middle.Add(48 * time.Hour)) }, nil},
		{"latest", func(time.Time) braid.Position { return braid.Latest() }, []string{"later"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var seen journal
				f.put("old")
				time.Sleep(time.Hour)
				middle := time.Now()
				f.put("middle")
				f.split(shard0)
				time.Sleep(time.Hour)
				f.put("new")
				stop := f.start(f.worker(consumer.Config{Start: row.start(middle)}, consumer.ProcessorFunc(seen.collect)))
				f.put("later")
				synctest.Wait()
				require.Equal(f, row.want, seen.take())
				require.NoError(f, stop())
			})
		})
	}
}

func TestLatestIsWhereItWasWhenTheApplicationBegan(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var seen journal
		f.put("before")
		require.NoError(f, f.start(f.worker(consumer.Config{Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)))())
		f.put("between")
		f.split(shard0)
		f.put("between, too")
		stop := f.start(f.worker(consumer.Config{Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)))
		require.ElementsMatch(f, []string{"between", "between, too"}, seen.take())
		require.NoError(f, stop())
	})
}

// interruptedSource calls a function before it resolves a position.
type interruptedSource struct {
	consumer.DBSource
	before func(braid.ShardID)
}

func (s *interruptedSource) Resolve(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.Checkpoint, error) {
	s.before(shard)
	return s.DBSource.Resolve(ctx, stream, shard, from)
}

// Latest is one place for all shards, fixed when the call begins. A record that is put
// while the shards are looked at one after the other is processed, whichever shard it is
// in.
func TestLatestIsOnePlaceInAllShards(t *testing.T) {
	bubble(t, 4, func(f *fixture) {
		f.put("before")
		shards := f.orders.Shards()
		puts := 0
		looked := make(map[braid.ShardID]bool)
		put := func(shard braid.ShardID) { // into all of them, before each is first looked at
			if looked[shard] {
				return
			}
			looked[shard] = true
			for _, sh := range shards {
				key := sh.HashKeyRange().Start
				_, err := f.orders.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &key, Data: []byte("during")}})
				require.NoError(f, err)
				puts++
			}
		}
		source := &interruptedSource{consumer.NewDBSource(f.db).(consumer.DBSource), put}
		var seen journal
		stop := f.start(f.worker(consumer.Config{Source: source, Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, 16, puts)
		require.Len(f, seen.take(), puts, "where it begins")

		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		puts = 0
		clear(looked)
		require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()))
		synctest.Wait()
		require.Equal(f, 16, puts)
		require.GreaterOrEqual(f, len(seen.take()), puts, "where it is moved to")
		require.NoError(f, stop())
	})
}

func TestAnotherStartIsAnErrorAndNotIgnored(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		require.NoError(f, f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))())
		err := f.worker(consumer.Config{Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)).Run(f.Context())
		require.ErrorIs(f, err, braid.ErrInvalidArgument)
		require.ErrorContains(f, err, "TRIM_HORIZON")
	})
}

func TestStreamsAreProcessedFromTheMomentThatTheyAre(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			for _, r := range batch.Records {
				seen.add("%s %s", batch.Lease().Stream, r.Data)
			}
			return nil
		})
		cfg := consumer.Config{Streams: []string{"orders", "payments"}, Start: braid.Latest()}
		stop := f.start(f.worker(cfg, p))
		payments, err := f.db.CreateStream(f.Context(), "payments", nil)
		require.NoError(f, err)
		_, err = payments.PutRecord(f.Context(), "k", []byte("first"))
		require.NoError(f, err)
		synctest.Wait()
		require.Equal(f, []string{"payments first"}, seen.take())

		require.NoError(f, f.db.DeleteStream(f.Context(), "payments"))
		synctest.Wait()
		payments, err = f.db.CreateStream(f.Context(), "payments", nil)
		require.NoError(f, err)
		_, err = payments.PutRecord(f.Context(), "k", []byte("again"))
		require.NoError(f, err)
		synctest.Wait()
		require.Equal(f, []string{"payments again"}, seen.take(), "it shares nothing with the deleted one")
		require.NoError(f, stop())

		require.NoError(f, f.db.DeleteStream(f.Context(), "payments"))
		payments, err = f.db.CreateStream(f.Context(), "payments", nil)
		require.NoError(f, err)
		_, err = payments.PutRecord(f.Context(), "k", []byte("while nobody was there"))
		require.NoError(f, err)
		stop = f.start(f.worker(cfg, p))
		require.Equal(f, []string{"payments while nobody was there"}, seen.take())
		require.NoError(f, stop())
	})
}

// A stream that is deleted and created again under its name, even repeatedly before
// anybody looks, is processed from its beginning, and nothing of the old ones is left.
func TestStreamMadeAgainUnderItsNameBeginsAnew(t *testing.T) {
	for _, times := range []int{1, 4} {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			stop := f.start(f.worker(consumer.Config{Streams: []string{"orders", "payments"}, Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)))
			for round := range 3 {
				for range times { // at the same instant
					if _, err := f.db.Stream("payments"); err == nil {
						require.NoError(f, f.db.DeleteStream(f.Context(), "payments"))
					}
					payments, err := f.db.CreateStream(f.Context(), "payments", &braid.StreamOptions{Shards: 2 + round%2})
					require.NoError(f, err)
					f.putIn(payments.Shards()[1], "k", []byte("first"))
				}
				synctest.Wait()
				require.Equal(f, "first", seen.take()[0])
				require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
				status, err := mustApp(f, "billing").Status(f.Context())
				require.NoError(f, err)
				require.Zero(f, status.BehindRecords)
				require.Len(f, status.Shards, 1+2+round%2)
			}
			require.NoError(f, stop())
		})
	}
}

// halfBlind is a source that cannot look at one of its streams.
type halfBlind struct {
	consumer.Source
	blind *atomic.Bool
}

func (s halfBlind) Stream(ctx context.Context, name string) (consumer.StreamInfo, error) {
	if name == "refunds" && s.blind.Load() {
		return consumer.StreamInfo{}, errors.New("not now")
	}
	return s.Source.Stream(ctx, name)
}

func TestStreamThatCannotBeLookedAtHoldsUpNoOther(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		refunds, err := f.db.CreateStream(f.Context(), "refunds", nil)
		require.NoError(f, err)
		_, err = refunds.PutRecord(f.Context(), "k", []byte("refund"))
		require.NoError(f, err)
		source := halfBlind{consumer.NewDBSource(f.db), new(atomic.Bool)}
		source.blind.Store(true)
		var seen journal
		w := f.worker(consumer.Config{Streams: []string{"orders", "refunds"}, Source: source}, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		f.put("order")
		synctest.Wait()
		require.Equal(f, []string{"order"}, seen.take())
		source.blind.Store(false)
		time.Sleep(time.Minute)
		require.Equal(f, []string{"refund"}, seen.take())
		source.blind.Store(true)
		f.split(shard0) // so that the worker looks
		f.put("another")
		_, err = refunds.PutRecord(f.Context(), "k", []byte("another refund"))
		require.NoError(f, err)
		synctest.Wait()
		require.ElementsMatch(f, []string{"another", "another refund"}, seen.take(), "what is under way goes on")
		_, err = w.App().Status(f.Context())
		require.ErrorContains(f, err, "not now")
		require.NoError(f, stop())
	})
}
