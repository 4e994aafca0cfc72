package modeltest

import (
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/layout"
)

// open opens a database with a test's environment; its loops read ahead.
func open(dir string, options *braid.Options, env companion.Environment) (*braid.DB, error) {
	db, err := companion.Open(dir, options, env)
	if err != nil {
		return nil, err
	}
	readAhead(db.(*braid.DB))
	return db.(*braid.DB), nil
}

// readAhead makes loops over records of a database read ahead, from their third record on at the
// latest. It must be called before the first loop.
func readAhead(db *braid.DB) { inside.DBOf(db).SetPages(1, 2000) }

// openOn opens the database of a disk.
func openOn(files vfs.FS, options *braid.Options) (*braid.DB, error) {
	return open("/db", options, companion.Environment{FS: files})
}

// counter returns the counter of a number: it orders all records of a database.
func counter(n braid.SequenceNumber) uint64 { return inside.Counter(n) }

// numberIn returns the number of the shard's record with that counter.
func numberIn(sh *braid.Shard, counter uint64) braid.SequenceNumber {
	return inside.ShardOf(sh).Number(counter).(braid.SequenceNumber)
}

// visible returns the highest counter that readers can see.
func visible(db *braid.DB) uint64 { return companion.DBOf(db).Visible() }

// mustShard returns a shard that is known to exist.
func mustShard(s *braid.Stream, id braid.ShardID) *braid.Shard {
	sh, err := s.Shard(id)
	if err != nil {
		panic(err)
	}
	return sh
}

// openShards returns the number of the stream's shards that accept records.
func openShards(s *braid.Stream) (n int) {
	for _, sh := range s.Shards() {
		if !inside.ShardOf(sh).Closed() {
			n++
		}
	}
	return n
}

// hashKeyBeside returns the hash key k+n, modulo the size of the hash-key space.
func hashKeyBeside(k braid.HashKey, n int64) braid.HashKey {
	sum, _ := new(big.Int).SetString(k.String(), 10)
	sum.Add(sum, big.NewInt(n))
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 128))
	beside, err := braid.ParseHashKey(sum.String())
	if err != nil {
		panic(err)
	}
	return beside
}

// together runs the calls so that the committer groups their requests, in the order of the calls.
// It needs a bubble.
func together(db *braid.DB, calls ...func()) {
	held := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { _ = inside.DBOf(db).Hold(func() { <-held }) })
	synctest.Wait() // the committer is busy: later requests wait for it
	for _, call := range calls {
		running.Go(call)
		synctest.Wait()
	}
	close(held)
	running.Wait()
}

// twoKeys is a provider with the keys "a" and "b".
var twoKeys = func() *braid.KeyRing {
	ring, err := braid.NewKeyRing(map[string][]byte{"a": make([]byte, 32), "b": []byte(strings.Repeat("b", 32))})
	if err != nil {
		panic(err)
	}
	return ring
}()

// eachRow calls fn with each stored row of a range.
func eachRow(t *testing.T, db *braid.DB, lower, upper []byte, fn func(key, value []byte)) {
	t.Helper()
	it, err := inside.DBOf(db).Store().NewIter(lower, upper)
	require.NoError(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		value := it.Value()
		require.NoError(t, it.Error())
		fn(it.Key(), value)
	}
	require.NoError(t, it.Error())
	require.NoError(t, it.Close())
}

// eachBlock calls fn with each stored block of records, trimmed or not.
func eachBlock(t *testing.T, db *braid.DB, fn func(place layout.BlockKey, key, value []byte)) {
	t.Helper()
	eachRow(t, db, []byte{0x10}, []byte{0x11}, func(key, value []byte) {
		place, err := layout.DecodeBlockKey(key)
		require.NoError(t, err)
		fn(place, key, value)
	})
}
