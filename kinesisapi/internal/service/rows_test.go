package service

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func newService(t *testing.T, opts Options) *Service {
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	opts.Account, opts.Region, opts.Logger = "000000000000", "us-east-1", slog.New(slog.DiscardHandler)
	s, err := New(db, opts)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// A caller that still holds a deleted stream does not change the row of a later stream of
// the same name.
func TestRowOfAnotherStream(t *testing.T) {
	s := newService(t, Options{})
	create := &CreateStreamInput{StreamName: new("s")}
	_, err := s.CreateStream(t.Context(), Caller{}, create)
	require.NoError(t, err)
	old, err := s.db.Stream("s")
	require.NoError(t, err)
	_, err = s.DeleteStream(t.Context(), Caller{}, &DeleteStreamInput{StreamName: new("s")})
	require.NoError(t, err)
	change := func(row *streamRow) error {
		row.Policy = "old"
		return nil
	}
	require.ErrorIs(t, s.updateRow(t.Context(), old, change), braid.ErrStreamNotFound)
	_, err = s.CreateStream(t.Context(), Caller{}, create)
	require.NoError(t, err)
	require.ErrorIs(t, s.updateRow(t.Context(), old, change), braid.ErrStreamNotFound)
	current, err := s.db.Stream("s")
	require.NoError(t, err)
	row, err := s.readRow(t.Context(), current)
	require.NoError(t, err)
	require.Equal(t, modeOnDemand, row.Mode)
	require.Empty(t, row.Policy)
}

// A delayed deletion deletes only the stream that existed when it began.
func TestDeletionOfAnotherStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, Options{DeleteDelay: time.Minute})
		_, err := s.db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		_, err = s.DeleteStream(t.Context(), Caller{}, &DeleteStreamInput{StreamName: new("s")})
		require.NoError(t, err)
		require.NoError(t, s.db.DeleteStream(t.Context(), "s"))
		_, err = s.db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		synctest.Wait()
		_, err = s.db.Stream("s")
		require.NoError(t, err)
		require.Equal(t, active, s.statusOf("s"))
	})
}

// The row of a stream is deleted with it. The row of a later stream of the same name is
// not.
func TestRowsOfDeletedStreams(t *testing.T) {
	s := newService(t, Options{})
	create := func() *braid.Stream {
		_, err := s.CreateStream(t.Context(), Caller{}, &CreateStreamInput{StreamName: new("s")})
		require.NoError(t, err)
		stream, err := s.db.Stream("s")
		require.NoError(t, err)
		return stream
	}
	stored := func() (row streamRow) {
		require.NoError(t, s.db.View(t.Context(), func(tx *braid.Tx) (err error) {
			row, err = getStored(tx, "s")
			return err
		}))
		return row
	}
	old := create()
	require.NoError(t, s.db.DeleteStream(t.Context(), "s")) // by the application, which does not know the rows
	current := create()
	require.NoError(t, s.deleteRow(t.Context(), old))
	require.Equal(t, current.CreatedAt().UnixNano(), stored().Created)
	require.Equal(t, modeOnDemand, stored().Mode)
	require.NoError(t, s.deleteRow(t.Context(), current))
	require.Zero(t, stored())
}

// A limiter forgets callers that have not called for long.
func TestLimiterForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l limiter
		for range 3 {
			for i := range 10_000 {
				require.True(t, l.within(fmt.Sprint("day ", i%100), 10_000, 24*time.Hour))
				require.True(t, l.allow(fmt.Sprint(time.Now().Unix(), " ", i), 1))
				require.False(t, l.allow(fmt.Sprint(time.Now().Unix(), " ", i), 1))
				if i%100 == 0 {
					time.Sleep(time.Second)
				}
			}
			require.Less(t, len(l.calls), 1500)
		}
		require.False(t, l.within("day 0", 300, 24*time.Hour), "what still counts is there")
	})
}

// A subscription that begins while its consumer is being deregistered ends with the
// consumer.
func TestSubscriptionsOfDeregisteredConsumers(t *testing.T) {
	s := newService(t, Options{})
	ctx, c, arn := t.Context(), Caller{}, new("arn:aws:kinesis:us-east-1:000000000000:stream/s")
	_, err := s.CreateStream(ctx, c, &CreateStreamInput{StreamName: new("s"), ShardCount: new(int32(1))})
	require.NoError(t, err)
	for range 200 {
		registered, err := s.RegisterStreamConsumer(ctx, c, &RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: new("c")})
		require.NoError(t, err)
		consumer := &registered.Consumer.ConsumerARN
		var sub *Subscription
		var refused, failed error
		var both sync.WaitGroup
		both.Go(func() {
			sub, refused = s.SubscribeToShard(ctx, c, &SubscribeToShardInput{
				ConsumerARN: consumer, ShardId: new("0"), StartingPosition: &StartingPosition{Type: new(latest)},
			})
		})
		both.Go(func() { _, failed = s.DeregisterStreamConsumer(ctx, c, &ConsumerInput{ConsumerARN: consumer}) })
		both.Wait()
		require.NoError(t, failed)
		require.Empty(t, s.subscriptions.open)
		if refused == nil {
			for _, err := range sub.Events(ctx) {
				refused = err
			}
		}
		var e *Error
		require.ErrorAs(t, refused, &e)
	}
}

// Many goroutines create, change and delete streams and consumers at once, with delays.
// Afterwards no stream, consumer or row is left half done.
func TestStatusesAtOnce(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newService(t, Options{CreateDelay: delay, UpdateDelay: 2 * delay, DeleteDelay: delay})
			ctx, c, arn := t.Context(), Caller{}, new("arn:aws:kinesis:us-east-1:000000000000:stream/s")
			operations := []func() error{
				func() error {
					_, err := s.CreateStream(ctx, c, &CreateStreamInput{StreamName: new("s"), ShardCount: new(int32(2))})
					return err
				},
				func() error {
					_, err := s.DeleteStream(ctx, c, &DeleteStreamInput{StreamName: new("s"), EnforceConsumerDeletion: new(true)})
					return err
				},
				func() error {
					_, err := s.UpdateShardCount(ctx, c, &UpdateShardCountInput{StreamName: new("s"), TargetShardCount: new(int32(3)), ScalingType: new("UNIFORM_SCALING")})
					return err
				},
				func() error {
					_, err := s.UpdateStreamMode(ctx, c, &UpdateStreamModeInput{StreamARN: arn, StreamModeDetails: &StreamModeDetails{new(modeOnDemand)}})
					return err
				},
				func() error {
					_, err := s.EnableEnhancedMonitoring(ctx, c, &MonitoringInput{StreamARN: arn, ShardLevelMetrics: []string{"ALL"}})
					return err
				},
				func() error {
					_, err := s.RegisterStreamConsumer(ctx, c, &RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: new("c")})
					return err
				},
				func() error {
					_, err := s.DeregisterStreamConsumer(ctx, c, &ConsumerInput{StreamARN: arn, ConsumerName: new("c")})
					return err
				},
				func() error {
					_, err := s.DescribeStreamSummary(ctx, c, &StreamInput{StreamName: new("s")})
					return err
				},
				func() error {
					_, err := s.ListStreams(ctx, c, &ListStreamsInput{})
					return err
				},
			}
			var all sync.WaitGroup
			for i, operation := range operations {
				all.Go(func() {
					for n := range 30 {
						if err := operation(); err != nil {
							var e *Error
							require.ErrorAs(t, err, &e)
							require.Less(t, e.Status, 500, e.Message)
						}
						time.Sleep(time.Duration((i+n)%5) * 300 * time.Millisecond)
					}
				})
			}
			all.Wait()
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Empty(t, s.statuses, "all came to an end")
			if _, err := s.db.Stream("s"); err == nil {
				_, err = s.DeleteStream(ctx, c, &DeleteStreamInput{StreamName: new("s"), EnforceConsumerDeletion: new(true)})
				require.NoError(t, err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			require.NoError(t, s.db.View(ctx, func(tx *braid.Tx) error {
				_, err := tx.Get(rowKey("s"))
				require.ErrorIs(t, err, braid.ErrKeyNotFound, "a stream that is gone has no row")
				return nil
			}))
		})
	}
}
