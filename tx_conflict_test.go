package braid_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// boxRuns runs an Update and, in the first run of its function, another transaction. It
// returns how often the function ran.
func boxRuns(t *testing.T, db *braid.DB, fn func(tx *braid.Tx) error, other func()) (runs int) {
	t.Helper()
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		runs++
		if err := fn(tx); err != nil {
			return err
		}
		if runs == 1 {
			other()
		}
		return nil
	}))
	return runs
}

func TestAConflictRunsTheFunctionAgain(t *testing.T) {
	read := func(key string) func(*braid.Tx) error {
		return func(tx *braid.Tx) error {
			if _, err := tx.Get([]byte(key)); err != nil && !errors.Is(err, braid.ErrKeyNotFound) {
				return err
			}
			return tx.Set([]byte("result"), []byte("x"))
		}
	}
	scan := func(start, end string, most int) func(*braid.Tx) error {
		return func(tx *braid.Tx) error {
			n := 0
			for _, err := range tx.Scan([]byte(start), []byte(end)) {
				if err != nil {
					return err
				}
				if n++; n == most {
					break
				}
			}
			return tx.Set([]byte("result"), []byte("x"))
		}
	}
	for name, test := range map[string]struct {
		fn    func(*braid.Tx) error
		other string
		runs  int
	}{
		"the key that was read":            {read("c"), "c=2", 2},
		"a key that was not there":         {read("new"), "new=2", 2},
		"another key":                      {read("c"), "d=2", 1},
		"a key that was only written":      {read("c"), "result=2", 1},
		"a key of the range":               {scan("b", "d", 0), "c=2", 2},
		"a new key of the range":           {scan("b", "d", 0), "bb=2", 2},
		"the start of the range":           {scan("b", "d", 0), "b=2", 2},
		"the end of the range":             {scan("b", "d", 0), "d=2", 1},
		"the last key that was looked at":  {scan("b", "e", 2), "c=2", 2},
		"beyond the break":                 {scan("b", "e", 2), "d=2", 1},
		"before the break":                 {scan("b", "e", 2), "bb=2", 2},
		"right behind the break":           {scan("b", "e", 2), "c\x00=2", 1},
		"a range in which there is no key": {scan("x", "z", 0), "y=2", 2},
	} {
		t.Run(name, func(t *testing.T) {
			db := boxOpen(t, nil)
			boxSet(t, db, "a=1", "b=1", "c=1", "d=1", "e=1")
			require.Equal(t, test.runs, boxRuns(t, db, test.fn, func() { boxSet(t, db, test.other) }))
		})
	}
}

// A transaction that deletes keys causes conflicts, and one that only appends records does not.
func TestDeletionsConflictAndRecordsDoNot(t *testing.T) {
	db, stream := boxStream(t, 1)
	boxSet(t, db, "a=1")
	read := func(tx *braid.Tx) error {
		_, err := tx.Get([]byte("a"))
		if errors.Is(err, braid.ErrKeyNotFound) {
			err = nil
		}
		return errors.Join(err, tx.PutRecord("s", "key", nil))
	}
	require.Equal(t, 2, boxRuns(t, db, read, func() {
		require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error { return tx.Delete([]byte("a")) }))
	}))
	require.Equal(t, 1, boxRuns(t, db, read, func() { boxPut(t, stream, "x") }))
	require.Equal(t, 1, boxRuns(t, db, read, func() {
		require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error { return tx.PutRecord("s", "key", nil) }))
	}))
	require.EqualValues(t, 5, stream.Describe().Records)
}

// Two transactions that each read what the other writes cannot both commit on the old state:
// that would be write skew.
func TestWriteSkewIsRefused(t *testing.T) {
	db := boxOpen(t, nil)
	boxSet(t, db, "doctors/ann=on call", "doctors/bob=on call")
	goOff := func(name string) func(*braid.Tx) error {
		return func(tx *braid.Tx) error {
			n := 0
			for item, err := range tx.Scan([]byte("doctors/"), []byte("doctors0")) {
				if err != nil {
					return err
				}
				if string(item.Value) == "on call" {
					n++
				}
			}
			if n < 2 {
				return nil // at least one must stay
			}
			return tx.Set([]byte("doctors/"+name), []byte("off"))
		}
	}
	runs := boxRuns(t, db, goOff("ann"), func() {
		require.NoError(t, db.Update(t.Context(), goOff("bob")))
	})
	require.Equal(t, 2, runs)
	require.Equal(t, []string{"doctors/ann=on call", "doctors/bob=off"}, boxState(t, db))
}

// A function that, through another transaction, changes what it has read can never succeed.
// The other transaction waits once, until the turn of the first ends.
func TestAReaderThatNeverWinsGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		runs := 0
		err := db.Update(t.Context(), func(tx *braid.Tx) error {
			runs++
			if _, err := tx.Get([]byte("a")); err != nil && !errors.Is(err, braid.ErrKeyNotFound) {
				return err
			}
			boxSet(t, db, fmt.Sprint("a=", runs))
			return tx.Set([]byte("b"), nil)
		})
		require.ErrorIs(t, err, braid.ErrTxConflict)
		require.Equal(t, 100, runs)
		require.Equal(t, []string{"a=100"}, boxState(t, db))
		boxSet(t, db, "c=1") // the next one that waits for the turn gets it
	})
}

// A steady flow of transactions without conflicts of their own does not starve one that
// conflicts with each of them.
func TestNewcomersDoNotStarveATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		next, came := make(chan struct{}), 0
		var newcomers sync.WaitGroup
		newcomers.Go(func() {
			for range next {
				came++
				boxSet(t, db, fmt.Sprint("a=", came))
			}
		})
		runs := 0
		require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
			runs++
			if _, err := tx.Get([]byte("a")); err != nil && !errors.Is(err, braid.ErrKeyNotFound) {
				return err
			}
			next <- struct{}{}
			synctest.Wait() // until the newcomer has committed, or waits
			return tx.Set([]byte("b"), nil)
		}))
		require.Equal(t, 11, runs)
		close(next)
		newcomers.Wait()
		require.Equal(t, runs, came, "the one that had to wait went on")
	})
}

// Only a bounded number of recent writes is remembered. A transaction that began before them
// cannot be checked, and runs again.
func TestAVeryOldTransactionRunsAgain(t *testing.T) {
	db := boxOpen(t, &braid.Options{MaxTxBytes: 16 << 20})
	runs := boxRuns(t, db, func(tx *braid.Tx) error {
		if _, err := tx.Get([]byte("a")); !errors.Is(err, braid.ErrKeyNotFound) {
			return err
		}
		return tx.Set([]byte("b"), nil)
	}, func() {
		require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
			for i := range 1<<17 + 1 {
				if err := tx.Set(binary.BigEndian.AppendUint32([]byte("many"), uint32(i)), nil); err != nil {
					return err
				}
			}
			return nil
		}))
	})
	require.Equal(t, 2, runs)
}

// A transaction that hangs while it has the turn keeps others from succeeding for at most a
// second. It succeeds itself when it continues.
func TestATransactionThatHangsDoesNotKeepItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		set := func(key string) error {
			return db.Update(t.Context(), func(tx *braid.Tx) error { return tx.Set([]byte(key), nil) })
		}
		// insist causes conflicts at its key until it has the turn, and then waits.
		insist := func(key string, until <-chan struct{}) error {
			runs := 0
			return db.Update(t.Context(), func(tx *braid.Tx) error {
				_, err := tx.Get([]byte(key))
				if err != nil && !errors.Is(err, braid.ErrKeyNotFound) {
					return err
				}
				if runs++; runs > 3 {
					<-until
				} else if err := set(key); err != nil {
					return err
				}
				return tx.Set([]byte(key+" done"), nil)
			})
		}
		release, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- insist("hangs", release) }()
		synctest.Wait()
		began := time.Now()
		done := make(chan struct{})
		close(done)
		for i := range 3 {
			require.NoError(t, insist(fmt.Sprint(i), done))
		}
		require.LessOrEqual(t, time.Since(began), time.Second)
		close(release)
		require.NoError(t, <-ended)
		require.NoError(t, insist("the turn is there", done))
		require.LessOrEqual(t, time.Since(began), time.Second)
	})
}
