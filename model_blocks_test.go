package braid

import (
	"errors"
	"fmt"

	"github.com/braidstream/braid/internal/layout"
)

// checkBlocks looks at every stored block: that it is one of its extent, holds no more
// than it may, and follows on from the one before it, up to the shard's tip.
func (db *DB) checkBlocks() error {
	for _, s := range db.Streams() {
		for _, sh := range s.Shards() {
			if err := sh.checkBlocks(); err != nil && !s.deleted.Load() {
				return fmt.Errorf("%s: %w", sh, err)
			}
		}
	}
	return nil
}

func (sh *Shard) checkBlocks() error {
	tip := sh.log.Tip() // before the extents, so that they reach it
	horizon, extents := sh.view()
	if len(extents) == 0 {
		if horizon.Ordinal < tip.Ordinal {
			return errors.New("it has records, and no extents")
		}
		return nil
	}
	next := layout.Horizon{Counter: extents[0].FirstCounter, Ordinal: extents[0].FirstOrdinal, Offset: extents[0].FirstOffset}
	if next.Ordinal > horizon.Ordinal {
		return fmt.Errorf("its first extent begins with ordinal %d, and its records with %d", next.Ordinal, horizon.Ordinal)
	}
	for _, extent := range extents {
		if next.Ordinal != extent.FirstOrdinal || next.Offset != extent.FirstOffset {
			return fmt.Errorf("the extent %+v does not follow on from %+v", extent, next)
		}
		lower, upper := sh.extentSpan(extent, extent.FirstCounter) // what was trimmed may lie before it
		first := true
		err := scan(sh.stream.db.store, lower, upper, func(key, value []byte) error {
			block, err := layout.DecodeBlock(key, value)
			if err != nil || block.Last > tip.LastCounter {
				return err
			}
			switch {
			case first && block.First != extent.FirstCounter:
				return fmt.Errorf("the extent %+v begins with counter %d", extent, block.First)
			case block.Ordinal != next.Ordinal || block.Offset != next.Offset || block.First < next.Counter:
				return fmt.Errorf("the block from ordinal %d, offset %d, counter %d does not follow on from %+v", block.Ordinal, block.Offset, block.First, next)
			case block.Count > 1 && block.Bytes > layout.MaxBlockBytes || block.Count > layout.MaxBlockRecords:
				return fmt.Errorf("a block has %d records of %d bytes", block.Count, block.Bytes)
			}
			first, next = false, block.End()
			return nil
		})
		if err != nil {
			return err
		}
	}
	if want := (layout.Horizon{Counter: tip.LastCounter + 1, Ordinal: tip.Ordinal, Offset: tip.Offset}); next != want {
		return fmt.Errorf("its blocks end at %+v, and it ends at %+v", next, want)
	}
	return nil
}
