package braid

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// The twin is braid as maps and slices: what a database should hold, and what
// each read of it should return. It knows nothing of epochs, groups, files or
// memory. Whoever wants to know what braid promises can read it here.

type twin struct {
	streams map[string]*twinStream
	keys    map[string]string // the application's own
}

type twinStream struct {
	name        string
	incarnation int // of all streams that were created, the how manieth
	maxData     int
	records     []twinRecord // that can be read, in the order of arrival
	shards      []twinShard  // by index
}

type twinShard struct {
	id      ShardID
	keys    HashKeyRange
	parents []ShardID
	closed  bool
	horizon uint64 // one above the counter of the last record that was trimmed
	last    uint64 // the counter of the last record there ever was
}

type twinRecord struct {
	id       int
	shard    ShardID
	number   SequenceNumber
	key      string
	explicit *HashKey
	size     int // of the data
}

func newTwin() *twin {
	return &twin{streams: make(map[string]*twinStream), keys: make(map[string]string)}
}

// modelData is the data of record id: all of it follows from id and size.
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

// route returns the open shard that holds the hash key. There is one, and one
// only: that is the invariant of a stream.
func (s *twinStream) route(k HashKey) ShardID {
	var found []ShardID
	for _, sh := range s.shards {
		if !sh.closed && sh.keys.Contains(k) {
			found = append(found, sh.id)
		}
	}
	if len(found) != 1 {
		return ShardID(fmt.Sprintf("not one shard but %v", found))
	}
	return found[0]
}

func (s *twinStream) shard(id ShardID) *twinShard {
	for i := range s.shards {
		if s.shards[i].id == id {
			return &s.shards[i]
		}
	}
	return nil
}

// add takes records that were acknowledged, in any order.
func (s *twinStream) add(records ...twinRecord) {
	s.records = append(s.records, records...)
	slices.SortFunc(s.records, func(a, b twinRecord) int {
		return cmp.Compare(a.number.counter(), b.number.counter())
	})
	for _, r := range records {
		sh := s.shard(r.shard)
		sh.last = max(sh.last, r.number.counter())
	}
}

// read returns what a reader gets from counter on, of one shard or, with an
// empty id, of all. If the reader counts on every record and some of them were
// trimmed, it returns the shard to blame.
func (s *twinStream) read(id ShardID, from uint64, strict bool) (records []twinRecord, trimmed ShardID) {
	for _, sh := range s.shards {
		if (id == "" || id == sh.id) && strict && from < sh.horizon {
			return nil, sh.id
		}
	}
	for _, r := range s.records {
		if (id == "" || id == r.shard) && r.number.counter() >= from {
			records = append(records, r)
		}
	}
	return records, ""
}

// trim removes what lies before counter.
func (s *twinStream) trim(before uint64) {
	for _, r := range s.records {
		if n := r.number.counter(); n < before {
			sh := s.shard(r.shard)
			sh.horizon = max(sh.horizon, n+1)
		}
	}
	s.records = slices.DeleteFunc(s.records, func(r twinRecord) bool { return r.number.counter() < before })
}

// bytes is what the records of a shard count for; of all with an empty id.
func (s *twinStream) bytes(id ShardID) (n int64) {
	for _, r := range s.records {
		if id == "" || r.shard == id {
			n += int64(len(r.key) + r.size)
		}
	}
	return n
}

// matches says how a record that was read differs from what it should be.
func (r twinRecord) matches(got Record) error {
	switch {
	case got.SequenceNumber != r.number || got.ShardID != r.shard:
		return fmt.Errorf("%s of %s was read where record %d, %s of %s, should be", got.SequenceNumber, got.ShardID, r.id, r.number, r.shard)
	case got.PartitionKey != r.key || !bytes.Equal(got.Data, modelData(r.id, r.size)):
		return fmt.Errorf("record %d was changed: key %.20q, data %.20q of %d bytes", r.id, got.PartitionKey, got.Data, len(got.Data))
	case (got.ExplicitHashKey == nil) != (r.explicit == nil) || r.explicit != nil && *got.ExplicitHashKey != *r.explicit:
		return fmt.Errorf("record %d has another explicit hash key", r.id)
	case uint64(got.ArrivalTime.UnixNano()) != r.number.counter():
		return fmt.Errorf("record %d arrived at %v, which is not its counter", r.id, got.ArrivalTime)
	}
	return nil
}

// compareRead says how a whole read differs from what it should be.
func compareRead(got []Record, want []twinRecord) error {
	for i := range min(len(got), len(want)) {
		if err := want[i].matches(got[i]); err != nil {
			return fmt.Errorf("record %d of %d: %w", i, len(want), err)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d records were read; there are %d", len(got), len(want))
	}
	return nil
}

// checkShards compares lineage and ranges with what the twin knows of before a
// change, checks the invariant, and takes over what is new.
func (s *twinStream) checkShards(d StreamDescription) error {
	var shards []twinShard
	for i, sd := range d.Shards {
		sh := twinShard{id: sd.ID, keys: sd.HashKeyRange, parents: sd.Parents, closed: sd.Closed}
		if i < len(s.shards) {
			old := s.shards[i]
			if old.id != sh.id || old.keys != sh.keys || !slices.Equal(old.parents, sh.parents) || old.closed && !sh.closed {
				return fmt.Errorf("%s has changed from %+v to %+v", old.id, old, sh)
			}
			sh.horizon, sh.last = old.horizon, old.last
		}
		if sh.id != shardID(uint32(i)) {
			return fmt.Errorf("shard %d has the id %s", i, sh.id)
		}
		if sd.Closed != (len(sd.Children) > 0) {
			return fmt.Errorf("%s has children %v, and closed is %v", sd.ID, sd.Children, sd.Closed)
		}
		for _, parent := range sd.Parents {
			p := slices.IndexFunc(d.Shards, func(p ShardDescription) bool { return p.ID == parent })
			if p < 0 || !d.Shards[p].Closed || d.Shards[p].EndingSequenceNumber.Compare(sd.StartingSequenceNumber) >= 0 {
				return fmt.Errorf("%s does not begin after its parent %s", sd.ID, parent)
			}
		}
		shards = append(shards, sh)
	}
	if len(shards) < len(s.shards) {
		return fmt.Errorf("%d shards are gone", len(s.shards)-len(shards))
	}
	s.shards = shards
	return checkTiling(d)
}

// checkTiling checks that the open shards cover the hash-key space without a gap
// or an overlap.
func checkTiling(d StreamDescription) error {
	open := slices.DeleteFunc(slices.Clone(d.Shards), func(sd ShardDescription) bool { return sd.Closed })
	slices.SortFunc(open, func(a, b ShardDescription) int { return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start) })
	var next HashKey
	for i, sd := range open {
		if sd.HashKeyRange.Start != next {
			return fmt.Errorf("%s begins at %s; it should at %s", sd.ID, sd.HashKeyRange.Start, next)
		}
		if i == len(open)-1 && sd.HashKeyRange.End == MaxHashKey() {
			return nil
		}
		next = HashKey{sd.HashKeyRange.End.n.AddOne()}
	}
	return fmt.Errorf("the open shards end below the highest hash key")
}
