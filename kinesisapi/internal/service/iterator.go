package service

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/seqnum"
)

// The kinds of tokens. A token of one kind is invalid as another.
const (
	tokenIterator byte = iota + 1
	tokenStreams
	tokenShards
	tokenConsumers
	tokenQueues
)

// The types of iterators.
const (
	atSequenceNumber    = "AT_SEQUENCE_NUMBER"
	afterSequenceNumber = "AFTER_SEQUENCE_NUMBER"
	trimHorizon         = "TRIM_HORIZON"
	latest              = "LATEST"
	atTimestamp         = "AT_TIMESTAMP"
)

// start describes where a request begins to read.
type start struct {
	kind      string // the type of an iterator
	number    *string
	timestamp *time.Time
	operation string // its name in texts
}

// GetShardIterator is the operation of that name.
func (s *Service) GetShardIterator(ctx context.Context, c Caller, in *GetShardIteratorInput) (*GetShardIteratorOutput, error) {
	id, err := braid.ParseShardID(*in.ShardId)
	if err != nil {
		return nil, s.badShard(c, in.StreamName, in.StreamARN, *in.ShardId)
	}
	t, stream, sh, err := s.readable(c, in.StreamName, in.StreamARN, id)
	if err != nil {
		return nil, err
	}
	at, err := s.position(ctx, t, stream, sh, start{*in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp, "GetShardIterator"})
	if err != nil {
		return nil, err
	}
	if isTrue(in.DryRun) {
		return nil, dryRun()
	}
	if s.ExactLimits() && !s.limits.allow("iterator "+t.stored+" "+string(id), 5) {
		return nil, s.rateExceeded(t, id)
	}
	text, err := s.sealIterator(iterator{t, stream.CreatedAt().UnixNano(), id, at})
	if err != nil {
		return nil, internal(err)
	}
	return &GetShardIteratorOutput{text}, nil
}

// readable returns the shard of a request to read.
func (s *Service) readable(c Caller, name, arn *string, id braid.ShardID) (target, *braid.Stream, *braid.Shard, error) {
	t, err := s.target(c, name, arn)
	if err != nil {
		return t, nil, nil, err
	}
	stream, err := s.db.Stream(t.stored)
	if err == nil && !s.isOpen(t) {
		err = braid.ErrStreamNotFound
	}
	var sh *braid.Shard
	if err == nil {
		sh, err = stream.Shard(id)
	}
	if errors.Is(err, braid.ErrStreamNotFound) || errors.Is(err, braid.ErrShardNotFound) {
		err = s.shardNotFound(t, id)
	}
	return t, stream, sh, s.fromBraid(t, err)
}

// position returns the position to read from. It is fixed: later changes do not move it.
func (s *Service) position(ctx context.Context, t target, stream *braid.Stream, sh *braid.Shard, from start) (braid.Position, error) {
	const must = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified "
	switch from.kind {
	case trimHorizon, latest:
		if from.number != nil {
			return braid.Position{}, invalidArgument("%s%s and also a StartingSequenceNumber.", must, from.kind)
		}
		if from.kind == trimHorizon {
			return braid.TrimHorizon(), nil
		}
		// A read at the tip returns the tip's position at this moment.
		page, err := sh.GetRecords(ctx, braid.Latest(), &braid.GetRecordsOptions{Limit: 1, Unmetered: true})
		if err != nil {
			return braid.Position{}, s.fromBraid(t, err)
		}
		return page.Next, nil
	case atTimestamp:
		if from.timestamp == nil {
			return braid.Position{}, invalidArgument("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
		}
		if at, now := from.timestamp.UnixMilli(), time.Now().UnixMilli(); at > now {
			return braid.Position{}, invalidArgument("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %d, currentTimestampInMillis: %d", at, now)
		}
		return braid.AtTime(*from.timestamp), nil
	}
	if from.number == nil {
		return braid.Position{}, invalidArgument("%s%s and no StartingSequenceNumber.", must, from.kind)
	}
	number, counter, err := s.numberOf(t, stream, sh, *from.number, from.operation)
	if err != nil {
		return braid.Position{}, err
	}
	at := braid.AtSequence(number)
	if from.kind == afterSequenceNumber {
		at = braid.AfterSequence(number)
		counter++
	}
	// The service accepts a sequence number beyond all that it has issued; a reader waits there
	// for records. Counters are times, so the position becomes a time. Any other error is left
	// to the read.
	limit := &braid.GetRecordsOptions{Limit: 1, LimitBytes: 1, Unmetered: true}
	if _, err := sh.GetRecords(ctx, at, limit); errors.Is(err, braid.ErrBeyondTip) {
		return braid.AtTime(time.Unix(0, int64(min(counter, math.MaxInt64)))), nil
	}
	return at, nil
}

// numberOf parses a sequence number, and returns it with its counter. The number must
// belong to the shard, but need not be that of a record.
func (s *Service) numberOf(t target, stream *braid.Stream, sh *braid.Shard, text, operation string) (number braid.SequenceNumber, counter uint64, err error) {
	invalid := func(end string) error {
		return invalidArgument("StartingSequenceNumber %s used in %s on shard %s in stream %s under account %s is invalid%s",
			text, operation, sh.ID(), t.name, t.Account, end)
	}
	given, err := seqnum.Parse(text)
	if err != nil {
		return number, 0, invalid(".")
	}
	if given.ShardID() != string(sh.ID()) {
		return number, 0, invalidArgument("Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s", given.ShardID(), sh.ID())
	}
	own, err := seqnum.Parse(sh.Describe().StartingSequenceNumber.String())
	if err != nil {
		return number, 0, internal(err)
	}
	// A record's counter is its time. So this number may be from an earlier stream of that
	// name, which was deleted in the second in which the shard was created.
	older := given.SeqIx != 0 && given.SeqIx < uint64(stream.CreatedAt().UnixNano())
	if given.Version != own.Version || given.CreateSeconds != own.CreateSeconds || older {
		return number, 0, invalid(" because it did not come from this stream.")
	}
	if number, err = braid.ParseSequenceNumber(text); err != nil {
		return number, 0, invalid(".")
	}
	return number, given.SeqIx, nil
}

// iterator is the content of a shard iterator.
type iterator struct {
	t       target
	created int64 // when the stream was, in nanoseconds
	shard   braid.ShardID
	at      braid.Position
}

// iteratorHead is the length of the start of an iterator's payload: the creation time of
// the stream, the generation, and the length of the position.
const iteratorHead = 8 + 4 + 1

func (s *Service) sealIterator(it iterator) (string, error) {
	at, err := it.at.MarshalText()
	if err != nil {
		return "", err
	}
	payload := binary.BigEndian.AppendUint64(make([]byte, 0, 320), uint64(it.created))
	payload = binary.BigEndian.AppendUint32(payload, s.generation.Load())
	payload = append(payload, byte(len(at)))
	payload = append(payload, at...)
	payload = append(payload, it.shard...)
	payload = append(payload, ' ')
	payload = append(payload, it.t.Account...)
	payload = append(payload, ' ')
	payload = append(payload, it.t.Region...)
	payload = append(payload, ' ')
	payload = append(payload, it.t.name...)
	return s.sealer.Seal(tokenIterator, payload, time.Now()), nil
}

// openIterator decodes a shard iterator, which must not have expired.
func (s *Service) openIterator(text string) (iterator, error) {
	it, generation, issued, err := s.parseIterator(text)
	if err != nil {
		return it, err
	}
	if now := time.Now(); generation < s.generation.Load() || now.Sub(issued) >= tokenLife {
		const clock = "Mon Jan 02 15:04:05 MST 2006"
		return it, failure("ExpiredIteratorException",
			"Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the tolerated delay of %d milliseconds.",
			issued.UTC().Format(clock), now.UTC().Format(clock), tokenLife.Milliseconds())
	}
	return it, nil
}

func (s *Service) parseIterator(text string) (it iterator, generation uint32, issued time.Time, err error) {
	payload, issued, err := s.sealer.Open(tokenIterator, text)
	if err != nil || len(payload) < iteratorHead || len(payload) < iteratorHead+int(payload[iteratorHead-1]) {
		return it, 0, issued, invalidArgument("Invalid ShardIterator.")
	}
	it.created = int64(binary.BigEndian.Uint64(payload))
	generation = binary.BigEndian.Uint32(payload[8:])
	end := iteratorHead + int(payload[iteratorHead-1])
	at, rest := payload[iteratorHead:end], string(payload[end:])
	words := strings.SplitN(rest, " ", 4)
	if err := it.at.UnmarshalText(at); err != nil || len(words) != 4 {
		return it, 0, issued, invalidArgument("Invalid ShardIterator.")
	}
	it.shard = braid.ShardID(words[0])
	it.t = s.named(Caller{Account: words[1], Region: words[2]}, words[3])
	return it, generation, issued, nil
}

// openToken decodes a NextToken.
func (s *Service) openToken(kind byte, text string) ([]byte, error) {
	payload, issued, err := s.sealer.Open(kind, text)
	if err != nil {
		return nil, errNextToken()
	}
	if time.Since(issued) >= tokenLife {
		return nil, failure("ExpiredNextTokenException", "The NextToken was issued more than %d seconds ago.", int(tokenLife.Seconds()))
	}
	return payload, nil
}

func errNextToken() error {
	return invalidArgument("The NextToken is not one that this service issued.")
}
