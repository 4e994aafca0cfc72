package control

import (
	"net/http"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// status is the JSON of an answer without other content.
type status struct {
	Status string `json:"status"`
}

func (h *handler) health(*http.Request) (any, error) {
	if err := h.db.Metrics().Failed; err != nil {
		return nil, &statusError{http.StatusServiceUnavailable, "the storage failed: " + err.Error()}
	}
	return status{"ok"}, nil
}

func (h *handler) ready(r *http.Request) (any, error) {
	if h.db.Metrics().DiskFull {
		return nil, &statusError{http.StatusServiceUnavailable, "the disk is full"}
	}
	return h.health(r)
}

// stream is the JSON of a stream.
type stream struct {
	Name          string    `json:"name"`
	ARN           string    `json:"arn"`
	Status        string    `json:"status"`
	Mode          string    `json:"mode"`
	Created       time.Time `json:"created"`
	EncryptionKey string    `json:"encryptionKey,omitempty"`
	Records       int64     `json:"records"`
	Bytes         int64     `json:"bytes"`
	Shards        []shard   `json:"shards"`
}

type shard struct {
	ID      braid.ShardID            `json:"id"`
	Closed  bool                     `json:"closed"`
	Parents []braid.ShardID          `json:"parents,omitempty"`
	Records int64                    `json:"records"`
	Bytes   int64                    `json:"bytes"`
	First   *braid.SequenceNumber    `json:"first,omitempty"` // of the readable records
	Last    *braid.SequenceNumber    `json:"last,omitempty"`
	Range   map[string]braid.HashKey `json:"hashKeys"`
}

func describe(m service.Managed) stream {
	d := m.Stream.Describe()
	out := stream{
		Name: m.Name, ARN: m.ARN, Status: m.Status, Mode: m.Mode, Created: d.CreatedAt,
		EncryptionKey: d.EncryptionKey, Records: d.Records, Bytes: d.Bytes,
		Shards: make([]shard, 0, len(d.Shards)),
	}
	for i := range d.Shards {
		s := &d.Shards[i]
		told := shard{
			ID: s.ID, Closed: s.Closed, Parents: s.Parents, Records: s.Records, Bytes: s.Bytes,
			Range: map[string]braid.HashKey{"start": s.HashKeyRange.Start, "end": s.HashKeyRange.End},
		}
		if s.Records > 0 {
			told.First, told.Last = &s.First, &s.Last
		}
		out.Shards = append(out.Shards, told)
	}
	return out
}

func (h *handler) streams(r *http.Request) (any, error) {
	c, _, err := h.who(r)
	if err != nil {
		return nil, err
	}
	all, err := h.svc.Managed(r.Context(), c)
	if err != nil {
		return nil, err
	}
	streams := make([]stream, 0, len(all))
	for _, m := range all {
		streams = append(streams, describe(m))
	}
	return map[string][]stream{"streams": streams}, nil
}

// managed returns the stream that a path names.
func (h *handler) managed(r *http.Request) (service.Managed, error) {
	c, _, err := h.who(r)
	if err != nil {
		return service.Managed{}, err
	}
	return h.svc.Manage(r.Context(), c, r.PathValue("name"))
}

func (h *handler) stream(r *http.Request) (any, error) {
	m, err := h.managed(r)
	if err != nil {
		return nil, err
	}
	return describe(m), nil
}

func (h *handler) truncate(r *http.Request) (any, error) {
	m, err := h.managed(r)
	if err != nil {
		return nil, err
	}
	if err := m.Stream.Trim(r.Context(), braid.Latest()); err != nil {
		return nil, err
	}
	return describe(m), nil
}

func (h *handler) resetStream(r *http.Request) (any, error) {
	c, _, err := h.who(r)
	if err != nil {
		return nil, err
	}
	if err := h.svc.Recreate(r.Context(), c, r.PathValue("name")); err != nil {
		return nil, err
	}
	return h.stream(r)
}

func (h *handler) reset(r *http.Request) (any, error) {
	c, said, err := h.who(r)
	if err != nil {
		return nil, err
	}
	h.script.Clear()
	if said {
		err = h.svc.Remove(r.Context(), c)
	} else {
		err = h.svc.RemoveAll(r.Context())
	}
	return status{"ok"}, err
}

func (h *handler) expire(*http.Request) (any, error) {
	h.svc.ExpireIterators()
	return status{"ok"}, nil
}

func (h *handler) limits(r *http.Request) (any, error) {
	var in struct {
		Exact *bool `json:"exact"`
	}
	switch err := readJSON(r, &in); {
	case err != nil:
		return nil, err
	case in.Exact == nil:
		return nil, badRequest(`the body must be {"exact": true} or {"exact": false}`)
	}
	return in, h.svc.SetExactLimits(r.Context(), *in.Exact)
}
