package modeltest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/testdisk"
)

// The model test proves what braid promises about content and order: random
// histories, each from one seed, run against a database in a synctest bubble and
// against a twin made of maps and slices; every read has to agree. While they
// run, the disk is copied in the middle of file operations, as a power cut would
// leave it, and every such image has to hold what had been promised by then
// (model_crash_test.go).
//
//	go test ./internal/modeltest -run Model -braid.seeds 5000 -braid.images 50    # more
//	go test ./internal/modeltest -run Model -braid.seed 17 -v                     # one again

var (
	modelSeeds  = flag.Int("braid.seeds", 300, "how many seeds the model test runs")
	modelSeed   = flag.Int("braid.seed", -1, "run only this seed of the model test")
	modelImages = flag.Int("braid.images", 18, "about how many crash images each seed takes")
)

const modelSteps = 220

func TestModel(t *testing.T) {
	t.Parallel() // runs beside the fault sweep, which mostly waits
	first, seeds := 0, *modelSeeds
	if testing.Short() {
		seeds /= 15
	}
	if *modelSeed >= 0 {
		first, seeds = *modelSeed, 1
	}
	var totals modelTotals
	t.Run("seed", func(t *testing.T) {
		for seed := first; seed < first+seeds; seed++ {
			t.Run(strconv.Itoa(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { runModel(t, uint64(seed), &totals) })
			})
		}
	})
	if !t.Failed() && totals.ahead.Load() == 0 {
		t.Error("no page was read ahead")
	}
	t.Logf("%d histories of %d steps: %d records, %d reads compared, %d pages read ahead, %d reshards, %d trims, %d restarts",
		totals.histories.Load(), modelSteps, totals.records.Load(), totals.reads.Load(), totals.ahead.Load(), totals.reshards.Load(), totals.trims.Load(), totals.restarts.Load())
	t.Logf("%d crash images: %d in control operations, Open or Close, and %d more while an image was being opened or written to",
		totals.images.Load(), totals.controlImages.Load(), totals.doubleImages.Load())
	t.Logf("reached: %v", &totals.reached)
	if seeds >= 300 && !t.Failed() {
		totals.reached.require(t, modelSituations...)
	}
}

type modelTotals struct {
	histories, records, reads, ahead, reshards, trims, restarts atomic.Int64
	images, controlImages, doubleImages                         atomic.Int64
	reached                                                     reached
}

// model is one history.
type model struct {
	t      *testing.T
	totals *modelTotals
	random *rand.Rand
	opts   braid.Options
	fat    bool // large records, so that epochs rotate and are dropped
	disk   *testdisk.Disk
	db     *braid.DB
	offset atomic.Int64 // of the wall clock from the bubble's
	aging  atomic.Int64 // of the clock for the age of records from the bubble's

	// most is the highest aging time in the stored data while the promises do not know it yet: when
	// a database is opened.
	most atomic.Uint64

	twin        *twin
	incarnation int
	highest     uint64 // the highest counter that was acknowledged
	promises    *promises
	images      *imageTaker
	followers   map[string]*modelFollower // by stream
	queues      []*modelQueue
	queueIDs    int
	steps       []string // for the report of a failure
}

func runModel(t *testing.T, seed uint64, totals *modelTotals) {
	random := rand.New(rand.NewPCG(seed, 0x6272616964))
	m := &model{
		t: t, totals: totals, random: random,
		opts: braid.Options{
			MemtableBytes: 1 << 20,
			CacheBytes:    []int64{256 << 10, 8 << 20}[seed%2],
			TailBytes:     []int64{-1, 16 << 10, 1 << 20}[random.IntN(3)],
			Durability:    []braid.Durability{braid.Sync, braid.Sync, braid.Sync, braid.Interval, braid.NoSync}[random.IntN(5)],
			ReserveBytes:  -1,
			KeyProvider:   twoKeys,
		},
		fat:       random.IntN(4) == 0,
		twin:      newTwin(),
		promises:  newPromises(),
		followers: make(map[string]*modelFollower),
	}
	m.images = &imageTaker{seed: seed, want: *modelImages, promises: m.promises, clock: m.clock, now: m.agedMost}
	m.disk = m.images.watch(vfs.NewCrashableMem())
	defer func() {
		if t.Failed() {
			t.Logf("seed %d: %s, tail %d, fat %v; its history:\n%s", seed, m.opts.Durability, m.opts.TailBytes, m.fat, strings.Join(m.steps, "\n"))
		}
	}()
	m.open()
	for i := range modelSteps {
		m.age()
		epochs := m.db.Metrics().Epochs
		m.step()
		synctest.Wait() // followers are at the tip
		if m.db.Metrics().Epochs < epochs {
			m.totals.reached.note("an epoch that was dropped")
		}
		if err := inside.DBOf(m.db).CheckBooks(t.Context()); err != nil {
			m.fail("the books are wrong: %v", err)
		}
		if i%16 == 0 || i == modelSteps-1 {
			m.verify()
			m.checkQueues()
		}
		if t.Failed() {
			break
		}
	}
	if !t.Failed() {
		m.age()
		m.checkAll()
	}
	m.close()
	totals.histories.Add(1)
	totals.records.Add(int64(m.promises.count()))
	if !t.Failed() {
		m.checkImages()
	}
}

func (m *model) logf(format string, args ...any) {
	m.steps = append(m.steps, fmt.Sprintf("%4d  %s", len(m.steps), fmt.Sprintf(format, args...)))
}

// verify reads and verifies all stored data, and checks the sizes of blocks, which no reader
// depends on.
func (m *model) verify() {
	if _, err := m.db.Verify(m.t.Context(), &braid.VerifyOptions{BytesPerSecond: -1}); err != nil {
		m.fail("%v", err)
	}
	eachBlock(m.t, m.db, func(_ layout.BlockKey, key, value []byte) {
		block, err := layout.DecodeBlock(key, value)
		require.NoError(m.t, err)
		most := uint64(layout.MaxBlockBytes)
		if block.Sealed {
			most = layout.MaxSealedBlockBytes
		}
		if block.Count > 1 && block.Bytes > most || block.Count > layout.MaxBlockRecords {
			m.fail("a block has %d records of %d bytes", block.Count, block.Bytes)
		}
	})
}

func (m *model) fail(format string, args ...any) {
	m.t.Errorf("after step %d: %s", len(m.steps)-1, fmt.Sprintf(format, args...))
}

// ok fails unless err is nil.
func (m *model) ok(what string, err error) bool {
	if err != nil {
		m.fail("%s: %v", what, err)
	}
	return err == nil
}

// is fails unless err is of the class.
func (m *model) is(what string, err, class error) {
	if !errors.Is(err, class) {
		m.fail("%s: the error should be %q, and is: %v", what, class, err)
	}
}

// now is the clock for the age of records: the clock's steps do not change it.
func (m *model) now() uint64 { return uint64(time.Now().UnixNano() + m.aging.Load()) }

// moment is now on both clocks. Arrival times never go back.
func (m *model) moment() twinMoment {
	return twinMoment{m.now(), max(m.now(), uint64(max(0, m.clock().UnixNano())), visible(m.db))}
}

// setNow sets the clock for the age of records; for the open of the database.
func (m *model) setNow(now uint64) { m.aging.Store(int64(now) - time.Now().UnixNano()) }

// agedMost is the highest aging time that an image may have.
func (m *model) agedMost() uint64 { return max(m.now(), m.most.Load()) }

// age removes from the twin what the database no longer has.
func (m *model) age() {
	for name, ts := range m.twin.streams {
		ts.age(m.now())
		s, err := m.db.Stream(name)
		if !m.ok("stream", err) {
			return
		}
		if ts.limit > 0 {
			m.ok("limit", ts.adopt(s))
		}
		// On-demand streams may have created shards, and shards may have gone.
		gone := len(ts.gone)
		if len(s.Shards()) != len(ts.shards) || int(inside.StreamOf(s).Next()) != len(ts.shards)+len(ts.gone) {
			m.ok("shards", ts.checkShards(s.Describe(), m.moment()))
		}
		if len(ts.gone) > gone {
			m.totals.reached.note("a shard that expired")
		}
		ts.looked = m.moment()
	}
}

func (m *model) clock() time.Time { return time.Now().Add(time.Duration(m.offset.Load())) }

// step does one random thing.
func (m *model) step() {
	choices := []struct {
		weight int
		do     func(*twinStream, *braid.Stream)
	}{
		{40, m.put},
		{30, m.putMany},
		{12, m.putTogether},
		{8, m.putCancelled},
		{6, m.putInvalid},
		{30, m.readShard},
		{14, m.readStream},
		{6, m.readBeyond},
		{10, m.trim},
		{12, m.reshard},
		{8, m.changeRetention},
		{4, m.changeSettings},
		{4, m.changeKey},
		{2, m.deleteStream},
		{14, m.update},
		{80, m.useQueue},
		{6, func(*twinStream, *braid.Stream) { m.createStream() }},
		{4, func(*twinStream, *braid.Stream) { m.view() }},
		{4, func(*twinStream, *braid.Stream) { m.checkAll() }},
		{8, func(*twinStream, *braid.Stream) { m.sleep() }},
		{6, func(*twinStream, *braid.Stream) { m.stepClock() }},
		{3, func(*twinStream, *braid.Stream) { m.reopen() }},
		{4, func(*twinStream, *braid.Stream) { m.crash() }},
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	if len(m.twin.streams) == 0 {
		m.createStream()
		return
	}
	n := m.random.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			ts, s := m.anyStream()
			c.do(ts, s)
			return
		}
	}
}

func (m *model) anyStream() (*twinStream, *braid.Stream) {
	var names []string
	for name := range m.twin.streams {
		names = append(names, name)
	}
	slices.Sort(names)
	name := names[m.random.IntN(len(names))]
	s, err := m.db.Stream(name)
	if err != nil {
		m.t.Fatalf("stream %s is missing: %v", name, err)
	}
	return m.twin.streams[name], s
}

func (m *model) createStream() {
	name := string(rune('a' + m.random.IntN(3)))
	opts := &braid.StreamOptions{Shards: 1 + m.random.IntN(4), MaxRecordBytes: []int{0, 64 << 10}[m.random.IntN(2)]}
	m.logf("create stream %s of %d shards", name, opts.Shards)
	if m.twin.streams[name] != nil {
		_, err := m.db.CreateStream(m.t.Context(), name, opts)
		m.is("create", err, braid.ErrStreamExists)
		return
	}
	opts.Retention = []time.Duration{-1, -1, 0, time.Hour, 10 * time.Minute}[m.random.IntN(5)]
	if m.fat && m.random.IntN(2) == 0 {
		opts.RetentionBytes = 1 << 20
	}
	m.incarnation++
	ts := &twinStream{name: name, incarnation: m.incarnation, maxData: opts.MaxRecordBytes, retention: max(0, opts.Retention), limit: opts.RetentionBytes}
	if opts.Retention == 0 {
		ts.retention = 24 * time.Hour
	}
	if ts.maxData == 0 {
		ts.maxData = 1 << 20
	}
	m.images.during("creation")
	defer m.images.during("")
	m.promises.createBegins(ts)
	s, err := m.db.OpenStream(m.t.Context(), name, opts)
	if !m.ok("create", err) {
		return
	}
	m.promises.created(ts, s)
	m.twin.streams[name] = ts
	if m.ok("shards", ts.checkShards(s.Describe(), m.moment())) && len(s.Shards()) != opts.Shards {
		m.fail("%d shards were made", len(s.Shards()))
	}
	m.follow(ts, s, braid.TrimHorizon())
}

func (m *model) deleteStream(ts *twinStream, s *braid.Stream) {
	for _, mq := range m.queuesOf(ts) {
		m.is("delete a stream with queues", m.db.DeleteStream(m.t.Context(), ts.name), braid.ErrStreamInUse)
		m.deleteQueue(mq)
	}
	m.logf("delete stream %s", ts.name)
	m.images.during("deletion")
	defer m.images.during("")
	m.promises.deleteBegins(ts)
	if !m.ok("delete", m.db.DeleteStream(m.t.Context(), ts.name)) {
		return
	}
	m.promises.deleted(ts)
	delete(m.twin.streams, ts.name)
	m.endFollower(ts, braid.ErrStreamNotFound)
	_, err := s.PutRecord(m.t.Context(), "k", nil)
	m.is("put to a deleted stream", err, braid.ErrStreamNotFound)
	_, err = s.Shards()[0].GetRecords(m.t.Context(), braid.TrimHorizon(), nil)
	m.is("read of a deleted stream", err, braid.ErrStreamNotFound)
}

func (m *model) trim(ts *twinStream, s *braid.Stream) {
	position, from, _ := m.position(ts, s, "")
	m.trimBefore(ts, s, position, from)
}

// trimBefore trims to a position, which resolves to the counter from.
func (m *model) trimBefore(ts *twinStream, s *braid.Stream, position braid.Position, from uint64) {
	m.logf("trim %s before %s", ts.name, position)
	m.images.during("trim")
	defer m.images.during("")
	from = min(from, visible(m.db)+1) // if the clock goes back, later records may have an earlier time
	m.promises.trimBegins(ts, from)
	if m.ok("trim", s.Trim(m.t.Context(), position)) {
		ts.trim(from)
		m.promises.trimmed(ts, from)
		m.totals.trims.Add(1)
	}
}

func (m *model) reshard(ts *twinStream, s *braid.Stream) {
	open := slices.DeleteFunc(slices.Clone(ts.shards), func(sh twinShard) bool { return sh.closed })
	slices.SortFunc(open, func(a, b twinShard) int { return a.keys.Start.Compare(b.keys.Start) })
	i := m.random.IntN(len(open))
	m.images.during("reshard")
	defer m.images.during("")
	var err error
	switch kind := m.random.IntN(5); {
	case kind == 0:
		for range max(1, m.random.IntN(20)-14) { // several generations within a second
			target := 1 + m.random.IntN(6)
			m.logf("change %s to %d shards", ts.name, target)
			if err = s.UpdateShardCount(m.t.Context(), target); err == nil && openShards(s) != target {
				m.fail("it has %d", openShards(s))
			}
		}
	case kind < 3 && len(open) < 8 || len(open) == 1:
		m.logf("split %s of %s", open[i].id, ts.name)
		_, _, err = s.SplitShard(m.t.Context(), open[i].id, nil)
	default:
		i = min(i, len(open)-2)
		m.logf("merge %s and %s of %s", open[i].id, open[i+1].id, ts.name)
		_, err = s.MergeShards(m.t.Context(), open[i].id, open[i+1].id)
	}
	if ts.mode == braid.OnDemand {
		m.is("reshard", err, braid.ErrInvalidArgument)
		return
	}
	if m.ok("reshard", err) {
		m.totals.reshards.Add(1)
		m.ok("shards", ts.checkShards(s.Describe(), m.moment()))
		m.promises.resharded(ts, s)
	}
}

// changeRetention tries another period, which may be refused.
func (m *model) changeRetention(ts *twinStream, s *braid.Stream) {
	period := []time.Duration{-1, 23 * time.Hour, 24 * time.Hour, 48 * time.Hour, 8760 * time.Hour, 8761 * time.Hour}[m.random.IntN(6)]
	increase := m.random.IntN(2) == 0
	m.logf("change the retention of %s from %v to %v (increase: %v)", ts.name, ts.retention, period, increase)
	m.images.during("retention change")
	defer m.images.during("")
	forever := period < 0
	valid := period >= 24*time.Hour && period <= 8760*time.Hour
	if increase {
		valid = valid && ts.retention > 0 && period >= ts.retention || forever
	} else {
		valid = valid && (ts.retention == 0 || period <= ts.retention)
	}
	m.promises.retentionBegins(ts, max(0, period))
	var err error
	if increase {
		err = s.IncreaseRetention(m.t.Context(), period)
	} else {
		err = s.DecreaseRetention(m.t.Context(), period)
	}
	if !valid {
		m.is("change retention", err, braid.ErrInvalidArgument)
		period = ts.retention
	} else if m.ok("change retention", err) {
		ts.changeRetention(m.now(), max(0, period))
	}
	m.promises.retentionChanged(ts, max(0, period))
}

// changeKey starts or stops encryption, or changes the key.
func (m *model) changeKey(ts *twinStream, s *braid.Stream) {
	keyID := []string{"", "a", "b", "nobody's"}[m.random.IntN(4)]
	m.logf("encrypt %s with %q", ts.name, keyID)
	m.images.during("change of the key")
	defer m.images.during("")
	err := changeKey(m.t.Context(), s, keyID)
	if keyID == "nobody's" {
		m.is("start encryption", err, braid.ErrInvalidArgument)
		return
	}
	m.ok("change the key", err)
	ts.keyID = keyID
}

// changeSettings sets or removes the stream's budgets.
func (m *model) changeSettings(ts *twinStream, s *braid.Stream) {
	capacity := braid.Capacity{Mode: braid.CapacityMode(m.random.IntN(3))}
	if capacity.Mode != braid.Unlimited {
		capacity = braid.Capacity{Mode: capacity.Mode, WriteRecordsPerSecond: 1 + m.random.IntN(20), WriteBytesPerSecond: 1 << (10 + m.random.IntN(10)), ReadsPerSecond: 1 << 30, ReadBytesPerSecond: 1 << 30}
	}
	if capacity.Mode == braid.OnDemand {
		capacity.MaxShards = 1 + m.random.IntN(8)
	}
	m.logf("change the capacity of %s to %+v", ts.name, capacity)
	m.images.during("change of capacity")
	defer m.images.during("")
	if m.ok("change capacity", s.UpdateCapacity(m.t.Context(), capacity)) {
		ts.mode = capacity.Mode
	}
}

// update runs a transaction that reads and writes keys, and puts a record that exists if and only
// if a key of its own does.
func (m *model) update(ts *twinStream, s *braid.Stream) {
	r, e := m.entry(ts)
	r.key, e.PartitionKey, r.explicit, e.ExplicitHashKey = "tx", "tx", nil, nil
	own := "tx/" + strconv.Itoa(r.id)
	key := "k" + strconv.Itoa(m.random.IntN(10))
	refuse := m.random.IntN(6) == 0
	m.logf("update %s, and put %d to %s (refused: %v)", key, r.id, ts.name, refuse)
	change := errors.New("function refuses")
	m.promises.putBegins(ts, []twinRecord{r})
	err := m.db.Update(m.t.Context(), func(tx *braid.Tx) error {
		value, err := tx.Get([]byte(key))
		want, there := m.twin.keys[key]
		if there != (err == nil) || string(value) != want {
			m.fail("key %s is %q (%v) and should be %q", key, value, err, want)
		}
		return errors.Join(
			tx.Set([]byte(key), strconv.AppendInt(nil, int64(r.id), 10)),
			tx.Set([]byte(own), nil),
			tx.Delete([]byte("k"+strconv.Itoa(r.id%10))),
			tx.PutEntry(ts.name, e),
			map[bool]error{true: change}[refuse],
		)
	})
	if refuse {
		m.is("update", err, change)
		return
	}
	if ts.mode != braid.Unlimited && errors.Is(err, braid.ErrThroughputExceeded) {
		return
	}
	if !m.ok("update", err) {
		return
	}
	m.twin.keys[key], m.twin.keys[own] = strconv.Itoa(r.id), ""
	delete(m.twin.keys, "k"+strconv.Itoa(r.id%10))
	m.reconcile(ts, s, []twinRecord{r})
	m.view()
}

// view compares all keys.
func (m *model) view() {
	got := make(map[string]string)
	err := m.db.View(m.t.Context(), func(tx *braid.Tx) error {
		last := ""
		for kv, err := range tx.Scan(nil, nil) {
			if err != nil {
				return err
			}
			if last != "" && last >= string(kv.Key) {
				m.fail("key %q was read after %q", kv.Key, last)
			}
			last = string(kv.Key)
			got[last] = string(kv.Value)
		}
		return nil
	})
	if m.ok("view", err) && fmt.Sprint(got) != fmt.Sprint(m.twin.keys) {
		m.fail("the keys are %v; they should be %v", got, m.twin.keys)
	}
}

func (m *model) sleep() {
	d := []time.Duration{time.Millisecond, time.Second, time.Minute, 11 * time.Minute, 3 * time.Hour, 20 * time.Hour}[m.random.IntN(6)]
	m.logf("%v pass", d)
	m.pass(d)
}

// pass waits, and looks at the streams often enough.
func (m *model) pass(d time.Duration) {
	const piece = 9 * time.Minute // no shard can be created, closed and removed within it
	for ; d > piece; d -= piece {
		<-time.After(piece)
		synctest.Wait()
		m.age()
	}
	<-time.After(d)
}

func (m *model) stepClock() {
	d := []time.Duration{time.Millisecond, time.Second, time.Hour, 30 * 24 * time.Hour}[m.random.IntN(4)]
	if m.random.IntN(2) == 0 {
		d = -d
	}
	m.logf("the clock steps by %v", d)
	m.offset.Add(int64(d))
}
