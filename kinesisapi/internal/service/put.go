package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/seqnum"
)

const (
	maxCallBytes = 10 << 20 // of PutRecords: partition keys and data

	encryptionNone = "NONE"
	encryptionKMS  = "KMS"
)

// noPartitionKey is the stored partition key of a record without one, which streams with
// the strategy AUTO allow. It consists of two Unicode noncharacters, which no producer
// uses.
const noPartitionKey = "\U0010ffff\U0010fffe"

// PutRecord is the operation of that name.
func (s *Service) PutRecord(ctx context.Context, c Caller, in *PutRecordInput) (*PutRecordOutput, error) {
	t, stream, err := s.open(c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	auto := s.placements.get(stream)
	var entry [1]braid.Entry
	if err := s.entry(&entry[0], single, in.PartitionKey, in.ExplicitHashKey, in.Data, auto != nil); err != nil {
		return nil, err
	}
	if n := in.SequenceNumberForOrdering; n != nil && !seqnum.ValidForOrdering(*n, time.Now()) {
		return nil, invalidArgument("ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s under account %s is invalid.", *n, t.name, t.Account)
	}
	if err := checkRecordBytes(stream, entry[:], single); err != nil {
		return nil, err
	}
	if isTrue(in.DryRun) {
		return nil, dryRun()
	}
	if auto != nil {
		auto.place(stream, entry[:])
	}
	var result braid.PutResult
	if entry[0].ExplicitHashKey == nil {
		result, err = stream.PutRecord(ctx, entry[0].PartitionKey, entry[0].Data)
	} else {
		var results []braid.PutResult
		if results, err = stream.PutRecords(ctx, entry[:]); err == nil {
			result, err = results[0], results[0].Err
		}
	}
	if err != nil {
		return nil, s.fromBraid(t, err)
	}
	out := &PutRecordOutput{SequenceNumber: result.SequenceNumber.String(), ShardId: string(result.ShardID)}
	if result.Encrypted {
		out.EncryptionType = &kms
	}
	return out, nil
}

// PutRecords is the operation of that name.
//
// It differs from the service in one way. Once a shard's budget refuses an entry, it also
// refuses the later entries for that shard. So a producer that retries the refused entries
// in their order keeps the order of each partition key.
func (s *Service) PutRecords(ctx context.Context, c Caller, in *PutRecordsInput) (*PutRecordsOutput, error) {
	t, stream, err := s.open(c, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	auto := s.placements.get(stream)
	entries := make([]braid.Entry, len(in.Records))
	total := 0
	for i := range in.Records {
		r := &in.Records[i]
		if err := s.entry(&entries[i], i, r.PartitionKey, r.ExplicitHashKey, r.Data, auto != nil); err != nil {
			return nil, err
		}
		total += entries[i].Size()
	}
	if err := checkRecordBytes(stream, entries, 0); err != nil {
		return nil, err
	}
	if total > maxCallBytes {
		return nil, invalidArgument("Records size exceeds 10 MB limit")
	}
	if isTrue(in.DryRun) {
		return nil, dryRun()
	}
	if auto != nil {
		auto.place(stream, entries)
	}
	results, err := stream.PutRecords(ctx, entries)
	if err != nil {
		return nil, s.fromBraid(t, err)
	}
	out := &PutRecordsOutput{Records: make([]PutRecordsResultEntry, len(results))}
	text := make([]string, 2*len(results)) // the answer's members point into it
	var unnamed error                      // the first error that the answer cannot name
	for i := range results {
		r, entry := &results[i], &out.Records[i]
		code, message := &text[2*i], &text[2*i+1]
		if r.Err != nil {
			out.FailedRecordCount++
			e := s.entryError(t, r.Err)
			*code, *message = e.Type, e.Message
			if e.Cause != nil && unnamed == nil {
				unnamed = e.Cause
			}
			entry.ErrorCode, entry.ErrorMessage = code, message
			continue
		}
		*code, *message = r.SequenceNumber.String(), string(r.ShardID)
		entry.SequenceNumber, entry.ShardId = code, message
		if r.Encrypted {
			out.EncryptionType = &kms
		}
	}
	if unnamed != nil {
		s.opts.Logger.Error("entries were not put", "operation", "PutRecords", "error", unnamed)
	}
	return out, nil
}

var kms = encryptionKMS

// entryError returns the error code and message for a refused entry.
func (s *Service) entryError(t target, err error) *Error {
	var e *Error
	if errors.As(s.fromBraid(t, err), &e) && e.Type == "ProvisionedThroughputExceededException" {
		return e
	}
	return &Error{Type: "InternalFailure", Message: "Internal Service Failure.", Cause: err}
}

// single, instead of an index, means the record of PutRecord, which is not in a list.
const single = -1

// memberOf returns the name that errors use for a member of the record with the index.
func memberOf(index int, member string) string {
	if index == single {
		return member
	}
	return fmt.Sprintf("records.%d.member.%s", index+1, member)
}

// entry returns the entry for the record with the index. With the strategy AUTO, the record
// need not have a partition key.
func (s *Service) entry(e *braid.Entry, index int, key, explicit *string, data []byte, auto bool) error {
	e.Data = data
	switch {
	case key != nil:
		e.PartitionKey = *key
	case !auto:
		return missing(memberOf(index, "partitionKey"))
	default:
		e.PartitionKey = noPartitionKey
	}
	if explicit != nil {
		h, err := braid.ParseHashKey(*explicit)
		if err != nil {
			return invalidArgument("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", *explicit)
		}
		e.ExplicitHashKey = &h
	}
	return nil
}

// defaultRecordBytes is the smallest value of a stream's maximum record size. A record
// within it needs no look at the stream.
const defaultRecordBytes = 1 << 20

// checkRecordBytes checks that data and partition key together do not exceed the stream's
// maximum record size. first is the index of the first entry.
func checkRecordBytes(stream *braid.Stream, entries []braid.Entry, first int) error {
	most := 0
	for i := range entries {
		e := &entries[i]
		if e.Size() <= defaultRecordBytes {
			continue
		}
		if most == 0 {
			most = stream.Describe().MaxRecordBytes
		}
		if e.Size() > most {
			return Invalid(fmt.Sprintf("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", memberOf(first+i, "data"), most))
		}
	}
	return nil
}

func isTrue(b *bool) bool { return b != nil && *b }
