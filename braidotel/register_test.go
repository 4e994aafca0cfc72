package braidotel

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

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

func openStream(t *testing.T, db *braid.DB, name string) *braid.Stream {
	t.Helper()
	s, err := db.OpenStream(t.Context(), name, nil)
	require.NoError(t, err)
	return s
}

// collect returns the metrics of this module, by name.
func collect(t *testing.T, reader sdkmetric.Reader) map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	found := make(map[string]metricdata.Metrics)
	for _, of := range all.ScopeMetrics {
		require.Equal(t, scope, of.Scope.Name)
		for _, m := range of.Metrics {
			require.NotContains(t, found, m.Name)
			found[m.Name] = m
		}
	}
	return found
}

// integer returns the value of a metric with these attributes.
func integer(t *testing.T, m metricdata.Metrics, attributes ...attribute.KeyValue) int64 {
	t.Helper()
	var points []metricdata.DataPoint[int64]
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		require.True(t, data.IsMonotonic)
		points = data.DataPoints
	case metricdata.Gauge[int64]:
		points = data.DataPoints
	}
	want := attribute.NewSet(attributes...)
	for _, p := range points {
		if p.Attributes.Equals(&want) {
			return p.Value
		}
	}
	require.Fail(t, "there is no such point", "%s %v in %v", m.Name, attributes, points)
	return 0
}

func TestAllMetricsAreObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t)
		s := openStream(t, db, "orders")
		time.Sleep(time.Second)
		_, err := s.PutRecord(t.Context(), "k", []byte("one"))
		require.NoError(t, err)
		_, err = queue.Create(t.Context(), db, "mails", &queue.Options{Stream: "orders"})
		require.NoError(t, err)
		w, err := consumer.New(db, &consumer.Config{App: "billing", WorkerID: "w", Streams: []string{"orders"}}, consumer.ProcessorFunc(
			func(context.Context, *consumer.Batch) error { time.Sleep(30 * time.Millisecond); return nil }))
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		defer func() { stop(); require.NoError(t, <-ended) }()
		time.Sleep(time.Minute)

		reader := sdkmetric.NewManualReader(sdkmetric.WithProducer(NewProducer(db, nil)))
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		registration, err := Register(db, provider, &Options{MaxShards: 1})
		require.NoError(t, err)
		found := collect(t, reader)
		for _, name := range allNames() {
			require.Contains(t, found, name)
		}
		require.Len(t, found, len(allNames()))
		stream, app, worker := attribute.String("braid.stream", "orders"), attribute.String("braid.app", "billing"), attribute.String("braid.worker", "w")
		require.EqualValues(t, 1, integer(t, found["braid.put.records"]))
		require.EqualValues(t, 4, integer(t, found["braid.stream.put.data"], stream))
		require.EqualValues(t, 1, integer(t, found["braid.shard.put.records"], stream, attribute.String("braid.shard", "shardId-000000000000")))
		require.EqualValues(t, 0, integer(t, found["braid.app.behind.records"], app))
		require.EqualValues(t, 1, integer(t, found["braid.app.shards"], app, attribute.String("braid.state", "running")))
		require.EqualValues(t, 1, integer(t, found["braid.worker.processed.records"], app, worker))
		require.EqualValues(t, 1, integer(t, found["braid.queue.records"], attribute.String("braid.queue", "mails"), attribute.String("braid.state", "visible")))
		require.EqualValues(t, 1, integer(t, found["braid.collection.complete"]))
		require.Equal(t, "By", found["braid.put.data"].Unit)
		checkpoint := found["braid.worker.checkpoint.timestamp"].Data.(metricdata.Gauge[float64])
		require.InDelta(t, float64(time.Now().Unix()-60), checkpoint.DataPoints[0].Value, 2)

		process := found["braid.worker.process.duration"].Data.(metricdata.Histogram[float64])
		require.Len(t, process.DataPoints, 1)
		point := process.DataPoints[0]
		require.EqualValues(t, 1, point.Count)
		require.InDelta(t, 0.03, point.Sum, 1e-9)
		require.Len(t, point.BucketCounts, len(point.Bounds)+1)
		for i, n := range point.BucketCounts {
			require.Equal(t, n == 1, i < len(point.Bounds) && point.Bounds[i] == 0.05, "bucket %d has %d", i, n)
		}

		require.NoError(t, registration.Unregister())
		require.NoError(t, registration.Unregister())
		for name, m := range collect(t, reader) {
			_, is := m.Data.(metricdata.Histogram[float64])
			require.True(t, is, "%s is observed", name)
		}
	})
}

// allNames are the names of all metrics.
func allNames() (names []string) {
	seen := make(map[string]bool)
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	eachName(ofDatabase, add)
	eachName(ofStream, add)
	eachName(ofShard, add)
	eachName(ofApp, add)
	eachName(ofWorker, add)
	eachName(ofQueue, add)
	add("braid.collection.complete")
	add("braid.collection.omitted")
	return names
}

func eachName[T any](rows []row[T], add func(string)) {
	for i := range rows {
		add(rows[i].name)
	}
}

func TestAClosedDatabaseIsObserved(t *testing.T) {
	db := open(t)
	_, err := openStream(t, db, "s").PutRecord(t.Context(), "k", nil)
	require.NoError(t, err)
	reader := sdkmetric.NewManualReader(sdkmetric.WithProducer(NewProducer(db, nil)))
	_, err = Register(db, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	found := collect(t, reader)
	require.EqualValues(t, 1, integer(t, found["braid.put.records"]))
	require.EqualValues(t, 0, integer(t, found["braid.collection.complete"]))
}
