package braid_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// TestHoursPassInMicroseconds is the recipe of docs/testing.md: code that uses
// braid runs in a synctest bubble, on the bubble's clock.
func TestHoursPassInMicroseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		defer db.Close()
		orders, err := db.OpenStream(t.Context(), "orders", nil)
		require.NoError(t, err)

		_, err = orders.PutRecord(t.Context(), "customer-42", []byte("yesterday's order"))
		require.NoError(t, err)
		<-time.After(24 * time.Hour) // in no time
		_, err = orders.PutRecord(t.Context(), "customer-42", []byte("today's order"))
		require.NoError(t, err)

		anHourAgo := braid.AtTime(time.Now().Add(-time.Hour))
		for rec, err := range orders.Records(t.Context(), anHourAgo) {
			require.NoError(t, err)
			require.Equal(t, "today's order", string(rec.Data))
		}
		require.NoError(t, orders.Trim(t.Context(), anHourAgo))
		require.EqualValues(t, 1, orders.Describe().Records)
	})
}

// A waiting reader is durably blocked, so a bubble's clock advances, and synctest.Wait
// returns when all readers are at the tip.
func TestAFollowerWaitsDurably(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		orders, err := db.OpenStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)

		var seen []string
		ended := make(chan error, 1)
		go func() {
			for rec, err := range orders.Follow(t.Context(), braid.Latest()) {
				if err != nil {
					ended <- err
					return
				}
				seen = append(seen, string(rec.Data))
			}
		}()
		synctest.Wait() // the follower is at the tip

		for _, data := range []string{"one", "two", "three"} {
			_, err = orders.PutRecord(t.Context(), data, []byte(data))
			require.NoError(t, err)
		}
		synctest.Wait() // the follower is at the tip again
		require.Equal(t, []string{"one", "two", "three"}, seen)

		require.NoError(t, db.Close())
		require.True(t, errors.Is(<-ended, braid.ErrClosed))
	})
}
