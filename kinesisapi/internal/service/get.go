package service

import (
	"context"
	"errors"

	"github.com/braidstream/braid"
)

// GetRecords is the operation of that name.
func (s *Service) GetRecords(ctx context.Context, c Caller, in *GetRecordsInput) (*GetRecordsOutput, error) {
	it, err := s.openIterator(*in.ShardIterator)
	if err != nil {
		return nil, err
	}
	if in.StreamARN != nil {
		t, err := s.targetOfARN(c, *in.StreamARN)
		if err != nil {
			return nil, err
		}
		if t != it.t {
			return nil, invalidArgument("StreamARN %s is not that of the stream that the ShardIterator belongs to.", *in.StreamARN)
		}
	}
	stream, sh, err := s.shardOfIterator(it)
	if err != nil {
		return nil, err
	}
	if isTrue(in.DryRun) {
		return nil, dryRun()
	}
	opts := &braid.GetRecordsOptions{}
	if in.Limit != nil {
		opts.Limit = int(*in.Limit)
	}
	page, err := readPage(ctx, sh, it.at, opts)
	if err != nil {
		if errors.Is(err, braid.ErrStreamNotFound) {
			return nil, s.shardNotFound(it.t, it.shard)
		}
		return nil, s.fromBraid(it.t, err)
	}
	out := &GetRecordsOutput{Records: records(page), MillisBehindLatest: millisBehind(page)}
	if page.EndOfShard {
		out.ChildShards = childShards(stream, page.ChildShards)
		return out, nil
	}
	it.at = page.Next
	next, err := s.sealIterator(it)
	if err != nil {
		return nil, internal(err)
	}
	out.NextShardIterator = &next
	return out, nil
}

// shardOfIterator returns the shard for which an iterator was issued. It fails if another
// stream has taken the name since.
func (s *Service) shardOfIterator(it iterator) (*braid.Stream, *braid.Shard, error) {
	stream, err := s.db.Stream(it.t.stored)
	if err == nil && stream.CreatedAt().UnixNano() != it.created {
		err = braid.ErrStreamNotFound
	}
	var sh *braid.Shard
	if err == nil {
		sh, err = stream.Shard(it.shard)
	}
	if errors.Is(err, braid.ErrStreamNotFound) || errors.Is(err, braid.ErrShardNotFound) {
		return nil, nil, s.shardNotFound(it.t, it.shard)
	}
	return stream, sh, s.fromBraid(it.t, err)
}

// readPage reads a page from a position. If retention has removed the records there,
// readPage silently continues at the oldest record, as the service does.
func readPage(ctx context.Context, sh *braid.Shard, at braid.Position, opts *braid.GetRecordsOptions) (*braid.RecordsPage, error) {
	for {
		page, err := sh.GetRecords(ctx, at, opts)
		var trimmed *braid.TrimmedError
		if !errors.As(err, &trimmed) {
			return page, err
		}
		at = braid.AtSequence(trimmed.FirstAvailable)
	}
}

func records(page *braid.RecordsPage) []Record {
	list := make([]Record, len(page.Records))
	for i := range page.Records {
		from, to := &page.Records[i], &list[i]
		to.ApproximateArrivalTimestamp = from.ArrivalTime
		to.Data = from.Data
		if to.Data == nil {
			to.Data = []byte{}
		}
		if from.PartitionKey != noPartitionKey {
			to.PartitionKey = &from.PartitionKey
		}
		to.SequenceNumber = from.SequenceNumber.String()
		if from.Encrypted {
			to.EncryptionType = &kms
		}
	}
	return list
}

// millisBehind is 0 only for a page that reached the tip.
func millisBehind(page *braid.RecordsPage) int64 {
	if page.BehindLatest <= 0 {
		return 0
	}
	return max(1, page.BehindLatest.Milliseconds())
}
