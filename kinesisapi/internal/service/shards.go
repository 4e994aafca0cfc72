package service

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

const (
	maxListedShards = 1000 // of ListShards
)

// shardOf describes a shard as lists show it.
func shardOf(d *braid.ShardDescription) Shard {
	sh := Shard{
		HashKeyRange:        hashKeyRange(d.HashKeyRange),
		SequenceNumberRange: SequenceNumberRange{StartingSequenceNumber: d.StartingSequenceNumber.String()},
		ShardId:             string(d.ID),
	}
	if d.Closed {
		ending := d.EndingSequenceNumber.String()
		sh.SequenceNumberRange.EndingSequenceNumber = &ending
	}
	if len(d.Parents) > 0 {
		sh.ParentShardId = (*string)(&d.Parents[0])
	}
	if len(d.Parents) > 1 {
		sh.AdjacentParentShardId = (*string)(&d.Parents[1])
	}
	return sh
}

func hashKeyRange(r braid.HashKeyRange) HashKeyRange {
	return HashKeyRange{StartingHashKey: r.Start.String(), EndingHashKey: r.End.String()}
}

// childShards describes the children of a closed shard.
func childShards(stream *braid.Stream, ids []braid.ShardID) []ChildShard {
	children := make([]ChildShard, 0, len(ids))
	for _, id := range ids {
		sh, err := stream.Shard(id)
		if err != nil {
			continue // the child has expired as well
		}
		child := ChildShard{HashKeyRange: hashKeyRange(sh.HashKeyRange()), ParentShards: []string{}, ShardId: string(id)}
		for _, parent := range sh.Parents() {
			child.ParentShards = append(child.ParentShards, string(parent))
		}
		children = append(children, child)
	}
	return children
}

// shardPage is the content of a NextToken of ListShards: the request, and the position
// after the last page.
type shardPage struct {
	Stream   string
	Created  int64
	Account  string
	Region   string
	Name     string
	Filter   string
	FilterMs int64
	After    string
}

// ListShards is the operation of that name.
func (s *Service) ListShards(ctx context.Context, c Caller, in *ListShardsInput) (*ListShardsOutput, error) {
	p, t, stream, err := s.shardPage(c, in)
	if err != nil {
		return nil, err
	}
	if !s.isOpen(t) {
		return nil, s.notActive(t, s.statusOf(t.stored))
	}
	d := stream.Describe()
	lives := lifetimes(d)
	horizon := int64(0) // the same moment for all shards: at different moments, they might leave a hole
	if d.Retention > 0 {
		horizon = max(0, time.Now().Add(-d.Retention).UnixMilli())
	}
	out := &ListShardsOutput{Shards: []Shard{}}
	limit := page(in.MaxResults, maxListedShards, maxListedShards)
	for i := range d.Shards {
		sh := &d.Shards[i]
		if string(sh.ID) <= p.After || !p.selects(lives[i], horizon) {
			continue
		}
		if len(out.Shards) == limit {
			p.After = out.Shards[limit-1].ShardId
			payload, err := json.Marshal(p)
			if err != nil {
				return nil, internal(err)
			}
			next := s.sealer.Seal(tokenShards, payload, time.Now())
			out.NextToken = &next
			break
		}
		out.Shards = append(out.Shards, shardOf(sh))
	}
	return out, nil
}

// shardPage returns the page that a request asks for: the first, or the one of its
// NextToken.
func (s *Service) shardPage(c Caller, in *ListShardsInput) (p shardPage, t target, stream *braid.Stream, err error) {
	if in.NextToken != nil {
		for _, other := range []struct {
			member string
			given  bool
		}{
			{"StreamName", in.StreamName != nil},
			{"StreamARN", in.StreamARN != nil},
			{"ShardFilter", in.ShardFilter != nil},
			{"ExclusiveStartShardId", in.ExclusiveStartShardId != nil},
			{"StreamCreationTimestamp", in.StreamCreationTimestamp != nil},
		} {
			if other.given {
				return p, t, nil, invalidArgument("NextToken and %s cannot be provided together.", other.member)
			}
		}
		payload, err := s.openToken(tokenShards, *in.NextToken)
		if err != nil {
			return p, t, nil, err
		}
		if err := json.Unmarshal(payload, &p); err != nil {
			return p, t, nil, errNextToken()
		}
		t = target{Caller{p.Account, p.Region}, p.Name, p.Stream}
		stream, err = s.db.Stream(t.stored)
		if err == nil && stream.CreatedAt().UnixNano() != p.Created {
			err = braid.ErrStreamNotFound
		}
		return p, t, stream, s.fromBraid(t, err)
	}
	if in.StreamName == nil && in.StreamARN == nil {
		return p, t, nil, invalidArgument("Either NextToken or StreamName should be provided.")
	}
	if t, stream, err = s.stream(c, in.StreamName, in.StreamARN); err != nil {
		return p, t, nil, err
	}
	created := stream.CreatedAt()
	if in.StreamCreationTimestamp != nil && in.StreamCreationTimestamp.Unix() != created.Unix() {
		return p, t, nil, s.streamNotFound(t)
	}
	p = shardPage{Stream: t.stored, Created: created.UnixNano(), Account: t.Account, Region: t.Region, Name: t.name}
	if in.ExclusiveStartShardId != nil {
		p.After = *in.ExclusiveStartShardId
	}
	if f := in.ShardFilter; f != nil {
		p.Filter = *f.Type
		switch p.Filter {
		case "AFTER_SHARD_ID":
			if f.ShardId == nil {
				return p, t, nil, invalidArgument("ShardFilter.ShardId must be given with the type AFTER_SHARD_ID.")
			}
			p.After = max(p.After, *f.ShardId)
		case "AT_TIMESTAMP", "FROM_TIMESTAMP":
			if f.Timestamp == nil {
				return p, t, nil, invalidArgument("ShardFilter.Timestamp must be given with the type %s.", p.Filter)
			}
			if f.Timestamp.After(time.Now()) {
				return p, t, nil, invalidArgument("ShardFilter.Timestamp must not be in the future.")
			}
			p.FilterMs = f.Timestamp.UnixMilli()
		}
	}
	return p, t, stream, nil
}

// lifetime is the time in which a shard accepts records, in milliseconds: from start on,
// and before end.
type lifetime struct{ start, end int64 }

const never = int64(1) << 62

// lifetimes returns the lifetimes of the shards. A parent closes at the moment at which its
// children are created, so at every moment the shards that accept records tile the space of
// hash keys. (The seconds in sequence numbers cannot be used: they would leave holes, and
// run ahead of the clock when reshards follow each other quickly.)
//
// The lifetime of a shard without parents has no start. Neither has that of a shard whose
// parents have expired, so it covers their time as well.
func lifetimes(d braid.StreamDescription) []lifetime {
	listed := make(map[braid.ShardID]bool, len(d.Shards))
	lives := make([]lifetime, len(d.Shards))
	for i := range d.Shards { // in this order, parents come before their children
		sh, life := &d.Shards[i], &lives[i]
		if slices.ContainsFunc(sh.Parents, func(id braid.ShardID) bool { return listed[id] }) {
			life.start = firstMilli(sh.CreatedAt)
		}
		life.end = never
		if sh.Closed {
			life.end = firstMilli(sh.ClosedAt)
		}
		listed[sh.ID] = true
	}
	return lives
}

// firstMilli returns the first millisecond that does not begin before t. Filters name
// milliseconds, and a parent closed at t has no record that arrived in that millisecond or
// later.
func firstMilli(t time.Time) int64 {
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// selects reports whether the filter matches a shard. Records that arrived before horizon,
// in milliseconds, have expired.
func (p *shardPage) selects(life lifetime, horizon int64) bool {
	at := p.FilterMs
	switch p.Filter {
	case "AT_LATEST":
		return life.end == never
	case "AT_TRIM_HORIZON":
		return life.start <= horizon && horizon < life.end
	case "AT_TIMESTAMP":
		return life.start <= at && at < life.end
	case "FROM_TIMESTAMP":
		return max(at, horizon) < life.end
	default:
		return horizon < life.end
	}
}

// SplitShard is the operation of that name.
func (s *Service) SplitShard(ctx context.Context, c Caller, in *SplitShardInput) (*Empty, error) {
	id, err := braid.ParseShardID(*in.ShardToSplit)
	if err != nil {
		return nil, s.badShard(c, in.StreamName, in.StreamARN, *in.ShardToSplit)
	}
	t, stream, d, err := s.reshardable(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	sh, err := s.openShard(t, d, id)
	if err != nil {
		return nil, err
	}
	if err := s.checkQuotas(ctx, t, 1, false); err != nil {
		return nil, err
	}
	key, err := braid.ParseHashKey(*in.NewStartingHashKey)
	bounds := hashKeyRange(sh.HashKeyRange)
	if err != nil || !splits(sh.HashKeyRange, key) {
		return nil, invalidArgument("NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not both greater than one plus the shard's StartingHashKey %s and less than the shard's EndingHashKey %s.",
			*in.NewStartingHashKey, id, t.name, t.Account, bounds.StartingHashKey, bounds.EndingHashKey)
	}
	return &Empty{}, s.updating(ctx, t, func(ctx context.Context) error {
		_, _, err := stream.SplitShard(ctx, id, &key)
		return err
	})
}

// splits reports whether a shard of the range may be split at the key: it must be
// greater than the start plus one, and less than the end.
func splits(r braid.HashKeyRange, key braid.HashKey) bool {
	if key.Compare(r.Start) <= 0 || key.Compare(r.End) >= 0 {
		return false
	}
	return !isNext(r.Start, key)
}

// isNext reports whether b is a plus one.
func isNext(a, b braid.HashKey) bool {
	next, ok := a.Next()
	return ok && next == b
}

// MergeShards is the operation of that name.
func (s *Service) MergeShards(ctx context.Context, c Caller, in *MergeShardsInput) (*Empty, error) {
	ids := [2]braid.ShardID{}
	for i, text := range []string{*in.ShardToMerge, *in.AdjacentShardToMerge} {
		id, err := braid.ParseShardID(text)
		if err != nil {
			return nil, s.badShard(c, in.StreamName, in.StreamARN, text)
		}
		ids[i] = id
	}
	t, stream, d, err := s.reshardable(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	lower, err := s.openShard(t, d, ids[0])
	if err != nil {
		return nil, err
	}
	upper, err := s.openShard(t, d, ids[1])
	if err != nil {
		return nil, err
	}
	if !isNext(lower.HashKeyRange.End, upper.HashKeyRange.Start) {
		return nil, invalidArgument("Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging",
			ids[0], ids[1], t.name, t.Account)
	}
	return &Empty{}, s.updating(ctx, t, func(ctx context.Context) error {
		_, err := stream.MergeShards(ctx, ids[0], ids[1])
		return err
	})
}

// UpdateShardCount is the operation of that name.
func (s *Service) UpdateShardCount(ctx context.Context, c Caller, in *UpdateShardCountInput) (*UpdateShardCountOutput, error) {
	t, stream, d, err := s.reshardable(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	current, wanted := openShards(d), int(*in.TargetShardCount)
	out := &UpdateShardCountOutput{
		CurrentShardCount: int32(current), StreamARN: t.arn(), StreamName: t.name, TargetShardCount: int32(wanted),
	}
	switch {
	case wanted == current:
		return out, nil
	case wanted > MaxShards:
		return nil, limitExceeded("Stream %s under account %s cannot have more than %d shards; TargetShardCount was %d.", t.name, t.Account, MaxShards, wanted)
	case s.ExactLimits() && (wanted > 2*current || 2*wanted < current):
		return nil, limitExceeded("TargetShardCount %d is not between half and twice the current shard count %d of stream %s under account %s.", wanted, current, t.name, t.Account)
	}
	if err := s.checkQuotas(ctx, t, wanted-current, false); err != nil {
		return nil, err
	}
	if err := s.limits.daily(s.ExactLimits(), t, "UpdateShardCount", 10); err != nil {
		return nil, err
	}
	return out, s.updating(ctx, t, func(ctx context.Context) error { return stream.UpdateShardCount(ctx, wanted) })
}

// badShard is the error for a malformed shard id. It names the stream even if that does not
// exist, as the service's does.
func (s *Service) badShard(c Caller, name, arn *string, shard string) error {
	t, err := s.target(c, name, arn)
	if err != nil {
		return err
	}
	return s.noSuchShard(t, shard)
}

// reshardable returns the stream if its shards can be changed now.
func (s *Service) reshardable(ctx context.Context, c Caller, name, arn *string) (target, *braid.Stream, braid.StreamDescription, error) {
	t, stream, row, err := s.settable(ctx, c, name, arn)
	if err != nil {
		return t, nil, braid.StreamDescription{}, err
	}
	if row.mode(stream) == modeOnDemand {
		return t, nil, braid.StreamDescription{}, Invalid("Request is invalid. Stream " + t.name + " under account " + t.Account + " is in On-Demand mode.")
	}
	return t, stream, stream.Describe(), nil
}

// openShard returns a shard that can be split or merged.
func (s *Service) openShard(t target, d braid.StreamDescription, id braid.ShardID) (*braid.ShardDescription, error) {
	i := slices.IndexFunc(d.Shards, func(sh braid.ShardDescription) bool { return sh.ID == id })
	if i < 0 {
		return nil, s.noSuchShard(t, string(id))
	}
	if d.Shards[i].Closed {
		return nil, invalidArgument("Shard %s in stream %s under account %s has already been merged or split, and thus is not eligible for merging or splitting.",
			id, t.name, t.Account)
	}
	return &d.Shards[i], nil
}
