package modeltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
)

// These tests run everything at once: producers, followers, trims, reshards, streams that are
// created and deleted, transactions on the same keys, and a Close in the middle. The history checks
// the results (history_test.go).

// concurrentRun is a history of many goroutines.
type concurrentRun struct {
	t       *testing.T
	db      *braid.DB
	s       *braid.Stream
	history *history
	small   int // divides the work in a short run

	mu   sync.Mutex // guards the field below
	trim historyTrim
}

func (r *concurrentRun) ok(err error) bool {
	if err != nil {
		r.t.Error(err)
	}
	return err == nil
}

func TestEverythingAtOnce(t *testing.T) {
	for name, dir := range map[string]string{"memory": braid.InMemory, "disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			opts := &braid.Options{MemtableBytes: 1 << 20, TailBytes: 64 << 10, Durability: braid.NoSync}
			db, err := braid.Open(dir, opts)
			require.NoError(t, err)
			readAhead(db)
			s, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 3})
			require.NoError(t, err)
			r := &concurrentRun{t: t, db: db, s: s, history: newHistory(), small: 1}
			if testing.Short() {
				r.small = 4
			}
			r.run()
			r.judge(db)
			require.NotZero(t, inside.DBOf(db).PagesAhead())
			require.NoError(t, db.Close())
			if dir == braid.InMemory {
				return
			}
			db, err = braid.Open(dir, opts)
			require.NoError(t, err)
			readAhead(db)
			r.judge(db)
			require.NoError(t, db.Close())
		})
	}
}

// run runs all of them until the producers are done.
func (r *concurrentRun) run() {
	ctx, stop := context.WithCancel(r.t.Context())
	var followers, others, producers sync.WaitGroup
	seen := make([]map[string]bool, 2)
	for i := range seen {
		seen[i] = make(map[string]bool)
		followers.Go(func() { r.follow(ctx, seen[i]) })
	}
	done := make(chan struct{})
	for _, other := range []func(*rand.Rand){r.trimOnce, r.reshardOnce, r.streamOnce, r.readOnce, r.verifyOnce} {
		others.Go(func() {
			random := rand.New(rand.NewPCG(1, 2))
			for {
				select {
				case <-done:
					return
				default:
					other(random)
				}
			}
		})
	}
	for p := range 4 {
		producers.Go(func() { r.produce(p) })
	}
	producers.Wait()
	close(done)
	others.Wait()

	// Followers must reach the tip: they stop at this last record.
	_, err := r.history.put(r.t.Context(), r.s, "s", braid.Entry{PartitionKey: "end", Data: historyData("end", 10)})
	require.NoError(r.t, err)
	followers.Wait()
	stop()
	for _, seen := range seen {
		r.history.mu.Lock()
		for id, p := range r.history.puts {
			if p.stream == "s" && p.outcome == outcomeAcked && counter(p.result.SequenceNumber) >= r.trim.maybe && !seen[id] {
				r.t.Errorf("follower has not seen %s", id)
			}
		}
		r.history.mu.Unlock()
	}
}

func (r *concurrentRun) produce(p int) {
	random := rand.New(rand.NewPCG(uint64(p), 3))
	for i := range 400 / r.small {
		var entries []braid.Entry
		for j := range 1 + random.IntN(4) {
			id := fmt.Sprintf("p%d.%d.%d", p, i, j)
			entries = append(entries, braid.Entry{PartitionKey: strconv.Itoa(random.IntN(50)), Data: historyData(id, random.IntN(3000))})
		}
		if _, err := r.history.put(r.t.Context(), r.s, "s", entries...); !r.ok(err) {
			return
		}
	}
}

// follow reads in order up to the last record. If trimming overtakes it, it continues where it may.
func (r *concurrentRun) follow(ctx context.Context, seen map[string]bool) {
	from, last := braid.TrimHorizon(), uint64(0)
	for {
		for rec, err := range r.s.Follow(ctx, from) {
			var trimmed *braid.TrimmedError
			if errors.As(err, &trimmed) {
				from = braid.AtTime(time.Unix(0, int64(counter(trimmed.FirstAvailable))))
				break
			}
			if !r.ok(err) {
				return
			}
			id, whole := historyID(rec.Data)
			if n := counter(rec.SequenceNumber); !whole || n <= last {
				r.t.Errorf("%s follows %d: %.40q", rec.SequenceNumber, last, rec.Data)
				return
			}
			last, seen[id] = counter(rec.SequenceNumber), true
			from = braid.AfterSequence(rec.SequenceNumber)
			if id == "end" {
				return
			}
		}
	}
}

func (r *concurrentRun) trimOnce(random *rand.Rand) {
	before := r.history.lastAcked("s")
	if before.IsZero() || random.IntN(20) > 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trim.maybe = max(r.trim.maybe, counter(before))
	if r.ok(r.s.Trim(r.t.Context(), braid.AtSequence(before))) {
		r.trim.sure = r.trim.maybe
	}
}

func (r *concurrentRun) reshardOnce(random *rand.Rand) {
	r.ok(r.s.UpdateShardCount(r.t.Context(), 1+random.IntN(8)))
	<-time.After(time.Duration(random.IntN(2000)) * time.Microsecond)
}

// streamOnce creates a stream, fills it, reads it, and deletes it.
func (r *concurrentRun) streamOnce(random *rand.Rand) {
	s, err := r.db.CreateStream(r.t.Context(), "passing", &braid.StreamOptions{Shards: 1 + random.IntN(3)})
	if !r.ok(err) {
		return
	}
	n := random.IntN(20)
	for i := range n {
		_, err := s.PutRecord(r.t.Context(), strconv.Itoa(i), make([]byte, 1000))
		r.ok(err)
	}
	for _, err := range s.Records(r.t.Context(), braid.TrimHorizon()) {
		r.ok(err)
		n--
	}
	if n != 0 {
		r.t.Errorf("%d records of a stream are missing", n)
	}
	r.ok(r.db.DeleteStream(r.t.Context(), "passing"))
}

// readOnce reads the stream from its horizon while it is trimmed: it sees whole records, in order,
// or the error that trimming overtook it.
func (r *concurrentRun) readOnce(*rand.Rand) {
	last := uint64(0)
	for rec, err := range r.s.Records(r.t.Context(), braid.TrimHorizon()) {
		if errors.Is(err, braid.ErrTrimmed) {
			return
		}
		if !r.ok(err) {
			return
		}
		if n := counter(rec.SequenceNumber); n <= last {
			r.t.Errorf("%d follows %d", n, last)
		}
		last = counter(rec.SequenceNumber)
	}
}

// verifyOnce verifies all stored data meanwhile, and requires that nothing is found, whatever
// changes during it.
func (r *concurrentRun) verifyOnce(*rand.Rand) {
	_, err := r.db.Verify(r.t.Context(), &braid.VerifyOptions{BytesPerSecond: -1})
	r.ok(err)
}

func (r *concurrentRun) judge(db *braid.DB) {
	s, err := db.Stream("s")
	require.NoError(r.t, err)
	records, err := readShards(r.t.Context(), s)
	require.NoError(r.t, err)
	require.NoError(r.t, r.history.check("s", records, r.trim))
	require.NoError(r.t, checkTiling(s.Describe()))
	// Compactions hold iterators too, so this may take a moment.
	require.Eventually(r.t, func() bool { return db.Metrics().OpenIterators == 0 }, time.Minute, 10*time.Millisecond)
	require.Zero(r.t, db.Metrics().OpenSnapshots)
	_, err = db.Stream("passing")
	require.ErrorIs(r.t, err, braid.ErrStreamNotFound)
}

// No update is lost, and no two transactions together break an invariant that each of them keeps.
func TestTransactionsAreSerializable(t *testing.T) {
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	defer db.Close()
	ctx := t.Context()
	number := func(tx *braid.Tx, key string) int {
		value, err := tx.Get([]byte(key))
		if errors.Is(err, braid.ErrKeyNotFound) {
			return 0
		}
		require.NoError(t, err)
		n, err := strconv.Atoi(string(value))
		require.NoError(t, err)
		return n
	}
	set := func(tx *braid.Tx, key string, n int) error {
		return tx.Set([]byte(key), strconv.AppendInt(nil, int64(n), 10))
	}
	require.NoError(t, db.Update(ctx, func(tx *braid.Tx) error {
		return errors.Join(set(tx, "account/a", 50), set(tx, "account/b", 50))
	}))

	const workers, each = 16, 25
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 4))
			for range each {
				own := "counter/" + strconv.Itoa(random.IntN(4))
				if err := db.Update(ctx, func(tx *braid.Tx) error {
					return errors.Join(set(tx, "counter", number(tx, "counter")+1), set(tx, own, number(tx, own)+1))
				}); err != nil {
					t.Error(err)
				}
				// Write skew: each transaction takes from one account if the sum of both allows it.
				account := []string{"account/a", "account/b"}[random.IntN(2)]
				if err := db.Update(ctx, func(tx *braid.Tx) error {
					sum := 0
					for kv, err := range tx.Scan([]byte("account/"), []byte("account0")) {
						if err != nil {
							return err
						}
						n, err := strconv.Atoi(string(kv.Value))
						if err != nil {
							return err
						}
						sum += n
					}
					if sum < 7 {
						return nil
					}
					return set(tx, account, number(tx, account)-7)
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	// Meanwhile views see the counters agree.
	stop := make(chan struct{})
	var viewer sync.WaitGroup
	viewer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := db.View(ctx, func(tx *braid.Tx) error {
				sum := 0
				for i := range 4 {
					sum += number(tx, "counter/"+strconv.Itoa(i))
				}
				if all := number(tx, "counter"); all != sum {
					return fmt.Errorf("the counter is %d, the sum of its parts is %d", all, sum)
				}
				if number(tx, "account/a")+number(tx, "account/b") < 0 {
					return errors.New("accounts are overdrawn")
				}
				return nil
			}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	running.Wait()
	close(stop)
	viewer.Wait()
	require.NoError(t, db.View(ctx, func(tx *braid.Tx) error {
		require.Equal(t, workers*each, number(tx, "counter"))
		require.Equal(t, 100%7, number(tx, "account/a")+number(tx, "account/b"))
		return nil
	}))
}

// Close at any moment: every call returns, with success, ErrClosed or an unknown outcome, and
// nothing acknowledged is lost.
func TestCloseAtAnyMoment(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	dir, h := t.TempDir(), newHistory()
	random := rand.New(rand.NewPCG(5, 6))
	opts := &braid.Options{MemtableBytes: 1 << 20}
	for round := range rounds {
		db, err := braid.Open(dir, opts)
		require.NoError(t, err)
		readAhead(db)
		s, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		var running sync.WaitGroup
		until := func(what string, call func(i int) error) {
			running.Go(func() {
				for i := 0; ; i++ {
					if err := call(i); err != nil {
						if !errors.Is(err, braid.ErrClosed) {
							t.Errorf("%s failed: %v", what, err)
						}
						return
					}
				}
			})
		}
		for p := range 3 {
			until("put", func(i int) error {
				id := fmt.Sprintf("c%d.%d.%d", round, p, i)
				_, err := h.put(t.Context(), s, "s", braid.Entry{PartitionKey: id, Data: historyData(id, 200)})
				return err
			})
		}
		until("update", func(int) error {
			return db.Update(t.Context(), func(tx *braid.Tx) error { return tx.Set([]byte("k"), nil) })
		})
		until("view", func(int) error {
			return db.View(t.Context(), func(tx *braid.Tx) error {
				for _, err := range tx.Scan(nil, nil) {
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
		until("follow", func(int) error {
			for _, err := range s.Follow(t.Context(), braid.Latest()) {
				if err != nil {
					return err
				}
			}
			return errors.New("no error")
		})
		until("page", func(int) error {
			_, err := s.Shards()[0].GetRecords(t.Context(), braid.Latest(), &braid.GetRecordsOptions{Wait: true})
			return err
		})
		until("describe", func(int) error {
			_, _ = s.Describe(), db.Metrics()
			_, err := db.Stream("s")
			return err
		})
		<-time.After(time.Duration(random.IntN(5000)) * time.Microsecond)
		require.NoError(t, db.Close())
		running.Wait()
	}
	db, err := braid.Open(dir, opts)
	require.NoError(t, err)
	s, err := db.Stream("s")
	require.NoError(t, err)
	records, err := readShards(t.Context(), s)
	require.NoError(t, err)
	require.NoError(t, h.check("s", records, historyTrim{}))
	require.NoError(t, db.Close())
	t.Logf("%d records over %d closes, %d outcomes unknown", len(records), rounds, h.count(outcomeUnknown))
}
