package salvage

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/uint128"
)

// stream is a stream that is saved.
type stream struct {
	number   uint32
	row      layout.StreamRow
	nameless bool // whether its name was lost and it has a made-up one
	shards   map[uint32]*shard
	dataKeys map[uint32]layout.DataKeyRow
}

// shard is a shard of a stream that is saved.
type shard struct {
	stream *stream
	index  uint32
	isNew  bool // whether it was made for a range without a shard
	row    layout.ShardRow
	known  map[uint32]layout.ExtentRow // the rows that were found, by epoch

	uncounted []uint64 // ordinals from which on an earlier salvage has lost an unknown number of records

	received uint64 // the counter of the last record that a queue has received; 0 for none

	// The state of the walk.
	extents []extent
	next    layout.Horizon // where the next record is expected
	seq     uint64         // of the last block, in the old store; 0 if unknown
}

// extent is an extent of the new database.
type extent struct {
	epoch uint32
	row   layout.ExtentRow
}

// orphan is a shard without any row.
type orphan struct{ stream, shard uint32 }

// sorted returns the values of a map in the order of their keys.
func sorted[K cmp.Ordered, V any](m map[K]V) []V {
	all := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}

// restoreState decodes the rows, and replaces missing ones.
func (s *survey) restoreState() error {
	s.streams = make(map[uint32]*stream)
	s.orphans = make(map[orphan]uint64)
	s.epochs = make(map[uint32]layout.EpochRow)
	s.queues, s.leftOut = make(map[layout.QueueID]*queue), make(map[layout.QueueID]bool)
	if value, ok := s.row(layout.FormatKey()); ok { // matters if the identity file is lost
		if row, err := layout.DecodeFormatRow(value); err == nil && row.OldestReader > layout.FormatVersion {
			return fmt.Errorf("%w: %s has format %d, readable from version %d on", kv.ErrFormatTooNew, s.cfg.From, row.Version, row.OldestReader)
		}
	}
	if value, ok := s.row(layout.ClockKey()); ok {
		s.clock, _ = layout.DecodeClockRow(value) // it was checked
		s.last = s.clock.Counter
	} else {
		s.note("the row of the clock, which bounds the counters, is lost")
	}
	s.clock.Closed = s.clock.Closed && s.ended && !s.noLog // otherwise it may have been opened again after that
	s.report.Whole = s.clock.Closed
	keys := slices.Sorted(maps.Keys(s.rows)) // streams before shards before extents
	for _, key := range keys {
		if value, ok := s.row([]byte(key)); ok {
			s.restoreRow([]byte(key), value)
		}
	}
	for _, st := range sorted(s.streams) {
		if s.isDead(st.number) {
			delete(s.streams, st.number) // the deletions of its other rows are lost
			continue
		}
		s.mendStream(st)
	}
	s.mendNames()
	return nil
}

func (s *survey) restoreRow(key, value []byte) {
	if number, err := layout.DecodeStreamKey(key); err == nil {
		st := s.addStream(number)
		st.row, _ = layout.DecodeStreamRow(number, value)
		s.reach(st.row.Created, st.row.Floor)
		return
	}
	if number, index, err := layout.DecodeShardKey(key); err == nil {
		row, _ := layout.DecodeShardRow(number, index, value)
		st := s.addStream(number)
		st.shards[index] = &shard{stream: st, index: index, row: row, known: make(map[uint32]layout.ExtentRow)}
		s.reach(row.Created, row.Closed, row.Horizon.Counter)
		return
	}
	if id, err := layout.DecodeEpochKey(key); err == nil {
		s.epochs[id], _ = layout.DecodeEpochRow(id, value)
		s.reach(s.epochs[id].FirstCounter)
		return
	}
	if number, index, id, err := layout.DecodeExtentKey(key); err == nil {
		row, _ := layout.DecodeExtentRow(number, index, id, value)
		s.reach(row.FirstCounter, row.End.Counter)
		if s.gone[string(layout.ShardKey(number, index))] {
			return
		}
		s.shardOf(number, index).known[id] = row
		return
	}
	if number, dataKey, err := layout.DecodeDataKeyKey(key); err == nil {
		st := s.addStream(number)
		st.dataKeys[dataKey], _ = layout.DecodeDataKeyRow(number, dataKey, value)
		s.reach(st.dataKeys[dataKey].Created)
	}
}

// reach notes counters that were given out, so that new ones are higher.
func (s *survey) reach(counters ...uint64) {
	for _, c := range counters {
		s.last = max(s.last, c)
	}
}

func (s *survey) addStream(number uint32) *stream {
	st := s.streams[number]
	if st == nil {
		st = &stream{number: number, shards: make(map[uint32]*shard), dataKeys: make(map[uint32]layout.DataKeyRow)}
		s.streams[number] = st
	}
	return st
}

// shardOf returns a shard. If no row was found for it, Created is zero in its row.
func (s *survey) shardOf(number, index uint32) *shard {
	st := s.addStream(number)
	sh := st.shards[index]
	if sh == nil {
		sh = &shard{stream: st, index: index, known: make(map[uint32]layout.ExtentRow)}
		st.shards[index] = sh
	}
	return sh
}

// mendStream replaces the lost rows of a stream. A stream without its own row and without any
// row of a shard cannot be saved, because the numbers of its records are unknown.
func (s *survey) mendStream(st *stream) {
	s.dropUnknown(st)
	if len(st.shards) == 0 && st.row.Created == 0 {
		if len(st.dataKeys) > 0 {
			s.note("all rows of stream %d are lost, except its data keys", st.number)
		}
		delete(s.streams, st.number)
		return
	}
	if st.row.Created == 0 {
		st.row = s.cfg.Stream
		st.row.Created = uint64(math.MaxUint64)
		for _, sh := range st.shards {
			st.row.Created = min(st.row.Created, sh.row.Created)
		}
	}
	st.closeParents(s)
	st.fillRanges(s)
	for index := range st.shards {
		st.row.NextShard = max(st.row.NextShard, index+1)
	}
	for number := range st.dataKeys {
		st.row.NextDataKey = max(st.row.NextDataKey, number+1)
	}
}

// dropUnknown makes rows for those shards without one that the stream was created with: all is
// known about them but the range. It drops the others.
func (s *survey) dropUnknown(st *stream) {
	first := uint32(math.MaxUint32) // the lowest shard that came from another one
	for _, sh := range st.shards {
		if sh.row.Created != 0 && len(sh.row.Parents) > 0 {
			first = min(first, sh.index)
		}
	}
	var lost []*shard
	for _, sh := range sorted(st.shards) {
		if sh.row.Created != 0 {
			continue
		}
		if st.row.Created == 0 || sh.index >= first {
			s.note("the row of shard %d of stream %d is lost, and so are the numbers of its records", sh.index, st.number)
			delete(st.shards, sh.index)
			continue
		}
		lost = append(lost, sh)
		sh.row.Created, sh.row.CreatedSeconds = st.row.Created, st.row.Created/uint64(time.Second)
		sh.row.Start, sh.row.End = uint128.Max, uint128.Uint128{} // until the range is known
		s.note("the row of shard %d of stream %q was lost, and is replaced", sh.index, st.row.Name)
	}
	st.placeLost(lost)
}

// placeLost gives the ranges that no shard has to the shards that the stream was created with
// and whose rows are lost. If it cannot assign them, it closes these shards.
func (st *stream) placeLost(lost []*shard) {
	if len(lost) == 0 {
		return
	}
	holes := st.holes()
	isParent := func(sh *shard) bool {
		for _, other := range st.shards {
			if slices.Contains(other.row.Parents, sh.index) {
				return true
			}
		}
		return false
	}
	for _, sh := range lost {
		if len(holes) == len(lost) && !isParent(sh) {
			sh.row.Start, sh.row.End = holes[0].start, holes[0].end
			holes = holes[1:]
			continue
		}
		sh.row.Start, sh.row.End = uint128.Uint128{}, uint128.Max
		sh.row.Closed, sh.row.ClosedSeconds = sh.row.Created, sh.row.CreatedSeconds
	}
}

// closeParents closes shards that have children: their newest rows are lost, and earlier ones
// were found.
func (st *stream) closeParents(s *survey) {
	for _, child := range sorted(st.shards) {
		for _, index := range child.row.Parents {
			parent := st.shards[index]
			if parent == nil || parent.row.Closed != 0 {
				continue
			}
			parent.row.Closed = child.row.Created
			parent.row.ClosedSeconds = max(parent.row.CreatedSeconds, child.row.CreatedSeconds-1)
			s.note("%s was closed, because it has children", parent)
		}
	}
}

// hole is a range of hash keys that no open shard has.
type hole struct{ start, end uint128.Uint128 }

// holes returns the ranges of hash keys that no open shard has. Of two that overlap the
// older one counts as closed.
func (st *stream) holes() (holes []hole) {
	var open []*shard
	for _, sh := range st.shards {
		if sh.row.Closed == 0 && !sh.row.End.Less(sh.row.Start) {
			open = append(open, sh)
		}
	}
	slices.SortFunc(open, func(x, y *shard) int { return x.row.Start.Compare(y.row.Start) })
	var from uint128.Uint128
	full := false // whether from is above the last key
	for _, sh := range open {
		if from.Less(sh.row.Start) {
			holes = append(holes, hole{from, sh.row.Start.SubOne()})
		}
		from, full = sh.row.End.AddOne(), sh.row.End == uint128.Max
	}
	if !full {
		holes = append(holes, hole{from, uint128.Max})
	}
	return holes
}

// fillRanges makes the open shards cover all hash keys once: it closes the older of two that
// overlap, and makes new shards for the ranges that none has.
func (st *stream) fillRanges(s *survey) {
	for again := true; again; {
		again = false
		var open []*shard
		for _, sh := range sorted(st.shards) {
			if sh.row.Closed == 0 {
				open = append(open, sh)
			}
		}
		slices.SortStableFunc(open, func(x, y *shard) int { return x.row.Start.Compare(y.row.Start) })
		for i := 1; i < len(open) && !again; i++ {
			x, y := open[i-1], open[i]
			if x.row.End.Less(y.row.Start) {
				continue
			}
			if y.index < x.index {
				x = y
			}
			x.row.Closed, x.row.ClosedSeconds, again = s.last+1, x.row.CreatedSeconds, true
			s.note("%s was closed, because a later shard has a part of its range", x)
		}
	}
	for _, h := range st.holes() {
		index := st.row.NextShard
		for i := range st.shards {
			index = max(index, i+1)
		}
		now := max(s.last+1, s.cfg.Now)
		seconds := now / uint64(time.Second)
		for _, sh := range st.shards {
			seconds = max(seconds, sh.row.CreatedSeconds+1, sh.row.ClosedSeconds+1)
		}
		sh := &shard{
			stream: st, index: index, isNew: true, known: make(map[uint32]layout.ExtentRow),
			row: layout.ShardRow{Start: h.start, End: h.end, Created: now, CreatedSeconds: seconds},
		}
		st.shards[index], st.row.NextShard = sh, index+1
		s.reach(now)
		s.note("%s is new: no open shard was found for its range", sh)
	}
}

// mendNames gives new names to streams whose names are lost, and to those whose names another
// stream has.
func (s *survey) mendNames() {
	taken := make(map[string]bool)
	var nameless []*stream
	for _, st := range slices.Backward(sorted(s.streams)) { // the later stream keeps the name
		if name := st.row.Name; name == "" || taken[name] {
			nameless = append(nameless, st)
		} else {
			taken[name] = true
		}
	}
	for _, st := range nameless {
		was := st.row.Name
		st.nameless = was == ""
		st.row.Name = fmt.Sprintf("salvaged-%d", st.number)
		for n := 2; taken[st.row.Name]; n++ {
			st.row.Name = fmt.Sprintf("salvaged-%d-%d", st.number, n)
		}
		taken[st.row.Name] = true
		if was == "" {
			s.note("the row of a stream is lost: the stream has got the name %q and the default settings", st.row.Name)
		} else {
			s.note("a stream has got the name %q: a later one has its name %q, so it may have been deleted", st.row.Name, was)
		}
	}
}

// String names the shard.
func (sh *shard) String() string {
	return fmt.Sprintf("shard %d of stream %q", sh.index, sh.stream.row.Name)
}

// isDead reports whether a stream was deleted, even if none of its rows is left.
func (s *survey) isDead(number uint32) bool {
	if s.gone[string(layout.StreamKey(number))] {
		return true
	}
	lower, _ := layout.StreamShardsSpan(number)
	for _, d := range s.ranges {
		if bytes.Equal(d.Start, lower) {
			return true
		}
	}
	return false
}

// describe adds the notes about the whole database to the report.
func (s *survey) describe() {
	streams := make(map[uint32]uint64)
	for o, blocks := range s.orphans {
		streams[o.stream] += blocks
	}
	for _, number := range slices.Sorted(maps.Keys(streams)) {
		s.note("%d blocks of records of stream %d are left out, because the rows of their shards are lost", streams[number], number)
	}
	records, _ := layout.RecordSpan()
	apps, end := layout.AppSpan(nil, nil)
	lost, unknown := s.lost, s.isTorn || len(s.wreck.Unread) > 0
	switch { // in these cases anything may be missing, or older than it should be
	case s.isTorn:
		lost = []KeyRange{{}}
		s.note("changes in a log are lost: rows about streams, and leases, may be missing or outdated")
	case len(s.wreck.Unread) > 0:
		lost = []KeyRange{{}}
		s.note("it is unknown which tables are obsolete: rows about streams, and leases, may be outdated")
	}
	for _, r := range lost {
		if r.overlaps(apps, end) {
			var lost KeyRange
			if key, err := layout.DecodeAppKey(r.After); err == nil && len(key) > 0 {
				lost.After = key
			}
			if key, err := layout.DecodeAppKey(r.Through); err == nil {
				lost.Through = key
			}
			s.report.LostKeys = append(s.report.LostKeys, lost)
		}
		if r.overlaps(nil, records) && !unknown {
			s.note("rows about streams, or leases, of one table may be lost or outdated")
		}
	}
	slices.SortStableFunc(s.report.Losses, func(x, y Loss) int {
		return cmp.Or(cmp.Compare(x.Stream, y.Stream), cmp.Compare(x.Shard, y.Shard), cmp.Compare(x.First, y.First))
	})
}
