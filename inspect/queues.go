package inspect

import (
	"net/http"
	"time"

	"github.com/braidstream/braid/internal/jsontext"
	"github.com/braidstream/braid/queue"
)

const maxQueues = 1000

type queueList struct {
	Time   time.Time
	Queues []*queue.Description
	More   bool
}

func (h *handler) listQueues(r *http.Request) (any, error) {
	if err := onlyParameters(r, "after", "limit"); err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", maxQueues, 1, maxQueues)
	if err != nil {
		return nil, err
	}
	queues, err := queue.List(r.Context(), h.db, "")
	if err != nil {
		return nil, err
	}
	out := queueList{Time: time.Now(), Queues: []*queue.Description{}}
	after := r.URL.Query().Get("after") // in the order of creation
	begun := after == ""
	for _, q := range queues {
		if !begun {
			begun = q.Name() == after
			continue
		}
		if len(out.Queues) == limit {
			out.More = true
			break
		}
		d, err := q.Describe(r.Context())
		if err != nil {
			return nil, err
		}
		out.Queues = append(out.Queues, d)
	}
	if !begun {
		return nil, queue.ErrQueueNotFound
	}
	return out, nil
}

// queueOf returns the queue that the path names.
func (h *handler) queueOf(r *http.Request) (*queue.Queue, error) {
	return queue.Get(r.Context(), h.db, r.PathValue("queue"))
}

type queueAnswer struct {
	Time  time.Time
	Queue *queue.Description
}

func (h *handler) describeQueue(r *http.Request) (any, error) {
	if err := onlyParameters(r); err != nil {
		return nil, err
	}
	q, err := h.queueOf(r)
	if err != nil {
		return nil, err
	}
	d, err := q.Describe(r.Context())
	if err != nil {
		return nil, err
	}
	return queueAnswer{time.Now(), d}, nil
}

// deadRecord is a dead letter of a queue.
type deadRecord struct {
	record
	ID            string
	Receives      int
	FirstReceived time.Time
	Reason        string
	Age           jsontext.Duration
}

type deadAnswer struct {
	Records []deadRecord // oldest first
	More    bool
}

func (h *handler) queueDeadLetters(r *http.Request) (any, error) {
	if err := onlyParameters(r, "limit", "data", "encrypted"); err != nil {
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
	q, err := h.queueOf(r)
	if err != nil {
		return nil, err
	}
	out := deadAnswer{Records: []deadRecord{}}
	shown := 0
	for rec, err := range q.DeadLetters().All(r.Context()) {
		if err != nil {
			return nil, err
		}
		if len(out.Records) == limit || shown > maxAnswerBytes {
			out.More = true
			break
		}
		one := deadRecord{v.show(&rec.Record), rec.ID, rec.Receives, rec.FirstReceived, rec.Reason, jsontext.Duration(time.Since(rec.ArrivalTime))}
		shown += len(one.Data)
		out.Records = append(out.Records, one)
	}
	return out, nil
}

// restore makes all dead letters of a queue records of it again.
func (h *handler) restore(r *http.Request) (any, error) {
	if err := readBody(r, &struct{}{}); err != nil {
		return nil, err
	}
	q, err := h.queueOf(r)
	if err != nil {
		return nil, err
	}
	n, err := q.DeadLetters().RestoreAll(r.Context())
	return struct{ Restored int }{n}, err
}
