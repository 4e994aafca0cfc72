package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/consumer"
)

func TestAppsAndLag(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		require.Equal(t, "There are no applications.\n", k.ok("apps"))
		require.Equal(t, "[]\n", k.ok("apps", "--json"))
		require.Equal(t, "There are no applications.\n", k.ok("lag"))

		s := k.stream("orders", 1, 100) // one shard, so that it is certain which records are processed
		k.stream("clicks", 1, 1)
		consume(t, k.db, "billing", "orders", 30)
		consume(t, k.db, "audit", "clicks", 1)
		time.Sleep(10 * time.Minute)
		_, _, err := s.SplitShard(t.Context(), "0", nil)
		require.NoError(t, err)
		k.put(s, 100, 110)
		time.Sleep(30 * time.Second)
		k.ok("pause", "audit")
		golden(t, "apps.txt", k.ok("apps")+"\n"+k.ok("lag")+"\n"+k.ok("lag", "billing", "--all"))

		var apps []consumer.Status
		require.NoError(t, json.Unmarshal([]byte(k.ok("apps", "--json")), &apps))
		require.Equal(t, "billing", apps[1].App)
		require.NoError(t, json.Unmarshal([]byte(k.ok("lag", "billing", "--json")), &apps))
		require.Len(t, apps, 1)
		require.Equal(t, int64(80), apps[0].BehindRecords)
	})
}

// The exit code of lag is a check for scripts.
func TestLagHasBounds(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("orders", 1, 10)
		consume(t, k.db, "billing", "orders", 4)
		time.Sleep(time.Minute)
		k.ok("lag", "--max-records", "6", "--max-age", "1m")
		require.Equal(t, "application billing is 6 records behind, more than --max-records 5\n", k.fails(exitBehind, "lag", "--max-records", "5"))
		require.Equal(t, "application billing is 1m behind, more than --max-age 59s\n", k.fails(exitBehind, "lag", "billing", "--max-age", "59s"))
		k.ok("seek", "billing", "--to", "latest")
		require.Contains(t, k.ok("lag", "--max-records", "0", "--max-age", "0s"), "billing: caught up\n")
	})
}

func TestLagWatches(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 1, 10)
		consume(t, k.db, "billing", "orders", 4)
		watch := func(args ...string) (output func() string, stop func() int) {
			ctx, cancel := context.WithCancel(t.Context())
			var stdout, stderr buffer
			code := make(chan int, 1)
			go func() { code <- k.runTo(ctx, &stdout, &stderr, append([]string{"lag", "--watch"}, args...)...) }()
			synctest.Wait()
			return stdout.String, func() int {
				cancel()
				return <-code
			}
		}
		output, stop := watch("--interval", "10s")
		lines, stopLines := watch("--interval", "10s", "--json", "--max-records", "5")
		k.program = func(p *program) { p.terminal = true }
		screen, stopScreen := watch("--interval", "10s")
		time.Sleep(5 * time.Second)
		k.put(s, 10, 13)
		time.Sleep(10 * time.Second)
		require.Equal(t, exitOK, stop())
		require.Equal(t, exitBehind, stopLines(), "the last look decides")
		require.Equal(t, exitOK, stopScreen())
		golden(t, "watch.txt", output())
		require.Equal(t, 2, strings.Count(lines(), "\n"))
		for line := range strings.Lines(lines()) {
			require.True(t, json.Valid([]byte(line)))
		}
		require.Equal(t, strings.ReplaceAll(output(), "\n\n", "\n"), strings.ReplaceAll(screen(), "\x1b[H\x1b[2J", ""))
		require.Equal(t, 2, strings.Count(screen(), "\x1b[H\x1b[2J"))
	})
}

// A shard that fails is shown with its error.
func TestLagShowsWhatFails(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("orders", 1, 3)
		worker, err := consumer.New(k.db, &consumer.Config{
			App: "billing", Streams: []string{"orders", "later"}, WorkerID: "worker-1", MaxAttempts: 2, Logger: slog.New(slog.DiscardHandler),
		}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return errors.New("no\ttax\nat line 7") }))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- worker.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		got := k.ok("lag")
		require.Contains(t, got, "failed  worker-1")
		require.Contains(t, got, `no\ttax …`)
		require.NotContains(t, got, "line 7")
		require.Contains(t, k.ok("lag", "--json"), "line 7")
		require.Contains(t, got, "Stream later does not exist; the application waits for it.\n")
		require.Contains(t, k.ok("apps"), "later (awaited), orders       1  1 failed  worker-1")
		cancel()
		<-ended
	})
}

func TestSeekPauseAndResume(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 2, 100)
		consume(t, k.db, "billing", "orders", 100)
		behind := func() int64 {
			var apps []consumer.Status
			require.NoError(t, json.Unmarshal([]byte(k.ok("lag", "--json")), &apps))
			return apps[0].BehindRecords
		}
		require.Zero(t, behind())
		require.Equal(t, "Application billing continues at TRIM_HORIZON.\n", k.ok("seek", "billing", "--to", "start"))
		require.Equal(t, int64(100), behind())
		require.Equal(t, "Shard 0 of stream orders of application billing continues at LATEST.\n", k.ok("seek", "billing", "orders", "0", "--to", "latest"))
		require.Equal(t, s.Describe().Shards[1].Records, behind())
		number := s.Describe().Shards[1].Last.String()
		require.Contains(t, k.fails(exitFailure, "seek", "billing", "orders", "--to", number), "invalid argument")
		k.ok("seek", "billing", "orders", "1", "--to", number)
		require.Equal(t, int64(1), behind())
		k.ok("seek", "billing", "orders", "--to", "latest")
		require.Zero(t, behind())

		require.Equal(t, "Stream orders of application billing is paused.\n", k.ok("pause", "billing", "orders"))
		require.Contains(t, k.ok("apps"), "2 paused, orders paused")
		require.Equal(t, "Stream orders of application billing is resumed.\n", k.ok("resume", "billing", "orders"))
		require.Contains(t, k.ok("apps"), "2 unowned  ")
		k.ok("pause", "billing")
		require.Contains(t, k.ok("apps"), "paused as a whole")
		var did control
		require.NoError(t, json.Unmarshal([]byte(k.ok("resume", "billing", "--json")), &did))
		require.Equal(t, control{App: "billing"}, did)
		require.Contains(t, k.fails(exitNotFound, "seek", "billing", "nope", "--to", "start"), "no such stream")
		require.Contains(t, k.fails(exitNotFound, "pause", "billing", "orders", "9"), "no such shard")
	})
}
