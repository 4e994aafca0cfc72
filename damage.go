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

// damagedBlockError is damage of one block that the store returned. All its records
// are lost, up to the one with that counter.
type damagedBlockError struct {
	counter uint64
	cause   error
}

func (e *damagedBlockError) Error() string { return e.cause.Error() }
func (e *damagedBlockError) Unwrap() error { return e.cause }

// isCorrupt reports whether an error, of this package or one below, is of bytes
// that are not what was written.
func isCorrupt(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, kv.ErrCorrupt) }

// isDamage reports whether an error of reading says that some of what is stored
// cannot be read.
func isDamage(err error) bool {
	return isCorrupt(err) || errors.Is(err, kv.ErrDataLoss) || errors.Is(err, ErrDataLoss) || errors.Is(err, syscall.EIO)
}

// noteDamage tells the appender of a damaged place in an epoch.
//
// A look for a key reads the block in which it would lie, in each table that might
// have it. So a record that is put where an older table is damaged could never be read
// again: if the epoch still accepts records, it ends.
func (db *DB) noteDamage(epoch uint32) {
	for {
		known := db.damaged.Load()
		if epoch <= known || db.damaged.CompareAndSwap(known, epoch) {
			return
		}
	}
}

// damaged makes a CorruptError of damage that was met at counter from or above,
// before any record that can be read.
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
				next = max(counter, from+1) // a reader that skips what is lost gets on
				break
			}
		}
	}
	return &CorruptError{Shard: sh.id, FirstLost: sh.number(from), FirstAvailable: sh.number(next), Err: cause}
}

// extentStep returns by how much counters go up, roughly, in a block of the extent.
func extentStep(s epoch.Extent, rest epoch.Extents, tip tail.Tip) uint64 {
	const block = 64 << 10 // two, for the first step is to get past one
	end, counter := tip.Offset, tip.LastCounter
	if len(rest) > 0 {
		end, counter = rest[0].FirstOffset, rest[0].FirstCounter
	}
	blocks := (end - min(end, s.FirstOffset)) / block
	return (counter - min(counter, s.FirstCounter)) / (blocks + 1)
}

// resumeTries is how often resume looks a few blocks ahead before it goes to the
// extent's end. Pebble takes up to half a second for each look at a damaged block.
const resumeTries = 4

// resume returns the counter of a record of the extent, behind the damage that a
// reader met at counter from or above, at which the reader can go on: the first of a
// block; 0 if there is none. It looks behind the damage, up to counter last, goes back
// from there to the first block that can be read without a break, and makes sure that
// it is found from the front. step is how far it looks at first. An error that is not
// damage is its caller's: what could not be looked at must not be taken for lost.
func (sh *Shard) resume(s epoch.Extent, from, last, step uint64) (counter uint64, err error) {
	lower, upper := sh.extentSpan(s, from)
	it, err := sh.stream.db.store.NewIter(lower, upper)
	if isDamage(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer it.Close()  // its error is that of the last move
	var passing error // the first that is not damage
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
			break // there is nothing that far
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
		if block.First <= last { // else its records do not show yet
			back = append(back, block.First)
		}
	}
	counter = lowestReached(back, reach)
	return counter, passing
}

// lowestReached returns the lowest of the counters, which are given from the highest
// on, that a look from the front reaches, 0 if it reaches none. What was found from
// behind need not be: in each table of the epoch, a look is for the next key, which may
// lie in a damaged block of another shard. As looks are dear, it settles for a higher
// one.
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
