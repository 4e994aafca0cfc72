package awskinesis

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

const (
	refusalPause  = 10 * time.Minute // how long a stream is polled after its fan-out was refused
	registerPause = time.Second      // between two checks of a consumer that is not ACTIVE yet
	registerLooks = 60
)

// consumer returns the ARN of the stream's consumer, which is ACTIVE, or "" if the stream is to be
// polled. It registers the consumer if necessary.
func (st *sourceStream) consumer(ctx context.Context) (arn string, err error) {
	s := st.source
	if arn = s.opts.ConsumerARNs[st.name]; arn == "" && s.opts.ConsumerName == "" {
		return "", nil
	}
	select {
	case st.registerTurn <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { <-st.registerTurn }()
	st.mu.Lock()
	known, refused := st.consumerARN, time.Now().Before(st.refusedUntil)
	st.mu.Unlock()
	switch {
	case refused:
		return "", nil
	case arn != "":
		return arn, nil
	case known != "":
		return known, nil
	}
	l, err := st.known(ctx)
	if err != nil {
		return "", err
	}
	if arn, err = s.register(ctx, l.arn); err != nil {
		return "", err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.consumerARN = arn
	return arn, nil
}

// register registers the consumer unless it is registered, waits until it is ACTIVE, and returns
// its ARN. Any number of workers may do so at once.
func (s *Source) register(ctx context.Context, stream string) (arn string, err error) {
	for range registerLooks {
		status, found, err := s.lookUp(ctx, stream, &arn)
		switch {
		case err != nil:
			return "", err
		case status == types.ConsumerStatusActive:
			return arn, nil
		case !found:
			call, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
			_, err = s.client.RegisterStreamConsumer(call, &kinesis.RegisterStreamConsumerInput{StreamARN: &stream, ConsumerName: &s.opts.ConsumerName})
			cancel()
			switch {
			case err == nil:
				s.counts.registered.Add(1)
				s.opts.Logger.Info("registered a consumer of enhanced fan-out", "stream", stream, "consumer", s.opts.ConsumerName)
				continue // it may be ACTIVE
			case codeOf(err) != "ResourceInUseException": // another worker has registered it, or the stream is being changed
				return "", err
			}
		}
		if err := sleepUntil(ctx, time.Now().Add(registerPause)); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("consumer %q of %s did not become ACTIVE within %d s", s.opts.ConsumerName, stream, registerLooks)
}

// lookUp sets arn to the ARN of the consumer, and returns its status.
func (s *Source) lookUp(ctx context.Context, stream string, arn *string) (status types.ConsumerStatus, found bool, err error) {
	call, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	out, err := s.client.DescribeStreamConsumer(call, &kinesis.DescribeStreamConsumerInput{StreamARN: &stream, ConsumerName: &s.opts.ConsumerName})
	switch {
	case err != nil && codeOf(err) == "ResourceNotFoundException":
		return "", false, nil
	case err != nil:
		return "", false, err
	case out.ConsumerDescription == nil:
		return "", false, fmt.Errorf("consumer %q of %s has an empty description", s.opts.ConsumerName, stream)
	}
	*arn = aws.ToString(out.ConsumerDescription.ConsumerARN)
	return out.ConsumerDescription.ConsumerStatus, true, nil
}

// forgetConsumer forgets a consumer that no longer exists, so that the next reader looks it up
// again.
func (st *sourceStream) forgetConsumer() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.consumerARN = ""
}

// Deregister ends the registration of [SourceOptions].ConsumerName with a stream, and its cost.
// Call it when no worker uses the consumer to read the stream any longer; a worker that still does
// would register it again. If the consumer is not registered, Deregister does nothing and returns
// nil. Errors: [braid.ErrInvalidArgument] without a ConsumerName, [braid.ErrStreamNotFound], and
// those of the client.
func (s *Source) Deregister(ctx context.Context, stream string) error {
	if s.opts.ConsumerName == "" {
		return wrapStream("deregister from", stream, invalid("SourceOptions.ConsumerName", "empty", "must name the consumer"))
	}
	st := s.stream(stream)
	l, err := st.known(ctx)
	if err != nil {
		return wrapStream("deregister from", stream, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	_, err = s.client.DeregisterStreamConsumer(ctx, &kinesis.DeregisterStreamConsumerInput{StreamARN: &l.arn, ConsumerName: &s.opts.ConsumerName})
	if err != nil && codeOf(err) != "ResourceNotFoundException" {
		return wrapStream("deregister from", stream, permanentIf(err))
	}
	st.forgetConsumer()
	return nil
}
