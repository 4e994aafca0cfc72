package awskinesis_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
	"github.com/braidstream/braid/kpl"
)

// fixture is a stream "orders" and a producer for it, in a bubble.
type fixture struct {
	*testing.T
	kit      *kinesistest.Kit
	client   *client
	producer *awskinesis.Producer
}

// bubble runs the test with a stream of that many shards. The producer's log is discarded.
func bubble(t *testing.T, shards int, opts awskinesis.ProducerOptions, test func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{T: t, kit: kinesistest.New(t, kinesistest.Stream("orders", shards))}
		f.client = &client{Client: f.kit.Kinesis()}
		if opts.Logger == nil {
			opts.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		}
		var err error
		f.producer, err = awskinesis.NewProducer(t.Context(), f.client, "orders", &opts)
		require.NoError(t, err)
		defer func() { // of a test that failed
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			_ = f.producer.Close(ctx)
		}()
		test(f)
		require.NoError(t, f.producer.Close(context.Background()))
	})
}

// client is the SDK's client, with faults that a test chooses.
type client struct {
	*kinesis.Client
	random *rand.Rand // for chaos; nil for none

	mu       sync.Mutex // guards random and the fields below
	listings []*kinesis.ListShardsOutput
	calls    []*kinesis.PutRecordsInput
}

var errBroken = errors.New("the connection broke")

func (c *client) PutRecords(ctx context.Context, in *kinesis.PutRecordsInput, options ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error) {
	c.mu.Lock()
	c.calls = append(c.calls, in)
	if c.random == nil {
		c.mu.Unlock()
		return c.Client.PutRecords(ctx, in, options...)
	}
	before, after := time.Duration(c.random.IntN(20))*time.Millisecond, time.Duration(c.random.IntN(20))*time.Millisecond
	fate := c.random.IntN(20)
	refused := make([]string, len(in.Records))
	if rate := []int{0, 0, 0, 3, 30}[c.random.IntN(5)]; rate > 0 {
		for i := range refused {
			if c.random.IntN(100) < rate {
				refused[i] = []string{"ProvisionedThroughputExceededException", "InternalFailure"}[c.random.IntN(2)]
			}
		}
	}
	c.mu.Unlock()
	time.Sleep(before)
	if fate == 0 {
		return nil, errBroken
	}
	part := *in
	part.Records = nil
	for i := range in.Records {
		if refused[i] == "" {
			part.Records = append(part.Records, in.Records[i])
		}
	}
	out := &kinesis.PutRecordsOutput{}
	if len(part.Records) > 0 {
		var err error
		if out, err = c.Client.PutRecords(ctx, &part, options...); err != nil {
			return nil, err
		}
	}
	time.Sleep(after)
	if fate == 1 {
		return nil, errBroken
	}
	records := out.Records
	out.Records = nil
	for _, code := range refused {
		if code != "" {
			out.Records = append(out.Records, types.PutRecordsResultEntry{ErrorCode: aws.String(code), ErrorMessage: aws.String("by chance")})
			continue
		}
		out.Records, records = append(out.Records, records[0]), records[1:]
	}
	return out, nil
}

// ListShards is sometimes out of date, like the service's.
func (c *client) ListShards(ctx context.Context, in *kinesis.ListShardsInput, options ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	out, err := c.Client.ListShards(ctx, in, options...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.random == nil {
		return out, err
	}
	c.listings = append(c.listings, out)
	switch c.random.IntN(4) {
	case 0:
		return nil, errBroken
	case 1:
		return c.listings[max(0, len(c.listings)-2)], nil
	}
	return out, nil
}

// puts returns the sizes of the PutRecords calls.
func (c *client) puts() (entries []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.calls {
		entries = append(entries, len(call.Records))
	}
	return entries
}

// foreign says what a consumer does with an aggregate that has records of another shard.
type foreign int

const (
	dropForeign   foreign = iota // braid's workers
	dropAggregate                // the KCL
)

// delivered returns the stream's records as a consumer sees them, by partition key and in order,
// including duplicates.
func (f *fixture) delivered(mode foreign) map[string][]string {
	f.Helper()
	stream, err := f.kit.DB().Stream("orders")
	require.NoError(f, err)
	seen := make(map[string][]string)
	for rec, err := range stream.Records(context.Background(), braid.TrimHorizon()) {
		require.NoError(f, err)
		users, aggregated := kpl.Split(rec.Data)
		if !aggregated {
			users = []braid.Entry{{PartitionKey: rec.PartitionKey, Data: rec.Data}}
		}
		shard, err := stream.Shard(rec.ShardID)
		require.NoError(f, err)
		var own []braid.Entry
		for _, user := range users {
			if !aggregated || shard.HashKeyRange().Contains(user.HashKey()) {
				own = append(own, user)
			}
		}
		if mode == dropAggregate && len(own) < len(users) {
			continue
		}
		for _, user := range own {
			seen[user.PartitionKey] = append(seen[user.PartitionKey], string(user.Data))
		}
	}
	return seen
}

// requireOrder requires that the numbers in the data of each key ascend, except for repetitions of
// earlier numbers, and returns the count of each data.
func (f *fixture) requireOrder(mode foreign) (times map[string]int) {
	f.Helper()
	times = make(map[string]int)
	for key, data := range f.delivered(mode) {
		last := -1
		for _, d := range data {
			times[key+" "+d]++
			n := number(f, d)
			if times[key+" "+d] == 1 {
				require.Greater(f, n, last, "key %s: %v", key, data)
				last = n
			}
		}
	}
	return times
}

func number(t testing.TB, data string) int {
	t.Helper()
	text, _, _ := strings.Cut(data, " ")
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// entries returns n numbered records of a key.
func entries(key string, n int) (all []braid.Entry) {
	for i := range n {
		all = append(all, braid.Entry{PartitionKey: key, Data: fmt.Append(nil, i)})
	}
	return all
}

func requireStored(t testing.TB, results []braid.PutResult, err error) {
	t.Helper()
	require.NoError(t, err)
	for i := range results {
		require.NoError(t, results[i].Err)
		require.NotEmpty(t, results[i].ShardID)
		require.False(t, results[i].SequenceNumber.IsZero())
	}
}

// quiet is a logger that discards everything.
func (f *fixture) quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
