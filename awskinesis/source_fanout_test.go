package awskinesis_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"io"
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
)

// connection is the body of a subscription's response. A test can break or silence it.
type connection struct {
	io.ReadCloser
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex // guards the fields below
	err    error      // the error with which it broke
	silent bool
	first  bool   // it breaks after the first frame, which is not an event
	frame  []byte // the part of it that was read
}

func (c *connection) breakOff(err error) {
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	_ = c.Close()
}

func (c *connection) fallSilent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = true
}

func (c *connection) Read(p []byte) (int, error) {
	c.mu.Lock()
	silent, first := c.silent, c.first
	c.mu.Unlock()
	if first {
		return c.readFirst(p)
	}
	if silent {
		<-c.closed
		return 0, io.ErrClosedPipe
	}
	n, err := c.ReadCloser.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	return n, err
}

// readFirst reads at most the first frame, whose length is in its first four bytes.
func (c *connection) readFirst(p []byte) (int, error) {
	left := 4 - len(c.frame)
	if left <= 0 {
		left = int(binary.BigEndian.Uint32(c.frame)) - len(c.frame)
	}
	if left == 0 {
		return 0, errBroken
	}
	n, err := c.ReadCloser.Read(p[:min(left, len(p))])
	c.frame = append(c.frame, p[:n]...)
	return n, err
}

func (c *connection) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.ReadCloser.Close()
}

// follow reads until the test ends the reader. seen has what was read so far.
func (f *sourceFixture) follow(r consumer.ShardReader) (seen *journal, stop func() error) {
	seen = &journal{}
	ended, done := make(chan error, 1), make(chan struct{})
	f.Cleanup(func() { <-done }) // before the reader is closed
	go func() {                  // ends with an error of Next, at the latest that of the test's context
		defer close(done)
		for {
			page, err := r.Next(f.Context(), wide)
			if err != nil {
				ended <- err
				return
			}
			if page.Gap != nil {
				ended <- page.Gap
				return
			}
			seen.mu.Lock()
			for _, rec := range page.Records {
				seen.data = append(seen.data, string(rec.Data))
			}
			seen.mu.Unlock()
			if page.EndOfShard {
				ended <- nil
				return
			}
		}
	}()
	return seen, func() error { return <-ended }
}

// subscriptions returns when SubscribeToShard was called, and from where.
func (f *sourceFixture) subscriptions() (times []time.Time, from []types.StartingPosition) {
	f.Helper()
	for _, c := range f.kit.Calls("SubscribeToShard") {
		times = append(times, c.Time)
		from = append(from, *c.Input.(*kinesis.SubscribeToShardInput).StartingPosition)
	}
	return times, from
}

func TestSubscriptionIsRenewedBeforeItEnds(t *testing.T) {
	sourceBubble(t, 1, fanOut.options(), func(f *sourceFixture) {
		var connections []*connection
		f.client.set(func() { f.client.connected = func(c *connection) { connections = append(connections, c) } })
		r := f.open(shard0, f.shards()[0].Start)
		seen, ended := f.follow(r)
		all := []string{}
		for range 720 { // an hour
			all = append(all, f.put(1)...)
			time.Sleep(5 * time.Second)
		}
		require.Equal(f, all, seen.take())
		times, from := f.subscriptions()
		require.InDelta(f, 13, len(times), 1)
		for i := range times[1:] {
			lasted := times[i+1].Sub(times[i])
			require.Greater(f, lasted, 4*time.Minute)
			require.Less(f, lasted, 5*time.Minute, "before the service ends it")
			require.Equal(f, types.ShardIteratorTypeAfterSequenceNumber, from[i+1].Type)
		}
		f.kit.Split("orders", "0")
		require.NoError(f, ended())
		r.Close()
		f.client.set(func() {
			for _, c := range connections {
				<-c.closed
			}
		})
		f.requireNoThrottle()
	})
}

// A connection breaks in the middle of an event, which is delivered again. After many breaks in a
// row the reader returns an error.
func TestSubscriptionThatBreaksIsRenewed(t *testing.T) {
	sourceBubble(t, 1, fanOut.options(), func(f *sourceFixture) {
		var last *connection
		f.client.set(func() { f.client.connected = func(c *connection) { last = c } })
		breakOff := func(err error) {
			synctest.Wait()
			var c *connection
			f.client.set(func() { c = last })
			c.breakOff(err)
		}
		seen, ended := f.follow(f.open(shard0, f.shards()[0].Start))
		var all, got []string
		for _, err := range []error{errBroken, io.EOF, io.ErrUnexpectedEOF, errBroken} {
			all = append(all, f.put(5)...)
			breakOff(err)
			all = append(all, f.put(5)...)
			time.Sleep(10 * time.Second)
			got = append(got, seen.take()...)
			require.Equal(f, all, got)
		}
		f.client.set(func() {
			f.client.connected = func(c *connection) { c.first = true }
		})
		broken := f.source.Metrics().Broken
		breakOff(errBroken)
		require.ErrorIs(f, ended(), errBroken)
		require.Equal(f, broken+5, f.source.Metrics().Broken)
	})
}

// A silent connection is replaced: the service sends something every few seconds.
func TestSilentSubscriptionIsRenewed(t *testing.T) {
	sourceBubble(t, 1, fanOut.options(), func(f *sourceFixture) {
		var first *connection
		f.client.set(func() { f.client.connected = func(c *connection) { first = cmp.Or(first, c) } })
		seen, _ := f.follow(f.open(shard0, f.shards()[0].Start))
		synctest.Wait()
		f.client.set(func() { first.fallSilent() })
		f.put(2)
		time.Sleep(29 * time.Second)
		require.Empty(f, seen.take())
		time.Sleep(2 * time.Second)
		require.Equal(f, []string{"0", "1"}, seen.take())
	})
}

// A reader in another process takes the subscription over once it is five seconds old. The previous
// reader notices, and does not take it back at once.
func TestSubscriptionIsTakenOver(t *testing.T) {
	sourceBubble(t, 1, fanOut.options(), func(f *sourceFixture) {
		start := f.shards()[0].Start
		old, oldEnded := f.follow(f.open(shard0, start))
		f.put(1)
		time.Sleep(time.Second)
		other, err := f.newSource(fanOut.options()).Open(f.Context(), "orders", shard0, start)
		require.NoError(f, err)
		f.Cleanup(other.Close)
		began := time.Now()
		seen, _ := f.follow(other)
		var taken *types.ResourceInUseException
		require.ErrorAs(f, oldEnded(), &taken)
		require.InDelta(f, 4.5, time.Since(began).Seconds(), 1)
		f.put(1)
		time.Sleep(time.Second)
		require.Equal(f, []string{"0", "1"}, seen.take())
		require.Equal(f, []string{"0"}, old.take())
		calls := len(f.kit.Calls("SubscribeToShard"))
		time.Sleep(3 * time.Second)
		require.Len(f, f.kit.Calls("SubscribeToShard"), calls)
	})
}

// While the processor is busy, nothing is read and the service ends the subscription. The reader
// then continues at its position.
func TestSubscriptionThatIsNotReadGoesOn(t *testing.T) {
	sourceBubble(t, 1, fanOut.options(), func(f *sourceFixture) {
		r := f.open(shard0, f.shards()[0].Start)
		require.True(f, f.next(r).AtTip)
		var all, got []string
		for range 6 {
			for range 60 {
				all = append(all, f.put(2)...)
				time.Sleep(10 * time.Second)
			}
			got = append(got, f.rest(r)...)
		}
		require.Equal(f, all, got)
	})
}

func TestConsumerIsRegisteredOnce(t *testing.T) {
	sourceBubble(t, 3, fanOut.options(), func(f *sourceFixture) {
		var group sync.WaitGroup
		for range 3 {
			source := f.newSource(fanOut.options())
			for _, sh := range f.shards() {
				r, err := source.Open(f.Context(), "orders", sh.ID, sh.Start)
				require.NoError(f, err)
				group.Go(func() {
					defer r.Close()
					_, err := r.Next(f.Context(), wide)
					require.NoError(f, err)
				})
			}
		}
		group.Wait()
		require.Equal(f, 1, f.calls("RegisterStreamConsumer", ""))
		require.NoError(f, f.source.Deregister(f.Context(), "orders"))
		require.NoError(f, f.source.Deregister(f.Context(), "orders"), "once more")
		require.Equal(f, 1, f.calls("DeregisterStreamConsumer", ""))

		// A reader registers it again.
		r := f.open("shardId-000000000001", f.shards()[1].Start)
		time.Sleep(5 * time.Second)
		f.next(r)
		require.Equal(f, 2, f.calls("RegisterStreamConsumer", ""))

		// The same happens if somebody else deregisters it meanwhile.
		require.NoError(f, f.newSource(fanOut.options()).Deregister(f.Context(), "orders"))
		time.Sleep(5 * time.Minute)
		_, err := r.Next(f.Context(), wide)
		for err == nil {
			_, err = r.Next(f.Context(), wide)
		}
		var gone *types.ResourceNotFoundException
		require.ErrorAs(f, err, &gone)
		require.NotErrorIs(f, err, braid.ErrStreamNotFound)
		require.NotErrorIs(f, err, braid.ErrShardNotFound)
		f.next(f.open("shardId-000000000001", f.shards()[1].Start))
		require.Equal(f, 3, f.calls("RegisterStreamConsumer", ""))
	})
}

func TestConsumerIsGivenByARN(t *testing.T) {
	sourceBubble(t, 1, nil, func(f *sourceFixture) {
		stream, err := f.client.DescribeStreamSummary(f.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: new("orders")})
		require.NoError(f, err)
		arn := stream.StreamDescriptionSummary.StreamARN
		out, err := f.client.RegisterStreamConsumer(f.Context(), &kinesis.RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: new("given")})
		require.NoError(f, err)
		f.source = f.newSource(&awskinesis.SourceOptions{ConsumerARNs: map[string]string{"orders": *out.Consumer.ConsumerARN}})
		f.put(1)
		require.Equal(f, []string{"0"}, f.rest(f.open(shard0, f.shards()[0].Start)))
		require.Equal(f, 1, f.calls("SubscribeToShard", ""))
		require.Zero(f, f.calls("GetRecords", ""))
		require.Equal(f, 1, f.calls("RegisterStreamConsumer", ""))
		require.ErrorIs(f, f.source.Deregister(f.Context(), "orders"), braid.ErrInvalidArgument)
	})
}

// If fan-out is refused, a source that may poll does so for ten minutes; another one stops.
func TestRefusedFanOutIsPolled(t *testing.T) {
	for _, refusal := range []struct{ operation, code string }{
		{"DescribeStreamConsumer", "AccessDeniedException"},
		{"RegisterStreamConsumer", "LimitExceededException"},
		{"RegisterStreamConsumer", "UnknownOperationException"},
		{"SubscribeToShard", "AccessDeniedException"},
	} {
		t.Run(refusal.operation+" "+refusal.code, func(t *testing.T) {
			options := fanOut.options()
			options.PollOnRefusal = true
			sourceBubble(t, 1, options, func(f *sourceFixture) {
				attempts := 1
				if refusal.code == "LimitExceededException" {
					attempts = 3 // the SDK's
				}
				start := f.shards()[0].Start
				f.put(1)
				f.kit.Fail(refusal.operation, attempts, refusal.code)
				r, err := f.newSource(fanOut.options()).Open(f.Context(), "orders", shard0, start)
				require.NoError(f, err)
				defer r.Close()
				_, err = r.Next(f.Context(), wide)
				require.Error(f, err)
				var permanent *consumer.PermanentError
				require.Equal(f, attempts == 1, errors.As(err, &permanent), "%v", err)

				f.kit.Fail(refusal.operation, attempts, refusal.code)
				require.Equal(f, []string{"0"}, f.rest(f.open(shard0, start)))
				require.Equal(f, []string{"0"}, f.rest(f.open(shard0, start)))
				require.Zero(f, f.calls("SubscribeToShard", ""))
				time.Sleep(11 * time.Minute)
				require.Equal(f, []string{"0"}, f.rest(f.open(shard0, start)))
				require.Equal(f, 1, f.calls("SubscribeToShard", ""))
			})
		})
	}
}
