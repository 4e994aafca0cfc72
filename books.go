package braid

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
)

// checkBooks checks the ledgers, epochs and agendas, which the appender updates with each
// change instead of looking at everything, against a look at everything. None of them is
// stored; [DB.Verify] checks what is stored. Tests call it through internal/inside, and the
// model after each of its steps.
func (db *DB) checkBooks(ctx context.Context) error {
	var found error
	wrong := func(format string, args ...any) { found = errors.Join(found, fmt.Errorf(format, args...)) }
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		all := make(map[uint32]epoch.Share)
		trims, shards, queues := 0, 0, int64(0)
		for _, s := range db.Streams() {
			if s.w.deleted {
				continue
			}
			own := a.checkStreamBooks(s, wrong)
			for id, share := range own {
				sum := all[id]
				sum.Extents += share.Extents
				sum.Bytes += share.Bytes
				all[id] = sum
			}
			shards += len(s.w.topology.shards)
			queues += int64(s.queues.Load())
			if due := s.due(); due != math.MaxUint64 {
				trims++
				if s.w.trims.Due() > due {
					wrong("stream %s is due at %d, and in the agenda at %d", s.name, due, s.w.trims.Due())
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
			if extents, bytes, ended := a.epochs.Held(id); ended && (extents != all[id].Extents || bytes != all[id].Bytes) {
				wrong("epoch %d is said to hold %d extents, %d bytes; it holds %d, %d", id, extents, bytes, all[id].Extents, all[id].Bytes)
			} else if ended != (i < len(ids)-1) {
				wrong("epoch %d has ended: %v", id, ended)
			}
			delete(all, id)
		}
		if len(all) > 0 {
			wrong("extents lie in epochs that do not exist: %v", all)
		}
		if n := a.counts.shards.Load(); n != int64(shards) {
			wrong("%d shards are counted, and there are %d", n, shards)
		}
		if n := a.counts.queues.Load(); n != queues {
			wrong("%d queues are counted, and streams have %d", n, queues)
		}
		return nil, nil
	})
	return errors.Join(err, found)
}

func (a *appender) checkStreamBooks(s *Stream, wrong func(format string, args ...any)) map[uint32]epoch.Share {
	own := make(map[uint32]epoch.Share)
	filled, emptied := 0, 0
	var stored uint64
	for _, sh := range s.w.topology.shards {
		if len(sh.w.extents) > 0 {
			first, last := sh.w.extents[0].FirstCounter, sh.w.tip.LastCounter
			if c := sh.w.closing; c != nil && last > c.counter {
				wrong("%s was closed at %d, and has a record at %d", sh, c.counter, last)
			}
			if first < sh.createdCounter {
				wrong("%s was made at %d, and has a record at %d", sh, sh.createdCounter, first)
			}
		}
		for i, extent := range sh.w.extents {
			share := own[extent.Epoch]
			share.Extents++
			share.Bytes += sh.extentBytes(i)
			share.Trimmed += sh.trimmedOf(i, sh.w.horizon)
			own[extent.Epoch] = share
			if i > 0 && sh.trimmedOf(i, sh.w.horizon) > 0 {
				wrong("%s has an extent below its horizon", sh)
			}
		}
		if len(sh.w.extents) > 0 {
			filled++
			if last := a.lastOfExtent(sh, 0); sh.w.filled.Due() > last {
				wrong("%s is filed at %d, and its extent ends at %d", sh, sh.w.filled.Due(), last)
			}
			if first := max(sh.w.horizon.Counter, sh.w.extents[0].FirstCounter); sh.w.oldest.Due() > first {
				wrong("%s has its oldest record at %d, and is filed at %d", sh, first, sh.w.oldest.Due())
			}
			stored += sh.w.tip.Offset - max(sh.w.horizon.Offset, sh.w.extents[0].FirstOffset)
		} else if sh.w.closing != nil && !s.w.topology.hasParentOf(sh) {
			emptied++
			if sh.w.emptied.Due() != sh.w.closing.aged {
				wrong("%s was closed at %d, and is filed at %d", sh, sh.w.closing.aged, sh.w.emptied.Due())
			}
		}
	}
	if s.w.filled.Len() != filled || s.w.oldest.Len() != filled || s.w.emptied.Len() != emptied {
		wrong("stream %s has %d filled and %d emptied shards; filed are %d, %d and %d", s.name, filled, emptied, s.w.filled.Len(), s.w.oldest.Len(), s.w.emptied.Len())
	}
	if s.w.ledger.Stored() != stored {
		wrong("stream %s is said to store %d bytes, not %d", s.name, s.w.ledger.Stored(), stored)
	}
	seen := 0
	for _, share := range s.w.ledger.Shares() {
		is := own[share.Epoch]
		is.Epoch, is.Dead = share.Epoch, share.Dead
		if is != share {
			wrong("stream %s is said to have %+v, and has %+v", s.name, share, is)
		}
		if share.Extents > 0 {
			seen++
		} else if share.Epoch != a.epochs.Open() {
			wrong("stream %s keeps account of epoch %d, where it has died", s.name, share.Epoch)
		}
	}
	if seen != len(own) {
		wrong("stream %s has extents of %d epochs, and the ledger of %d", s.name, len(own), seen)
	}
	return own
}
