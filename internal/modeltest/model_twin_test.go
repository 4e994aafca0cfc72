package modeltest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
)

// The twin is braid as maps and slices: what a database should hold, and what each read of it
// should return. It does not know epochs, groups, files or memory. It is the shortest description
// of what braid promises.

type twin struct {
	streams map[string]*twinStream
	keys    map[string]string // the application's
}

type twinStream struct {
	kept []braid.SequenceNumber // ends of pages without a record

	name        string
	incarnation int // its ordinal among all streams ever created
	maxData     int
	retention   time.Duration      // 0: records do not expire
	limit       int64              // RetentionBytes; 0: none
	mode        braid.CapacityMode // unless it is Unlimited, puts may be refused
	keyID       string             // the key that encrypts puts
	floor       uint64             // counters below have expired for good
	records     []twinRecord       // readable, in the order of arrival
	aged        []twinRecord       // expired, and maybe still stored
	shards      []twinShard        // by index
	gone        []twinShard        // closed, and without records
	looked      twinMoment         // when the shards were last looked at
}

// twinMoment is a moment on both clocks: that for the age of records, and that of their arrival.
type twinMoment struct{ aging, arrival uint64 }

// twinSpan says when something happened: between two moments.
type twinSpan struct{ from, to uint64 }

type twinShard struct {
	id      braid.ShardID
	keys    braid.HashKeyRange
	parents []braid.ShardID
	closed  bool
	ending  braid.SequenceNumber // if it is closed
	horizon uint64               // one above the counter of the last record that was trimmed or expired
	trimmed uint64               // the same, for trimmed records
	last    uint64               // the counter of its last record ever
	over    uint64               // when it was first found due for removal; 0 if it is not

	aging   twinSpan // when it was closed, by the clock for the age of records
	arrival twinSpan // the same by the clock of arrival, which a database uses when it is opened
}

type twinRecord struct {
	id       int
	shard    braid.ShardID
	number   braid.SequenceNumber
	key      string
	explicit *braid.HashKey
	size     int // of the data

	encrypted bool // from the put's result
}

func newTwin() *twin {
	return &twin{streams: make(map[string]*twinStream), keys: make(map[string]string)}
}

// modelData returns the data of a record; all of it follows from id and size.
func modelData(id, size int) []byte {
	head := strconv.AppendInt(nil, int64(id), 10)
	head = append(head, '|')
	if size <= len(head) {
		return head
	}
	return append(head, bytes.Repeat([]byte{byte('a' + id%26)}, size-len(head))...)
}

// modelID is the inverse of modelData; -1 for anything else.
func modelID(data []byte) int {
	head, _, found := bytes.Cut(data, []byte("|"))
	id, err := strconv.Atoi(string(head))
	if !found || err != nil || !bytes.Equal(data, modelData(id, len(data))) {
		return -1
	}
	return id
}

// route returns the open shard that contains the hash key. There is exactly one: that is a stream's
// invariant.
func (s *twinStream) route(k braid.HashKey) braid.ShardID {
	var found []braid.ShardID
	for _, sh := range s.shards {
		if !sh.closed && sh.keys.Contains(k) {
			found = append(found, sh.id)
		}
	}
	if len(found) != 1 {
		return braid.ShardID(fmt.Sprintf("not one shard but %v", found))
	}
	return found[0]
}

func (s *twinStream) shard(id braid.ShardID) *twinShard {
	for i := range s.shards {
		if s.shards[i].id == id {
			return &s.shards[i]
		}
	}
	return nil
}

// add takes over acknowledged records, in any order.
func (s *twinStream) add(records ...twinRecord) {
	s.records = append(s.records, records...)
	slices.SortFunc(s.records, func(a, b twinRecord) int {
		return cmp.Compare(counter(a.number), counter(b.number))
	})
	for _, r := range records {
		sh := s.shard(r.shard)
		sh.last = max(sh.last, counter(r.number))
	}
}

// read returns what a reader gets from counter on, of one shard or, if id is empty, of all. If the
// reader relies on every record and some were trimmed, it returns the shard of those.
func (s *twinStream) read(id braid.ShardID, from uint64, strict bool) (records []twinRecord, trimmed braid.ShardID) {
	for _, sh := range slices.Concat(s.gone, s.shards) {
		if (id == "" || id == sh.id) && strict && from < sh.horizon {
			return nil, sh.id
		}
	}
	for _, r := range s.records {
		if (id == "" || id == r.shard) && counter(r.number) >= from {
			records = append(records, r)
		}
	}
	return records, ""
}

// trim removes the records below counter.
func (s *twinStream) trim(before uint64) {
	old := func(r twinRecord) bool { return counter(r.number) < before }
	for _, r := range s.records {
		if old(r) {
			sh := s.shard(r.shard)
			sh.horizon = max(sh.horizon, counter(r.number)+1)
			sh.trimmed = sh.horizon
		}
	}
	s.records = slices.DeleteFunc(s.records, old)
	s.aged = slices.DeleteFunc(s.aged, old)
}

// age removes what has expired at a time.
func (s *twinStream) age(now uint64) {
	s.records = slices.DeleteFunc(s.records, func(r twinRecord) bool {
		n := counter(r.number)
		if n >= s.floor && (s.retention == 0 || now <= n+uint64(s.retention)) {
			return false
		}
		sh := s.shard(r.shard)
		sh.horizon = max(sh.horizon, n+1)
		s.aged = append(s.aged, r)
		return true
	})
}

// changeRetention sets another period at a time.
func (s *twinStream) changeRetention(now uint64, period time.Duration) {
	for _, p := range []time.Duration{s.retention, period} {
		if p > 0 && now > uint64(p) {
			s.floor = max(s.floor, now-uint64(p))
		}
	}
	s.retention = period
	s.age(now)
}

// reopened takes over the stored horizon of a shard. If the clock has gone back, expired records
// above it can be read again.
func (s *twinStream) reopened(sh *twinShard, stored uint64) error {
	if stored < sh.trimmed || stored > max(1, sh.horizon) { // no record has counter 0
		return fmt.Errorf("the stored horizon of %s is %d; records before %d were trimmed, and before %d have expired", sh.id, stored, sh.trimmed, sh.horizon)
	}
	sh.horizon, sh.trimmed = stored, stored
	s.aged = slices.DeleteFunc(s.aged, func(r twinRecord) bool {
		if r.shard != sh.id {
			return false
		}
		if counter(r.number) >= stored {
			s.records = append(s.records, r)
		}
		return true
	})
	s.add() // in order
	return nil
}

// adopt takes over what was trimmed because the stream was too large, and checks that the rest is
// large enough.
func (s *twinStream) adopt(stream *braid.Stream) error {
	before := uint64(0)
	for _, sh := range s.shards {
		stored := sh.last + 1 // if it has gone
		if there, err := stream.Shard(sh.id); err == nil {
			stored = inside.ShardOf(there).Horizon()
		}
		if stored > max(1, sh.horizon) { // no record has counter 0
			before = max(before, stored)
		}
	}
	if before == 0 {
		return nil
	}
	s.trim(before)
	if kept := s.bytes(""); kept < s.limit {
		return fmt.Errorf("%d bytes are retained; the limit is %d", kept, s.limit)
	}
	return nil
}

// goes returns when a closed shard is removed, if it has no records by then.
func (s *twinStream) goes(sh twinShard) twinSpan {
	period := s.retention
	if period == 0 {
		period = 24 * time.Hour
	}
	return twinSpan{sh.aging.from + uint64(period), sh.aging.to + uint64(period)}
}

// closedSince takes over when a shard was closed: after the shards were last looked at, no matter
// how often others were before.
func (s *twinStream) closedSince(sh *twinShard, sd braid.ShardDescription, now twinMoment) error {
	sh.aging = twinSpan{s.looked.aging, now.aging}
	sh.arrival = twinSpan{min(s.looked.arrival, now.arrival), now.arrival}
	at := uint64(sd.ClosedAt.UnixNano())
	if at < sh.arrival.from || at > sh.arrival.to {
		return fmt.Errorf("%s was closed between %d and %d, but reports %d", sh.id, sh.arrival.from, sh.arrival.to, at)
	}
	return nil
}

// bytes returns the size of a shard's records as the stream counts it; of all shards if id is
// empty.
func (s *twinStream) bytes(id braid.ShardID) (n int64) {
	for _, r := range s.records {
		if id == "" || r.shard == id {
			n += int64(len(r.key) + r.size)
		}
	}
	return n
}

// matches returns an error if a record differs from what it should be.
func (r twinRecord) matches(got braid.Record) error {
	switch {
	case got.SequenceNumber != r.number || got.ShardID != r.shard:
		return fmt.Errorf("read %s of %s; expected record %d, %s of %s", got.SequenceNumber, got.ShardID, r.id, r.number, r.shard)
	case got.PartitionKey != r.key || !bytes.Equal(got.Data, modelData(r.id, r.size)):
		return fmt.Errorf("record %d was changed: key %.20q, data %.20q of %d bytes", r.id, got.PartitionKey, got.Data, len(got.Data))
	case (got.ExplicitHashKey == nil) != (r.explicit == nil) || r.explicit != nil && *got.ExplicitHashKey != *r.explicit:
		return fmt.Errorf("record %d has another explicit hash key", r.id)
	case got.Encrypted != r.encrypted:
		return fmt.Errorf("record %d is read with Encrypted %v, unlike the put's result", r.id, got.Encrypted)
	case uint64(got.ArrivalTime.UnixNano()) != counter(r.number):
		return fmt.Errorf("record %d has arrival time %v, which is not its counter", r.id, got.ArrivalTime)
	}
	return nil
}

// compareRead returns an error if a read differs from what it should be.
func compareRead(got []braid.Record, want []twinRecord) error {
	for i := range min(len(got), len(want)) {
		if err := want[i].matches(got[i]); err != nil {
			return fmt.Errorf("record %d of %d: %w", i, len(want), err)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d records were read; the twin has %d", len(got), len(want))
	}
	return nil
}

// checkShards compares lineage and ranges with the twin's before a change, checks the invariant,
// and takes over new shards as of that time.
func (s *twinStream) checkShards(d braid.StreamDescription, now twinMoment) error {
	if err := s.dropShards(d, now.aging); err != nil {
		return err
	}
	var shards []twinShard
	next := uint32(len(s.gone) + len(s.shards)) // ids are dense, apart from removed shards
	for i, sd := range d.Shards {
		sh := twinShard{id: sd.ID, keys: sd.HashKeyRange, parents: sd.Parents, closed: sd.Closed, ending: sd.EndingSequenceNumber}
		if i < len(s.shards) {
			old := s.shards[i]
			if old.id != sh.id || old.keys != sh.keys || !slices.Equal(old.parents, sh.parents) || old.closed && !sh.closed {
				return fmt.Errorf("%s has changed from %+v to %+v", old.id, old, sh)
			}
			sh.horizon, sh.trimmed, sh.last, sh.over = old.horizon, old.trimmed, old.last, old.over
			sh.aging, sh.arrival = old.aging, old.arrival
			if sh.closed && !old.closed {
				if err := s.closedSince(&sh, sd, now); err != nil {
					return err
				}
			}
		} else {
			if sh.closed {
				if err := s.closedSince(&sh, sd, now); err != nil {
					return err
				}
			}
			if sh.id.Index() != int(next) {
				return fmt.Errorf("unexpected id of a new shard: %s", sh.id)
			}
			next++
		}
		if sd.Closed != (len(sd.Children) > 0) {
			return fmt.Errorf("%s has children %v, and closed is %v", sd.ID, sd.Children, sd.Closed)
		}
		for _, parent := range sd.Parents {
			p := slices.IndexFunc(d.Shards, func(p braid.ShardDescription) bool { return p.ID == parent })
			if slices.ContainsFunc(s.gone, func(sh twinShard) bool { return sh.id == parent }) {
				continue
			}
			if p < 0 || !d.Shards[p].Closed || d.Shards[p].EndingSequenceNumber.Compare(sd.StartingSequenceNumber) >= 0 || d.Shards[p].ClosedAt != sd.CreatedAt {
				return fmt.Errorf("%s does not begin after its parent %s", sd.ID, parent)
			}
		}
		shards = append(shards, sh)
	}
	if len(shards) < len(s.shards) {
		return fmt.Errorf("%d shards are gone", len(s.shards)-len(shards))
	}
	s.shards, s.looked = shards, now
	return checkTiling(d)
}

// dropShards removes the shards that have gone from the twin, if their time has come, and checks
// that no other shard should have gone.
func (s *twinStream) dropShards(d braid.StreamDescription, now uint64) error {
	var kept []twinShard
	for _, sh := range s.shards {
		there := slices.ContainsFunc(d.Shards, func(sd braid.ShardDescription) bool { return sd.ID == sh.id })
		records, _ := s.read(sh.id, 0, false)
		may := sh.closed && len(records) == 0 && now >= s.goes(sh).from &&
			!slices.ContainsFunc(kept, func(p twinShard) bool { return slices.Contains(sh.parents, p.id) })
		over := may && now >= s.goes(sh).to
		switch {
		case !over:
			sh.over = 0
		case sh.over == 0:
			sh.over = now
		}
		switch {
		case there && over && now > sh.over+uint64(2*inside.TrimInterval):
			return fmt.Errorf("%s should have gone", sh.id)
		case !there && !may:
			return fmt.Errorf("%s has gone", sh.id)
		case there:
			kept = append(kept, sh)
		default:
			s.gone = append(s.gone, sh)
		}
	}
	s.shards = kept
	return nil
}

// checkTiling checks that the open shards cover the hash-key space without gap or overlap.
func checkTiling(d braid.StreamDescription) error {
	open := slices.DeleteFunc(slices.Clone(d.Shards), func(sd braid.ShardDescription) bool { return sd.Closed })
	slices.SortFunc(open, func(a, b braid.ShardDescription) int { return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start) })
	var next braid.HashKey
	for i, sd := range open {
		if sd.HashKeyRange.Start != next {
			return fmt.Errorf("%s begins at %s, not at %s", sd.ID, sd.HashKeyRange.Start, next)
		}
		if i == len(open)-1 && sd.HashKeyRange.End == braid.MaxHashKey() {
			return nil
		}
		next, _ = sd.HashKeyRange.End.Next()
	}
	return fmt.Errorf("the open shards end below the highest hash key")
}
