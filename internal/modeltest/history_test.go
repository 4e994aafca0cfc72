package modeltest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid"
)

// This file is the judge of the fault sweep and of the concurrent histories. A
// history notes the result of each put, with a logical clock around the call.
// Its check then compares a shard, as it was read back, with all of that:
//
//   - what was acknowledged is there, with its number, key and data;
//   - what is there was put, once, and was not refused;
//   - the order of a shard is the order of real time: a put that had ended
//     before another began has the lower number;
//   - what was trimmed is gone, and what was not is there.

// history is shared by all goroutines of a run.
type history struct {
	clock atomic.Int64 // counts begins and ends of calls

	mu   sync.Mutex // guards the field below, and the puts in it
	puts map[string]*historyPut
}

// outcome is the result of a put.
type outcome int

const (
	outcomePending outcome = iota // the call has not returned
	outcomeAcked
	outcomeRefused
	outcomeUnknown
)

type historyPut struct {
	id      string
	stream  string // the incarnation of the stream
	entry   braid.Entry
	begin   int64
	end     int64 // math.MaxInt64 unless it was acknowledged
	outcome outcome
	result  braid.PutResult
}

// historyTrim is what is known about a stream's horizon, in counters: everything below sure is
// gone, everything from maybe on is not.
type historyTrim struct{ sure, maybe uint64 }

func newHistory() *history { return &history{puts: make(map[string]*historyPut)} }

// historyData makes data of that size, but at least the ID. All of the data follows from the ID, so
// every byte can be checked.
func historyData(id string, size int) []byte {
	head := id + "|"
	return bytes.Repeat([]byte(head), max(1, size/len(head)))
}

// historyID is the inverse of historyData, for intact data.
func historyID(data []byte) (id string, whole bool) {
	id, _, _ = strings.Cut(string(data), "|")
	head := id + "|"
	return id, len(data) > 0 && len(data)%len(head) == 0 && bytes.Equal(data, bytes.Repeat([]byte(head), len(data)/len(head)))
}

// put puts the entries, whose data comes from historyData, in one call, and notes the outcome.
// stream names the incarnation.
func (h *history) put(ctx context.Context, s *braid.Stream, stream string, entries ...braid.Entry) ([]braid.PutResult, error) {
	puts := h.begin(stream, entries)
	var results []braid.PutResult
	var err error
	if len(entries) == 1 && entries[0].ExplicitHashKey == nil {
		var result braid.PutResult
		result, err = s.PutRecord(ctx, entries[0].PartitionKey, entries[0].Data)
		results = []braid.PutResult{result}
	} else {
		results, err = s.PutRecords(ctx, entries)
	}
	h.end(puts, results, err)
	return results, err
}

func (h *history) begin(stream string, entries []braid.Entry) []*historyPut {
	h.mu.Lock()
	defer h.mu.Unlock()
	var puts []*historyPut
	begin := h.clock.Add(1)
	for _, entry := range entries {
		id, _ := historyID(entry.Data)
		p := &historyPut{id: id, stream: stream, entry: entry, begin: begin, end: math.MaxInt64}
		h.puts[id] = p
		puts = append(puts, p)
	}
	return puts
}

func (h *history) end(puts []*historyPut, results []braid.PutResult, err error) {
	end := h.clock.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, p := range puts {
		switch {
		case err == nil:
			p.outcome, p.result, p.end = outcomeAcked, results[i], end
		case errors.Is(err, braid.ErrOutcomeUnknown):
			p.outcome = outcomeUnknown
		default:
			p.outcome = outcomeRefused
		}
	}
}

// count returns how many puts had that outcome.
func (h *history) count(o outcome) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.puts {
		if p.outcome == o {
			n++
		}
	}
	return n
}

// lastAcked returns the highest acknowledged number of the incarnation.
func (h *history) lastAcked(stream string) (last braid.SequenceNumber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.puts {
		if n := p.result.SequenceNumber; p.stream == stream && p.outcome == outcomeAcked && counter(n) > counter(last) {
			last = n
		}
	}
	return last
}

// check compares the stored records of an incarnation, shard after shard in the order of reading,
// with the results that callers got. Nobody may put to the incarnation meanwhile.
func (h *history) check(stream string, records []braid.Record, trim historyTrim) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := make(map[string]*braid.Record, len(records))
	numbers := make(map[braid.SequenceNumber]bool, len(records))
	last := make(map[braid.ShardID]braid.SequenceNumber)
	for i := range records {
		r := &records[i]
		if err := h.checkRecordLocked(stream, r, trim); err != nil {
			return err
		}
		id, _ := historyID(r.Data)
		if found[id] != nil || numbers[r.SequenceNumber] {
			return fmt.Errorf("%s, or its number %s, is stored twice", id, r.SequenceNumber)
		}
		if r.SequenceNumber.Compare(last[r.ShardID]) <= 0 {
			return fmt.Errorf("%s with number %s follows %s", id, r.SequenceNumber, last[r.ShardID])
		}
		found[id], numbers[r.SequenceNumber], last[r.ShardID] = r, true, r.SequenceNumber
	}
	for _, p := range h.puts {
		if p.stream == stream && p.outcome == outcomeAcked && counter(p.result.SequenceNumber) >= trim.maybe && found[p.id] == nil {
			return fmt.Errorf("%s was acknowledged as %s of %s, but is lost", p.id, p.result.SequenceNumber, p.result.ShardID)
		}
	}
	return h.checkRealTimeLocked(records)
}

// checkRecordLocked compares one record with its put.
func (h *history) checkRecordLocked(stream string, r *braid.Record, trim historyTrim) error {
	id, whole := historyID(r.Data)
	p := h.puts[id]
	switch {
	case !whole || p == nil:
		return fmt.Errorf("record %s was never put: %.80q", r.SequenceNumber, r.Data)
	case p.stream != stream:
		return fmt.Errorf("%s was put to %s, but is in %s", id, p.stream, stream)
	case p.outcome == outcomeRefused:
		return fmt.Errorf("%s was refused, but is stored as %s", id, r.SequenceNumber)
	case r.PartitionKey != p.entry.PartitionKey || !bytes.Equal(r.Data, p.entry.Data):
		return fmt.Errorf("%s was changed", id)
	case (r.ExplicitHashKey == nil) != (p.entry.ExplicitHashKey == nil) || r.ExplicitHashKey != nil && *r.ExplicitHashKey != *p.entry.ExplicitHashKey:
		return fmt.Errorf("%s has another explicit hash key", id)
	case p.outcome == outcomeAcked && (r.ShardID != p.result.ShardID || r.SequenceNumber != p.result.SequenceNumber):
		return fmt.Errorf("%s was acknowledged as %s of %s, but is %s of %s", id, p.result.SequenceNumber, p.result.ShardID, r.SequenceNumber, r.ShardID)
	case counter(r.SequenceNumber) < trim.sure:
		return fmt.Errorf("%s was trimmed, but can be read", id)
	}
	return nil
}

// checkRealTimeLocked goes through all records in the order of their counters, which is one order
// for all shards, and keeps the latest begin so far.
func (h *history) checkRealTimeLocked(records []braid.Record) error {
	order := slices.Clone(records)
	slices.SortFunc(order, func(a, b braid.Record) int {
		return cmp.Compare(counter(a.SequenceNumber), counter(b.SequenceNumber))
	})
	var latest *historyPut
	for i := range order {
		id, _ := historyID(order[i].Data)
		p := h.puts[id]
		if latest != nil && p.end < latest.begin {
			return fmt.Errorf("%s ended before %s began, but has the higher number", p.id, latest.id)
		}
		if latest == nil || p.begin > latest.begin {
			latest = p
		}
	}
	return nil
}

// readShards reads the stream shard by shard, then as a whole, and compares the results.
func readShards(ctx context.Context, s *braid.Stream) ([]braid.Record, error) {
	var all []braid.Record
	for _, sh := range s.Shards() {
		for r, err := range sh.Records(ctx, braid.TrimHorizon()) {
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		}
	}
	merged := make(map[braid.ShardID][]braid.SequenceNumber)
	var before uint64
	for r, err := range s.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			return nil, err
		}
		if counter := counter(r.SequenceNumber); counter <= before {
			return nil, fmt.Errorf("%s follows a record that arrived later", r.SequenceNumber)
		} else {
			before = counter
		}
		merged[r.ShardID] = append(merged[r.ShardID], r.SequenceNumber)
	}
	for i := range all {
		of := merged[all[i].ShardID]
		if len(of) == 0 || of[0] != all[i].SequenceNumber {
			return nil, fmt.Errorf("%s is at another place, or missing, in the stream's order", all[i].SequenceNumber)
		}
		merged[all[i].ShardID] = of[1:]
	}
	for id, rest := range merged {
		if len(rest) > 0 {
			return nil, fmt.Errorf("%s is read from the stream, but not from %s", rest[0], id)
		}
	}
	return all, nil
}
