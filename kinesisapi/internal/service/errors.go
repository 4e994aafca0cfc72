package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/braidstream/braid"
)

// Error is an error of the service: its name, its text, and the HTTP status of the answer.
// The text is the service's own. The error of the database or the key provider is the
// cause, which is logged and never part of an answer.
type Error struct {
	Type    string // such as "ResourceNotFoundException"
	Message string
	Status  int
	Cause   error // nil if Message says all
}

// Error returns the name, the text and the cause, for operators of the service.
func (e *Error) Error() string {
	text := e.Type
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// because sets the cause.
func (e *Error) because(cause error) *Error {
	e.Cause = cause
	return e
}

func failure(name, format string, args ...any) *Error {
	return &Error{Type: name, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

// The errors of the service, by their names.

func notFound(format string, args ...any) *Error {
	return failure("ResourceNotFoundException", format, args...)
}

func inUse(format string, args ...any) *Error {
	return failure("ResourceInUseException", format, args...)
}

func invalidArgument(format string, args ...any) *Error {
	return failure("InvalidArgumentException", format, args...)
}

func limitExceeded(format string, args ...any) *Error {
	return failure("LimitExceededException", format, args...)
}

func throughputExceeded(format string, args ...any) *Error {
	return failure("ProvisionedThroughputExceededException", format, args...)
}

// Invalid is a ValidationException with the text of a request's failures.
func Invalid(message string) *Error { return failure("ValidationException", "%s", message) }

// missing is the error of a request without a member that is required in the stream's
// state.
func missing(member string) *Error {
	return Invalid("1 validation error detected: Value null at '" + member + "' failed to satisfy constraint: Member must not be null")
}

// unknownOperation is the error of an unknown operation, or of one that needs other
// services of AWS.
func unknownOperation(format string, args ...any) *Error {
	return failure("UnknownOperationException", format, args...)
}

func dryRun() *Error {
	return failure("DryRunOperationException", "The request would have succeeded, but the DryRun parameter is set.")
}

// internal is a failure that the caller did not cause, such as a failure of storage.
func internal(err error) *Error {
	return &Error{Type: "InternalFailure", Status: http.StatusInternalServerError, Cause: err}
}

// Texts of the service that several operations use.

func (s *Service) streamNotFound(t target) *Error {
	return notFound("Stream %s under account %s not found.", t.name, t.Account)
}

func (s *Service) shardNotFound(t target, shard braid.ShardID) *Error {
	return notFound("Shard %s in stream %s under account %s does not exist", shard, t.name, t.Account)
}

func (s *Service) noSuchShard(t target, shard string) *Error {
	return notFound("Could not find shard %s in stream %s under account %s.", shard, t.name, t.Account)
}

func (s *Service) notActive(t target, status string) *Error {
	return inUse("Stream %s under account %s not ACTIVE, instead in state %s", t.name, t.Account, status)
}

func (s *Service) hasQueues(t target) *Error {
	return inUse("Stream %s under account %s has queues, which must be deleted first.", t.name, t.Account)
}

func (s *Service) rateExceeded(t target, shard braid.ShardID) *Error {
	return throughputExceeded("Rate exceeded for shard %s in stream %s under account %s.", shard, t.name, t.Account)
}

// keyDenied is the text of KMS for a key that cannot be used, for any reason.
const keyDenied = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."

// fromBraid converts an error of the database to an error of the service. The database's
// text goes to the log, as the cause. Only field, rule and value of a
// [braid.InvalidArgumentError] are part of the answer, because the caller can correct them.
// The error of an ended context is returned unchanged, because nobody waits for the answer.
func (s *Service) fromBraid(t target, err error) error {
	var throughput *braid.ThroughputExceededError
	var invalid *braid.InvalidArgumentError
	var beyond *braid.BeyondTipError
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*Error)):
		return err
	case errors.As(err, &throughput):
		return s.rateExceeded(t, throughput.Shard)
	case errors.Is(err, braid.ErrStreamNotFound):
		return s.streamNotFound(t)
	case errors.Is(err, braid.ErrShardNotFound):
		return notFound("Could not find the shard in stream %s under account %s.", t.name, t.Account).because(err)
	case errors.Is(err, braid.ErrStreamInUse):
		return s.hasQueues(t)
	case errors.Is(err, braid.ErrStreamExists):
		return inUse("Stream %s under account %s already exists.", t.name, t.Account)
	case errors.Is(err, braid.ErrLimitExceeded):
		return limitExceeded("Stream %s under account %s would have more shards or tags than it may.", t.name, t.Account).because(err)
	case errors.Is(err, braid.ErrTxTooLarge):
		return limitExceeded("Stream %s under account %s has too many consumers, tags and policies.", t.name, t.Account)
	case errors.Is(err, braid.ErrKeyUnavailable):
		return failure("KMSAccessDeniedException", keyDenied).because(err)
	case errors.As(err, &invalid):
		return invalidArgument("%s.", strings.TrimPrefix(invalid.Error(), "invalid argument: "))
	case errors.As(err, &beyond):
		return invalidArgument("The place of the ShardIterator in stream %s under account %s, %s, lies beyond all that was ever given out in %s: it comes from a newer copy of the data.",
			t.name, t.Account, beyond.Number, beyond.Shard)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		return internal(err)
	}
}
