package braid

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

// A change of the period stores a floor, which may lie above every record. If the clock has
// gone back at the next open, new records must not lie below the floor.
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

// No number is given out twice, even if the clock has gone back while the database was closed
// or its power was cut, and the records with the numbers are gone.
func TestNumbersGoOnWhenTheClockHasGoneBack(t *testing.T) {
	gone := map[string]func(*testing.T, *DB, *Stream) error{
		"nothing": func(*testing.T, *DB, *Stream) error { return nil },
		"trimmed": func(t *testing.T, _ *DB, s *Stream) error { return s.Trim(t.Context(), Latest()) },
		"deleted": func(t *testing.T, db *DB, s *Stream) error { return db.DeleteStream(t.Context(), s.name) },
		"resharded and expired": func(t *testing.T, _ *DB, s *Stream) error {
			err := s.UpdateShardCount(t.Context(), 2)
			<-time.After(defaultRetention + time.Hour)
			synctest.Wait()
			return err
		},
	}
	for name, remove := range gone {
		for _, mode := range []Durability{Sync, Interval, NoSync} {
			for _, crash := range []bool{false, true} {
				t.Run(fmt.Sprint(name, " ", mode, " crash ", crash), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var offset atomic.Int64
						disk := testdisk.New()
						env := environment{fs: disk, clock: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }}
						options := &Options{Durability: mode, ReserveBytes: -1}
						db, err := open("/db", options, env)
						require.NoError(t, err)
						s, err := db.CreateStream(t.Context(), "s", nil)
						require.NoError(t, err)
						<-time.After(time.Hour)
						var before PutResult
						for range 3 { // in one epoch, whose row bounds the first counter
							<-time.After(time.Second)
							before, err = s.PutRecord(t.Context(), "k", nil)
							require.NoError(t, err)
						}
						require.NoError(t, remove(t, db, s))
						if crash {
							env.fs = disk.PowerCut()
						}
						require.NoError(t, db.Close())
						offset.Store(-int64(1000 * time.Hour))
						db, err = open("/db", options, env)
						require.NoError(t, err)
						s, err = db.OpenStream(t.Context(), "s", nil)
						require.NoError(t, err)
						after, err := s.PutRecord(t.Context(), "k", nil)
						require.NoError(t, err)
						require.Greater(t, after.SequenceNumber.counter(), before.SequenceNumber.counter(), "a number was given out before")
						require.NoError(t, db.Close())
					})
				})
			}
		}
	}
}

// Records that a shorter period has cut off stay cut off after an open at which the clock has
// gone back, even if they were not trimmed by then.
func TestAShorterPeriodIsFinalWhenTheClockGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		env := environment{fs: vfs.NewMem(), clock: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }, byHand: true}
		db, err := open("/db", nil, env)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Retention: 240 * time.Hour})
		require.NoError(t, err)
		require.NoError(t, putOne(t.Context(), db, s))
		<-time.After(48 * time.Hour)
		require.NoError(t, s.DecreaseRetention(t.Context(), 24*time.Hour))
		require.Zero(t, s.Describe().Records)
		require.NoError(t, db.Close())
		offset.Store(-int64(48 * time.Hour))
		db, err = open("/db", nil, env)
		require.NoError(t, err)
		s, err = db.Stream("s")
		require.NoError(t, err)
		require.Zero(t, s.Describe().Records, "it was gone before")
		require.NoError(t, db.Close())
	})
}

// Records age by the time that passes, not by the wall clock: while a database is open, a step
// of the clock makes no record expire earlier or later. At the open, the wall clock counts.
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
				if step > 22*time.Hour { // its time is later than that of its put, so it lives longer
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
