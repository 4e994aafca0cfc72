package braid

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A commit becomes visible step by step: the keys of its transactions, then the records, shard
// by shard, then the counter up to which everything is visible everywhere. So a reader of a
// record finds the keys that were written with it, and a reader of the stream never passes a
// place before all records below it are visible.
func TestAGroupIsShownInOrder(t *testing.T) {
	db, err := Open(InMemory, nil)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
	require.NoError(t, err)
	first, second := s.Shards()[0], s.Shards()[1]
	before := db.visible.Load()

	second.mu.Lock() // publishing the group waits for it, after the first shard is visible
	release := sync.OnceFunc(second.mu.Unlock)
	defer release()
	done := make(chan error, 1)
	go func() {
		done <- db.Update(t.Context(), func(tx *Tx) error {
			low, high := first.HashKeyRange().Start, second.HashKeyRange().Start
			return errors.Join(
				tx.Set([]byte("key"), []byte("value")),
				tx.PutEntry("s", Entry{PartitionKey: "k", ExplicitHashKey: &low}),
				tx.PutEntry("s", Entry{PartitionKey: "k", ExplicitHashKey: &high}))
		})
	}()
	for _, err := range first.Follow(t.Context(), TrimHorizon()) {
		require.NoError(t, err)
		break
	}
	require.NoError(t, db.View(t.Context(), func(tx *Tx) error {
		value, err := tx.Get([]byte("key"))
		require.Equal(t, "value", string(value), "the record is shown, and the key that was written with it is not")
		return err
	}))
	require.Equal(t, before, db.visible.Load(), "a place counts as visible before the records of all shards are shown")
	n, err := countRecords(t.Context(), s)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, done, "and the transaction has not returned")
	release()
	require.NoError(t, <-done)
	n, err = countRecords(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NoError(t, db.Close())
}
