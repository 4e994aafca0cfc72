package control

import (
	"context"
	"iter"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

const (
	defaultRecords = 100
	maxRecords     = 1000
	maxDataBytes   = 4 << 20 // of the records of an answer, unless it is one record
)

// record is the JSON of a record.
type record struct {
	ShardID         braid.ShardID        `json:"shardId"`
	SequenceNumber  braid.SequenceNumber `json:"sequenceNumber"`
	PartitionKey    string               `json:"partitionKey"` // empty if the producer gave none
	ExplicitHashKey *braid.HashKey       `json:"explicitHashKey,omitempty"`
	ArrivalTime     time.Time            `json:"arrivalTime"`
	Encrypted       bool                 `json:"encrypted,omitempty"`
	Data            []byte               `json:"data"`           // base64
	Text            *string              `json:"text,omitempty"` // the data, if it is UTF-8
}

// peeked is the JSON of an answer with records.
type peeked struct {
	Records []record `json:"records"`
	More    bool     `json:"more"` // other records were left out, before or after
}

func show(r *braid.Record) record {
	out := record{
		ShardID: r.ShardID, SequenceNumber: r.SequenceNumber, PartitionKey: service.PartitionKey(r.PartitionKey), ExplicitHashKey: r.ExplicitHashKey,
		ArrivalTime: r.ArrivalTime, Encrypted: r.Encrypted, Data: r.Data,
	}
	if out.Data == nil {
		out.Data = []byte{} // "" rather than null
	}
	if utf8.Valid(r.Data) {
		out.Text = new(string(r.Data))
	}
	return out
}

// log is a stream or one of its shards.
type log interface {
	Records(ctx context.Context, from braid.Position) iter.Seq2[braid.Record, error]
}

func (h *handler) records(r *http.Request) (any, error) {
	m, err := h.managed(r)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	for name := range query {
		if !slices.Contains([]string{"shard", "limit", "order", "after", "account", "region"}, name) {
			return nil, badRequest("unknown parameter %q; the parameters are shard, limit, order and after", name)
		}
	}
	limit := defaultRecords
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxRecords {
			return nil, badRequest("limit %q is not a number from 1 to %d", text, maxRecords)
		}
	}
	var from log = m.Stream
	shards := m.Stream.Shards()
	if id := query.Get("shard"); id != "" {
		sh, err := m.Stream.Shard(braid.ShardID(id))
		if err != nil {
			return nil, err
		}
		from, shards = sh, []*braid.Shard{sh}
	}
	after := query.Get("after")
	switch order := query.Get("order"); {
	case order != "" && order != "oldest" && order != "newest":
		return nil, badRequest("order %q is neither oldest nor newest", order)
	case order == "newest" && after != "":
		return nil, badRequest("after reads from the oldest record on, so it cannot be combined with order=newest")
	case order == "newest":
		return newest(r.Context(), from, shards, limit)
	}
	at := braid.TrimHorizon()
	if after != "" {
		n, err := braid.ParseSequenceNumber(after)
		if err != nil {
			return nil, badRequest("after %q is not a sequence number", after)
		}
		at = braid.AfterSequence(n)
	}
	return oldest(r.Context(), from, at, limit)
}

// oldest returns the first records from a position on.
func oldest(ctx context.Context, from log, at braid.Position, limit int) (peeked, error) {
	out := peeked{Records: []record{}}
	bytes := 0
	for rec, err := range from.Records(ctx, at) {
		if err != nil {
			return peeked{}, err
		}
		bytes += len(rec.Data)
		if len(out.Records) == limit || len(out.Records) > 0 && bytes > maxDataBytes {
			out.More = true
			break
		}
		out.Records = append(out.Records, show(&rec))
	}
	return out, nil
}

// newest returns the last records. The database cannot read backwards, but it can count the
// records after a time without reading them. So newest searches for the latest time that is
// followed by enough records.
func newest(ctx context.Context, from log, shards []*braid.Shard, limit int) (peeked, error) {
	var first, last time.Time
	total := int64(0)
	for _, sh := range shards {
		d := sh.Describe()
		if d.Records == 0 {
			continue
		}
		total += d.Records
		if t := d.First.Time(); first.IsZero() || t.Before(first) {
			first = t
		}
		if t := d.Last.Time(); t.After(last) {
			last = t
		}
	}
	at := braid.TrimHorizon()
	if total > int64(limit) {
		// Sequence numbers contain times to the second. The search for a nanosecond within a second
		// takes 30 steps, and one more for each doubling of the span.
		span := last.Add(time.Second).Sub(first)
		var failed error
		back := sort.Search(int(span), func(back int) bool {
			if failed != nil {
				return true
			}
			var n int64
			n, failed = countFrom(ctx, shards, last.Add(time.Second-time.Duration(back)))
			return n >= int64(limit)
		})
		if failed != nil {
			return peeked{}, failed
		}
		at = braid.AtTime(last.Add(time.Second - time.Duration(back)))
	}
	kept := make([]braid.Record, 0, limit)
	bytes, seen := 0, int64(0)
	for rec, err := range from.Records(ctx, at) {
		if err != nil {
			return peeked{}, err
		}
		seen++
		kept = append(kept, rec)
		bytes += len(rec.Data)
		for len(kept) > limit || len(kept) > 1 && bytes > maxDataBytes {
			bytes -= len(kept[0].Data)
			kept = kept[1:]
		}
	}
	out := peeked{Records: make([]record, 0, len(kept)), More: max(seen, total) > int64(len(kept))}
	for i := range kept {
		out.Records = append(out.Records, show(&kept[i]))
	}
	return out, nil
}

// countFrom counts the records that arrived at a time or later.
func countFrom(ctx context.Context, shards []*braid.Shard, t time.Time) (n int64, err error) {
	for _, sh := range shards {
		page, err := sh.GetRecords(ctx, braid.AtTime(t), &braid.GetRecordsOptions{Limit: 1, Unmetered: true})
		if err != nil {
			return 0, err
		}
		n += int64(len(page.Records)) + page.BehindRecords
	}
	return n, nil
}
