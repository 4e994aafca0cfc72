package awskinesis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// sourceStream is a source's state of a stream.
type sourceStream struct {
	source *Source
	name   string // as the worker names it
	id     streamID

	// turn holds a token while the shards are listed, and registerTurn while the consumer is looked
	// up or registered.
	turn, registerTurn chan struct{}

	mu      sync.Mutex // guards the fields below
	begun   int        // listings so far
	last    *listing   // the last one that succeeded; nil if there was none, or the stream no longer exists
	failed  int        // the last listing that did not succeed
	failure error      // why
	shards  map[braid.ShardID]*sourceShard

	consumerARN  string    // of enhanced fan-out, once it is ACTIVE
	refusedUntil time.Time // until then the stream is polled
}

// listing has the shards of a stream at one time. It is immutable.
type listing struct {
	description
	number int           // its ordinal among the stream's listings
	shards []listedShard // parents before their children
}

// description is the description of a stream, without its shards.
type description struct {
	described time.Time // when it was
	creation  time.Time
	arn       string
	retention time.Duration // 0 for not known
}

// incarnation distinguishes the stream from others with the same name.
func (d *description) incarnation() uint64 { return uint64(max(1, d.creation.UnixNano())) }

type listedShard struct {
	consumer.ShardInfo
	created     time.Time // to the second; zero for not known
	closed      bool
	lastArrival time.Time // no record of a closed shard is later, to the second; zero for not known
}

// horizon returns the time before which records have been removed.
func (l *listing) horizon(now time.Time) time.Time {
	if l.retention == 0 {
		return time.Time{}
	}
	return now.Add(-l.retention)
}

func (l *listing) find(id braid.ShardID) *listedShard {
	for i := range l.shards {
		if l.shards[i].ID == id {
			return &l.shards[i]
		}
	}
	return nil
}

func newSourceStream(s *Source, name string) *sourceStream {
	return &sourceStream{
		source:       s,
		name:         name,
		id:           newStreamID(name),
		turn:         make(chan struct{}, 1),
		registerTurn: make(chan struct{}, 1),
		shards:       make(map[braid.ShardID]*sourceShard),
	}
}

// list returns a listing that begins after the call of list. Callers that arrive during a listing
// share the next one, so a reshard that many readers notice at once costs few calls.
func (st *sourceStream) list(ctx context.Context) (*listing, error) {
	st.mu.Lock()
	begun := st.begun
	st.mu.Unlock()
	select {
	case st.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-st.turn }()
	st.mu.Lock()
	switch {
	case st.last != nil && st.last.number > begun:
		defer st.mu.Unlock()
		return st.last, nil
	case st.failed > begun:
		defer st.mu.Unlock()
		return nil, st.failure
	}
	st.begun++
	number, last := st.begun, st.last
	st.mu.Unlock()

	l, err := st.fetchListing(ctx, last)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx) // which does not concern other callers
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if err != nil {
		st.failed, st.failure = number, err
		if errors.Is(err, braid.ErrStreamNotFound) {
			st.last = nil
		}
		return nil, err
	}
	l.number = number
	if st.last == nil || st.last.incarnation() != l.incarnation() {
		st.consumerARN, st.refusedUntil = "", time.Time{} // they belong to an earlier stream of that name
	}
	st.last = l
	for id, shard := range st.shards {
		if shard.users == 0 && l.find(id) == nil {
			delete(st.shards, id)
		}
	}
	return l, nil
}

// known returns the last listing, or waits for the first one.
func (st *sourceStream) known(ctx context.Context) (*listing, error) {
	st.mu.Lock()
	l := st.last
	st.mu.Unlock()
	if l != nil {
		return l, nil
	}
	return st.list(ctx)
}

// find returns a shard as it was last listed. If the shard is unknown, find lists the shards again.
func (st *sourceStream) find(ctx context.Context, id braid.ShardID) (*listing, *listedShard, error) {
	l, err := st.known(ctx)
	if err != nil {
		return nil, nil, err
	}
	shard := l.find(id)
	if shard == nil {
		if l, err = st.list(ctx); err != nil {
			return nil, nil, err
		}
		if shard = l.find(id); shard == nil {
			return nil, nil, braid.ErrShardNotFound
		}
	}
	return l, shard, nil
}

// describeEvery is how long a description of a stream is used. Only its retention may change. An
// account is limited to 20 such calls per second over all of its streams.
const describeEvery = 5 * time.Minute

// fetchListing asks the service. The request for the shards contains the stream's creation time,
// which is its incarnation. So the shards belong to the described stream, not to a new one of the
// same name.
func (st *sourceStream) fetchListing(ctx context.Context, last *listing) (*listing, error) {
	ctx, cancel := context.WithTimeout(ctx, st.source.opts.RequestTimeout)
	defer cancel()
	st.source.counts.listings.Add(1)
	l := &listing{}
	if last != nil && time.Since(last.described) < describeEvery {
		l.description = last.description
	} else if err := st.describe(ctx, l); err != nil {
		return nil, err
	}
	in := &kinesis.ListShardsInput{StreamName: st.id.name, StreamARN: st.id.arn, StreamCreationTimestamp: &l.creation}
	shards, err := listShards(ctx, st.source.client, in)
	if codeOf(err) == "ResourceNotFoundException" {
		was := l.creation
		if err := st.describe(ctx, l); err != nil {
			return nil, err
		}
		if l.creation.Equal(was) { // an emulator that does not recognize its own creation time
			in.StreamCreationTimestamp = nil
		}
		shards, err = listShards(ctx, st.source.client, in)
	}
	if err != nil {
		return nil, streamError(err)
	}
	l.shards = make([]listedShard, len(shards))
	for i := range shards {
		if l.shards[i], err = newListedShard(&shards[i]); err != nil {
			return nil, err
		}
	}
	if last != nil && last.incarnation() == l.incarnation() {
		for i := range last.shards {
			if old := &last.shards[i]; l.find(old.ID) == nil && !l.hasExpired(old, st.source.now()) {
				l.shards = append(l.shards, *old)
			}
		}
	}
	slices.SortFunc(l.shards, func(a, b listedShard) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return l, nil
}

// hasExpired reports whether a shard that was listed before may have expired: it is closed, and all
// of its records are older than the retention. If not, a listing without it is outdated, as
// listings of the service may be. With such a listing, workers would skip the shard.
func (l *listing) hasExpired(shard *listedShard, now time.Time) bool {
	closed, found := shard.lastArrival, shard.closed
	if !found { // by the listing: a shard is closed before its descendants are created
		for i := range l.shards {
			if s := &l.shards[i]; s.descendsFrom(shard) && (!found || s.created.Before(closed)) {
				closed, found = s.created, true
			}
		}
	}
	return found && closed.Before(l.horizon(now).Add(time.Second)) // the time has a resolution of a second
}

// descendsFrom reports whether a shard is a child of another one, or is younger and shares hash
// keys with it: shards between the two may have expired.
func (s *listedShard) descendsFrom(other *listedShard) bool {
	if slices.Contains(s.Parents, other.ID) {
		return true
	}
	overlap := s.HashKeyRange.Contains(other.HashKeyRange.Start) || other.HashKeyRange.Contains(s.HashKeyRange.Start)
	return overlap && s.created.After(other.created)
}

// describe asks for the description of the stream.
func (st *sourceStream) describe(ctx context.Context, l *listing) error {
	now := time.Now()
	out, err := st.source.client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: st.id.name, StreamARN: st.id.arn})
	if err != nil {
		return streamError(err)
	}
	st.source.noteClock(out.ResultMetadata, now)
	d := out.StreamDescriptionSummary
	switch {
	case d == nil || d.StreamCreationTimestamp == nil:
		return errors.New("stream was described without its creation time")
	case d.StreamStatus == types.StreamStatusCreating, d.StreamStatus == types.StreamStatusDeleting:
		return fmt.Errorf("%w: its status is %s", braid.ErrStreamNotFound, d.StreamStatus)
	}
	l.description = description{
		described: now,
		creation:  *d.StreamCreationTimestamp,
		arn:       aws.ToString(d.StreamARN),
		retention: time.Duration(aws.ToInt32(d.RetentionPeriodHours)) * time.Hour,
	}
	return nil
}

// newListedShard converts a shard from the service's form. If its sequence numbers do not have
// Kinesis's own layout, it starts at the trim horizon.
func newListedShard(shard *types.Shard) (l listedShard, err error) {
	l.ID = braid.ShardID(aws.ToString(shard.ShardId))
	if l.HashKeyRange, err = newHashKeyRange(l.ID, shard.HashKeyRange); err != nil {
		return l, err
	}
	for _, parent := range []*string{shard.ParentShardId, shard.AdjacentParentShardId} {
		if parent != nil {
			l.Parents = append(l.Parents, braid.ShardID(*parent))
		}
	}
	r := shard.SequenceNumberRange
	if r == nil {
		return l, nil
	}
	if n, err := braid.ParseSequenceNumber(aws.ToString(r.StartingSequenceNumber)); err == nil && n.ShardID() == l.ID {
		// At it, not after it: a record may have this number.
		l.Start, l.created = braid.AtSequence(n), n.Time()
	}
	if r.EndingSequenceNumber != nil {
		l.closed = true
		if n, err := braid.ParseSequenceNumber(*r.EndingSequenceNumber); err == nil && n.ShardID() == l.ID {
			l.lastArrival = n.Time()
		}
	}
	return l, nil
}

func newHashKeyRange(shard braid.ShardID, from *types.HashKeyRange) (r braid.HashKeyRange, err error) {
	if from == nil {
		return r, fmt.Errorf("shard %q was listed without a hash-key range", shard)
	}
	if err = r.Start.UnmarshalText([]byte(aws.ToString(from.StartingHashKey))); err == nil {
		err = r.End.UnmarshalText([]byte(aws.ToString(from.EndingHashKey)))
	}
	if err != nil {
		return r, fmt.Errorf("shard %q: %w", shard, err)
	}
	return r, nil
}

// children returns the child shards of a shard that has ended. named are those in its last page; if
// the service named none, they are taken from a listing.
func (st *sourceStream) children(ctx context.Context, parent braid.ShardID, named []types.ChildShard) ([]consumer.ShardInfo, error) {
	l, err := st.known(ctx)
	if err != nil {
		return nil, err
	}
	children, missing := l.children(parent, named)
	if !missing {
		return children, nil
	}
	if l, err = st.list(ctx); err == nil {
		if children, missing = l.children(parent, named); !missing {
			return children, nil
		}
	}
	if len(named) == 0 {
		return nil, errors.Join(err, errors.New("shard has ended, but none of its children is listed yet"))
	}
	// The listing lags behind, or has failed. The page's information is enough.
	children = nil
	for i := range named {
		child := consumer.ShardInfo{ID: braid.ShardID(aws.ToString(named[i].ShardId)), Start: oldestAt(st.source.now())}
		if child.HashKeyRange, err = newHashKeyRange(child.ID, named[i].HashKeyRange); err != nil {
			return nil, err
		}
		for _, id := range named[i].ParentShards {
			child.Parents = append(child.Parents, braid.ShardID(id))
		}
		if !slices.Contains(child.Parents, parent) {
			return nil, fmt.Errorf("shard %q was named as a child of %s, but does not have it as a parent", child.ID, parent)
		}
		children = append(children, child)
	}
	return children, nil
}

// children returns the listed children, and whether some are missing.
func (l *listing) children(parent braid.ShardID, named []types.ChildShard) (children []consumer.ShardInfo, missing bool) {
	for i := range l.shards {
		if slices.Contains(l.shards[i].Parents, parent) {
			children = append(children, l.shards[i].ShardInfo)
		}
	}
	for i := range named {
		if l.find(braid.ShardID(aws.ToString(named[i].ShardId))) == nil {
			return nil, true
		}
	}
	return children, len(children) == 0
}
