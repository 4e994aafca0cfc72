package braid

import (
	"fmt"

	"github.com/braidstream/braid/internal/layout"
)

// This file verifies the leases of package consumer by their rows, which package layout
// decodes: neither package consumer nor a running application is needed.

// verifyLeases verifies each lease against its shard.
//
// A lease is committed after its shard, and after the records up to its checkpoint became
// visible. So a look-up after the lease was read finds them.
func (v *verifier) verifyLeases() error {
	return v.scanColumn("lease", layout.LeaseSpan, func(key, value []byte) error {
		v.report.Leases++
		app, stream, shard, err := layout.DecodeLeaseKey(key)
		at := VerifyError{Kind: "lease", App: app, Stream: stream, Shard: ShardID(shard)}
		if err != nil {
			v.found(at, corrupt(err))
			return nil
		}
		row, err := layout.DecodeLeaseRow(key, value)
		if err != nil {
			v.found(at, corrupt(err))
			return nil
		}
		checkpoints := []layout.LeaseCheckpoint{row.Checkpoint}
		if row.Prepared {
			checkpoints = append(checkpoints, row.Pending)
		}
		for _, gap := range row.Gaps {
			if _, err := ParseSequenceNumber(gap.FirstLost); gap.FirstLost != "" && err != nil {
				v.found(at, corrupt(err))
				return nil
			}
		}
		for _, c := range checkpoints {
			if err := v.checkpoint(stream, shard, row.Stream, c); err != nil {
				v.found(at, err)
				break
			}
		}
		return nil
	})
}

// checkpoint returns what is wrong with a checkpoint in a lease for a shard of the stream that
// was created at that counter. If there is no such stream, it was deleted, or the lease is for
// a source of records outside the database; then the checkpoint need only decode.
func (v *verifier) checkpoint(stream, shard string, created uint64, c layout.LeaseCheckpoint) error {
	start, err := ParsePosition(c.Start)
	if err != nil {
		return corrupt(err)
	}
	var number SequenceNumber
	if c.Number != "" {
		if number, err = ParseSequenceNumber(c.Number); err != nil {
			return corrupt(err)
		}
	}
	s, err := v.db.stream(stream)
	if err != nil || s.createdCounter != created || shard == "" {
		return nil
	}
	t := s.topology.Load()
	index, ok := parseShardID(shard)
	sh := t.shard(index)
	switch {
	case !ok || index >= t.next:
		return fmt.Errorf("%w: the stream has never had that shard", ErrCorrupt)
	case sh == nil: // it has expired
		return nil
	case c.ShardEnd && sh.closing.Load() == nil:
		return fmt.Errorf("%w: its checkpoint is the end of the shard, but the shard is open", ErrCorrupt)
	case number.IsZero() && start.number.shardIndex() == index && start.number.createdSeconds() == int64(sh.createdSeconds):
		if err := start.beyond(s, sh); err != nil {
			return fmt.Errorf("%w: %w", ErrDataLoss, err)
		}
		return nil
	case number.IsZero():
		return nil
	case number.shardIndex() != index || number.createdSeconds() != int64(sh.createdSeconds):
		return fmt.Errorf("%w: its checkpoint is the number %s, which does not belong to the shard", ErrCorrupt, number)
	}
	if last := sh.log.LastCounter(); number.counter() > last {
		return fmt.Errorf("%w: %w", ErrDataLoss, &BeyondTipError{Shard: sh.id, Number: number, Last: number.withCounter(last)})
	}
	return nil
}
