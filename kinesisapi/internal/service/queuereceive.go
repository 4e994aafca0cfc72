package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/braidstream/braid/queue"
)

// The defaults of members of a receive.
const (
	defaultReceiveLimit = 10
	defaultReceiveWait  = 9 // seconds
)

// receivers has the requests that wait for records.
type receivers struct {
	mu     sync.Mutex // guards the fields below
	closed bool
	of     map[string]map[*receiver]struct{} // by the id of the queue
}

// receiver ends a request's wait with a reason.
type receiver struct{ stop context.CancelCauseFunc }

var (
	errQueueDeleting = errors.New("queue is being deleted")
	errServiceClosed = errors.New("service is closed")
)

// add registers a request that may wait, until leave is called. The returned context ends
// with errQueueDeleting when the queue becomes DELETING, and with errServiceClosed when the
// service closes.
func (r *receivers) add(ctx context.Context, q *queue.Queue) (_ context.Context, leave func()) {
	ctx, stop := context.WithCancelCause(ctx)
	one, id := &receiver{stop}, q.ID()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		stop(errServiceClosed)
		return ctx, func() {}
	}
	if r.of == nil {
		r.of = make(map[string]map[*receiver]struct{})
	}
	if r.of[id] == nil {
		r.of[id] = make(map[*receiver]struct{})
	}
	r.of[id][one] = struct{}{}
	return ctx, func() {
		stop(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.of[id], one)
		if len(r.of[id]) == 0 {
			delete(r.of, id)
		}
	}
}

// end ends all waits for records of a queue.
func (r *receivers) end(q *queue.Queue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for one := range r.of[q.ID()] {
		one.stop(errQueueDeleting)
	}
}

// close ends all current and later waits.
func (r *receivers) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, waiting := range r.of {
		for one := range waiting {
			one.stop(errServiceClosed)
		}
	}
}

// ReceiveQueueRecords is the operation of that name.
func (s *Service) ReceiveQueueRecords(ctx context.Context, c Caller, in *ReceiveInput) (*ReceiveOutput, error) {
	return s.receive(ctx, c, in, (*queue.Queue).Receive)
}

// ReceiveDeadLetterQueueRecords is the operation of that name.
func (s *Service) ReceiveDeadLetterQueueRecords(ctx context.Context, c Caller, in *ReceiveInput) (*ReceiveOutput, error) {
	return s.receive(ctx, c, in, func(q *queue.Queue, ctx context.Context, n int, opts *queue.ReceiveOptions) ([]queue.Record, error) {
		return q.DeadLetters().Receive(ctx, n, opts)
	})
}

// receive waits for records. A request whose context has ended takes none.
func (s *Service) receive(ctx context.Context, c Caller, in *ReceiveInput, from func(*queue.Queue, context.Context, int, *queue.ReceiveOptions) ([]queue.Record, error)) (*ReceiveOutput, error) {
	q, err := s.queue(ctx, c, *in.QueueARN)
	if err != nil {
		return nil, err
	}
	// DeleteQueue first changes the status and then ends the waits, so no wait is missed.
	waiting, leave := s.receivers.add(ctx, q.queue)
	defer leave()
	if !s.delivers(q) {
		return nil, s.queueNotFound(c, *in.QueueARN)
	}
	limit, wait := defaultReceiveLimit, time.Duration(defaultReceiveWait)
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	if in.WaitTimeSeconds != nil {
		wait = time.Duration(*in.WaitTimeSeconds)
	}
	// Do not shrink batches around records that may have crashed the process: the clients run
	// in other processes.
	opts := &queue.ReceiveOptions{Wait: wait * time.Second, Whole: true}
	if in.VisibilityTimeoutSeconds != nil {
		opts.VisibilityTimeout = visibility(*in.VisibilityTimeoutSeconds)
	}
	records, err := from(q.queue, waiting, limit, opts)
	switch {
	case errors.Is(err, errQueueDeleting):
		return nil, s.queueNotFound(c, *in.QueueARN)
	case errors.Is(err, errServiceClosed):
		records = nil // as after the full wait
	case err != nil:
		return nil, s.fromQueue(q, err)
	}
	out := &ReceiveOutput{QueueRecords: make([]QueueRecord, len(records))}
	for i := range records {
		fillQueueRecord(&out.QueueRecords[i], &records[i])
	}
	return out, nil
}

func fillQueueRecord(to *QueueRecord, from *queue.Record) {
	to.ApproximateArrivalTimestamp = from.ArrivalTime
	to.Data = from.Data
	if to.Data == nil {
		to.Data = []byte{}
	}
	to.FirstReceiveTimestamp = from.FirstReceived
	if from.PartitionKey != noPartitionKey {
		to.PartitionKey = &from.PartitionKey
	}
	to.ReceiptHandle = string(from.Receipt)
	to.ReceiveCount = int32(from.Receives)
	to.RecordId = from.ID
}

// AcknowledgeQueueRecords is the operation of that name.
func (s *Service) AcknowledgeQueueRecords(ctx context.Context, c Caller, in *ReceiptsInput) (*ReceiptsOutput, error) {
	acknowledge := (*queue.Queue).Ack
	if IsRedelivering(ctx) {
		acknowledge = redeliver
	}
	return s.settle(ctx, c, *in.QueueARN, handlesOf(in.Entries), acknowledge)
}

// redelivers is the key of the context value of Redelivering.
type redelivers struct{}

// Redelivering returns a context in which AcknowledgeQueueRecords succeeds but its records
// come again. Kinesis may deliver an acknowledged record once more; this service does so
// only when a test asks for it.
func Redelivering(ctx context.Context) context.Context {
	return context.WithValue(ctx, redelivers{}, true)
}

// IsRedelivering reports whether the context comes from Redelivering.
func IsRedelivering(ctx context.Context) bool { return ctx.Value(redelivers{}) != nil }

// redeliver makes records visible again instead of acknowledging them. It acknowledges
// those that cannot come again.
func redeliver(q *queue.Queue, ctx context.Context, receipts ...queue.Receipt) error {
	var refused *queue.ReceiptsError
	var failed []queue.ReceiptError
	for i, r := range receipts {
		err := q.Extend(ctx, 0, r)
		if errors.As(err, &refused) {
			err = q.Ack(ctx, r)
		}
		switch {
		case errors.As(err, &refused):
			failed = append(failed, queue.ReceiptError{Index: i, Receipt: r, Err: refused.Failed[0].Err})
		case err != nil:
			return err
		}
	}
	if failed == nil {
		return nil
	}
	return &queue.ReceiptsError{Failed: failed}
}

// AcknowledgeDeadLetterQueueRecords is the operation of that name.
func (s *Service) AcknowledgeDeadLetterQueueRecords(ctx context.Context, c Caller, in *ReceiptsInput) (*ReceiptsOutput, error) {
	return s.settle(ctx, c, *in.QueueARN, handlesOf(in.Entries), func(q *queue.Queue, ctx context.Context, receipts ...queue.Receipt) error {
		return q.DeadLetters().Discard(ctx, receipts...)
	})
}

// RestoreDeadLetterQueueRecords is the operation of that name.
func (s *Service) RestoreDeadLetterQueueRecords(ctx context.Context, c Caller, in *ReceiptsInput) (*ReceiptsOutput, error) {
	return s.settle(ctx, c, *in.QueueARN, handlesOf(in.Entries), func(q *queue.Queue, ctx context.Context, receipts ...queue.Receipt) error {
		return q.DeadLetters().Restore(ctx, receipts...)
	})
}

// UpdateQueueRecordsVisibility is the operation of that name.
func (s *Service) UpdateQueueRecordsVisibility(ctx context.Context, c Caller, in *VisibilityInput) (*ReceiptsOutput, error) {
	return s.extend(ctx, c, in, (*queue.Queue).Extend)
}

// UpdateDeadLetterQueueRecordsVisibility is the operation of that name.
func (s *Service) UpdateDeadLetterQueueRecordsVisibility(ctx context.Context, c Caller, in *VisibilityInput) (*ReceiptsOutput, error) {
	return s.extend(ctx, c, in, func(q *queue.Queue, ctx context.Context, timeout time.Duration, receipts ...queue.Receipt) error {
		return q.DeadLetters().Extend(ctx, timeout, receipts...)
	})
}

func handlesOf(entries []ReceiptEntry) []queue.Receipt {
	receipts := make([]queue.Receipt, len(entries))
	for i := range entries {
		receipts[i] = queue.Receipt(*entries[i].ReceiptHandle)
	}
	return receipts
}

// settle calls do with the receipts of a request, and returns those that failed.
func (s *Service) settle(ctx context.Context, c Caller, arn string, receipts []queue.Receipt, do func(*queue.Queue, context.Context, ...queue.Receipt) error) (*ReceiptsOutput, error) {
	q, err := s.deliveringQueue(ctx, c, arn)
	if err != nil {
		return nil, err
	}
	failed, err := failures(do(q.queue, ctx, receipts...))
	if err != nil {
		return nil, s.fromQueue(q, err)
	}
	return receiptsOutput(receipts, func(i int) error { return failed[i] }), nil
}

// extend changes how long records stay hidden. Entries with the same timeout become one
// change.
func (s *Service) extend(ctx context.Context, c Caller, in *VisibilityInput, do func(*queue.Queue, context.Context, time.Duration, ...queue.Receipt) error) (*ReceiptsOutput, error) {
	q, err := s.deliveringQueue(ctx, c, *in.QueueARN)
	if err != nil {
		return nil, err
	}
	receipts := make([]queue.Receipt, len(in.Entries))
	errs := make([]error, len(in.Entries))
	var times []int32 // in the order of the entries
	of := make(map[int32][]int)
	for i := range in.Entries {
		e := &in.Entries[i]
		receipts[i] = queue.Receipt(*e.ReceiptHandle)
		if of[*e.VisibilityTimeoutSeconds] == nil {
			times = append(times, *e.VisibilityTimeoutSeconds)
		}
		of[*e.VisibilityTimeoutSeconds] = append(of[*e.VisibilityTimeoutSeconds], i)
	}
	for _, seconds := range times {
		var same []queue.Receipt
		for _, i := range of[seconds] {
			same = append(same, receipts[i])
		}
		failed, err := failures(do(q.queue, ctx, time.Duration(seconds)*time.Second, same...))
		if err != nil {
			return nil, s.fromQueue(q, err)
		}
		for at, err := range failed {
			errs[of[seconds][at]] = err
		}
	}
	return receiptsOutput(receipts, func(i int) error { return errs[i] }), nil
}

// failures returns the failed receipts of a call from its error, by index. Any other error
// is one of the whole call.
func failures(err error) (failed map[int]error, whole error) {
	var refused *queue.ReceiptsError
	if !errors.As(err, &refused) {
		return nil, err
	}
	failed = make(map[int]error)
	for _, f := range refused.Failed {
		failed[f.Index] = f.Err
	}
	return failed, nil
}

// receiptsOutput returns the answer to a request with these receipts.
func receiptsOutput(receipts []queue.Receipt, failed func(i int) error) *ReceiptsOutput {
	out := &ReceiptsOutput{Failed: []ReceiptError{}, Successful: []Receipt{}}
	for i, r := range receipts {
		if err := failed(i); err != nil {
			code, text := receiptError(err)
			out.Failed = append(out.Failed, ReceiptError{code, &text, string(r)})
		} else {
			out.Successful = append(out.Successful, Receipt{string(r)})
		}
	}
	return out
}

func receiptError(err error) (code, text string) {
	switch {
	case errors.Is(err, queue.ErrRecordSettled):
		return "ResourceNotFoundException", "The record of the receipt handle is no longer in the queue."
	case errors.Is(err, queue.ErrReceiptExpired):
		return "InvalidArgumentException", "The receipt handle has expired."
	default:
		return "InvalidArgumentException", "The receipt handle is not valid for this operation and queue."
	}
}
