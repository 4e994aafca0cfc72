package braid

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
)

// Many bubbles run in one process, one after the other. Nothing that belongs to one, such as
// a channel in a pool, appears in the next, and each ends when its database is closed.
func TestManyBubblesInOneProcess(t *testing.T) {
	before := 0
	for i := range 50 {
		synctest.Test(t, func(t *testing.T) {
			db, err := Open(InMemory, &Options{MemtableBytes: 1 << 20, Durability: Durability(i % 3)})
			require.NoError(t, err)
			s, err := db.OpenStream(t.Context(), "s", &StreamOptions{Shards: 2})
			require.NoError(t, err)
			for j := range 3 {
				_, err := s.PutRecords(t.Context(), []Entry{{PartitionKey: fmt.Sprint(j), Data: make([]byte, 300_000)}})
				require.NoError(t, err)
				<-time.After(time.Hour)
			}
			require.NoError(t, db.Update(t.Context(), func(tx *Tx) error { return tx.Set([]byte("k"), nil) }))
			require.NoError(t, s.Trim(t.Context(), Latest()))
			require.NoError(t, db.Close())
		})
		if i == 10 {
			before = runtime.NumGoroutine()
		}
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before+2, "goroutines are left over")
}

// An idle database does nothing: a year with records, with followers of the stream and of a
// shard, and with a page that waits, takes almost no time.
func TestAnIdleYear(t *testing.T) {
	for _, mode := range []Durability{Sync, Interval, NoSync} {
		start := time.Now()
		synctest.Test(t, func(t *testing.T) {
			db, err := Open(InMemory, &Options{Durability: mode})
			require.NoError(t, err)
			s, err := db.OpenStream(t.Context(), "s", &StreamOptions{Shards: 2})
			require.NoError(t, err)
			_, err = s.PutRecord(t.Context(), "k", []byte("last year"))
			require.NoError(t, err)
			got := make(chan string, 10)
			follow := func(records func(context.Context, Position) func(func(Record, error) bool)) {
				for r, err := range records(t.Context(), Latest()) {
					if err != nil {
						return
					}
					got <- string(r.Data)
				}
			}
			sh := s.topology.Load().route(&put{record: layout.Record{PartitionKey: "k"}})
			go follow(func(ctx context.Context, p Position) func(func(Record, error) bool) { return s.Follow(ctx, p) })
			go follow(func(ctx context.Context, p Position) func(func(Record, error) bool) { return sh.Follow(ctx, p) })
			go func() {
				page, err := sh.GetRecords(t.Context(), Latest(), &GetRecordsOptions{Wait: true})
				if err == nil {
					got <- string(page.Records[0].Data)
				}
			}()
			<-time.After(25 * time.Hour) // the record expires and is trimmed
			synctest.Wait()
			groups := db.Metrics().Commits
			<-time.After(364 * 24 * time.Hour)
			require.Equal(t, groups, db.Metrics().Commits, "nothing was written")
			_, err = s.PutRecord(t.Context(), "k", []byte("happy new year"))
			require.NoError(t, err)
			for range 3 {
				require.Equal(t, "happy new year", <-got)
			}
			require.NoError(t, db.Close())
		})
		t.Logf("%s: a year took %v", mode, time.Since(start))
		require.Less(t, time.Since(start), 10*time.Second)
	}
}
