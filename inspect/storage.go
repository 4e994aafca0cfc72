package inspect

import (
	"net/http"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/jsontext"
)

type storageAnswer struct {
	Time    time.Time
	Metrics braid.Metrics
	Losses  []braid.Loss // the last 100 accepted ones

	// Latencies are quantiles of histograms of the Metrics, since the database was opened: of
	// puts until their records can be read, of commits, and of syncs of the log.
	Latencies struct{ Put, Commit, Sync latency }
}

// latency is how long something takes. Its quantiles are upper bounds, see
// [braid.Histogram].
type latency struct {
	Count                     int64
	Mean, P50, P95, P99, P999 jsontext.Duration
}

func latencyOf(h braid.Histogram) latency {
	quantile := func(q float64) jsontext.Duration { return jsontext.Duration(h.Quantile(q)) }
	return latency{
		Count: h.Count, Mean: jsontext.Duration(h.Sum / time.Duration(max(1, h.Count))),
		P50: quantile(0.5), P95: quantile(0.95), P99: quantile(0.99), P999: quantile(0.999),
	}
}

const maxLosses = 100

func (h *handler) storage(r *http.Request) (any, error) {
	if err := onlyParameters(r); err != nil {
		return nil, err
	}
	m, losses := h.db.Metrics(), h.db.Losses()
	out := storageAnswer{Time: time.Now(), Metrics: m, Losses: losses[max(0, len(losses)-maxLosses):]}
	out.Latencies.Put, out.Latencies.Commit, out.Latencies.Sync = latencyOf(m.PutTimes), latencyOf(m.CommitTimes), latencyOf(m.SyncTimes)
	return out, nil
}
