package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/errorkind"
	"github.com/braidstream/braid/queue"
)

// remote is the store of a live program, reached by the JSON API of its package inspect.
type remote struct {
	base   string // ends with a slash
	shown  string // base without a password
	client *http.Client
	header http.Header // sent with each request, for example for authentication
	warn   func(format string, args ...any)
}

// openRemote returns the store at an address. It sends no request.
func openRemote(t target, client *http.Client) (*remote, error) {
	if !strings.Contains(t.url, "://") {
		t.url = "http://" + t.url // as browsers do
	}
	u, err := url.Parse(t.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, usagef("--url %q must be the address of an inspect page, such as http://localhost:8080/braid/", t.url)
	}
	r := &remote{base: strings.TrimSuffix(t.url, "/") + "/", client: client, header: make(http.Header), warn: t.warn}
	r.shown = strings.TrimSuffix(u.Redacted(), "/") + "/"
	for _, text := range t.headers {
		name, value, found := strings.Cut(text, ":")
		if name = strings.TrimSpace(name); !found || name == "" {
			return nil, usagef("--header %q must be a name, a colon and a value", text)
		}
		r.header.Add(name, strings.TrimSpace(value))
	}
	return r, nil
}

func (r *remote) Close() error {
	r.client.CloseIdleConnections()
	return nil
}

// remoteError is an error of the live program. It matches the errors of package braid
// that it stands for.
type remoteError struct {
	text   string
	of     []error
	status int // of HTTP; 0 for an event
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.of }

// statusError is an answer that does not come from an inspect page.
type statusError struct {
	url    string
	status int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("--url %s answered with %d %s: it must be the address of an inspect page", e.url, e.status, http.StatusText(e.status))
}

// failure is an error answer of inspect.
type failure struct {
	Error  string
	Kind   string
	Type   string
	Detail json.RawMessage
}

// err returns the error, or nil if there is none.
func (f *failure) err() error {
	if f.Error == "" && f.Kind == "" {
		return nil
	}
	e := &remoteError{text: f.Error}
	if sentinel := errorkind.Named(f.Kind); sentinel != nil {
		e.of = append(e.of, sentinel)
	}
	if detail := errorkind.NewDetail(f.Type); detail != nil && json.Unmarshal(f.Detail, detail) == nil {
		e.of = append(e.of, detail)
	}
	return e
}

// path makes a path with escaped names, such as those of streams.
func path(format string, names ...string) string {
	escaped := make([]any, len(names))
	for i, name := range names {
		escaped[i] = url.PathEscape(name)
	}
	return fmt.Sprintf(format, escaped...)
}

// send sends a request, and returns the answer if it is a success.
func (r *remote) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	address := r.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, err
	}
	request.Header = r.header.Clone()
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Braid-Inspect", "braid")
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, r.failed(ctx, method, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, r.failed(ctx, method, err)
	}
	var f failure
	if json.Unmarshal(text, &f) == nil && f.Error != "" {
		err := f.err()
		if e := (*remoteError)(nil); errors.As(err, &e) {
			e.status = response.StatusCode
		}
		return nil, err
	}
	return nil, &statusError{r.shown, response.StatusCode}
}

// failed returns the error of a request without an answer. It is unknown whether a change
// was made.
func (r *remote) failed(ctx context.Context, method string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var request *url.Error // its text would include the method and the path
	if errors.As(err, &request) {
		err = fmt.Errorf("no program answers at --url %s: %w", r.shown, request.Err)
	}
	if method == http.MethodPost {
		return fmt.Errorf("%w: %w", braid.ErrOutcomeUnknown, err)
	}
	return err
}

// get requests a value.
func (r *remote) get(ctx context.Context, path string, query url.Values, value any) error {
	return r.call(ctx, http.MethodGet, path, query, nil, value)
}

// post sends a change. With a nil value, the answer is ignored.
func (r *remote) post(ctx context.Context, path string, body, value any) error {
	return r.call(ctx, http.MethodPost, path, nil, body, value)
}

func (r *remote) call(ctx context.Context, method, path string, query url.Values, body, value any) error {
	response, err := r.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return r.failed(ctx, method, err)
	}
	if value == nil {
		return nil
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("--url %s: invalid answer to %s from the inspect page: %w", r.shown, path, err)
	}
	return nil
}

func (r *remote) Streams(ctx context.Context) (streams []braid.StreamDescription, err error) {
	after := ""
	for {
		var list struct {
			Streams []struct{ Name string }
			More    bool
		}
		if err := r.get(ctx, "api/streams", url.Values{"after": {after}}, &list); err != nil {
			return nil, err
		}
		for _, s := range list.Streams {
			d, err := r.Stream(ctx, s.Name)
			if errors.Is(err, braid.ErrStreamNotFound) {
				continue // it was deleted in the meantime
			}
			if err != nil {
				return nil, err
			}
			streams = append(streams, d)
			after = s.Name
		}
		if !list.More || len(list.Streams) == 0 {
			return streams, nil
		}
	}
}

func (r *remote) Stream(ctx context.Context, name string) (d braid.StreamDescription, err error) {
	query := url.Values{}
	for {
		var answer struct {
			Stream     braid.StreamDescription
			MoreShards bool
		}
		if err := r.get(ctx, path("api/streams/%s", name), query, &answer); err != nil {
			return d, err
		}
		shards := append(d.Shards, answer.Stream.Shards...)
		d = answer.Stream
		d.Shards = shards
		if !answer.MoreShards || len(answer.Stream.Shards) == 0 {
			return d, nil
		}
		query.Set("after", string(shards[len(shards)-1].ID))
	}
}

// page is an answer to a request for records.
type page struct {
	Records       []braid.Record
	Next          braid.Position
	AtTip         bool
	BehindRecords int64
}

// pageRecords is the maximum number of records of a page.
const pageRecords = 1000

func recordsPath(stream string, shard braid.ShardID) string {
	if shard == "" {
		return path("api/streams/%s/records", stream)
	}
	return path("api/streams/%s/shards/%s/records", stream, string(shard))
}

func (r *remote) page(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, limit int) (p page, err error) {
	err = r.get(ctx, recordsPath(stream, shard), url.Values{
		"from": {from.String()}, "limit": {strconv.Itoa(limit)}, "data": {wholeData}, "encrypted": {"show"},
	}, &p)
	return p, err
}

// wholeData requests all of a record's data, which has at most 10 MiB.
const wholeData = "10485760"

func (r *remote) Records(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, follow bool) iter.Seq2[braid.Record, error] {
	return func(yield func(braid.Record, error) bool) {
		read := r.readPages
		if follow {
			read = r.follow
		}
		if err := read(ctx, stream, shard, from, func(rec braid.Record) bool { return yield(rec, nil) }); err != nil {
			yield(braid.Record{}, err)
		}
	}
}

// readPages reads up to the tip at the time of the call. So it ends even if the stream
// grows faster than it reads: when it has passed the record that was the newest in each
// shard.
func (r *remote) readPages(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, take func(braid.Record) bool) error {
	d, err := r.Stream(ctx, stream)
	if err != nil {
		return err
	}
	if shard != "" && !hasShard(d, shard) {
		return &remoteError{fmt.Sprintf("no such shard: stream %q has no %s", stream, shard), []error{braid.ErrShardNotFound}, 0}
	}
	left := make(map[braid.ShardID]braid.SequenceNumber)
	for i := range d.Shards {
		if sd := &d.Shards[i]; !sd.Last.IsZero() && (shard == "" || sd.ID == shard) {
			left[sd.ID] = sd.Last
		}
	}
	for len(left) > 0 {
		p, err := r.page(ctx, stream, shard, from, pageRecords)
		if err != nil {
			return err
		}
		for _, rec := range p.Records {
			if !take(rec) {
				return nil
			}
			if last, ok := left[rec.ShardID]; ok && rec.SequenceNumber.Compare(last) >= 0 {
				delete(left, rec.ShardID)
			}
		}
		if p.AtTip {
			return nil
		}
		from = p.Next
	}
	return nil
}

func hasShard(d braid.StreamDescription, id braid.ShardID) bool {
	for i := range d.Shards {
		if d.Shards[i].ID == id {
			return true
		}
	}
	return false
}

func (r *remote) Count(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (int64, error) {
	var p page
	err := r.get(ctx, recordsPath(stream, shard), url.Values{"from": {from.String()}, "limit": {"1"}, "data": {"0"}}, &p)
	return int64(len(p.Records)) + p.BehindRecords, err
}

func (r *remote) Create(ctx context.Context, stream string, options *braid.StreamOptions) error {
	return r.post(ctx, "api/streams", struct {
		Name    string
		Options *braid.StreamOptions
	}{stream, options}, nil)
}

func (r *remote) Delete(ctx context.Context, stream string) error {
	return r.post(ctx, path("api/streams/%s/delete", stream), struct{ Name string }{stream}, nil)
}

func (r *remote) Put(ctx context.Context, stream string, entries []braid.Entry) ([]braid.PutResult, error) {
	var answer struct {
		Results []braid.PutResult
		Failure failure // of the first record that was not put
	}
	err := r.post(ctx, path("api/streams/%s/records", stream), struct {
		Records []braid.Entry
		Wait    bool
	}{entries, true}, &answer)
	if err != nil {
		return nil, err
	}
	if len(answer.Results) != len(entries) {
		return nil, fmt.Errorf("--url %s: %d results for %d records", r.shown, len(answer.Results), len(entries))
	}
	return answer.Results, answer.Failure.err()
}

func (r *remote) Apps(ctx context.Context) (names []string, err error) {
	after := ""
	for {
		var list struct {
			Apps []struct{ Name string }
			More bool
		}
		if err := r.get(ctx, "api/apps", url.Values{"after": {after}}, &list); err != nil {
			return nil, err
		}
		for _, a := range list.Apps {
			names = append(names, a.Name)
			after = a.Name
		}
		if !list.More || len(list.Apps) == 0 {
			return names, nil
		}
	}
}

func (r *remote) App(ctx context.Context, name string) (status consumer.Status, err error) {
	query := url.Values{}
	for {
		var answer struct {
			Status     consumer.Status
			MoreShards bool
		}
		if err := r.get(ctx, path("api/apps/%s", name), query, &answer); err != nil {
			return status, err
		}
		shards := append(status.Shards, answer.Status.Shards...)
		status = answer.Status
		status.Shards = shards
		if !answer.MoreShards || len(answer.Status.Shards) == 0 {
			return status, nil
		}
		last := &shards[len(shards)-1]
		query.Set("after", last.Stream+"/"+string(last.Shard))
	}
}

func (r *remote) Seek(ctx context.Context, app string, key consumer.LeaseKey, to braid.Position) error {
	return r.post(ctx, path("api/apps/%s/seek", app), struct {
		consumer.LeaseKey
		To braid.Position
	}{key, to}, nil)
}

func (r *remote) Pause(ctx context.Context, app string, key consumer.LeaseKey) error {
	return r.post(ctx, path("api/apps/%s/pause", app), key, nil)
}

func (r *remote) Resume(ctx context.Context, app string, key consumer.LeaseKey) error {
	return r.post(ctx, path("api/apps/%s/resume", app), key, nil)
}

func (r *remote) Split(ctx context.Context, stream string, shard braid.ShardID, at *braid.HashKey) error {
	return r.post(ctx, path("api/streams/%s/split", stream), struct {
		Shard braid.ShardID
		At    *braid.HashKey `json:",omitempty"`
	}{shard, at}, nil)
}

func (r *remote) Merge(ctx context.Context, stream string, shard, adjacent braid.ShardID) error {
	return r.post(ctx, path("api/streams/%s/merge", stream), struct{ Shard, Adjacent braid.ShardID }{shard, adjacent}, nil)
}

func (r *remote) Scale(ctx context.Context, stream string, shards int) error {
	return r.post(ctx, path("api/streams/%s/scale", stream), struct{ Shards int }{shards}, nil)
}

func (r *remote) SetRetention(ctx context.Context, stream string, period time.Duration) error {
	return r.post(ctx, path("api/streams/%s/retention", stream), struct{ Retention string }{period.String()}, nil)
}

func (r *remote) SetRetentionBytes(ctx context.Context, stream string, bytes int64) error {
	return r.post(ctx, path("api/streams/%s/retention", stream), struct{ RetentionBytes int64 }{bytes}, nil)
}

func (r *remote) Trim(ctx context.Context, stream string, before braid.Position) error {
	return r.post(ctx, path("api/streams/%s/trim", stream), struct{ Before braid.Position }{before}, nil)
}

func (r *remote) Queues(ctx context.Context) (queues []queue.Description, err error) {
	after := ""
	for {
		var list struct {
			Queues []queue.Description
			More   bool
		}
		if err := r.get(ctx, "api/queues", url.Values{"after": {after}}, &list); err != nil {
			return nil, err
		}
		queues = append(queues, list.Queues...)
		if !list.More || len(list.Queues) == 0 {
			return queues, nil
		}
		after = list.Queues[len(list.Queues)-1].Name
	}
}

func (r *remote) Queue(ctx context.Context, name string) (d queue.Description, err error) {
	var answer struct{ Queue *queue.Description }
	answer.Queue = &d
	return d, r.get(ctx, path("api/queues/%s", name), nil, &answer)
}

func (r *remote) DeadLetters(ctx context.Context, name string, limit int, withData bool) (letters []queue.Record, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}, "data": {"0"}}
	if withData {
		query.Set("data", wholeData)
		query.Set("encrypted", "show")
	}
	var answer struct{ Records []queue.Record }
	err = r.get(ctx, path("api/queues/%s/deadletters", name), query, &answer)
	return answer.Records, err
}

func (r *remote) Restore(ctx context.Context, name string, receipts []queue.Receipt) error {
	return r.post(ctx, path("api/queues/%s/restore", name), struct{ Receipts []queue.Receipt }{receipts}, nil)
}

func (r *remote) RestoreAll(ctx context.Context, name string) (int, error) {
	var answer struct{ Restored int }
	err := r.post(ctx, path("api/queues/%s/restore", name), struct{ All bool }{true}, &answer)
	return answer.Restored, err
}

func (r *remote) Discard(ctx context.Context, name string, receipts []queue.Receipt) error {
	return r.post(ctx, path("api/queues/%s/discard", name), struct{ Receipts []queue.Receipt }{receipts}, nil)
}
