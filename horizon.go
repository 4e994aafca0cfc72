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
	found, err := reading(ctx, sh.stream.db, func() (layout.Horizon, error) { return sh.borderIn(counter, extents, i) })
	if err != nil || found.Counter < horizon.Counter {
		return horizon, err
	}
	return found, nil
}

// borderIn is lastBefore for the records of the i-th extent, of which some are below
// counter. They end in the first block that ends at counter or above, or in the one
// before. If that one cannot be read the first record that stays tells as much. If the
// other one cannot, the records that it may have below counter stay.
func (sh *Shard) borderIn(counter uint64, extents epoch.Extents, i int) (h layout.Horizon, err error) {
	lower, upper := sh.extentSpan(extents[i], extents[i].FirstCounter)
	it, err := sh.stream.db.store.NewIter(lower, upper)
	if err != nil {
		return h, err
	}
	defer func() { err = cmp.Or(err, it.Close()) }() // which says nothing of damage that was passed by
	seek, _ := sh.extentSpan(extents[i], counter)
	above, err := foundBlock(it, it.SeekGE(seek))
	switch {
	case err != nil && !isDamage(err):
		return h, err
	case above != nil && above.First < counter:
		return above.Before(counter), nil
	}
	below, err := foundBlock(it, it.SeekLT(seek))
	switch next := i + 1; {
	case below != nil:
		return below.End(), nil
	case err == nil:
		return h, fmt.Errorf("%w: no record of %s before counter %d, where there should be one", ErrDataLoss, sh, counter)
	case !isDamage(err):
		return h, err
	case next < len(extents) && counter <= extents[next].FirstCounter: // none of the extent stays
		return layout.Horizon{Counter: counter, Ordinal: extents[next].FirstOrdinal, Offset: extents[next].FirstOffset}, nil
	case above != nil:
		return layout.Horizon{Counter: counter, Ordinal: above.Ordinal, Offset: above.Offset}, nil
	}
	return h, err
}

// foundBlock takes apart the block at which the iterator stands, if its last move has
// found one. Else it returns nil, and why nothing was found if that is an error.
func foundBlock(it *kv.Iter, found bool) (*layout.Block, error) {
	if !found {
		return nil, it.Error()
	}
	block, err := decodeBlock(it)
	if err != nil {
		return nil, err
	}
	return &block, nil
}

// lastEnd returns the horizon right above the last block of key's shard and epoch that
// ends below key's counter. There has to be one.
func lastEnd(r kv.Reader, key layout.BlockKey) (h layout.Horizon, err error) {
	first := key
	first.Counter = 0
	it, err := r.NewIter(first.Bytes(), key.Bytes())
	if err != nil {
		return h, err
	}
	defer func() { err = cmp.Or(err, it.Close()) }()
	block, err := foundBlock(it, it.Last())
	if err == nil && block == nil {
		err = fmt.Errorf("%w: no record before %+v, where there should be one", ErrDataLoss, key)
	}
	if err != nil {
		return h, err
	}
	return block.End(), nil
}

// extentBefore returns the horizon at the beginning of the extent that holds the
// counter: what a trim that cannot be told exactly removes for certain.
func extentBefore(counter uint64, horizon layout.Horizon, extents epoch.Extents) layout.Horizon {
	if s := extents.From(counter); len(s) > 0 && s[0].FirstCounter > horizon.Counter && s[0].FirstCounter <= counter {
		return layout.Horizon{Counter: s[0].FirstCounter, Ordinal: s[0].FirstOrdinal, Offset: s[0].FirstOffset}
	}
	return horizon
}
