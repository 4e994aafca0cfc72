package awskinesis_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// outbox is a forwarder from the stream "out" of a database to the stream "orders" of Kinesis, over
// a link that can be cut, all in a bubble.
type outbox struct {
	*testing.T
	kit      *kinesistest.Kit
	link     *link
	producer *awskinesis.Producer
	disk     *braidtest.Disk
	db       *braid.DB
	opts     awskinesis.ForwarderOptions

	forwarder *awskinesis.Forwarder
	ended     chan error // the result of its Run
	next      map[string]int
}

// inBubble runs the test with that many shards of the outbox and of Kinesis.
func inBubble(t *testing.T, from, to int, opts awskinesis.ForwarderOptions, test func(o *outbox)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{T: t, kit: kinesistest.New(t, kinesistest.Stream("orders", to)), disk: braidtest.NewDisk(), next: make(map[string]int), opts: opts}
		o.link = &link{client: &client{Client: o.kit.Kinesis()}}
		if o.opts.Logger == nil {
			o.opts.Logger = quiet()
		}
		o.open()
		_, err := o.db.CreateStream(t.Context(), "out", &braid.StreamOptions{Shards: from, MaxRecordBytes: 4 << 20})
		require.NoError(t, err)
		o.connect(nil)
		defer func() { // if the test failed
			_ = o.stop()
			_ = o.producer.Close(context.Background())
			_ = o.db.Close()
		}()
		test(o)
	})
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func (o *outbox) open() {
	db, err := o.disk.Open(&braid.Options{Logger: quiet()})
	require.NoError(o, err)
	o.db = db
}

// connect creates the producer, and replaces an earlier one.
func (o *outbox) connect(opts *awskinesis.ProducerOptions) { o.connectTo(o.link, opts) }

func (o *outbox) connectTo(client awskinesis.KinesisClient, opts *awskinesis.ProducerOptions) {
	if o.producer != nil {
		require.NoError(o, o.producer.Close(context.Background()))
	}
	var options awskinesis.ProducerOptions
	if opts != nil {
		options = *opts
	}
	options.Logger = quiet()
	var err error
	o.producer, err = awskinesis.NewProducer(context.Background(), client, "orders", &options)
	require.NoError(o, err)
}

// make creates the forwarder, and start runs it.
func (o *outbox) make() {
	var err error
	o.forwarder, err = awskinesis.NewForwarder(o.db, "out", o.producer, &o.opts)
	require.NoError(o, err)
}

func (o *outbox) start() {
	if o.forwarder == nil {
		o.make()
	}
	o.ended = make(chan error, 1)
	go func() { o.ended <- o.forwarder.Run(context.Background()) }() // until stop
}

// stop stops the forwarder if it runs, and returns the result of Run.
func (o *outbox) stop() error {
	if o.ended == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := o.forwarder.Stop(ctx)
	run := <-o.ended
	o.ended, o.forwarder = nil, nil
	return errors.Join(err, run)
}

func (o *outbox) stream() *braid.Stream {
	stream, err := o.db.Stream("out")
	require.NoError(o, err)
	return stream
}

// numbered returns n records with keys in turn, numbered within each key.
func (o *outbox) numbered(n int, keys ...string) (entries []braid.Entry) {
	for i := range n {
		key := keys[i%len(keys)]
		o.next[key]++
		entries = append(entries, braid.Entry{PartitionKey: key, Data: fmt.Append(nil, o.next[key])})
	}
	return entries
}

// put puts records of these keys into the outbox.
func (o *outbox) put(n int, keys ...string) {
	results, err := o.stream().PutRecords(context.Background(), o.numbered(n, keys...))
	requireStored(o, results, err)
}

func (o *outbox) caughtUp() {
	o.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	defer cancel()
	require.NoError(o, o.forwarder.App().WaitCaughtUp(ctx))
}

func (o *outbox) status() awskinesis.ForwarderStatus {
	o.Helper()
	status, err := o.forwarder.Status(context.Background())
	require.NoError(o, err)
	return status
}

// stored returns the data that Kinesis has of each key, in order.
func (o *outbox) stored() map[string][]string {
	f := &fixture{T: o.T, kit: o.kit}
	return f.delivered(dropAggregate)
}

// requireOnce requires that Kinesis has all numbered records exactly once, in the order of their
// keys.
func (o *outbox) requireOnce() {
	o.Helper()
	want := make(map[string][]string)
	for key, n := range o.next {
		for i := range n {
			want[key] = append(want[key], fmt.Sprint(i+1))
		}
	}
	require.Equal(o, want, o.stored())
}

// requireAll requires that Kinesis has all numbered records, and that the first occurrences are in
// the order of their keys. It returns the number of duplicates.
func (o *outbox) requireAll() (doubled int) {
	o.Helper()
	f := &fixture{T: o.T, kit: o.kit}
	for _, times := range f.requireOrder(dropAggregate) {
		doubled += times - 1
	}
	seen := o.stored()
	for key, n := range o.next {
		for i := range n {
			require.Contains(o, seen[key], fmt.Sprint(i+1), "a record of %s is lost", key)
		}
	}
	return doubled
}

var keys = []string{"a", "b", "c", "d", "e", "f", "g"}

// link is a client whose link to the service can be cut.
type link struct {
	*client

	state sync.Mutex // guards the fields below
	cut   bool
	delay time.Duration
}

func (l *link) set(cut bool, delay time.Duration) {
	l.state.Lock()
	defer l.state.Unlock()
	l.cut, l.delay = cut, delay
}

func (l *link) PutRecords(ctx context.Context, in *kinesis.PutRecordsInput, options ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error) {
	l.state.Lock()
	cut, delay := l.cut, l.delay
	l.state.Unlock()
	if cut {
		return nil, errBroken
	}
	if delay > 0 {
		time.Sleep(delay)
	}
	return l.client.PutRecords(ctx, in, options...)
}

// lame is a link on which all records for the upper half of the hash keys are throttled.
type lame struct {
	*link
	off atomic.Bool // nothing is throttled
}

func (l *lame) PutRecords(ctx context.Context, in *kinesis.PutRecordsInput, options ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error) {
	if l.off.Load() {
		return l.link.PutRecords(ctx, in, options...)
	}
	lower := *in
	lower.Records = nil
	for _, e := range in.Records {
		if !isUpper(e) {
			lower.Records = append(lower.Records, e)
		}
	}
	stored := &kinesis.PutRecordsOutput{}
	if len(lower.Records) > 0 {
		var err error
		if stored, err = l.link.PutRecords(ctx, &lower, options...); err != nil {
			return nil, err
		}
	}
	out := &kinesis.PutRecordsOutput{}
	for _, e := range in.Records {
		if isUpper(e) {
			out.Records = append(out.Records, types.PutRecordsResultEntry{ErrorCode: aws.String("ProvisionedThroughputExceededException")})
			continue
		}
		out.Records, stored.Records = append(out.Records, stored.Records[0]), stored.Records[1:]
	}
	return out, nil
}

func isUpper(e types.PutRecordsRequestEntry) bool {
	middle, _ := braid.ParseHashKey("170141183460469231731687303715884105728")
	return braid.HashKeyOf(aws.ToString(e.PartitionKey)).Compare(middle) >= 0
}
