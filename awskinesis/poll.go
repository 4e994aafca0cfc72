package awskinesis

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/braidstream/braid/consumer"
)

// throttledReads is how many reads in a row are throttled before a reader returns an error. Fewer
// are attributed to other readers of the shard.
const throttledReads = 10

// poller is the feed that calls GetRecords. All calls of a shard in this process take turns.
type poller struct {
	stream   *sourceStream
	shard    *sourceShard
	reader   *shardReader
	iterator *string       // nil for none, at first and after one that has expired
	due      time.Time     // of the next read
	pause    time.Duration // before it, if the last one has found the tip
}

func newPoller(r *shardReader) *poller {
	return &poller{stream: r.stream, shard: r.shard, reader: r}
}

func (*poller) close() {}

// fetch reads once. While the shard is idle, it reads less and less often.
func (p *poller) fetch(ctx context.Context, from start, limits consumer.Limits) (portion, error) {
	if err := sleepUntil(ctx, p.due); err != nil {
		return portion{}, err
	}
	if p.iterator == nil {
		if err := p.open(ctx, from); err != nil || p.iterator == nil {
			return portion{}, err
		}
	}
	opts := p.stream.source.opts
	out, sent, err := p.read(ctx, limits)
	if err != nil || out == nil {
		return portion{}, err
	}
	p.iterator = out.NextShardIterator
	behind := time.Duration(aws.ToInt64(out.MillisBehindLatest)) * time.Millisecond
	portion := portion{
		records:  out.Records,
		behind:   behind,
		atTip:    behind == 0,
		ended:    out.NextShardIterator == nil,
		children: out.ChildShards,
		asked:    sent,
	}
	switch {
	case behind > 0:
		p.pause = 0
	case len(out.Records) > 0:
		p.pause = opts.PollInterval
	default:
		p.pause = min(max(2*p.pause, opts.PollInterval), opts.IdleInterval)
	}
	p.due = sent.Add(p.pause)
	return portion, nil
}

// read makes one call. If it returns neither output nor an error, the caller calls it again.
func (p *poller) read(ctx context.Context, limits consumer.Limits) (*kinesis.GetRecordsOutput, time.Time, error) {
	s := p.stream.source
	if err := p.shard.reads.take(ctx); err != nil {
		return nil, time.Time{}, err
	}
	defer p.shard.reads.give()
	sent := time.Now()
	call, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	s.counts.reads.Add(1)
	out, err := s.client.GetRecords(call, &kinesis.GetRecordsInput{
		ShardIterator: p.iterator,
		StreamARN:     p.stream.id.arn,
		Limit:         aws.Int32(p.shard.limit(limits.Records, limits.Bytes)),
	}, oneAttempt)
	p.shard.reads.notBefore(sent.Add(s.opts.PollInterval))
	switch {
	case err != nil && codeOf(err) == "ExpiredIteratorException":
		s.counts.expired.Add(1)
		p.iterator = nil
		return nil, sent, nil
	case err != nil:
		return nil, sent, p.throttled(err)
	}
	bytes := 0
	for i := range out.Records {
		bytes += len(out.Records[i].Data) + len(aws.ToString(out.Records[i].PartitionKey))
	}
	p.shard.noteRead(len(out.Records), bytes)
	return out, sent, nil
}

// open gets an iterator. If there is none and no error, the caller calls it again.
func (p *poller) open(ctx context.Context, from start) error {
	s := p.stream.source
	if err := p.shard.iterators.take(ctx); err != nil {
		return err
	}
	defer p.shard.iterators.give()
	call, cancel := context.WithTimeout(ctx, s.opts.RequestTimeout)
	defer cancel()
	s.counts.iterators.Add(1)
	sent := time.Now()
	out, err := s.client.GetShardIterator(call, &kinesis.GetShardIteratorInput{
		StreamName:             p.stream.id.name,
		StreamARN:              p.stream.id.arn,
		ShardId:                aws.String(string(p.reader.id)),
		ShardIteratorType:      from.kind,
		StartingSequenceNumber: from.number,
		Timestamp:              from.time,
	}, oneAttempt)
	p.shard.iterators.notBefore(sent.Add(iteratorInterval))
	if err != nil {
		return p.throttled(err)
	}
	s.noteClock(out.ResultMetadata, sent)
	p.iterator = out.ShardIterator
	return nil
}

// throttled pauses the shard after throttling. It returns nil for throttling that is likely to be
// temporary.
func (p *poller) throttled(err error) error {
	if !isThrottle(err) {
		return err
	}
	p.stream.source.counts.throttled.Add(1)
	if fails := p.shard.noteThrottled(); fails >= throttledReads || p.reader.peeks {
		return err
	}
	return nil
}
