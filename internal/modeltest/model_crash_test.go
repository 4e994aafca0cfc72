package modeltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/testdisk"
)

// This file crashes the model's database: in the history itself, which continues with what remains,
// and in images of the disk taken in the middle of file operations. Everything promised by then
// must exist, and nothing that had not begun by then may exist (promises_test.go).

// imageTaker copies the disk before some operations that change files.
type imageTaker struct {
	seed     uint64
	want     int
	promises *promises
	clock    func() time.Time
	now      func() uint64

	mu     sync.Mutex // guards the fields below
	count  uint64
	doing  string // the model's step, if it opens or closes the database, or changes a stream
	off    bool
	images []image
}

type image struct {
	mem    *vfs.MemFS
	lines  int       // length of the list of promises
	wall   time.Time // when it was taken
	now    uint64    // the same, by the clock for the age of records
	during string    // the taker's doing
	what   string
}

// watch returns a disk, and takes images of it.
func (it *imageTaker) watch(mem *vfs.MemFS) *testdisk.Disk {
	disk := testdisk.On(mem)
	disk.Before(func(op testdisk.Op) error {
		if op.Changes() {
			it.before(mem, op)
		}
		return nil
	})
	return disk
}

// before decides by the operation's number. The scheduler, not the seed, decides which operation
// has that number.
func (it *imageTaker) before(mem *vfs.MemFS, op testdisk.Op) {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.off {
		return
	}
	it.count++
	random := rand.New(rand.NewPCG(it.seed, it.count))
	every := 700
	if it.doing != "" || strings.HasPrefix(path.Base(op.Path), "MANIFEST") || strings.HasPrefix(path.Base(op.Path), "marker") {
		every = 400
	}
	if len(it.images) >= it.want || random.IntN(every) >= it.want {
		return
	}
	it.promises.mu.Lock()
	lines := len(it.promises.list)
	it.promises.mu.Unlock()
	percent := []int{0, 0, 100, 1 + random.IntN(99)}[random.IntN(4)]
	it.images = append(it.images, image{
		mem:    mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: random}),
		lines:  lines,
		wall:   it.clock(),
		now:    it.now(),
		during: it.doing,
		what:   fmt.Sprintf("before operation %d (%v of %s), keeping %d %% of what was not synced", it.count, op.Kind, op.Path, percent),
	})
}

// during notes the model's current step; empty for an ordinary one.
func (it *imageTaker) during(what string) {
	it.mu.Lock()
	defer it.mu.Unlock()
	it.doing = what
}

func (it *imageTaker) setOff(off bool) {
	it.mu.Lock()
	defer it.mu.Unlock()
	it.off = off
}

// checkImages opens and checks every image.
func (m *model) checkImages() {
	for i, img := range m.images.images {
		m.totals.images.Add(1)
		if img.during != "" {
			m.totals.controlImages.Add(1)
			m.totals.reached.note("an image during " + img.during)
		}
		bound := m.promises.bound(img.lines, m.opts.Durability == braid.Sync)
		if i%4 == 0 {
			m.checkReadOnly(img, bound)
		}
		m.checkImage(img, bound, i%8 == 0)
		if m.t.Failed() {
			m.fail("image %d, %s, after line %d of %d", i, img.what, img.lines, len(m.promises.list))
			return
		}
	}
}

// checkImage opens an image, checks it against the bound, and writes to it. If double is set, it
// also takes an image of that at a random operation, which must pass the same check.
func (m *model) checkImage(img image, bound *promisedBound, double bool) {
	taker := &imageTaker{seed: uint64(m.random.Uint32()), want: 100, promises: m.promises}
	disk := testdisk.On(img.mem)
	if double {
		stop := 1 + m.random.IntN(60)
		var mu sync.Mutex
		disk.Before(func(op testdisk.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if !op.Changes() {
				return nil
			}
			if stop--; stop == 0 {
				random := rand.New(rand.NewPCG(taker.seed, 1))
				taker.images = append(taker.images, image{
					mem:  disk.Mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: random}),
					wall: img.wall,
					now:  img.now,
					what: fmt.Sprintf("%s; and again before %v of %s", img.what, op.Kind, op.Path),
				})
			}
			return nil
		})
	}
	opts := m.opts
	opts.Durability = braid.Sync
	db, err := open("/db", &opts, companion.Environment{FS: disk, Clock: func() time.Time { return img.wall }})
	if err != nil {
		m.fail("open: %v", err)
		return
	}
	synctest.Wait() // pending trims are done
	m.checkContent(db, bound, img.now)
	m.checkQueuesOf(db, bound, !double)
	m.writeOn(db, bound)
	m.ok("close", db.Close())
	for _, again := range taker.images {
		m.totals.doubleImages.Add(1)
		m.totals.reached.note("an image of an image that was being opened")
		if m.checkImage(again, bound, false); m.t.Failed() {
			m.fail("%s", again.what)
		}
	}
}

// checkReadOnly opens an image for reading, on a disk that reports any change.
func (m *model) checkReadOnly(img image, bound *promisedBound) {
	disk := testdisk.On(img.mem)
	disk.Before(func(op testdisk.Op) error {
		if op.Changes() {
			m.fail("a reader wants to %s %s", op.Change(), op.Path)
		}
		return nil
	})
	opts := m.opts
	opts.ReadOnly = true
	db, err := open("/db", &opts, companion.Environment{FS: disk, Clock: func() time.Time { return img.wall }})
	if errors.Is(err, braid.ErrInvalidArgument) { // its creation was not finished
		for incarnation := range bound.streams {
			m.fail("there was no database yet, and stream %d: %v", incarnation, err)
		}
		return
	}
	if !m.ok("open for reading", err) {
		return
	}
	m.checkContent(db, bound, img.now)
	m.checkQueuesOf(db, bound, false)
	for _, s := range db.Streams() {
		_, err := s.PutRecord(m.t.Context(), "k", nil)
		m.is("put", err, braid.ErrReadOnly)
	}
	m.ok("close", db.Close())
}

// checkContent compares the stored content with what was promised.
func (m *model) checkContent(db *braid.DB, bound *promisedBound, now uint64) {
	found := make(map[int]bool)
	exists := make(map[int]bool)
	for _, s := range db.Streams() {
		if s.Name() == "again" {
			continue // made by writeOn, before a second crash
		}
		incarnation, sb := m.incarnationOf(s, bound)
		if sb == nil {
			m.fail("stream %s, created at %d, should not be there", s.Name(), uint64(s.CreatedAt().UnixNano()))
			continue
		}
		exists[incarnation] = true
		d := s.Describe()
		m.ok("shards of an image", checkTiling(d))
		if next := inside.StreamOf(s).Next(); next < sb.shards {
			m.fail("stream %s has had %d shards where %d had been made", s.Name(), next, sb.shards)
		}
		if retention := max(0, d.Retention); !slices.Contains(sb.retention, retention) {
			m.fail("the retention of %s is %v; it can be %v", s.Name(), retention, sb.retention)
		}
		seen := inside.StreamOf(s)
		sb.trimBegun = max(sb.trimBegun, seen.Expiry(now), seen.Expiry(inside.DBOf(db).Aging()))
		m.ok("limit of an image", sb.adopt(s, d, bound.durable))
		m.checkStream(s, incarnation, sb, bound, found)
		m.checkNumbers(db, s, incarnation, bound)
	}
	for incarnation, sb := range bound.streams {
		if sb.mustExist && !exists[incarnation] {
			m.fail("stream %s is lost", m.promises.streams[incarnation].name)
		}
	}
	for id := range bound.must {
		put := m.promises.puts[id]
		sb := bound.streams[put.incarnation]
		if bound.durable && sb.mustExist && counter(put.record.number) >= sb.trimBegun && !found[id] {
			m.fail("record %d, %s of %s, is lost", id, put.record.number, put.record.shard)
		}
	}
	m.checkKeys(db, bound, found)
}

// adopt takes over what was trimmed because the stream was too large, and checks that the rest is
// large enough.
func (sb *streamBound) adopt(s *braid.Stream, d braid.StreamDescription, durable bool) error {
	limit := d.RetentionBytes
	if limit == 0 {
		return nil
	}
	before := inside.StreamOf(s).Expired()
	for _, sh := range s.Shards() {
		before = max(before, inside.ShardOf(sh).Horizon())
	}
	if before > sb.trimBegun {
		sb.trimBegun = before
		if d.Bytes < limit && durable {
			return fmt.Errorf("%d bytes are retained; the limit is %d", d.Bytes, limit)
		}
	}
	return nil
}

// incarnationOf finds out which of the streams with its name this is.
func (m *model) incarnationOf(s *braid.Stream, bound *promisedBound) (int, *streamBound) {
	for incarnation, sb := range bound.streams {
		known := m.promises.streams[incarnation]
		if sb.mayExist && known.name == s.Name() && (known.created == uint64(s.CreatedAt().UnixNano()) || known.created == 0) {
			return incarnation, sb
		}
	}
	return 0, nil
}

// checkStream reads everything, shard by shard. The database itself checks that ordinals are dense.
func (m *model) checkStream(s *braid.Stream, incarnation int, sb *streamBound, bound *promisedBound, found map[int]bool) {
	for _, sh := range s.Shards() {
		var last uint64
		for r, err := range sh.Records(m.t.Context(), braid.TrimHorizon()) {
			if !m.ok("read an image", err) {
				return
			}
			id, counter := modelID(r.Data), counter(r.SequenceNumber)
			put := m.promises.puts[id]
			switch {
			case strings.HasPrefix(string(r.Data), "again"):
				continue // written by writeOn, before a second crash
			case put == nil || !bound.begun[id] || put.incarnation != incarnation:
				m.fail("%s of %s holds %.30q, which was not put by then", r.SequenceNumber, sh, r.Data)
			case found[id]:
				m.fail("record %d is stored twice", id)
			case counter <= last:
				m.fail("record %d has number %d, after %d", id, counter, last)
			case counter < sb.trimmed:
				m.fail("record %d was trimmed, and is back", id)
			case bound.must[id] && !put.record.number.IsZero() && put.record.number != r.SequenceNumber:
				m.fail("record %d was acknowledged as %s, and is %s", id, put.record.number, r.SequenceNumber)
			}
			found[id], last = true, counter
		}
		// What exists is a prefix of what was acknowledged, in every mode.
		for id := range bound.must {
			put := m.promises.puts[id]
			n := counter(put.record.number)
			if put.incarnation == incarnation && put.record.shard == sh.ID() && n < last && n >= sb.trimBegun && !found[id] {
				m.fail("record %d, %s of %s, is missing, and a later one is there", id, put.record.number, sh.ID())
			}
		}
	}
}

// checkKeys checks that each transaction exists as a whole: the record, and the key named after it.
func (m *model) checkKeys(db *braid.DB, bound *promisedBound, found map[int]bool) {
	keys := make(map[int]bool)
	err := db.View(m.t.Context(), func(tx *braid.Tx) error {
		for kv, err := range tx.Scan([]byte("tx/"), []byte("tx0")) {
			if err != nil {
				return err
			}
			id, _ := strconv.Atoi(string(kv.Key[3:]))
			keys[id] = true
		}
		return nil
	})
	m.ok("read the keys of an image", err)
	for id, put := range m.promises.puts {
		if put.record.key != "tx" {
			continue
		}
		sb := bound.streams[put.incarnation]
		gone := sb == nil || !sb.mustExist || put.record.number.IsZero() || counter(put.record.number) < sb.trimBegun
		switch {
		case keys[id] && !bound.begun[id]:
			m.fail("the key of transaction %d is there before it began", id)
		case found[id] && !keys[id]:
			m.fail("transaction %d is torn: its record is there, its key is not", id)
		case keys[id] && !found[id] && !gone:
			m.fail("transaction %d is torn: its key is there, its record is not", id)
		}
	}
}

// writeOn checks that the image can be written to, with numbers above all others.
func (m *model) writeOn(db *braid.DB, bound *promisedBound) {
	for _, s := range db.Streams() {
		res, err := s.PutRecord(m.t.Context(), "k", []byte("again"))
		if !m.ok("write on", err) {
			return
		}
		if n := counter(res.SequenceNumber); n <= bound.highest {
			m.fail("after a crash a record got counter %d, where there was %d before", n, bound.highest)
		}
		var last braid.Record
		for r, err := range s.Records(m.t.Context(), braid.AtSequence(res.SequenceNumber)) {
			m.ok("read on", err)
			last = r
		}
		if last.SequenceNumber != res.SequenceNumber {
			m.fail("%s was put, and %s read", res.SequenceNumber, last.SequenceNumber)
		}
	}
	if len(db.Streams()) == 0 {
		_, err := db.CreateStream(m.t.Context(), "again", nil)
		m.ok("create in an image", err)
	}
}

func (m *model) open() {
	m.images.during("open")
	defer m.images.during("")
	wall := uint64(max(0, m.clock().UnixNano()))
	most := max(m.now(), wall, m.highest+uint64(2*inside.CounterReserve))
	if m.db != nil {
		most = max(most, visible(m.db)) // a shard may have been created or closed after the last record
	}
	m.most.Store(most)
	// In every other history, callers run commits.
	db, err := open("/db", &m.opts, companion.Environment{FS: m.disk, Clock: m.clock, Instant: m.images.seed%2 == 1})
	if err != nil {
		m.t.Fatalf("open: %v\n%s", err, strings.Join(m.steps, "\n"))
	}
	m.db = db
	inside.DBOf(db).SetPages([]int{1, 100, 3000}[m.images.seed%3], []int{1, 500, 5000, 50000}[m.images.seed/3%4])
	synctest.Wait() // pending trims are done
	m.setNow(max(wall, visible(db)))
}

func (m *model) close() {
	m.images.during("close")
	defer m.images.during("")
	m.totals.ahead.Add(inside.DBOf(m.db).PagesAhead())
	m.ok("close", m.db.Close())
	for _, ts := range m.twin.streams {
		m.endFollower(ts, braid.ErrClosed)
	}
}

// reopen closes the database and opens it again; the clock may have stepped.
func (m *model) reopen() {
	m.logf("close and open")
	m.close()
	m.stepClockAcross()
	m.open()
	m.totals.restarts.Add(1)
	m.age()
	m.takeHorizons()
	m.queuesReopened(false)
	m.followAgain()
	m.checkAll()
}

// crash cuts the power, and continues with what remains.
func (m *model) crash() {
	percent := []int{0, 100, m.random.IntN(101)}[m.random.IntN(3)]
	m.logf("power cut, %d %% of what was not synced is kept", percent)
	synctest.Wait()
	mem := m.disk.Mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(m.images.seed, m.random.Uint64()))})
	m.images.setOff(true)
	m.close() // its writes are lost
	m.images.setOff(false)
	m.disk = m.images.watch(mem)
	m.stepClockAcross()
	m.open()
	m.totals.restarts.Add(1)
	m.age()
	m.takeLosses()
	m.takeHorizons()
	m.queuesReopened(true)
	m.followAgain()
	m.checkAll()
}

// stepClockAcross may step the clock while the database is closed.
func (m *model) stepClockAcross() {
	before := m.offset.Load()
	if m.random.IntN(2) == 0 {
		m.stepClock()
	}
	if m.offset.Load() < before {
		m.totals.reached.note("a restart after the clock went back")
	}
}

// takeHorizons finds out which expired records are still stored.
func (m *model) takeHorizons() {
	for name, ts := range m.twin.streams {
		s, err := m.db.Stream(name)
		if !m.ok("stream", err) {
			return
		}
		for i := range ts.shards {
			stored := inside.ShardOf(mustShard(s, ts.shards[i].id)).Horizon()
			records := len(ts.records)
			m.ok("reopen", ts.reopened(&ts.shards[i], stored))
			if len(ts.records) > records {
				m.totals.reached.note("expired records that a clock gone back brought back")
			}
			ts.shards[i].aging = ts.shards[i].arrival
			m.promises.trimBegins(ts, stored)
		}
		for _, sh := range ts.gone {
			m.promises.trimBegins(ts, sh.horizon)
		}
	}
	m.most.Store(0)
	m.age()
}

// takeLosses makes the twin forget what a power cut may lose: in the weaker modes, the end of each
// shard, and whole transactions.
func (m *model) takeLosses() {
	if m.opts.Durability == braid.Sync {
		return
	}
	for name, ts := range m.twin.streams {
		s, err := m.db.Stream(name)
		if !m.ok("stream", err) {
			return
		}
		lost := func(r twinRecord) bool {
			sh, err := s.Shard(r.shard)
			if err != nil || counter(r.number) <= inside.ShardOf(sh).Last() {
				return false
			}
			m.promises.add(promise{kind: putLost, id: r.id})
			m.totals.reached.note("a power cut that lost acknowledged records")
			return true
		}
		ts.records = slices.DeleteFunc(ts.records, lost)
		ts.aged = slices.DeleteFunc(ts.aged, lost)
		for i := range ts.shards {
			ts.shards[i].last = inside.ShardOf(mustShard(s, ts.shards[i].id)).Last()
		}
	}
	m.promises.forget(m.twin)
	err := m.db.View(m.t.Context(), func(tx *braid.Tx) error {
		m.twin.keys = make(map[string]string)
		for kv, err := range tx.Scan(nil, nil) {
			if err != nil {
				return err
			}
			m.twin.keys[string(kv.Key)] = string(kv.Value)
		}
		return nil
	})
	m.ok("view", err)
}

// followAgain restarts the followers that ended with the database, at their positions.
func (m *model) followAgain() {
	for name, ts := range m.twin.streams {
		s, err := m.db.Stream(name)
		if m.ok("stream", err) {
			m.follow(ts, s, braid.TrimHorizon())
		}
	}
	synctest.Wait()
}
