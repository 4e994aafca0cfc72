package braid

import (
	"cmp"
	"context"
	"fmt"
	"sort"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// readable returns where the records of the shard begin that can be read now:
// the horizon that is stored, given, or above it where records have expired
// since. It may return the given one for a reader that begins above both. It is not
// exact if damage lies at the border: then its ordinal and offset are too low.
func (sh *Shard) readable(ctx context.Context, from uint64, horizon layout.Horizon, extents epoch.Extents) (_ layout.Horizon, exact bool, err error) {
	expiry := sh.stream.settings.Load().expiry(sh.stream.db.aging.now())
	if expiry <= horizon.Counter || expiry <= from {
		return horizon, true, nil
	}
	switch tip := sh.log.Tip(); {
	case tip.Ordinal <= horizon.Ordinal: // there is nothing to expire
		return horizon, true, nil
	case tip.LastCounter < expiry:
		return layout.Horizon{Counter: tip.LastCounter + 1, Ordinal: tip.Ordinal, Offset: tip.Offset}, true, nil
	}
	border, err := sh.lastBefore(ctx, expiry, horizon, extents)
	if isDamage(err) {
		border = extentBefore(expiry, horizon, extents)
		border.Counter = expiry
		return border, false, nil
	}
	return border, true, err
}

// horizonAt returns the horizon that trims all records before the bound.
func (sh *Shard) horizonAt(ctx context.Context, b bound) (layout.Horizon, error) {
	tip := sh.log.Tip()
	if horizon, _ := sh.view(); tip.Ordinal <= horizon.Ordinal { // there is nothing to trim
		return horizon, nil
	}
	if b.from > tip.LastCounter {
		return layout.Horizon{Counter: tip.LastCounter + 1, Ordinal: tip.Ordinal, Offset: tip.Offset}, nil
	}
	for {
		horizon, extents := sh.view()
		if b.from <= horizon.Counter {
			return horizon, nil
		}
		trimmed, err := sh.lastBefore(ctx, b.from, horizon, extents)
		if sh.stream.deleted.Load() { // the records may be gone already
			return horizon, ErrStreamNotFound
		}
		if after, _ := sh.view(); after == horizon {
			return trimmed, err
		}
	}
}

// lastBefore returns the horizon right above the last record whose counter is
// below counter, or the given one if there is none.
func (sh *Shard) lastBefore(ctx context.Context, counter uint64, horizon layout.Horizon, extents epoch.Extents) (layout.Horizon, error) {
	i := sort.Search(len(extents), func(i int) bool { return extents[i].FirstCounter >= counter }) - 1
	if i < 0 {
		return horizon, nil
	}
	key := layout.RecordKey{Epoch: extents[i].Epoch, Stream: sh.stream.number, Shard: sh.index, Counter: counter}
	found, err := reading(ctx, sh.stream.db, func() (layout.Horizon, error) { return lastRecord(sh.stream.db.store, key) })
	if cause := err; isDamage(cause) {
		found, err = reading(ctx, sh.stream.db, func() (layout.Horizon, error) { return sh.borderAt(counter, extents, i, cause) })
	}
	if err != nil || found.Counter < horizon.Counter {
		return horizon, err
	}
	return found, nil
}

// lastRecord returns the horizon right above the last record of key's shard and
// epoch whose counter is below key's. There has to be one.
func lastRecord(r kv.Reader, key layout.RecordKey) (h layout.Horizon, err error) {
	first := key
	first.Counter = 0
	it, err := r.NewIter(first.Bytes(), key.Bytes())
	if err != nil {
		return h, err
	}
	defer func() { err = cmp.Or(err, it.Close()) }()
	if !it.Last() {
		if err := it.Error(); err != nil {
			return h, err
		}
		return h, fmt.Errorf("%w: no record before %+v, where there should be one", ErrDataLoss, key)
	}
	if key, err = layout.DecodeRecordKey(it.Key()); err != nil {
		return h, corrupt(err)
	}
	value := it.Value()
	if err := it.Error(); err != nil {
		return h, err
	}
	stored, err := layout.DecodeRecord(it.Key(), value)
	if err != nil {
		return h, corrupt(err)
	}
	return layout.Horizon{Counter: key.Counter + 1, Ordinal: stored.Ordinal + 1, Offset: stored.Offset + uint64(stored.Size())}, nil
}

// borderAt returns the horizon that trims all records before counter, where the
// last of them, in the i-th extent, cannot be read: the first that stays tells as
// much. If it cannot be read either, the error is cause.
func (sh *Shard) borderAt(counter uint64, extents epoch.Extents, i int, cause error) (layout.Horizon, error) {
	if i+1 < len(extents) && counter <= extents[i+1].FirstCounter { // none of the extent stays
		next := extents[i+1]
		return layout.Horizon{Counter: counter, Ordinal: next.FirstOrdinal, Offset: next.FirstOffset}, nil
	}
	key := layout.RecordKey{Epoch: extents[i].Epoch, Stream: sh.stream.number, Shard: sh.index, Counter: counter}
	lower := key.Bytes()
	key.Counter = maxCounter + 1
	it, err := sh.stream.db.store.NewIter(lower, key.Bytes())
	if err != nil {
		return layout.Horizon{}, cause
	}
	defer it.Close() // its error is of the damage, as cause is
	if !it.First() {
		return layout.Horizon{}, cause
	}
	stored, err := layout.DecodeRecord(it.Key(), it.Value())
	if err != nil {
		return layout.Horizon{}, cause
	}
	return layout.Horizon{Counter: counter, Ordinal: stored.Ordinal, Offset: stored.Offset}, nil
}

// extentBefore returns the horizon at the beginning of the extent that holds the
// counter: what a trim that cannot be told exactly removes for certain.
func extentBefore(counter uint64, horizon layout.Horizon, extents epoch.Extents) layout.Horizon {
	if s := extents.From(counter); len(s) > 0 && s[0].FirstCounter > horizon.Counter && s[0].FirstCounter <= counter {
		return layout.Horizon{Counter: s[0].FirstCounter, Ordinal: s[0].FirstOrdinal, Offset: s[0].FirstOffset}
	}
	return horizon
}
