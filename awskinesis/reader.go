package awskinesis

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// shardReader is the [consumer.ShardReader] of a shard. It splits the portions of its feed into
// pages. It has no goroutine.
type shardReader struct {
	stream *sourceStream
	shard  *sourceShard
	id     braid.ShardID
	feed   feed // nil before the first Next
	peeks  bool // it belongs to a Peek, which reports no gaps
	closed bool

	listing *listing       // as of the reader's start; it identifies the stream
	after   braid.Position // of the last record in a page, or of Open
	at      braid.Position // the end of the last page

	// Records that the feed has returned and no page has contained.
	kept     []braid.Record
	behind   time.Duration // of the last record that was kept
	atTip    bool          // nothing followed
	ended    bool          // nothing will ever follow
	children []consumer.ShardInfo
	told     bool // the tip was reported, and no record has arrived since
	gap      *braid.TrimmedError
	gapGiven bool      // by the last page; the worker may not continue from there
	fetched  time.Time // when the feed last returned something

	// complete is the time up to which no record is missing: every record that arrived earlier was
	// either read, or will be. Once it is older than the stream's retention, records may have been
	// removed unread. slack is how much older it may be for a reader that began at the trim
	// horizon, which does not report records that were removed while it began.
	complete time.Time
	slack    time.Duration
}

// feed brings the records of a shard.
type feed interface {
	// fetch returns the result of one call or one event, beginning at start, the end of the last
	// portion.
	fetch(ctx context.Context, from start, limits consumer.Limits) (portion, error)

	close()
}

// portion is the result of one fetch. An empty portion carries no information.
type portion struct {
	records  []types.Record
	next     braid.Position // the position after the records; TRIM_HORIZON, the zero value, if that is after the last record
	behind   time.Duration
	atTip    bool // no record followed, at some time at or after asked
	ended    bool
	children []types.ChildShard
	asked    time.Time
}

// freshTip is how old the observation that no record followed may be when the reader reports the
// tip: the processor may have worked on the last record for a long time.
const freshTip = time.Second

// horizonSlack is how long a reader that begins at the trim horizon may take to get ahead of it.
const horizonSlack = 5 * time.Minute

func newReader(stream *sourceStream, id braid.ShardID, at braid.Position) *shardReader {
	return &shardReader{stream: stream, shard: stream.use(id), id: id, after: at, at: at}
}

// Close ends the reader, and its subscription.
func (r *shardReader) Close() {
	if r.closed {
		return
	}
	r.closed = true
	if r.feed != nil {
		r.feed.close()
	}
	r.shard.mu.Lock()
	if len(r.kept) == 0 && r.gap == nil && !r.gapGiven && !r.peeks {
		r.shard.left = leftPlace{r.after, r.at, r.complete}
	}
	r.shard.mu.Unlock()
	r.stream.leave(r.id)
}

// Next returns the next page.
func (r *shardReader) Next(ctx context.Context, limits consumer.Limits) (consumer.Page, error) {
	page, err := r.next(ctx, limits)
	return page, wrapShard("read", r.stream.name, r.id, err)
}

func (r *shardReader) next(ctx context.Context, limits consumer.Limits) (consumer.Page, error) {
	if ctx.Err() != nil {
		return consumer.Page{}, context.Cause(ctx)
	}
	r.gapGiven = false
	if r.listing == nil {
		if err := r.begin(ctx); err != nil {
			return consumer.Page{}, err
		}
	}
	for {
		switch {
		case r.gap != nil:
			page := consumer.Page{Gap: r.gap, Next: r.at, BehindLatest: r.behind}
			r.gap, r.gapGiven = nil, true
			return page, nil
		case len(r.kept) > 0 || r.ended:
			return r.cut(limits), nil
		case r.atTip && !r.told && time.Since(r.fetched) <= freshTip:
			r.told = true
			return consumer.Page{Next: r.at, AtTip: true}, nil
		}
		p, err := r.fetch(ctx, limits)
		if err != nil {
			return consumer.Page{}, err
		}
		if err := r.accept(ctx, &p); err != nil {
			return consumer.Page{}, err
		}
		if len(r.kept) == 0 && r.gap == nil && !r.ended && !r.told && !r.atTip {
			return consumer.Page{Next: r.at, BehindLatest: r.behind}, nil
		}
	}
}

// begin determines the reader's position.
func (r *shardReader) begin(ctx context.Context) error {
	l, err := r.stream.known(ctx)
	if err != nil {
		return err
	}
	if r.at.Equal(braid.Latest()) {
		r.at = since(r.stream.source.now()) // fixed from now on
	}
	from, err := newStart(r.id, r.at)
	if err != nil {
		if _, _, notFound := r.stream.find(ctx, r.id); notFound != nil {
			return notFound
		}
		return err
	}
	r.listing, r.complete = l, from.arrival
	if from.oldest && l.retention > 0 {
		r.complete, r.slack = from.arrival.Add(-l.retention), horizonSlack
	}
	if r.complete.IsZero() { // TRIM_HORIZON as it is now
		r.complete = r.stream.source.now()
	}
	r.shard.mu.Lock()
	if left := r.shard.left; (left.at.Equal(r.at) || left.after.Equal(r.at)) && left.complete.After(r.complete) {
		r.complete = left.complete
	}
	r.shard.mu.Unlock()
	return nil
}

// fetch asks the feed. If the service refuses it, fetch switches to another feed.
func (r *shardReader) fetch(ctx context.Context, limits consumer.Limits) (portion, error) {
	if r.feed == nil {
		f, err := r.newFeed(ctx)
		if err != nil {
			return portion{}, err
		}
		r.feed = f
	}
	from, err := newStart(r.id, r.at)
	if err != nil {
		return portion{}, err
	}
	if wait := from.arrival; from.time != nil && wait.After(r.stream.source.now()) {
		// The service refuses times in the future. No record can have arrived there either.
		if !r.told {
			return portion{atTip: true, asked: time.Now()}, nil
		}
		if err := sleepUntil(ctx, time.Now().Add(wait.Sub(r.stream.source.now()))); err != nil {
			return portion{}, err
		}
	}
	p, err := r.feed.fetch(ctx, from, limits)
	if ctx.Err() != nil {
		return portion{}, context.Cause(ctx)
	}
	if err == nil {
		return p, nil
	}
	if r.refused(err) {
		r.feed.close()
		r.feed = newPoller(r)
		return portion{}, nil
	}
	return portion{}, r.explain(ctx, err)
}

// newFeed returns the feed that the options choose for the stream.
func (r *shardReader) newFeed(ctx context.Context) (feed, error) {
	arn, err := r.stream.consumer(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && r.refused(err):
		return newPoller(r), nil
	case err != nil:
		return nil, streamError(err)
	case arn == "":
		return newPoller(r), nil
	}
	return newSubscriber(r, arn), nil
}

// refused reports whether the error refuses enhanced fan-out and the stream is now polled instead.
func (r *shardReader) refused(err error) bool {
	s := r.stream.source
	if _, polls := r.feed.(*poller); polls || !s.opts.PollOnRefusal || !refusesFanOut(err) {
		return false
	}
	r.stream.mu.Lock()
	first := !time.Now().Before(r.stream.refusedUntil)
	if first {
		r.stream.refusedUntil = time.Now().Add(refusalPause)
	}
	r.stream.mu.Unlock()
	if first {
		s.opts.Logger.Warn("enhanced fan-out was refused; polling the stream", "stream", r.stream.name, "for", refusalPause, "error", err)
	}
	return true
}

// accept stores a portion.
func (r *shardReader) accept(ctx context.Context, p *portion) error {
	s := r.stream.source
	r.stream.mu.Lock()
	current := r.stream.last
	r.stream.mu.Unlock()
	if current == nil || current.incarnation() != r.listing.incarnation() {
		return fmt.Errorf("%w: it was deleted; another one may have its name", braid.ErrStreamNotFound)
	}
	records, bytes := make([]braid.Record, len(p.records)), 0
	for i := range p.records {
		if err := r.record(&records[i], &p.records[i]); err != nil {
			return err
		}
		bytes += records[i].Size()
	}
	if p.ended {
		children, err := r.stream.children(ctx, r.id, p.children)
		if err != nil {
			return err
		}
		r.children, r.ended = children, true
	}
	if !p.asked.IsZero() {
		r.suspect(current, records)
	}
	if n := len(records); n > 0 {
		r.complete = latest(r.complete, records[n-1].ArrivalTime)
		r.told = false
		s.counts.records.Add(int64(n))
		s.counts.bytes.Add(int64(bytes))
	}
	if !p.asked.IsZero() {
		r.complete = latest(r.complete, p.asked.Add(-p.behind))
		r.behind, r.atTip, r.fetched = p.behind, p.atTip || p.ended, time.Now()
	}
	r.kept = records
	if len(records) == 0 && !p.next.Equal(braid.TrimHorizon()) {
		r.at = p.next
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// suspect notes a gap if the position is older than the stream's retention.
func (r *shardReader) suspect(l *listing, records []braid.Record) {
	horizon := l.horizon(r.stream.source.now())
	if r.complete.After(horizon.Add(horizonSlack)) {
		r.slack = 0
	}
	if r.peeks || !r.complete.Add(r.slack).Before(horizon) {
		return
	}
	r.gap = &braid.TrimmedError{Shard: r.id, FirstLost: r.at.SequenceNumber(), Suspected: true}
	if len(records) > 0 {
		r.gap.FirstAvailable = records[0].SequenceNumber
	}
	r.complete = horizon
	r.stream.source.counts.gaps.Add(1)
}

// record converts a record. It shares the data with the SDK's record, which the SDK does not keep.
func (r *shardReader) record(to *braid.Record, from *types.Record) (err error) {
	if to.SequenceNumber, err = braid.ParseSequenceNumber(aws.ToString(from.SequenceNumber)); err != nil {
		return &consumer.PermanentError{Err: fmt.Errorf("service does not use Kinesis's layout of sequence numbers: %w", err)}
	}
	to.ShardID = r.id
	to.PartitionKey = aws.ToString(from.PartitionKey)
	to.Data = from.Data
	to.Encrypted = from.EncryptionType == types.EncryptionTypeKms
	if from.ApproximateArrivalTimestamp != nil {
		to.ArrivalTime = *from.ApproximateArrivalTimestamp
	}
	return nil
}

// cut makes a page from the stored records.
func (r *shardReader) cut(limits consumer.Limits) consumer.Page {
	n, size := 0, 0
	for n < len(r.kept) && n < limits.Records && (n == 0 || size+r.kept[n].Size() <= limits.Bytes) {
		size += r.kept[n].Size()
		n++
	}
	page := consumer.Page{Records: r.kept[:n:n], BehindLatest: r.behind}
	if n > 0 {
		r.at = braid.AfterSequence(r.kept[n-1].SequenceNumber)
		r.after = r.at
	}
	if page.Next = r.at; n < len(r.kept) {
		page.BehindLatest += max(0, r.kept[len(r.kept)-1].ArrivalTime.Sub(r.kept[n].ArrivalTime))
		r.kept = r.kept[n:]
		return page
	}
	r.kept = nil
	page.EndOfShard, page.Children = r.ended, r.children
	if page.AtTip = r.ended || r.atTip && time.Since(r.fetched) <= freshTip; page.AtTip {
		page.BehindLatest = 0
	}
	return page
}
