package control

import (
	"net/http"
	"time"
)

// waiting is the JSON of a queue.
type waiting struct {
	Name     string    `json:"name"`
	ARN      string    `json:"arn"`
	Stream   string    `json:"stream"`
	Status   string    `json:"status"`
	Created  time.Time `json:"created"`
	Visible  int64     `json:"visible"`  // records that can be received
	InFlight int64     `json:"inFlight"` // received, and hidden
	Delayed  int64     `json:"delayed"`  // not visible before a later time
	Dead     int64     `json:"dead"`     // dead letters
}

func (h *handler) queues(r *http.Request) (any, error) {
	c, _, err := h.who(r)
	if err != nil {
		return nil, err
	}
	all, err := h.svc.ManagedQueues(r.Context(), c)
	if err != nil {
		return nil, err
	}
	queues := make([]waiting, 0, len(all))
	for _, m := range all {
		d, err := m.Queue.Describe(r.Context())
		if err != nil {
			return nil, err
		}
		queues = append(queues, waiting{
			Name: m.Name, ARN: m.ARN, Stream: m.Stream, Status: m.Status, Created: d.CreatedAt,
			Visible: d.Visible, InFlight: d.InFlight, Delayed: d.Delayed + d.Held, Dead: d.Dead,
		})
	}
	return map[string][]waiting{"queues": queues}, nil
}
