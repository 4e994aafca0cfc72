package modeltest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/testdisk"
)

// faultWork is the workload of the fault tests: it does everything that changes files, and stops at
// the first error. It notes the results of all calls, and judges the files when they are opened
// again.
//
// There are three streams. orders gets bursts from several goroutines, sometimes large ones, so
// that epochs rotate, and is trimmed. side is deleted and created again. effects gets one record
// from each transaction, which also counts up a key, so the two must always agree. Each has a
// queue.
type faultWork struct {
	t        require.TestingT
	disk     *testdisk.Disk
	opts     braid.Options
	history  *history
	db       *braid.DB
	notOpen  error         // why the last open failed
	patience time.Duration // the maximal time of a call
	retry    func(error) bool

	orders      *braid.Stream
	trim        historyTrim    // of orders
	trims       int            // acknowledged
	reshards    int            // acknowledged
	side        string         // the incarnation of the stream side, "" if unknown
	sideExists  outcome        // acked: it must exist; refused: it must not
	effects     uint64         // acknowledged transactions
	effectMaybe bool           // one more may have been committed
	queues      [3]*faultQueue // of orders, effects and side

	latched  chan struct{} // closed when the DB failed
	latchEnd time.Time     // when it failed; may be read after latched is closed
	closed   chan struct{} // closed when the DB was closed
	follower sync.WaitGroup
	seen     []braid.Record // by the follower
	found    []braid.Record // of orders, at the last judgment
	met      []string       // situations of the queues, at the last judgment
	ended    error          // of the follower
}

const (
	faultRounds  = 8
	faultPutters = 4

	// latchPatience is the maximal time that a call may take after the DB has failed.
	latchPatience = 5 * time.Second
)

var (
	errFaultFollower = errors.New("follower ended")
	faultCounterKey  = []byte("effects")
)

func newFaultWork(t require.TestingT, disk *testdisk.Disk) *faultWork {
	w := &faultWork{
		t:        t,
		disk:     disk,
		history:  newHistory(),
		patience: 30 * time.Second,
		opts:     braid.Options{MemtableBytes: 1 << 20, TailBytes: 64 << 10, CacheBytes: 1 << 20, ReserveBytes: -1},
		retry:    func(error) bool { return false },
	}
	for i, stream := range [...]string{"orders", "effects", "side"} {
		w.queues[i] = newFaultQueue(w, "of-"+stream, stream)
	}
	return w
}

// run does the whole workload, with a clean reopen in the middle, and returns the first error. If
// that comes from another call than Close, the DB is still open.
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

// call makes one call, retries it if that is allowed, and checks that it returns in time: soon
// after a failure of the DB.
func (w *faultWork) call(what string, f func() error) error {
	for {
		start := time.Now()
		err := f()
		end := time.Now()
		require.Less(w.t, end.Sub(start), w.patience, what)
		if w.latched != nil {
			select {
			case <-w.latched:
				require.Less(w.t, end.Sub(w.latchEnd), latchPatience, "%s returned too late after the failure: %v", what, err)
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
		w.db, err = openOn(w.disk, &w.opts)
		return err
	})
	if w.notOpen = err; err != nil {
		w.db = nil
		return err
	}
	w.watch()
	err = w.call("open orders", func() (err error) {
		w.orders, err = w.db.OpenStream(context.Background(), "orders", &braid.StreamOptions{Shards: 3})
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
		err = errors.Join(w.queues[0].open(), w.queues[1].open())
	}
	return err
}

// watch notes when the DB fails. Its goroutine ends then, or after Close.
func (w *faultWork) watch() {
	store, latched := inside.DBOf(w.db).Store(), make(chan struct{})
	closed := make(chan struct{})
	w.latched, w.closed = latched, closed
	go func() {
		select {
		case <-store.Failed():
			w.latchEnd = time.Now()
			close(latched)
		case <-closed:
		}
	}()
}

// follow runs a follower of orders until the DB is closed or has failed.
func (w *faultWork) follow() {
	from := braid.TrimHorizon()
	if n := len(w.seen); n > 0 {
		from = braid.AfterSequence(w.seen[n-1].SequenceNumber)
	}
	orders := w.orders
	w.follower.Go(func() {
		for again := true; again; {
			again = false
			for r, err := range orders.Follow(context.Background(), from) {
				var trimmed *braid.TrimmedError
				if errors.As(err, &trimmed) {
					from, again = braid.AtSequence(trimmed.FirstAvailable), true
				} else if err != nil {
					w.ended = err
				} else {
					w.seen = append(w.seen, r)
					from = braid.AfterSequence(r.SequenceNumber)
				}
			}
		}
	})
}

// round is one step of the workload; n counts the steps of all parts.
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
	case 3:
		return w.reshard(3 + n/faultRounds)
	case 4:
		return w.trimOrders(braid.AtSequence(w.history.lastAcked("orders")), 0)
	case 6:
		return w.deleteSide()
	case 7:
		return w.trimOrders(braid.Latest(), 1)
	}
	return nil
}

// burst puts from several goroutines at once, a few bytes or half an epoch, while others use the
// queues.
func (w *faultWork) burst(n int) error {
	size := 50
	if n == 5 || n == 6 { // together more than an epoch: the next round starts another
		size = 36 << 10
	}
	errs := make([]error, faultPutters+2)
	var putters sync.WaitGroup
	putters.Go(func() { errs[faultPutters] = w.queues[0].use(n, 0) }) // it receives records that are put meanwhile
	putters.Go(func() { errs[faultPutters+1] = w.queues[1].use(n+5, -1) })
	for g := range faultPutters {
		putters.Go(func() {
			try := 0
			errs[g] = w.call("put", func() error {
				var entries []braid.Entry
				for i := range 3 {
					id := fmt.Sprintf("o%d.%d.%d.%d", n, g, i, try)
					entries = append(entries, braid.Entry{PartitionKey: fmt.Sprintf("k%d.%d", g, i), Data: historyData(id, size)})
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

// transact counts up a key and puts a record with the same count.
func (w *faultWork) transact() error {
	return w.call("update", func() error {
		err := w.db.Update(context.Background(), func(tx *braid.Tx) error {
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
		case errors.Is(err, braid.ErrOutcomeUnknown):
			w.effectMaybe = true
		}
		return err
	})
}

func readCounter(tx *braid.Tx) (uint64, error) {
	value, err := tx.Get(faultCounterKey)
	if errors.Is(err, braid.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(value), 10, 64)
}

// reshard changes the number of orders' shards.
func (w *faultWork) reshard(shards int) error {
	err := w.call("reshard", func() error { return w.orders.UpdateShardCount(context.Background(), shards+1) })
	if err == nil {
		w.reshards++
	}
	return err
}

func (w *faultWork) createSide(n int) error {
	incarnation := fmt.Sprintf("side%d", n)
	w.side, w.sideExists = incarnation, outcomeUnknown
	var side *braid.Stream
	err := w.call("create", func() (err error) {
		side, err = w.db.CreateStream(context.Background(), "side", &braid.StreamOptions{Shards: 2})
		return err
	})
	if err != nil {
		if !errors.Is(err, braid.ErrOutcomeUnknown) {
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
			_, err := w.history.put(context.Background(), side, incarnation, braid.Entry{PartitionKey: id, Data: historyData(id, 100)})
			return err
		})
		if err != nil {
			return err
		}
	}
	q := w.queues[2]
	if err := q.open(); err != nil {
		return err
	}
	return q.use(0, -1)
}

func (w *faultWork) deleteSide() error {
	if err := w.queues[2].delete(); err != nil {
		return err
	}
	err := w.call("delete", func() error { return w.db.DeleteStream(context.Background(), "side") })
	switch {
	case err == nil:
		w.sideExists = outcomeRefused
	case errors.Is(err, braid.ErrOutcomeUnknown):
		w.sideExists = outcomeUnknown
	}
	return err
}

// trimOrders trims; beyond is 1 if the last acknowledged record is removed too.
func (w *faultWork) trimOrders(before braid.Position, beyond uint64) error {
	bound := counter(w.history.lastAcked("orders")) + beyond
	w.trim.maybe = bound
	err := w.call("trim", func() error { return w.orders.Trim(context.Background(), before) })
	switch {
	case err == nil:
		w.trim.sure = bound
		w.trims++
	case !errors.Is(err, braid.ErrOutcomeUnknown):
		w.trim.maybe = w.trim.sure
	}
	return err
}

// close closes the DB, checks the errors of the follower and of later calls, and returns the error
// of Close.
func (w *faultWork) close() error {
	if w.db == nil {
		return nil
	}
	db := w.db
	w.db = nil
	err := w.call("close", db.Close)
	close(w.closed)
	require.ErrorIs(w.t, db.Close(), braid.ErrClosed)
	if w.orders != nil {
		_, putErr := w.orders.PutRecord(context.Background(), "k", nil)
		require.ErrorIs(w.t, putErr, braid.ErrClosed)
	}
	w.follower.Wait()
	if w.ended != nil && !errors.Is(w.ended, braid.ErrClosed) && !errors.Is(w.ended, braid.ErrFailed) {
		return fmt.Errorf("%w: %w", errFaultFollower, w.ended)
	}
	return err
}
