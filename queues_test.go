package braid

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// TestAMergedReadPassesDamageAndNothingElse: the last record of a shard is damaged. During a
// merged read, records are put to another shard, and then after the damage to the damaged
// shard. The damage is reported once. The read resumes at the first record that it has not
// seen, which is below the one after the damage.
func TestAMergedReadPassesDamageAndNothingElse(t *testing.T) {
	for _, records := range []int{4, 100} { // how many are read at once
		for _, apart := range []time.Duration{0, time.Millisecond} {
			t.Run(fmt.Sprint(records, apart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testMergedReadPassesDamage(t, records, apart) })
			})
		}
	}
}

// testMergedReadPassesDamage puts records whose numbers are a time apart, or consecutive.
func testMergedReadPassesDamage(t *testing.T, records int, apart time.Duration) {
	ctx := t.Context()
	mem := vfs.NewMem()
	disk := testdisk.On(mem)
	var ticks atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ticks.Add(1)) * apart) }
	reopen := func() (*DB, *Stream) {
		db, err := open(salvageFrom, &Options{TailBytes: -1, CacheBytes: -1, Logger: slog.New(slog.DiscardHandler)}, environment{fs: disk, clock: clock, byHand: true, tableBlock: 512})
		require.NoError(t, err)
		s, err := db.OpenStream(ctx, "s", &StreamOptions{Shards: 2})
		require.NoError(t, err)
		return db, s
	}
	db, s := reopen()
	random := rand.New(rand.NewPCG(3, 4))
	put := func(shard int, data []byte) {
		t.Helper()
		start := s.Shards()[shard].HashKeyRange().Start
		results, err := s.PutRecords(ctx, []Entry{{PartitionKey: "k", ExplicitHashKey: &start, Data: data}})
		require.NoError(t, err)
		require.NoError(t, results[0].Err)
	}
	var damaged []byte
	var want []string
	for i := range 10 {
		for shard := range 2 {
			data := append([]byte(fmt.Sprint(shard, "-", i, " ")), randomBytes(random, 1000)...)
			put(shard, data)
			if damaged = data; i < 9 || shard == 0 {
				want = append(want, string(data))
			}
		}
	}
	require.NoError(t, db.Close())
	db, _ = reopen() // the records are now in a table
	require.NoError(t, db.Close())
	_, content, at, err := testdisk.Find(mem, salvageFrom+"/store", damaged)
	require.NoError(t, err)
	content[at+len(damaged)/2] ^= 1

	db, s = reopen()
	synctest.Wait() // until Pebble has read what it wants to know of the tables
	var once atomic.Bool
	disk.Before(func(op testdisk.Op) error {
		if op.OnTable() && !op.Changes() && once.CompareAndSwap(false, true) { // when the first shard is read
			put(0, []byte("above what the read has seen"))
			put(1, []byte("behind the damage"))
		}
		return nil
	})
	want = append(want, "above what the read has seen", "behind the damage")
	var place companion.Place
	var got []string
	told := 0
	for from := uint64(0); from <= db.visible.Load(); {
		read, next, err := s.readMerged(ctx, from, records, 1<<20, &place)
		for _, r := range read {
			got = append(got, string(r.Data))
		}
		if err != nil {
			var damage *CorruptError
			require.True(t, errors.As(err, &damage), "%v", err)
			told++
			require.GreaterOrEqual(t, next, from)
		} else {
			require.Greater(t, next, from)
		}
		from = next
	}
	disk.Before(nil)
	require.True(t, once.Load())
	require.Equal(t, 1, told)
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i][:6], got[i][:6])
	}
	require.NoError(t, db.Close())
}
