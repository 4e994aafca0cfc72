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

// stream is one of the streams to be saved.
type stream struct {
	number   uint32
	row      layout.StreamRow
	nameless bool // its name was lost, and it has been given one
	shards   map[uint32]*shard
	dataKeys map[uint32]layout.DataKeyRow
}

// shard is one of a stream's shards.
type shard struct {
	stream *stream
	index  uint32
	isNew  bool // it was made because no shard was found for its range
	row    layout.ShardRow
	known  map[uint32]layout.ExtentRow // by epoch: the rows that were found

	uncounted []uint64 // ordinals from which on an unknown number was lost before, in an earlier salvage

	received uint64 // the counter of the last record that a queue has received; 0 for none

	// What the walk has come to.
	extents []extent
	next    layout.Horizon // where the records go on
	seq     uint64         // of the last block, in the old store; 0 if it is not known
}

// extent is one that the new database will have.
type extent struct {
	epoch uint32
	row   layout.ExtentRow
}

// orphan is a shard of which no row was found.
type orphan struct{ stream, shard uint32 }

// sorted returns the values of a map in the order of their keys.
func sorted[K cmp.Ordered, V any](m map[K]V) []V {
	all := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}

// restoreState takes the rows apart, and mends what they lack.
func (s *survey) restoreState() error {
	s.streams = make(map[uint32]*stream)
	s.orphans = make(map[orphan]uint64)
	s.epochs = make(map[uint32]layout.EpochRow)
	s.queues, s.leftOut = make(map[layout.QueueID]*queue), make(map[layout.QueueID]bool)
	if value, ok := s.row(layout.FormatKey()); ok { // which counts if the identity is lost
		if row, err := layout.DecodeFormatRow(value); err == nil && row.OldestReader > layout.FormatVersion {
			return fmt.Errorf("%w: %s has format %d, readable from version %d on", kv.ErrFormatTooNew, s.cfg.From, row.Version, row.OldestReader)
		}
	}
	if value, ok := s.row(layout.ClockKey()); ok {
		s.clock, _ = layout.DecodeClockRow(value) // it was checked
		s.last = s.clock.Counter
	} else {
		s.note("the row that bounds the counters is lost")
	}
	s.clock.Closed = s.clock.Closed && s.ended && !s.noLog // else it may have been opened again since
	s.report.Whole = s.clock.Closed
	keys := slices.Sorted(maps.Keys(s.rows)) // streams before shards before extents
	for _, key := range keys {
		if value, ok := s.row([]byte(key)); ok {
			s.restoreRow([]byte(key), value)
		}
	}
	for _, st := range sorted(s.streams) {
		if s.isDead(st.number) {
			delete(s.streams, st.number) // what says so of its other rows is lost
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

// reach notes counters that were given out.
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

// shardOf returns a shard. Where no row of it was found it has none yet: its Created is
// zero.
func (s *survey) shardOf(number, index uint32) *shard {
	st := s.addStream(number)
	sh := st.shards[index]
	if sh == nil {
		sh = &shard{stream: st, index: index, known: make(map[uint32]layout.ExtentRow)}
		st.shards[index] = sh
	}
	return sh
}

// mendStream makes up for rows of a stream that are lost. A stream of which neither its
// own row nor that of a shard is there cannot be saved: nothing tells the numbers that
// its records had.
func (s *survey) mendStream(st *stream) {
	s.dropUnknown(st)
	if len(st.shards) == 0 && st.row.Created == 0 {
		if len(st.dataKeys) > 0 {
			s.note("all rows of stream %d are lost, but for its data keys", st.number)
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

// dropUnknown makes rows for the shards without one of which all is known but the range:
// those that the stream was created with. The others are dropped.
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
			s.note("the row of shard %d of stream %d is lost, and with it the numbers of its records", sh.index, st.number)
			delete(st.shards, sh.index)
			continue
		}
		lost = append(lost, sh)
		sh.row.Created, sh.row.CreatedSeconds = st.row.Created, st.row.Created/uint64(time.Second)
		sh.row.Start, sh.row.End = uint128.Max, uint128.Uint128{} // until it is known
		s.note("the row of shard %d of stream %q was lost and made anew", sh.index, st.row.Name)
	}
	st.placeLost(lost)
}

// placeLost gives the shards that the stream was created with, and whose rows are lost,
// the ranges that are left. Where those cannot be told the shards are closed.
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

// closeParents closes shards whose children are there: the row that says so is lost, and
// an earlier one was found.
func (st *stream) closeParents(s *survey) {
	for _, child := range sorted(st.shards) {
		for _, index := range child.row.Parents {
			parent := st.shards[index]
			if parent == nil || parent.row.Closed != 0 {
				continue
			}
			parent.row.Closed = child.row.Created
			parent.row.ClosedSeconds = max(parent.row.CreatedSeconds, child.row.CreatedSeconds-1)
			s.note("%s was closed, as its children are there", parent)
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
	full := false // from lies above the last key
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

// fillRanges makes the open shards cover all hash keys once: the older of two that
// overlap is closed, and a new shard takes what none has.
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
			s.note("%s was closed, as a later shard has a part of its range", x)
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
		s.note("%s is new: no shard was found that takes the records of its range", sh)
	}
}

// mendNames gives names to streams that have none or one that another has, too.
func (s *survey) mendNames() {
	taken := make(map[string]bool)
	var nameless []*stream
	for _, st := range slices.Backward(sorted(s.streams)) { // the later one has it
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
			s.note("the row of a stream is lost: it is called %q now, and has the default settings", st.row.Name)
		} else {
			s.note("a stream is called %q now: a later one is called %q as well, so it may have been deleted", st.row.Name, was)
		}
	}
}

// String names the shard.
func (sh *shard) String() string {
	return fmt.Sprintf("shard %d of stream %q", sh.index, sh.stream.row.Name)
}

// isDead reports whether a stream was deleted, of which no row may be left.
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

// describe adds to the report what is about the whole.
func (s *survey) describe() {
	streams := make(map[uint32]uint64)
	for o, blocks := range s.orphans {
		streams[o.stream] += blocks
	}
	for _, number := range slices.Sorted(maps.Keys(streams)) {
		s.note("%d blocks of records are left out, of shards of stream %d whose rows are lost", streams[number], number)
	}
	records, _ := layout.RecordSpan()
	apps, end := layout.AppSpan(nil, nil)
	lost, unknown := s.lost, s.isTorn || len(s.wreck.Unread) > 0
	switch { // anything may be missing, or be older than what is lost
	case s.isTorn:
		lost = []KeyRange{{}}
		s.note("changes in a log are lost: rows about streams, and leases, may be missing or be those of an earlier time")
	case len(s.wreck.Unread) > 0:
		lost = []KeyRange{{}}
		s.note("it is not known which tables were merged into others: rows about streams, and leases, may be those of an earlier time")
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
			s.note("rows about streams, or leases, of one table may be lost or be those of an earlier time")
		}
	}
	slices.SortStableFunc(s.report.Losses, func(x, y Loss) int {
		return cmp.Or(cmp.Compare(x.Stream, y.Stream), cmp.Compare(x.Shard, y.Shard), cmp.Compare(x.First, y.First))
	})
}
