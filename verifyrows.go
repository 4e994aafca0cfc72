package braid

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// This file verifies rows other than those of records: that every row is known, and that
// no row is missing.

// rowCheck returns what is wrong with a row, or nil. The value is nil if the row is
// missing. The first check has a nil appender; later ones run on the committer's goroutine.
type rowCheck func(a *appender, value []byte) error

// row verifies one row. A row that looks wrong is checked again in two more groups: in each,
// the appender may be ahead of what is stored, but not in the same way.
func (v *verifier) row(at VerifyError, key []byte, check rowCheck) error {
	look := func(a *appender) error {
		value, err := v.db.store.Get(key)
		if err != nil && !errors.Is(err, kv.ErrNotFound) {
			return &unreadRowError{err}
		}
		return check(a, value)
	}
	wrong, err := reading(v.ctx, v.db, func() (error, error) { return look(nil), nil })
	if err != nil {
		return err
	}
	for range 2 {
		var unread *unreadRowError
		if errors.As(wrong, &unread) {
			if !isDamage(unread.cause) {
				return unread.cause
			}
			wrong = unread.cause
			break // no race causes damage, and reading it again may take Pebble half a second
		}
		if wrong == nil {
			return nil
		}
		again := new(error)
		if err := v.inspect(func(a *appender) error { *again = look(a); return nil }); err != nil {
			return err
		}
		wrong = *again
	}
	if wrong != nil {
		v.found(at, wrong)
	}
	return nil
}

// unreadRowError is a row that could not be read.
type unreadRowError struct{ cause error }

func (e *unreadRowError) Error() string { return e.cause.Error() }

// rowsPage is a page of rows of a range.
type rowsPage struct {
	rows  []KeyValue
	bytes int64
	more  bool // there may be others
}

// readRows reads the first rows of a range or, backward, the last ones. With an error, it
// returns the rows that it read before.
func (v *verifier) readRows(lower, upper []byte, backward bool) (page rowsPage, err error) {
	type result struct {
		page rowsPage
		err  error
	}
	r, err := reading(v.ctx, v.db, func() (r result, _ error) {
		it, err := v.db.store.NewIter(lower, upper)
		if err != nil {
			r.err = err
			return r, nil
		}
		defer func() { r.err = cmp.Or(r.err, it.Close()) }()
		first, next := it.First, it.Next
		if backward {
			first, next = it.Last, it.Prev
		}
		for ok := first(); ok; ok = next() {
			if r.page.bytes+int64(len(r.page.rows))*verifyRowBytes >= verifyPageBytes {
				r.page.more = true
				return r, nil
			}
			value := it.Value()
			if r.err = it.Error(); r.err != nil {
				return r, nil
			}
			r.page.rows = append(r.page.rows, KeyValue{bytes.Clone(it.Key()), bytes.Clone(value)})
			r.page.bytes += int64(len(it.Key()) + len(value))
		}
		r.err = it.Error()
		return r, nil
	})
	return r.page, cmp.Or(err, r.err)
}

// scan calls fn with every row of a range. If it meets damage, it continues backward from the
// end of the range until it meets damage again. Then it calls damaged with the first error and
// the readable keys on both sides of the damage, nil for none.
func (v *verifier) scan(lower, upper []byte, fn func(key, value []byte) error, damaged func(err error, after, before []byte)) error {
	var after, before []byte
	var met error // the first damage
	for backward := false; ; {
		page, err := v.readRows(lower, upper, backward)
		for _, row := range page.rows {
			if err := fn(row.Key, row.Value); err != nil {
				return err
			}
		}
		if n := len(page.rows); n > 0 && backward {
			before = page.rows[n-1].Key
			upper = before
		} else if n > 0 {
			after = page.rows[n-1].Key
			lower = keyAfter(after)
		}
		switch {
		case err != nil && !isDamage(err):
			return err
		case err != nil && backward:
			damaged(met, after, before)
			return v.paced(page.bytes)
		case err != nil:
			met, backward = err, true
		}
		if paced := v.paced(page.bytes); paced != nil {
			return paced
		}
		if err == nil && !page.more {
			if met != nil { // a second read of the damage has succeeded
				damaged(met, after, before)
			}
			return nil
		}
	}
}

// scanColumn is scan for braid's own rows. It reports damage as a problem of that kind.
func (v *verifier) scanColumn(kind string, span func() (lower, upper []byte), fn func(key, value []byte) error) error {
	lower, upper := span()
	return v.scan(lower, upper, fn, func(err error, after, before []byte) {
		v.found(VerifyError{Kind: kind}, fmt.Errorf("rows between the keys %x and %x cannot be read: %w", after, before, err))
	})
}

// verifyMeta verifies the rows about the database as a whole.
func (v *verifier) verifyMeta() error {
	missing := func(value []byte, what string) error {
		if value == nil {
			return fmt.Errorf("%w: the row of %s", ErrDataLoss, what)
		}
		return nil
	}
	err := v.row(VerifyError{Kind: "row"}, layout.FormatKey(), func(_ *appender, value []byte) error {
		if err := missing(value, "the format"); err != nil {
			return err
		}
		_, err := layout.DecodeFormatRow(value)
		return corruptOrNil(err)
	})
	if err != nil {
		return err
	}
	err = v.row(VerifyError{Kind: "row"}, layout.ClockKey(), func(a *appender, value []byte) error {
		if err := missing(value, "the clock"); err != nil {
			return err
		}
		row, err := layout.DecodeClockRow(value)
		if err == nil && a != nil && row.NextStream > a.nextStream {
			return fmt.Errorf("%w: the next stream will have number %d, but the row of the clock says %d", ErrCorrupt, a.nextStream, row.NextStream)
		}
		return corruptOrNil(err)
	})
	if err != nil {
		return err
	}
	return v.scanColumn("row", layout.MetaSpan, func(key, _ []byte) error {
		if !bytes.Equal(key, layout.FormatKey()) && !bytes.Equal(key, layout.ClockKey()) {
			v.found(VerifyError{Kind: "row"}, fmt.Errorf("%w: unknown row about the database, with the key %x", ErrCorrupt, key))
		}
		return nil
	})
}

// corruptOrNil is corrupt for an error that may be nil.
func corruptOrNil(err error) error {
	if err == nil {
		return nil
	}
	return corrupt(err)
}

// rowOwner is the object that a row is about.
type rowOwner struct {
	stream uint32               // the number of its stream; 0 if it is an epoch
	has    func(s *Stream) bool // reports whether the stream has the object
	epoch  uint32
}

// knownColumns are the columns of rows about streams, shards and epochs. Each has the kind
// of its problems, and a function that decodes a row.
var knownColumns = []struct {
	kind   string
	span   func() (lower, upper []byte)
	decode func(key, value []byte) (rowOwner, error)
}{
	{"stream", layout.StreamSpan, func(key, value []byte) (o rowOwner, err error) {
		o.has = func(*Stream) bool { return true }
		if o.stream, err = layout.DecodeStreamKey(key); err == nil {
			_, err = layout.DecodeStreamRow(o.stream, value)
		}
		return o, err
	}},
	{"stream", layout.ShardSpan, func(key, value []byte) (o rowOwner, err error) {
		var index uint32
		o.has = func(s *Stream) bool { return s.topology.Load().shard(index) != nil }
		if o.stream, index, err = layout.DecodeShardKey(key); err == nil {
			_, err = layout.DecodeShardRow(o.stream, index, value)
		}
		return o, err
	}},
	{"stream", layout.ExtentSpan, func(key, value []byte) (o rowOwner, err error) {
		var index, id uint32
		o.has = func(s *Stream) bool {
			sh := s.topology.Load().shard(index)
			return sh != nil && sh.hasExtent(id)
		}
		if o.stream, index, id, err = layout.DecodeExtentKey(key); err == nil {
			_, err = layout.DecodeExtentRow(o.stream, index, id, value)
		}
		return o, err
	}},
	{"data key", layout.DataKeySpan, func(key, value []byte) (o rowOwner, err error) {
		var number uint32
		o.has = func(s *Stream) bool { return s.keys.has(number) }
		if o.stream, number, err = layout.DecodeDataKeyKey(key); err == nil {
			_, err = layout.DecodeDataKeyRow(o.stream, number, value)
		}
		return o, err
	}},
	{"epoch", layout.EpochSpan, func(key, value []byte) (o rowOwner, err error) {
		if o.epoch, err = layout.DecodeEpochKey(key); err == nil {
			_, err = layout.DecodeEpochRow(o.epoch, value)
		}
		return o, err
	}},
	{"epoch", layout.CutSpan, func(key, value []byte) (o rowOwner, err error) {
		var stream uint32
		if o.epoch, stream, err = layout.DecodeCutKey(key); err == nil {
			_, err = layout.DecodeCutRow(o.epoch, stream, value)
		}
		return o, err
	}},
}

// verifyKnownRows verifies that each row about streams, shards and epochs decodes, and is
// about an object that exists. The steps for the objects verify that none lacks its row.
func (v *verifier) verifyKnownRows() error {
	for _, column := range knownColumns {
		err := v.scanColumn(column.kind, column.span, func(key, value []byte) error {
			owner, err := column.decode(key, value)
			at := VerifyError{Kind: column.kind}
			if s := v.streams[owner.stream]; s != nil {
				at.Stream = s.name
			}
			if err != nil {
				v.found(at, corrupt(err))
				return nil
			}
			if v.knows(owner, nil) {
				return nil
			}
			return v.row(at, key, func(a *appender, value []byte) error {
				if value == nil || v.knows(owner, a) {
					return nil
				}
				return fmt.Errorf("%w: the row with the key %x is about something that does not exist", ErrCorrupt, key)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// knows reports whether the object of a row exists.
func (v *verifier) knows(o rowOwner, a *appender) bool {
	switch {
	case o.stream != 0:
		s := v.stream(o.stream)
		return s != nil && o.has(s)
	case a != nil:
		return a.epochs.Has(o.epoch)
	default:
		return v.epochs[o.epoch]
	}
}

// stream returns the stream of that number, nil if there is none. It finds a new stream
// by the name in its row.
func (v *verifier) stream(number uint32) *Stream {
	s := v.streams[number]
	if s == nil {
		value, err := reading(v.ctx, v.db, func() ([]byte, error) { return v.db.store.Get(layout.StreamKey(number)) })
		if err != nil {
			return nil
		}
		row, err := layout.DecodeStreamRow(number, value)
		if err != nil {
			return nil
		}
		if s, err = v.db.stream(row.Name); err != nil || s.number != number {
			return nil
		}
	}
	if s.deleted.Load() {
		return nil
	}
	return s
}

// verifyEpochs verifies that each epoch has its row, and that no records lie in an epoch
// that does not exist: they would take space forever, or appear in a later epoch.
func (v *verifier) verifyEpochs() error {
	for _, id := range slices.Sorted(maps.Keys(v.epochs)) {
		err := v.row(VerifyError{Kind: "epoch"}, layout.EpochKey(id), func(a *appender, value []byte) error {
			if value == nil && (a == nil || a.epochs.Has(id)) {
				return fmt.Errorf("%w: the row of epoch %d", ErrDataLoss, id)
			}
			return nil // verifyKnownRows has verified its content
		})
		if err != nil {
			return err
		}
		v.report.Epochs++
	}
	lower, upper := layout.RecordSpan()
	for {
		key, err := v.firstKey(lower, upper)
		if isDamage(err) { // reported with the shards of the records, or of dead records
			if lower = v.nextEpoch(lower); lower != nil {
				continue
			}
			return nil
		}
		if err != nil || key == nil {
			return err
		}
		place, err := layout.DecodeBlockKey(key)
		if err != nil {
			v.found(VerifyError{Kind: "row"}, corrupt(err))
			lower = keyAfter(key)
			continue
		}
		if !v.epochs[place.Epoch] {
			err := v.row(VerifyError{Kind: "epoch"}, key, func(a *appender, value []byte) error {
				if value == nil || a != nil && a.epochs.Has(place.Epoch) {
					return nil
				}
				return fmt.Errorf("%w: records of epoch %d, which does not exist", ErrCorrupt, place.Epoch)
			})
			if err != nil {
				return err
			}
		}
		_, lower = layout.EpochRecordsSpan(place.Epoch)
	}
}

// nextEpoch returns the lowest key above the given one at which the records of an epoch
// begin, nil if there is none.
func (v *verifier) nextEpoch(key []byte) (next []byte) {
	for id := range v.epochs {
		if lower, _ := layout.EpochRecordsSpan(id); bytes.Compare(lower, key) > 0 && (next == nil || bytes.Compare(lower, next) < 0) {
			next = lower
		}
	}
	return next
}

// firstKey returns the first key of a range, nil if the range is empty.
func (v *verifier) firstKey(lower, upper []byte) (key []byte, err error) {
	if err := v.goesOn(); err != nil {
		return nil, err
	}
	return reading(v.ctx, v.db, func() (key []byte, err error) {
		it, err := v.db.store.NewIter(lower, upper)
		if err != nil {
			return nil, err
		}
		defer func() { err = cmp.Or(err, it.Close()) }()
		if it.First() {
			key = bytes.Clone(it.Key())
		}
		return key, it.Error()
	})
}

// verifyKeys verifies that the application's keys can be read.
func (v *verifier) verifyKeys() error {
	lower, upper := layout.AppSpan(nil, nil)
	return v.scan(lower, upper, func([]byte, []byte) error {
		v.report.Keys++
		return nil
	}, func(err error, after, before []byte) {
		at := VerifyError{Kind: "key"}
		if after != nil {
			at.AfterKey, _ = layout.DecodeAppKey(after) // it lies in the span
		}
		if before != nil {
			at.BeforeKey, _ = layout.DecodeAppKey(before)
		}
		v.found(at, err)
	})
}

// verifyUnknown verifies that no rows lie outside the columns that this version of braid
// and earlier ones use.
func (v *verifier) verifyUnknown() error {
	for _, span := range layout.UnknownSpans() {
		key, err := v.firstKey(span[0], span[1])
		switch {
		case isDamage(err):
			v.found(VerifyError{Kind: "row"}, err)
		case err != nil:
			return err
		case key != nil:
			v.found(VerifyError{Kind: "row"}, fmt.Errorf("%w: unknown rows, from the key %x on", ErrCorrupt, key))
		}
	}
	return nil
}
