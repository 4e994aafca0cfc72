package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Names of metrics of servers.
const (
	requestsPerSecond = "requests/s"
	recordsPerPage    = "records/page"
	startMillis       = "start ms"
	beyondMiB         = "beyond MiB"
	residentMiB       = "resident MiB"
	emptyMiB          = "empty MiB"
)

const (
	kinesisPage    = 2000   // records of a GetRecords, and of a shard in K3
	kinesisHeld    = 10_000 // records that a server holds in K5
	kinesisRounds  = 3      // the default, because the run is long
	kinesisStarts  = 3      // K4 takes their median
	kinesisChecked = 100    // records of each shard that are read back
)

// kinesisTargets are braid's targets, by the number of the workload.
var kinesisTargets = map[string][]target{
	"K1": {atLeastTimes(0.2, recordsPerSecond, nothingKinesis.name)},
	"K2": {atLeastTimes(0.75, requestsPerSecond, nothingKinesis.name)},
	"K3": {atLeastTimes(0.5, recordsPerSecond, nothingKinesis.name)},
	"K4": {atMost(10, braidKinesis.name, startMillis)},
	"K5": {atMost(12, braidKinesis.name, beyondMiB)},
	"K6": {{
		name:  recordsPerSecond + " with fsync ≥ 0.80 × in memory",
		limit: 0.8, atLeast: true,
		value: ratioTo(recordsPerSecond, braidDurableKinesis.name, braidKinesis.name),
	}},
}

// kinesisWorkloads are K1 to K6: servers of the Kinesis API, over HTTP.
func kinesisWorkloads() []*workload {
	all := []*workload{
		puttingRecords(1, []kinesisServer{braidKinesis, kinesalite, kinesisLocal.slowly(), nothingKinesis}),
		puttingRecords(4, []kinesisServer{braidKinesis, kinesalite, nothingKinesis}),
		puttingRecords(16, []kinesisServer{braidKinesis, kinesalite, nothingKinesis}),
	}
	inMemory := []kinesisServer{braidKinesis, kinesalite, kinesisLocal.slowly(), nothingKinesis}
	all = append(all, &workload{
		id:      "K2/put-record-c16",
		about:   "PutRecord of 1 KiB in memory, 16 connections",
		main:    requestsPerSecond,
		columns: []string{p50Micros, p99Micros},
		entries: serverEntries(inMemory, puts{connections: 16}.run),
	}, &workload{
		id:      "K3/get-records",
		about:   fmt.Sprintf("GetRecords of %s records of 1 KiB in memory, 4 shards, a connection for each", number(kinesisPage)),
		main:    recordsPerSecond,
		columns: []string{recordsPerPage, p50Micros, p99Micros, mbPerSecond},
		entries: serverEntries(inMemory, getPages),
	}, &workload{
		id:      "K4/start",
		about:   "from the start of the process to its first answer, in memory",
		main:    startMillis,
		notes:   []string{fmt.Sprintf("the median of %d starts, each round", kinesisStarts)},
		entries: serverEntries(inMemory, startServer),
	}, &workload{
		id:      "K5/memory",
		about:   fmt.Sprintf("what %s records of 1 KiB add to the resident size of a server in memory, beyond their bytes", number(kinesisHeld)),
		main:    beyondMiB,
		columns: []string{residentMiB, emptyMiB},
		entries: serverEntries([]kinesisServer{braidKinesis, kinesalite, kinesisLocal.slowly()}, holdRecords),
	}, &workload{
		id:      "K6/put-records-fsync",
		about:   "PutRecords of 500 records of 1 KiB with fsync, 16 connections, beside servers in memory",
		main:    recordsPerSecond,
		columns: []string{p50Micros, p99Micros, mbPerSecond},
		entries: serverEntries([]kinesisServer{braidDurableKinesis, braidKinesis, kinesalite}, puts{connections: 16, batch: kinesisBatch}.run),
	})
	for _, w := range all {
		w.base, w.repeats = kinesalite.name, kinesisRounds
		w.targets = kinesisTargets[strings.SplitN(w.id, "/", 2)[0]]
	}
	return all
}

// puttingRecords is K1. More connections help only a server that stores requests concurrently,
// or that waits between them.
func puttingRecords(connections int, servers []kinesisServer) *workload {
	w := &workload{
		id:      fmt.Sprintf("K1/put-records-c%d", connections),
		about:   fmt.Sprintf("PutRecords of 500 records of 1 KiB in memory, %d connections", connections),
		main:    recordsPerSecond,
		columns: []string{p50Micros, p99Micros, mbPerSecond},
		entries: serverEntries(servers, puts{connections: connections, batch: kinesisBatch}.run),
	}
	if connections > 1 {
		w.notes = []string{kinesisLocal.name + " takes more than half a second for a request, and does one at a time, so it is measured with 1 connection only"}
	}
	return w
}

// slowly marks a server as so slow that it is measured once.
func (s kinesisServer) slowly() kinesisServer {
	s.slow = true
	return s
}

// serverEntries returns one entry for each server, with the same measurement. Each sample has a
// server process of its own.
func serverEntries(servers []kinesisServer, run func(e *environment, dir string, s kinesisServer) (metrics, error)) []entry {
	var entries []entry
	for _, s := range servers {
		entries = append(entries, entry{name: s.name, slow: s.slow, run: func(e *environment, dir string) (metrics, error) {
			return run(e.forServers(), dir, s)
		}})
	}
	return entries
}

// forServers returns the environment for samples of servers: their windows are shorter, since
// there are many, and begin later, since a just-in-time compiler needs half a second to warm
// up.
func (e *environment) forServers() *environment {
	own := *e
	own.warmup, own.window = 2*e.warmup, e.window/2
	return &own
}

// leastCalls is the minimal number of answers in a window for each connection. A server with
// one thread may take many requests at once and then send all answers together, so a window
// shorter than several of these bursts gives no rate. A slow server would take minutes, so its
// rate is rough.
func (s kinesisServer) leastCalls(connections int) int64 {
	if s.slow {
		return int64(max(connections, 4))
	}
	return int64(4 * connections)
}

// withServer runs fn with a server that has an empty stream, and then stops the server.
func withServer(e *environment, dir string, s kinesisServer, fn func(*runningServer, *kinesisConn) (metrics, error)) (metrics, error) {
	server, err := s.start(e, dir)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	c := newKinesisConn(server.addr)
	defer c.close()
	if err := c.createStream(s.hasStream); err != nil {
		return nil, err
	}
	return fn(server, c)
}

// puts is K1, K2 and K6.
type puts struct {
	connections int
	batch       int // 0 for PutRecord
}

func (p puts) run(e *environment, dir string, s kinesisServer) (metrics, error) {
	return withServer(e, dir, s, func(server *runningServer, c *kinesisConn) (metrics, error) {
		return p.measure(e, server.addr, c, s)
	})
}

// measure puts to the server at addr, and then reads some records back with c.
func (p puts) measure(e *environment, addr string, c *kinesisConn, s kinesisServer) (metrics, error) {
	st := &kinesisStore{addr: addr, data: kinesisPut()}
	var phase phase
	var answers atomic.Int64
	st.answered = func() {
		if phase.Load() == measured {
			answers.Add(1)
		}
	}
	l := load{
		producers: p.connections, batch: p.batch, values: [][]byte{st.data.records[0].value},
		enough: func() bool { return answers.Load() >= s.leastCalls(p.connections) },
	}
	m, err := l.run(e, st, &phase)
	if err := errors.Join(err, st.close()); err != nil {
		return nil, err
	}
	m[requestsPerSecond] = m[recordsPerSecond] / float64(max(1, p.batch))
	if s.keepsNoData {
		return m, nil
	}
	return m, readBack(c, st.data, st.put())
}

// readBack reads the first records of each shard, and returns an error unless they are the
// records that were put, in the right number.
func readBack(c *kinesisConn, d *kinesisData, put [kinesisShards]int) error {
	want := 0
	for _, n := range put {
		want += min(n, kinesisChecked)
	}
	got, err := c.check(d, kinesisChecked)
	if err == nil && got != want {
		err = fmt.Errorf("%d of %d records were read back", got, want)
	}
	return err
}

// kinesisStore is a server as a store, for a load.
type kinesisStore struct {
	addr      string
	data      *kinesisData
	answered  func() // is called after each request
	producers []*kinesisProducer
}

func (s *kinesisStore) producer(n int) (producer, error) {
	p := &kinesisProducer{
		store:   s,
		conn:    newKinesisConn(s.addr),
		batches: startValues(s.data.batches, n),
		singles: startValues(s.data.singles, n),
	}
	s.producers = append(s.producers, p)
	return p, nil
}

func (s *kinesisStore) close() error {
	for _, p := range s.producers {
		p.conn.close()
	}
	return nil
}

// put returns the number of records put to each shard.
func (s *kinesisStore) put() (all [kinesisShards]int) {
	for _, p := range s.producers {
		for shard, n := range p.done {
			all[shard] += n
		}
	}
	return all
}

// kinesisProducer sends prepared bodies, and ignores its values.
type kinesisProducer struct {
	store            *kinesisStore
	conn             *kinesisConn
	batches, singles valueCursor
	done             [kinesisShards]int // records of each shard
}

func (p *kinesisProducer) put([]byte) error {
	body := p.singles.next()
	if err := p.conn.putRecord(body); err != nil {
		return err
	}
	p.done[p.singles.at%kinesisShards]++
	p.store.answered()
	return nil
}

func (p *kinesisProducer) putBatch([][]byte) error {
	if err := p.conn.putRecords(p.batches.next()); err != nil {
		return err
	}
	for shard := range p.done {
		p.done[shard] += kinesisBatch / kinesisShards
	}
	p.store.answered()
	return nil
}

// preload puts n records, a multiple of a batch, and returns the number of each shard.
func preload(c *kinesisConn, n int) (put [kinesisShards]int, err error) {
	bodies := startValues(kinesisPut().batches, 0)
	for range n / kinesisBatch {
		if err := c.putRecords(bodies.next()); err != nil {
			return put, err
		}
		for shard := range put {
			put[shard] += kinesisBatch / kinesisShards
		}
	}
	return put, nil
}

// getPages is K3.
func getPages(e *environment, dir string, s kinesisServer) (metrics, error) {
	return withServer(e, dir, s, func(server *runningServer, c *kinesisConn) (metrics, error) {
		put, err := preload(c, kinesisShards*kinesisPage)
		if err != nil {
			return nil, err
		}
		if !s.keepsNoData {
			if err := readBack(c, kinesisPut(), put); err != nil {
				return nil, err
			}
		}
		return measurePages(e, server.addr, c, s)
	})
}

// measurePages repeatedly reads each shard, which has one page of records, on a connection of
// its own. A server with smaller pages sends more of them.
func measurePages(e *environment, addr string, c *kinesisConn, s kinesisServer) (metrics, error) {
	readers := make([]*pageReader, kinesisShards)
	for shard := range readers {
		first, err := c.horizon(shard)
		if err != nil {
			return nil, err
		}
		readers[shard] = &pageReader{conn: newKinesisConn(addr), first: first}
	}
	var phase phase
	var group sync.WaitGroup
	for _, r := range readers {
		group.Go(func() { r.run(&phase) })
	}
	wait(e.warmup)
	began, before := time.Now(), recordsRead(readers)
	phase.CompareAndSwap(warmingUp, measured)
	wait(e.window)
	for pagesRead(readers) < s.leastCalls(len(readers)) && phase.Load() != over {
		wait(e.window)
	}
	seconds, after := time.Since(began).Seconds(), recordsRead(readers)
	phase.Store(over)
	group.Wait()
	var latency histogram
	var records, pages int64
	for _, r := range readers {
		r.conn.close()
		if r.err != nil {
			return nil, r.err
		}
		latency.merge(&r.latency)
		records += r.records.Load()
		pages += r.pages
	}
	rate := float64(after-before) / seconds
	return metrics{
		secondsMeasured:  seconds,
		recordsPerSecond: rate,
		mbPerSecond:      rate * kib / 1e6,
		recordsPerPage:   float64(records) / float64(pages),
		p50Micros:        micros(latency.quantile(0.50)),
		p99Micros:        micros(latency.quantile(0.99)),
	}, nil
}

func recordsRead(readers []*pageReader) (n int64) {
	for _, r := range readers {
		n += r.records.Load()
	}
	return n
}

func pagesRead(readers []*pageReader) (n int64) {
	for _, r := range readers {
		n += r.measured.Load()
	}
	return n
}

// pageReader reads one shard.
type pageReader struct {
	conn  *kinesisConn
	first string // an iterator

	records  atomic.Int64
	measured atomic.Int64 // pages of the window
	_        [64]byte     // keeps the counters of readers off each other's cache lines

	// Its goroutine's, until that has ended:
	pages   int64
	latency histogram
	err     error
}

// run reads until the phase is over, or a read fails.
func (r *pageReader) run(phase *phase) {
	iterator, read := r.first, 0
	for {
		started := phase.Load()
		if started == over {
			return
		}
		began := time.Now()
		_, n, next, err := r.conn.page(iterator, kinesisPage)
		if err == nil && n == 0 {
			err = fmt.Errorf("GetRecords: nothing after %d of %d records", read, kinesisPage)
		}
		if err != nil {
			r.err = err
			phase.Store(over) // the others need not go on
			return
		}
		if started == measured {
			r.latency.add(time.Since(began))
			r.measured.Add(1)
		}
		r.pages++
		r.records.Add(int64(n))
		if iterator, read = next, read+n; read >= kinesisPage {
			iterator, read = r.first, 0
		}
	}
}

// startServer is K4.
func startServer(e *environment, dir string, s kinesisServer) (metrics, error) {
	var starts []float64
	for range kinesisStarts {
		server, err := s.start(e, dir)
		if err != nil {
			return nil, err
		}
		server.stop()
		starts = append(starts, millis(server.started))
	}
	return metrics{startMillis: median(starts)}, nil
}

// holdRecords is K5.
func holdRecords(e *environment, dir string, s kinesisServer) (metrics, error) {
	return withServer(e, dir, s, func(server *runningServer, c *kinesisConn) (metrics, error) {
		empty, err := server.residentBytes()
		if err != nil {
			return nil, err
		}
		put, err := preload(c, kinesisHeld)
		if err != nil {
			return nil, err
		}
		wait(e.window) // for garbage collection
		held, err := server.residentBytes()
		if err != nil {
			return nil, err
		}
		if err := readBack(c, kinesisPut(), put); err != nil { // reading needs memory, too
			return nil, err
		}
		return metrics{
			beyondMiB:   float64(held-empty-kinesisHeld*kib) / mib,
			residentMiB: float64(held) / mib,
			emptyMiB:    float64(empty) / mib,
		}, nil
	})
}
