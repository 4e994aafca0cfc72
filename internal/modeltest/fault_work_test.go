package braid

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// faultWork is the workload of the fault tests: it does everything that changes
// files, and stops at the first error. It notes what callers were told, and
// judges what it finds when the files are opened again.
//
// There are three streams: orders gets bursts from several goroutines, now and
// then large ones, so that epochs rotate, and is trimmed; side is deleted and
// made again; effects gets one record from each transaction, which also counts up
// a key: so the two must always agree.
type faultWork struct {
	t        require.TestingT
	disk     *faultDisk
	opts     Options
	history  *history
	db       *DB
	notOpen  error         // why the last open did not succeed
	patience time.Duration // the longest that a call may take
	retry    func(error) bool

	orders      *Stream
	trim        historyTrim // of orders
	trims       int         // that were acknowledged
	side        string      // the incarnation of the stream side, "" if there is none for sure
	sideExists  outcome     // acked: it must exist; refused: it must not
	effects     uint64      // transactions that were acknowledged
	effectMaybe bool        // one more may have been done

	latched  chan struct{} // closed when the DB failed
	latchEnd time.Time     // when it did; to be read after latched
	follower sync.WaitGroup
	seen     []Record // by the follower
	ended    error    // of the follower
}

const (
	faultRounds  = 8
	faultPutters = 4

	// latchPatience is how long a call may go on after the DB has failed.
	latchPatience = 5 * time.Second
)

var (
	errFaultFollower = errors.New("the follower ended")
	faultCounterKey  = []byte("effects")
)

func newFaultWork(t require.TestingT, disk *faultDisk) *faultWork {
	return &faultWork{
		t:        t,
		disk:     disk,
		history:  newHistory(),
		patience: 30 * time.Second,
		opts:     Options{MemtableBytes: 1 << 20, TailBytes: 64 << 10, CacheBytes: 1 << 20, ReserveBytes: -1},
		retry:    func(error) bool { return false },
	}
}

// newFaultMem returns an empty disk.
func newFaultMem() *faultDisk { return newFaultDisk(vfs.NewCrashableMem()) }

// run does the whole workload, with a clean reopen in the middle, and returns
// the first error. The DB is open when it comes from another call than Close.
func (w *faultWork) run() error {
	for part := range 2 {
		if err := w.open(); err != nil {
			return err
		}
		for round := range faultRounds {
			if err := w.round(part*faultRounds + round); err != nil {
				return err
			}
		}
		if err := w.close(); err != nil {
			return err
		}
	}
	return nil
}

// call runs one call, again if it may be, and checks that it came back in time:
// soon after the DB failed, if it did.
func (w *faultWork) call(what string, f func() error) error {
	for {
		start := time.Now()
		err := f()
		end := time.Now()
		require.Less(w.t, end.Sub(start), w.patience, what)
		if w.latched != nil {
			select {
			case <-w.latched:
				require.Less(w.t, end.Sub(w.latchEnd), latchPatience, "%s came back late after the failure: %v", what, err)
			default:
			}
		}
		if err == nil || !w.retry(err) {
			return err
		}
	}
}

func (w *faultWork) open() error {
	w.latched = nil
	err := w.call("open", func() (err error) {
		w.db, err = open("/db", &w.opts, environment{fs: w.disk, clock: time.Now})
		return err
	})
	if w.notOpen = err; err != nil {
		w.db = nil
		return err
	}
	w.watch()
	err = w.call("open orders", func() (err error) {
		w.orders, err = w.db.OpenStream(context.Background(), "orders", &StreamOptions{Shards: 3})
		return err
	})
	if err == nil {
		err = w.call("open effects", func() error {
			_, err := w.db.OpenStream(context.Background(), "effects", nil)
			return err
		})
	}
	if err == nil {
		w.follow()
	}
	return err
}

// watch notes when the DB fails. The goroutine ends then, or with Close.
func (w *faultWork) watch() {
	db, latched := w.db, make(chan struct{})
	w.latched = latched
	go func() {
		select {
		case <-db.store.Failed():
			w.latchEnd = time.Now()
			close(latched)
		case <-db.closing:
		}
	}()
}

// follow runs a follower of orders until the DB is closed or has failed.
func (w *faultWork) follow() {
	from := TrimHorizon()
	if n := len(w.seen); n > 0 {
		from = AfterSequence(w.seen[n-1].SequenceNumber)
	}
	orders := w.orders
	w.follower.Go(func() {
		for again := true; again; {
			again = false
			for r, err := range orders.Follow(context.Background(), from) {
				var trimmed *TrimmedError
				if errors.As(err, &trimmed) {
					from, again = AtSequence(trimmed.FirstAvailable), true
				} else if err != nil {
					w.ended = err
				} else {
					w.seen = append(w.seen, r)
					from = AfterSequence(r.SequenceNumber)
				}
			}
		}
	})
}

// round is one step of the workload; n counts them over all parts.
func (w *faultWork) round(n int) error {
	if err := w.burst(n); err != nil {
		return err
	}
	if err := w.transact(); err != nil {
		return err
	}
	switch n % faultRounds {
	case 2:
		return w.createSide(n)
	case 4:
		return w.trimOrders(AtSequence(w.history.lastAcked("orders")), 0)
	case 6:
		return w.deleteSide()
	case 7:
		return w.trimOrders(Latest(), 1)
	}
	return nil
}

// burst puts from several goroutines at once: a few bytes, or half an epoch.
func (w *faultWork) burst(n int) error {
	size := 50
	if n == 5 || n == 6 { // together more than an epoch: the next round begins another
		size = 36 << 10
	}
	errs := make([]error, faultPutters)
	var putters sync.WaitGroup
	for g := range faultPutters {
		putters.Go(func() {
			try := 0
			errs[g] = w.call("put", func() error {
				var entries []Entry
				for i := range 3 {
					id := fmt.Sprintf("o%d.%d.%d.%d", n, g, i, try)
					entries = append(entries, Entry{PartitionKey: fmt.Sprintf("k%d.%d", g, i), Data: historyData(id, size)})
				}
				try++
				_, err := w.history.put(context.Background(), w.orders, "orders", entries...)
				return err
			})
		})
	}
	putters.Wait()
	return errors.Join(errs...)
}

// transact counts up a key and puts a record that says the same.
func (w *faultWork) transact() error {
	return w.call("update", func() error {
		err := w.db.Update(context.Background(), func(tx *Tx) error {
			n, err := readCounter(tx)
			if err != nil {
				return err
			}
			text := []byte(strconv.FormatUint(n+1, 10))
			if err := tx.Set(faultCounterKey, text); err != nil {
				return err
			}
			return tx.PutRecord("effects", "effect", text)
		})
		switch {
		case err == nil:
			w.effects++
		case errors.Is(err, ErrOutcomeUnknown):
			w.effectMaybe = true
		}
		return err
	})
}

func readCounter(tx *Tx) (uint64, error) {
	value, err := tx.Get(faultCounterKey)
	if errors.Is(err, ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(value), 10, 64)
}

func (w *faultWork) createSide(n int) error {
	incarnation := fmt.Sprintf("side%d", n)
	w.side, w.sideExists = incarnation, outcomeUnknown
	var side *Stream
	err := w.call("create", func() (err error) {
		side, err = w.db.CreateStream(context.Background(), "side", &StreamOptions{Shards: 2})
		return err
	})
	if err != nil {
		if !errors.Is(err, ErrOutcomeUnknown) {
			w.sideExists = outcomeRefused
		}
		return err
	}
	w.sideExists = outcomeAcked
	for i := range 3 {
		try := 0
		err := w.call("put to side", func() error {
			id := fmt.Sprintf("s%d.%d.%d", n, i, try)
			try++
			_, err := w.history.put(context.Background(), side, incarnation, Entry{PartitionKey: id, Data: historyData(id, 100)})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *faultWork) deleteSide() error {
	err := w.call("delete", func() error { return w.db.DeleteStream(context.Background(), "side") })
	switch {
	case err == nil:
		w.sideExists = outcomeRefused
	case errors.Is(err, ErrOutcomeUnknown):
		w.sideExists = outcomeUnknown
	}
	return err
}

// trimOrders trims; beyond is 1 if the last record acknowledged goes too.
func (w *faultWork) trimOrders(before Position, beyond uint64) error {
	bound := w.history.lastAcked("orders").counter() + beyond
	w.trim.maybe = bound
	err := w.call("trim", func() error { return w.orders.Trim(context.Background(), before) })
	switch {
	case err == nil:
		w.trim.sure = bound
		w.trims++
	case !errors.Is(err, ErrOutcomeUnknown):
		w.trim.maybe = w.trim.sure
	}
	return err
}

// close closes the DB, checks what the follower and later callers are told, and
// returns the error of Close.
func (w *faultWork) close() error {
	if w.db == nil {
		return nil
	}
	db := w.db
	w.db = nil
	err := w.call("close", db.Close)
	require.ErrorIs(w.t, db.Close(), ErrClosed)
	if w.orders != nil {
		_, putErr := w.orders.PutRecord(context.Background(), "k", nil)
		require.ErrorIs(w.t, putErr, ErrClosed)
	}
	w.follower.Wait()
	if w.ended != nil && !errors.Is(w.ended, ErrClosed) && !errors.Is(w.ended, ErrFailed) {
		return fmt.Errorf("%w: %w", errFaultFollower, w.ended)
	}
	return err
}
