package braid

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/companion"
)

func TestChangedTellsOfStreamsAndShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		changes := func(change func()) (n int) {
			changed := db.Changed()
			change()
			synctest.Wait()
			select {
			case <-changed:
				return 1
			default:
				return 0
			}
		}
		var s *Stream
		require.Equal(t, 1, changes(func() {
			s, err = db.CreateStream(t.Context(), "orders", &StreamOptions{Shards: 2, Retention: time.Hour})
			require.NoError(t, err)
		}))
		require.Equal(t, 0, changes(func() {
			_, err := s.PutRecord(t.Context(), "k", nil)
			require.NoError(t, err)
		}))
		require.Equal(t, 1, changes(func() {
			_, _, err := s.SplitShard(t.Context(), shardID(0), nil)
			require.NoError(t, err)
		}))
		require.Equal(t, 1, changes(func() {
			_, err := s.MergeShards(t.Context(), shardID(2), shardID(3))
			require.NoError(t, err)
		}))
		require.Equal(t, 0, changes(func() { require.NoError(t, s.Trim(t.Context(), Latest())) }))
		require.Equal(t, 1, changes(func() { time.Sleep(3 * time.Hour) }), "closed shards expire")
		require.Equal(t, 1, changes(func() { require.NoError(t, db.DeleteStream(t.Context(), "orders")) }))
		require.Equal(t, 1, changes(func() { require.NoError(t, db.Close()) }))
	})
}

func TestPositionsHaveATextThatCanBeRead(t *testing.T) {
	n := newSequenceNumber(1_700_000_000, 1_700_000_000_000_000_001, 1_700_000_000, 3)
	for _, p := range []Position{
		TrimHorizon(), Latest(), AtSequence(n), AfterSequence(n),
		AtTime(time.Unix(1_700_000_000, 1)), AtTime(time.Unix(0, 0)), AtTime(time.Unix(1_700_000_000, 0).In(time.FixedZone("", 3600))),
	} {
		text, err := p.MarshalText()
		require.NoError(t, err)
		got := Latest()
		require.NoError(t, got.UnmarshalText(text), "%s", text)
		require.Equal(t, p, got)
	}
	for _, text := range []string{"", "trim_horizon", "TRIM_HORIZON ", "LATEST 1", "AT_SEQUENCE_NUMBER", "AT_SEQUENCE_NUMBER 0", "AFTER_SEQUENCE_NUMBER x", "AT_TIMESTAMP yesterday", "AT_TIMESTAMP 2024-01-01T00:00:00+01:00", "AT"} {
		got := Latest()
		err := got.UnmarshalText([]byte(text))
		require.ErrorIs(t, err, ErrInvalidArgument, "%q", text)
		require.Equal(t, Latest(), got, "it is as it was")
	}
}

func TestUnmeteredReadsAreNoneOfTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		defer db.Close()
		s, err := db.CreateStream(t.Context(), "orders", &StreamOptions{Shards: 1, Capacity: Capacity{Mode: Provisioned}})
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "k", []byte("data"))
		require.NoError(t, err)
		sh := s.Shards()[0]
		for range 100 {
			page, err := sh.GetRecords(t.Context(), TrimHorizon(), &GetRecordsOptions{Unmetered: true})
			require.NoError(t, err)
			require.Len(t, page.Records, 1)
		}
		for range 5 {
			_, err := sh.GetRecords(t.Context(), TrimHorizon(), nil)
			require.NoError(t, err, "nothing was charged for them")
		}
		_, err = sh.GetRecords(t.Context(), TrimHorizon(), nil)
		require.ErrorIs(t, err, ErrThroughputExceeded)
	})
}

func TestErrorsAboutLeasesAreThoseOfTheAPI(t *testing.T) {
	db, err := Open(InMemory, nil)
	require.NoError(t, err)
	err = db.View(t.Context(), func(tx *Tx) error {
		require.NoError(t, db.Close())
		rows := companion.TxOf(tx)
		_, err := rows.Get([]byte{0x08})
		require.ErrorIs(t, err, ErrClosed)
		for _, err = range rows.Scan([]byte{0x08}, []byte{0x09}) {
			require.ErrorIs(t, err, ErrClosed)
		}
		return err
	})
	require.ErrorIs(t, err, ErrClosed)
}
