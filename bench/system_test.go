package main

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A system that stored nothing would be fast.
func TestSystemsStoreWhatTheyAreGiven(t *testing.T) {
	values := newValues(kib)[:50]
	for _, durable := range []bool{true, false} {
		for _, sys := range append(systemsFor(durable), floorSystem, recycledFloorSystem) {
			t.Run(sys.name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "data")
				s := settings{durable: durable, shards: 4, callers: 2, batches: true}
				st, err := sys.open(dir, s)
				require.NoError(t, err)
				var group sync.WaitGroup
				for n := range 2 {
					p, err := st.producer(n)
					require.NoError(t, err)
					if sys.name == floorSystem.name || sys.name == recycledFloorSystem.name {
						// It has one producer, so they take turns.
						require.NoError(t, p.put(values[0]))
						require.NoError(t, p.putBatch(values))
						continue
					}
					group.Go(func() {
						if err := p.put(values[0]); err != nil {
							t.Error(err)
						}
						if err := p.putBatch(values); err != nil {
							t.Error(err)
						}
					})
				}
				group.Wait()
				require.NoError(t, st.close())
				require.GreaterOrEqual(t, diskBytes(dir), int64(2*51*kib/2), "half of it can be compressed")
			})
		}
	}
}

func TestScannersFindEverything(t *testing.T) {
	for _, sys := range []system{braidSystem, pebbleSystem} {
		t.Run(sys.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			s := settings{shards: 4, callers: 1, batches: true}
			st, err := sys.open(dir, s)
			require.NoError(t, err)
			require.NoError(t, fill(st, newValues(100), 100_000))
			require.NoError(t, st.close())
			st, err = sys.open(dir, s)
			require.NoError(t, err)
			records, bytes, err := st.(scanner).scan(allShards)
			require.NoError(t, err)
			require.Equal(t, [2]int64{1000, 100_000}, [2]int64{records, bytes})
			for shard := range s.shards {
				n, _, err := st.(scanner).scan(shard)
				require.NoError(t, err)
				require.Positive(t, n)
				records -= n
			}
			require.Zero(t, records)
			require.NoError(t, st.close())
		})
	}
}

func TestTrimmersTrimWhatIsBeforeTheMark(t *testing.T) {
	for _, sys := range []system{braidSystem, pebbleSystem} {
		t.Run(sys.name, func(t *testing.T) {
			st, err := sys.open(filepath.Join(t.TempDir(), "data"), settings{durable: true, shards: 4, callers: 1})
			require.NoError(t, err)
			values := newValues(100)
			require.NoError(t, fill(st, values, 10_000))
			mark := st.(trimmer).mark()
			require.NoError(t, fill(st, values, 5_000))
			require.NoError(t, st.(trimmer).trim(mark))
			records, _, err := st.(scanner).scan(allShards)
			require.NoError(t, err)
			require.EqualValues(t, 50, records)
			require.NoError(t, st.close())
		})
	}
}

func TestFollowersGetEveryRecord(t *testing.T) {
	for _, sys := range []system{braidSystem, jetstreamSystem, noteFloorSystem} {
		t.Run(sys.name, func(t *testing.T) {
			s := settings{shards: 2, callers: 1}
			st, err := sys.open(filepath.Join(t.TempDir(), "data"), s)
			require.NoError(t, err)
			got := make(chan byte, 200)
			for shard := range s.shards {
				require.NoError(t, st.(follower).follow(shard, func(v []byte) { got <- v[0] }))
			}
			p, err := st.producer(0)
			require.NoError(t, err)
			for i := range 100 {
				require.NoError(t, p.put([]byte{byte(i)}))
			}
			seen := make(map[byte]bool)
			for range 100 {
				seen[<-got] = true
			}
			require.Len(t, seen, 100)
			require.NoError(t, st.close())
		})
	}
}

var queueSystems = []system{braidSystem, jetstreamSystem, bboltSystem}

// Two receivers together get each record once, and acknowledged records do not come back when
// the store is reopened.
func TestReceiversShareTheRecords(t *testing.T) {
	for _, sys := range queueSystems {
		t.Run(sys.name, func(t *testing.T) {
			ctx, dir := t.Context(), filepath.Join(t.TempDir(), "data")
			s := settings{durable: true, shards: 2, callers: 1, queue: true}
			st, err := sys.open(dir, s)
			require.NoError(t, err)
			p, err := st.producer(0)
			require.NoError(t, err)
			for i := range 100 {
				require.NoError(t, p.put([]byte{byte(i)}))
			}
			var got []byte
			note := func(v []byte) { got = append(got, v[0]) }
			first, err := st.(queueStore).receiver(0)
			require.NoError(t, err)
			held, err := first.receive(ctx, 10, note)
			require.NoError(t, err)
			require.NotZero(t, held)
			second, err := st.(queueStore).receiver(1)
			require.NoError(t, err)
			for len(got) < 100 {
				n, err := second.receive(ctx, min(10, 100-len(got)), note)
				require.NoError(t, err)
				require.NotZero(t, n)
				require.NoError(t, second.acknowledge(ctx))
			}
			slices.Sort(got)
			for i := range 100 {
				require.EqualValues(t, i, got[i])
			}
			require.NoError(t, first.acknowledge(ctx))
			require.NoError(t, st.close())

			st, err = sys.open(dir, s)
			require.NoError(t, err)
			p, err = st.producer(0)
			require.NoError(t, err)
			require.NoError(t, p.put([]byte{200}))
			first, err = st.(queueStore).receiver(0)
			require.NoError(t, err)
			got = nil
			_, err = first.receive(ctx, 1, note)
			require.NoError(t, err)
			require.Equal(t, []byte{200}, got)
			require.NoError(t, st.close())
		})
	}
}

// Records that were not acknowledged come back.
func TestBboltReceivesAgainWhatWasNotAcknowledged(t *testing.T) {
	st, err := openBbolt(filepath.Join(t.TempDir(), "data"), settings{durable: true, callers: 1})
	require.NoError(t, err)
	p, err := st.producer(0)
	require.NoError(t, err)
	require.NoError(t, p.put([]byte("a")))
	r, err := st.(queueStore).receiver(0)
	require.NoError(t, err)
	r.(*bboltReceiver).hides = 1 // ns, shorter than a commit
	for range 3 {
		var got []string
		n, err := r.receive(t.Context(), 10, func(v []byte) { got = append(got, string(v)) })
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, []string{"a"}, got)
	}
	require.NoError(t, r.acknowledge(t.Context()))
	stopped, stop := context.WithCancel(t.Context())
	stop()
	n, err := r.receive(stopped, 10, func([]byte) {})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, n)
	require.NoError(t, st.close())
}

// A receive and an acknowledgement of one consumer take a sync each.
func TestSyncsOfAQueueAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		s := settings{durable: true, shards: 1, callers: 1, queue: true, syncs: &syncs}
		st, err := openBraid(filepath.Join(t.TempDir(), "data"), s)
		require.NoError(t, err)
		p, err := st.producer(0)
		require.NoError(t, err)
		require.NoError(t, p.put([]byte("a")))
		r, err := st.(queueStore).receiver(0)
		require.NoError(t, err)
		synctest.Wait() // until what opening has left to do is done; later writes wait for time
		before := syncs.Load()
		_, err = r.receive(t.Context(), 1, func([]byte) {})
		require.NoError(t, err)
		require.EqualValues(t, 1, syncs.Load()-before)
		require.NoError(t, r.acknowledge(t.Context()))
		require.EqualValues(t, 2, syncs.Load()-before)
		require.NoError(t, st.close())
	})
}

func TestValuesAreHalfCompressibleAndTheSameEachTime(t *testing.T) {
	a, b := newValues(100), newValues(100)
	require.Equal(t, a, b)
	require.NotEqual(t, a[0], a[1])
	require.Equal(t, make([]byte, 50), a[0][50:])
	cursor := startValues(a, 3)
	batch := make([][]byte, len(a)+1)
	cursor.fill(batch)
	require.Equal(t, batch[0], batch[len(a)], "it goes round")
	require.NotEqual(t, batch[0], batch[1])
}
