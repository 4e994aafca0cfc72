// Package errorkind lists the errors of packages braid, consumer and queue that package
// inspect answers by name: the sentinels, with their HTTP status, and the typed errors, with
// their fields. The command makes the same errors again from the answer. Tests use the list
// to check that an error is of one class.
package errorkind

import (
	"errors"
	"net/http"
	"reflect"

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

// Typed is an error type whose fields HTTP answers carry as JSON.
type Typed struct {
	Name string            // of the type, such as "TrimmedError"
	New  func() error      // returns a new one, to read JSON into
	find func(error) error // returns the one in an error, or nil
}

// Details has the exported error types that an answer of package inspect can have;
// TestEveryErrorTypeHasDetails of internal/policy fails if one is missing. Of those that
// an error has, the first counts. Do not change the list.
var Details = []Typed{
	typed[braid.InvalidArgumentError](),
	typed[braid.TrimmedError](),
	typed[braid.BeyondTipError](),
	typed[braid.CorruptError](),
	typed[braid.ThroughputExceededError](),
	typed[queue.ReceiptsError](),
}

func typed[E any, P interface {
	*E
	error
}]() Typed {
	return Typed{
		Name: reflect.TypeFor[E]().Name(),
		New:  func() error { return P(new(E)) },
		find: func(err error) error {
			if e := P(nil); errors.As(err, &e) {
				return e
			}
			return nil
		},
	}
}

// DetailOf returns the typed error in err and the name of its type, or nil and "".
func DetailOf(err error) (name string, detail error) {
	for _, t := range Details {
		if e := t.find(err); e != nil {
			return t.Name, e
		}
	}
	return "", nil
}

// NewDetail returns a new error of the type of that name, to read JSON into, and nil if
// there is none.
func NewDetail(name string) error {
	for _, t := range Details {
		if t.Name == name {
			return t.New()
		}
	}
	return nil
}
