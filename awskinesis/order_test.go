package awskinesis_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
)

var (
	seeds = flag.Int("awskinesis.seeds", 40, "how many seeds TestOrderPerKey tries")
	seed  = flag.Uint64("awskinesis.seed", 0, "the only seed that TestOrderPerKey tries")
)

// Whatever happens to requests, single entries, listings and shards, a consumer sees the records of
// a key first in the order in which they were put; each acknowledged record is stored, and no
// refused one.
func TestOrderPerKey(t *testing.T) {
	for n := range uint64(*seeds) {
		if *seed != 0 {
			n = *seed - 1
		}
		t.Run(fmt.Sprint("seed=", n+1), func(t *testing.T) { chaos(t, n+1) })
		if *seed != 0 || t.Failed() {
			return
		}
	}
}

func chaos(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	opts := awskinesis.ProducerOptions{
		AggregateBytes: []int{0, 1 << 10, 51_200}[random.IntN(3)],
		Linger:         []time.Duration{0, 0, 30 * time.Millisecond}[random.IntN(3)],
		BufferBytes:    []int{0, 20_000}[random.IntN(2)],
		Requests:       []int{0, 1, 3}[random.IntN(3)],
		ShardRate:      []float64{0, 0.1, -1}[random.IntN(3)],
	}
	bubble(t, 1+random.IntN(4), opts, func(f *fixture) {
		f.client.mu.Lock()
		f.client.random = rand.New(rand.NewPCG(seed, 2))
		f.client.mu.Unlock()
		var mu sync.Mutex // guards outcomes
		outcomes := make(map[string]error)
		note := func(key string, data []byte, err error) {
			mu.Lock()
			defer mu.Unlock()
			_, twice := outcomes[key+" "+string(data)]
			require.False(f, twice, "two outcomes of %s", data)
			outcomes[key+" "+string(data)] = err
		}

		// Each goroutine has its own keys, and puts one call after the other.
		var all sync.WaitGroup
		for g := range 4 {
			random := rand.New(rand.NewPCG(seed, 10+uint64(g)))
			all.Go(func() {
				next := make(map[string]int)
				make1 := func() braid.Entry {
					key := fmt.Sprintf("key-%d-%d", g, random.IntN(4))
					next[key]++
					return braid.Entry{PartitionKey: key, Data: fmt.Appendf(nil, "%d %0*d", next[key], random.IntN(200), 0)}
				}
				for range 25 {
					time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
					ctx, cancel := context.Background(), func() {}
					if random.IntN(6) == 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(1+random.IntN(100))*time.Millisecond)
					}
					switch random.IntN(5) {
					case 0:
						e := make1()
						_, err := f.producer.PutRecord(ctx, e.PartitionKey, e.Data)
						note(e.PartitionKey, e.Data, err)
					case 1:
						e := make1()
						_, err := f.producer.PutRecordWait(ctx, e.PartitionKey, e.Data)
						note(e.PartitionKey, e.Data, err)
					case 2:
						for range 10 {
							e := make1()
							err := f.producer.PutRecordAsync(context.Background(), e.PartitionKey, e.Data, func(r braid.PutResult) { note(e.PartitionKey, e.Data, r.Err) })
							require.NoError(f, err)
						}
					default:
						put := f.producer.PutRecordsWait
						if random.IntN(3) == 0 {
							put = f.producer.PutRecords
						}
						var entries []braid.Entry
						for range 1 + random.IntN(60) {
							entries = append(entries, make1())
						}
						results, err := put(ctx, entries)
						for i := range entries {
							if err == nil {
								note(entries[i].PartitionKey, entries[i].Data, results[i].Err)
							} else {
								note(entries[i].PartitionKey, entries[i].Data, err)
							}
						}
						requirePrefix(f, entries, results)
					}
					cancel()
				}
			})
		}
		stop := make(chan struct{})
		var resharding sync.WaitGroup
		resharding.Go(func() { f.reshard(rand.New(rand.NewPCG(seed, 3)), stop) })
		all.Wait()
		if random.IntN(2) == 0 {
			require.NoError(f, f.producer.Flush(context.Background()))
		}
		close(stop)
		resharding.Wait()
		require.NoError(f, f.producer.Close(context.Background()))

		for _, mode := range []foreign{dropForeign, dropAggregate} {
			times := f.requireOrder(mode)
			for record, err := range outcomes {
				switch {
				case err == nil:
					require.Positive(f, times[record], "%s was acknowledged", record)
				case !errors.Is(err, braid.ErrOutcomeUnknown):
					require.Zero(f, times[record], "%s was refused: %v", record, err)
				}
			}
		}
		m := f.producer.Metrics()
		require.Zero(f, m.BufferedBytes)
		require.Zero(f, m.InFlight)
		require.Equal(f, int64(len(outcomes)), m.RecordsPut+m.Failed+m.Unknown)
	})
}

// requirePrefix requires that a call has stored a prefix of each key's records: none after one that
// failed.
func requirePrefix(t testing.TB, entries []braid.Entry, results []braid.PutResult) {
	t.Helper()
	failed := make(map[string]error)
	for i := range results {
		key := entries[i].PartitionKey
		if failed[key] != nil {
			require.Error(t, results[i].Err, "record after a failed one: %v", failed[key])
		} else {
			failed[key] = results[i].Err
		}
	}
}

// reshard splits and merges shards until it is stopped.
func (f *fixture) reshard(random *rand.Rand, stop chan struct{}) {
	stream, err := f.kit.DB().Stream("orders")
	require.NoError(f, err)
	reshard(f.T, stream, random, stop)
}

// reshard splits and merges shards of any stream until it is stopped.
func reshard(t testing.TB, stream *braid.Stream, random *rand.Rand, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(random.IntN(100)) * time.Millisecond):
		}
		var open []*braid.Shard
		for _, sh := range stream.Shards() {
			if !sh.Describe().Closed {
				open = append(open, sh)
			}
		}
		i := random.IntN(len(open))
		if len(open) < 6 && random.IntN(2) == 0 {
			_, _, err := stream.SplitShard(context.Background(), open[i].ID(), nil)
			require.NoError(t, err)
			continue
		}
		for j := range open {
			if next, ok := open[i].HashKeyRange().End.Next(); ok && open[j].HashKeyRange().Start == next {
				_, err := stream.MergeShards(context.Background(), open[i].ID(), open[j].ID())
				require.NoError(t, err)
				break
			}
		}
	}
}
