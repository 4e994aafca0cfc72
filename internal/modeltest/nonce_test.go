package modeltest

import (
	"bytes"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// No two blocks are encrypted with the same data key and nonce (the counter of the last record),
// whatever is copied, crashes, or goes back to an older copy, and whatever the clock says. Here
// copies of one database live on independently, and everything that any of them ever wrote is
// compared.
func TestNoNonceIsUsedTwice(t *testing.T) {
	rounds := 600
	if testing.Short() {
		rounds = 100
	}
	synctest.Test(t, func(t *testing.T) {
		type use struct {
			check   [16]byte // identifies the data key
			counter uint64
		}
		written := make(map[use][]byte)
		repeated, most := 0, 0
		ring, err := braid.NewKeyRing(map[string][]byte{"main": make([]byte, 32)})
		require.NoError(t, err)
		random := rand.New(rand.NewPCG(3, 4))
		disks := []*vfs.MemFS{vfs.NewCrashableMem()}
		for round := range rounds {
			i := random.IntN(len(disks))
			disk := disks[i]
			var offset atomic.Int64
			offset.Store(random.Int64N(int64(time.Hour)) - int64(30*time.Minute))
			opts := &braid.Options{KeyProvider: ring, Durability: braid.Durability(random.IntN(3)), MemtableBytes: 1 << 20}
			db, err := open("/db", opts, companion.Environment{FS: disk, Clock: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }})
			require.NoError(t, err)
			s, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 2})
			require.NoError(t, err)
			if round == 0 {
				require.NoError(t, s.StartEncryption(t.Context(), "main"))
			}
			for range 1 + random.IntN(5) {
				if random.IntN(4) == 0 {
					offset.Add(-int64(time.Second))
				}
				_, err := s.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "a", Data: []byte{byte(random.Uint32())}}, {PartitionKey: "b"}, {PartitionKey: "a"}, {PartitionKey: "b"}})
				require.NoError(t, err)
				if random.IntN(8) == 0 {
					require.NoError(t, s.StartEncryption(t.Context(), "main"))
				}
				if random.IntN(8) == 0 { // a copy of the current files
					disks = append(disks, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random}))
				}
			}
			checks := make(map[uint32][16]byte)
			lower, upper := layout.DataKeySpan()
			eachRow(t, db, lower, upper, func(key, value []byte) {
				stream, number, err := layout.DecodeDataKeyKey(key)
				require.NoError(t, err)
				row, err := layout.DecodeDataKeyRow(stream, number, value)
				require.NoError(t, err)
				checks[number] = row.Check
			})
			eachBlock(t, db, func(place layout.BlockKey, key, value []byte) {
				block, err := layout.DecodeBlock(key, value)
				require.NoError(t, err)
				require.True(t, block.Sealed)
				require.Contains(t, checks, block.DataKey)
				most = max(most, block.Count)
				u := use{checks[block.DataKey], place.Counter}
				if before := written[u]; before != nil {
					require.True(t, bytes.Equal(before, value), "two blocks are encrypted with one nonce")
					repeated++
				}
				written[u] = bytes.Clone(value)
			})
			var clone *vfs.MemFS
			if random.IntN(2) == 0 {
				clone = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
			}
			require.NoError(t, db.Close())
			if clone != nil { // the power was cut before
				disks[i] = clone
			}
			if len(disks) > 8 {
				disks = disks[1:]
			}
		}
		require.Greater(t, len(written), 5*rounds)
		require.Greater(t, repeated, rounds, "copies have blocks in common")
		require.Greater(t, most, 1, "blocks hold several records")
	})
}
