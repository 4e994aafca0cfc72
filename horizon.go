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

// readable returns where the shard's readable records begin: at the stored horizon, which is
// given, or above it if records have expired since. For a reader that begins above both, it
// may return the given one. If damage lies at the border, exact is false: the ordinal and
// offset are then too low.
func (sh *Shard) readable(ctx context.Context, from uint64, horizon layout.Horizon, extents epoch.Extents) (_ layout.Horizon, exact bool, err error) {
	expiry := sh.stream.settings.Load().expiry(sh.stream.db.aging.now())
	if expiry <= horizon.Counter || expiry <= from {
		return horizon, true, nil
	}
	switch tip := sh.log.Tip(); {
	case tip.Ordinal <= horizon.Ordinal: // no record is left to expire
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
	if horizon, _ := sh.view(); tip.Ordinal <= horizon.Ordinal { // no record is left to trim
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

// borderIn is lastBefore within the i-th extent, which has records below counter. The border
// lies in the first block that ends at counter or above, or at the end of the block before. If
// the block before cannot be read, the first record above the border shows its place. If the
// block above cannot be read, the border is the end of the block before, so records of the
// damaged block stay.
func (sh *Shard) borderIn(counter uint64, extents epoch.Extents, i int) (h layout.Horizon, err error) {
	lower, upper := sh.extentSpan(extents[i], extents[i].FirstCounter)
	it, err := sh.stream.db.store.NewIter(lower, upper)
	if err != nil {
		return h, err
	}
	defer func() { err = cmp.Or(err, it.Close()) }() // Close does not return damage of an earlier move
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
		return h, fmt.Errorf("%w: %s has no record before counter %d, although it should have one", ErrDataLoss, sh, counter)
	case !isDamage(err):
		return h, err
	case next < len(extents) && counter <= extents[next].FirstCounter: // all records of the extent are below the border
		return layout.Horizon{Counter: counter, Ordinal: extents[next].FirstOrdinal, Offset: extents[next].FirstOffset}, nil
	case above != nil:
		return layout.Horizon{Counter: counter, Ordinal: above.Ordinal, Offset: above.Offset}, nil
	}
	return h, err
}

// foundBlock decodes the iterator's current block, if its last move found one. Otherwise it
// returns nil, and the error of the move.
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

// lastEnd returns the horizon right above the last block of key's shard and epoch below key.
// It is an error if there is none.
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
		err = fmt.Errorf("%w: there is no record before %+v, although there should be one", ErrDataLoss, key)
	}
	if err != nil {
		return h, err
	}
	return block.End(), nil
}

// extentBefore returns the horizon at the beginning of the extent that holds the counter. It
// is the lower bound of a border that damage hides.
func extentBefore(counter uint64, horizon layout.Horizon, extents epoch.Extents) layout.Horizon {
	if s := extents.From(counter); len(s) > 0 && s[0].FirstCounter > horizon.Counter && s[0].FirstCounter <= counter {
		return layout.Horizon{Counter: s[0].FirstCounter, Ordinal: s[0].FirstOrdinal, Offset: s[0].FirstOffset}
	}
	return horizon
}
