package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// arrivals are the arrivals of the records, counted from the first one.
func arrivals(t *testing.T, s *braid.Stream) (after []time.Duration) {
	t.Helper()
	var first time.Time
	for rec, err := range s.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		if first.IsZero() {
			first = rec.ArrivalTime
		}
		after = append(after, rec.ArrivalTime.Sub(first).Round(time.Millisecond))
	}
	return after
}

// recorded creates a stream of a few records with pauses between them.
func recorded(k *kit) *braid.Stream {
	s := k.stream("orders", 2, 0)
	for i, pause := range []time.Duration{0, 10 * time.Second, 0, 10 * time.Minute, time.Second} {
		time.Sleep(pause)
		k.put(s, i, i+1)
	}
	return s
}

func TestReplayKeepsThePace(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []time.Duration
	}{
		{nil, []time.Duration{0, 10 * time.Second, 10 * time.Second, 610 * time.Second, 611 * time.Second}},
		{[]string{"--speed", "10"}, []time.Duration{0, time.Second, time.Second, 61 * time.Second, 61100 * time.Millisecond}},
		{[]string{"--speed", "0.5"}, []time.Duration{0, 20 * time.Second, 20 * time.Second, 1220 * time.Second, 1222 * time.Second}},
		{[]string{"--speed", "max"}, []time.Duration{0, 0, 0, 0, 0}},
		{[]string{"--max-pause", "30s"}, []time.Duration{0, 10 * time.Second, 10 * time.Second, 40 * time.Second, 41 * time.Second}},
		{[]string{"--speed", "2", "--max-pause", "10s", "--grep", "[034]"}, []time.Duration{0, 10 * time.Second, 10500 * time.Millisecond}},
	} {
		bothWays(t, func(t *testing.T, k *kit) {
			recorded(k)
			copied := k.stream("copy", 3, 0)
			var did replayed
			require.NoError(t, json.Unmarshal([]byte(k.ok(append([]string{"replay", "orders", "--to", "copy", "--json"}, test.args...)...)), &did))
			require.Equal(t, int64(len(test.want)), did.Records)
			require.Equal(t, test.want, arrivals(t, copied), test.args)
			if len(test.want) == 5 {
				require.Equal(t, k.ok("cat", "orders", "--template", content), k.ok("cat", "copy", "--template", content))
			}

			file := filepath.Join(t.TempDir(), "orders.ndjson")
			k.ok("export", "orders", file)
			fromFile := k.stream("from-file", 3, 0)
			k.ok(append([]string{"replay", "--file", file, "--to", "from-file"}, test.args...)...)
			require.Equal(t, test.want, arrivals(t, fromFile))
		})
	}
}

func TestReplayIsInterrupted(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		recorded(k)
		k.stream("copy", 1, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		k.ctx = ctx
		code, stdout, stderr := k.run("replay", "orders", "--to", "copy")
		require.Equal(t, exitInterrupted, code)
		require.Empty(t, stdout)
		require.Equal(t, "braid: interrupted\n", stderr)
		require.Equal(t, int64(3), k.db.Streams()[0].Describe().Records)
	})
}

// Kinesis gets the records at their pace; refused records are put again.
func TestReplayToKinesis(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		recorded(k)
		kinesis := kinesistest.New(t, kinesistest.Stream("target", 2))
		k.program = func(p *program) {
			p.kinesis = func(_ context.Context, endpoint, region string) (kinesisAPI, error) {
				require.Equal(t, "http://localhost:4567 eu-west-1", endpoint+" "+region)
				return kinesis.Kinesis(), nil
			}
		}
		kinesis.FailEntries("ProvisionedThroughputExceededException", 0)
		args := []string{"replay", "orders", "--kinesis", "target", "--endpoint", "http://localhost:4567", "--region", "eu-west-1", "--speed", "10"}
		began := time.Now()
		require.Equal(t, "5 records were replayed to target in 1m1.1s.\n"[:35], k.ok(args...)[:35])
		require.GreaterOrEqual(t, time.Since(began), 61*time.Second)
		kinesis.RequireRecords("target", "0", "1", "2", "3", "4")

		file := filepath.Join(t.TempDir(), "orders.braid")
		k.ok("export", "orders", file)
		open := k.program
		k.program = func(p *program) {
			open(p)
			p.open = nil // no database is needed
		}
		k.ok("replay", "--file", file, "--kinesis", "target", "--endpoint", "http://localhost:4567", "--region", "eu-west-1", "--speed", "max")
		require.Contains(t, k.fails(exitNotFound, "replay", "--file", file, "--kinesis", "nope", "--endpoint", "http://localhost:4567", "--region", "eu-west-1"),
			"stream nope of Kinesis: ")
	})
}

// A replay ends if Kinesis refuses records permanently.
func TestReplayToKinesisGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.stream("orders", 1, 1)
		kinesis := kinesistest.New(t, kinesistest.Stream("target", 1))
		k.program = func(p *program) {
			p.kinesis = func(context.Context, string, string) (kinesisAPI, error) { return kinesis.Kinesis(), nil }
		}
		for range attempts {
			kinesis.FailEntries("InternalFailure", 0)
		}
		require.Contains(t, k.fails(exitFailure, "replay", "orders", "--kinesis", "target"), "stream target of Kinesis refused the records 20 times: InternalFailure")
	})
}

// The configuration of the SDK, as far as it can be seen without a network.
func TestKinesisNeedsARegion(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	_, err := newKinesis(t.Context(), "", "")
	require.ErrorContains(t, err, "the region of Kinesis is missing: give --region, or set AWS_REGION")
	api, err := newKinesis(t.Context(), "http://localhost:1", "eu-west-1")
	require.NoError(t, err)
	require.NotNil(t, api)
}
