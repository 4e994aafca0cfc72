package service

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// Whatever error the database returns, callers get a text of the service, and the log gets
// the cause. Every sentinel of package braid has a row, which internal/policy checks.
func TestTextsOfTheDatabaseAreNoAnswers(t *testing.T) {
	s := &Service{}
	target := target{Caller{"000000000000", "us-east-1"}, "orders", "orders"}
	secret := errors.New("secret: open /var/lib/braid/store/000123.sst")
	const of = "Stream orders under account 000000000000 "
	for _, row := range []struct {
		err       error
		errorType string
		message   string
	}{
		{braid.ErrStreamNotFound, "ResourceNotFoundException", of + "not found."},
		{braid.ErrShardNotFound, "ResourceNotFoundException", "Could not find the shard in stream orders under account 000000000000."},
		{braid.ErrStreamInUse, "ResourceInUseException", of + "has queues, which must be deleted first."},
		{braid.ErrStreamExists, "ResourceInUseException", of + "already exists."},
		{braid.ErrLimitExceeded, "LimitExceededException", of + "would have more shards or tags than it may."},
		{braid.ErrTxTooLarge, "LimitExceededException", of + "has too many consumers, tags and policies."},
		{braid.ErrKeyUnavailable, "KMSAccessDeniedException", keyDenied},
		{
			&braid.ThroughputExceededError{Shard: "shardId-000000000007", Budget: "RecordsPerSecond", RetryAfter: time.Second},
			"ProvisionedThroughputExceededException", "Rate exceeded for shard shardId-000000000007 in stream orders under account 000000000000.",
		},
		{
			&braid.InvalidArgumentError{Field: "Shards", Value: 20000, Rule: "must be 1 to 10000"},
			"InvalidArgumentException", "Shards must be 1 to 10000; it is 20000.",
		},
		{
			&braid.BeyondTipError{Shard: "shardId-000000000007"},
			"InvalidArgumentException", "The place of the ShardIterator in stream orders under account 000000000000, 0, lies beyond all that was ever given out in shardId-000000000007: it comes from a newer copy of the data.",
		},
		{braid.ErrLocked, "InternalFailure", ""},
		{braid.ErrFormatTooNew, "InternalFailure", ""},
		{braid.ErrFormatTooOld, "InternalFailure", ""},
		{braid.ErrReadOnly, "InternalFailure", ""},
		{braid.ErrTxConflict, "InternalFailure", ""},
		{braid.ErrOutOfResources, "InternalFailure", ""},
		{braid.ErrClosed, "InternalFailure", ""},
		{braid.ErrCorrupt, "InternalFailure", ""},
		{braid.ErrDataLoss, "InternalFailure", ""},
		{braid.ErrDiskFull, "InternalFailure", ""},
		{braid.ErrFailed, "InternalFailure", ""},
		{braid.ErrKeyNotFound, "InternalFailure", ""},
		{braid.ErrOutcomeUnknown, "InternalFailure", ""},
		{braid.ErrTrimmed, "InternalFailure", ""},
		{secret, "InternalFailure", ""},
	} {
		wrapped := fmt.Errorf("braid: put record orders: %w: %w", row.err, secret)
		var e *Error
		require.ErrorAs(t, s.fromBraid(target, wrapped), &e)
		require.Equal(t, row.errorType, e.Type)
		require.Equal(t, row.message, e.Message, "%v", row.err)
		if row.message == "" {
			require.Equal(t, http.StatusInternalServerError, e.Status)
			require.Equal(t, wrapped, e.Cause, "for the log")
			e, _ = (&Subscription{s: s, t: target}).inStream(wrapped).(*Error)
			require.Equal(t, &Error{Type: "InternalFailureException", Status: http.StatusInternalServerError, Cause: wrapped}, e)
		}
	}
}
