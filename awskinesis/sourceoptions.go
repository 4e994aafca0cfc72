package awskinesis

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
)

// SourceClient is the part of the Kinesis API that a [Source] uses. A *kinesis.Client of the AWS
// SDK for Go v2 implements it. A source that does not use enhanced fan-out calls only the first
// four methods. All methods may be called by several goroutines at once.
type SourceClient interface {
	DescribeStreamSummary(ctx context.Context, in *kinesis.DescribeStreamSummaryInput, options ...func(*kinesis.Options)) (*kinesis.DescribeStreamSummaryOutput, error)
	ListShards(ctx context.Context, in *kinesis.ListShardsInput, options ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(ctx context.Context, in *kinesis.GetShardIteratorInput, options ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, options ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)

	DescribeStreamConsumer(ctx context.Context, in *kinesis.DescribeStreamConsumerInput, options ...func(*kinesis.Options)) (*kinesis.DescribeStreamConsumerOutput, error)
	RegisterStreamConsumer(ctx context.Context, in *kinesis.RegisterStreamConsumerInput, options ...func(*kinesis.Options)) (*kinesis.RegisterStreamConsumerOutput, error)
	DeregisterStreamConsumer(ctx context.Context, in *kinesis.DeregisterStreamConsumerInput, options ...func(*kinesis.Options)) (*kinesis.DeregisterStreamConsumerOutput, error)
	SubscribeToShard(ctx context.Context, in *kinesis.SubscribeToShardInput, options ...func(*kinesis.Options)) (*kinesis.SubscribeToShardOutput, error)
}

const (
	minPollInterval = 200 * time.Millisecond // a shard accepts five reads per second
	maxPollInterval = time.Minute            // an iterator lasts five minutes

	defaultPollInterval = 250 * time.Millisecond
	defaultIdleInterval = 1500 * time.Millisecond
	defaultReadTimeout  = 30 * time.Second
)

// SourceOptions are the settings of a [Source]. The zero value of each field is a safe default;
// the zero SourceOptions poll.
type SourceOptions struct {
	// ConsumerName is the name of a consumer for enhanced fan-out: up to 128 characters of a-z,
	// A-Z, 0-9, '_', '.' and '-'. The default, "", means polling. The source registers the consumer
	// at the first read of each stream, unless it is already registered. Each application needs its
	// own name. [Source.Deregister] ends the registration and its cost.
	ConsumerName string

	// ConsumerARNs has the ARNs of enhanced fan-out consumers that are registered elsewhere, by
	// stream, named as in Config.Streams. ConsumerName applies to all other streams.
	ConsumerARNs map[string]string

	// PollOnRefusal makes the source poll a stream for ten minutes when the service refuses
	// enhanced fan-out, because permissions are missing, the stream has too many consumers, or the
	// service does not support it. By default the shard stops, or the worker retries.
	PollOnRefusal bool

	// PollInterval is the minimum time between two reads of a shard in this process. The default is
	// 250 ms; the range is 200 ms to 1 min. A shard allows five reads per second, shared by all
	// applications that poll it.
	PollInterval time.Duration

	// IdleInterval is the time between two reads of an idle shard. The default is 1.5 s, or
	// PollInterval if that is more; the range is PollInterval to 1 min. While no records arrive,
	// the pause grows from PollInterval to IdleInterval; a record resets it. A shorter interval
	// finds the first record after a silence sooner; a longer one leaves more reads to other
	// applications.
	IdleInterval time.Duration

	// RequestTimeout is how long a call may take before it is given up. The default is 30 s. It
	// does not limit how long a subscription lasts.
	RequestTimeout time.Duration

	// Logger receives messages about consumers that are registered, and about streams that are
	// polled because fan-out is refused. The default is slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with defaults filled in, or an error for an invalid one.
func (o *SourceOptions) withDefaults() (*SourceOptions, error) {
	var opts SourceOptions
	if o != nil {
		opts = *o
	}
	opts.ConsumerARNs = maps.Clone(opts.ConsumerARNs)
	opts.PollInterval = cmp.Or(opts.PollInterval, defaultPollInterval)
	opts.IdleInterval = cmp.Or(opts.IdleInterval, max(defaultIdleInterval, opts.PollInterval))
	opts.RequestTimeout = cmp.Or(opts.RequestTimeout, defaultReadTimeout)
	switch {
	case opts.PollInterval < minPollInterval || opts.PollInterval > maxPollInterval:
		return nil, invalid("SourceOptions.PollInterval", opts.PollInterval, fmt.Sprintf("must be %v to %v, or 0 for %v", minPollInterval, maxPollInterval, defaultPollInterval))
	case opts.IdleInterval < opts.PollInterval || opts.IdleInterval > maxPollInterval:
		return nil, invalid("SourceOptions.IdleInterval", opts.IdleInterval, fmt.Sprintf("must be PollInterval, which is %v, to %v", opts.PollInterval, maxPollInterval))
	case opts.RequestTimeout < 0:
		return nil, invalid("SourceOptions.RequestTimeout", opts.RequestTimeout, "must not be negative")
	case len(opts.ConsumerName) > 128:
		return nil, invalid("SourceOptions.ConsumerName", fmt.Sprintf("%.140q", opts.ConsumerName), "must be up to 128 characters")
	}
	for _, c := range opts.ConsumerName {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
			return nil, invalid("SourceOptions.ConsumerName", fmt.Sprintf("%.140q", opts.ConsumerName), "must be of a-z, A-Z, 0-9, '_', '.' and '-'")
		}
	}
	for stream, arn := range opts.ConsumerARNs {
		if stream == "" || len(arn) < 4 || arn[:4] != "arn:" {
			return nil, invalid("SourceOptions.ConsumerARNs", fmt.Sprintf("%.300q: %.300q", stream, arn), "must have the ARN of a consumer for the name or ARN of its stream")
		}
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return &opts, nil
}
