package braid

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
)

// checkBooks compares what the appender keeps by changes, so that it need not look at
// everything, with what a look at everything finds: ledgers, epochs and agendas.
func (db *DB) checkBooks(ctx context.Context) error {
	var found error
	wrong := func(format string, args ...any) { found = errors.Join(found, fmt.Errorf(format, args...)) }
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		all := make(map[uint32]epoch.Share)
		trims, shards := 0, 0
		for _, s := range db.Streams() {
			if s.gone {
				continue
			}
			own := a.checkStreamBooks(s, wrong)
			for id, share := range own {
				sum := all[id]
				sum.Slices += share.Slices
				sum.Bytes += share.Bytes
				all[id] = sum
			}
			shards += len(s.routes.shards)
			if due := s.due(); due != math.MaxUint64 {
				trims++
				if s.trims.Due() > due {
					wrong("stream %s is due at %d, and in the agenda at %d", s.name, due, s.trims.Due())
				}
			}
		}
		if a.trims.Len() != trims {
			wrong("%d streams are in the agenda, not %d", a.trims.Len(), trims)
		}
		if first := a.trims.First(); first != nil && a.asleep > first.Due() {
			wrong("retention sleeps until %d, and a stream is due at %d", a.asleep, first.Due())
		}
		ids := a.epochs.IDs()
		for i, id := range ids {
			if slices, bytes, ended := a.epochs.Held(id); ended && (slices != all[id].Slices || bytes != all[id].Bytes) {
				wrong("epoch %d is said to hold %d slices, %d bytes; it holds %d, %d", id, slices, bytes, all[id].Slices, all[id].Bytes)
			} else if ended != (i < len(ids)-1) {
				wrong("epoch %d has ended: %v", id, ended)
			}
			delete(all, id)
		}
		if len(all) > 0 {
			wrong("slices lie in epochs that do not exist: %v", all)
		}
		if n := a.counts.shards.Load(); n != int64(shards) {
			wrong("%d shards are counted, and there are %d", n, shards)
		}
		return nil, nil
	})
	return errors.Join(err, found)
}

func (a *appender) checkStreamBooks(s *Stream, wrong func(format string, args ...any)) map[uint32]epoch.Share {
	own := make(map[uint32]epoch.Share)
	filled, emptied := 0, 0
	var stored uint64
	for _, sh := range s.routes.shards {
		for i, slice := range sh.allSlices {
			share := own[slice.Epoch]
			share.Slices++
			share.Bytes += sh.sliceBytes(i)
			share.Trimmed += sh.trimmedOf(i, sh.trimmed)
			own[slice.Epoch] = share
			if i > 0 && sh.trimmedOf(i, sh.trimmed) > 0 {
				wrong("%s has a slice below its horizon", sh)
			}
		}
		if len(sh.allSlices) > 0 {
			filled++
			if last := a.lastOfSlice(sh, 0); sh.filled.Due() > last {
				wrong("%s is filed at %d, and its slice ends at %d", sh, sh.filled.Due(), last)
			}
			if first := max(sh.trimmed.Counter, sh.allSlices[0].FirstCounter); sh.oldest.Due() > first {
				wrong("%s has its oldest record at %d, and is filed at %d", sh, first, sh.oldest.Due())
			}
			stored += sh.next.Offset - max(sh.trimmed.Offset, sh.allSlices[0].FirstOffset)
		} else if sh.ending != nil && !s.routes.hasParentOf(sh) {
			emptied++
			if sh.emptied.Due() != sh.ending.aged {
				wrong("%s was closed at %d, and is filed at %d", sh, sh.ending.aged, sh.emptied.Due())
			}
		}
	}
	if s.filled.Len() != filled || s.oldest.Len() != filled || s.emptied.Len() != emptied {
		wrong("stream %s has %d filled and %d emptied shards; filed are %d, %d and %d", s.name, filled, emptied, s.filled.Len(), s.oldest.Len(), s.emptied.Len())
	}
	if s.ledger.Stored() != stored {
		wrong("stream %s is said to store %d bytes, not %d", s.name, s.ledger.Stored(), stored)
	}
	seen := 0
	for _, share := range s.ledger.Shares() {
		is := own[share.Epoch]
		is.Epoch, is.Dead = share.Epoch, share.Dead
		if is != share {
			wrong("stream %s is said to have %+v, and has %+v", s.name, share, is)
		}
		if share.Slices > 0 {
			seen++
		} else if share.Epoch != a.epochs.Open() {
			wrong("stream %s keeps account of epoch %d, where it has died", s.name, share.Epoch)
		}
	}
	if seen != len(own) {
		wrong("stream %s has slices of %d epochs, and the ledger of %d", s.name, len(own), seen)
	}
	return own
}
