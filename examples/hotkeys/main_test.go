package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestTheHotShardIsSplitInHalves(t *testing.T) {
	var out strings.Builder
	require.NoError(t, demonstrate(t.Context(), &out))
	require.Equal(t, `shardId-000000000003: 12504 records, 241 KiB, 55 % of the stream's bytes
  xena           24 % of the shard
  cleo           12 % of the shard
  finn           12 % of the shard
  split it at 316854723495229321203445007994327138304: 45 % go below, 55 % above
shardId-000000000001: 2530 records, 67 KiB, 15 % of the stream's bytes
  no split is needed
shardId-000000000000: 2524 records, 67 KiB, 15 % of the stream's bytes
  no split is needed
shardId-000000000002: 2442 records, 65 KiB, 15 % of the stream's bytes
  no split is needed

shardId-000000000003 is split there, and the same is ordered again.

shardId-000000000005: 30 % of the stream's bytes
shardId-000000000004: 24 % of the stream's bytes
`, out.String())
}

// A counter is never too low, and too high by at most its error.
func TestTheSketchKeepsItsBounds(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 0))
	zipf := rand.NewZipf(random, 1.2, 1, 5000)
	s := newSketch(50)
	exact := make(map[string]int64)
	total := int64(0)
	for range 100_000 {
		key, bytes := fmt.Sprint(zipf.Uint64()), int64(1+random.IntN(100))
		s.add(key, bytes)
		exact[key] += bytes
		total += bytes
	}
	found := make(map[string]bool)
	for _, c := range s.top(50) {
		found[c.key] = true
		require.GreaterOrEqual(t, c.bytes, exact[c.key])
		require.LessOrEqual(t, c.bytes-c.error, exact[c.key])
		require.LessOrEqual(t, c.error, total/50)
	}
	for key, bytes := range exact {
		require.True(t, found[key] || bytes <= total/50, "%s has %d of %d bytes", key, bytes, total)
	}
}

// A directory is inspected, and does not change.
func TestADirectoryIsLookedAt(t *testing.T) {
	dir := t.TempDir()
	db, err := braid.Open(dir, nil)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2})
	require.NoError(t, err)
	for range 100 {
		_, err := s.PutRecord(t.Context(), "ann", []byte("data"))
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
	var out strings.Builder
	require.NoError(t, look(t.Context(), &out, dir, "orders", 1<<40))
	require.Equal(t, `shardId-000000000000: 100 records, 0 KiB, 100 % of the stream's bytes
  ann            100 % of the shard
  no split would help: nearly all is that of keys which lie together
shardId-000000000001: 0 records, 0 KiB, 0 % of the stream's bytes
  no split is needed
`, out.String())
	require.ErrorIs(t, look(t.Context(), &out, dir, "none", 1<<40), braid.ErrStreamNotFound)
}
