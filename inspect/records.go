package inspect

import (
	"bytes"
	"context"
	"iter"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/jsontext"
)

const (
	maxRecords     = 1000
	defaultRecords = 100
	maxLookedAt    = 10_000  // maximum number of records that one request looks at
	maxLookedBytes = 8 << 20 // of their data
	maxDataBytes   = 10 << 20
	defaultData    = 4 << 10
	maxAnswerBytes = 8 << 20 // of data in the answer, unless it is one record
	maxLastShards  = 100
)

// record is a record in an answer.
type record struct {
	braid.Record      // with the beginning of its data, or without key and data
	DataBytes    int  // size of the whole data
	Withheld     bool // key and data are encrypted, and were not requested
}

type recordsAnswer struct {
	Records  []record
	Next     braid.Position // where to continue
	LookedAt int            // including records that key and match have left out
	AtTip    bool           // there were no more

	// Only for a shard: what follows, see [braid.RecordsPage].
	BehindRecords, BehindBytes int64
	BehindLatest               jsontext.Duration
	EndOfShard                 bool
	ChildShards                []braid.ShardID `json:",omitempty"`
}

// view is the part of records that a request asks for.
type view struct {
	key, match string
	data       int // maximum number of bytes for each record
	encrypted  bool
}

var viewParameters = []string{"key", "match", "data", "encrypted"}

func viewOf(r *http.Request, maxData int) (v view, err error) {
	query := r.URL.Query()
	v.key, v.match = query.Get("key"), query.Get("match")
	if v.data, err = number(r, "data", min(defaultData, maxData), 0, maxData); err != nil {
		return v, err
	}
	switch text := query.Get("encrypted"); text {
	case "":
	case "show":
		v.encrypted = true
	default:
		return v, badRequest("encrypted is %.40q; it must be show, or be left out", text)
	}
	return v, nil
}

// filters reports whether only some of the records are wanted.
func (v *view) filters() bool { return v.key != "" || v.match != "" }

// wants reports whether a record is wanted. Withheld keys and data match nothing, so that
// searches reveal nothing about them.
func (v *view) wants(rec *braid.Record) bool {
	if !v.filters() {
		return true
	}
	if rec.Encrypted && !v.encrypted {
		return false
	}
	return (v.key == "" || rec.PartitionKey == v.key) &&
		(v.match == "" || strings.Contains(rec.PartitionKey, v.match) || bytes.Contains(rec.Data, []byte(v.match)))
}

// show returns a record for an answer. It keeps no other memory of the record alive.
func (v *view) show(rec *braid.Record) record {
	out := record{Record: *rec, DataBytes: len(rec.Data)}
	switch {
	case rec.Encrypted && !v.encrypted:
		out.PartitionKey, out.ExplicitHashKey, out.Data, out.Withheld = "", nil, nil, true
	case len(rec.Data) > v.data:
		out.PartitionKey, out.Data = strings.Clone(rec.PartitionKey), bytes.Clone(rec.Data[:v.data])
	}
	if out.Data == nil {
		out.Data = []byte{} // an empty text instead of null
	}
	return out
}

// log is a stream or one of its shards.
type log interface {
	Records(ctx context.Context, from braid.Position) iter.Seq2[braid.Record, error]
	Follow(ctx context.Context, from braid.Position) iter.Seq2[braid.Record, error]
}

// shardOf returns the shard named by a path or parameter, or nil if the name is empty.
func shardOf(s *braid.Stream, id string) (*braid.Shard, error) {
	if id == "" {
		return nil, nil
	}
	return s.Shard(braid.ShardID(id))
}

func (h *handler) listRecords(r *http.Request) (any, error) {
	if err := onlyParameters(r, append([]string{"from", "last", "limit"}, viewParameters...)...); err != nil {
		return nil, err
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	sh, err := shardOf(s, r.PathValue("shard"))
	if err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", defaultRecords, 1, maxRecords)
	if err != nil {
		return nil, err
	}
	v, err := viewOf(r, maxDataBytes)
	if err != nil {
		return nil, err
	}
	from := braid.TrimHorizon()
	t := &taker{view: &v, limit: limit, newest: r.URL.Query().Has("last")}
	query := r.URL.Query()
	switch {
	case query.Has("last") && query.Has("from"):
		return nil, badRequest("from and last exclude each other; give one of them")
	case query.Has("last"):
		var n int
		if n, err = number(r, "last", defaultRecords, 1, maxLookedAt); err != nil {
			return nil, err
		}
		shards := []*braid.Shard{sh}
		if sh == nil {
			shards = s.Shards()
		}
		from, t.skip, err = last(r.Context(), shards, int64(n))
	case query.Has("from"):
		from, err = braid.ParsePosition(query.Get("from"))
	}
	if err != nil {
		return nil, err
	}
	t.out = recordsAnswer{Records: []record{}, Next: from}
	if sh != nil {
		err = t.readShard(r.Context(), sh)
	} else {
		err = t.readStream(r.Context(), s)
	}
	return &t.out, err
}

// taker collects the records of an answer until it is full.
type taker struct {
	view               *view
	limit              int
	newest             bool  // it keeps the newest of the wanted records instead of the oldest
	skip               int64 // number of records that are passed over
	out                recordsAnswer
	lookedBytes, bytes int
}

// take looks at a record. full means that there is no room for it, and it was not looked
// at.
func (t *taker) take(rec *braid.Record) (full bool) {
	if t.skip > 0 {
		t.skip--
		return false
	}
	if t.out.LookedAt == maxLookedAt || t.lookedBytes > maxLookedBytes && t.view.filters() {
		return true
	}
	if t.view.wants(rec) {
		shown := t.view.show(rec)
		for n := len(t.out.Records); n == t.limit || n > 0 && t.bytes+len(shown.Data) > maxAnswerBytes; n-- {
			if !t.newest {
				return true
			}
			t.bytes -= len(t.out.Records[0].Data)
			t.out.Records[0] = record{} // frees its data
			t.out.Records = t.out.Records[1:]
		}
		t.bytes += len(shown.Data)
		t.out.Records = append(t.out.Records, shown)
	}
	t.out.LookedAt++
	t.lookedBytes += rec.Size()
	return false
}

// readShard reads a shard page by page until the answer is full, or to the shard's tip.
// Records read before an error are shown; the next request gets the error.
func (t *taker) readShard(ctx context.Context, sh *braid.Shard) error {
	out := &t.out
	for first := true; ; first = false {
		page, err := sh.GetRecords(ctx, out.Next, &braid.GetRecordsOptions{Limit: maxRecords, LimitBytes: 1 << 20, Unmetered: true})
		if err != nil {
			if first || ctx.Err() != nil {
				return err
			}
			return nil
		}
		for i := range page.Records {
			rec := &page.Records[i]
			if t.take(rec) {
				out.BehindRecords, out.BehindBytes = page.BehindRecords, page.BehindBytes
				for k := range page.Records[i:] {
					out.BehindRecords++
					out.BehindBytes += int64(page.Records[i+k].Size())
				}
				out.BehindLatest = jsontext.Duration(time.Since(rec.ArrivalTime))
				return nil
			}
			out.Next = braid.AfterSequence(rec.SequenceNumber)
		}
		out.Next = page.Next
		if page.BehindRecords == 0 {
			out.AtTip, out.EndOfShard, out.ChildShards = true, page.EndOfShard, page.ChildShards
			return nil
		}
	}
}

// readStream is readShard for all shards, in order of arrival.
func (t *taker) readStream(ctx context.Context, s *braid.Stream) error {
	for rec, err := range s.Records(ctx, t.out.Next) {
		if err != nil {
			if t.out.LookedAt == 0 || ctx.Err() != nil {
				return err
			}
			return nil
		}
		if t.take(&rec) {
			return nil
		}
		t.out.Next = braid.AfterSequence(rec.SequenceNumber)
	}
	t.out.AtTip = true
	return nil
}

// oneRecord returns a record with all of its data.
func (h *handler) oneRecord(r *http.Request) (any, error) {
	if err := onlyParameters(r, viewParameters...); err != nil {
		return nil, err
	}
	v, err := viewOf(r, maxDataBytes)
	if err != nil {
		return nil, err
	}
	v.key, v.match, v.data = "", "", maxDataBytes
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	sh, err := shardOf(s, r.PathValue("shard"))
	if err != nil {
		return nil, err
	}
	n, err := braid.ParseSequenceNumber(r.PathValue("sequence"))
	if err != nil {
		return nil, err
	}
	rec, err := recordAt(r.Context(), sh, n)
	if err != nil {
		return nil, err
	}
	return v.show(rec), nil
}

// recordAt reads the record with a sequence number.
func recordAt(ctx context.Context, sh *braid.Shard, n braid.SequenceNumber) (*braid.Record, error) {
	page, err := sh.GetRecords(ctx, braid.AtSequence(n), &braid.GetRecordsOptions{Limit: 1, Unmetered: true})
	if err != nil {
		return nil, err
	}
	if len(page.Records) == 0 || page.Records[0].SequenceNumber != n {
		return nil, &statusError{http.StatusNotFound, "RecordNotFound", "no record of " + string(sh.ID()) + " has the number " + n.String()}
	}
	return &page.Records[0], nil
}

// extent is a number of records, and their bytes.
type extent struct{ records, bytes int64 }

// extentFrom counts the records of shards from a position on. It reads one record of each
// shard.
func extentFrom(ctx context.Context, shards []*braid.Shard, at braid.Position) (e extent, err error) {
	for _, sh := range shards {
		page, err := sh.GetRecords(ctx, at, &braid.GetRecordsOptions{Limit: 1, Unmetered: true})
		if err != nil {
			return extent{}, err
		}
		e.records += page.BehindRecords
		e.bytes += page.BehindBytes
		for i := range page.Records {
			e.records++
			e.bytes += int64(page.Records[i].Size())
		}
	}
	return e, nil
}

// last returns where the last n records of shards begin: a position, and the number of
// records to pass over from there. Shards cannot be read backwards. But the number of
// records after a time is known without reading them, so last searches for the latest
// time after which there are enough.
func last(ctx context.Context, shards []*braid.Shard, n int64) (from braid.Position, skip int64, err error) {
	var lowest, highest time.Time
	total := int64(0)
	var having []*braid.Shard
	for _, sh := range shards {
		d := sh.Describe()
		if d.Records == 0 {
			continue
		}
		total += d.Records
		having = append(having, sh)
		// Sequence numbers have times to the second.
		if t := d.First.Time(); lowest.IsZero() || t.Before(lowest) {
			lowest = t
		}
		if t := d.Last.Time().Add(time.Second); t.After(highest) {
			highest = t
		}
	}
	if total <= n {
		return braid.TrimHorizon(), 0, nil
	}
	if len(having) > maxLastShards {
		return from, 0, badRequest("last requires a shard, or a stream with records in at most %d shards; %d have records", maxLastShards, len(having))
	}
	// The last records are probably the wanted ones, so the search begins there and doubles
	// its steps.
	back := func(ns int) braid.Position { return braid.AtTime(highest.Add(-time.Duration(ns))) }
	span := int(highest.Sub(lowest))
	enough := func(ns int) bool {
		if err != nil {
			return true
		}
		var e extent
		e, err = extentFrom(ctx, having, back(ns))
		return e.records >= n
	}
	high := 1 << 20
	for high < span && !enough(high) {
		high *= 2
	}
	at := sort.Search(min(high, span), enough)
	if err != nil {
		return from, 0, err
	}
	e, err := extentFrom(ctx, having, back(at))
	return back(at), max(0, e.records-n), err
}
