package awskinesis

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// refundRefusals keeps the client's retryer, but counts a refused condition as a success of the
// call. The SDK pays for retries from a quota, and gives back the cost of a retry that succeeds. A
// refusal is a normal answer here: it is how a write whose response was lost finds out that it was
// stored. Without the refund, each such write would cost a part of the quota, and once that is used
// up no call is retried. TestRefusalsCostNoRetries goes red without it.
func refundRefusals(o *dynamodb.Options) {
	if o.Retryer != nil {
		o.Retryer = refundingRetryer{o.Retryer}
	}
}

// refundingRetryer wraps a retryer of the SDK, and reports refused conditions to it as successes.
type refundingRetryer struct{ aws.Retryer }

// GetAttemptToken makes a refundingRetryer an [aws.RetryerV2], even if the wrapped one is not.
func (r refundingRetryer) GetAttemptToken(ctx context.Context) (release func(error) error, err error) {
	if v2, is := r.Retryer.(aws.RetryerV2); is {
		release, err = v2.GetAttemptToken(ctx)
		return refunding(release), err
	}
	return r.GetInitialToken(), nil
}

func (r refundingRetryer) GetInitialToken() (release func(error) error) {
	return refunding(r.Retryer.GetInitialToken())
}

func (r refundingRetryer) GetRetryToken(ctx context.Context, failure error) (release func(error) error, err error) {
	release, err = r.Retryer.GetRetryToken(ctx, failure)
	return refunding(release), err
}

func refunding(release func(error) error) func(error) error {
	if release == nil { // with an error
		return nil
	}
	return func(failure error) error {
		if isRefused(failure) {
			failure = nil
		}
		return release(failure)
	}
}
