package braid

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	for _, dir := range []string{InMemory, t.TempDir()} {
		db, err := Open(dir, nil)
		require.NoError(t, err)
		ctx := context.Background()
		s, err := db.OpenStream(ctx, "orders", &StreamOptions{Shards: 4})
		require.NoError(t, err)
		for i := range 100 {
			res, err := s.PutRecord(ctx, fmt.Sprintf("k%d", i), []byte("hello"))
			require.NoError(t, err)
			require.False(t, res.SequenceNumber.IsZero())
		}
		n := 0
		for rec, err := range s.Records(ctx, TrimHorizon()) {
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("k%d", n), rec.PartitionKey)
			n++
		}
		require.Equal(t, 100, n)
		require.NoError(t, db.Update(ctx, func(tx *Tx) error {
			_, err := tx.Get([]byte("a"))
			require.ErrorIs(t, err, ErrKeyNotFound)
			tx.Set([]byte("a"), []byte("1"))
			return tx.PutRecord("orders", "tx", nil)
		}))
		require.NoError(t, db.View(ctx, func(tx *Tx) error {
			v, err := tx.Get([]byte("a"))
			require.NoError(t, err)
			require.Equal(t, "1", string(v))
			return nil
		}))
		require.NoError(t, s.Trim(ctx, Latest()))
		for range s.Records(ctx, TrimHorizon()) {
			t.Fatal("trimmed")
		}
		require.NoError(t, db.DeleteStream(ctx, "orders"))
		require.NoError(t, db.Close())
		if dir != InMemory {
			start := time.Now()
			db, err = Open(dir, nil)
			require.NoError(t, err)
			t.Log(time.Since(start))
			require.NoError(t, db.Close())
		}
	}
}
