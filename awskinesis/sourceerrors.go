package awskinesis

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/smithy-go"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// readCodes are the permanent errors of the service, each with the corresponding error of braid.
// All others may be temporary: throttling, failures of the service, expired credentials, and a key
// in a transitional state.
var readCodes = map[string]error{
	"AccessDeniedException":     nil,
	"ValidationException":       braid.ErrInvalidArgument,
	"InvalidArgumentException":  braid.ErrInvalidArgument,
	"KMSAccessDeniedException":  braid.ErrKeyUnavailable,
	"KMSDisabledException":      braid.ErrKeyUnavailable,
	"KMSNotFoundException":      braid.ErrKeyUnavailable,
	"KMSOptInRequired":          braid.ErrKeyUnavailable,
	"UnknownOperationException": nil,
}

// codeOf returns the service's code of an error, or "" if the error is not from the service.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func isThrottle(err error) bool { return codes[codeOf(err)].kind == throttle }

// permanentIf wraps err in a [consumer.PermanentError] if it is not temporary.
func permanentIf(err error) error {
	is, permanent := readCodes[codeOf(err)]
	switch {
	case !permanent:
		return err
	case is != nil:
		err = fmt.Errorf("%w: %w", is, err)
	}
	return &consumer.PermanentError{Err: err}
}

// streamError maps the error of a call about a stream.
func streamError(err error) error {
	if codeOf(err) == "ResourceNotFoundException" {
		return fmt.Errorf("%w: %w", braid.ErrStreamNotFound, err)
	}
	return permanentIf(err)
}

// explain maps an error of reading. The service returns the same error for a missing stream, a
// missing shard, and a new stream with the old one's name; a listing shows which it is. If the
// shard is listed but cannot be found, the error is temporary. Otherwise a listing that lags behind
// would make workers take its lease again and again.
func (r *shardReader) explain(ctx context.Context, err error) error {
	code := codeOf(err)
	if code != "ResourceNotFoundException" && code != "InvalidArgumentException" {
		return permanentIf(err)
	}
	l, listErr := r.stream.list(ctx)
	if listErr != nil {
		return listErr
	}
	shard := l.find(r.id)
	switch number := r.at.SequenceNumber(); {
	case l.incarnation() != r.listing.incarnation():
		return fmt.Errorf("%w: another stream has its name: %w", braid.ErrStreamNotFound, err)
	case shard == nil:
		return fmt.Errorf("%w: %w", braid.ErrShardNotFound, err)
	case !number.IsZero() && number.Compare(shard.Start.SequenceNumber()) < 0:
		return fmt.Errorf("%w: %s is from an earlier stream of that name: %w", braid.ErrStreamNotFound, number, err)
	case code == "InvalidArgumentException" && !number.IsZero():
		return permanentIf(err)
	}
	return err // for a time that is later than the service's clock
}

// refusesFanOut reports whether an error concerns enhanced fan-out itself, so that polling may
// work.
func refusesFanOut(err error) bool {
	switch codeOf(err) {
	case "AccessDeniedException", "LimitExceededException", "UnknownOperationException", "ValidationException":
		return true
	}
	return false
}

func wrapStream(op, stream string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("awskinesis: %s %.300q: %w", op, stream, err)
}

func wrapShard(op, stream string, shard braid.ShardID, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("awskinesis: %s %s of %.300q: %w", op, shard, stream, err)
}
