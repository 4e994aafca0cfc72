package awskinesis

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Places that have no sequence number are tokens: in the words of Kinesis, with a time to the
// millisecond, which is what the service compares.
const (
	tokenSince  = "AT_TIMESTAMP " // the first record that arrived then or later
	tokenOldest = "TRIM_HORIZON " // the oldest record that was there then
	tokenLayout = "2006-01-02T15:04:05.000Z07:00"
)

// since is the place of the first record that arrives at a time or later, whether it has
// come or not.
func since(t time.Time) braid.Position {
	return braid.AtToken(tokenSince + t.UTC().Truncate(time.Millisecond).Format(tokenLayout))
}

// oldestAt is the trim horizon at a time: a reader that comes later is told that records may
// have been trimmed since.
func oldestAt(t time.Time) braid.Position {
	return braid.AtToken(tokenOldest + t.UTC().Truncate(time.Millisecond).Format(tokenLayout))
}

// timeOf returns the time of braid.AtTime.
func timeOf(p braid.Position) (t time.Time, is bool) {
	text, is := strings.CutPrefix(p.String(), "AT_TIMESTAMP ")
	if !is {
		return t, false
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil
}

// start is a place in the service's terms. It also says when a record at the place would have
// arrived, by which the place is known to be older than what the stream retains.
type start struct {
	kind    types.ShardIteratorType
	number  *string
	time    *time.Time
	arrival time.Time
	oldest  bool // it is the trim horizon as it was at arrival
}

// newStart returns the start of any position. Positions that are not concrete are taken as
// well: leases that the KCL has written have TRIM_HORIZON and LATEST.
func newStart(shard braid.ShardID, at braid.Position) (start, error) {
	n := at.SequenceNumber()
	switch t, isTime := timeOf(at); {
	case !n.IsZero() && n.ShardID() != shard:
		return start{}, &consumer.PermanentError{Err: invalid("position", at, fmt.Sprintf("must be of %s, and its number is of %s", shard, n.ShardID()))}
	case !n.IsZero():
		s := start{kind: types.ShardIteratorTypeAfterSequenceNumber, number: aws.String(n.String()), arrival: n.Time()}
		if at.Equal(braid.AtSequence(n)) {
			s.kind = types.ShardIteratorTypeAtSequenceNumber
		}
		return s, nil
	case at.Equal(braid.TrimHorizon()):
		return start{kind: types.ShardIteratorTypeTrimHorizon}, nil
	case at.Equal(braid.Latest()):
		return start{kind: types.ShardIteratorTypeLatest}, nil
	case isTime:
		return start{kind: types.ShardIteratorTypeAtTimestamp, time: &t, arrival: t}, nil
	}
	if text, is := strings.CutPrefix(at.Token(), tokenSince); is {
		if t, err := time.Parse(tokenLayout, text); err == nil {
			return start{kind: types.ShardIteratorTypeAtTimestamp, time: &t, arrival: t}, nil
		}
	}
	if text, is := strings.CutPrefix(at.Token(), tokenOldest); is {
		if t, err := time.Parse(tokenLayout, text); err == nil {
			return start{kind: types.ShardIteratorTypeTrimHorizon, arrival: t, oldest: true}, nil
		}
	}
	return start{}, &consumer.PermanentError{Err: invalid("position", at, "must be one that a Source on Kinesis made, or a sequence number")}
}

// startingPosition is the start as SubscribeToShard takes it.
func (s *start) startingPosition() *types.StartingPosition {
	return &types.StartingPosition{Type: s.kind, SequenceNumber: s.number, Timestamp: s.time}
}
