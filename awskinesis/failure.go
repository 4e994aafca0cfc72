package awskinesis

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/braidstream/braid"
)

// kind classifies a failure by whether a retry can help.
type kind int8

const (
	permanent kind = iota // the same request fails again
	throttle              // nothing was stored; a later attempt may succeed
	transient             // it may be temporary
)

// failure is why an attempt failed.
type failure struct {
	kind  kind
	maybe bool // something may have been stored
	err   error
}

// codes are the errors of the service that correspond to one of braid's, or mean throttling.
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

// classify classifies the error of a call. If the error is not a response of the service, or is a
// failure of the service itself, something may have been stored.
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
		if status < 400 || status >= 500 {
			return failure{kind: transient, maybe: true, err: err}
		}
		return failure{kind: kindOf(err), err: err}
	}
	var serialization *smithy.SerializationError
	var op *net.OpError
	switch {
	case status >= 400 && status < 500:
		return failure{kind: kindOf(err), err: err}
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

var (
	throttles  = retry.IsErrorThrottles(retry.DefaultThrottles)
	retryables = retry.IsErrorRetryables(retry.DefaultRetryables)
)

// kindOf classifies a request that was refused with a code or a status that is not in codes, as the
// SDK would: it retries one that did not arrive in time, that a proxy throttled, or that was signed
// with the wrong time, which the SDK then corrects.
func kindOf(err error) kind {
	switch {
	case throttles.IsErrorThrottle(err).Bool():
		return throttle
	case retryables.IsErrorRetryable(err).Bool():
		return transient
	}
	return permanent // such as AccessDeniedException
}

// neverSent reports whether the SDK gave up before it made a request, for example for lack of
// credentials or an endpoint.
func neverSent(err error) bool {
	var send *smithyhttp.RequestSendError
	var response *smithyhttp.ResponseError
	var deserialization *smithy.DeserializationError
	var operation *smithy.OperationError
	return errors.As(err, &operation) && !errors.As(err, &send) && !errors.As(err, &response) && !errors.As(err, &deserialization)
}

// classifyEntry classifies the error of an entry. It means that the entry was not stored, except
// after an internal failure, when the service may not know.
func classifyEntry(code, message string) failure {
	err := fmt.Errorf("%s: %s", code, message)
	if c, ok := codes[code]; ok {
		return failure{kind: c.kind, err: fmt.Errorf("%w: %w", c.is, err)}
	}
	return failure{kind: transient, maybe: true, err: err}
}
