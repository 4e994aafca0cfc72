package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// TestSDKReader: workers read a stream as the Kinesis Client Library does, while producers
// put and shards change. They make leases for the shards at the starting position, and find
// children at the end of their parents. Each record of each key must be read once, in
// order.
func TestSDKReader(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			options := &kinesisapi.Options{UpdateDelay: []time.Duration{0, 3 * time.Second}[seed%2]}
			inBubble(t, options, func(t *testing.T, k *sdk) { runReader(t, k, random, types.ShardFilterTypeAtTrimHorizon) })
			inBubble(t, options, func(t *testing.T, k *sdk) { runReader(t, k, random, types.ShardFilterTypeAtTimestamp) })
			inBubble(t, options, func(t *testing.T, k *sdk) { runReader(t, k, random, types.ShardFilterTypeAtLatest) })
		})
	}
}

const (
	readerKeys    = 4  // of each producer
	readerRecords = 20 // of each key, in each half of the test
)

func runReader(t *testing.T, k *sdk, random *rand.Rand, begin types.ShardFilterType) {
	k.create("orders", 1+random.IntN(4))
	for i := range 3 {
		k.register("orders", fmt.Sprint("worker-", i))
	}
	k.sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	fork := func() *rand.Rand { return rand.New(rand.NewPCG(random.Uint64(), 3)) }

	// The shards change, and are looked at, while records are put.
	ctx, cancel := context.WithCancel(k.ctx)
	quiet, calm := context.WithCancel(ctx)
	var background, workers sync.WaitGroup
	defer workers.Wait()
	defer background.Wait()
	defer cancel()
	defer calm()
	resharder, checker := fork(), fork()
	background.Go(func() { k.reshard(quiet, resharder) })
	background.Go(func() { k.checkCovers(quiet, checker, time.Now()) })

	half := func(first int) func() {
		var producers sync.WaitGroup
		for p := range 3 {
			own := fork()
			producers.Go(func() { k.produce(own, p, first) })
		}
		return producers.Wait
	}
	half(0)()
	r := &reader{sdk: k, leases: make(map[string]*lease), seen: make(map[string][]int), changed: make(chan struct{}, 1)}
	at := time.Now().Add(-time.Duration(random.IntN(8000)) * time.Millisecond).Truncate(time.Millisecond)
	r.begin(begin, at)
	for i := range 3 {
		own := fork()
		workers.Go(func() { r.work(ctx, own, arnOf("orders")+r.consumer(i)) })
	}
	half(readerRecords)()
	calm()

	// They should read exactly the records of the database.
	stream, err := k.db.Stream("orders")
	require.NoError(t, err)
	want, total := make(map[string][]int), 0
	for record, err := range stream.Records(k.ctx, braid.TrimHorizon()) {
		require.NoError(t, err)
		key, index := parseReaderRecord(record.Data)
		switch begin {
		case types.ShardFilterTypeAtTimestamp:
			if record.ArrivalTime.Before(at) {
				continue
			}
		case types.ShardFilterTypeAtLatest:
			if index < readerRecords {
				continue
			}
		default:
		}
		want[key] = append(want[key], index)
		total++
	}
	deadline := time.After(10 * time.Minute)
	for r.count() < total && !t.Failed() {
		select {
		case <-r.changed:
		case <-deadline:
			t.Error("the workers are stuck")
		}
	}
	k.sleep(time.Minute) // time to read records a second time, which must not happen
	require.Equal(t, want, r.seen)
	for key, list := range r.seen {
		require.True(t, slices.IsSorted(list), "%s: %v", key, list)
	}
}

// produce puts records, one or many at a time. Each key belongs to one producer, which numbers its
// records.
func (k *sdk) produce(random *rand.Rand, producer, first int) {
	next := make([]int, readerKeys)
	for i := range next {
		next[i] = first
	}
	left := readerKeys * readerRecords
	for left > 0 {
		entries := make([]types.PutRecordsRequestEntry, min(left, 1+random.IntN(6)))
		for i := range entries {
			j := random.IntN(len(next))
			for next[j] == first+readerRecords {
				j = (j + 1) % len(next)
			}
			key := fmt.Sprintf("key-%d-%d", producer, j)
			entries[i] = types.PutRecordsRequestEntry{PartitionKey: &key, Data: fmt.Appendf(nil, "%s %d", key, next[j])}
			next[j]++
			left--
		}
		if len(entries) == 1 {
			_, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: entries[0].PartitionKey, Data: entries[0].Data})
			if err != nil {
				k.t.Error(err)
				return
			}
		} else {
			out, err := k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamName: aws.String("orders"), Records: entries})
			if err != nil || *out.FailedRecordCount > 0 {
				k.t.Error(out, err)
				return
			}
		}
		if random.IntN(2) == 0 {
			time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
		}
	}
}

func parseReaderRecord(data []byte) (key string, index int) {
	if _, err := fmt.Sscanf(string(data), "%s %d", &key, &index); err != nil {
		panic(err)
	}
	return key, index
}

// reshard changes the shards in several ways, one after another.
func (k *sdk) reshard(ctx context.Context, random *rand.Rand) {
	for sleepFor(ctx, random.IntN(2500)) {
		open, err := k.list(ctx, &types.ShardFilter{Type: types.ShardFilterTypeAtLatest})
		if err != nil {
			if ctx.Err() == nil {
				k.t.Error(err)
			}
			return
		}
		slices.SortFunc(open, func(a, b types.Shard) int {
			return number(a.HashKeyRange.StartingHashKey).Cmp(number(b.HashKeyRange.StartingHashKey))
		})
		i := random.IntN(len(open))
		name := aws.String("orders")
		switch what := random.IntN(5); {
		case what == 0:
			_, err = k.UpdateShardCount(ctx, &kinesis.UpdateShardCountInput{StreamName: name, TargetShardCount: aws.Int32(int32(1 + random.IntN(7))), ScalingType: types.ScalingTypeUniformScaling})
		case what < 3 && i+1 < len(open) || len(open) > 8:
			i = min(i, len(open)-2)
			_, err = k.MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: name, ShardToMerge: open[i].ShardId, AdjacentShardToMerge: open[i+1].ShardId})
		default:
			_, err = k.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: name, ShardToSplit: open[i].ShardId, NewStartingHashKey: aws.String(between(open[i].HashKeyRange))})
		}
		var busy errInUse
		if err != nil && !errors.As(err, &busy) && ctx.Err() == nil {
			k.t.Error(err)
		}
	}
}

// checkCovers lists the shards at several moments, and checks that they cover the space of
// hash keys.
func (k *sdk) checkCovers(ctx context.Context, random *rand.Rand, created time.Time) {
	for sleepFor(ctx, random.IntN(400)) {
		at := created.Add(time.Duration(random.Int64N(int64(time.Since(created)) + 1)))
		for _, filter := range []types.ShardFilter{
			{Type: types.ShardFilterTypeAtLatest}, {Type: types.ShardFilterTypeAtTrimHorizon}, {Type: types.ShardFilterTypeAtTimestamp, Timestamp: &at},
		} {
			shards, err := k.list(ctx, &filter)
			if err == nil {
				err = tiles(shards)
			}
			if err != nil && ctx.Err() == nil {
				k.t.Errorf("%s: %v", filter.Type, err)
			}
		}
	}
}

// list lists the shards of "orders" in one page, so that they are those of one
// moment.
func (k *sdk) list(ctx context.Context, filter *types.ShardFilter) ([]types.Shard, error) {
	out, err := k.ListShards(ctx, &kinesis.ListShardsInput{StreamName: aws.String("orders"), ShardFilter: filter})
	if err != nil {
		return nil, err
	}
	return out.Shards, nil
}

// sleepFor sleeps for some milliseconds. It reports false if the context ends.
func sleepFor(ctx context.Context, ms int) bool {
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

// reader is the shared state of the workers: the leases, and the records that were read.
type reader struct {
	*sdk
	changed chan struct{}

	mu     sync.Mutex // guards the fields below
	leases map[string]*lease
	seen   map[string][]int
	total  int
}

// lease is one worker's right to read a shard, and its position.
type lease struct {
	shard       string
	kind        types.ShardIteratorType // the starting position
	at          *time.Time
	iterator    *string // to begin with, if there is one
	number      *string // to continue after, if there is one
	taken, done bool
}

// begin makes leases for the shards at the time where reading begins.
func (r *reader) begin(filter types.ShardFilterType, at time.Time) {
	f := &types.ShardFilter{Type: filter}
	if filter == types.ShardFilterTypeAtTimestamp {
		f.Timestamp = &at
	}
	shards := r.filtered("orders", f)
	requireTiles(r.t, shards)
	for _, sh := range shards {
		l := &lease{shard: *sh.ShardId}
		switch filter {
		case types.ShardFilterTypeAtTimestamp:
			l.kind, l.at = types.ShardIteratorTypeAtTimestamp, &at
		case types.ShardFilterTypeAtLatest:
			l.kind, l.iterator = types.ShardIteratorTypeLatest, r.iterator("orders", l.shard, types.ShardIteratorTypeLatest)
		default:
			l.kind = types.ShardIteratorTypeTrimHorizon
		}
		r.leases[l.shard] = l
	}
}

func (r *reader) consumer(i int) string {
	stream := arnOf("orders")
	d, err := r.DescribeStreamConsumer(r.ctx, &kinesis.DescribeStreamConsumerInput{StreamARN: &stream, ConsumerName: aws.String(fmt.Sprint("worker-", i))})
	require.NoError(r.t, err)
	return (*d.ConsumerDescription.ConsumerARN)[len(stream):]
}

// work takes a lease, reads for a while by polling or by subscription, and gives the lease
// back.
func (r *reader) work(ctx context.Context, random *rand.Rand, consumer string) {
	for sleepFor(ctx, random.IntN(100)) {
		l := r.take(random)
		if l == nil {
			continue
		}
		var err error
		if l.iterator != nil || random.IntN(2) == 0 {
			err = r.poll(ctx, random, l)
		} else {
			err = r.follow(ctx, random, l, consumer)
		}
		if err != nil && ctx.Err() == nil {
			r.t.Errorf("%s: %v", l.shard, err)
		}
		r.mu.Lock()
		l.taken = false
		r.mu.Unlock()
	}
}

func (r *reader) take(random *rand.Rand) *lease {
	r.mu.Lock()
	defer r.mu.Unlock()
	var free []*lease
	for _, l := range r.leases {
		if !l.taken && !l.done {
			free = append(free, l)
		}
	}
	if len(free) == 0 {
		return nil
	}
	slices.SortFunc(free, func(a, b *lease) int { return strings.Compare(a.shard, b.shard) })
	l := free[random.IntN(len(free))]
	l.taken = true
	return l
}

// poll reads some pages.
func (r *reader) poll(ctx context.Context, random *rand.Rand, l *lease) error {
	it := l.iterator
	l.iterator = nil
	if it == nil {
		in := &kinesis.GetShardIteratorInput{StreamName: aws.String("orders"), ShardId: &l.shard, ShardIteratorType: l.kind, Timestamp: l.at}
		if l.number != nil {
			in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp = types.ShardIteratorTypeAfterSequenceNumber, l.number, nil
		}
		out, err := r.GetShardIterator(ctx, in)
		if err != nil {
			return err
		}
		it = out.ShardIterator
	}
	for range 1 + random.IntN(4) {
		out, err := r.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(int32(1 + random.IntN(20)))})
		if err != nil {
			return err
		}
		r.process(l, out.Records)
		if (out.NextShardIterator == nil) != (len(out.ChildShards) > 0) {
			return fmt.Errorf("an iterator %v, and %d children", out.NextShardIterator, len(out.ChildShards))
		}
		if out.NextShardIterator == nil {
			return r.finish(l, out.ChildShards)
		}
		it = out.NextShardIterator
		if !sleepFor(ctx, random.IntN(300)) {
			return nil
		}
	}
	if l.number == nil && l.kind == types.ShardIteratorTypeLatest {
		l.iterator = it // it is a concrete position, and LATEST is not
	}
	return nil
}

// follow subscribes, and reads some events.
func (r *reader) follow(ctx context.Context, random *rand.Rand, l *lease, consumer string) error {
	from := &types.StartingPosition{Type: l.kind, Timestamp: l.at}
	if l.number != nil {
		from = &types.StartingPosition{Type: types.ShardIteratorTypeAfterSequenceNumber, SequenceNumber: l.number}
	}
	out, err := r.SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{ConsumerARN: &consumer, ShardId: &l.shard, StartingPosition: from})
	var busy errInUse
	if errors.As(err, &busy) {
		return nil // the previous subscription has not quite ended
	}
	if err != nil {
		return err
	}
	stream := out.GetStream()
	defer stream.Close()
	for range 1 + random.IntN(5) {
		event, ok := <-stream.Events()
		if !ok {
			return stream.Err()
		}
		value := event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
		r.process(l, value.Records)
		if (value.ContinuationSequenceNumber == nil) != (len(value.ChildShards) > 0) {
			return fmt.Errorf("a number %v, and %d children", value.ContinuationSequenceNumber, len(value.ChildShards))
		}
		if value.ContinuationSequenceNumber == nil {
			return r.finish(l, value.ChildShards)
		}
		l.number = value.ContinuationSequenceNumber
	}
	return nil
}

// process handles records and moves the checkpoint.
func (r *reader) process(l *lease, records []types.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range records {
		key, index := parseReaderRecord(records[i].Data)
		r.seen[key] = append(r.seen[key], index)
		r.total++
		l.number = records[i].SequenceNumber
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// finish ends a lease, and makes leases for the children whose parents are all finished.
func (r *reader) finish(l *lease, children []types.ChildShard) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.done = true
	for _, child := range children {
		if !slices.Contains(child.ParentShards, l.shard) {
			return fmt.Errorf("%s has parents %v", *child.ShardId, child.ParentShards)
		}
		unfinished := func(id string) bool { return r.leases[id] == nil || !r.leases[id].done }
		if r.leases[*child.ShardId] == nil && !slices.ContainsFunc(child.ParentShards, unfinished) {
			r.leases[*child.ShardId] = &lease{shard: *child.ShardId, kind: types.ShardIteratorTypeTrimHorizon}
		}
	}
	return nil
}

func (r *reader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}
