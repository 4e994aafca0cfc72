package awskinesis_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// sourceClient is the SDK's client, with a separate one for each subscription, because
// subscriptions of one client share a decoder, and the race detector reports that. A test's
// function may change the outcome of a call.
type sourceClient struct {
	*kinesis.Client
	kit *kinesistest.Kit

	mu        sync.Mutex // guards the fields below
	random    *rand.Rand // for chaos; nil for none
	connected func(*connection)
	listed    func(*kinesis.ListShardsOutput)
	read      func(*kinesis.GetRecordsOutput)
}

func newSourceClient(kit *kinesistest.Kit) *sourceClient {
	return &sourceClient{Client: kit.Kinesis(), kit: kit}
}

// mishap decides the faults of a call, if there is chaos: it may be delayed, and fail before or
// after it is made.
func (c *sourceClient) mishap() (before, after error) {
	c.mu.Lock()
	if c.random == nil {
		c.mu.Unlock()
		return nil, nil
	}
	errs := []error{
		errBroken, &types.ProvisionedThroughputExceededException{}, &types.LimitExceededException{},
		&types.InternalFailureException{}, &types.KMSThrottlingException{}, &types.ExpiredIteratorException{},
	}
	switch err := errs[c.random.IntN(len(errs))]; c.random.IntN(20) {
	case 0, 1:
		before = err
	case 2:
		after = err
	}
	pause := time.Duration(c.random.IntN(50)) * time.Millisecond
	c.mu.Unlock()
	time.Sleep(pause)
	return before, after
}

// call makes a call with faults.
func call[In, Out any](c *sourceClient, ctx context.Context, make func(context.Context, *In, ...func(*kinesis.Options)) (*Out, error), in *In, options []func(*kinesis.Options)) (*Out, error) {
	before, after := c.mishap()
	if before != nil {
		return nil, before
	}
	out, err := make(ctx, in, options...)
	if err == nil && after != nil {
		return nil, after
	}
	return out, err
}

func (c *sourceClient) GetShardIterator(ctx context.Context, in *kinesis.GetShardIteratorInput, options ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	return call(c, ctx, c.Client.GetShardIterator, in, options)
}

func (c *sourceClient) DescribeStreamSummary(ctx context.Context, in *kinesis.DescribeStreamSummaryInput, options ...func(*kinesis.Options)) (*kinesis.DescribeStreamSummaryOutput, error) {
	return call(c, ctx, c.Client.DescribeStreamSummary, in, options)
}

func (c *sourceClient) DescribeStreamConsumer(ctx context.Context, in *kinesis.DescribeStreamConsumerInput, options ...func(*kinesis.Options)) (*kinesis.DescribeStreamConsumerOutput, error) {
	return call(c, ctx, c.Client.DescribeStreamConsumer, in, options)
}

func (c *sourceClient) RegisterStreamConsumer(ctx context.Context, in *kinesis.RegisterStreamConsumerInput, options ...func(*kinesis.Options)) (*kinesis.RegisterStreamConsumerOutput, error) {
	return call(c, ctx, c.Client.RegisterStreamConsumer, in, options)
}

func (c *sourceClient) SubscribeToShard(ctx context.Context, in *kinesis.SubscribeToShardInput, options ...func(*kinesis.Options)) (*kinesis.SubscribeToShardOutput, error) {
	if before, _ := c.mishap(); before != nil {
		return nil, before
	}
	client := c.kit.Kinesis(func(o *kinesis.Options) { o.HTTPClient = c.wire(o.HTTPClient) })
	return client.SubscribeToShard(ctx, in, options...)
}

// wire returns a client whose responses are connections.
func (c *sourceClient) wire(inner kinesis.HTTPClient) kinesis.HTTPClient {
	return do(func(r *http.Request) (*http.Response, error) {
		response, err := inner.Do(r)
		if err != nil || response.StatusCode != http.StatusOK {
			return response, err
		}
		body := &connection{ReadCloser: response.Body, closed: make(chan struct{})}
		response.Body = body
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.connected != nil {
			c.connected(body)
		}
		if c.random != nil {
			time.AfterFunc(time.Duration(c.random.IntN(20_000))*time.Millisecond, func() { body.breakOff(errBroken) })
		}
		return response, nil
	})
}

type do func(*http.Request) (*http.Response, error)

func (d do) Do(r *http.Request) (*http.Response, error) { return d(r) }

func (c *sourceClient) ListShards(ctx context.Context, in *kinesis.ListShardsInput, options ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	out, err := call(c, ctx, c.Client.ListShards, in, options)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.listed != nil {
		c.listed(out)
	}
	return out, err
}

func (c *sourceClient) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, options ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	out, err := call(c, ctx, c.Client.GetRecords, in, options)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.read != nil {
		c.read(out)
	}
	return out, err
}

// set changes a function of the client.
func (c *sourceClient) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// mode is polling or fan-out.
type mode string

const (
	polling mode = "polling"
	fanOut  mode = "fan-out"
)

func (m mode) options() *awskinesis.SourceOptions {
	o := &awskinesis.SourceOptions{Logger: slog.New(slog.DiscardHandler)}
	if m == fanOut {
		o.ConsumerName = "billing"
	}
	return o
}

// sourceFixture is a stream "orders" of a service with exact limits, and a source, in a bubble.
type sourceFixture struct {
	*testing.T
	kit    *kinesistest.Kit
	client *sourceClient
	source *awskinesis.Source
	puts   int
}

// sourceBubble runs the test with a stream of that many shards.
func sourceBubble(t *testing.T, shards int, options *awskinesis.SourceOptions, test func(f *sourceFixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kit := kinesistest.NewWith(t, &kinesistest.Options{ExactLimits: true}, kinesistest.Stream("orders", shards))
		f := &sourceFixture{T: t, kit: kit, client: newSourceClient(kit)}
		f.source = f.newSource(options)
		test(f)
	})
}

// eachMode runs the test in both modes.
func eachMode(t *testing.T, shards int, test func(f *sourceFixture, m mode)) {
	t.Helper()
	for _, m := range []mode{polling, fanOut} {
		t.Run(string(m), func(t *testing.T) {
			sourceBubble(t, shards, m.options(), func(f *sourceFixture) { test(f, m) })
		})
	}
}

func (f *sourceFixture) newSource(options *awskinesis.SourceOptions) *awskinesis.Source {
	f.Helper()
	source, err := awskinesis.NewSource(f.client, options)
	require.NoError(f, err)
	return source
}

// put puts n records, with ten keys in turn, and returns their data.
func (f *sourceFixture) put(n int) (data []string) {
	f.Helper()
	for range n {
		d := fmt.Sprint(f.puts)
		f.kit.Put("orders", fmt.Sprint("key ", f.puts%10), d)
		data = append(data, d)
		f.puts++
	}
	return data
}

func (f *sourceFixture) shards() []consumer.ShardInfo {
	f.Helper()
	info, err := f.source.Stream(f.Context(), "orders")
	require.NoError(f, err)
	return info.Shards
}

// open opens a reader, which is closed when the test ends.
func (f *sourceFixture) open(shard braid.ShardID, from braid.Position) consumer.ShardReader {
	f.Helper()
	r, err := f.source.Open(f.Context(), "orders", shard, from)
	require.NoError(f, err)
	f.Cleanup(r.Close)
	return r
}

var wide = consumer.Limits{Records: 10_000, Bytes: 1 << 20}

// next returns the next page that has records or news.
func (f *sourceFixture) next(r consumer.ShardReader) consumer.Page {
	f.Helper()
	for {
		page, err := r.Next(f.Context(), wide)
		require.NoError(f, err)
		if page.Gap != nil || len(page.Records) > 0 || page.AtTip {
			return page
		}
	}
}

// rest reads to the tip, or to the end.
func (f *sourceFixture) rest(r consumer.ShardReader) (data []string) {
	f.Helper()
	for {
		page := f.next(r)
		require.Nil(f, page.Gap)
		for _, rec := range page.Records {
			data = append(data, string(rec.Data))
		}
		if page.EndOfShard || page.AtTip && len(page.Records) == 0 {
			return data
		}
	}
}

// calls returns the number of calls of an operation with that outcome.
func (f *sourceFixture) calls(operation, outcome string) (n int) {
	f.Helper()
	for _, c := range f.kit.Calls(operation) {
		if c.Err == outcome {
			n++
		}
	}
	return n
}

// requireNoThrottle requires that the service has throttled no call.
func (f *sourceFixture) requireNoThrottle() {
	f.Helper()
	for _, c := range f.kit.Calls("") {
		require.NotContains(f, []string{"ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException"}, c.Err, "%s", c.Operation)
	}
}

// worker runs a worker, and returns a function that stops it.
func (f *sourceFixture) worker(source consumer.Source, leases consumer.LeaseStore, cfg consumer.Config, process consumer.ProcessorFunc) (w *consumer.Worker, stop func()) {
	f.Helper()
	cfg.App, cfg.Source, cfg.Leases = "billing", source, leases
	if cfg.Streams == nil {
		cfg.Streams = []string{"orders"}
	}
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	w, err := consumer.New(nil, &cfg, process)
	require.NoError(f, err)
	ran := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.Context()))
	f.Cleanup(cancel) // if the test failed
	go func() { ran <- w.Run(ctx) }()
	return w, func() {
		f.Helper()
		require.NoError(f, w.Stop(context.Background()))
		require.NoError(f, <-ran)
	}
}

func newLeases() *leasetest.Memory { return leasetest.NewMemory(10 * time.Second) }
