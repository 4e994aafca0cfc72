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

// Positions without a sequence number are tokens: Kinesis's name of the position, and a time in
// milliseconds, the resolution of the service.
const (
	tokenSince  = "AT_TIMESTAMP " // the first record that arrived at that time or later
	tokenOldest = "TRIM_HORIZON " // the oldest record that was retained at that time
	tokenLayout = "2006-01-02T15:04:05.000Z07:00"
)

// since returns the position of the first record that arrives at a time or later, even if none has
// arrived yet.
func since(t time.Time) braid.Position {
	return braid.AtToken(tokenSince + t.UTC().Truncate(time.Millisecond).Format(tokenLayout))
}

// oldestAt returns the trim horizon at a time. A reader that starts there later gets a report that
// records may have been trimmed since.
func oldestAt(t time.Time) braid.Position {
	return braid.AtToken(tokenOldest + t.UTC().Truncate(time.Millisecond).Format(tokenLayout))
}

// timeOf returns the time of a position made by braid.AtTime.
func timeOf(p braid.Position) (t time.Time, is bool) {
	text, is := strings.CutPrefix(p.String(), "AT_TIMESTAMP ")
	if !is {
		return t, false
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil
}

// start is a position in the service's terms. It also has the arrival time of a record at the
// position, which shows whether the position is older than the stream's retention.
type start struct {
	kind    types.ShardIteratorType
	number  *string
	time    *time.Time
	arrival time.Time
	oldest  bool // it is the trim horizon as it was at arrival
}

// newStart returns the start for any position, even if it is not concrete: leases that the KCL has
// written contain TRIM_HORIZON and LATEST.
func newStart(shard braid.ShardID, at braid.Position) (start, error) {
	n := at.SequenceNumber()
	switch t, isTime := timeOf(at); {
	case !n.IsZero() && n.ShardID() != shard:
		return start{}, &consumer.PermanentError{Err: invalid("position", at, fmt.Sprintf("must be in %s; its number is of %s", shard, n.ShardID()))}
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
	return start{}, &consumer.PermanentError{Err: invalid("position", at, "must be a sequence number, or a position from a Kinesis Source")}
}

// startingPosition returns the start in the form that SubscribeToShard expects.
func (s *start) startingPosition() *types.StartingPosition {
	return &types.StartingPosition{Type: s.kind, SequenceNumber: s.number, Timestamp: s.time}
}
