package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestCreate(t *testing.T) {
	k := newKit(t)
	require.Contains(t, k.ok("create", "orders", "--shards", "3", "--retention", "7d", "--retention-bytes", "1GiB", "--max-record", "2MiB", "--tag", "a=b"),
		"Stream orders has 3 open shards:\n")
	s, err := k.db.Stream("orders")
	require.NoError(t, err)
	d := s.Describe()
	require.Equal(t, 7*24*time.Hour, d.Retention)
	require.Equal(t, int64(1<<30), d.RetentionBytes)
	require.Equal(t, 2<<20, d.MaxRecordBytes)
	require.Equal(t, map[string]string{"a": "b"}, d.Tags)
	require.Contains(t, k.fails(exitFailure, "create", "orders"), "stream already exists")
	require.NoError(t, json.Unmarshal([]byte(k.ok("create", "load", "--on-demand", "--retention", "unlimited", "--json")), &d))
	require.Equal(t, braid.OnDemand, d.Capacity.Mode)
	require.Len(t, d.Shards, 4)
	require.Negative(t, d.Retention)
	require.Contains(t, k.fails(exitFailure, "create", "a/b"), "invalid argument")
}

func TestReshard(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("orders", 1, 0)
		require.Equal(t, "Stream orders has 2 open shards:\nSHARD  HASH KEYS   PARENTS\n    1  0 – 50 %    0\n    2  50 – 100 %  0\n", k.ok("split", "orders", "0"))
		require.Equal(t, "Stream orders has 1 open shard:\nSHARD  HASH KEYS  PARENTS\n    3  0 – 100 %  1, 2\n", k.ok("merge", "orders", "shardId-2", "1"))
		require.Contains(t, k.ok("split", "orders", "3", "--at", "170141183460469231731687303715884105728"), "50 – 100 %")
		var d braid.StreamDescription
		require.NoError(t, json.Unmarshal([]byte(k.ok("scale", "orders", "8", "--json")), &d))
		open := 0
		for i := range d.Shards {
			if !d.Shards[i].Closed {
				open++
			}
		}
		require.Equal(t, 8, open)
		require.Contains(t, k.fails(exitFailure, "split", "orders", "0"), "must be an open shard")
		require.Contains(t, k.fails(exitFailure, "scale", "orders", "0"), "1 to 10000")
	})
}

func TestRetention(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 2, 10)
		require.Equal(t, "Stream orders keeps records for 24h.\n", k.ok("retention", "orders"))
		require.Equal(t, "Stream orders keeps records for 7d.\n", k.ok("retention", "orders", "7d"))
		require.Equal(t, "Stream orders keeps records forever.\n", k.ok("retention", "orders", "unlimited"))
		time.Sleep(30 * time.Hour)
		k.put(s, 10, 13)
		require.Equal(t, "records of stream orders that are older than 25h are removed, which cannot be undone: confirm it with --yes\n",
			k.fails(exitUsage, "retention", "orders", "25h"))
		require.Equal(t, int64(13), s.Describe().Records)
		require.Equal(t, "Stream orders keeps records for 25h.\n", k.ok("retention", "orders", "25h", "--yes"))
		require.Equal(t, int64(3), s.Describe().Records)
		require.Equal(t, "Stream orders keeps records for 25h, limited to the newest 5 GiB.\n", k.ok("retention", "orders", "--bytes", "5GiB"))
		require.Contains(t, k.fails(exitUsage, "retention", "orders", "--bytes", "3"), "the oldest records of stream orders are removed, until about 3 bytes of 12 bytes are left")
		var row streamRow
		require.NoError(t, json.Unmarshal([]byte(k.ok("retention", "orders", "--bytes", "0", "--json")), &row))
		require.Zero(t, row.RetentionBytes)
		require.Equal(t, "25h0m0s", row.Retention)
		require.Contains(t, k.fails(exitFailure, "retention", "orders", "1h", "--yes"), "24 hours to 8760 hours")
	})
}

func TestTrim(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 2, 10)
		time.Sleep(time.Hour)
		k.put(s, 10, 13)
		require.Equal(t, "of the records of stream orders (13 records, 42 bytes), those before AT_TIMESTAMP 2000-01-01T00:30:00Z are removed, "+
			"which cannot be undone: confirm it with --yes\n", k.fails(exitUsage, "trim", "orders", "--before", "-30m"))
		require.Equal(t, "10 records were removed from stream orders, which now has 3 records of 12 bytes.\n",
			k.ok("trim", "orders", "--before", "-30m", "--yes"))
		require.Equal(t, int64(3), s.Describe().Records)
		require.Contains(t, k.ok("trim", "orders", "--before", "latest", "--yes", "--json"), `"Records": 0`)
	})
}

// On a terminal, the program asks.
func TestTrimAsks(t *testing.T) {
	k := newKit(t)
	s := k.stream("orders", 1, 5)
	k.program = func(p *program) { p.interactive = true }
	for _, answer := range []string{"no\n", "", "y\n"} {
		k.stdin = answer
		code, _, stderr := k.run("trim", "orders", "--before", "latest")
		require.Equal(t, exitFailure, code)
		require.Contains(t, stderr, "Type yes to continue: ")
		require.Contains(t, stderr, "not confirmed: nothing was done\n")
		require.Equal(t, int64(5), s.Describe().Records)
	}
	k.stdin = "yes\n"
	code, stdout, _ := k.run("trim", "orders", "--before", "latest")
	require.Equal(t, exitOK, code)
	require.True(t, strings.HasPrefix(stdout, "5 records were removed"))
	require.Zero(t, s.Describe().Records)
}
