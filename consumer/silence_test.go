package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// These tests prove that no failure, and no wait for something that never comes, is
// silent.

func TestWithoutALoggerFailuresGoToTheDefaultOne(t *testing.T) {
	var lines logbook
	logger, out, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(logger)
		log.SetOutput(out)
		log.SetFlags(flags)
	})
	for _, given := range []*slog.Logger{nil, slog.New(slog.DiscardHandler)} {
		bubble(t, 1, func(f *fixture) {
			slog.SetDefault(lines.logger(slog.LevelDebug))
			defer slog.SetDefault(logger)
			f.put("a")
			stop := f.start(f.worker(consumer.Config{Logger: given, MaxAttempts: 2}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
				panic("out of cheese")
			})))
			time.Sleep(time.Hour)
			f.stopped(stop(), shard0)
		})
		got := lines.take()
		if given != nil {
			require.Empty(t, got, "a logger that discards is silence")
			continue
		}
		require.Len(t, got, 3, "and no word on what goes well")
		for i, level := range []string{"WARN", "WARN", "ERROR"} {
			require.Contains(t, got[i], "level="+level)
			require.Contains(t, got[i], "stream=orders shard=shardId-000000000000")
			require.Contains(t, got[i], "out of cheese")
			require.Contains(t, got[i], "silence_test.go", "the stack is there")
		}
		require.Contains(t, got[2], `msg="the shard is stopped"`)
	}
}

func TestRunSaysWhichShardsWereStopped(t *testing.T) {
	errBad := errors.New("bad record")
	bubble(t, 7, func(f *fixture) {
		for i := range 50 {
			f.put(fmt.Sprint(i)) // some in each shard
		}
		good := braid.ShardID("shardId-000000000003")
		mended := false
		w := f.worker(consumer.Config{MaxAttempts: 1}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			if mended || batch.Lease().Shard == good {
				return nil
			}
			return fmt.Errorf("%w in %s", errBad, batch.Lease().Shard)
		}))
		stop := f.start(w)
		time.Sleep(time.Minute)
		require.Equal(f, consumer.StateRunning, f.status(good).State)
		mended = true
		require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard1}))
		synctest.Wait()
		require.Zero(f, f.status(shard1).BehindRecords)

		err := stop()
		f.stopped(err, shard0, shard2, "shardId-000000000004", "shardId-000000000005", "shardId-000000000006")
		require.ErrorIs(f, err, errBad)
		var record *consumer.RecordError
		require.ErrorAs(f, err, &record)
		require.Equal(f, shard0, record.Record.ShardID)
		var shard *consumer.ShardError
		require.ErrorAs(f, err, &shard)
		require.Equal(f, consumer.LeaseKey{Stream: "orders", Shard: shard0}, shard.LeaseKey)
		require.Contains(f, err.Error(), "consumer: 5 shards are stopped: ")
		require.Contains(f, err.Error(), "bad record in shardId-000000000004")
		require.NotContains(f, err.Error(), "shardId-000000000006")
		require.True(f, strings.HasSuffix(err.Error(), "; and 1 more"), err)

		again := f.start(f.worker(consumer.Config{}, nothing))
		require.NoError(f, again(), "a worker that had no trouble")
	})
}

func TestRunTellsOfStoppedShardsAndOfThoseItLeavesBehind(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		for i := range 20 {
			f.put(fmt.Sprint(i))
		}
		hang := make(chan struct{})
		w := f.worker(consumer.Config{MaxAttempts: 1}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			if batch.Lease().Shard == shard0 {
				<-hang
			}
			return errors.New("no")
		}))
		f.start(w)
		ended, cancel := context.WithCancel(f.Context())
		cancel()
		err := w.Stop(ended)
		f.stopped(err, shard1)
		var stuck *consumer.HungShardsError
		require.ErrorAs(f, err, &stuck)
		require.Equal(f, []consumer.LeaseKey{{Stream: "orders", Shard: shard0}}, stuck.Shards)
		close(hang)
	})
}

func TestNamesAreChecked(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		for _, name := range []string{"", "or ders", "orders\n", "örders", "a/b", strings.Repeat("a", 129)} {
			for field, cfg := range map[string]*consumer.Config{
				"App":              {App: name, Streams: []string{"orders"}},
				"Streams[1]":       {App: "a", Streams: []string{"orders", name}},
				"DeadLetterStream": {App: "a", Streams: []string{"orders"}, DeadLetterStream: name},
			} {
				if field == "DeadLetterStream" && name == "" {
					continue // it is not a message
				}
				_, err := consumer.New(f.db, cfg, nothing)
				var invalid *braid.InvalidArgumentError
				require.ErrorAs(f, err, &invalid, "%q", name)
				require.Equal(f, field, invalid.Field)
				require.Equal(f, fmt.Sprintf("%.140q", name), invalid.Value)
				require.Contains(f, invalid.Rule, "1 to 128 characters")
			}
		}
		_, err := consumer.New(f.db, &consumer.Config{App: "a", Streams: []string{strings.Repeat("aZ0_.-12", 16)}}, nothing)
		require.NoError(f, err)

		var invalid *braid.InvalidArgumentError
		_, err = consumer.OpenApp(f.db, "a/b")
		require.ErrorAs(f, err, &invalid)
		require.Equal(f, "app", invalid.Field)
		_, err = consumer.OpenApp(nil, "a")
		require.ErrorAs(f, err, &invalid)
		require.Equal(f, "db", invalid.Field)
	})
}

// Names in another source follow its own rules, but the database cannot store a zero
// byte.
func TestNamesInAnotherSourceAreItsOwn(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		source := consumer.NewDBSource(f.db)
		_, err := consumer.New(f.db, &consumer.Config{App: "a", Source: source, Streams: []string{"topic: orders/1"}}, nothing)
		require.NoError(f, err)
		_, err = consumer.New(f.db, &consumer.Config{App: "a", Source: source, Streams: []string{"a\x00b"}}, nothing)
		require.ErrorIs(f, err, braid.ErrInvalidArgument)
	})
}

func TestAwaitedStreamsAreSaid(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var log logbook
		cfg := consumer.Config{Streams: []string{"ordres", "orders", "bills"}, DeadLetterStream: "daed", Logger: log.logger(slog.LevelInfo)}
		w := f.worker(cfg, nothing)
		about := func() (lines []string) {
			for _, line := range log.take() {
				if strings.Contains(line, "exist") {
					lines = append(lines, line)
				}
			}
			return lines
		}
		stop := f.start(w)
		require.Equal(f, []string{
			`level=WARN msg="a stream does not exist; waiting for it" app=billing stream=bills`,
			`level=WARN msg="the dead-letter stream does not exist; records that fail wait" app=billing stream=daed`,
			`level=WARN msg="a stream does not exist; waiting for it" app=billing stream=ordres`,
		}, about())
		status, err := w.App().Status(f.Context())
		require.NoError(f, err)
		require.Equal(f, []string{"bills", "ordres"}, status.AwaitedStreams)
		require.Equal(f, []string{"daed"}, status.AwaitedDeadLetterStreams)
		require.Equal(f, []string{"daed"}, status.DeadLetterStreams)
		require.True(f, status.CaughtUp(), "with what there is")

		cfg.WorkerID = "second"
		second := f.start(f.worker(cfg, nothing))
		f.split(shard0)
		for range 10 {
			f.put("a")
			time.Sleep(time.Hour)
		}
		require.Empty(f, about(), "it is said once")
		require.NoError(f, second())

		created := make(chan error, 1)
		go func() {
			created <- w.App().WaitFor(f.Context(), func(s consumer.Status) bool {
				return len(s.AwaitedStreams) == 1 && len(s.AwaitedDeadLetterStreams) == 0
			})
		}()
		synctest.Wait()
		for _, name := range []string{"bills", "daed"} {
			_, err = f.db.CreateStream(f.Context(), name, nil)
			require.NoError(f, err)
			synctest.Wait()
		}
		require.NoError(f, <-created)
		require.Equal(f, []string{
			`level=INFO msg="the stream exists now" app=billing stream=bills`,
			`level=INFO msg="the dead-letter stream exists now" app=billing stream=daed`,
		}, about())
		require.NoError(f, f.db.DeleteStream(f.Context(), "bills"))
		synctest.Wait()
		require.Equal(f, []string{`level=WARN msg="a stream does not exist; waiting for it" app=billing stream=bills`}, about())
		require.NoError(f, stop())

		status, err = w.App().Status(f.Context())
		require.NoError(f, err)
		require.Equal(f, []string{"bills", "ordres"}, status.AwaitedStreams, "without a worker, too")

		stop = f.start(f.worker(consumer.Config{Logger: log.logger(slog.LevelInfo)}, nothing))
		status, err = w.App().Status(f.Context())
		require.NoError(f, err)
		require.Empty(f, status.AwaitedStreams, "the typo was mended")
		require.Empty(f, about())
		require.NoError(f, stop())
	})
}

func TestPauseIsSaid(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var log logbook
		cfg := consumer.Config{Logger: log.logger(slog.LevelWarn)}
		stop := f.start(f.worker(cfg, nothing))
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		one := consumer.LeaseKey{Stream: "orders", Shard: shard1}
		for _, key := range []consumer.LeaseKey{{}, {Stream: "orders"}, one} {
			require.NoError(f, app.Pause(f.Context(), key))
		}
		require.NoError(f, stop())
		log.take()

		stop = f.start(f.worker(cfg, nothing)) // it was not told of the pause
		require.Equal(f, []string{
			`level=WARN msg="processing is paused" app=billing`,
			`level=WARN msg="processing is paused" app=billing stream=orders`,
			`level=WARN msg="processing is paused" app=billing stream=orders shard=shardId-000000000001`,
		}, log.take())
		status, err := app.Status(f.Context())
		require.NoError(f, err)
		require.True(f, status.Paused)
		require.Equal(f, []string{"orders"}, status.PausedStreams)
		require.False(f, status.Shards[0].Paused)
		require.True(f, status.Shards[1].Paused)
		for _, shard := range status.Shards {
			require.Equal(f, consumer.StatePaused, shard.State)
		}
		for _, key := range []consumer.LeaseKey{{}, {Stream: "orders"}, one} {
			require.NoError(f, app.Resume(f.Context(), key))
		}
		synctest.Wait()
		status, err = app.Status(f.Context())
		require.NoError(f, err)
		require.Empty(f, status.PausedStreams)
		require.Equal(f, consumer.StateRunning, status.Shards[1].State)
		require.Empty(f, log.take(), "that it goes on is no warning")
		require.NoError(f, stop())
	})
}
