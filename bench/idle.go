package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Names of metrics of operations while others are idle.
const (
	busyPut      = "put us"        // the mean of puts to one stream
	firstPut     = "first put us"  // of the first put to a new stream
	wakingPut    = "idle put us"   // of a put to one of the idle streams or shards
	createMicros = "create us"     // of a stream of one shard
	checkpoint   = "checkpoint us" // of one record
	trimMicros   = "trim us"       // of one record
	leaseChange  = "lease us"      // from the end of a worker to the next one's lease
	takeMillis   = "take ms"       // until a worker has the leases of all shards
	idleCPU      = "idle CPU %"    // of one core
)

// idleColumns are the costs that T10 measures.
var idleColumns = []string{firstPut, createMicros, checkpoint, trimMicros, leaseChange}

// idleWorkloads are T10: idle objects cost nothing. They run without fsync, so all costs are
// braid's own.
func idleWorkloads() []*workload {
	streams := idleTable("T10/streams", "idle streams of one shard and one record", "stream", []int{10, 100, 1000, 10_000}, (*idleSample).addStreams)
	shards := idleTable("T10/shards", "a stream of idle shards of one record", "shard", []int{10, 100, 1000, 10_000}, (*idleSample).addShards)
	apps := idleTable("T10/applications", "idle applications, each with a worker", "application", []int{1, 10, 100, 1000}, (*idleSample).addApplications)
	few, many := plural(10, "stream"), plural(10_000, "stream")
	streams.targets = append(streams.targets, atMost(300, many, openMillis), target{
		name:  "memory (KiB) of an idle stream ≤ 2",
		limit: 2,
		value: func(r round) (reading, bool) {
			small, ok := r.figure(few, heapMiB)
			large, alsoOK := r.figure(many, heapMiB)
			return reading{(large - small) * kib / (10_000 - 10), []part{{few + " MiB", small}, {many + " MiB", large}}}, ok && alsoOK
		},
	})
	return []*workload{streams, shards, apps, takeShards()}
}

// idleTable has four numbers of idle objects, each in a row.
func idleTable(id, about, thing string, counts []int, add func(s *idleSample, n int) error) *workload {
	few := plural(counts[0], thing)
	w := &workload{
		id:      id,
		about:   "what single things cost without fsync, beside " + about,
		main:    busyPut,
		base:    few,
		columns: append(append([]string{}, idleColumns...), openMillis, heapMiB),
		notes: []string{
			"put: to one busy stream, the mean; first put: the first record of a new stream; idle put: the first record since the open to an idle stream or shard; lease: from the end of one worker to the lease of the next one",
			"all but put are medians; heap: what Go holds for the open database",
		},
	}
	for _, n := range counts {
		w.entries = append(w.entries, entry{name: plural(n, thing), run: func(_ *environment, dir string) (metrics, error) {
			return measureIdle(dir, n, add)
		}})
	}
	many := w.entries[len(w.entries)-1].name
	judged := append([]string{busyPut}, idleColumns...)
	if thing != "application" {
		judged = append(judged, wakingPut)
		w.columns = append([]string{wakingPut}, w.columns...)
	}
	for _, metric := range judged {
		w.targets = append(w.targets, target{
			name:  fmt.Sprintf("%s at %s ≤ 1.20 × at %s", metric, many, few),
			limit: 1.2,
			value: ratioTo(metric, many, few),
		})
	}
	return w
}

// The numbers of single measurements.
const (
	idlePuts        = 40_000
	idleStreams     = 300 // that are created and get their first put; and idle ones
	idleCheckpoints = 2000
	idleTrims       = 1000
	idleLeases      = 100
)

// idleSample is one sample of T10.
type idleSample struct {
	ctx  context.Context
	db   *braid.DB
	busy *braid.Stream
	m    metrics

	// wake puts to the i-th of the idle streams or shards; nil for applications.
	wake  func(i int) error
	idles int

	applications int      // idle ones, whose workers run as long as the database is open
	stop         []func() // ends these workers
}

// measureIdle adds n things to a new database, opens it again, and measures.
func measureIdle(dir string, n int, add func(s *idleSample, n int) error) (_ metrics, err error) {
	s := &idleSample{ctx: context.Background(), m: metrics{}}
	if err := s.open(dir); err != nil {
		return nil, err
	}
	defer func() {
		if s.db != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := add(s, n); err != nil {
		return nil, err
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	before := heapBytes()
	began := time.Now()
	if err := s.open(dir); err != nil {
		return nil, err
	}
	s.m[openMillis] = millis(time.Since(began))
	if err := s.startApplications(); err != nil {
		return nil, err
	}
	s.m[heapMiB] = float64(heapBytes()-before) / mib
	for _, measure := range []func() error{s.putBusy, s.putIdle, s.create, s.putFirst, s.checkpointAndTrim, s.changeLeases} {
		awaitQuiet()
		if err := measure(); err != nil {
			return nil, err
		}
	}
	return s.m, nil
}

// awaitQuiet waits until the effects of the last operation are over, for instance in workers
// that process a new stream, but no longer than two seconds.
func awaitQuiet() {
	const look, looks = 20 * time.Millisecond, 100
	for range looks {
		used := cpuTime()
		wait(look)
		if cpuTime()-used < look/10 {
			return
		}
	}
}

func (s *idleSample) open(dir string) (err error) {
	if s.db, err = openDB(dir, settings{}); err == nil {
		s.busy, err = s.db.OpenStream(s.ctx, "busy", nil)
	}
	return err
}

func (s *idleSample) close() error {
	for _, stop := range s.stop {
		stop()
	}
	err := s.db.Close()
	s.db, s.busy, s.stop = nil, nil, nil // a stream holds its database
	return err
}

// addStreams makes streams with one record, many concurrently.
func (s *idleSample) addStreams(n int) error {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("idle-%05d", i)
	}
	err := parallel(n, func(i int) error {
		_, err := s.db.CreateStream(s.ctx, names[i], nil)
		return err
	})
	if err != nil {
		return err
	}
	s.idles, s.wake = n, func(i int) error {
		stream, err := s.db.Stream(fmt.Sprintf("idle-%05d", i))
		if err == nil {
			_, err = stream.PutRecord(s.ctx, "key", []byte("a record"))
		}
		return err
	}
	const together = 500
	for len(names) > 0 {
		some := names[:min(together, len(names))]
		names = names[len(some):]
		err := s.db.Update(s.ctx, func(tx *braid.Tx) error {
			for _, name := range some {
				if err := tx.PutRecord(name, "key", []byte("a record")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addShards makes a stream with many shards of one record.
func (s *idleSample) addShards(n int) error {
	stream, err := s.db.CreateStream(s.ctx, "idle", &braid.StreamOptions{Shards: n})
	if err != nil {
		return err
	}
	entries := entryForEachShard(stream)
	s.idles, s.wake = n, func(i int) error {
		stream, err := s.db.Stream("idle")
		if err == nil {
			_, err = stream.PutRecords(s.ctx, entries[i:i+1])
		}
		return err
	}
	_, err = stream.PutRecords(s.ctx, entries)
	return err
}

func entryForEachShard(stream *braid.Stream) (entries []braid.Entry) {
	for _, shard := range stream.Shards() {
		start := shard.HashKeyRange().Start
		entries = append(entries, braid.Entry{PartitionKey: "key", ExplicitHashKey: &start, Data: []byte("a record")})
	}
	return entries
}

// addApplications starts n applications that process a stream without records.
func (s *idleSample) addApplications(n int) error {
	stream, err := s.db.OpenStream(s.ctx, "idle", nil)
	if err != nil {
		return err
	}
	if _, err := stream.PutRecord(s.ctx, "key", []byte("a record")); err != nil {
		return err
	}
	s.applications = n
	return s.startApplications()
}

func (s *idleSample) startApplications() error {
	for i := range s.applications {
		w := newLeaseWorker(s.db, fmt.Sprintf("idle-%05d", i), "idle")
		if err := w.start(s.ctx); err != nil {
			return err
		}
		s.stop = append(s.stop, w.stop)
	}
	return nil
}

// parallel calls fn for 0 to n-1, some concurrently.
func parallel(n int, fn func(i int) error) error {
	const workers = 64
	var group sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		group.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = fn(i)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// medianOf calls fn n times and returns the median duration, in us.
func medianOf(n int, fn func(i int) error) (float64, error) {
	took := make([]float64, n)
	for i := range took {
		began := time.Now()
		if err := fn(i); err != nil {
			return 0, err
		}
		took[i] = micros(time.Since(began))
	}
	return median(took), nil
}

func (s *idleSample) putBusy() error {
	values := startValues(newValues(kib), 0)
	put := func() error {
		_, err := s.busy.PutRecord(s.ctx, "key", values.next())
		return err
	}
	var began time.Time
	for i := range idlePuts {
		if i == idlePuts/4 {
			began = time.Now() // the warm-up is over
		}
		if err := put(); err != nil {
			return err
		}
	}
	s.m[busyPut] = micros(time.Since(began)) / (idlePuts - idlePuts/4)
	return nil
}

// putIdle puts to some idle streams or shards, while all others stay idle.
func (s *idleSample) putIdle() (err error) {
	if s.wake != nil {
		s.m[wakingPut], err = medianOf(min(s.idles, idleStreams), s.wake)
	}
	return err
}

func newStream(i int) string { return fmt.Sprintf("new-%03d", i) }

func (s *idleSample) create() (err error) {
	s.m[createMicros], err = medianOf(idleStreams, func(i int) error {
		_, err := s.db.CreateStream(s.ctx, newStream(i), nil)
		return err
	})
	return err
}

func (s *idleSample) putFirst() error {
	streams := make([]*braid.Stream, idleStreams)
	for i := range streams {
		var err error
		if streams[i], err = s.db.Stream(newStream(i)); err != nil {
			return err
		}
	}
	took, err := medianOf(idleStreams, func(i int) error {
		_, err := streams[i].PutRecord(s.ctx, "key", []byte("the first record"))
		return err
	})
	s.m[firstPut] = took
	return err
}

// checkpointAndTrim puts some records, and checkpoints and trims them one by one.
func (s *idleSample) checkpointAndTrim() error {
	stream, err := s.db.CreateStream(s.ctx, "checkpoints", nil)
	if err != nil {
		return err
	}
	entries := make([]braid.Entry, idleCheckpoints)
	for i := range entries {
		entries[i] = braid.Entry{PartitionKey: "key", Data: []byte("a record")}
	}
	put, err := stream.PutRecords(s.ctx, entries)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	measured := errors.New("no batch was delivered")
	cfg := &consumer.Config{App: "checkpoints", Streams: []string{stream.Name()}, Checkpoints: consumer.Manual}
	worker, err := consumer.New(s.db, cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
		defer stop()
		if len(batch.Records) != idleCheckpoints {
			measured = fmt.Errorf("the batch has %d records", len(batch.Records))
			return nil
		}
		s.m[checkpoint], measured = medianOf(idleCheckpoints, func(i int) error { return batch.CheckpointAt(ctx, batch.Records[i]) })
		return nil
	}))
	if err != nil {
		return err
	}
	if err := worker.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if measured != nil {
		return measured
	}
	s.m[trimMicros], err = medianOf(idleTrims, func(i int) error {
		return stream.Trim(s.ctx, braid.AfterSequence(put[i].SequenceNumber))
	})
	return err
}

func (s *idleSample) changeLeases() error {
	worker := newLeaseWorker(s.db, "leases", s.busy.Name())
	if err := worker.start(s.ctx); err != nil {
		return err
	}
	took, err := medianOf(idleLeases, func(int) error {
		worker.stop()
		worker = newLeaseWorker(s.db, "leases", s.busy.Name())
		return worker.start(s.ctx)
	})
	worker.stop()
	s.m[leaseChange] = took
	return err
}
