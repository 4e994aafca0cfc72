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

// KinesisClient is the part of the Kinesis API that a [Producer] uses. A *kinesis.Client of the AWS
// SDK for Go v2 implements it. Both methods may be called by several goroutines at once.
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
	// AggregateBytes is the maximum data of a carrier, a record into which several are packed, as
	// the Kinesis Producer Library does. The default, 0, puts each record by itself, which every
	// consumer can read. The range is 1 KiB to one byte less than MaxRecordBytes; the KPL uses
	// 51,200. Workers of package consumer unpack carriers if Config.Deaggregate is set; the KCL
	// always does.
	//
	// Use it if a partition key has many records. Each key has at most one entry in flight at a
	// time, and without aggregation an entry is a single record.
	AggregateBytes int

	// Linger is how long a record waits for others to share its request or carrier, unless these
	// are full earlier. The default is 0: records wait only while all Requests are in flight. The
	// KPL uses 100 ms, which costs less if records are rare.
	Linger time.Duration

	// BufferBytes limits the records that the producer holds: the bytes of their partition keys and
	// data, plus 256 bytes for each. The default is 32 MiB; the range is 1 byte to 1 TiB. A larger
	// record is accepted when the buffer is empty.
	BufferBytes int

	// MaxRecordBytes is the maximum size of a record, including its partition key. The default is 1
	// MiB, the service's default; the range is 1 byte to 10 MiB. More than 1 MiB requires a stream
	// with a higher MaxRecordSizeInKiB.
	MaxRecordBytes int

	// MaxRequestBytes is the maximum size of a PutRecords call. The default is 5 MiB, which
	// emulators also accept, or MaxRecordBytes if that is more. The range is MaxRecordBytes to 10
	// MiB, the service's limit.
	MaxRequestBytes int

	// Requests is how many PutRecords calls may be in flight at once. The default is 8; the range
	// is 1 to 1,000.
	Requests int

	// RequestTimeout is how long an attempt may take. After that it is given up, with an unknown
	// outcome. The default is 10 s.
	RequestTimeout time.Duration

	// ShardRate is the share of a shard's quota (1,000 entries and 1 MiB per second) that the
	// producer may use. The default is 1, all of it; the range is 0.01 to 100. Use less if several
	// producers put to the stream all the time. After throttling the producer uses less by itself,
	// for some seconds. A negative value means no limit, for a service without quotas.
	ShardRate float64

	// Logger receives messages about reshards and about failures that are retried. The default is
	// slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with defaults filled in, or an error for an invalid one.
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
		return nil, invalid("ProducerOptions.ShardRate", rate, "must be 0.01 to 100, 0 for 1, or negative for no limit")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return &opts, nil
}

func invalid(field string, value any, rule string) error {
	return &braid.InvalidArgumentError{Field: field, Value: value, Rule: rule}
}
