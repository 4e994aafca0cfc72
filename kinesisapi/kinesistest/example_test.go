package kinesistest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// Three programs that use Kinesis, each with its test. The programs know nothing of
// the kit: they get a client of the SDK.

// Send is the first program: a producer. PutRecords succeeds even when some of the
// entries were refused, so those have to be put again.
func Send(ctx context.Context, client *kinesis.Client, stream string, entries []types.PutRecordsRequestEntry) error {
	for attempt := 1; ; attempt++ {
		out, err := client.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &stream, Records: entries})
		if err != nil {
			return err
		}
		var refused []types.PutRecordsRequestEntry
		for i, result := range out.Records {
			if result.ErrorCode != nil {
				refused = append(refused, entries[i])
			}
		}
		if len(refused) == 0 {
			return nil
		}
		if attempt == 5 {
			return errors.New("the stream is overloaded")
		}
		entries = refused
		time.Sleep(time.Duration(attempt) * 100 * time.Millisecond)
	}
}

func TestSendPutsRefusedEntriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kinesistest.New(t, kinesistest.Stream("orders", 2))
		k.FailEntries("ProvisionedThroughputExceededException", 1, 2) // of the first PutRecords
		k.FailEntries("InternalFailure", 0)                           // of the second, which retries those two

		var entries []types.PutRecordsRequestEntry
		for _, customer := range []string{"ann", "bob", "eve"} {
			entries = append(entries, types.PutRecordsRequestEntry{
				PartitionKey: aws.String(customer), Data: []byte("order of " + customer),
			})
		}
		require.NoError(t, Send(t.Context(), k.Kinesis(), "orders", entries))

		k.RequireRecords("orders", "order of ann", "order of bob", "order of eve")
		require.Len(t, k.Calls("PutRecords"), 3)
	})
}

// Consumer is the second program. It reads a stream from its start, each shard to its
// end before the shard's children, and handles one record after the other.
type Consumer struct {
	Client *kinesis.Client
	Stream string
	Handle func(types.Record)

	done map[string]bool // shards that were read to their end
}

// Run consumes until the context ends, or the stream does.
func (c *Consumer) Run(ctx context.Context) error {
	c.done = make(map[string]bool)
	out, err := c.Client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &c.Stream})
	if err != nil {
		return err
	}
	type position struct {
		shard, last string // the number of the last record that was handled
		iterator    *string
	}
	var open []*position
	for _, shard := range out.Shards {
		if shard.ParentShardId == nil {
			open = append(open, &position{shard: *shard.ShardId})
		}
	}
	for len(open) > 0 {
		p := open[0]
		open = open[1:]
		if p.iterator == nil {
			if p.iterator, err = c.iterator(ctx, p.shard, p.last); err != nil {
				return err
			}
		}
		out, err := c.Client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: p.iterator})
		var expired *types.ExpiredIteratorException
		if errors.As(err, &expired) { // handling took more than five minutes
			p.iterator = nil
			open = append(open, p)
			continue
		}
		if err != nil {
			return err
		}
		for _, record := range out.Records {
			c.Handle(record)
			p.last = *record.SequenceNumber
		}
		if p.iterator = out.NextShardIterator; p.iterator != nil {
			open = append(open, p)
		} else {
			c.done[p.shard] = true
			for _, child := range out.ChildShards {
				if c.complete(child.ParentShards) {
					open = append(open, &position{shard: *child.ShardId})
				}
			}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *Consumer) iterator(ctx context.Context, shard, last string) (*string, error) {
	in := &kinesis.GetShardIteratorInput{StreamName: &c.Stream, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	if last != "" {
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &last
	}
	out, err := c.Client.GetShardIterator(ctx, in)
	if err != nil {
		return nil, err
	}
	return out.ShardIterator, nil
}

func (c *Consumer) complete(shards []string) bool {
	for _, id := range shards {
		if !c.done[id] {
			return false
		}
	}
	return true
}

func TestConsumerCrossesReshardsAndOutlivesIterators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kinesistest.New(t, kinesistest.Stream("orders", 1))
		k.Put("orders", "ann", "one", "two, which takes long", "three")

		var handled []string
		consumer := &Consumer{Client: k.Kinesis(), Stream: "orders", Handle: func(record types.Record) {
			if string(record.Data) == "two, which takes long" {
				time.Sleep(6 * time.Minute) // in no time: the clock is the bubble's
			}
			handled = append(handled, string(record.Data))
		}}
		go consumer.Run(t.Context())

		time.Sleep(10 * time.Minute)
		synctest.Wait() // the consumer waits: what it did is done, and can be looked at
		require.Equal(t, "ExpiredIteratorException", k.Calls("GetRecords")[1].Err)

		lower, upper := k.Split("orders", "0")
		k.Put("orders", "ann", "four")
		k.Put("orders", "bob", "five")
		k.Merge("orders", lower, upper)
		k.Put("orders", "ann", "six")
		k.Crash() // the SDK does not mind

		time.Sleep(time.Minute)
		synctest.Wait()
		k.RequireProcessed("orders", handled)
		k.RequireOrderPerKey("orders")
		k.RequireCaughtUp("orders")
	})
}

// The third test was written for an emulator in a container:
//
//	func TestOrderIsPublished(t *testing.T) {
//		ctx := context.Background()
//		container, err := localstack.Run(ctx, "localstack/localstack:4") // 10 seconds, and Docker
//		require.NoError(t, err)
//		defer container.Terminate(ctx)
//		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), ...)
//		client := kinesis.NewFromConfig(cfg, func(o *kinesis.Options) {
//			o.BaseEndpoint = aws.String("http://" + hostAndPort(container))
//		})
//		_, err = client.CreateStream(ctx, &kinesis.CreateStreamInput{...})
//		waitUntilActive(client, "orders")
//		...
//		require.Eventually(t, func() bool {
//			return len(readAll(client, "orders")) == 1
//		}, 10*time.Second, 100*time.Millisecond)
//	}
//
// The container, the endpoint and the waiting go; the client and the program under
// test stay as they are. Code that is given an aws.Config rather than a client gets
// the kit as its HTTPClient.
func TestOrderIsPublished(t *testing.T) {
	t.Parallel()
	k := kinesistest.New(t, kinesistest.Stream("orders", 1))
	client := kinesis.NewFromConfig(aws.Config{
		Region:      "us-east-1",
		Credentials: aws.CredentialsProviderFunc(credentials),
		HTTPClient:  k.Client(),
	})

	require.NoError(t, Publish(t.Context(), client, "ann", "an order"))

	k.RequireRecords("orders", "an order")
}

func credentials(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any"}, nil
}

// Publish is the third program.
func Publish(ctx context.Context, client *kinesis.Client, customer, order string) error {
	_, err := client.PutRecord(ctx, &kinesis.PutRecordInput{
		StreamName: aws.String("orders"), PartitionKey: &customer, Data: []byte(order),
	})
	return err
}

// The test that the package's documentation shows.
func TestOrders(t *testing.T) { orders(t) }
