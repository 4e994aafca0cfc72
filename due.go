package braid

import (
	"math"

	"github.com/braidstream/braid/internal/agenda"
)

// Retention finds what to trim next without a look at the rest. A stream has its shards in
// agendas, by what they hold. The appender has the streams with something to trim in an
// agenda, by when they are due. Every change of a shard or stream moves it to its new place
// there. TestCostDoesNotGrowWithWhatIsIdle checks this.

// file puts the shard into the stream's agendas, at the places for its current contents.
func (a *appender) file(sh *Shard) {
	a.counts.looks.Add(1)
	s := sh.stream
	if len(sh.w.extents) > 0 {
		s.w.filled.Set(&sh.w.filled, a.lastOfExtent(sh, 0))
		return
	}
	s.w.filled.Remove(&sh.w.filled)
	s.w.oldest.Remove(&sh.w.oldest)
	if sh.w.closing != nil && !s.w.topology.hasParentOf(sh) {
		s.w.emptied.Set(&sh.w.emptied, sh.w.closing.aged)
	}
}

// lastOfExtent returns an upper bound of the counters in the shard's i-th extent. The bound
// rises as long as the extent is the last one.
func (a *appender) lastOfExtent(sh *Shard, i int) uint64 {
	if i+1 < len(sh.w.extents) {
		return a.epochs.LastCounter(sh.w.extents[i].Epoch)
	}
	return sh.w.tip.LastCounter
}

// schedule puts the stream into the agenda, by the time at which it may have something to
// trim. It may turn out to be due later, since the agendas of its shards have lower bounds.
func (a *appender) schedule(s *Stream) {
	due := s.due()
	if s.w.deleted || due == math.MaxUint64 {
		a.trims.Remove(&s.w.trims)
		return
	}
	a.trims.Set(&s.w.trims, due)
	if due < a.asleep {
		a.asleep = 0
		a.db.trimming.Ring()
	}
}

// due returns the time on the retention clock at which the stream may have something to
// trim; the largest value means never.
func (s *Stream) due() uint64 {
	due := uint64(math.MaxUint64)
	if s.w.ledger.Over(uint64(s.w.settings.retentionBytes)) {
		return 0
	}
	if first := s.w.filled.First(); first != nil {
		if first.Due() < s.w.settings.floor {
			return 0
		}
		if s.w.settings.retention > 0 {
			due = first.Due() + uint64(s.w.settings.retention) + 1
		}
	}
	if first := s.w.emptied.First(); first != nil {
		due = min(due, s.goes(first))
	}
	return due
}

// goes returns the time on the retention clock at which a closed shard without records is
// removed.
func (s *Stream) goes(sh *agenda.Item[*Shard]) uint64 {
	period := s.w.settings.retention
	if period == 0 {
		period = defaultRetention // its readers must have time to see its end
	}
	return sh.Due() + uint64(period)
}

// restoreTrims fills the agendas and the ledger of a stream that was loaded.
func (a *appender) restoreTrims(s *Stream) {
	for _, sh := range s.w.topology.shards {
		for _, parent := range sh.parents {
			if p := s.w.topology.shard(parent); p != nil && p.w.closing != nil {
				p.w.closing.children = append(p.w.closing.children, sh.index)
			}
		}
		for i, extent := range sh.w.extents {
			bytes := sh.extentBytes(i)
			s.w.ledger.AddExtent(extent.Epoch)
			s.w.ledger.Grow(extent.Epoch, bytes)
			a.epochs.Hold(extent.Epoch, bytes)
		}
		if len(sh.w.extents) > 0 {
			s.w.ledger.Trim(sh.w.extents[0].Epoch, sh.trimmedOf(0, sh.w.horizon))
			s.w.oldest.Set(&sh.w.oldest, max(sh.w.horizon.Counter, sh.w.extents[0].FirstCounter))
		}
		a.file(sh)
	}
	a.schedule(s)
}
