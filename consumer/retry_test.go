package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func TestRecordThatAlwaysFails(t *testing.T) {
	poison := func(seen *journal) consumer.ProcessorFunc {
		return func(_ context.Context, batch *consumer.Batch) error {
			for _, r := range batch.Records {
				if strings.HasPrefix(string(r.Data), "poison") {
					panic("cannot swallow this")
				}
				seen.add("%s", r.Data)
			}
			return nil
		}
	}
	unique := func(lines []string) map[string]bool {
		set := make(map[string]bool)
		for _, line := range lines {
			set[line] = true
		}
		return set
	}
	all := map[string]bool{"a": true, "b": true, "c": true, "d": true}

	t.Run("stops its shard and no other", func(t *testing.T) {
		bubble(t, 2, func(f *fixture) {
			var seen journal
			f.put("a", "b", "poison", "c", "d") // for example a, b in one and c, d in the other
			poisoned := f.shardOf("poison")
			stop := f.start(f.worker(consumer.Config{MaxAttempts: 3}, poison(&seen)))
			time.Sleep(time.Hour)
			s := f.status(poisoned)
			require.Equal(f, consumer.StateFailed, s.State)
			require.ErrorContains(f, s.Err, "cannot swallow this")
			var record *consumer.RecordError
			require.ErrorAs(f, s.Err, &record)
			require.Equal(f, "poison", string(record.Record.Data))
			var panicked *consumer.PanicError
			require.ErrorAs(f, s.Err, &panicked)
			require.Contains(f, string(panicked.Stack), "retry_test.go")
			for _, other := range []braid.ShardID{shard0, shard1} {
				if other != poisoned {
					require.Equal(f, consumer.StateRunning, f.status(other).State)
					require.Zero(f, f.status(other).BehindRecords)
				}
			}
			require.Positive(f, s.BehindRecords)
			seen.take()
			app, err := consumer.OpenApp(f.db, "billing")
			require.NoError(f, err)
			require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: poisoned}))
			synctest.Wait()
			require.Equal(f, consumer.StateRetrying, f.status(poisoned).State, "it tries again")
			require.NoError(f, stop())
		})
	})
	t.Run("is skipped, and nothing else is", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			f.put("a", "b", "poison", "c", "poison too", "d")
			w := f.worker(consumer.Config{MaxAttempts: 2, SkipFailed: true}, poison(&seen))
			stop := f.start(w)
			time.Sleep(time.Hour)
			require.Equal(f, all, unique(seen.take()))
			require.Zero(f, f.status(shard0).BehindRecords)
			require.EqualValues(f, 2, w.Metrics().Skipped)
			require.NoError(f, stop())
		})
	})
	t.Run("goes to the dead-letter stream with its checkpoint", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			f.put("a", "b", "poison", "c", "d")
			dead, err := f.db.CreateStream(f.Context(), "dead", nil)
			require.NoError(f, err)
			w := f.worker(consumer.Config{MaxAttempts: 2, DeadLetterStream: "dead"}, poison(&seen))
			stop := f.start(w)
			time.Sleep(time.Hour)
			require.Equal(f, all, unique(seen.take()))
			require.NoError(f, stop())
			require.EqualValues(f, 1, w.Metrics().DeadLettered)
			var letters []consumer.DeadLetter
			for r, err := range dead.Records(f.Context(), braid.TrimHorizon()) {
				require.NoError(f, err)
				var letter consumer.DeadLetter
				require.NoError(f, json.Unmarshal(r.Data, &letter))
				letters = append(letters, letter)
			}
			require.Len(f, letters, 1)
			require.Equal(f, "poison", string(letters[0].Data))
			require.Equal(f, "orders", letters[0].Stream)
			require.Equal(f, shard0, letters[0].ShardID)
			require.Contains(f, letters[0].Error, "cannot swallow this")
			require.Equal(f, 2, letters[0].Attempts)
		})
	})
	t.Run("is named by the processor, so that those before it do not come again", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			f.put("a", "b", "poison", "c")
			stop := f.start(f.worker(consumer.Config{MaxAttempts: 2, SkipFailed: true}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				for _, r := range batch.Records {
					seen.add("%s", r.Data)
					if string(r.Data) == "poison" {
						return &consumer.RecordError{Record: r, Err: errors.New("no")}
					}
				}
				return nil
			})))
			time.Sleep(time.Hour)
			require.Equal(f, []string{"a", "b", "poison", "poison", "poison", "poison", "c"}, seen.take())
			require.NoError(f, stop())
		})
	})
}

func TestErrorsOfAProcessorAreNotTakenForThoseOfTheDatabase(t *testing.T) {
	for _, cause := range []error{braid.ErrStreamNotFound, braid.ErrClosed, braid.ErrFailed, consumer.ErrLeaseLost} {
		t.Run(cause.Error(), func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				f.put("a")
				var calls atomic.Int64
				stop := f.start(f.worker(consumer.Config{MaxAttempts: 3}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
					calls.Add(1)
					return fmt.Errorf("somewhere else: %w", cause)
				})))
				time.Sleep(time.Hour)
				require.EqualValues(f, 3, calls.Load())
				s := f.status(shard0)
				require.Equal(f, consumer.StateFailed, s.State)
				require.ErrorIs(f, s.Err, cause)
				require.ErrorIs(f, f.stopped(stop(), shard0), cause)
			})
		})
	}
}

func TestPausesBetweenAttemptsDoNotOverflow(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		var calls atomic.Int64
		stop := f.start(f.worker(consumer.Config{RetryPause: 10 * time.Second, MaxRetryPause: time.Minute, MaxAttempts: -1}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
			calls.Add(1)
			return errors.New("no")
		})))
		time.Sleep(10 * time.Hour)
		require.InDelta(f, 603, calls.Load(), 2)
		require.NoError(f, stop())
	})
}

func TestProcessorsThatCannotBeMadeAreTriedAgain(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		var seen journal
		calls := 0
		stop := f.start(f.worker(consumer.Config{}, consumer.PerLease(func(consumer.Lease) consumer.Processor {
			if calls++; calls < 3 {
				panic("not yet")
			}
			return consumer.ProcessorFunc(seen.collect)
		})))
		require.ErrorContains(f, f.status(shard0).Err, "not yet")
		time.Sleep(time.Minute)
		require.Equal(f, []string{"a"}, seen.take())
		require.NoError(f, stop())
	})
}

func TestProcessorThatEndsItsGoroutineStopsTheShard(t *testing.T) {
	for _, cfg := range []consumer.Config{{}, {Lanes: 3}, {CheckpointInterval: time.Minute}} {
		bubble(t, 1, func(f *fixture) {
			f.put("a")
			var calls atomic.Int64
			stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
				calls.Add(1)
				runtime.Goexit()
				return nil
			})))
			time.Sleep(time.Hour)
			require.EqualValues(f, 1, calls.Load())
			require.Equal(f, consumer.StateFailed, f.status(shard0).State)
			require.ErrorContains(f, f.stopped(stop(), shard0), "Goexit")
		})
	}
}

// A RecordError passes only records before every record that failed: several that are
// joined in any order, or that name a record of another batch, pass no other.
func TestRecordErrorPassesNoRecordThatFailed(t *testing.T) {
	no := errors.New("no")
	at := func(batch *consumer.Batch, i int) error {
		return &consumer.RecordError{Record: batch.Records[i], Err: no}
	}
	for _, test := range []struct {
		name  string
		err   func(*consumer.Batch) error
		again string // the first record of the second call
	}{
		{"one", func(b *consumer.Batch) error { return at(b, 2) }, "2"},
		{"wrapped", func(b *consumer.Batch) error { return fmt.Errorf("in vain: %w", at(b, 2)) }, "2"},
		{"joined", func(b *consumer.Batch) error { return errors.Join(no, at(b, 3), at(b, 1), at(b, 2)) }, "1"},
		{"joined deeply", func(b *consumer.Batch) error {
			return fmt.Errorf("%w and %w", at(b, 3), fmt.Errorf("also: %w", errors.Join(at(b, 2), at(b, 1))))
		}, "1"},
		{"nested", func(b *consumer.Batch) error { return &consumer.RecordError{Record: b.Records[3], Err: at(b, 1)} }, "1"},
		{"by As", func(b *consumer.Batch) error {
			return errors.Join(at(b, 3), asRecord{at(b, 1).(*consumer.RecordError)})
		}, "1"},
		{"of no record", func(b *consumer.Batch) error { return errors.Join(at(b, 3), &consumer.RecordError{Err: no}) }, "0"},
		{"of another shard", func(b *consumer.Batch) error {
			record := b.Records[3]
			record.ShardID = shard1
			return &consumer.RecordError{Record: record, Err: no}
		}, "0"},
		{"a nil pointer", func(*consumer.Batch) error { return (*consumer.RecordError)(nil) }, "0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				f.put("0", "1", "2", "3", "4")
				var firsts journal
				stop := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
					firsts.add("%s", batch.Records[0].Data)
					if len(batch.Records) < 5 || batch.Attempt > 1 {
						return nil
					}
					return test.err(batch)
				})))
				time.Sleep(time.Minute)
				require.Equal(f, []string{"0", test.again}, firsts.take())
				require.Zero(f, f.status(shard0).BehindRecords)
				require.NoError(f, stop())
			})
		})
	}
}

// asRecord is an error that is a RecordError only to errors.As.
type asRecord struct{ at *consumer.RecordError }

func (asRecord) Error() string { return "as a record" }

func (e asRecord) As(target any) bool {
	at, is := target.(**consumer.RecordError)
	if is {
		*at = e.at
	}
	return is
}

// Attempts are counted under one lease: they begin again after a restart.
func TestAttemptsBeginAgainAfterARestart(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		f.put("a")
		cfg := consumer.Config{MaxAttempts: 4, SkipFailed: true, RetryPause: time.Minute, MaxRetryPause: time.Minute}
		fails := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			seen.add("%d", batch.Attempt)
			return errors.New("no")
		})
		for range 3 {
			stop := f.start(f.worker(cfg, fails))
			time.Sleep(2*time.Minute + time.Second)
			require.Equal(f, []string{"1", "2", "3"}, seen.take())
			require.NoError(f, stop())
		}
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
	})
}

// A record whose dead letter the stream refuses stops the shard, with an error that names
// the record, its failure, and why the letter was refused.
func TestRefusedDeadLetterStopsTheShardAtItsRecord(t *testing.T) {
	for _, lanes := range []int{1, 3} {
		bubble(t, 1, func(f *fixture) {
			cannot := errors.New("cannot swallow this")
			_, err := f.db.CreateStream(f.Context(), "dead", &braid.StreamOptions{MaxRecordBytes: 1 << 10})
			require.NoError(f, err)
			put, err := f.orders.PutRecord(f.Context(), "k", make([]byte, 1<<10)) // base64 is longer
			require.NoError(f, err)
			w := f.worker(consumer.Config{MaxAttempts: 2, Lanes: lanes, DeadLetterStream: "dead"}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return cannot }))
			stop := f.start(w)
			time.Sleep(time.Hour)
			status := f.status(shard0)
			require.Equal(f, consumer.StateFailed, status.State)
			var at *consumer.RecordError
			require.ErrorAs(f, status.Err, &at)
			require.Equal(f, put.SequenceNumber, at.Record.SequenceNumber)
			require.ErrorIs(f, status.Err, cannot)
			require.ErrorIs(f, status.Err, braid.ErrInvalidArgument)
			require.ErrorContains(f, status.Err, "its dead letter is refused")
			require.EqualValues(f, 1, status.BehindRecords)
			require.Zero(f, w.Metrics().DeadLettered)
			require.ErrorIs(f, f.stopped(stop(), shard0), cannot)
		})
	}
}
