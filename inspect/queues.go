package inspect

import (
	"context"
	"errors"
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
		if errors.Is(err, queue.ErrQueueNotFound) {
			continue // it was deleted in the meantime
		}
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

// queueOf returns the queue in the path.
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
	Receipt       queue.Receipt // restores or discards the letter; empty while a receiver has it
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
		one := deadRecord{v.show(&rec.Record), rec.ID, rec.Receipt, rec.Receives, rec.FirstReceived, rec.Reason, jsontext.Duration(time.Since(rec.ArrivalTime))}
		shown += len(one.Data)
		out.Records = append(out.Records, one)
	}
	return out, nil
}

// maxReceipts is how many dead letters a request can settle: as many as an answer lists.
const maxReceipts = maxRecords

// restore puts dead letters back into their queue.
func (h *handler) restore(r *http.Request) (any, error) {
	var in struct {
		Receipts []queue.Receipt
		All      bool
	}
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	q, err := h.queueOf(r)
	if err != nil {
		return nil, err
	}
	n := len(in.Receipts)
	switch {
	case !in.All:
		err = settle(r.Context(), in.Receipts, q.DeadLetters().Restore)
	case n > 0:
		err = badRequest("Receipts and All exclude each other; give one of them")
	default:
		n, err = q.DeadLetters().RestoreAll(r.Context())
	}
	return struct{ Restored int }{n}, err
}

// discard removes dead letters from their queue.
func (h *handler) discard(r *http.Request) (any, error) {
	var in struct{ Receipts []queue.Receipt }
	if err := readBody(r, &in); err != nil {
		return nil, err
	}
	q, err := h.queueOf(r)
	if err != nil {
		return nil, err
	}
	return struct{ Discarded int }{len(in.Receipts)}, settle(r.Context(), in.Receipts, q.DeadLetters().Discard)
}

func settle(ctx context.Context, receipts []queue.Receipt, fn func(context.Context, ...queue.Receipt) error) error {
	if n := len(receipts); n < 1 || n > maxReceipts {
		return badRequest("Receipts has %d; it must have 1 to %d receipts of dead letters", n, maxReceipts)
	}
	return fn(ctx, receipts...)
}
