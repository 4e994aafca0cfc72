package braidprom

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

func open(t *testing.T) *braid.DB {
	t.Helper()
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() }) // a test may have closed it
	return db
}

func put(t *testing.T, db *braid.DB, stream string, records int) *braid.Stream {
	t.Helper()
	s, err := db.OpenStream(t.Context(), stream, nil)
	require.NoError(t, err)
	for i := range records {
		_, err := s.PutRecord(t.Context(), "k", []byte(fmt.Sprint(i%10)))
		require.NoError(t, err)
	}
	return s
}

// requireMetrics requires that the metrics with these names are exactly those in the
// text.
func requireMetrics(t *testing.T, c prometheus.Collector, text string, names ...string) {
	t.Helper()
	require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(text), names...))
}

func TestAllMetricsAreCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t)
		var s *braid.Stream
		for range 3 {
			time.Sleep(time.Second)
			s = put(t, db, "orders", 1)
		}
		q, err := queue.Create(t.Context(), db, "mails", &queue.Options{Stream: "orders", Start: braid.TrimHorizon()})
		require.NoError(t, err)
		received, err := q.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Len(t, received, 1)

		ctx, stop := context.WithCancel(t.Context())
		calls, slow := 0, make(chan struct{})
		w, err := consumer.New(db, &consumer.Config{App: "billing", WorkerID: "w", Streams: []string{"orders"}, BatchRecords: 1}, consumer.ProcessorFunc(
			func(context.Context, *consumer.Batch) error {
				if calls++; calls == 2 {
					<-slow
				}
				time.Sleep(30 * time.Millisecond)
				return nil
			}))
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		time.Sleep(time.Minute)

		c := NewCollector(db, &Options{MaxShards: 10})
		problems, err := testutil.CollectAndLint(c)
		require.NoError(t, err)
		require.Empty(t, problems)
		requireMetrics(t, c, `
# HELP braid_app_behind_age_seconds The age of the oldest record that is not processed yet; 0 if there is none.
# TYPE braid_app_behind_age_seconds gauge
braid_app_behind_age_seconds{app="billing"} 61
# HELP braid_app_behind_records Records that are not processed yet.
# TYPE braid_app_behind_records gauge
braid_app_behind_records{app="billing"} 2
# HELP braid_app_shards Shards of the application.
# TYPE braid_app_shards gauge
braid_app_shards{app="billing",state="done"} 0
braid_app_shards{app="billing",state="failed"} 0
braid_app_shards{app="billing",state="handing over"} 0
braid_app_shards{app="billing",state="paused"} 0
braid_app_shards{app="billing",state="retrying"} 0
braid_app_shards{app="billing",state="running"} 1
braid_app_shards{app="billing",state="unowned"} 0
braid_app_shards{app="billing",state="waiting"} 0
# HELP braid_collection_complete 1 if applications and queues answered in time; 0 if not, and their metrics are missing.
# TYPE braid_collection_complete gauge
braid_collection_complete 1
# HELP braid_disk_full 1 while writes are refused for lack of space or of another resource.
# TYPE braid_disk_full gauge
braid_disk_full 0
# HELP braid_put_data_bytes_total Partition keys and data of the records that became visible.
# TYPE braid_put_data_bytes_total counter
braid_put_data_bytes_total 6
# HELP braid_queue_records Records that are not settled.
# TYPE braid_queue_records gauge
braid_queue_records{queue="mails",state="dead"} 0
braid_queue_records{queue="mails",state="dead in flight"} 0
braid_queue_records{queue="mails",state="delayed"} 0
braid_queue_records{queue="mails",state="held"} 0
braid_queue_records{queue="mails",state="in flight"} 0
braid_queue_records{queue="mails",state="visible"} 3
# HELP braid_shard_put_records_total Records that were put.
# TYPE braid_shard_put_records_total counter
braid_shard_put_records_total{shard="shardId-000000000000",stream="orders"} 3
# HELP braid_stream_put_records_total Records that were put.
# TYPE braid_stream_put_records_total counter
braid_stream_put_records_total{stream="orders"} 3
# HELP braid_worker_processed_records_total Records that were processed, including repeated ones.
# TYPE braid_worker_processed_records_total counter
braid_worker_processed_records_total{app="billing",worker="w"} 1
`, "braid_app_behind_age_seconds", "braid_app_behind_records", "braid_app_shards", "braid_collection_complete", "braid_disk_full",
			"braid_put_data_bytes_total", "braid_queue_records", "braid_shard_put_records_total", "braid_stream_put_records_total",
			"braid_worker_processed_records_total")

		close(slow)
		time.Sleep(time.Second)
		requireHistogram(t, c, "braid_worker_process_duration_seconds", 3, time.Minute+60*time.Millisecond)
		stop()
		require.NoError(t, <-ended)
		require.NoError(t, db.Close())

		// After Close, only what is in memory is collected.
		requireMetrics(t, c, `
# HELP braid_collection_complete 1 if applications and queues answered in time; 0 if not, and their metrics are missing.
# TYPE braid_collection_complete gauge
braid_collection_complete 0
# HELP braid_stream_put_records_total Records that were put.
# TYPE braid_stream_put_records_total counter
braid_stream_put_records_total{stream="orders"} 3
`, "braid_collection_complete", "braid_stream_put_records_total", "braid_app_behind_records", "braid_queue_records")
		require.EqualValues(t, 3, s.Metrics().RecordsPut)
	})
}

func TestHistogramsAreThoseOfTheDatabase(t *testing.T) {
	db := open(t)
	put(t, db, "s", 2000)
	h := db.Metrics().PutTimes
	require.Positive(t, h.Count)
	requireHistogram(t, NewCollector(db, nil), "braid_put_duration_seconds", uint64(h.Count), h.Sum)
}

// requireHistogram requires a histogram of one series, whose buckets add up to its count.
func requireHistogram(t *testing.T, c prometheus.Collector, name string, count uint64, sum time.Duration) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		require.Len(t, family.GetMetric(), 1)
		h := family.GetMetric()[0].GetHistogram()
		require.Equal(t, count, h.GetSampleCount())
		require.InDelta(t, sum.Seconds(), h.GetSampleSum(), 1e-6)
		require.Len(t, h.GetBucket(), 24)
		least, last := h.GetBucket()[0], h.GetBucket()[23]
		require.Equal(t, 1e-6, least.GetUpperBound())
		require.Equal(t, 50.0, last.GetUpperBound())
		before := uint64(0)
		for _, b := range h.GetBucket() {
			require.LessOrEqual(t, before, b.GetCumulativeCount())
			before = b.GetCumulativeCount()
		}
		require.LessOrEqual(t, before, count)
		return
	}
	require.Fail(t, "there is no such metric", name)
}

// With any limit, sums over all streams are right, and never fall.
func TestStreamsBeyondTheBoundAreAddedUp(t *testing.T) {
	db := open(t)
	put(t, db, "b", 1)
	c := NewCollector(db, &Options{MaxStreams: 1, MaxShards: 1})
	require.Equal(t, map[string]float64{"b": 1}, putRecords(t, c))
	put(t, db, "a", 2)
	put(t, db, "c", 3)
	require.Equal(t, map[string]float64{"b": 1, "(other)": 5}, putRecords(t, c), "b keeps its series")
	put(t, db, "c", 4)
	require.Equal(t, map[string]float64{"b": 1, "(other)": 9}, putRecords(t, c))
	require.NoError(t, db.DeleteStream(t.Context(), "c"))
	require.Equal(t, map[string]float64{"b": 1, "(other)": 9}, putRecords(t, c), "what was put was put")
	requireMetrics(t, c, `
# HELP braid_collection_omitted Streams, shards, applications and queues without series of their own.
# TYPE braid_collection_omitted gauge
braid_collection_omitted{of="apps"} 0
braid_collection_omitted{of="queues"} 0
braid_collection_omitted{of="shards"} 0
braid_collection_omitted{of="streams"} 1
# HELP braid_stream_stored_records Stored records.
# TYPE braid_stream_stored_records gauge
braid_stream_stored_records{stream="(other)"} 2
braid_stream_stored_records{stream="b"} 1
`, "braid_collection_omitted", "braid_stream_stored_records")
	put(t, db, "c", 1) // a new stream of that name
	require.Equal(t, map[string]float64{"b": 1, "(other)": 10}, putRecords(t, c))
	require.NoError(t, db.DeleteStream(t.Context(), "b"))
	put(t, db, "d", 1)
	require.Equal(t, map[string]float64{"d": 1, "(other)": 10}, putRecords(t, c), "the place is free")

	require.Equal(t, map[string]float64{"(other)": 4}, putRecords(t, NewCollector(db, &Options{MaxStreams: -1})))
}

// putRecords returns braid_stream_put_records_total by stream.
func putRecords(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	families, err := registry.Gather()
	require.NoError(t, err)
	found := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "braid_stream_put_records_total" {
				found[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return found
}

func TestApplicationsAndQueuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t)
		put(t, db, "s", 1)
		for i := range 3 {
			_, err := queue.Create(t.Context(), db, fmt.Sprint("q", i), &queue.Options{Stream: "s"})
			require.NoError(t, err)
		}
		requireMetrics(t, NewCollector(db, &Options{MaxQueues: 2}), `
# HELP braid_collection_complete 1 if applications and queues answered in time; 0 if not, and their metrics are missing.
# TYPE braid_collection_complete gauge
braid_collection_complete 1
# HELP braid_collection_omitted Streams, shards, applications and queues without series of their own.
# TYPE braid_collection_omitted gauge
braid_collection_omitted{of="apps"} 0
braid_collection_omitted{of="queues"} 1
braid_collection_omitted{of="shards"} 0
braid_collection_omitted{of="streams"} 0
# HELP braid_queue_died_total Records that became dead letters.
# TYPE braid_queue_died_total counter
braid_queue_died_total{queue="q0"} 0
braid_queue_died_total{queue="q1"} 0
`, "braid_collection_complete", "braid_collection_omitted", "braid_queue_died_total")
	})
}

// A collection waits for a stalled store only until its timeout, and leaves one goroutine
// behind, however many collections there are.
func TestACollectionDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t)
		put(t, db, "s", 1)
		var calls atomic.Int32
		answer := make(chan struct{})
		c := NewCollector(db, &Options{Timeout: time.Second, Apps: func(context.Context, *braid.DB) ([]*consumer.App, error) {
			calls.Add(1)
			<-answer
			return nil, nil
		}})
		for i := range 5 {
			began := time.Now()
			require.Equal(t, map[string]float64{"s": 1}, putRecords(t, c))
			require.Equal(t, time.Second, time.Since(began), i)
		}
		require.EqualValues(t, 1, calls.Load())
		close(answer)
		synctest.Wait()
		began := time.Now()
		requireMetrics(t, c, `
# HELP braid_collection_complete 1 if applications and queues answered in time; 0 if not, and their metrics are missing.
# TYPE braid_collection_complete gauge
braid_collection_complete 1
`, "braid_collection_complete")
		require.Zero(t, time.Since(began))
		require.EqualValues(t, 2, calls.Load())
	})
}
