package awskinesis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// Options is short for the options of each test.
type Options = awskinesis.ProducerOptions

// putter has the methods that a braid stream and a producer share.
type putter interface {
	PutRecord(ctx context.Context, partitionKey string, data []byte) (braid.PutResult, error)
	PutRecordWait(ctx context.Context, partitionKey string, data []byte) (braid.PutResult, error)
	PutRecords(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error)
	PutRecordsWait(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error)
}

var (
	_ putter = (*awskinesis.Producer)(nil)
	_ putter = (*braid.Stream)(nil)
)

// scattered returns n records with n keys.
func scattered(n, size int) (all []braid.Entry) {
	for i := range n {
		data := fmt.Appendf(nil, "%d ", i)
		all = append(all, braid.Entry{PartitionKey: fmt.Sprint("key-", i), Data: append(data, bytes.Repeat([]byte("x"), max(0, size-len(data)))...)})
	}
	return all
}

func TestResultsSayWhereRecordsAre(t *testing.T) {
	bubble(t, 3, Options{}, func(f *fixture) {
		highest := braid.MaxHashKey()
		results, err := f.producer.PutRecords(f.Context(), []braid.Entry{
			{PartitionKey: "a", Data: []byte("1")},
			{PartitionKey: "b", Data: []byte("2"), ExplicitHashKey: &highest},
			{PartitionKey: "c"},
		})
		requireStored(f, results, err)
		require.Equal(f, braid.ShardID("shardId-000000000002"), results[1].ShardID)
		stored := make(map[string]string)
		for _, r := range f.kit.Records("orders") {
			stored[r.PartitionKey] = r.Shard + r.SequenceNumber + r.Data
		}
		for i, key := range []string{"a", "b", "c"} {
			data := []string{"1", "2", ""}[i]
			require.Equal(f, string(results[i].ShardID)+results[i].SequenceNumber.String()+data, stored[key])
			require.False(f, results[i].Encrypted)
		}
		results, err = f.producer.PutRecords(f.Context(), nil)
		require.NoError(f, err)
		require.Empty(f, results)
	})
}

func TestRequestsAreAsLargeAsTheServiceTakes(t *testing.T) {
	const mib = 1 << 20
	for _, row := range []struct {
		name    string
		opts    Options
		n, size int // records, and bytes of each with its key
		want    []int
	}{
		{"500 entries", Options{}, 1200, 20, []int{500, 500, 200}},
		{"5 MiB", Options{}, 11, mib, []int{5, 5, 1}},
		{"one byte less than a sixth record", Options{MaxRequestBytes: 6*mib - 1}, 11, mib, []int{5, 5, 1}},
		{"10 MiB", Options{MaxRequestBytes: 10 * mib}, 11, mib, []int{10, 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.opts.Requests, row.opts.ShardRate = 1, -1
			bubble(t, 2, row.opts, func(f *fixture) {
				all := scattered(row.n, row.size)
				for i := range all {
					all[i].Data = all[i].Data[:row.size-len(all[i].PartitionKey)]
				}
				results, err := f.producer.PutRecordsWait(f.Context(), all)
				requireStored(f, results, err)
				require.Equal(f, row.want, f.client.puts())
			})
		})
	}
}

func TestARecordIsNotLargerThanAllowed(t *testing.T) {
	bubble(t, 1, Options{MaxRecordBytes: 1000}, func(f *fixture) {
		_, err := f.producer.PutRecord(f.Context(), "key", make([]byte, 997))
		require.NoError(f, err)
		_, err = f.producer.PutRecord(f.Context(), "key", make([]byte, 998))
		require.ErrorIs(f, err, braid.ErrInvalidArgument)
		require.ErrorContains(f, err, `awskinesis: put record "orders": invalid argument: Data must be at most 1000 bytes (ProducerOptions.MaxRecordBytes); it is 1001 bytes long, with its partition key`)
		for _, key := range []string{"", strings.Repeat("ü", 257), "\xff"} {
			_, err = f.producer.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "good"}, {PartitionKey: key}})
			require.ErrorIs(f, err, braid.ErrInvalidArgument)
			require.ErrorContains(f, err, "Entries[1].PartitionKey")
			require.ErrorIs(f, f.producer.PutRecordAsync(f.Context(), key, nil, nil), braid.ErrInvalidArgument)
		}
		require.Len(f, f.kit.Records("orders"), 1)
	})
}

func TestRecordsThatComeMeanwhileShareTheNextRequest(t *testing.T) {
	bubble(t, 2, Options{Requests: 1}, func(f *fixture) {
		f.kit.Delay("PutRecords", 1, time.Second)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				_, err := f.producer.PutRecord(f.Context(), fmt.Sprint("key-", i), nil)
				require.NoError(f, err)
			})
			synctest.Wait()
		}
		all.Wait()
		require.Equal(f, []int{1, 99}, f.client.puts())
		m := f.producer.Metrics()
		require.Equal(f, int64(100), m.RecordsPut)
		require.Equal(f, int64(100), m.Entries)
		require.Equal(f, int64(2), m.Requests)
	})
}

func TestAKeyHasOneEntryOnItsWay(t *testing.T) {
	for _, row := range []struct {
		name string
		opts Options
		want int // requests
	}{
		{"which is one record", Options{}, 10},
		{"which is an aggregate", Options{AggregateBytes: 51_200}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, 2, row.opts, func(f *fixture) {
				results, err := f.producer.PutRecordsWait(f.Context(), entries("key", 10))
				requireStored(f, results, err)
				require.Len(f, f.client.puts(), row.want)
				require.Equal(f, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, f.delivered(dropForeign)["key"])
			})
		})
	}
}

func TestARecordWaitsForTheEarlierOnesOfItsKey(t *testing.T) {
	bubble(t, 2, Options{}, func(f *fixture) {
		f.kit.Delay("PutRecords", 1, time.Second)
		for _, e := range append(entries("key", 2), entries("other", 1)...) {
			require.NoError(f, f.producer.PutRecordAsync(f.Context(), e.PartitionKey, e.Data, func(r braid.PutResult) { require.NoError(f, r.Err) }))
			synctest.Wait() // it has been put, or waits
		}
		require.Equal(f, map[string][]string{"other": {"0"}}, f.delivered(dropForeign), "a record did not wait for its key")
		require.NoError(f, f.producer.Flush(f.Context()))
		require.Equal(f, map[string][]string{"key": {"0", "1"}, "other": {"0"}}, f.delivered(dropForeign), "stored in another order")
	})
}

func TestAShardsBudgetIsKept(t *testing.T) {
	t.Run("of records", func(t *testing.T) {
		bubble(t, 1, Options{}, func(f *fixture) {
			f.kit.ExactLimits(true)
			start := time.Now()
			results, err := f.producer.PutRecordsWait(f.Context(), scattered(3000, 20))
			requireStored(f, results, err)
			require.InDelta(f, 2, time.Since(start).Seconds(), 0.1) // 1,000 at once, and then 1,000 in a second
			require.Zero(f, f.producer.Metrics().Throttled)
			require.Less(f, f.producer.Metrics().Requests, int64(30), "records share requests")
		})
	})
	t.Run("of bytes", func(t *testing.T) {
		bubble(t, 1, Options{ShardRate: 0.5, AggregateBytes: 51_200}, func(f *fixture) {
			f.kit.ExactLimits(true)
			start := time.Now()
			results, err := f.producer.PutRecordsWait(f.Context(), scattered(20_000, 100)) // 2 MB
			requireStored(f, results, err)
			require.InDelta(f, 3.4, time.Since(start).Seconds(), 0.4)
			require.Zero(f, f.producer.Metrics().Throttled)
		})
	})
	t.Run("of each shard by itself", func(t *testing.T) {
		bubble(t, 2, Options{}, func(f *fixture) {
			low, high := braid.HashKey{}, braid.MaxHashKey()
			busy := scattered(3000, 20)
			for i := range busy {
				busy[i].ExplicitHashKey = &low
			}
			var all sync.WaitGroup
			all.Go(func() {
				results, err := f.producer.PutRecordsWait(f.Context(), busy)
				requireStored(f, results, err)
			})
			time.Sleep(time.Second)
			start := time.Now()
			results, err := f.producer.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "other", ExplicitHashKey: &high}})
			requireStored(f, results, err)
			require.Zero(f, time.Since(start))

			_, err = f.producer.PutRecords(f.Context(), nil)
			require.NoError(f, err)
			results, err = f.producer.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "refused", ExplicitHashKey: &low}})
			require.NoError(f, err)
			var throttled *braid.ThroughputExceededError
			require.ErrorAs(f, results[0].Err, &throttled)
			require.Equal(f, braid.ShardID("shardId-000000000000"), throttled.Shard)
			all.Wait()
			time.Sleep(throttled.RetryAfter)
			results, err = f.producer.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "refused", ExplicitHashKey: &low}})
			requireStored(f, results, err)
		})
	})
}

func TestProducersThatShareAStreamAdapt(t *testing.T) {
	bubble(t, 1, Options{}, func(f *fixture) {
		f.kit.ExactLimits(true)
		other, err := awskinesis.NewProducer(f.Context(), f.kit.Kinesis(), "orders", &Options{Logger: f.quiet()})
		require.NoError(f, err)
		start := time.Now()
		var all sync.WaitGroup
		for _, p := range []*awskinesis.Producer{f.producer, other} {
			all.Go(func() {
				results, err := p.PutRecordsWait(f.Context(), scattered(10_000, 20))
				requireStored(f, results, err)
			})
		}
		all.Wait()
		// 20,000 records take 19 s at best. Each producer alone would send twice the quota.
		require.Less(f, time.Since(start), 26*time.Second)
		throttled := f.producer.Metrics().Throttled + other.Metrics().Throttled
		require.Positive(f, throttled)
		require.Less(f, throttled, int64(6000))
		require.Len(f, f.kit.Records("orders"), 20_000)
		require.NoError(f, other.Close(f.Context()))
	})
}

func TestOutcomes(t *testing.T) {
	const throttle = "ProvisionedThroughputExceededException"
	for _, row := range []struct {
		name   string
		faults func(k *kinesistest.Kit)
		is     error // of PutRecord; nil if it is stored
		wait   error // of PutRecordWait
		times  int   // how often PutRecord stores the record
	}{
		{"no such stream", func(k *kinesistest.Kit) { k.Fail("PutRecords", 1, "ResourceNotFoundException") }, braid.ErrStreamNotFound, braid.ErrStreamNotFound, 0},
		{"an invalid argument", func(k *kinesistest.Kit) { k.Fail("PutRecords", 1, "InvalidArgumentException") }, braid.ErrInvalidArgument, braid.ErrInvalidArgument, 0},
		{"no key", func(k *kinesistest.Kit) { k.Fail("PutRecords", 1, "KMSAccessDeniedException") }, braid.ErrKeyUnavailable, braid.ErrKeyUnavailable, 0},
		{"an entry throttled", func(k *kinesistest.Kit) { k.FailEntries(throttle, 0) }, braid.ErrThroughputExceeded, nil, 0},
		{"a request throttled", func(k *kinesistest.Kit) { k.Fail("PutRecords", 1, throttle) }, braid.ErrThroughputExceeded, nil, 0},
		{"an entry failed", func(k *kinesistest.Kit) { k.FailEntries("InternalFailureException", 0) }, nil, nil, 1},
		{"the service failed twice", func(k *kinesistest.Kit) { k.Fail("PutRecords", 2, "InternalFailureException") }, nil, nil, 1},
		{"the service failed three times", func(k *kinesistest.Kit) { k.Fail("PutRecords", 3, "InternalFailureException") }, braid.ErrOutcomeUnknown, nil, 0},
		{"the answer lost twice", func(k *kinesistest.Kit) { k.DropAfter("PutRecords", 2) }, nil, nil, 3},
		{"the answer lost three times", func(k *kinesistest.Kit) { k.DropAfter("PutRecords", 3) }, braid.ErrOutcomeUnknown, nil, 3},
		{"the request lost three times", func(k *kinesistest.Kit) { k.DropBefore("PutRecords", 3) }, braid.ErrOutcomeUnknown, nil, 0},
		{"the answer lost, then throttled", func(k *kinesistest.Kit) { k.DropAfter("PutRecords", 1); k.FailEntries(throttle, 0) }, braid.ErrOutcomeUnknown, nil, 1},
		{"the answer lost, then the stream gone", func(k *kinesistest.Kit) {
			k.DropAfter("PutRecords", 1)
			k.Fail("PutRecords", 1, "ResourceNotFoundException")
		}, braid.ErrOutcomeUnknown, braid.ErrOutcomeUnknown, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, 1, Options{}, func(f *fixture) {
				row.faults(f.kit)
				_, err := f.producer.PutRecord(f.Context(), "key", []byte("0"))
				require.ErrorIs(f, err, row.is)
				require.Len(f, f.kit.Records("orders"), row.times)
				if row.is != braid.ErrOutcomeUnknown && row.is != nil {
					require.NotErrorIs(f, err, braid.ErrOutcomeUnknown)
				}
			})
			bubble(t, 1, Options{}, func(f *fixture) {
				row.faults(f.kit)
				_, err := f.producer.PutRecordWait(f.Context(), "key", []byte("0"))
				require.ErrorIs(f, err, row.wait)
				if row.wait == nil {
					require.NotEmpty(f, f.kit.Records("orders"))
				}
			})
		})
	}
}

// skewed is the error of a request that was signed with the wrong time, as the SDK reports it.
type skewed struct{ error }

func (skewed) RetryableError() bool { return true }
func (e skewed) Unwrap() error      { return e.error }

// A request that the service, or something before it, refuses for now is put again, as the SDK would.
func TestRefusalsThatPass(t *testing.T) {
	refusal := func(status int, err error) error {
		return &smithy.OperationError{ServiceID: "Kinesis", OperationName: "PutRecords", Err: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: err,
		}}
	}
	coded := func(code string) error { return &smithy.GenericAPIError{Code: code} }
	for name, row := range map[string]struct {
		err  error
		is   error // of PutRecord; nil if it is stored
		wait bool  // PutRecordWait stores it
	}{
		"too late":              {refusal(400, coded("RequestTimeoutException")), nil, true},
		"throttled by a code":   {refusal(400, coded("TooManyRequestsException")), braid.ErrThroughputExceeded, true},
		"throttled by a status": {refusal(429, errBroken), braid.ErrThroughputExceeded, true},
		"with a wrong clock":    {skewed{refusal(400, coded("InvalidSignatureException"))}, nil, true},
		"with a wrong key":      {refusal(400, coded("InvalidSignatureException")), errAny, false},
		"denied":                {refusal(403, errBroken), errBroken, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, Options{}, func(f *fixture) {
				once := &refusing{Client: f.kit.Kinesis(), err: row.err}
				producer, err := awskinesis.NewProducer(f.Context(), once, "orders", &Options{Logger: f.quiet()})
				require.NoError(f, err)
				_, err = producer.PutRecord(f.Context(), "key", []byte("0"))
				require.NotErrorIs(f, err, braid.ErrOutcomeUnknown)
				switch {
				case errors.Is(row.is, errAny):
					require.Error(f, err)
				default:
					require.ErrorIs(f, err, row.is)
				}
				time.Sleep(time.Minute)
				once.again()
				_, err = producer.PutRecordWait(f.Context(), "key", []byte("1"))
				require.Equal(f, row.wait, err == nil, "%v", err)
				require.NoError(f, producer.Close(f.Context()))
			})
		})
	}
}

var errAny = errors.New("any error")

// refusing is a client whose next PutRecords fails.
type refusing struct {
	*kinesis.Client
	err error

	mu   sync.Mutex // guards the field below
	done bool
}

func (r *refusing) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = false
}

func (r *refusing) PutRecords(ctx context.Context, in *kinesis.PutRecordsInput, options ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error) {
	r.mu.Lock()
	first := !r.done
	r.done = true
	r.mu.Unlock()
	if first {
		return nil, r.err
	}
	return r.Client.PutRecords(ctx, in, options...)
}

func TestARefusedRecordRefusesTheLaterOnesOfItsKey(t *testing.T) {
	bubble(t, 1, Options{}, func(f *fixture) {
		f.kit.FailEntries("ProvisionedThroughputExceededException", 0)
		all := append(entries("key", 3), entries("other", 2)...)
		results, err := f.producer.PutRecords(f.Context(), all)
		require.NoError(f, err)
		for i := range all {
			if all[i].PartitionKey == "key" {
				require.ErrorIs(f, results[i].Err, braid.ErrThroughputExceeded)
			} else {
				require.NoError(f, results[i].Err)
			}
		}
		require.Equal(f, map[string][]string{"other": {"0", "1"}}, f.delivered(dropForeign))
	})
	t.Run("unless its outcome is unknown, when they are refused as such", func(t *testing.T) {
		bubble(t, 1, Options{}, func(f *fixture) {
			f.kit.DropAfter("PutRecords", 3)
			results, err := f.producer.PutRecords(f.Context(), entries("key", 3))
			require.NoError(f, err)
			require.ErrorIs(f, results[0].Err, braid.ErrOutcomeUnknown)
			for _, r := range results[1:] {
				require.ErrorIs(f, r.Err, awskinesis.ErrEarlierFailed)
				require.NotErrorIs(f, r.Err, braid.ErrOutcomeUnknown)
			}
			require.Equal(f, map[string][]string{"key": {"0", "0", "0"}}, f.delivered(dropForeign))
		})
	})
}

func TestAnInvalidRecordFailsAlone(t *testing.T) {
	// The stream accepts only records up to 1 MiB, which the producer does not know.
	for _, aggregate := range []int{0, 51_200} {
		bubble(t, 1, Options{MaxRecordBytes: 2 << 20, AggregateBytes: aggregate, ShardRate: -1}, func(f *fixture) {
			all := append(scattered(5, 20), braid.Entry{PartitionKey: "large", Data: make([]byte, 3<<19)})
			results, err := f.producer.PutRecordsWait(f.Context(), all)
			require.NoError(f, err)
			requireStored(f, results[:5], nil)
			require.ErrorIs(f, results[5].Err, braid.ErrInvalidArgument)
			require.Len(f, f.kit.Records("orders"), 5)
		})
	}
}

func TestAContextThatEnds(t *testing.T) {
	cause := errors.New("enough")
	t.Run("before the call", func(t *testing.T) {
		bubble(t, 1, Options{}, func(f *fixture) {
			ctx, cancel := context.WithCancelCause(f.Context())
			cancel(cause)
			_, err := f.producer.PutRecordWait(ctx, "key", nil)
			require.ErrorIs(f, err, cause)
			require.NotErrorIs(f, err, braid.ErrOutcomeUnknown)
			require.ErrorIs(f, f.producer.PutRecordAsync(ctx, "key", nil, nil), cause)
			require.Empty(f, f.client.puts())
		})
	})
	t.Run("while records are on their way, and others wait for them", func(t *testing.T) {
		bubble(t, 1, Options{}, func(f *fixture) {
			f.kit.Delay("PutRecords", 1, time.Second)
			ctx, cancel := context.WithTimeoutCause(f.Context(), time.Millisecond, cause)
			defer cancel()
			results, err := f.producer.PutRecords(ctx, entries("key", 2))
			require.NoError(f, err)
			for _, r := range results {
				require.ErrorIs(f, r.Err, cause)
			}
			require.ErrorIs(f, results[0].Err, braid.ErrOutcomeUnknown)
			require.NotErrorIs(f, results[1].Err, braid.ErrOutcomeUnknown)
			require.Positive(f, f.producer.Metrics().BufferedBytes, "the request still holds it")

			// Later records wait for it, so the order is kept.
			_, err = f.producer.PutRecord(f.Context(), "key", []byte("2"))
			require.NoError(f, err)
			require.Equal(f, map[string][]string{"key": {"0", "2"}}, f.delivered(dropForeign))
			require.Zero(f, f.producer.Metrics().BufferedBytes)
		})
	})
	t.Run("of a record put without waiting for it", func(t *testing.T) {
		bubble(t, 1, Options{Linger: time.Hour}, func(f *fixture) {
			ctx, cancel := context.WithCancelCause(f.Context())
			var got []error
			require.NoError(f, f.producer.PutRecordAsync(ctx, "key", nil, func(r braid.PutResult) { got = append(got, r.Err) }))
			synctest.Wait()
			require.Empty(f, got)
			cancel(cause)
			synctest.Wait()
			require.Len(f, got, 1)
			require.ErrorIs(f, got[0], cause)
		})
	})
}

func TestAnAttemptThatTakesTooLong(t *testing.T) {
	bubble(t, 1, Options{RequestTimeout: 2 * time.Second}, func(f *fixture) {
		f.kit.Delay("PutRecords", 4, time.Hour)
		start := time.Now()
		_, err := f.producer.PutRecord(f.Context(), "key", []byte("0"))
		require.ErrorIs(f, err, braid.ErrOutcomeUnknown)
		require.ErrorContains(f, err, "took longer than ProducerOptions.RequestTimeout")
		require.InDelta(f, 6, time.Since(start).Seconds(), 0.4) // 3 attempts, with pauses
		_, err = f.producer.PutRecordWait(f.Context(), "key", []byte("1"))
		require.NoError(f, err)
	})
}

func TestNewProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kinesistest.New(t, kinesistest.Stream("orders", 1))
		_, err := awskinesis.NewProducer(t.Context(), k.Kinesis(), "missing", nil)
		require.ErrorIs(t, err, braid.ErrStreamNotFound)
		require.ErrorContains(t, err, `awskinesis: new producer "missing": `)
		_, err = awskinesis.NewProducer(t.Context(), k.Kinesis(), "", nil)
		require.ErrorIs(t, err, braid.ErrInvalidArgument)
		for _, row := range []struct {
			opts  Options
			field string
		}{
			{Options{AggregateBytes: 1023}, "AggregateBytes"},
			{Options{AggregateBytes: 1 << 20}, "AggregateBytes"},
			{Options{AggregateBytes: -1}, "AggregateBytes"},
			{Options{Linger: -1}, "Linger"},
			{Options{BufferBytes: -1}, "BufferBytes"},
			{Options{MaxRecordBytes: 10<<20 + 1}, "MaxRecordBytes"},
			{Options{MaxRequestBytes: 10<<20 + 1}, "MaxRequestBytes"},
			{Options{MaxRequestBytes: 1<<20 - 1}, "MaxRequestBytes"},
			{Options{Requests: 1001}, "Requests"},
			{Options{RequestTimeout: -1}, "RequestTimeout"},
			{Options{ShardRate: 101}, "ShardRate"},
		} {
			_, err := awskinesis.NewProducer(t.Context(), k.Kinesis(), "orders", &row.opts)
			var invalid *braid.InvalidArgumentError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, "ProducerOptions."+row.field, invalid.Field)
		}
		p, err := awskinesis.NewProducer(t.Context(), k.Kinesis(), "arn:aws:kinesis:us-east-1:000000000000:stream/orders", &Options{MaxRecordBytes: 10 << 20})
		require.NoError(t, err)
		_, err = p.PutRecord(t.Context(), "key", []byte("by ARN"))
		require.NoError(t, err)
		require.NoError(t, p.Close(t.Context()))
		k.RequireRecords("orders", "by ARN")
	})
}
