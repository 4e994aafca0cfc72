// Package errorkind lists the sentinel errors of packages braid, consumer and queue, with the
// name and the HTTP status that package inspect sends for each and that the command turns back
// into the error. Tests use the list to check that an error is of one class.
package errorkind

import (
	"errors"
	"net/http"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// Kind is a sentinel error, and its name and status in HTTP answers.
type Kind struct {
	Err    error
	Status int    // of HTTP
	Name   string // of the sentinel, without its Err
}

// All has every exported sentinel of the three packages; TestEverySentinelHasAKind of
// internal/policy fails if one is missing. The first one that matches an error counts:
// ErrOutcomeUnknown and ErrKeyUnavailable wrap their causes, so they precede them. Callers must
// not change the list.
var All = []Kind{
	{braid.ErrOutcomeUnknown, http.StatusGatewayTimeout, "OutcomeUnknown"},

	{braid.ErrInvalidArgument, http.StatusBadRequest, "InvalidArgument"},
	{braid.ErrStreamNotFound, http.StatusNotFound, "StreamNotFound"},
	{braid.ErrShardNotFound, http.StatusNotFound, "ShardNotFound"},
	{braid.ErrStreamExists, http.StatusConflict, "StreamExists"},
	{braid.ErrStreamInUse, http.StatusConflict, "StreamInUse"},
	{braid.ErrLimitExceeded, http.StatusConflict, "LimitExceeded"},
	{braid.ErrThroughputExceeded, http.StatusTooManyRequests, "ThroughputExceeded"},
	{braid.ErrTxTooLarge, http.StatusConflict, "TxTooLarge"},
	{braid.ErrTxConflict, http.StatusConflict, "TxConflict"},
	{braid.ErrTrimmed, http.StatusGone, "Trimmed"},
	{braid.ErrBeyondTip, http.StatusConflict, "BeyondTip"},
	{braid.ErrKeyUnavailable, http.StatusConflict, "KeyUnavailable"},
	{braid.ErrKeyNotFound, http.StatusNotFound, "KeyNotFound"},
	{braid.ErrReadOnly, http.StatusForbidden, "ReadOnly"},
	{braid.ErrDiskFull, http.StatusServiceUnavailable, "DiskFull"},
	{braid.ErrOutOfResources, http.StatusServiceUnavailable, "OutOfResources"},
	{braid.ErrClosed, http.StatusServiceUnavailable, "Closed"},
	{braid.ErrFailed, http.StatusServiceUnavailable, "Failed"},
	{braid.ErrLocked, http.StatusServiceUnavailable, "Locked"},
	{braid.ErrCorrupt, http.StatusInternalServerError, "Corrupt"},
	{braid.ErrDataLoss, http.StatusInternalServerError, "DataLoss"},
	{braid.ErrFormatTooNew, http.StatusInternalServerError, "FormatTooNew"},
	{braid.ErrFormatTooOld, http.StatusInternalServerError, "FormatTooOld"},

	{consumer.ErrAppNotFound, http.StatusNotFound, "AppNotFound"},
	{consumer.ErrLeaseLost, http.StatusConflict, "LeaseLost"},

	{queue.ErrQueueNotFound, http.StatusNotFound, "QueueNotFound"},
	{queue.ErrQueueExists, http.StatusConflict, "QueueExists"},
	{queue.ErrReceiptInvalid, http.StatusBadRequest, "ReceiptInvalid"},
	{queue.ErrReceiptExpired, http.StatusConflict, "ReceiptExpired"},
	{queue.ErrRecordSettled, http.StatusConflict, "RecordSettled"},
	{queue.ErrReject, http.StatusConflict, "Reject"},
}

// Of returns the kind of an error; ok is false if it has none.
func Of(err error) (Kind, bool) {
	for _, kind := range All {
		if errors.Is(err, kind.Err) {
			return kind, true
		}
	}
	return Kind{}, false
}

// Named returns the sentinel of that name, and nil if there is none.
func Named(name string) error {
	for _, kind := range All {
		if kind.Name == name {
			return kind.Err
		}
	}
	return nil
}
