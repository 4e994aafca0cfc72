package modeltest

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
)

// position returns a random position and its meaning: the lowest counter to read, and whether the
// reader relies on every record from there on. id is a shard, or empty for the whole stream.
func (m *model) position(ts *twinStream, s *braid.Stream, id braid.ShardID) (p braid.Position, from uint64, strict bool) {
	var numbers []braid.SequenceNumber
	for _, n := range m.promises.numbers(ts) { // even trimmed ones
		if id == "" || n.ShardID() == id {
			numbers = append(numbers, n)
		}
	}
	var kept []braid.SequenceNumber
	for _, n := range ts.kept {
		if id == "" || n.ShardID() == id {
			kept = append(kept, n)
		}
	}
	switch kind := m.random.IntN(7); {
	case kind == 0:
		if id == "" {
			return braid.Latest(), visible(m.db) + 1, true
		}
		return braid.Latest(), max(ts.shard(id).last, inside.ShardOf(mustShard(s, id)).Last()) + 1, true
	case kind == 1 || len(numbers) == 0:
		return braid.TrimHorizon(), 1, false
	case kind == 2:
		n := numbers[m.random.IntN(len(numbers))]
		return braid.AtSequence(n), counter(n), true
	case kind == 3:
		n := numbers[m.random.IntN(len(numbers))]
		return braid.AfterSequence(n), counter(n) + 1, true
	case kind == 4:
		t := m.clock().Add([]time.Duration{0, time.Minute, time.Hour}[m.random.IntN(3)]) // or in the future
		return braid.AtTime(t), uint64(max(1, t.UnixNano())), false
	case kind == 5 && len(kept) > 0:
		n := kept[m.random.IntN(len(kept))]
		return braid.AfterSequence(n), counter(n) + 1, true
	default:
		n := counter(numbers[m.random.IntN(len(numbers))]) + uint64(m.random.IntN(3)) - 1
		return braid.AtTime(time.Unix(0, int64(n))), n, false
	}
}

// requireTrimmed checks the error of a reader that trimming overtook.
func (m *model) requireTrimmed(ts *twinStream, id braid.ShardID, from uint64, err error) {
	m.totals.reached.note("a reader overtaken by a trim")
	var trimmed *braid.TrimmedError
	if !errors.As(err, &trimmed) {
		m.fail("records of %s from counter %d on were trimmed, and the reader was told: %v", id, from, err)
		return
	}
	sh := ts.shard(trimmed.Shard)
	if i := slices.IndexFunc(ts.gone, func(sh twinShard) bool { return sh.id == trimmed.Shard }); i >= 0 {
		sh = &ts.gone[i]
	}
	horizon := sh.horizon
	if from >= horizon || counter(trimmed.FirstLost) != from || counter(trimmed.LastLost) != horizon-1 || counter(trimmed.FirstAvailable) != horizon {
		m.fail("the horizon of %s is %d, the reader stood at %d, and was told: %v", trimmed.Shard, horizon, from, trimmed)
	}
}

// readShard reads pages of a shard from a random position, with random limits.
func (m *model) readShard(ts *twinStream, s *braid.Stream) {
	id := ts.shards[m.random.IntN(len(ts.shards))].id
	sh := mustShard(s, id)
	position, from, strict := m.position(ts, s, id)
	opts := &braid.GetRecordsOptions{Limit: m.random.IntN(20), LimitBytes: []int{0, 1, 100, 5000}[m.random.IntN(4)]}
	m.logf("read %s of %s from %s, pages of %d records and %d bytes", id, ts.name, position, opts.Limit, opts.LimitBytes)
	m.totals.reads.Add(1)
	want, trimmed := ts.read(id, from, strict)
	var got []braid.Record
	for pages := 0; ; pages++ {
		page, err := sh.GetRecords(m.t.Context(), position, opts)
		if trimmed != "" && pages == 0 {
			m.requireTrimmed(ts, trimmed, from, err)
			return
		}
		if !m.ok("read", err) {
			return
		}
		got = append(got, page.Records...)
		m.checkPage(ts, sh, page, opts, want, len(got))
		if len(page.Records) == 0 { // an end that a later read uses, maybe in another run
			if n, err := braid.ParseSequenceNumber(page.Next.SequenceNumber().String()); m.ok("next", err) && page.Next.Equal(braid.AfterSequence(page.Next.SequenceNumber())) {
				ts.kept = append(ts.kept, n)
			}
		}
		if page.BehindLatest == 0 || m.t.Failed() || len(page.Records) == 0 {
			break
		}
		position = page.Next
	}
	m.ok("read", compareRead(got, want))
}

// readBeyond uses numbers that were never assigned, like a reader that has used a newer copy of the
// database.
func (m *model) readBeyond(ts *twinStream, s *braid.Stream) {
	sh := mustShard(s, ts.shards[m.random.IntN(len(ts.shards))].id)
	last := max(visible(m.db), inside.ShardOf(sh).Last())
	n := numberIn(sh, last+1+uint64(m.random.IntN(3)))
	m.logf("read %s of %s from beyond the tip", sh.ID(), ts.name)
	ctx := m.t.Context()
	drain := func(records iter.Seq2[braid.Record, error]) (err error) {
		for _, err = range records {
			break
		}
		return err
	}
	for _, p := range []braid.Position{braid.AfterSequence(n), braid.AtSequence(numberIn(sh, counter(n)+1))} {
		_, err := sh.GetRecords(ctx, p, nil)
		m.is("get", err, braid.ErrBeyondTip)
		var beyond *braid.BeyondTipError
		if errors.As(err, &beyond) && (beyond.Shard != sh.ID() || beyond.Number != p.SequenceNumber() || counter(beyond.Last) != last) {
			m.fail("the last counter is %d, and the reader of %s was told %v", last, p, beyond)
		}
		m.is("read a shard", drain(sh.Records(ctx, p)), braid.ErrBeyondTip)
		m.is("follow a shard", drain(sh.Follow(ctx, p)), braid.ErrBeyondTip)
		m.is("read", drain(s.Records(ctx, p)), braid.ErrBeyondTip)
		m.is("follow", drain(s.Follow(ctx, p)), braid.ErrBeyondTip)
		m.is("trim", s.Trim(ctx, p), braid.ErrBeyondTip)
	}
	// Right after the last record, nothing can be missed.
	for _, p := range []braid.Position{braid.AfterSequence(numberIn(sh, last)), braid.AtSequence(numberIn(sh, last+1))} {
		m.ok("get", inside.ShardOf(sh).Resolve(p))
		m.ok("read", inside.StreamOf(s).Resolve(p))
	}
}

// checkNumbers uses on an image of the disk every number that was ever assigned: those that were
// acknowledged by then are valid positions in it, and those beyond its tip are not.
func (m *model) checkNumbers(db *braid.DB, s *braid.Stream, incarnation int, bound *promisedBound) {
	last, seen := visible(db), inside.StreamOf(s)
	for id, put := range m.promises.puts {
		n := put.record.number
		if put.incarnation != incarnation || n.IsZero() || seen.Next() <= uint32(n.ShardID().Index()) {
			continue
		}
		err := seen.Resolve(braid.AfterSequence(n))
		switch {
		case counter(n) > last:
			m.is("a number beyond the tip of an image", err, braid.ErrBeyondTip)
		case bound.must[id]:
			m.ok("a number that was acknowledged", err)
		}
	}
}

// checkPage checks limits and lag of a page, after which got of the wanted records were read.
func (m *model) checkPage(ts *twinStream, sh *braid.Shard, page *braid.RecordsPage, opts *braid.GetRecordsOptions, want []twinRecord, got int) {
	bytes := 0
	for _, r := range page.Records {
		bytes += len(r.PartitionKey) + len(r.Data)
	}
	if opts.Limit > 0 && len(page.Records) > opts.Limit || opts.LimitBytes > 0 && bytes > opts.LimitBytes && len(page.Records) > 1 {
		m.fail("a page of %d records and %d bytes breaks its limits", len(page.Records), bytes)
	}
	if got > len(want) {
		m.fail("%d records were read; there are %d", got, len(want))
		return
	}
	var behind int64
	for _, r := range want[got:] {
		behind += int64(len(r.key) + r.size)
	}
	if page.BehindRecords != int64(len(want)-got) || page.BehindBytes != behind {
		m.fail("the page says it is %d records and %d bytes behind; it is %d and %d", page.BehindRecords, page.BehindBytes, len(want)-got, behind)
	}
	atTip := got == len(want)
	if atTip != (page.BehindLatest == 0) || page.EndOfShard != (atTip && ts.shard(sh.ID()).closed) || page.EndOfShard != (len(page.ChildShards) > 0) {
		m.fail("at the tip: %v, closed: %v; the page says: behind %v, end %v, children %v", atTip, ts.shard(sh.ID()).closed, page.BehindLatest, page.EndOfShard, page.ChildShards)
	}
}

// readStream reads a stream or a shard through an iterator from a random position, and may break
// out of the loop.
func (m *model) readStream(ts *twinStream, s *braid.Stream) {
	var id braid.ShardID
	read := s.Records
	if m.random.IntN(3) == 0 {
		id = ts.shards[m.random.IntN(len(ts.shards))].id
		read = mustShard(s, id).Records
	}
	position, from, strict := m.position(ts, s, id)
	limit := []int{1 << 30, 1 << 30, 1, 5}[m.random.IntN(4)]
	m.logf("iterate %s %s from %s", ts.name, id, position)
	m.totals.reads.Add(1)
	want, trimmed := ts.read(id, from, strict)
	var got []braid.Record
	for r, err := range read(m.t.Context(), position) {
		if trimmed != "" {
			m.requireTrimmed(ts, trimmed, from, err)
			return
		}
		if !m.ok("iterate", err) {
			return
		}
		if got = append(got, r); len(got) == limit {
			want = want[:min(limit, len(want))]
			break
		}
	}
	if trimmed != "" {
		m.fail("records of %s from counter %d on were trimmed, and the reader was not told", trimmed, from)
	}
	m.ok("iterate", compareRead(got, want))
}

// checkAll compares everything.
func (m *model) checkAll() {
	m.logf("compare everything")
	m.view()
	if len(m.db.Streams()) != len(m.twin.streams) {
		m.fail("there are %d streams; there should be %d", len(m.db.Streams()), len(m.twin.streams))
	}
	for name, ts := range m.twin.streams {
		s, err := m.db.Stream(name)
		if !m.ok("stream", err) {
			return
		}
		m.totals.reads.Add(1)
		var got []braid.Record
		for r, err := range s.Records(m.t.Context(), braid.TrimHorizon()) {
			if !m.ok("read", err) {
				return
			}
			got = append(got, r)
		}
		m.ok("read", compareRead(got, ts.records))
		d := s.Describe()
		if ts.mode != d.Capacity.Mode {
			m.fail("the capacity of %s is %+v", name, d.Capacity)
		}
		if ts.keyID != d.EncryptionKey {
			m.fail("%s is encrypted with %q, and should be with %q", name, d.EncryptionKey, ts.keyID)
		}
		m.ok("shards", ts.checkShards(d, m.moment()))
		if d.Records != int64(len(ts.records)) || d.Bytes != ts.bytes("") {
			m.fail("stream %s is said to have %d records of %d bytes; it has %d of %d", name, d.Records, d.Bytes, len(ts.records), ts.bytes(""))
		}
		for _, sd := range d.Shards {
			m.checkDescription(ts, sd)
		}
		if f := m.followers[name]; f != nil {
			m.ok("follow", f.compare(ts))
		}
	}
}

func (m *model) checkDescription(ts *twinStream, sd braid.ShardDescription) {
	want, _ := ts.read(sd.ID, 0, false)
	if sd.Records != int64(len(want)) || sd.Bytes != ts.bytes(sd.ID) {
		m.fail("%s is said to have %d records of %d bytes; it has %d of %d", sd.ID, sd.Records, sd.Bytes, len(want), ts.bytes(sd.ID))
		return
	}
	var first, last braid.SequenceNumber
	if len(want) > 0 {
		first, last = want[0].number, want[len(want)-1].number
	}
	if sd.First != first || sd.Last != last {
		m.fail("%s is said to reach from %s to %s; it does from %s to %s", sd.ID, sd.First, sd.Last, first, last)
	}
}

// modelFollower follows a stream along the history. Everything that it sees is a promise: it was
// visible, so no crash may lose it.
type modelFollower struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu  sync.Mutex // guards the fields below
	got []braid.Record
	err error
}

func (m *model) follow(ts *twinStream, s *braid.Stream, from braid.Position) {
	ctx, stop := context.WithCancel(m.t.Context())
	f := &modelFollower{stop: stop}
	m.followers[ts.name] = f
	f.done.Go(func() {
		for r, err := range s.Follow(ctx, from) {
			f.mu.Lock()
			if err != nil {
				f.err = err
			} else {
				f.got = append(f.got, r)
			}
			f.mu.Unlock()
			if err == nil {
				m.promises.seen(modelID(r.Data))
			}
		}
	})
}

// endFollower waits for the end of a stream's follower, and checks the reason.
func (m *model) endFollower(ts *twinStream, class error) {
	f := m.followers[ts.name]
	if f == nil {
		return // the history has already failed
	}
	f.done.Wait()
	f.stop()
	delete(m.followers, ts.name)
	m.is("follow", f.err, class)
}

// compare checks that the follower has seen all records that still exist, in their order, and
// otherwise only records that were trimmed since. Between steps it is always at the tip.
func (f *modelFollower) compare(ts *twinStream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if !slices.IsSortedFunc(f.got, func(a, b braid.Record) int {
		return cmp.Compare(counter(a.SequenceNumber), counter(b.SequenceNumber))
	}) {
		return errors.New("follower saw records out of the order of arrival")
	}
	seen := make(map[braid.SequenceNumber]braid.Record, len(f.got))
	for _, r := range f.got {
		seen[r.SequenceNumber] = r
	}
	var got []braid.Record
	for _, r := range ts.records {
		if rec, ok := seen[r.number]; ok {
			got = append(got, rec)
		}
	}
	return compareRead(got, ts.records)
}
