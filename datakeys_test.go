package braid

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

// openTwoKeys returns a stream that was just opened, with two records and a data key for
// each, and the number of the second record.
func openTwoKeys(t *testing.T, disk *testdisk.Disk) (*DB, *Stream, SequenceNumber) {
	t.Helper()
	ring, err := NewKeyRing(map[string][]byte{"a": make([]byte, 32)})
	require.NoError(t, err)
	options := &Options{KeyProvider: ring, ReserveBytes: -1}
	db, err := open("/db", options, environment{fs: disk})
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	var last PutResult
	for range 2 {
		require.NoError(t, s.StartEncryption(t.Context(), "a"))
		last, err = s.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
	db, err = open("/db", options, environment{fs: disk})
	require.NoError(t, err)
	s, err = db.Stream("s")
	require.NoError(t, err)
	return db, s, last.SequenceNumber
}

func countRecords(ctx context.Context, s *Stream) (n int, err error) {
	for _, err := range s.Records(ctx, TrimHorizon()) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Until a trim is visible, its records can be read, so the data keys that they need stay.
func TestATrimOnItsWayTakesNoDataKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		db, s, second := openTwoKeys(t, disk)
		release := disk.Hold(func(op testdisk.Op) bool { return op.OnLog() && op.Syncs() })
		trimmed := make(chan error, 1)
		go func() { trimmed <- s.Trim(t.Context(), AtSequence(second)) }()
		<-disk.Held()
		n, err := countRecords(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		release()
		require.NoError(t, <-trimmed)
		n, err = countRecords(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Len(t, s.keys.rows, 1)
		require.Len(t, s.keys.opened, 1)
		require.NoError(t, db.Close())
	})
}

// While a reader waits for a data key, the records that need it are trimmed. It then reads the
// rest, or gets ErrTrimmed, but no error of damage.
func TestAReaderThatWaitsForADataKeyIsOvertakenByATrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s, second := openTwoKeys(t, testdisk.New())
		<-s.keys.turn()
		type result struct {
			n   int
			err error
		}
		read := make(chan result, 1)
		go func() {
			n, err := countRecords(t.Context(), s)
			read <- result{n, err}
		}()
		synctest.Wait() // for the turn
		require.NoError(t, s.Trim(t.Context(), AtSequence(second)))
		giveTurn(s.keys.turn())
		require.Equal(t, result{1, nil}, <-read)
		require.Zero(t, db.damaged.Load())
		require.NoError(t, db.Close())
	})
}
