package queue

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of queues. They mean that nothing happened. Calls also return errors of package
// braid, such as braid.ErrInvalidArgument, braid.ErrClosed and braid.ErrOutcomeUnknown.
var (
	// ErrQueueNotFound reports a queue that does not exist, or no longer does. Kinesis:
	// ResourceNotFoundException.
	ErrQueueNotFound = errors.New("no such queue")

	// ErrQueueExists reports that [Create] found a queue of that name, or [Open] one of
	// another stream. Kinesis: ResourceInUseException.
	ErrQueueExists = errors.New("queue already exists")

	// ErrReceiptInvalid reports a text that is not a receipt of this queue. It also reports the
	// receipt of a normal delivery where that of a dead letter is required, and the reverse.
	// Kinesis: InvalidArgumentException.
	ErrReceiptInvalid = errors.New("receipt is not valid for this queue and call")

	// ErrReceiptExpired reports a receipt that no longer holds its record: the record was
	// received again since, or, for every call except an acknowledgement, its visibility
	// timeout has passed. Kinesis: InvalidArgumentException.
	ErrReceiptExpired = errors.New("receipt has expired")

	// ErrRecordSettled reports a record that has left the queue: it was acknowledged, or
	// retention removed it from the stream. Kinesis: ResourceNotFoundException.
	ErrRecordSettled = errors.New("record has left the queue")

	// ErrReject is returned, alone or wrapped, by the function of [Queue.Work] or
	// [Queue.WorkTx] to make its record a dead letter at once, because another attempt would
	// fail the same way.
	ErrReject = errors.New("record is rejected")
)

// ReceiptError is the reason why a call did nothing for one of its receipts.
type ReceiptError struct {
	Index   int // index in the arguments of the call
	Receipt Receipt
	Err     error // ErrReceiptInvalid, ErrReceiptExpired or ErrRecordSettled
}

// Error names the receipt and the reason.
func (e *ReceiptError) Error() string {
	return fmt.Sprintf("receipt %d, %.80q: %v", e.Index, string(e.Receipt), e.Err)
}

// Unwrap returns Err.
func (e *ReceiptError) Unwrap() error { return e.Err }

// ReceiptsError reports the receipts of a call for which nothing was done. For all other
// receipts of the call, the work is done and durable. A transaction is all or nothing:
// there, nothing was done at all.
type ReceiptsError struct {
	Failed []ReceiptError // in the order of the arguments; at least one
}

// Error names the first failed receipt.
func (e *ReceiptsError) Error() string {
	var more strings.Builder
	if n := len(e.Failed) - 1; n > 0 {
		fmt.Fprintf(&more, " (and %d more)", n)
	}
	return e.Failed[0].Error() + more.String()
}

// Unwrap returns the errors of the receipts.
func (e *ReceiptsError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i := range e.Failed {
		errs[i] = &e.Failed[i]
	}
	return errs
}

// callError names the call and the queue that an error belongs to.
type callError struct {
	op, queue string
	cause     error
}

func (e *callError) Error() string {
	return fmt.Sprintf("queue: %s %.140q: %v", e.op, e.queue, e.cause)
}

func (e *callError) Unwrap() error { return e.cause }

func wrap(op, queue string, err error) error {
	if err == nil {
		return nil
	}
	return &callError{op, queue, err}
}
