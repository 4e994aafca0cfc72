package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
	"github.com/braidstream/braid/consumer/sourcetest"
)

// service is a database behind an interface that is as hard to use as that of Kinesis:
// five reads per second and shard, opaque iterators that expire, empty pages that are not
// at the tip, times in milliseconds, and readers that are silently moved past trimmed
// records.
type service struct {
	db *braid.DB

	mu        sync.Mutex // guards the fields below
	iterators map[string]iterator
	reads     int
	throttled int
	described int
	denied    error // the error of every call; nil for none
}

type iterator struct {
	stream string
	shard  braid.ShardID
	at     braid.Position
	made   time.Time
	reads  int // number of reads that led to it
}

const (
	iteratorLife = 5 * time.Minute
	retention    = 24 * time.Hour
	readPace     = 250 * time.Millisecond
)

var errExpiredIterator = errors.New("the iterator has expired")

func newService(db *braid.DB) *service {
	return &service{db: db, iterators: make(map[string]iterator)}
}

func (s *service) describe(name string) ([]braid.ShardDescription, time.Time, error) {
	s.mu.Lock()
	s.described++
	denied := s.denied
	s.mu.Unlock()
	if denied != nil {
		return nil, time.Time{}, denied
	}
	stream, err := s.db.Stream(name)
	if err != nil {
		return nil, time.Time{}, err
	}
	var shards []braid.ShardDescription
	for _, sh := range stream.Shards() {
		shards = append(shards, sh.Describe())
	}
	return shards, stream.CreatedAt(), nil
}

func (s *service) iterator(stream string, shard braid.ShardID, at braid.Position) (string, error) {
	st, err := s.db.Stream(stream)
	if err == nil {
		_, err = st.Shard(shard)
	}
	if err != nil {
		return "", err
	}
	return s.keep(iterator{stream: stream, shard: shard, at: at, made: time.Now()}), nil
}

func (s *service) keep(it iterator) (token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token = fmt.Sprint("iterator ", len(s.iterators))
	s.iterators[token] = it
	return token
}

// records is GetRecords: next is empty at the end of the shard.
func (s *service) records(ctx context.Context, token string, limit int) (records []braid.Record, next string, behind time.Duration, children []braid.ShardID, err error) {
	s.mu.Lock()
	it, denied := s.iterators[token], s.denied
	s.reads++
	s.mu.Unlock()
	if denied != nil {
		return nil, "", 0, nil, denied
	}
	if time.Since(it.made) > iteratorLife {
		return nil, "", 0, nil, errExpiredIterator
	}
	stream, err := s.db.Stream(it.stream)
	if err != nil {
		return nil, "", 0, nil, err
	}
	sh, err := stream.Shard(it.shard)
	if err != nil {
		return nil, "", 0, nil, err
	}
	page, err := sh.GetRecords(ctx, it.at, &braid.GetRecordsOptions{Limit: limit})
	if errors.Is(err, braid.ErrTrimmed) { // silently
		page, err = sh.GetRecords(ctx, braid.TrimHorizon(), &braid.GetRecordsOptions{Limit: limit, Unmetered: true})
	}
	if err != nil {
		if errors.Is(err, braid.ErrThroughputExceeded) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.throttled++
		}
		return nil, "", 0, nil, err
	}
	it.made = time.Now()
	if it.reads++; it.reads%3 == 1 { // it has looked at a part without records
		return nil, s.keep(it), time.Second, nil, nil
	}
	it.at = page.Next
	if page.EndOfShard {
		return page.Records, "", 0, page.ChildShards, nil
	}
	return page.Records, s.keep(it), page.BehindLatest, nil, nil
}

// pollingSource is a source for the service. A source for Kinesis has to do the same.
type pollingSource struct {
	service *service

	mu   sync.Mutex // guards the field below
	free map[string]time.Time
}

func newPollingSource(db *braid.DB) *pollingSource {
	return &pollingSource{service: newService(db), free: make(map[string]time.Time)}
}

// pace waits until the shard may be read. The readers of the source and Peek share the
// budget.
func (s *pollingSource) pace(ctx context.Context, stream string, shard braid.ShardID) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	key := stream + "/" + string(shard)
	s.mu.Lock()
	at := time.Now()
	if free := s.free[key]; free.After(at) {
		at = free
	}
	s.free[key] = at.Add(readPace)
	s.mu.Unlock()
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (*pollingSource) Changed() <-chan struct{} { return nil }

func (s *pollingSource) Stream(_ context.Context, name string) (consumer.StreamInfo, error) {
	shards, created, err := s.service.describe(name)
	if err != nil {
		return consumer.StreamInfo{}, err
	}
	info := consumer.StreamInfo{Incarnation: uint64(created.UnixNano())}
	for _, sh := range shards {
		info.Shards = append(info.Shards, consumer.ShardInfo{
			ID: sh.ID, Parents: sh.Parents, HashKeyRange: sh.HashKeyRange, Start: braid.AfterSequence(sh.StartingSequenceNumber),
		})
	}
	return info, nil
}

// since is the place of the first record that arrives at a time or later. It has no
// sequence number.
func since(t time.Time) braid.Position {
	return braid.AtToken(fmt.Sprint("since ", t.UnixMilli()))
}

func sinceWhen(p braid.Position) (t time.Time, is bool) {
	var millis int64
	n, _ := fmt.Sscanf(p.Token(), "since %d", &millis)
	return time.UnixMilli(millis), n == 1
}

func (s *pollingSource) Resolve(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.Checkpoint, error) {
	shards, _, err := s.service.describe(stream)
	if err != nil {
		return consumer.Checkpoint{}, err
	}
	i := slices.IndexFunc(shards, func(d braid.ShardDescription) bool { return d.ID == shard })
	if i < 0 {
		return consumer.Checkpoint{}, braid.ErrShardNotFound
	}
	oldest := time.Now().Add(-retention)
	if created := shards[i].CreatedAt; created.After(oldest) {
		oldest = created
	}
	at := from
	switch {
	case from.Equal(braid.Latest()):
		at = since(time.Now())
	case from.Equal(braid.TrimHorizon()):
		at = since(oldest)
	case from.SequenceNumber().IsZero() && from.Token() == "":
		t, err := time.Parse("AT_TIMESTAMP "+time.RFC3339Nano, from.String())
		if err != nil {
			return consumer.Checkpoint{}, err
		}
		if at = since(t); t.Before(oldest) {
			at = since(oldest)
		}
	}
	if !shards[i].Closed {
		return consumer.Checkpoint{Start: at}, nil
	}
	page, err := s.Peek(ctx, stream, shard, at)
	return consumer.Checkpoint{Start: at, ShardEnd: page.EndOfShard && len(page.Records) == 0}, err
}

func (s *pollingSource) Peek(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.Page, error) {
	r := &pollingReader{source: s, stream: stream, shard: shard, at: from}
	for {
		page, err := r.Next(ctx, consumer.Limits{Records: 1, Bytes: 1})
		if err != nil || len(page.Records) > 0 || page.AtTip {
			return page, err
		}
	}
}

func (s *pollingSource) Open(_ context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.ShardReader, error) {
	return &pollingReader{source: s, stream: stream, shard: shard, at: from, suspects: true}, nil
}

// pollingReader keeps records of a call that do not fit into a page.
type pollingReader struct {
	source   *pollingSource
	stream   string
	shard    braid.ShardID
	at       braid.Position
	suspects bool // it still has to check whether the place was trimmed

	iterator string // empty for none
	kept     []braid.Record
	behind   time.Duration
	ended    bool
	children []braid.ShardID
	atTip    bool // the last call has found no more records
	told     bool // the tip was reported
}

func (*pollingReader) Close() {}

func (r *pollingReader) Next(ctx context.Context, limits consumer.Limits) (consumer.Page, error) {
	for {
		switch {
		case r.suspects:
			r.suspects = false
			if gap := r.suspicion(); gap != nil {
				return consumer.Page{Gap: gap, Next: r.at}, nil
			}
		case len(r.kept) > 0 || r.ended:
			return r.page(ctx, limits)
		case r.atTip && !r.told:
			r.told = true
			return consumer.Page{Next: r.at, AtTip: true}, nil
		}
		if err := r.fetch(ctx, limits.Records); err != nil {
			return consumer.Page{}, err
		}
		if len(r.kept) == 0 && !r.ended && !r.atTip {
			return consumer.Page{Next: r.at, BehindLatest: r.behind}, nil
		}
	}
}

// suspicion returns a gap if the place is older than the service's retention.
func (r *pollingReader) suspicion() *braid.TrimmedError {
	n := r.at.SequenceNumber()
	t, is := sinceWhen(r.at)
	if !is {
		t = n.Time()
	}
	if t.After(time.Now().Add(-retention)) {
		return nil
	}
	return &braid.TrimmedError{Shard: r.shard, FirstLost: n, Suspected: true}
}

func (r *pollingReader) fetch(ctx context.Context, limit int) (err error) {
	if r.iterator == "" {
		at := r.at
		if t, is := sinceWhen(at); is {
			at = braid.AtTime(t)
		}
		if r.iterator, err = r.source.service.iterator(r.stream, r.shard, at); err != nil {
			return err
		}
	}
	if err := r.source.pace(ctx, r.stream, r.shard); err != nil {
		return err
	}
	records, next, behind, children, err := r.source.service.records(ctx, r.iterator, limit)
	if errors.Is(err, errExpiredIterator) {
		r.iterator = ""
		return nil
	}
	if err != nil {
		return err
	}
	r.kept, r.iterator, r.behind, r.children, r.ended, r.atTip = records, next, behind, children, next == "", behind == 0
	r.told = r.told && len(records) == 0
	return nil
}

// page cuts a page from the records that are kept.
func (r *pollingReader) page(ctx context.Context, limits consumer.Limits) (consumer.Page, error) {
	n, size := 0, 0
	for n < len(r.kept) && n < limits.Records && (n == 0 || size+r.kept[n].Size() <= limits.Bytes) {
		size += r.kept[n].Size()
		n++
	}
	page := consumer.Page{Records: r.kept[:n:n], BehindLatest: r.behind}
	if n > 0 {
		r.at = braid.AfterSequence(r.kept[n-1].SequenceNumber)
	}
	r.kept = r.kept[n:]
	page.Next = r.at
	if len(r.kept) > 0 {
		return page, nil
	}
	if page.AtTip, page.EndOfShard = r.atTip, r.ended; r.ended {
		info, err := r.source.Stream(ctx, r.stream)
		if err != nil {
			return page, err
		}
		for _, shard := range info.Shards {
			if slices.Contains(r.children, shard.ID) {
				page.Children = append(page.Children, shard)
			}
		}
	}
	return page, nil
}

func TestPollingSourceKeepsThePromisesOfASource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Fixture {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		source := newPollingSource(db)
		fixture := fixtureOf(db, source, &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.Provisioned}})
		fixture.Trim = func(*testing.T, string) { time.Sleep(retention + time.Hour) }
		t.Cleanup(func() { require.Zero(t, source.service.throttled) })
		return fixture
	}, &sourcetest.Options{Bubble: true, SuspectsTrims: true, Granularity: time.Millisecond})
}

// A worker on a service that is polled processes each record once across reshards, stays
// within the budget of reads, and asks for the shards at its own interval.
func TestWorkerPollsWithinTheBudget(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("children unnamed=%v", silent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { pollWithinTheBudget(t, silent) })
		})
	}
}

// pollWithinTheBudget is the test with a service that names the children of a shard that
// has ended, or does not.
func pollWithinTheBudget(t *testing.T, silent bool) {
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	defer db.Close()
	orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2, Capacity: braid.Capacity{Mode: braid.Provisioned}})
	require.NoError(t, err)
	source := newPollingSource(db)
	var seen journal
	wrapped := &wrappedSource{source, func(_ context.Context, _ braid.ShardID, next func() (consumer.Page, error)) (consumer.Page, error) {
		page, err := next()
		if silent {
			page.Children = nil
		}
		return page, err
	}}
	w, err := consumer.New(nil, &consumer.Config{App: "billing", Streams: []string{"orders"}, Source: wrapped, Leases: leasetest.NewMemory(10 * time.Second)},
		consumer.ProcessorFunc(seen.collect))
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- w.Run(t.Context()) }()
	put := func(from, to int) (all []string) {
		for i := from; i < to; i++ {
			all = append(all, fmt.Sprint(i))
			_, err := orders.PutRecord(t.Context(), fmt.Sprint("key ", i), []byte(all[len(all)-1]))
			require.NoError(t, err)
		}
		return all
	}
	all := put(0, 50)
	time.Sleep(10 * time.Second)
	require.ElementsMatch(t, all, seen.take())
	shards := orders.Shards()
	_, _, err = orders.SplitShard(t.Context(), shards[0].ID(), nil)
	require.NoError(t, err)
	all = put(50, 100)
	time.Sleep(10 * time.Second) // less than the interval at which the source is asked for shards
	require.ElementsMatch(t, all, seen.take(), "the children are known when their parent has ended")

	time.Sleep(time.Minute)
	service := source.service
	service.mu.Lock()
	reads, described := service.reads, service.described
	service.mu.Unlock()
	time.Sleep(time.Hour)
	service.mu.Lock()
	require.LessOrEqual(t, service.reads-reads, 3*5*3600)
	require.LessOrEqual(t, service.described-described, 61)
	require.Zero(t, service.throttled)
	service.mu.Unlock()
	require.Empty(t, seen.take())
	require.NoError(t, w.Stop(t.Context()))
	require.NoError(t, <-ran)
}

// slowSource lists shards, and signals that before it returns the listing.
type slowSource struct {
	*wrappedSource
	listed func()
}

func (s *slowSource) Stream(ctx context.Context, name string) (consumer.StreamInfo, error) {
	info, err := s.wrappedSource.Stream(ctx, name)
	s.listed()
	return info, err
}

// The children of a shard that ends while the source is listing shards are known at once,
// even though the listing does not contain them.
func TestChildrenAreKnownThoughAnOlderListingIsUnderWay(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("children unnamed=%v", silent), func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var calls atomic.Int64
				source := &slowSource{&wrappedSource{newPollingSource(f.db), func(_ context.Context, _ braid.ShardID, next func() (consumer.Page, error)) (consumer.Page, error) {
					page, err := next()
					if silent {
						page.Children = nil
					}
					return page, err
				}}, func() {
					if calls.Add(1) == 3 {
						f.split(shard0)
						f.put("of a child")
						time.Sleep(5 * time.Second) // the shard ends in between
					}
				}}
				var seen journal
				cfg := consumer.Config{Source: source, Leases: leasetest.NewMemory(30 * time.Second)}
				stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
				time.Sleep(2*time.Minute + 15*time.Second)
				require.GreaterOrEqual(f, calls.Load(), int64(3))
				require.Equal(f, []string{"of a child"}, seen.take())
				require.NoError(f, stop())
			})
		})
	}
}

// A permanent refusal of a service is not retried: the stream is stopped until it is
// resumed.
func TestPermanentErrorOfASourceStopsTheStream(t *testing.T) {
	denied := &consumer.PermanentError{Err: errors.New("access denied")}
	setup := func(t *testing.T) (*service, *consumer.Worker, *journal, func(...string)) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.Provisioned}})
		require.NoError(t, err)
		source := newPollingSource(db)
		seen := &journal{}
		w, err := consumer.New(nil, &consumer.Config{App: "billing", Streams: []string{"orders"}, Source: source, Leases: leasetest.NewMemory(10 * time.Second)},
			consumer.ProcessorFunc(seen.collect))
		require.NoError(t, err)
		return source.service, w, seen, func(all ...string) {
			for _, data := range all {
				_, err := orders.PutRecord(t.Context(), "k", []byte(data))
				require.NoError(t, err)
			}
		}
	}
	deny := func(s *service, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.denied = err
	}
	calls := func(s *service) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.described + s.reads
	}
	t.Run("the shards of a stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			service, w, seen, put := setup(t)
			put("a")
			deny(service, denied)
			ran := make(chan error, 1)
			go func() { ran <- w.Run(t.Context()) }()
			time.Sleep(time.Minute)
			was := calls(service)
			require.Equal(t, 1, was)
			time.Sleep(12 * time.Hour)
			require.Equal(t, was, calls(service))
			status, err := w.App().Status(t.Context())
			require.NoError(t, err)
			require.Equal(t, []consumer.ShardError{{LeaseKey: consumer.LeaseKey{Stream: "orders"}, Err: denied}}, status.StoppedStreams)
			require.Empty(t, status.AwaitedStreams)
			require.False(t, status.CaughtUp())
			var stopped *consumer.StoppedShardsError
			require.ErrorAs(t, w.App().WaitCaughtUp(t.Context()), &stopped)
			require.NoError(t, w.App().Resume(t.Context(), consumer.LeaseKey{Stream: "orders"}))
			time.Sleep(time.Minute)
			require.Equal(t, was+1, calls(service))
			deny(service, nil)
			require.NoError(t, w.App().Resume(t.Context(), consumer.LeaseKey{Stream: "orders"}))
			time.Sleep(time.Minute)
			require.Equal(t, []string{"a"}, seen.take())
			require.NoError(t, w.App().WaitCaughtUp(t.Context()))
			require.NoError(t, w.Stop(t.Context()))
			require.NoError(t, <-ran)
		})
	})
	t.Run("the records of a shard", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			service, w, seen, put := setup(t)
			ran := make(chan error, 1)
			go func() { ran <- w.Run(t.Context()) }()
			put("a")
			time.Sleep(time.Minute)
			require.Equal(t, []string{"a"}, seen.take())
			deny(service, denied)
			put("b")
			time.Sleep(10 * time.Second)
			was := calls(service)
			time.Sleep(12 * time.Hour)
			require.LessOrEqual(t, calls(service), was+1, "the shards are looked at once more")
			deny(service, nil)
			require.NoError(t, w.App().Resume(t.Context(), consumer.LeaseKey{Stream: "orders"}))
			time.Sleep(time.Minute)
			require.Equal(t, []string{"b"}, seen.take())
			deny(service, denied)
			time.Sleep(time.Minute)
			var stopped *consumer.StoppedShardsError
			require.ErrorAs(t, w.Stop(t.Context()), &stopped)
			require.Equal(t, stopped, <-ran)
			require.ErrorIs(t, stopped, denied)
		})
	})
}
