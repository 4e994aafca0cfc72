package awskinesis_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
)

const shard0 = braid.ShardID("shardId-000000000000")

func TestSourceRefusesOptions(t *testing.T) {
	for field, opts := range map[string]awskinesis.SourceOptions{
		"PollInterval":   {PollInterval: 100 * time.Millisecond},
		"IdleInterval":   {IdleInterval: 2 * time.Minute},
		"RequestTimeout": {RequestTimeout: -1},
		"ConsumerName":   {ConsumerName: "the billing"},
		"ConsumerARNs":   {ConsumerARNs: map[string]string{"orders": "billing"}},
	} {
		_, err := awskinesis.NewSource(&kinesis.Client{}, &opts)
		var is *braid.InvalidArgumentError
		require.ErrorAs(t, err, &is)
		require.Equal(t, "SourceOptions."+field, is.Field)
	}
	_, err := awskinesis.NewSource(nil, nil)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	source, err := awskinesis.NewSource(&kinesis.Client{}, &awskinesis.SourceOptions{IdleInterval: time.Minute, ConsumerName: strings.Repeat("x", 128)})
	require.NoError(t, err)
	require.Nil(t, source.Changed())
}

// A page reports the tip only while that is current: the result of a read an hour ago does not
// count.
func TestAPageThatWaitedIsNotAtTheTip(t *testing.T) {
	eachMode(t, 1, func(f *sourceFixture, _ mode) {
		large := strings.Repeat("x", 40_000) // so that a page has only one of the records of a read
		f.kit.Put("orders", "key", large, large, large)
		r := f.open(shard0, f.shards()[0].Start)
		one := func() consumer.Page {
			page, err := r.Next(f.Context(), consumer.Limits{Records: 10, Bytes: 50_000})
			require.NoError(f, err)
			return page
		}
		for len(one().Records) == 0 {
		}
		require.False(f, one().AtTip)
		f.put(5)
		time.Sleep(time.Hour)
		page := one()
		require.Len(f, page.Records, 1)
		require.False(f, page.AtTip, "five follow")
		require.Len(f, f.rest(r), 5)
	})
}

// An idle shard is polled less and less often, and an active one at full pace at once.
func TestIdleShardIsReadLessOften(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		f.follow(f.open(shard0, f.shards()[0].Start))
		time.Sleep(10 * time.Second)
		pauses := func(since time.Time) (all []time.Duration) {
			var last time.Time
			for _, c := range f.kit.Calls("GetRecords") {
				if !last.Before(since) {
					all = append(all, c.Time.Sub(last))
				}
				last = c.Time
			}
			return all
		}
		const ms = time.Millisecond
		require.Equal(f, []time.Duration{250 * ms, 500 * ms, 1000 * ms, 1500 * ms, 1500 * ms}, pauses(time.Time{})[1:6])
		f.put(1)
		began := time.Now()
		time.Sleep(10 * time.Second)
		require.Equal(f, []time.Duration{250 * ms, 500 * ms, 1000 * ms, 1500 * ms}, pauses(began)[:4])
	})
}

// A backlog of large records is read at the shard's full quota and no faster, while other readers
// in the process peek.
func TestBacklogIsReadWithinTheBudgetOfBytes(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		const records, size = 40, 1 << 20
		stream, err := f.kit.DB().Stream("orders")
		require.NoError(f, err)
		f.kit.ExactLimits(false)
		for i := range records {
			_, err := stream.PutRecord(f.Context(), "k", []byte(fmt.Sprint(i, strings.Repeat(" ", size-10))))
			require.NoError(f, err)
		}
		f.kit.ExactLimits(true)
		start := f.shards()[0].Start
		seen, _ := f.follow(f.open(shard0, start))
		began, n := time.Now(), 0
		for n < records {
			time.Sleep(time.Second)
			_, err := f.source.Peek(f.Context(), "orders", shard0, start)
			require.NoError(f, err)
			n += len(seen.take())
		}
		took := time.Since(began)
		f.requireNoThrottle()
		require.Greater(f, took, records/2*time.Second)
		require.Less(f, took, 45*time.Second, "each peek takes the quota of one record")
		calls := f.kit.Calls("GetRecords")
		require.LessOrEqual(f, *calls[len(calls)/2].Input.(*kinesis.GetRecordsInput).Limit, int32(2), "as many as fit into a page")
	})
}

// Others also read the shard: the reader backs off, and continues. If they never leave any quota,
// it returns an error.
func TestThrottledReaderBacksOff(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		f.put(1)
		f.kit.Fail("GetShardIterator", 2, "ProvisionedThroughputExceededException")
		f.kit.Fail("GetRecords", 5, "ProvisionedThroughputExceededException")
		r := f.open(shard0, f.shards()[0].Start)
		began := time.Now()
		require.Equal(f, []string{"0"}, f.rest(r))
		require.Greater(f, time.Since(began), 4*time.Second)
		require.EqualValues(f, 7, f.source.Metrics().Throttled)

		f.kit.Fail("GetRecords", 10, "ProvisionedThroughputExceededException")
		_, ended := f.follow(r)
		var throttled *types.ProvisionedThroughputExceededException
		require.ErrorAs(f, ended(), &throttled)
		f.kit.Fail("GetRecords", 1, "ProvisionedThroughputExceededException")
		_, err := f.source.Peek(f.Context(), "orders", shard0, braid.TrimHorizon())
		require.ErrorAs(f, err, &throttled, "Peek does not wait")
	})
}

func TestExpiredIteratorIsReplaced(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		r := f.open(shard0, f.shards()[0].Start)
		all := f.put(3)
		got := f.rest(r)
		for range 3 {
			f.kit.ExpireIterators()
			all = append(all, f.put(3)...)
			got = append(got, f.rest(r)...)
		}
		time.Sleep(time.Hour) // meanwhile nobody calls Next
		all = append(all, f.put(3)...)
		got = append(got, f.rest(r)...)
		require.Equal(f, all, got)
		require.EqualValues(f, 4, f.source.Metrics().ExpiredIterators)
	})
}

// The children of an ended shard are found even before the listing has them; while nobody knows
// them, the shard has not ended.
func TestChildrenAreFound(t *testing.T) {
	eachMode(t, 1, func(f *sourceFixture, m mode) {
		start := f.shards()[0].Start
		f.kit.Split("orders", "0")
		f.kit.Put("orders", "a", "of a child")
		f.client.set(func() {
			f.client.listed = func(out *kinesis.ListShardsOutput) { out.Shards = out.Shards[:1] }
			f.client.read = func(out *kinesis.GetRecordsOutput) {}
		})
		page := f.next(f.open(shard0, start))
		require.True(f, page.EndOfShard)
		require.Len(f, page.Children, 2)
		var got []string
		for _, child := range page.Children {
			require.Equal(f, []braid.ShardID{shard0}, child.Parents)
			got = append(got, f.rest(f.open(child.ID, child.Start))...)
		}
		require.Equal(f, []string{"of a child"}, got)
		if m == fanOut {
			return
		}
		f.client.set(func() { f.client.read = func(out *kinesis.GetRecordsOutput) { out.ChildShards = nil } })
		_, err := f.open(shard0, start).Next(f.Context(), wide)
		require.ErrorContains(f, err, "none of its children is listed yet")
		f.client.set(func() { f.client.listed = nil })
		page = f.next(f.open(shard0, start))
		require.True(f, page.EndOfShard)
		require.Len(f, page.Children, 2)
	})
}

// A stream with more shards than fit a page of the listing is found by its ARN, in every call.
func TestStreamsAreReadByARN(t *testing.T) {
	eachMode(t, 1200, func(f *sourceFixture, _ mode) {
		const arn = "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
		f.put(5)
		info, err := f.source.Stream(f.Context(), arn)
		require.NoError(f, err)
		require.Len(f, info.Shards, 1200)
		at := info.Shards[700]
		for key := 0; ; key++ {
			if k := fmt.Sprint("find ", key); at.HashKeyRange.Contains(braid.HashKeyOf(k)) {
				f.kit.Put("orders", k, "found")
				break
			}
		}
		r, err := f.source.Open(f.Context(), arn, at.ID, at.Start)
		require.NoError(f, err)
		defer r.Close()
		require.Contains(f, f.rest(r), "found")
		_, err = f.source.Peek(f.Context(), arn, at.ID, at.Start)
		require.NoError(f, err)
		p, err := awskinesis.NewProducer(f.Context(), f.client, arn, nil)
		require.NoError(f, err)
		require.NoError(f, p.Close(f.Context()))
		for _, c := range f.kit.Calls("") {
			switch in := c.Input.(type) {
			case *kinesis.GetRecordsInput:
				require.Equal(f, arn, *in.StreamARN)
			case *kinesis.GetShardIteratorInput:
				require.Equal(f, arn, *in.StreamARN)
			case *kinesis.DescribeStreamSummaryInput:
				require.Equal(f, arn, *in.StreamARN)
			case *kinesis.ListShardsInput:
				require.True(f, in.NextToken != nil || *in.StreamARN == arn)
			}
		}
	})
}

// On-demand and encrypted streams are read like others.
func TestOnDemandAndEncryptedStreamsAreRead(t *testing.T) {
	eachMode(t, 1, func(f *sourceFixture, m mode) {
		_, err := f.client.CreateStream(f.Context(), &kinesis.CreateStreamInput{
			StreamName: new("demand"), StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand},
		})
		require.NoError(f, err)
		_, err = f.client.StartStreamEncryption(f.Context(), &kinesis.StartStreamEncryptionInput{
			StreamName: new("demand"), EncryptionType: types.EncryptionTypeKms, KeyId: new("alias/aws/kinesis"),
		})
		require.NoError(f, err)
		time.Sleep(10 * time.Second)
		f.kit.Put("demand", "k", "secret")
		var seen journal
		var encrypted bool
		_, stop := f.worker(f.source, newLeases(), consumer.Config{Streams: []string{"demand"}}, func(ctx context.Context, b *consumer.Batch) error {
			encrypted = b.Records[0].Encrypted
			return seen.process(ctx, b)
		})
		time.Sleep(20 * time.Second)
		stop()
		require.Equal(f, []string{"secret"}, seen.take())
		require.True(f, encrypted)
	})
}

// A stretch without records, where the service returns empty pages, is longer than a Peek covers.
// So the shard is not at the tip, and the next Peek continues to the record.
func TestEmptyPagesAreNotTheTip(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		data := f.put(1)
		start := f.shards()[0].Start
		left, again := 0, (*string)(nil) // the empty pages do not advance
		f.client.set(func() {
			f.client.read = func(out *kinesis.GetRecordsOutput) {
				if left--; left >= 0 {
					out.Records, out.NextShardIterator, out.MillisBehindLatest = nil, again, aws.Int64(3_600_000)
				}
			}
		})
		empty := func(reads int) {
			out, err := f.client.GetShardIterator(f.Context(), &kinesis.GetShardIteratorInput{
				StreamName: aws.String("orders"), ShardId: aws.String(string(shard0)), ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
			})
			require.NoError(f, err)
			f.client.set(func() { left, again = reads, out.ShardIterator })
		}
		empty(1000)
		w, stop := f.worker(f.source, newLeases(), consumer.Config{}, func(context.Context, *consumer.Batch) error { return nil })
		time.Sleep(time.Second)
		stop()
		status, err := w.App().Status(f.Context())
		require.NoError(f, err)
		require.Zero(f, status.BehindRecords)
		require.False(f, status.CaughtUp())
		require.Equal(f, time.Hour, status.BehindLatest)

		empty(12)
		iterators := f.calls("GetShardIterator", "")
		for range 2 {
			page, err := f.source.Peek(f.Context(), "orders", shard0, start)
			require.NoError(f, err)
			require.Empty(f, page.Records)
			require.False(f, page.AtTip)
		}
		page, err := f.source.Peek(f.Context(), "orders", shard0, start)
		require.NoError(f, err)
		require.Len(f, page.Records, 1)
		require.Equal(f, data[0], string(page.Records[0].Data))
		require.LessOrEqual(f, f.calls("GetShardIterator", ""), iterators+1)
	})
}

// Readers that reach the end of their shards together share listings.
func TestListingsAreShared(t *testing.T) {
	sourceBubble(t, 20, polling.options(), func(f *sourceFixture) {
		shards := f.shards()
		for _, sh := range shards {
			f.kit.Split("orders", string(sh.ID))
		}
		f.kit.Delay("ListShards", 2, time.Second)
		ends := make([]func() error, len(shards))
		for i, sh := range shards {
			_, ends[i] = f.follow(f.open(sh.ID, sh.Start))
		}
		for _, end := range ends {
			require.NoError(f, end())
		}
		require.Len(f, f.kit.Calls("ListShards"), 3, "one before, one of the first reader, and one of all others")
		require.Len(f, f.kit.Calls("DescribeStreamSummary"), 1)
	})
}

// Positions whose records may have been trimmed are suspected, and no others.
func TestGapsAreSuspected(t *testing.T) {
	eachMode(t, 1, func(f *sourceFixture, m mode) {
		start := f.shards()[0].Start
		gapOf := func(at braid.Position) *braid.TrimmedError {
			r := f.open(shard0, at)
			defer r.Close()
			return f.next(r).Gap
		}
		f.put(2)
		require.Nil(f, gapOf(start))
		r := f.open(shard0, start)
		last := f.next(r).Next
		require.True(f, f.next(r).AtTip)
		latest, err := f.source.Resolve(f.Context(), "orders", shard0, braid.Latest())
		require.NoError(f, err)

		// The reader has read the shard all the time, so it knows that nothing arrived.
		for range 50 {
			time.Sleep(30 * time.Minute)
			page, err := r.Next(contextFor(f, time.Second), wide)
			if err != nil {
				require.ErrorIs(f, err, context.DeadlineExceeded)
			}
			require.Nil(f, page.Gap)
		}
		r.Close()
		require.Nil(f, gapOf(last), "the previous reader has seen that nothing is missing there")
		time.Sleep(25 * time.Hour)
		for _, at := range []braid.Position{start, last, latest.Start} {
			gap := gapOf(at)
			require.NotNil(f, gap, "%s", at)
			require.True(f, gap.Suspected)
		}

		// At the trim horizon nothing can be lost, nor a moment later.
		horizon, err := f.source.Resolve(f.Context(), "orders", shard0, braid.TrimHorizon())
		require.NoError(f, err)
		time.Sleep(time.Minute)
		require.Nil(f, gapOf(horizon.Start))
		time.Sleep(time.Hour)
		require.Nil(f, gapOf(horizon.Start), "the previous reader has seen that nothing was there")
		f.source = f.newSource(m.options())
		for range 2 { // until the reader continues there
			require.NotNil(f, gapOf(horizon.Start), "another process has not")
		}
		data := f.put(1)
		r = f.open(shard0, horizon.Start)
		gap := f.next(r).Gap
		require.NotNil(f, gap)
		require.Equal(f, data, f.rest(r))
		require.False(f, gap.FirstAvailable.IsZero())
	})
}

// contextFor returns the test's context with a timeout.
func contextFor(f *sourceFixture, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(f.Context(), d)
	f.Cleanup(cancel)
	return ctx
}

// A listing that is older than the previous one removes no shard; one in which a shard has expired
// does.
func TestListingsDoNotForgetShards(t *testing.T) {
	sourceBubble(t, 2, polling.options(), func(f *sourceFixture) {
		old := f.shards()
		f.kit.Split("orders", "0")
		now := f.shards()
		require.Len(f, now, 4)
		without := func(from int, to int) {
			f.client.set(func() {
				f.client.listed = func(out *kinesis.ListShardsOutput) { out.Shards = append(out.Shards[:from:from], out.Shards[to:]...) }
			})
		}
		without(len(old), 4)
		require.Equal(f, now, f.shards())
		f.client.set(func() { f.client.listed = nil })
		time.Sleep(20 * time.Hour)
		require.Equal(f, now, f.shards())
		without(0, 1)
		require.Equal(f, now, f.shards())
		time.Sleep(5 * time.Hour)
		f.client.set(func() {
			f.client.listed = func(out *kinesis.ListShardsOutput) {
				out.Shards = slices.DeleteFunc(out.Shards, func(s types.Shard) bool { return *s.ShardId == string(shard0) })
			}
		})
		require.Equal(f, now[1:], f.shards())
	})
}

// A shard and all of its children were closed and expired without any listing in between. The next
// listing forgets them, though the source knew the shard as open.
func TestListingForgetsShardsOfLongAgo(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		f.shards()
		f.kit.Split("orders", "0")
		time.Sleep(time.Hour)
		f.kit.Split("orders", "1")
		f.kit.Split("orders", "2")
		time.Sleep(30 * time.Hour)
		var ids []braid.ShardID
		for _, s := range f.shards() {
			ids = append(ids, s.ID)
		}
		require.Equal(f, []braid.ShardID{"shardId-000000000003", "shardId-000000000004", "shardId-000000000005", "shardId-000000000006"}, ids)
	})
}

// A reader does not continue in a new stream with the name of its own, even from a position that is
// a time.
func TestReaderDoesNotGoOnInAnotherStream(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		latest, err := f.source.Resolve(f.Context(), "orders", shard0, braid.Latest())
		require.NoError(f, err)
		r := f.open(shard0, latest.Start)
		require.True(f, f.next(r).AtTip)
		require.NoError(f, f.kit.DB().DeleteStream(f.Context(), "orders"))
		time.Sleep(2 * time.Second)
		_, err = f.kit.DB().CreateStream(f.Context(), "orders", &braid.StreamOptions{Shards: 1})
		require.NoError(f, err)
		f.put(1)
		f.shards() // lists the stream's shards
		f.kit.ExpireIterators()
		_, err = r.Next(f.Context(), wide)
		require.ErrorIs(f, err, braid.ErrStreamNotFound)
	})
}

// A reader waits for a time in the future.
func TestTimesInTheFutureAreWaitedFor(t *testing.T) {
	eachMode(t, 1, func(f *sourceFixture, _ mode) {
		at, err := f.source.Resolve(f.Context(), "orders", shard0, braid.AtTime(time.Now().Add(time.Hour)))
		require.NoError(f, err)
		r := f.open(shard0, at.Start)
		require.True(f, f.next(r).AtTip)
		f.put(1)
		seen, _ := f.follow(r)
		time.Sleep(59 * time.Minute)
		require.Empty(f, seen.take())
		time.Sleep(2 * time.Minute)
		data := f.put(1)
		time.Sleep(10 * time.Second)
		require.Equal(f, data, seen.take())
	})
}

// LATEST uses the service's clock if ours is certainly wrong, and otherwise ours, which is more
// precise.
func TestLatestIsOfTheServicesClock(t *testing.T) {
	sourceBubble(t, 1, polling.options(), func(f *sourceFixture) {
		for _, wrong := range []time.Duration{0, time.Hour, -time.Hour, 0, 300 * time.Millisecond} {
			now := time.Now().Add(wrong)
			f.client.Client = f.kit.Kinesis(func(o *kinesis.Options) {
				inner := o.HTTPClient
				o.HTTPClient = do(func(r *http.Request) (*http.Response, error) {
					response, err := inner.Do(r)
					if err == nil {
						response.Header.Set("Date", now.UTC().Format(http.TimeFormat))
					}
					return response, err
				})
			})
			time.Sleep(6 * time.Minute) // until the stream is described again
			now = time.Now().Add(wrong)
			f.shards()
			at, err := f.source.Resolve(f.Context(), "orders", shard0, braid.Latest())
			require.NoError(f, err)
			got, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(at.Start.Token(), "AT_TIMESTAMP "))
			require.NoError(f, err)
			if wrong.Abs() < time.Second {
				require.Equal(f, time.Now().UTC().Truncate(time.Millisecond), got)
			} else {
				require.InDelta(f, now.UnixMilli(), got.UnixMilli(), 1001)
			}
		}
	})
}

// Positions from other writers: leases of the KCL, and invalid ones.
func TestOtherPlaces(t *testing.T) {
	eachMode(t, 2, func(f *sourceFixture, _ mode) {
		f.put(10)
		var all []string
		for _, sh := range f.shards() {
			all = append(all, f.rest(f.open(sh.ID, braid.TrimHorizon()))...)
			time.Sleep(5 * time.Second)
			require.Empty(f, f.rest(f.open(sh.ID, braid.Latest())))
		}
		require.Len(f, all, 10)
		for _, at := range []braid.Position{f.shards()[1].Start, braid.AtToken("an iterator")} {
			_, err := f.open(shard0, at).Next(f.Context(), wide)
			var permanent *consumer.PermanentError
			require.ErrorAs(f, err, &permanent)
			require.ErrorIs(f, err, braid.ErrInvalidArgument)
			_, err = f.source.Resolve(f.Context(), "orders", shard0, at)
			require.ErrorAs(f, err, &permanent)
		}
		_, err := f.source.Stream(f.Context(), "no name")
		var permanent *consumer.PermanentError
		require.True(f, errors.As(err, &permanent), "%v", err)
		_, err = f.source.Stream(f.Context(), "refunds")
		require.ErrorIs(f, err, braid.ErrStreamNotFound)
	})
}
