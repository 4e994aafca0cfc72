package braid

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// A change of the period stores a floor, which may lie above every record. When the
// clock has gone back at the next opening, what is put must not lie below it.
func TestNothingIsPutBelowTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		env := environment{fs: vfs.NewMem(), clock: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }}
		db, err := open("/db", nil, env)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		<-time.After(1000 * time.Hour)
		require.NoError(t, s.IncreaseRetention(t.Context(), 48*time.Hour))
		require.NoError(t, db.Close())
		offset.Store(-int64(1000 * time.Hour))
		db, err = open("/db", nil, env)
		require.NoError(t, err)
		s, err = db.Stream("s")
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
		require.EqualValues(t, 1, s.Describe().Records)
		require.NoError(t, db.Close())
	})
}

// Records age by the time that has passed, and not by what the wall clock says:
// while a database is open, a step of the clock removes nothing and keeps
// nothing. When it is opened, the wall clock is trusted.
func TestStepsOfTheClockMakeNoRecordOlder(t *testing.T) {
	for _, step := range []time.Duration{-30 * 24 * time.Hour, -time.Hour, time.Hour, 30 * 24 * time.Hour, 12 * 365 * 24 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var offset atomic.Int64
				env := environment{fs: vfs.NewMem(), clock: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }}
				db, err := open("/db", nil, env)
				require.NoError(t, err)
				s, err := db.CreateStream(t.Context(), "s", nil)
				require.NoError(t, err)
				put := func(data string) {
					t.Helper()
					_, err := s.PutRecord(t.Context(), "k", []byte(data))
					require.NoError(t, err)
				}
				read := func() (all string) {
					t.Helper()
					synctest.Wait()
					for r, err := range s.Records(t.Context(), TrimHorizon()) {
						require.NoError(t, err)
						all += string(r.Data)
					}
					return all
				}
				put("0")
				<-time.After(time.Hour)
				offset.Store(int64(step))
				put("1")
				<-time.After(22 * time.Hour)
				require.Equal(t, "01", read())
				<-time.After(2 * time.Hour)
				require.Equal(t, "1", read())
				put("2")
				<-time.After(22 * time.Hour) // "1" was put 46 hours ago
				want := "2"
				if step > 22*time.Hour { // it bears a later time than it was put at, and lives on by that
					want = "12"
				}
				require.Equal(t, want, read())
				require.NoError(t, db.Close())

				offset.Store(int64(max(0, step) + 30*24*time.Hour))
				db, err = open("/db", nil, env)
				require.NoError(t, err)
				s, err = db.Stream("s")
				require.NoError(t, err)
				require.Empty(t, read(), "a month has passed, for all that one can know")
				require.NoError(t, db.Close())
			})
		})
	}
}
