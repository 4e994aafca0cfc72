package awskinesis

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/braidstream/braid"
)

// kind is the kind of a failure.
type kind int8

const (
	permanent kind = iota // the same request would fail again
	throttle              // nothing was stored; a retry may succeed
	transient             // a retry may succeed
)

// failure is why an attempt failed.
type failure struct {
	kind  kind
	maybe bool // something may have been stored
	err   error
}

// codes maps errors of the service to errors of braid, and throttling.
var codes = map[string]struct {
	kind kind
	is   error
}{
	"ValidationException":                    {permanent, braid.ErrInvalidArgument},
	"InvalidArgumentException":               {permanent, braid.ErrInvalidArgument},
	"ResourceNotFoundException":              {permanent, braid.ErrStreamNotFound},
	"KMSDisabledException":                   {permanent, braid.ErrKeyUnavailable},
	"KMSInvalidStateException":               {permanent, braid.ErrKeyUnavailable},
	"KMSAccessDeniedException":               {permanent, braid.ErrKeyUnavailable},
	"KMSNotFoundException":                   {permanent, braid.ErrKeyUnavailable},
	"KMSOptInRequired":                       {permanent, braid.ErrKeyUnavailable},
	"KMSThrottlingException":                 {throttle, braid.ErrKeyUnavailable},
	"ProvisionedThroughputExceededException": {throttle, braid.ErrThroughputExceeded},
	"LimitExceededException":                 {throttle, braid.ErrLimitExceeded},
	"ThrottlingException":                    {throttle, braid.ErrThroughputExceeded},
	"Throttling":                             {throttle, braid.ErrThroughputExceeded},
	"RequestLimitExceeded":                   {throttle, braid.ErrThroughputExceeded},
}

// classify classifies a call's error. After an error that is not an answer of the service, or a
// failure of the service itself, records may have been stored.
func classify(err error) failure {
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	status := 0
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	if errors.As(err, &api) {
		if c, ok := codes[api.ErrorCode()]; ok {
			return failure{kind: c.kind, err: fmt.Errorf("%w: %w", c.is, err)}
		}
		if status >= 400 && status < 500 {
			return failure{kind: permanent, err: err} // such as AccessDeniedException
		}
		return failure{kind: transient, maybe: true, err: err}
	}
	var serialization *smithy.SerializationError
	var op *net.OpError
	switch {
	case status >= 400 && status < 500:
		return failure{kind: permanent, err: err}
	case errors.As(err, &serialization):
		return failure{kind: permanent, err: err}
	case errors.As(err, &op) && op.Op == "dial" && status == 0:
		return failure{kind: transient, err: err} // it was not sent
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failure{kind: transient, maybe: true, err: err}
	case neverSent(err):
		return failure{kind: transient, err: err}
	}
	return failure{kind: transient, maybe: true, err: err}
}

// neverSent reports whether the SDK failed before it sent a request, for instance for lack of
// credentials or of an endpoint.
func neverSent(err error) bool {
	var send *smithyhttp.RequestSendError
	var response *smithyhttp.ResponseError
	var deserialization *smithy.DeserializationError
	var operation *smithy.OperationError
	return errors.As(err, &operation) && !errors.As(err, &send) && !errors.As(err, &response) && !errors.As(err, &deserialization)
}

// classifyEntry classifies the error of an entry. The error says that the entry was not stored,
// but after an internal failure the service may not know.
func classifyEntry(code, message string) failure {
	err := fmt.Errorf("%s: %s", code, message)
	if c, ok := codes[code]; ok {
		return failure{kind: c.kind, err: fmt.Errorf("%w: %w", c.is, err)}
	}
	return failure{kind: transient, maybe: true, err: err}
}
