package awskinesis

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/braidstream/braid"
)

// KinesisClient has the methods of the service that a [Producer] needs. A *kinesis.Client of
// the AWS SDK for Go v2 implements it. Both methods must be safe for concurrent use.
type KinesisClient interface {
	PutRecords(ctx context.Context, in *kinesis.PutRecordsInput, options ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error)
	ListShards(ctx context.Context, in *kinesis.ListShardsInput, options ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
}

// The service's limits of a PutRecords call, and defaults.
const (
	maxEntries      = 500
	maxRequestBytes = 10 << 20 // of partition keys and data

	defaultRequestBytes = 5 << 20
	defaultRecordBytes  = 1 << 20
	minAggregateBytes   = 1 << 10
	defaultBufferBytes  = 32 << 20
	defaultRequests     = 8
	defaultTimeout      = 10 * time.Second
)

// ProducerOptions are the settings of a [Producer]. The zero value of each field is a safe
// default.
type ProducerOptions struct {
	// AggregateBytes is the maximal size of a carrier, a record into which several are packed
	// as the Kinesis Producer Library does. The default 0 means no aggregation, which every
	// consumer can read; the range is 1 KiB to MaxRecordBytes. The KPL's default is 51,200.
	// Workers of package consumer unpack carriers with Config.Deaggregate; the KCL always does.
	//
	// A partition key with many records needs aggregation: a key has one entry in flight at a
	// time, which is one record without aggregation.
	AggregateBytes int

	// Linger is how long a record waits for others to share its request or its carrier, unless
	// there are enough for a full one. The default is 0: records wait only while Requests calls
	// are in flight. The KPL's default is 100 ms, which costs less if records are rare.
	Linger time.Duration

	// BufferBytes limits the records that the producer holds: their partition keys and data,
	// and 256 bytes for each. The default is 32 MiB. A larger record is accepted when the
	// buffer is empty.
	BufferBytes int

	// MaxRecordBytes is the maximal size of a record, including its partition key. The default
	// is 1 MiB, like the service's; the range is 1 byte to 10 MiB. A stream accepts more than 1
	// MiB only if its MaxRecordSizeInKiB allows it.
	MaxRecordBytes int

	// MaxRequestBytes is the maximal size of one PutRecords call. The default is 5 MiB, which
	// emulators accept as well, or MaxRecordBytes if that is more; the highest value is 10 MiB,
	// the service's limit.
	MaxRequestBytes int

	// Requests is the maximal number of concurrent PutRecords calls. The default is 8.
	Requests int

	// RequestTimeout limits an attempt; one that takes longer has an unknown outcome. The
	// default is 10 s.
	RequestTimeout time.Duration

	// ShardRate is the largest part of a shard's budget (1,000 entries and 1 MiB per second)
	// that the producer uses. The default is 1, all of it; use less if several producers
	// constantly put to the stream. After throttling the producer uses less for some seconds. A
	// negative value means no limit, for a service without budgets.
	ShardRate float64

	// Logger logs reshards and failures that are retried. The default is slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with defaults, or an error that names the invalid one.
func (o *ProducerOptions) withDefaults() (*ProducerOptions, error) {
	var opts ProducerOptions
	if o != nil {
		opts = *o
	}
	for _, n := range []struct {
		name             string
		value            *int
		fallback         int
		lowest, greatest int
	}{
		{"BufferBytes", &opts.BufferBytes, defaultBufferBytes, 1, 1 << 40},
		{"MaxRecordBytes", &opts.MaxRecordBytes, defaultRecordBytes, 1, maxRequestBytes},
		{"MaxRequestBytes", &opts.MaxRequestBytes, max(defaultRequestBytes, min(opts.MaxRecordBytes, maxRequestBytes)), 1, maxRequestBytes},
		{"Requests", &opts.Requests, defaultRequests, 1, 1000},
	} {
		*n.value = cmp.Or(*n.value, n.fallback)
		if *n.value < n.lowest || *n.value > n.greatest {
			return nil, invalid("ProducerOptions."+n.name, *n.value, fmt.Sprintf("must be %d to %d, or 0 for %d", n.lowest, n.greatest, n.fallback))
		}
	}
	if opts.MaxRequestBytes < opts.MaxRecordBytes {
		return nil, invalid("ProducerOptions.MaxRequestBytes", opts.MaxRequestBytes, fmt.Sprintf("must be at least MaxRecordBytes, which is %d", opts.MaxRecordBytes))
	}
	if a := opts.AggregateBytes; a != 0 && (a < minAggregateBytes || a > opts.MaxRecordBytes-len("a")) {
		return nil, invalid("ProducerOptions.AggregateBytes", a, fmt.Sprintf("must be 0, or %d to %d, which is one less than MaxRecordBytes", minAggregateBytes, opts.MaxRecordBytes-len("a")))
	}
	if opts.Linger < 0 {
		return nil, invalid("ProducerOptions.Linger", opts.Linger, "must not be negative")
	}
	opts.RequestTimeout = cmp.Or(opts.RequestTimeout, defaultTimeout)
	if opts.RequestTimeout < 0 {
		return nil, invalid("ProducerOptions.RequestTimeout", opts.RequestTimeout, "must not be negative")
	}
	switch rate := opts.ShardRate; {
	case rate < 0:
		opts.ShardRate = 0 // no bound
	case rate == 0:
		opts.ShardRate = 1
	case !(rate >= 0.01 && rate <= 100): // nor NaN
		return nil, invalid("ProducerOptions.ShardRate", rate, "must be 0.01 to 100, 0 for 1, or negative for no bound")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return &opts, nil
}

func invalid(field string, value any, rule string) error {
	return &braid.InvalidArgumentError{Field: field, Value: value, Rule: rule}
}
