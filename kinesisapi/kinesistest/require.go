package kinesistest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/service"
	"github.com/braidstream/braid/queue"
)

// RequireRecords requires that the stream holds exactly the records with these data. The
// records of one partition key must come in the given order; between partition keys,
// Kinesis has no order and the test ignores it.
func (k *Kit) RequireRecords(stream string, want ...string) {
	k.t.Helper()
	records := k.Records(stream)
	count := make(map[string]int) // by data: number of records minus number wanted
	for i := range records {
		count[records[i].Data]++
	}
	for _, data := range want {
		count[data]--
	}
	var problems []string
	for _, data := range slices.Sorted(maps.Keys(count)) {
		switch n := count[data]; {
		case n < 0:
			problems = append(problems, "missing: "+quoted(data)+times(-n))
		case n > 0:
			problems = append(problems, "not wanted: "+quoted(data)+times(n))
		}
	}
	if len(problems) == 0 {
		for _, key := range ordersOf(records) {
			if i := outOfOrder(key.data, want); i >= 0 {
				problems = append(problems, fmt.Sprintf("of key %s %s is not wanted in the order in which it is there", quoted(key.key), quoted(key.data[i])))
			}
		}
	}
	k.report(stream, records, "does not hold the records that are wanted", problems)
}

// outOfOrder returns the index of the first element whose place in list is not after those
// of the elements before it; -1 if there is none.
func outOfOrder(elements, list []string) int {
	for i, e := range elements {
		at := slices.Index(list, e)
		if at < 0 {
			return i
		}
		list = list[at+1:]
	}
	return -1
}

// RequireProcessed checks processed, the data of records in the order in which the code
// under test has processed them. Each record of the stream must be in it at least once, and
// no record may come before all earlier records of its partition key. Repetitions are
// allowed, because a consumer repeats the records after its last checkpoint. Records that
// the stream no longer holds are ignored. The records should differ in their data.
func (k *Kit) RequireProcessed(stream string, processed []string) {
	k.t.Helper()
	records := k.Records(stream)
	keys := ordersOf(records)
	type place struct{ key, index int }
	places := make(map[string][]place) // places of records, by data
	for i, key := range keys {
		for j, data := range key.data {
			places[data] = append(places[data], place{i, j})
		}
	}
	done := make([]int, len(keys)) // by key, how many of its records have come
	var problems []string
	for n, data := range processed {
		early := -1 // the key of a record that comes too soon
		fits := len(places[data]) == 0
		for _, p := range places[data] {
			if p.index == done[p.key] {
				done[p.key]++
				fits = true
				break
			}
			if p.index < done[p.key] {
				fits = true
			} else {
				early = p.key
			}
		}
		if !fits {
			key := &keys[early]
			problems = append(problems, fmt.Sprintf("number %d processed, %s, comes before %s of the same key %s", n+1, quoted(data), quoted(key.data[done[early]]), quoted(key.key)))
			break // later records are out of order as well
		}
	}
	if len(problems) == 0 {
		for i, key := range keys {
			for _, data := range key.data[done[i]:] {
				problems = append(problems, fmt.Sprintf("not processed: %s of key %s", quoted(data), quoted(key.key)))
			}
		}
	}
	if len(problems) > 0 {
		problems = append(problems, fmt.Sprintf("processed were %d: %s", len(processed), listed(processed)))
	}
	k.report(stream, records, "was not processed as it must be", problems)
}

// RequireOrderPerKey requires that GetRecords, and SubscribeToShard for each consumer,
// delivered the records of each partition key in order: no record was first delivered after
// a later record of its key. That order breaks when a consumer reads a shard before it has
// read the shard's parents to their end.
func (k *Kit) RequireOrderPerKey(stream string) {
	k.t.Helper()
	s := k.stream(stream)
	type line struct{ consumer, key string }
	type progress struct {
		last delivery
		seen map[string]bool // numbers
	}
	k.log.mu.Lock()
	lines := make(map[line]*progress)
	var problems []string
	for _, d := range k.log.delivered {
		if !d.of(s) || d.key == "" { // records without a key have no order
			continue
		}
		p := lines[line{d.consumer, d.key}]
		if p == nil {
			p = &progress{seen: make(map[string]bool)}
			lines[line{d.consumer, d.key}] = p
		}
		// Numbers of one key go up through any number of reshards, and all have
		// the same number of digits.
		switch {
		case p.seen[d.number]:
			continue
		case d.number < p.last.number:
			problems = append(problems, fmt.Sprintf("of key %s %s (%s, %s)%s was delivered after %s (%s, %s)",
				quoted(d.key), quoted(d.data), d.shard, d.number, toReader(d.consumer), quoted(p.last.data), p.last.shard, p.last.number))
		default:
			p.last = d
		}
		p.seen[d.number] = true
	}
	k.log.mu.Unlock()
	k.report(stream, k.Records(stream), "was not delivered in the order of its partition keys", problems)
}

func toReader(consumer string) string {
	if consumer == "" {
		return ""
	}
	return " to " + consumer
}

// RequireCaughtUp requires that the readers of the stream have read all of its records. In
// every shard the last GetRecords, or the last event of each consumer's SubscribeToShard,
// must have reached the tip. Shards without readers must be empty. In a bubble, call
// synctest.Wait first, or let time pass.
func (k *Kit) RequireCaughtUp(stream string) {
	k.t.Helper()
	s := k.stream(stream)
	readers := make(map[string]map[braid.ShardID]place)
	k.log.mu.Lock()
	for r, p := range k.log.places {
		if r.of(s) {
			if readers[r.consumer] == nil {
				readers[r.consumer] = make(map[braid.ShardID]place)
			}
			readers[r.consumer][r.shard] = p
		}
	}
	k.log.mu.Unlock()
	var problems []string
	if len(readers) == 0 {
		problems = append(problems, "nobody has read it")
	}
	for _, consumer := range slices.Sorted(maps.Keys(readers)) {
		for _, sh := range s.Shards() {
			p, read := readers[consumer][sh.ID()]
			left := k.recordsFrom(sh, p)
			if len(left) == 0 {
				continue
			}
			what := fmt.Sprintf("%s%s: %s not read, from %s on", sh.ID(), toReader(consumer), counted(len(left), "record"), quoted(left[0].Data))
			if !read {
				what += "; nobody has begun to"
			}
			problems = append(problems, what)
		}
	}
	k.report(stream, k.Records(stream), "was not read to its tip", problems)
}

// RequireDrained requires that the queue of that name is empty: every record was
// acknowledged, and it has no dead letters. In a bubble, call synctest.Wait first, or let
// time pass.
func (k *Kit) RequireDrained(name string) {
	k.t.Helper()
	q, err := queue.Get(always, k.DB(), name)
	k.must(err, "queue %q", name)
	d, err := q.Describe(always)
	k.must(err, "queue %q", name)
	var problems []string
	for _, left := range []struct {
		n    int64
		what string
	}{
		{d.Visible, "not received, or to be received again"},
		{d.InFlight, "received and not acknowledged"},
		{d.Delayed + d.Held, "waiting for another attempt"},
	} {
		if left.n > 0 {
			problems = append(problems, counted(int(left.n), "record")+" "+left.what)
		}
	}
	for letter, err := range q.DeadLetters().All(always) {
		k.must(err, "dead letters of queue %q", name)
		problems = append(problems, fmt.Sprintf("dead letter %s of key %s, received %d times",
			quoted(string(letter.Data)), quoted(service.PartitionKey(letter.PartitionKey)), letter.Receives))
	}
	if len(problems) > 0 {
		stream := q.Stream().Name()
		k.report(stream, k.Records(stream), "is not drained by queue "+name, problems)
	}
}

// recordsFrom returns the records that a reader has not read yet.
func (k *Kit) recordsFrom(sh *braid.Shard, p place) (left []Record) {
	k.t.Helper()
	for at := p.at; !p.ended; {
		page, err := sh.GetRecords(always, at, &braid.GetRecordsOptions{Unmetered: true})
		var trimmed *braid.TrimmedError
		if errors.As(err, &trimmed) {
			at = braid.AtSequence(trimmed.FirstAvailable)
			continue
		}
		k.must(err, "read %s", sh.ID())
		for i := range page.Records {
			left = append(left, recordOf(&page.Records[i]))
		}
		if page.EndOfShard || page.BehindLatest == 0 {
			break
		}
		at = page.Next
	}
	return left
}

// report fails the test if there are problems, and shows what the stream holds.
func (k *Kit) report(stream string, records []Record, what string, problems []string) {
	if len(problems) == 0 {
		return
	}
	k.t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "kinesistest: stream %s %s:\n", stream, what)
	for i, p := range problems {
		if i == maxShown {
			fmt.Fprintf(&text, "  and %d more\n", len(problems)-i)
			break
		}
		fmt.Fprintf(&text, "  %s\n", p)
	}
	text.WriteString(holds(records))
	k.t.Fatalf("%s", strings.TrimSuffix(text.String(), "\n"))
}
