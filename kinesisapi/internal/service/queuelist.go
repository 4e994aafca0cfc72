package service

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid/queue"
)

const maxPageQueues = 100 // of ListQueues, if the request has no other number

// ListQueues is the operation of that name. Queues are listed in the order in which they
// were created.
func (s *Service) ListQueues(ctx context.Context, c Caller, in *ListQueuesInput) (*ListQueuesOutput, error) {
	var after *listedAfter
	if in.NextToken != nil {
		payload, err := s.openToken(tokenQueues, *in.NextToken)
		if err != nil {
			return nil, err
		}
		if len(payload) < 8 {
			return nil, errNextToken()
		}
		after = &listedAfter{int64(binary.BigEndian.Uint64(payload)), string(payload[8:])}
	}
	all, err := s.queuesOf(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &ListQueuesOutput{QueueSummaries: []QueueSummary{}}
	limit := page(in.MaxResults, maxPageQueues, int(noLimit))
	filter := s.filterOf(c, in.StreamFilter)
	for i, q := range all {
		if after != nil && placeOf(q).compare(*after) <= 0 || !filter.has(q) {
			continue
		}
		stream, err := s.streamOf(ctx, q)
		if err != nil {
			return nil, err
		}
		out.QueueSummaries = append(out.QueueSummaries, QueueSummary{
			QueueARN:               q.arn(),
			QueueCreationTimestamp: q.queue.CreatedAt(),
			QueueName:              q.t.name,
			QueueStatus:            s.statusOf(queueKey(q.queue)),
			Streams:                []QueueStreamIdentifier{{stream.arn(), q.queue.Stream().CreatedAt()}},
		})
		if len(out.QueueSummaries) == limit && slices.ContainsFunc(all[i+1:], filter.has) {
			last := placeOf(q)
			payload := binary.BigEndian.AppendUint64(nil, uint64(last.created))
			next := s.sealer.Seal(tokenQueues, append(payload, last.id...), time.Now())
			out.NextToken = &next
			break
		}
	}
	return out, nil
}

// listedAfter is the position in the list after a queue.
type listedAfter struct {
	created int64 // nanoseconds
	id      string
}

func placeOf(q queueOf) listedAfter {
	return listedAfter{q.queue.CreatedAt().UnixNano(), q.queue.ID()}
}

func (l listedAfter) compare(m listedAfter) int {
	return cmp.Or(cmp.Compare(l.created, m.created), strings.Compare(l.id, m.id))
}

// queuesOf returns the caller's queues, in the order in which they were created.
func (s *Service) queuesOf(ctx context.Context, c Caller) ([]queueOf, error) {
	list, err := queue.List(ctx, s.db, "")
	if err != nil {
		return nil, s.fromBraid(s.named(c, ""), err)
	}
	var all []queueOf
	for _, q := range list {
		own, mine, err := s.ownQueue(ctx, c, q)
		if err != nil {
			return nil, err
		}
		if mine {
			all = append(all, own)
		}
	}
	slices.SortFunc(all, func(a, b queueOf) int { return placeOf(a).compare(placeOf(b)) })
	return all, nil
}

// streamFilter is a set of streams, by stored name; nil is all.
type streamFilter map[string][]StreamFilter

// filterOf combines the filters of a request: a queue is listed if any filter names its
// stream. A stream that does not exist has no queues.
func (s *Service) filterOf(c Caller, list []StreamFilter) streamFilter {
	if list == nil {
		return nil
	}
	filter := make(streamFilter, len(list))
	for _, f := range list {
		if t, err := s.targetOfARN(c, *f.StreamARN); err == nil {
			filter[t.stored] = append(filter[t.stored], f)
		}
	}
	return filter
}

func (f streamFilter) has(q queueOf) bool {
	stream := q.queue.Stream()
	return f == nil || slices.ContainsFunc(f[stream.Name()], func(f StreamFilter) bool {
		at := f.StreamCreationTimestamp
		return at == nil || at.Unix() == stream.CreatedAt().Unix()
	})
}
