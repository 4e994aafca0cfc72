package service

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid"
)

const (
	modeProvisioned = "PROVISIONED"
	modeOnDemand    = "ON_DEMAND"

	strategyAuto = "AUTO"
	strategyKey  = "USER_PARTITION_KEY"

	maxPageShards    = 100 // of DescribeStream
	maxPageStreams   = 100 // of ListStreams
	onDemandShards   = 4   // number with which an on-demand stream begins
	tokenLife        = 300 * time.Second
	neverExpireHours = 8760 // shown for a stream whose records do not expire
)

// capacity returns the capacity of a stream in the given mode.
func (s *Service) capacity(mode string) braid.Capacity {
	switch {
	case !s.ExactLimits():
		return braid.Capacity{}
	case mode == modeOnDemand:
		return braid.Capacity{Mode: braid.OnDemand}
	default:
		return braid.Capacity{Mode: braid.Provisioned}
	}
}

// CreateStream is the operation of that name.
func (s *Service) CreateStream(ctx context.Context, c Caller, in *CreateStreamInput) (*Empty, error) {
	t := s.named(c, *in.StreamName)
	row := streamRow{Account: t.Account, Region: t.Region, Name: t.name, Mode: modeProvisioned}
	shards := 0
	switch {
	case in.StreamModeDetails == nil && in.ShardCount == nil,
		in.StreamModeDetails != nil && *in.StreamModeDetails.StreamMode == modeOnDemand:
		if in.ShardCount != nil {
			return nil, invalidArgument("ShardCount is not expected when StreamMode is ON_DEMAND.")
		}
		row.Mode, shards = modeOnDemand, onDemandShards
	case in.ShardCount == nil:
		return nil, missing("shardCount")
	default:
		shards = int(*in.ShardCount)
	}
	if in.RecordDistributionStrategy != nil {
		row.setStrategy(*in.RecordDistributionStrategy)
	}
	if row.strategy() == strategyAuto && row.Mode != modeOnDemand {
		return nil, errOnlyOnDemand(t)
	}
	if in.WarmThroughputMiBps != nil {
		if err := s.mayWarm(ctx, t, row.Mode, *in.WarmThroughputMiBps); err != nil {
			return nil, err
		}
		row.WarmMiBps = *in.WarmThroughputMiBps
		shards = max(shards, int(row.WarmMiBps))
	}
	if err := checkNewTags(t, nil, in.Tags); err != nil {
		return nil, err
	}
	if _, err := s.db.Stream(t.stored); err == nil {
		return nil, s.fromBraid(t, braid.ErrStreamExists)
	}
	if err := s.checkQuotas(ctx, t, shards, row.Mode == modeOnDemand); err != nil {
		return nil, err
	}
	if s.ExactLimits() && s.creatingStreams() >= creatingQuota {
		return nil, limitExceeded("No more than %d streams of account %s can be in state CREATING.", creatingQuota, t.Account)
	}
	row.Shards = shards
	opts := &braid.StreamOptions{Shards: shards, Capacity: s.capacity(row.Mode), Tags: in.Tags}
	if in.MaxRecordSizeInKiB != nil {
		opts.MaxRecordBytes = int(*in.MaxRecordSizeInKiB) << 10
	}

	create := func(ctx context.Context) error {
		stream, err := s.db.CreateStream(ctx, t.stored, opts)
		if err != nil {
			return err
		}
		return s.updateRow(ctx, stream, func(r *streamRow) error {
			row.Created = r.Created
			*r = row
			return nil
		})
	}
	busy, err := "", error(nil)
	if s.opts.CreateDelay == 0 {
		busy, err = s.begin(ctx, t.stored, creating, 0, create)
	} else {
		// The status comes first, so that no caller sees the stream ACTIVE too early. The end of
		// the status has nothing to do.
		busy, err = s.begin(ctx, t.stored, creating, s.opts.CreateDelay, func(context.Context) error { return nil })
		if busy == "" {
			if err = create(context.WithoutCancel(ctx)); err != nil {
				s.interrupt(t.stored)
			}
		}
	}
	if busy != "" {
		err = braid.ErrStreamExists
	}
	return &Empty{}, s.fromBraid(t, err)
}

// DeleteStream is the operation of that name.
func (s *Service) DeleteStream(ctx context.Context, c Caller, in *DeleteStreamInput) (*Empty, error) {
	t, stream, row, err := s.streamWithRow(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if len(row.Consumers) > 0 && (in.EnforceConsumerDeletion == nil || !*in.EnforceConsumerDeletion) {
		return nil, inUse("DeleteStream can't delete %s:%s because there are consumers associated with this data stream. "+
			"To delete this data stream anyway, set the EnforceConsumerDeletion parameter to true in the request.", t.Account, t.name)
	}
	s.attach.Lock()
	defer s.attach.Unlock()
	if stream.Describe().Queues > 0 {
		return nil, s.hasQueues(t)
	}
	for {
		busy, err := s.begin(ctx, t.stored, deleting, s.opts.DeleteDelay, func(ctx context.Context) error {
			return s.deleteWithRow(ctx, stream)
		})
		switch busy {
		case "":
			return &Empty{}, s.fromBraid(t, err)
		case deleting:
			return &Empty{}, nil
		}
		s.interrupt(t.stored) // discards a pending change
	}
}

// DescribeStream is the operation of that name.
func (s *Service) DescribeStream(ctx context.Context, c Caller, in *DescribeStreamInput) (*DescribeStreamOutput, error) {
	t, stream, row, err := s.streamWithRow(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	d := stream.Describe()
	out := StreamDescription{
		EncryptionType:          encryptionType(d),
		EnhancedMonitoring:      []EnhancedMetrics{{ShardLevelMetrics: orEmpty(row.Metrics)}},
		KeyId:                   keyID(d),
		RetentionPeriodHours:    retentionHours(d),
		Shards:                  []Shard{},
		StreamARN:               t.arn(),
		StreamCreationTimestamp: d.CreatedAt,
		StreamModeDetails:       streamMode(row.mode(stream)),
		StreamName:              t.name,
		StreamStatus:            s.statusOf(t.stored),
	}
	if s.isOpen(t) {
		limit := page(in.Limit, maxPageShards, maxPageShards)
		for _, sh := range d.Shards {
			if in.ExclusiveStartShardId != nil && string(sh.ID) <= *in.ExclusiveStartShardId {
				continue
			}
			if len(out.Shards) == limit {
				out.HasMoreShards = true
				break
			}
			out.Shards = append(out.Shards, shardOf(&sh))
		}
	}
	return &DescribeStreamOutput{out}, nil
}

// DescribeStreamSummary is the operation of that name.
func (s *Service) DescribeStreamSummary(ctx context.Context, c Caller, in *StreamInput) (*DescribeStreamSummaryOutput, error) {
	t, stream, row, err := s.streamWithRow(ctx, c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	d := stream.Describe()
	mode := row.mode(stream)
	out := StreamDescriptionSummary{
		ConsumerCount:           int32(len(row.Consumers)),
		EncryptionType:          encryptionType(d),
		EnhancedMonitoring:      []EnhancedMetrics{{ShardLevelMetrics: orEmpty(row.Metrics)}},
		KeyId:                   keyID(d),
		QueueCount:              int32(d.Queues),
		MaxRecordSizeInKiB:      int32((d.MaxRecordBytes + 1023) >> 10),
		RetentionPeriodHours:    retentionHours(d),
		StreamARN:               t.arn(),
		StreamCreationTimestamp: d.CreatedAt,
		StreamModeDetails:       streamMode(mode),
		StreamName:              t.name,
		StreamStatus:            s.statusOf(t.stored),
	}
	if s.isOpen(t) {
		out.OpenShardCount = int32(openShards(d))
	}
	if mode == modeOnDemand {
		strategy := row.strategy()
		out.RecordDistributionStrategy = &strategy
		if row.WarmMiBps > 0 {
			out.WarmThroughput = &WarmThroughput{CurrentMiBps: row.WarmMiBps, TargetMiBps: row.WarmMiBps}
		}
	}
	return &DescribeStreamSummaryOutput{out}, nil
}

// ListStreams is the operation of that name.
func (s *Service) ListStreams(ctx context.Context, c Caller, in *ListStreamsInput) (*ListStreamsOutput, error) {
	after := ""
	if in.ExclusiveStartStreamName != nil {
		after = *in.ExclusiveStartStreamName
	}
	if in.NextToken != nil {
		payload, err := s.openToken(tokenStreams, *in.NextToken)
		if err != nil {
			return nil, err
		}
		after = string(payload)
	}
	streams, err := s.streamsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &ListStreamsOutput{StreamNames: []string{}, StreamSummaries: []StreamSummary{}}
	limit := page(in.Limit, maxPageStreams, maxPageStreams)
	for _, l := range streams {
		if l.t.name <= after {
			continue
		}
		if len(out.StreamNames) == limit {
			out.HasMoreStreams = true
			next := s.sealer.Seal(tokenStreams, []byte(out.StreamNames[limit-1]), time.Now())
			out.NextToken = &next
			break
		}
		out.StreamNames = append(out.StreamNames, l.t.name)
		out.StreamSummaries = append(out.StreamSummaries, StreamSummary{
			StreamARN:               l.t.arn(),
			StreamCreationTimestamp: l.stream.CreatedAt(),
			StreamModeDetails:       streamMode(l.row.mode(l.stream)),
			StreamName:              l.t.name,
			StreamStatus:            s.statusOf(l.t.stored),
		})
	}
	return out, nil
}

// listed is a stream of an account.
type listed struct {
	t      target
	stream *braid.Stream
	row    streamRow
}

// streamsOf returns the caller's streams, by name.
func (s *Service) streamsOf(ctx context.Context, c Caller) ([]listed, error) {
	var all []listed
	prefix := s.namespace(c)
	for _, stream := range s.db.Streams() {
		stored := stream.Name()
		long := s.opts.SeparateAccounts && strings.HasPrefix(stored, longPrefix)
		name, mine := strings.CutPrefix(stored, prefix)
		if !mine && !long {
			continue
		}
		// Read each row in its own transaction: all rows together may exceed the limit of one.
		row, err := s.readRow(ctx, stream)
		if err != nil {
			return nil, s.fromBraid(target{}, err)
		}
		if long {
			if row.Account != c.Account || row.Region != c.Region {
				continue
			}
			name = row.Name
		}
		all = append(all, listed{s.named(c, name), stream, row})
	}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.t.name, b.t.name) })
	return all, nil
}

// page returns the number of items of an answer: that of the request, or the default, but
// never more than most.
func page(limit *int32, byDefault, most int) int {
	if limit == nil {
		return byDefault
	}
	return min(int(*limit), most)
}

func (r *streamRow) strategy() string {
	if r.Strategy == "" {
		return strategyKey
	}
	return r.Strategy
}

func streamMode(mode string) StreamModeDetails { return StreamModeDetails{StreamMode: &mode} }

func encryptionType(d braid.StreamDescription) string {
	if d.EncryptionKey == "" {
		return encryptionNone
	}
	return encryptionKMS
}

func keyID(d braid.StreamDescription) *string {
	if d.EncryptionKey == "" {
		return nil
	}
	return &d.EncryptionKey
}

// retentionHours rounds up, because streams that the service did not create may keep
// records for less than an hour, or forever.
func retentionHours(d braid.StreamDescription) int32 {
	if d.Retention <= 0 {
		return neverExpireHours
	}
	return int32((d.Retention + time.Hour - 1) / time.Hour)
}

func openShards(d braid.StreamDescription) (n int) {
	for i := range d.Shards {
		if !d.Shards[i].Closed {
			n++
		}
	}
	return n
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func errOnlyOnDemand(t target) error {
	return invalidArgument("Stream %s under account %s is not in On-Demand mode.", t.name, t.Account)
}
