package braid

import (
	"context"
	"errors"
	"syscall"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// damagedBlockError reports a block that the store returned but that does not decode. All
// its records are lost, up to the one with that counter.
type damagedBlockError struct {
	counter uint64
	cause   error
}

func (e *damagedBlockError) Error() string { return e.cause.Error() }
func (e *damagedBlockError) Unwrap() error { return e.cause }

// isCorrupt reports whether an error, of this package or one below, means that bytes differ
// from what was written.
func isCorrupt(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, kv.ErrCorrupt) }

// isDamage reports whether an error of a read means that stored data is corrupt, missing or
// unreadable.
func isDamage(err error) bool {
	return isCorrupt(err) || errors.Is(err, kv.ErrDataLoss) || errors.Is(err, ErrDataLoss) || errors.Is(err, syscall.EIO)
}

// noteDamage tells the appender that an epoch is damaged. If the epoch still accepts records,
// the appender ends it.
//
// Finding a key reads, in each table that may have it, the block in which the key would lie.
// So a record that is put where an older table is damaged could never be read again.
func (db *DB) noteDamage(epoch uint32) {
	for {
		known := db.damaged.Load()
		if epoch <= known || db.damaged.CompareAndSwap(known, epoch) {
			return
		}
	}
}

// damaged returns the CorruptError for damage that a reader met at counter from or above,
// before any readable record.
func (sh *Shard) damaged(ctx context.Context, from uint64, tip tail.Tip, extents epoch.Extents, cause error) error {
	next := tip.LastCounter + 1
	var block *damagedBlockError
	if errors.As(cause, &block) {
		next = block.counter + 1
	} else {
		for i, s := range extents.From(from) {
			rest := extents.From(from)[i+1:]
			if s.FirstCounter > tip.LastCounter {
				break
			}
			counter, err := reading(ctx, sh.stream.db, func() (uint64, error) { return sh.resume(s, from, tip.LastCounter, extentStep(s, rest, tip)) })
			if err != nil {
				return err
			}
			if counter != 0 {
				next = max(counter, from+1) // a reader that skips the damage must advance
				break
			}
		}
	}
	return &CorruptError{Shard: sh.id, FirstLost: sh.number(from), FirstAvailable: sh.number(next), Err: cause}
}

// extentStep returns roughly how much counters rise within a block of the extent.
func extentStep(s epoch.Extent, rest epoch.Extents, tip tail.Tip) uint64 {
	const block = 64 << 10 // two table blocks, so that the first step gets past one
	end, counter := tip.Offset, tip.LastCounter
	if len(rest) > 0 {
		end, counter = rest[0].FirstOffset, rest[0].FirstCounter
	}
	blocks := (end - min(end, s.FirstOffset)) / block
	return (counter - min(counter, s.FirstCounter)) / (blocks + 1)
}

// resumeTries is how often resume looks a few blocks ahead before it goes to the end of the
// extent. Each look at a damaged block may take Pebble half a second.
const resumeTries = 4

// resume returns the counter at which a reader can continue after damage that it met at
// counter from or above: the first counter of a block of the extent, or 0 if there is none. It
// looks ahead for a readable block, up to counter last; step is how far it looks at first.
// From there it goes back, block by block, as far as it can read, and then makes sure that the
// result can also be found from the front. It returns errors other than damage: records that
// it could not look for must not be reported as lost.
func (sh *Shard) resume(s epoch.Extent, from, last, step uint64) (counter uint64, err error) {
	lower, upper := sh.extentSpan(s, from)
	it, err := sh.stream.db.store.NewIter(lower, upper)
	if isDamage(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer it.Close()  // Close returns the error of the last move, which was checked
	var passing error // the first error that is not damage
	look := func(found bool) bool {
		if err := it.Error(); !found && err != nil && !isDamage(err) && passing == nil {
			passing = err
		}
		return found
	}
	reach := func(counter uint64) bool {
		key, _ := sh.extentSpan(s, counter)
		return look(it.SeekGE(key))
	}
	ok := false
	if from < s.FirstCounter { // the damage may have ended with the extent before
		ok = look(it.First())
	}
	for n := 0; !ok && n < resumeTries && step <= last-from; n++ {
		if ok = reach(from + step); !ok && it.Error() == nil {
			break // the extent ends before that
		}
		step = 4*step + 1
	}
	if !ok {
		ok = look(it.Last())
	}
	var back []uint64 // first counters of blocks, the highest first
	for ; ok; ok = look(it.Prev()) {
		block, err := layout.DecodeBlock(it.Key(), it.Value())
		if err != nil {
			break
		}
		if block.First <= last { // records above last are not visible yet
			back = append(back, block.First)
		}
	}
	counter = lowestReached(back, reach)
	return counter, passing
}

// lowestReached returns the lowest counter that a look from the front finds, 0 if it finds
// none. The counters are in descending order. A block that was found from behind need not be
// found from the front: that look reads the next key in each table of the epoch, which may lie
// in a damaged block of another shard. Looks are expensive, so it may return a higher counter.
func lowestReached(back []uint64, reach func(counter uint64) bool) uint64 {
	n := len(back)
	switch {
	case n == 0:
		return 0
	case reach(back[n-1]):
		return back[n-1]
	case !reach(back[0]):
		return 0
	}
	good, bad := 0, n-1
	for tries := 0; tries < resumeTries && bad-good > 1; tries++ {
		if middle := (good + bad) / 2; reach(back[middle]) {
			good = middle
		} else {
			bad = middle
		}
	}
	return back[good]
}
