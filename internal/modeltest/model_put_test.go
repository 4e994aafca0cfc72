package modeltest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"

	"github.com/braidstream/braid"
)

// entry makes a random valid entry.
func (m *model) entry(ts *twinStream) (twinRecord, braid.Entry) {
	size := m.random.IntN(200)
	switch {
	case m.fat && m.random.IntN(2) == 0:
		size = 10_000 + m.random.IntN(40_000)
	case m.random.IntN(100) == 0:
		size = min(ts.maxData, 64<<10)
	}
	r := twinRecord{id: m.promises.nextID(), key: strconv.Itoa(m.random.IntN(20))}
	data := modelData(r.id, size)
	r.size = len(data)
	if m.random.IntN(4) == 0 {
		sh := ts.shards[m.random.IntN(len(ts.shards))] // at a border, or next to one
		k := []braid.HashKey{sh.keys.Start, sh.keys.End, hashKeyBeside(sh.keys.Start, 1), hashKeyBeside(sh.keys.End, -1), hashKeyBeside(sh.keys.End, 1)}[m.random.IntN(5)]
		r.explicit = &k
	}
	return r, braid.Entry{PartitionKey: r.key, ExplicitHashKey: r.explicit, Data: data}
}

func (m *model) entries(ts *twinStream, n int) ([]twinRecord, []braid.Entry) {
	records, entries := make([]twinRecord, n), make([]braid.Entry, n)
	for i := range n {
		records[i], entries[i] = m.entry(ts)
	}
	return records, entries
}

// acked takes over the results of a put, and returns the records that were stored: all, unless the
// stream has budgets.
func (m *model) acked(ts *twinStream, records []twinRecord, results []braid.PutResult) (stored []twinRecord) {
	if len(results) != len(records) {
		m.fail("%d results for %d entries", len(results), len(records))
		return nil
	}
	refused := make(map[braid.ShardID]bool)
	for i := range records {
		r := &records[i]
		hash := braid.HashKeyOf(r.key)
		if r.explicit != nil {
			hash = *r.explicit
		}
		if err := results[i].Err; err != nil {
			if refused[ts.route(hash)] = true; ts.mode == braid.Unlimited {
				m.fail("record %d was refused: %v", r.id, err)
			}
			m.is("put", err, braid.ErrThroughputExceeded)
			continue
		}
		if refused[ts.route(hash)] {
			m.fail("record %d was stored, and one before it was refused", r.id)
		}
		r.shard, r.number, r.encrypted = results[i].ShardID, results[i].SequenceNumber, results[i].Encrypted
		if want := ts.route(hash); r.shard != want {
			m.fail("record %d with hash key %s went to %s, and not to %s", r.id, hash, r.shard, want)
		}
		if r.number.ShardID() != r.shard {
			m.fail("number %s names %s, and not %s", r.number, r.number.ShardID(), r.shard)
		}
		stored = append(stored, *r)
	}
	if len(refused) > 0 && len(stored) > 0 {
		m.totals.reached.note("an entry throttled beside one that was not")
	}
	m.promises.acked(ts, stored)
	ts.add(stored...)
	return stored
}

// inOrder requires that the records' counters are above all earlier ones, and ascend.
func (m *model) inOrder(records []twinRecord) {
	for i := range records {
		n := counter(records[i].number)
		if n <= m.highest {
			m.fail("record %d got counter %d, where there was %d before", records[i].id, n, m.highest)
		}
		m.highest = n
	}
}

func (m *model) put(ts *twinStream, s *braid.Stream) {
	r, e := m.entry(ts)
	m.logf("put %d, %d bytes, to %s", r.id, r.size, ts.name)
	records := []twinRecord{r}
	m.promises.putBegins(ts, records)
	var results []braid.PutResult
	var err error
	if e.ExplicitHashKey == nil {
		var result braid.PutResult
		result, err = s.PutRecord(m.t.Context(), e.PartitionKey, e.Data)
		if errors.Is(err, braid.ErrThroughputExceeded) {
			result.Err, err = err, nil
		}
		results = []braid.PutResult{result}
	} else {
		results, err = s.PutRecords(m.t.Context(), []braid.Entry{e})
	}
	if m.ok("put", err) {
		m.inOrder(m.acked(ts, records, results))
	}
}

func (m *model) putMany(ts *twinStream, s *braid.Stream) {
	records, entries := m.entries(ts, m.random.IntN(12))
	m.logf("put %d records to %s", len(entries), ts.name)
	m.promises.putBegins(ts, records)
	results, err := s.PutRecords(m.t.Context(), entries)
	if m.ok("put", err) {
		m.inOrder(m.acked(ts, records, results))
	}
}

// putTogether puts from several goroutines at once, and may change the key or trim to Latest among
// the puts: in one commit group, or in any order.
func (m *model) putTogether(ts *twinStream, s *braid.Stream) {
	producers := 2 + m.random.IntN(4)
	grouped := m.random.IntN(2) == 0
	m.logf("put from %d goroutines to %s (in one group: %v)", producers, ts.name, grouped)
	var mu sync.Mutex
	var all []twinRecord
	var calls []func()
	for range producers {
		records, entries := m.entries(ts, 1+m.random.IntN(4)) // made before any of them changes the twin
		m.promises.putBegins(ts, records)
		calls = append(calls, func() {
			results, err := s.PutRecords(m.t.Context(), entries)
			mu.Lock()
			defer mu.Unlock()
			if m.ok("put", err) {
				all = append(all, m.acked(ts, records, results)...)
			}
		})
	}
	m.images.during("puts together")
	defer m.images.during("")
	after, keyBefore := func() {}, ts.keyID
	switch kind := m.random.IntN(4); {
	case kind == 0:
		keyID := []string{"", "a", "b"}[m.random.IntN(3)]
		m.logf("and encrypt it with %q", keyID)
		change := func() { m.ok("change the key", changeKey(m.t.Context(), s, keyID)) }
		calls = slices.Insert(calls, m.random.IntN(len(calls)+1), change)
		ts.keyID = keyID
	case kind == 1 && ts.limit == 0:
		m.logf("and trim it to its tip")
		from := visible(m.db) + 1
		m.promises.trimBegins(ts, max(from, m.now(), uint64(max(0, m.clock().UnixNano())))+1000) // no time passes
		trim := func() { m.ok("trim", s.Trim(m.t.Context(), braid.Latest())) }
		if !grouped { // the trim may overtake a follower
			f := m.followers[ts.name]
			f.stop()
			f.done.Wait()
			defer func() { m.follow(ts, s, braid.TrimHorizon()) }()
		}
		calls = slices.Insert(calls, m.random.IntN(len(calls)+1), trim)
		after = func() { m.trimmedInTheirMidst(ts, s, all, from, grouped) }
	}
	if grouped {
		if len(calls) > producers && ts.keyID != keyBefore {
			m.totals.reached.note("a key changed in the group of puts")
		}
		together(m.db, calls...)
	} else {
		var running sync.WaitGroup
		for _, call := range calls {
			running.Go(call)
		}
		running.Wait()
	}
	slices.SortFunc(all, func(a, b twinRecord) int { return cmp.Compare(counter(a.number), counter(b.number)) })
	m.inOrder(all)
	after()
}

// trimmedInTheirMidst takes over a trim to Latest that began when from was the next counter: it
// removed the records that were visible then, none that came later, and of those put meanwhile, in
// their order, a prefix.
func (m *model) trimmedInTheirMidst(ts *twinStream, s *braid.Stream, put []twinRecord, from uint64, grouped bool) {
	found := m.find(s, put)
	if grouped {
		m.totals.reached.note("a trim in the group of puts")
	}
	for i := range put {
		there := slices.ContainsFunc(found, func(r twinRecord) bool { return r.id == put[i].id })
		switch {
		case there:
		case grouped || i > 0 && from <= counter(put[i-1].number):
			m.fail("record %d was trimmed, and should not have been", put[i].id)
		default:
			from = counter(put[i].number) + 1
		}
	}
	ts.trim(from)
	m.promises.trimmed(ts, from)
	m.totals.trims.Add(1)
}

// changeKey sets the stream's key, or none.
func changeKey(ctx context.Context, s *braid.Stream, keyID string) error {
	if keyID == "" {
		return s.StopEncryption(ctx)
	}
	return s.StartEncryption(ctx, keyID)
}

// putCancelled ends the context of a put at a random moment. There are three outcomes:
// acknowledged, refused, or unknown; if it is unknown, a read finds out.
func (m *model) putCancelled(ts *twinStream, s *braid.Stream) {
	records, entries := m.entries(ts, 1+m.random.IntN(3))
	late := m.random.IntN(2) == 0
	m.logf("put %d records to %s, and cancel (late: %v)", len(records), ts.name, late)
	cause := errors.New("caller no longer wants it")
	ctx, cancel := context.WithCancelCause(m.t.Context())
	defer cancel(nil)
	m.promises.putBegins(ts, records)
	if late {
		go cancel(cause)
	} else {
		cancel(cause)
	}
	results, err := s.PutRecords(ctx, entries)
	switch {
	case err == nil:
		m.inOrder(m.acked(ts, records, results))
	case errors.Is(err, braid.ErrOutcomeUnknown):
		m.is("put", err, cause)
		synctest.Wait()
		if m.reconcile(ts, s, records); len(m.find(s, records)) > 0 {
			m.totals.reached.note("a put of unknown outcome that is stored")
		}
	default:
		m.totals.reached.note("a put refused in time")
		m.is("put", err, cause)
		synctest.Wait()
		if got := m.find(s, records); len(got) > 0 {
			m.fail("record %d was refused, and is stored", got[0].id)
		}
	}
}

func (m *model) putInvalid(ts *twinStream, s *braid.Stream) {
	m.logf("put what is not valid to %s", ts.name)
	good := braid.Entry{PartitionKey: "k", Data: []byte("data")}
	for _, bad := range []braid.Entry{
		{PartitionKey: ""},
		{PartitionKey: strings.Repeat("é", 257)},
		{PartitionKey: "k", Data: make([]byte, ts.maxData+1)},
	} {
		_, err := s.PutRecords(m.t.Context(), []braid.Entry{good, bad, good})
		m.is("put", err, braid.ErrInvalidArgument)
	}
}

// find returns those of the records that are stored.
func (m *model) find(s *braid.Stream, records []twinRecord) (found []twinRecord) {
	for got, err := range s.Records(m.t.Context(), braid.TrimHorizon()) {
		if !m.ok("read", err) {
			return nil
		}
		id := modelID(got.Data)
		if i := slices.IndexFunc(records, func(r twinRecord) bool { return r.id == id }); i >= 0 {
			r := records[i]
			r.shard, r.number, r.encrypted = got.ShardID, got.SequenceNumber, got.Encrypted
			found = append(found, r)
		}
	}
	return found
}

// reconcile finds out the fate of records with an unknown outcome: all records of one call are
// stored, or none.
func (m *model) reconcile(ts *twinStream, s *braid.Stream, records []twinRecord) {
	found := m.find(s, records)
	if len(found) != 0 && len(found) != len(records) && ts.mode == braid.Unlimited {
		m.fail("%d of the %d records of one call are stored", len(found), len(records))
	}
	if len(found) > 0 {
		m.promises.acked(ts, found)
		ts.add(found...)
		m.inOrder(found)
	}
}
