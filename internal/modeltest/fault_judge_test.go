package modeltest

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// judge opens the disk that the workload left, and compares its content with the results that
// callers got.
func (w *faultWork) judge(what string, disk *testdisk.Disk) {
	db := w.openToJudge(what, disk)
	w.judgeContent(what, db)
	for _, q := range w.queues {
		if judged := q.judge(what, db); judged != nil {
			w.met = append(w.met, q.situations(judged)...)
		}
	}
	require.NoError(w.t, db.Close(), what)
}

// openToJudge opens the disk that the workload left, at a time when no record of a queue is hidden
// any longer, and none has expired.
func (w *faultWork) openToJudge(what string, disk *testdisk.Disk) *braid.DB {
	db, err := open("/db", &w.opts, companion.Environment{FS: disk, Clock: faultJudgeClock})
	require.NoError(w.t, err, what)
	return db
}

// judgeTwice is judge, then writes more, opens the disk once more, and requires the same findings:
// once an unknown outcome is known, it is final.
func (w *faultWork) judgeTwice(what string, disk *testdisk.Disk) {
	ctx := context.Background()
	db := w.openToJudge(what, disk)
	found := w.judgeContent(what, db)
	var queues []*faultQueue
	for _, q := range w.queues {
		if judged := q.judge(what, db); judged != nil {
			w.met = append(w.met, q.situations(judged)...)
			judged.goOn(what)
			queues = append(queues, judged)
		}
	}
	orders, err := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 3})
	require.NoError(w.t, err, what)
	added := make(map[braid.SequenceNumber]string)
	for i := range 6 {
		data := fmt.Sprintf("after the fault %d", i)
		result, err := orders.PutRecord(ctx, fmt.Sprint("k", i), []byte(data))
		require.NoError(w.t, err, what)
		require.Greater(w.t, counter(result.SequenceNumber), counter(w.history.lastAcked("orders")), what)
		added[result.SequenceNumber] = data
	}
	require.NoError(w.t, db.Close(), what)

	db = w.openToJudge(what, disk)
	for _, q := range queues {
		q.judge(what+", and opened again", db)
	}
	orders, err = db.Stream("orders")
	require.NoError(w.t, err, what)
	all, err := readShards(ctx, orders)
	require.NoError(w.t, err, what)
	var old []braid.Record
	for _, r := range all {
		if data, isNew := added[r.SequenceNumber]; isNew {
			require.Equal(w.t, data, string(r.Data), what)
			delete(added, r.SequenceNumber)
		} else {
			old = append(old, r)
		}
	}
	require.Empty(w.t, added, what)
	require.Equal(w.t, found, old, "%s: a known outcome has changed", what)
	require.NoError(w.t, db.Close(), what)
}

// judgeContent compares the content of an open DB with the results that callers got, and returns
// the records of orders.
func (w *faultWork) judgeContent(what string, db *braid.DB) []braid.Record {
	var records []braid.Record
	if orders, err := db.Stream("orders"); err == nil {
		records, err = readShards(context.Background(), orders)
		require.NoError(w.t, err, what)
	} else {
		require.ErrorIs(w.t, err, braid.ErrStreamNotFound, what)
	}
	require.NoError(w.t, w.history.check("orders", records, w.trim), what)
	w.judgeSeen(what, records)
	w.judgeSide(what, db)
	w.judgeEffects(what, db)
	w.found = records
	return records
}

// Situations that the sweep must reach.
const (
	unknownIsThere = "a put of unknown outcome that is stored"
	unknownIsNot   = "a put of unknown outcome that is not stored"
)

// unknownPuts returns the fates, at the last judgment, of the puts to orders whose outcome was
// unknown.
func (w *faultWork) unknownPuts() (situations []string) {
	stored := make(map[string]bool, len(w.found))
	for _, r := range w.found {
		id, _ := historyID(r.Data)
		stored[id] = true
	}
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	for _, p := range w.history.puts {
		switch {
		case p.stream != "orders" || p.outcome != outcomeUnknown:
		case stored[p.id]:
			situations = append(situations, unknownIsThere)
		default:
			situations = append(situations, unknownIsNot)
		}
	}
	return situations
}

// judgeSeen requires that every record that the follower saw exists unless it was trimmed: only
// durable records are visible.
func (w *faultWork) judgeSeen(what string, records []braid.Record) {
	stored := make(map[braid.SequenceNumber]bool, len(records))
	for _, r := range records {
		stored[r.SequenceNumber] = true
	}
	for _, r := range w.seen {
		if counter(r.SequenceNumber) >= w.trim.maybe {
			require.True(w.t, stored[r.SequenceNumber], "%s: %s was visible, but is lost", what, r.SequenceNumber)
		}
	}
}

func (w *faultWork) judgeSide(what string, db *braid.DB) {
	side, err := db.Stream("side")
	switch {
	case err != nil:
		require.ErrorIs(w.t, err, braid.ErrStreamNotFound, what)
		require.NotEqual(w.t, outcomeAcked, w.sideExists, "%s: the stream %s is lost", what, w.side)
		return
	case w.side == "" || w.sideExists == outcomeRefused:
		require.Fail(w.t, "a stream exists that was deleted or never created", what)
	}
	records, err := readShards(context.Background(), side)
	require.NoError(w.t, err, what)
	require.NoError(w.t, w.history.check(w.side, records, historyTrim{}), what)
}

// judgeEffects requires that the counter matches the records of the transactions, and that no
// acknowledged transaction is lost.
func (w *faultWork) judgeEffects(what string, db *braid.DB) {
	var counter uint64
	require.NoError(w.t, db.View(context.Background(), func(tx *braid.Tx) (err error) {
		counter, err = readCounter(tx)
		return err
	}), what)
	require.GreaterOrEqual(w.t, counter, w.effects, what)
	if !w.effectMaybe {
		require.Equal(w.t, w.effects, counter, what)
	}
	require.LessOrEqual(w.t, counter, w.effects+1, what)
	effects, err := db.Stream("effects")
	if errors.Is(err, braid.ErrStreamNotFound) && counter == 0 {
		return
	}
	require.NoError(w.t, err, what)
	var n uint64
	for r, err := range effects.Records(context.Background(), braid.TrimHorizon()) {
		require.NoError(w.t, err, what)
		n++
		require.Equal(w.t, strconv.FormatUint(n, 10), string(r.Data), what)
	}
	require.Equal(w.t, counter, n, "%s: a transaction was stored in part", what)
}
