package braid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/txlog"
)

const (
	maxKeyBytes = 16 << 10

	// maxTxRuns is how often Update runs its function before it gives up. Each conflict
	// means that another transaction has succeeded.
	maxTxRuns = 100

	// patientRuns is how often a transaction runs concurrently with all others despite conflicts.
	// After that it waits for its turn among transactions like it, so that a crowd that works on
	// one key succeeds one by one.
	patientRuns = 3

	// insistentRuns is how often a transaction runs before new transactions must wait for the end
	// of its turn, too. Otherwise a steady flow of new ones could win every time.
	insistentRuns = 10

	// turnTime is how long a transaction keeps its turn. If its function takes longer, or hangs,
	// it continues without a turn, so that others can succeed.
	turnTime = time.Second

	// scanPageBytes bounds what Scan reads at once.
	scanPageBytes = 64 << 10

	// txReadBytes is the memory that noting a key or range takes beside its bytes.
	txReadBytes = 64
)

// Tx is a transaction: it reads and writes the application's own keys, and appends records
// to streams, as one atomic change. It comes from [DB.Update] or [DB.View]. Only one
// goroutine may use it at a time, and none after the function that got it has returned.
//
// An application key is any bytes, 1 byte to 16 KiB long. It never collides with braid's own
// keys.
type Tx struct {
	db       *DB
	ctx      context.Context
	snapshot *snapshot
	writable bool
	ended    bool
	size     int64            // bytes of everything below; bounded by MaxTxBytes
	writes   map[string]write // by the key of the row
	puts     []txPut
	reads    map[string]struct{} // keys of the rows that were read
	ranges   []txlog.Range       // ranges of rows that were read
	steps    []txStep            // changes of companion packages
}

// write is a row's new value; nil for a deletion.
type write struct{ value []byte }

type txPut struct {
	stream *Stream
	put    put
}

// KeyValue is an application key with its value. Both belong to the caller.
type KeyValue struct{ Key, Value []byte }

// View runs fn with a read-only transaction, and returns what fn returns. The transaction
// reads one consistent state of the application's keys: the newest one that is durable in the
// database's mode. Writing returns [ErrInvalidArgument].
//
// While fn runs, the state that it reads is kept on disk, so do not wait in it.
//
// Errors other than fn's: [ErrClosed], the cause of ctx.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	tx, err := db.begin(ctx, false)
	if err != nil {
		return wrapError("view", "", err)
	}
	defer tx.end()
	return fn(tx)
}

// Update runs fn with a transaction and commits its writes: all of them or none, durable when
// Update returns nil. If fn returns an error, nothing is written, and Update returns that
// error.
//
// Transactions are serializable. If, before the commit, another transaction changes something
// that fn has read, nothing is written, and fn runs again on the new state. So fn must not
// have effects outside the transaction. It should not wait, either: while it runs, the state
// that it reads is kept on disk.
//
// A transaction that exceeds [Options].MaxTxBytes is refused, even if fn ignores that error.
//
// Refused, besides fn's errors: [ErrTxConflict], [ErrTxTooLarge], [ErrStreamNotFound] if a
// stream was deleted meanwhile, [ErrThroughputExceeded], [ErrKeyUnavailable], [ErrDiskFull],
// [ErrFailed], [ErrClosed], the cause of ctx. Unknown: [ErrOutcomeUnknown].
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	var turn *txTurn // nil in the first patientRuns runs
	for run := range maxTxRuns {
		var err error
		switch {
		case run < patientRuns:
			err = db.letInsist(ctx)
		case run == patientRuns:
			if turn, err = db.takeTxTurn(ctx); err == nil {
				defer turn.end()
			}
		case run == insistentRuns:
			turn.insist()
		}
		if err != nil {
			return wrapError("update", "", err)
		}
		again, err := db.update(ctx, fn)
		var missing *noDataKeyError
		if errors.As(err, &missing) { // the transaction has ended, so it holds nothing during this wait
			err = wrapError("update", "", db.renewDataKey(ctx, missing))
			again = err == nil
		}
		if !again {
			return err
		}
	}
	return wrapError("update", "", fmt.Errorf("%w: it ran %d times", ErrTxConflict, maxTxRuns))
}

// update runs fn once. again is true after a conflict.
func (db *DB) update(ctx context.Context, fn func(*Tx) error) (again bool, err error) {
	tx, err := db.begin(ctx, true)
	if err != nil {
		return false, wrapError("update", "", err)
	}
	defer tx.end()
	if err := fn(tx); err != nil {
		return false, err
	}
	if err := tx.grow(0); err != nil { // fn exceeded the limit and ignored the error
		return false, wrapError("update", "", err)
	}
	if len(tx.writes) == 0 && len(tx.puts) == 0 && len(tx.steps) == 0 {
		return false, nil // reads of one consistent state need no check
	}
	request := &commit.Request{Op: tx.op(), Bytes: int(tx.size)}
	err = db.committer.Do(ctx, request)
	if errors.Is(err, errConflict) {
		return true, nil
	}
	return false, wrapError("update", "", err)
}

func (db *DB) begin(ctx context.Context, writable bool) (*Tx, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	if db.closed.Load() {
		return nil, ErrClosed
	}
	if writable && db.opts.ReadOnly {
		return nil, ErrReadOnly
	}
	snapshot, err := db.snapshots.take()
	if err != nil {
		return nil, err
	}
	return &Tx{db: db, ctx: ctx, snapshot: snapshot, writable: writable}, nil
}

func (tx *Tx) end() {
	tx.ended = true
	tx.db.snapshots.release(tx.ctx, tx.snapshot)
}

// Get returns the value of a key, including one that this transaction wrote. If the key has
// no value, it returns [ErrKeyNotFound]. A value may be empty, so check the error, not the
// length:
//
//	value, err := tx.Get(key)
//	if errors.Is(err, braid.ErrKeyNotFound) {
//		value, err = []byte("0"), nil
//	}
//
// The value belongs to the caller. Other errors: [ErrInvalidArgument], [ErrTxTooLarge],
// [ErrCorrupt], [ErrClosed], and the cause of the context of Update or View.
func (tx *Tx) Get(key []byte) ([]byte, error) {
	value, err := tx.get(key)
	return value, wrapError("get", "", err)
}

func (tx *Tx) get(key []byte) ([]byte, error) {
	if err := tx.check(key, false); err != nil {
		return nil, err
	}
	return tx.getRow(layout.AppKey(key))
}

func (tx *Tx) getRow(row []byte) ([]byte, error) {
	if w, written := tx.writes[string(row)]; written {
		if w.value == nil {
			return nil, ErrKeyNotFound
		}
		return bytes.Clone(w.value), nil
	}
	if err := tx.noteRead(row); err != nil {
		return nil, err
	}
	value, err := reading(tx.ctx, tx.db, func() ([]byte, error) { return tx.snapshot.Get(row) })
	if errors.Is(err, kv.ErrNotFound) {
		return nil, ErrKeyNotFound
	}
	return value, err
}

// Set gives a key a value, which may be empty. Both are copied. Errors:
// [ErrInvalidArgument], [ErrTxTooLarge].
func (tx *Tx) Set(key, value []byte) error {
	if err := tx.check(key, true); err != nil {
		return wrapError("set", "", err)
	}
	return wrapError("set", "", tx.writeRow(layout.AppKey(key), append(make([]byte, 0, max(1, len(value))), value...)))
}

// Delete removes a key. It is no error if the key does not exist. Errors:
// [ErrInvalidArgument], [ErrTxTooLarge].
func (tx *Tx) Delete(key []byte) error {
	if err := tx.check(key, true); err != nil {
		return wrapError("delete", "", err)
	}
	return wrapError("delete", "", tx.writeRow(layout.AppKey(key), nil))
}

func (tx *Tx) writeRow(row, value []byte) error {
	if err := tx.grow(len(row) + len(value) + txReadBytes); err != nil {
		return err
	}
	if tx.writes == nil {
		tx.writes = make(map[string]write)
	}
	tx.writes[string(row)] = write{value}
	return nil
}

// Scan returns an iterator over the keys from start up to, but not including, end, in order. A
// nil end means no bound. It includes what this transaction wrote before the loop began. A
// loop that breaks reads no further, and only keys that were read can cause a conflict.
//
// An error is yielded once, as the last pair: [ErrTxTooLarge], [ErrCorrupt], [ErrClosed], or
// the cause of the context of Update or View.
func (tx *Tx) Scan(start, end []byte) iter.Seq2[KeyValue, error] {
	return func(yield func(KeyValue, error) bool) {
		lower, upper := layout.AppSpan(start, end)
		err := tx.scanRows(txlog.Range{Start: lower, End: upper}, func(row KeyValue) bool {
			key, _ := layout.DecodeAppKey(row.Key) // it lies in the span
			return yield(KeyValue{key, row.Value}, nil)
		})
		if err != nil {
			yield(KeyValue{}, wrapError("scan", "", err))
		}
	}
}

func (tx *Tx) scanRows(r txlog.Range, yield func(KeyValue) bool) error {
	own := tx.ownWrites(r)
	var last []byte
	for from, more := r.Start, true; more; {
		if tx.ended {
			return errTxEnded
		}
		rest := txlog.Range{Start: from, End: r.End}
		page, err := reading(tx.ctx, tx.db, func() (scanned, error) { return tx.scanPage(rest, own, scanPageBytes) })
		if err != nil {
			return err
		}
		more = page.more
		for _, item := range page.items {
			last = append(last[:0], item.Key...) // a copy: the loop's body may change item.Key
			if err := tx.grow(len(item.Key) + len(item.Value)); err != nil {
				return err
			}
			if !yield(item) {
				_ = tx.noteRange(txlog.Range{Start: r.Start, End: keyAfter(last)}) // the loop is over; Update finds the error
				return nil
			}
		}
		if more {
			from = keyAfter(last)
			own = own[sort.Search(len(own), func(i int) bool { return own[i].key >= string(from) }):]
		}
	}
	return tx.noteRange(r)
}

// scanned is a page of a scan.
type scanned struct {
	items []KeyValue
	more  bool // there may be more items
}

// scanPage returns the first items of a range, merged from the stored ones and the
// transaction's own writes. It returns up to about maxBytes, and at least one item. No
// iterator is held while the caller's loop runs.
func (tx *Tx) scanPage(r txlog.Range, own []ownWrite, maxBytes int) (page scanned, err error) {
	if bytes.Compare(r.Start, r.End) >= 0 {
		return page, nil
	}
	it, err := tx.snapshot.NewIter(r.Start, r.End)
	if err != nil {
		return page, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	addOwn := func(w ownWrite) {
		if w.value != nil {
			page.items = append(page.items, KeyValue{[]byte(w.key), bytes.Clone(w.value)})
		}
	}
	size := 0
	for ok := it.First(); ok; ok = it.Next() {
		if len(page.items) > 0 && size > maxBytes {
			page.more = true
			return page, nil
		}
		key := it.Key()
		for ; len(own) > 0 && own[0].key < string(key); own = own[1:] {
			addOwn(own[0])
		}
		if len(own) > 0 && own[0].key == string(key) {
			addOwn(own[0])
			own = own[1:]
			continue
		}
		page.items = append(page.items, KeyValue{bytes.Clone(key), bytes.Clone(it.Value())})
		size += len(key) + len(it.Value()) + txReadBytes
	}
	for ; len(own) > 0; own = own[1:] {
		addOwn(own[0])
	}
	return page, it.Error()
}

// keyAfter returns the lowest key above the given one.
func keyAfter(key []byte) []byte { return append(bytes.Clone(key), 0) }

// ownWrite is the transaction's own write of a key.
type ownWrite struct {
	key string
	write
}

// ownWrites returns the transaction's writes in a range, in the order of keys. They are a
// copy: writes in the body of a loop do not appear in its own scan.
func (tx *Tx) ownWrites(r txlog.Range) []ownWrite {
	var own []ownWrite
	for key, w := range tx.writes {
		if r.Contains([]byte(key)) {
			own = append(own, ownWrite{key, w})
		}
	}
	slices.SortFunc(own, func(a, b ownWrite) int { return strings.Compare(a.key, b.key) })
	return own
}

// PutRecord appends a record to a stream when the transaction commits. Records
// of one transaction keep their order. The data is copied. Errors:
// [ErrStreamNotFound], [ErrInvalidArgument], [ErrTxTooLarge].
func (tx *Tx) PutRecord(stream, partitionKey string, data []byte) error {
	return tx.PutEntry(stream, Entry{PartitionKey: partitionKey, Data: data})
}

// PutEntry is [Tx.PutRecord] for an entry, which may carry an explicit hash key.
func (tx *Tx) PutEntry(stream string, entry Entry) error {
	return wrapError("put record", stream, tx.putEntry(stream, &entry))
}

func (tx *Tx) putEntry(stream string, entry *Entry) error {
	if err := tx.checkWritable(); err != nil {
		return err
	}
	s, err := tx.db.Stream(stream)
	if err != nil {
		return err
	}
	if err := entry.validate(s.settings.Load().maxData, ""); err != nil {
		return err
	}
	p := txPut{stream: s}
	s.prepare(&p.put, entry, make([]byte, len(entry.Data)))
	if err := tx.grow(p.put.bytes()); err != nil {
		return err
	}
	tx.puts = append(tx.puts, p)
	return nil
}

var errTxEnded = &InvalidArgumentError{"Tx", "ended", "must not be used after its function has returned"}

func (tx *Tx) checkWritable() error {
	switch {
	case tx.ended:
		return errTxEnded
	case !tx.writable:
		return &InvalidArgumentError{"Tx", "read-only", "must come from Update to be written to"}
	}
	return nil
}

func (tx *Tx) check(key []byte, write bool) error {
	if write {
		if err := tx.checkWritable(); err != nil {
			return err
		}
	}
	switch {
	case tx.ended:
		return errTxEnded
	case len(key) < 1 || len(key) > maxKeyBytes:
		return &InvalidArgumentError{"Key", fmt.Sprintf("%d bytes long", len(key)), fmt.Sprintf("must be 1 to %d bytes", maxKeyBytes)}
	}
	return nil
}

// noteRead and noteRange note what was read, for the check at the commit. A read-only
// transaction is not checked.
func (tx *Tx) noteRead(key []byte) error {
	if _, known := tx.reads[string(key)]; known || !tx.writable {
		return nil
	}
	if tx.reads == nil {
		tx.reads = make(map[string]struct{})
	}
	tx.reads[string(key)] = struct{}{}
	return tx.grow(len(key) + txReadBytes)
}

func (tx *Tx) noteRange(r txlog.Range) error {
	if !tx.writable {
		return nil
	}
	tx.ranges = append(tx.ranges, r)
	return tx.grow(len(r.Start) + len(r.End) + txReadBytes)
}

// grow counts memory that the transaction keeps. A read-only one keeps none.
func (tx *Tx) grow(n int) error {
	if !tx.writable {
		return nil
	}
	if tx.size += int64(n); tx.size > tx.db.opts.MaxTxBytes {
		return fmt.Errorf("%w: it reads and writes more than %d bytes", ErrTxTooLarge, tx.db.opts.MaxTxBytes)
	}
	return nil
}

// txOp is the request of a transaction.
type txOp struct {
	version uint64 // the version of the state that it read
	reads   map[string]struct{}
	ranges  []txlog.Range
	writes  map[string]write
	puts    []txPut
	steps   []txStep
}

func (tx *Tx) op() *txOp {
	return &txOp{tx.snapshot.version, tx.reads, tx.ranges, tx.writes, tx.puts, tx.steps}
}

// errConflict refuses a transaction, which then runs again.
var errConflict = errors.New("another transaction changed what this one read")
