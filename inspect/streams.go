package inspect

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/jsontext"
)

const (
	maxStreams = 1000
	maxShards  = 1000
)

// streamSummary is a stream in a list.
type streamSummary struct {
	Name               string
	CreatedAt          time.Time
	OpenShards, Shards int // Shards includes closed ones
	Records, Bytes     int64
	Retention          jsontext.Duration
	RetentionBytes     int64
	Mode               braid.CapacityMode
	Encrypted          bool // new records are encrypted

	// RecordsPut and BytesPut are sums over the shards, so they decrease when a closed shard
	// is removed.
	RecordsPut, BytesPut int64
}

type streamList struct {
	Time    time.Time
	Streams []streamSummary
	More    bool // there are more; continue with the last name as after
}

func (h *handler) listStreams(r *http.Request) (any, error) {
	if err := onlyParameters(r, "after", "limit"); err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", maxStreams, 1, maxStreams)
	if err != nil {
		return nil, err
	}
	if _, err := h.db.Stream("-"); isClosed(err) {
		return nil, err
	}
	after := r.URL.Query().Get("after")
	out := streamList{Time: time.Now(), Streams: []streamSummary{}}
	for _, s := range h.db.Streams() {
		if s.Name() <= after {
			continue
		}
		if len(out.Streams) == limit {
			out.More = true
			break
		}
		out.Streams = append(out.Streams, summarize(s))
	}
	return out, nil
}

func summarize(s *braid.Stream) streamSummary {
	d := s.Describe()
	sum := streamSummary{
		Name: d.Name, CreatedAt: d.CreatedAt, Shards: len(d.Shards), Records: d.Records, Bytes: d.Bytes,
		Retention: jsontext.Duration(d.Retention), RetentionBytes: d.RetentionBytes,
		Mode: d.Capacity.Mode, Encrypted: d.EncryptionKey != "",
	}
	for i := range d.Shards {
		if !d.Shards[i].Closed {
			sum.OpenShards++
		}
		sum.RecordsPut += d.Shards[i].RecordsPut
		sum.BytesPut += d.Shards[i].BytesPut
	}
	return sum
}

type streamAnswer struct {
	Time               time.Time
	Stream             braid.StreamDescription // with some of its shards
	OpenShards, Shards int                     // total numbers
	MoreShards         bool                    // there are more; continue with the last id as after
}

func (h *handler) describeStream(r *http.Request) (any, error) {
	if err := onlyParameters(r, "after", "limit", "open"); err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", maxShards, 1, maxShards)
	if err != nil {
		return nil, err
	}
	open, err := flag(r, "open")
	if err != nil {
		return nil, err
	}
	after := braid.ShardID("")
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = braid.ParseShardID(text); err != nil {
			return nil, err
		}
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	out := streamAnswer{Time: time.Now(), Stream: s.Describe()}
	shards := out.Stream.Shards
	out.Shards = len(shards)
	out.OpenShards = len(slices.DeleteFunc(slices.Clone(shards), func(sh braid.ShardDescription) bool { return sh.Closed }))
	out.Stream.Shards = slices.DeleteFunc(shards, func(sh braid.ShardDescription) bool {
		return strings.Compare(string(sh.ID), string(after)) <= 0 || open && sh.Closed
	})
	if len(out.Stream.Shards) > limit {
		out.Stream.Shards, out.MoreShards = out.Stream.Shards[:limit], true
	}
	return out, nil
}

// stream returns the stream in the path.
func (h *handler) stream(r *http.Request) (*braid.Stream, error) {
	return h.db.Stream(r.PathValue("stream"))
}

const (
	maxPoints       = 240
	maxHistoryReads = 10_000 // looks into a shard, each of which reads one record
)

// historyPoint is what arrived in a step of time.
type historyPoint struct {
	Time           time.Time // the beginning of the step
	Records, Bytes int64
}

type historyAnswer struct {
	Step   jsontext.Duration
	Points []historyPoint // oldest first; the last step ends now
}

// history counts arrivals in steps of time. It uses the log itself, since the number of
// records between two times in a shard is known without reading them. Trimmed records are
// not counted.
func (h *handler) history(r *http.Request) (any, error) {
	if err := onlyParameters(r, "step", "points"); err != nil {
		return nil, err
	}
	points, err := number(r, "points", 60, 1, maxPoints)
	if err != nil {
		return nil, err
	}
	step := 10 * time.Second
	if text := r.URL.Query().Get("step"); text != "" {
		if step, err = time.ParseDuration(text); err != nil || step < time.Millisecond || step > 24*time.Hour {
			return nil, badRequest("step is %.40q; it must be a duration from 1ms to 24h", text)
		}
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	start := now.Add(-time.Duration(points) * step)
	var shards []*braid.Shard
	for _, sh := range s.Shards() {
		if d := sh.Describe(); d.Records > 0 && (!d.Closed || d.ClosedAt.After(start)) {
			shards = append(shards, sh)
		}
	}
	if len(shards)*(points+1) > maxHistoryReads {
		return nil, badRequest("%d points for %d shards are too many; they need more than %d reads", points, len(shards), maxHistoryReads)
	}
	out := historyAnswer{Step: jsontext.Duration(step), Points: make([]historyPoint, points)}
	var before extent // from the beginning of the step on
	for i := range points + 1 {
		at := start.Add(time.Duration(i) * step)
		after, err := extentFrom(r.Context(), shards, braid.AtTime(at))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.Points[i-1].Records = max(0, before.records-after.records)
			out.Points[i-1].Bytes = max(0, before.bytes-after.bytes)
		}
		if i < points {
			out.Points[i].Time = at
		}
		before = after
	}
	return out, nil
}
