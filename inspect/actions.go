package inspect

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/jsontext"
)

// maxBodyBytes is the largest body of a change: the most that one call can put, in
// base64.
const maxBodyBytes = 24 << 20

// actionHeader is required for each change. A page of another site cannot send it,
// because the browser would first ask for permission, and is not given any.
const actionHeader = "Braid-Inspect"

// done is the answer to a change without a result.
type done struct{}

// changing handles a request for a change, if changes are allowed and the request intends
// one.
func changing(fn answer) answer {
	return func(h *handler, r *http.Request) (any, error) {
		if !h.opts.Writable {
			return nil, forbidden("NotWritable", "changes are not allowed here: see Options.Writable of package inspect")
		}
		if r.Header.Get(actionHeader) == "" {
			return nil, forbidden("HeaderMissing", "the header %s is missing", actionHeader)
		}
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			return nil, &statusError{http.StatusUnsupportedMediaType, "MediaType", "the body must be application/json"}
		}
		if err := onlyParameters(r); err != nil {
			return nil, err
		}
		return fn(h, r)
	}
}

// readBody reads a JSON object, which may have the fields of in and no others.
func readBody(r *http.Request, in any) error {
	body := http.MaxBytesReader(nil, r.Body, maxBodyBytes)
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	err := dec.Decode(in)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("data after the JSON object")
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &statusError{http.StatusRequestEntityTooLarge, "TooLarge", "the body is larger than 24 MiB"}
	case errors.Is(err, braid.ErrInvalidArgument):
		return err
	case err != nil:
		return badRequest("invalid JSON in the body: %v", err)
	}
	return nil
}

func (h *handler) create(r *http.Request) (any, error) {
	var in struct {
		Name    string
		Options streamOptions
	}
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	options := braid.StreamOptions(in.Options.plainStreamOptions)
	options.Retention = in.Options.Retention.Duration()
	_, err := h.db.CreateStream(r.Context(), in.Name, &options)
	return done{}, err
}

// streamOptions are [braid.StreamOptions] with the same JSON, but without their methods,
// so that [readBody] refuses unknown fields at any depth. Otherwise a misspelled setting
// would silently stay at its default.
type streamOptions struct {
	plainStreamOptions
	Retention jsontext.Duration
}

type plainStreamOptions braid.StreamOptions

// deleteStream requires the name twice, so that a mistake in the path deletes nothing.
func (h *handler) deleteStream(r *http.Request) (any, error) {
	var in struct{ Name string }
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	if name := r.PathValue("stream"); in.Name != name {
		return nil, badRequest("Name is %.140q; to delete the stream with all its records it must be %q", in.Name, name)
	}
	return done{}, h.db.DeleteStream(r.Context(), in.Name)
}

func (h *handler) put(r *http.Request) (any, error) {
	var in struct {
		Records []braid.Entry
		Wait    bool
	}
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	put := s.PutRecords
	if in.Wait {
		put = s.PutRecordsWait
	}
	results, err := put(r.Context(), in.Records)
	if err != nil {
		return nil, err
	}
	return putAnswerOf(results), nil
}

// putAnswer is the answer to a put. A result has only the text of its error; Failure is the first
// of these errors, as the failure of a whole request would be.
type putAnswer struct {
	Results []braid.PutResult
	Failure *failure `json:",omitempty"`
}

func putAnswerOf(results []braid.PutResult) putAnswer {
	answer := putAnswer{Results: results}
	for i := range results {
		if err := results[i].Err; err != nil {
			_, f := failureOf(err)
			answer.Failure = &f
			break
		}
	}
	return answer
}

func (h *handler) split(r *http.Request) (any, error) {
	var in struct {
		Shard braid.ShardID
		At    *braid.HashKey
	}
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	lower, upper, err := s.SplitShard(r.Context(), in.Shard, in.At)
	if err != nil {
		return nil, err
	}
	return struct{ Lower, Upper braid.ShardID }{lower.ID(), upper.ID()}, nil
}

func (h *handler) merge(r *http.Request) (any, error) {
	var in struct{ Shard, Adjacent braid.ShardID }
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	merged, err := s.MergeShards(r.Context(), in.Shard, in.Adjacent)
	if err != nil {
		return nil, err
	}
	return struct{ Shard braid.ShardID }{merged.ID()}, nil
}

func (h *handler) scale(r *http.Request) (any, error) {
	var in struct{ Shards int }
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	return done{}, s.UpdateShardCount(r.Context(), in.Shards)
}

// retention changes for how long records are kept, or how many bytes of them, or both. The time is
// first; if it is refused, nothing else changes.
func (h *handler) retention(r *http.Request) (any, error) {
	var in struct {
		Retention      *jsontext.Duration
		RetentionBytes *int64
	}
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	if in.Retention == nil && in.RetentionBytes == nil {
		return nil, badRequest("Retention and RetentionBytes are both missing")
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	if in.Retention != nil {
		period, is := in.Retention.Duration(), s.Describe().Retention
		set := s.IncreaseRetention
		if period >= 0 && (is < 0 || period < is) {
			set = s.DecreaseRetention
		}
		if err := set(r.Context(), period); err != nil {
			return nil, err
		}
	}
	if in.RetentionBytes != nil {
		if err := s.UpdateRetentionBytes(r.Context(), *in.RetentionBytes); err != nil {
			return nil, err
		}
	}
	return done{}, nil
}

func (h *handler) trim(r *http.Request) (any, error) {
	var in struct{ Before *braid.Position }
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	if in.Before == nil {
		return nil, badRequest("Before is missing; it is a position such as LATEST")
	}
	s, err := h.stream(r)
	if err != nil {
		return nil, err
	}
	return done{}, s.Trim(r.Context(), *in.Before)
}
