package layout

// LeaseRow is what a consumer application stores about a shard. With an empty shard in its key,
// it is about a stream; with an empty stream, about the whole application. Its key is
// [LeaseKey].
type LeaseRow struct {
	Stream           uint64 // the counter at which the stream was created, which distinguishes streams of one name
	Version          uint64 // rises with each write
	Epoch            uint64 // rises with each change of owner
	Owner, NextOwner string // names of workers; empty for none
	Paused           bool
	Checkpoint       LeaseCheckpoint
	Prepared         bool // whether the fields below are used
	Pending          LeaseCheckpoint
	State            []byte // the application's own, with the pending checkpoint
	Gaps             []LeaseGap
}

// LeaseGap is a shard before this one that expired before all of it was processed.
type LeaseGap struct {
	Shard     string
	FirstLost string // decimal digits of the last record that was processed; empty for none
	Accepted  bool   // whether the application has accepted the loss
}

// LeaseCheckpoint says how far a shard has been processed.
type LeaseCheckpoint struct {
	Start    string // text of a position: where processing begins if there is no number
	Number   string // decimal digits of the last record that was processed; empty for none
	Sub      uint64 // the index of a record inside that one, if it is an aggregate
	Partial  bool   // whether more records inside that one follow
	ShardEnd bool   // whether the whole shard was processed
}

// Flags of a lease's row.
const (
	leasePaused = 1 << iota
	leasePrepared
	leaseGaps
)

// gapAccepted is the flag of a gap.
const gapAccepted = 1

// Flags of a checkpoint.
const (
	checkpointPartial = 1 << iota
	checkpointShardEnd
)

// Encode returns the bytes of the lease's row.
func (r LeaseRow) Encode(key []byte) []byte {
	w := newRow()
	w.uint(r.Stream)
	w.uint(r.Version)
	w.uint(r.Epoch)
	w.string(r.Owner)
	w.string(r.NextOwner)
	w.uint(flag(r.Paused, leasePaused) | flag(r.Prepared, leasePrepared) | flag(len(r.Gaps) > 0, leaseGaps))
	w.checkpoint(r.Checkpoint)
	if r.Prepared {
		w.checkpoint(r.Pending)
		w.string(string(r.State))
	}
	if len(r.Gaps) > 0 {
		w.uint(uint64(len(r.Gaps)))
		for _, gap := range r.Gaps {
			w.string(gap.Shard)
			w.string(gap.FirstLost)
			w.uint(flag(gap.Accepted, gapAccepted))
		}
	}
	return w.seal(key)
}

// DecodeLeaseRow is the inverse of [LeaseRow.Encode].
func DecodeLeaseRow(key, value []byte) (row LeaseRow, err error) {
	r := openRow(key, value)
	row.Stream = r.uint()
	row.Version = r.uint()
	row.Epoch = r.uint()
	row.Owner = string(r.string())
	row.NextOwner = string(r.string())
	flags := r.flags(leasePaused | leasePrepared | leaseGaps)
	row.Paused, row.Prepared = flags&leasePaused != 0, flags&leasePrepared != 0
	row.Checkpoint = r.checkpoint()
	if row.Prepared {
		row.Pending = r.checkpoint()
		row.State = append([]byte(nil), r.string()...)
	}
	if flags&leaseGaps != 0 {
		row.Gaps = r.gaps()
	}
	return row, r.close()
}

func (w *rowWriter) checkpoint(c LeaseCheckpoint) {
	w.string(c.Start)
	w.string(c.Number)
	w.uint(c.Sub)
	w.uint(flag(c.Partial, checkpointPartial) | flag(c.ShardEnd, checkpointShardEnd))
}

func (r *rowReader) checkpoint() (c LeaseCheckpoint) {
	c.Start = string(r.string())
	c.Number = string(r.string())
	c.Sub = r.uint()
	flags := r.flags(checkpointPartial | checkpointShardEnd)
	c.Partial, c.ShardEnd = flags&checkpointPartial != 0, flags&checkpointShardEnd != 0
	return c
}

// gaps returns at least one gap.
func (r *rowReader) gaps() (gaps []LeaseGap) {
	n := r.uint()
	if n == 0 {
		r.fail("no gaps, although a flag announces some")
	}
	for ; n > 0 && r.err == nil; n-- {
		gaps = append(gaps, LeaseGap{
			Shard:     string(r.string()),
			FirstLost: string(r.string()),
			Accepted:  r.flags(gapAccepted) != 0,
		})
	}
	return gaps
}

// flags returns a set of known flags.
func (r *rowReader) flags(known uint64) uint64 {
	flags := r.uint()
	if flags&^known != 0 {
		r.fail("flags %#x, of which %#x are known", flags, known)
		return 0
	}
	return flags
}

func flag(set bool, value uint64) uint64 {
	if set {
		return value
	}
	return 0
}
