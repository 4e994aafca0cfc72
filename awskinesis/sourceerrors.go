package awskinesis

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/smithy-go"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// readCodes are the errors of the service that do not pass by themselves, each with the error
// of braid that it stands for. All others may: throttling, failures of the service, credentials
// that have expired, and a key that is in a state between two others.
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

// codeOf returns the service's name of an error, "" if it is not one of the service.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func isThrottle(err error) bool { return codes[codeOf(err)].kind == throttle }

// permanentIf makes a permanent error of one that does not pass.
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

// streamError is what an error of a call about a stream means.
func streamError(err error) error {
	if codeOf(err) == "ResourceNotFoundException" {
		return fmt.Errorf("%w: %w", braid.ErrStreamNotFound, err)
	}
	return permanentIf(err)
}

// explain is what an error of reading means. The service says the same of a stream and of a
// shard that are not there, and of a stream that has taken the name of another one: which it
// is, a listing tells. A shard that is listed and cannot be found is to be tried again, so
// that a listing that lags behind does not make workers take its lease on and on.
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
		return fmt.Errorf("%w: another one has its name: %w", braid.ErrStreamNotFound, err)
	case shard == nil:
		return fmt.Errorf("%w: %w", braid.ErrShardNotFound, err)
	case !number.IsZero() && number.Compare(shard.Start.SequenceNumber()) < 0:
		return fmt.Errorf("%w: %s is of another one that had its name: %w", braid.ErrStreamNotFound, number, err)
	case code == "InvalidArgumentException" && !number.IsZero():
		return permanentIf(err)
	}
	return err // of a time, which is later than the service's clock
}

// refusesFanOut reports whether an error is one of enhanced fan-out itself: polling may do.
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
