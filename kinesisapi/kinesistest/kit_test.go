package kinesistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// inAndOut runs a test inside a bubble, and outside.
func inAndOut(t *testing.T, test func(t *testing.T)) {
	t.Parallel()
	t.Run("in a bubble", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, test)
	})
	t.Run("in real time", func(t *testing.T) {
		t.Parallel()
		test(t)
	})
}

// once makes a client without retries.
func once(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} }

func putRecord(ctx context.Context, client *kinesis.Client, key, data string) error {
	_, err := client.PutRecord(ctx, &kinesis.PutRecordInput{
		StreamName: aws.String("orders"), PartitionKey: &key, Data: []byte(data),
	})
	return err
}

func putRecords(t *testing.T, client *kinesis.Client, data ...string) *kinesis.PutRecordsOutput {
	t.Helper()
	in := &kinesis.PutRecordsInput{StreamName: aws.String("orders")}
	for _, d := range data {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{PartitionKey: aws.String("key"), Data: []byte(d)})
	}
	out, err := client.PutRecords(t.Context(), in)
	require.NoError(t, err)
	return out
}

func iterator(t *testing.T, client *kinesis.Client, shard string) *string {
	t.Helper()
	out, err := client.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{
		StreamName: aws.String("orders"), ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	require.NoError(t, err)
	return out.ShardIterator
}

func getRecords(t *testing.T, client *kinesis.Client, iterator *string) *kinesis.GetRecordsOutput {
	t.Helper()
	out, err := client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: iterator})
	require.NoError(t, err)
	return out
}

func dataOf(records []types.Record) (data []string) {
	for _, rec := range records {
		data = append(data, string(rec.Data))
	}
	return data
}

const (
	shard0 = "shardId-000000000000"
	shard1 = "shardId-000000000001"
	shard2 = "shardId-000000000002"

	throttled = "ProvisionedThroughputExceededException"
)

// fakeTB is a testing.TB whose failures do not fail the real test.
type fakeTB struct {
	testing.TB
	failed   bool
	errors   []string
	logs     []string
	cleanups []func()
	out      bytes.Buffer
}

func (f *fakeTB) Helper() {}

func (f *fakeTB) Failed() bool { return f.failed }

func (f *fakeTB) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }

func (f *fakeTB) Output() io.Writer { return &f.out }

func (f *fakeTB) Logf(format string, args ...any) {
	f.logs = append(f.logs, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Errorf(format string, args ...any) {
	f.failed = true
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// run runs a test to its end.
func (f *fakeTB) run(test func(testing.TB)) *fakeTB {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			for _, fn := range slices.Backward(f.cleanups) {
				fn()
			}
		}()
		test(f)
	}()
	<-ended
	return f
}

func failure(t *testing.T, test func(testing.TB)) string {
	t.Helper()
	f := (&fakeTB{TB: t}).run(test)
	require.Len(t, f.errors, 1)
	return f.errors[0]
}

func TestOneLineIsAKinesis(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		k := New(t, Stream("orders", 2))
		client := k.Kinesis()
		require.NoError(t, putRecord(t.Context(), client, "a", "one"))
		k.Put("orders", "a", "two", "three")
		k.RequireRecords("orders", "one", "two", "three")

		records := k.Records("orders")
		require.Len(t, records, 3)
		got := getRecords(t, client, iterator(t, client, records[0].Shard))
		require.Equal(t, []string{"one", "two", "three"}, dataOf(got.Records))
		require.Equal(t, *got.Records[2].SequenceNumber, records[2].SequenceNumber)
		require.Equal(t, "a", records[2].PartitionKey)
		require.WithinDuration(t, time.Now(), records[2].ArrivalTime, time.Minute)
		k.RequireCaughtUp("orders")
		k.RequireOrderPerKey("orders")
		require.Len(t, k.DB().Streams(), 1)

		// Any of the SDK's kinds of HTTP clients works.
		require.NoError(t, putRecord(t.Context(), k.Kinesis(func(o *kinesis.Options) { o.HTTPClient = k.Client() }), "a", "four"))
		k.Trim("orders")
		k.RequireRecords("orders")
	})
}

func TestAHundredKitsInParallel(t *testing.T) {
	t.Parallel()
	for i := range 100 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			k := New(t, Stream("orders", 2))
			require.NoError(t, putRecord(t.Context(), k.Kinesis(), "a", fmt.Sprint(i)))
			k.RequireRecords("orders", fmt.Sprint(i))
		})
	}
}

func TestABubbleIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	var runs [2][]string
	for i := range runs {
		synctest.Test(t, func(t *testing.T) {
			k := New(t, Stream("orders", 3))
			ids := []string{}
			answers := roundTripper(func(r *http.Request) (*http.Response, error) {
				response, err := k.Client().Transport.RoundTrip(r)
				if err == nil {
					ids = append(ids, response.Header.Get("X-Amzn-Requestid"))
				}
				return response, err
			})
			client := k.Kinesis(func(o *kinesis.Options) { o.HTTPClient = &http.Client{Transport: answers} })
			for n := range 10 { // the SDK tries again, after pauses
				if n%3 > 0 {
					k.Fail("PutRecord", n%3, []string{throttled, "InternalFailure"}[n%2])
				}
				require.NoError(t, putRecord(t.Context(), client, fmt.Sprint(n), "data"))
			}
			for _, rec := range k.Records("orders") {
				ids = append(ids, rec.Shard, rec.SequenceNumber)
			}
			runs[i] = ids
		})
	}
	require.Len(t, runs[0], 10+9+20)
	require.Equal(t, runs[0], runs[1])
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(q *http.Request) (*http.Response, error) { return r(q) }

func TestResharding(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		k.Put("orders", "a", "one")
		lower, upper := k.Split("orders", "0")
		require.Equal(t, []string{shard1, shard2}, []string{lower, upper})
		k.Put("orders", "a", "two")
		require.Equal(t, "shardId-000000000003", k.Merge("orders", lower, upper))
		k.Put("orders", "a", "three")
		k.RequireRecords("orders", "one", "two", "three")
	})
}

func TestIteratorsExpire(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		client := k.Kinesis()
		old := iterator(t, client, shard0)
		k.ExpireIterators()
		fresh := iterator(t, client, shard0) // in a bubble at the same instant
		for range 2 {
			_, err := client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: old})
			require.ErrorAs(t, err, new(*types.ExpiredIteratorException))
			getRecords(t, client, fresh)
			k.Crash() // makes no difference
		}
	})
}

func TestSixMinutesExpireIterators(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		client := k.Kinesis()
		old := iterator(t, client, shard0)
		time.Sleep(6 * time.Minute)
		_, err := client.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: old})
		require.ErrorAs(t, err, new(*types.ExpiredIteratorException))
	})
}

func TestExactLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := NewWith(t, &Options{ExactLimits: true}, Stream("orders", 1))
		client := k.Kinesis(once)
		big := strings.Repeat("x", 600<<10)
		over := func() error {
			return errors.Join(putRecord(t.Context(), client, "a", big), putRecord(t.Context(), client, "a", big))
		}
		require.ErrorAs(t, over(), new(*types.ProvisionedThroughputExceededException))
		k.Crash()
		time.Sleep(time.Second)
		require.ErrorAs(t, over(), new(*types.ProvisionedThroughputExceededException), "they hold on")
		k.ExactLimits(false)
		require.NoError(t, over())
		k.ExactLimits(true)
		time.Sleep(time.Second)
		require.ErrorAs(t, over(), new(*types.ProvisionedThroughputExceededException))
	})
}

func TestDelaysOfStatuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := NewWith(t, &Options{Account: "123456789012", Region: "eu-west-1", CreateDelay: time.Minute}, Stream("orders", 1))
		client := k.Kinesis()
		require.NoError(t, putRecord(t.Context(), client, "a", "it is ACTIVE"))
		_, err := client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("bills"), ShardCount: aws.Int32(1)})
		require.NoError(t, err)
		bills := &kinesis.DescribeStreamInput{StreamName: aws.String("bills")}
		out, err := client.DescribeStream(t.Context(), bills)
		require.NoError(t, err)
		require.Equal(t, types.StreamStatusCreating, out.StreamDescription.StreamStatus)
		require.Equal(t, "arn:aws:kinesis:eu-west-1:123456789012:stream/bills", *out.StreamDescription.StreamARN)
		require.NoError(t, kinesis.NewStreamExistsWaiter(client).Wait(t.Context(), bills, time.Hour))
	})
}

func TestTheEndOfATestEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		client := k.Kinesis(once)
		k.Delay("PutRecord", 1, time.Hour)
		results := make(chan error, 2)
		defer func() { // before the kit closes: the bubble waits for them
			synctest.Wait()
			require.Empty(t, results)
		}()
		go func() { results <- putRecord(context.Background(), client, "a", "one") }()
		stream := subscribe(t, k, client)
		go func() {
			for range stream.Events() {
			}
			results <- stream.Err()
		}()
	})
}

// lostKeys is a provider that has lost its keys.
type lostKeys struct {
	*braid.KeyRing
	lost atomic.Bool
}

func (k *lostKeys) UnwrapKey(ctx context.Context, id string, wrapped []byte, stream, purpose string) ([]byte, error) {
	if k.lost.Load() {
		return nil, errors.New("the key is lost")
	}
	return k.KeyRing.UnwrapKey(ctx, id, wrapped, stream, purpose)
}

// A failed test logs a summary, and its kit is closed.
func TestTheEndOfAFailedTest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the bubble ends when all goroutines have ended
		ring, err := braid.NewKeyRing(map[string][]byte{"main": make([]byte, 32)})
		require.NoError(t, err)
		keys := &lostKeys{KeyRing: ring}
		var k *Kit
		f := (&fakeTB{TB: t}).run(func(tb testing.TB) {
			k = NewWith(tb, &Options{KeyProvider: keys}, Stream("orders", 1), Stream("bills", 1))
			k.Put("bills", "a", "one")
			if err := k.stream("orders").StartEncryption(always, "main"); err != nil {
				tb.Fatalf("%v", err)
			}
			k.Put("orders", "a", "two")
			keys.lost.Store(true)
			k.Crash()
			tb.Errorf("failed")
		})
		require.Equal(t, []string{"failed"}, f.errors)
		require.Nil(t, k.life())
		require.Len(t, f.logs, 1)
		require.Contains(t, f.logs[0], `key "a": "one"`)
		require.Contains(t, f.logs[0], "the key is lost")
	})
}

// subscribe subscribes to the first shard.
func subscribe(t *testing.T, k *Kit, client *kinesis.Client) *kinesis.SubscribeToShardEventStream {
	t.Helper()
	d, err := client.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("orders")})
	require.NoError(t, err)
	c, err := client.RegisterStreamConsumer(t.Context(), &kinesis.RegisterStreamConsumerInput{
		ConsumerName: aws.String(fmt.Sprint("consumer", len(k.Calls("RegisterStreamConsumer")))), StreamARN: d.StreamDescriptionSummary.StreamARN,
	})
	require.NoError(t, err)
	sub, err := client.SubscribeToShard(context.Background(), &kinesis.SubscribeToShardInput{
		ConsumerARN: c.Consumer.ConsumerARN, ShardId: aws.String(shard0),
		StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon},
	})
	require.NoError(t, err)
	return sub.GetStream()
}

func TestSubscribersCatchUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		k.Put("orders", "a", "one", "two")
		stream := subscribe(t, k, k.Kinesis())
		var got []string
		ended := false
		go func() {
			for event := range stream.Events() {
				got = append(got, dataOf(event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value.Records)...)
			}
			ended = true
		}()
		synctest.Wait()
		k.Put("orders", "a", "three")
		synctest.Wait()
		k.RequireCaughtUp("orders")
		k.RequireProcessed("orders", got)
		k.RequireOrderPerKey("orders")

		k.Crash()
		synctest.Wait()
		require.True(t, ended)
		k.Put("orders", "a", "four")
		message := failure(t, func(tb testing.TB) {
			k.as(tb).RequireCaughtUp("orders")
		})
		require.Contains(t, message, shard0+" to arn:aws:kinesis:us-east-1:000000000000:stream/orders/consumer/consumer0:")
		require.Contains(t, message, `1 record not read, from "four" on`)
	})
}

// as returns the kit with another testing.TB.
func (k *Kit) as(t testing.TB) *Kit {
	return &Kit{t: t, opts: k.opts, output: k.output, client: k.client, now: k.now, log: log{calls: k.log.calls, delivered: k.log.delivered, places: k.log.places}}
}

func TestCallsHaveTheRequestsOfTheSDK(t *testing.T) {
	t.Parallel()
	k := New(t, Stream("orders", 1))
	client := k.Kinesis(once)
	put := &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String("a"), Data: []byte("data")}
	_, err := client.PutRecord(t.Context(), put)
	require.NoError(t, err)
	list := &kinesis.ListShardsInput{StreamName: aws.String("bills"), ShardFilter: &types.ShardFilter{
		Type: types.ShardFilterTypeFromTimestamp, Timestamp: aws.Time(time.Unix(1_700_000_000, 0).UTC()),
	}}
	_, err = client.ListShards(t.Context(), list)
	require.Error(t, err)
	tags := &kinesis.AddTagsToStreamInput{StreamName: aws.String("orders"), Tags: map[string]string{"a": "b"}}
	_, err = client.AddTagsToStream(t.Context(), tags)
	require.NoError(t, err)

	calls := k.Calls("")
	require.Len(t, calls, 3)
	require.Equal(t, put, calls[0].Input)
	require.Equal(t, list, calls[1].Input)
	require.Equal(t, tags, calls[2].Input)
	require.Equal(t, []string{"", "ResourceNotFoundException", ""}, errorsOf(calls))
	require.Equal(t, calls[1:2], k.Calls("ListShards"))
	require.Empty(t, k.Calls("PutRecords"))
}

// Every request of the service has a counterpart in the SDK.
func TestEveryRequestCanBeShown(t *testing.T) {
	t.Parallel()
	for name, op := range service.Operations {
		if sdkInputs[name] == nil {
			require.Contains(t, name, "Queue", "the SDK has it")
			in := op.NewInput()
			fill(reflect.ValueOf(in).Elem())
			require.Len(t, toSDK(name, in), reflect.TypeOf(in).Elem().NumField(), name)
			continue
		}
		if strings.HasSuffix(name, "Channels") || strings.HasSuffix(name, "Channel") {
			continue // the service ignores the members of their requests
		}
		in := op.NewInput()
		fill(reflect.ValueOf(in).Elem())
		out := reflect.ValueOf(toSDK(name, in)).Elem()
		for i := range out.NumField() {
			field := out.Type().Field(i)
			require.True(t, !field.IsExported() || !out.Field(i).IsZero(), "%s.%s", name, field.Name)
		}
	}
}

// fill sets all members of a request.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"key": "value"}))
	case reflect.String:
		v.SetString("text")
	case reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8:
		v.SetUint(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(7, 0)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}
