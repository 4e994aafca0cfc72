package service

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid"
)

const maxPageConsumers = 100 // of ListStreamConsumers

// resource is what an ARN names: a stream, or a consumer of one.
type resource struct {
	t        target
	stream   *braid.Stream
	consumer string      // its name; empty: the resource is the stream
	row      consumerRow // of the consumer
}

// consumerARN returns a consumer's ARN. It holds the second of its registration,
// so that one which is registered again has another.
func consumerARN(t target, row *consumerRow) string {
	return t.arn() + "/consumer/" + row.Name + ":" + strconv.FormatInt(row.created().Unix(), 10)
}

// resource finds what an ARN names.
func (s *Service) resource(ctx context.Context, c Caller, arn string) (resource, error) {
	t, stream, err := s.stream(c, nil, &arn)
	if err != nil {
		return resource{}, err
	}
	r := resource{t: t, stream: stream}
	_, rest, isConsumer := strings.Cut(arn, "/consumer/")
	if !isConsumer {
		if !strings.HasSuffix(arn, "stream/"+t.name) {
			return resource{}, invalidArgument("%s is not the ARN of a stream or a consumer.", arn)
		}
		return r, nil
	}
	r.consumer, _, _ = strings.Cut(rest, ":")
	row, err := s.readRow(ctx, stream)
	if err != nil {
		return resource{}, s.fromBraid(t, err)
	}
	found := row.consumer(r.consumer)
	if found == nil || !strings.HasSuffix(arn, ":"+strconv.FormatInt(found.created().Unix(), 10)) {
		return resource{}, s.consumerNotFound(t, r.consumer)
	}
	r.row = *found
	return r, nil
}

func (s *Service) consumerNotFound(t target, name string) error {
	return notFound("Consumer %s, account %s not found.", name, t.Account)
}

// changeConsumer changes the row of a consumer.
func (s *Service) changeConsumer(ctx context.Context, r resource, change func(*consumerRow) error) error {
	return s.fromBraid(r.t, s.updateRow(ctx, r.stream, func(row *streamRow) error {
		found := row.consumer(r.consumer)
		if found == nil || found.Created != r.row.Created {
			return s.consumerNotFound(r.t, r.consumer)
		}
		return change(found)
	}))
}

// RegisterStreamConsumer is the operation of that name.
func (s *Service) RegisterStreamConsumer(ctx context.Context, c Caller, in *RegisterStreamConsumerInput) (*RegisterStreamConsumerOutput, error) {
	t, stream, err := s.stream(c, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if err := s.requireActive(t); err != nil {
		return nil, err
	}
	if err := checkNewTags(t, nil, in.Tags); err != nil {
		return nil, err
	}
	exact := s.ExactLimits()
	advantage := false
	if exact {
		committed, err := s.commitment(ctx, t.Caller)
		if err != nil {
			return nil, s.fromBraid(t, err)
		}
		advantage = committed.status() != commitmentDisabled
	}
	var consumer consumerRow
	err = s.updateRow(ctx, stream, func(row *streamRow) error {
		if row.consumer(*in.ConsumerName) != nil {
			return inUse("Consumer %s of stream %s under account %s already exists.", *in.ConsumerName, t.name, t.Account)
		}
		if exact {
			if err := s.checkConsumers(t, row, advantage); err != nil {
				return err
			}
		}
		now := time.Now()
		if last := time.Unix(row.LastConsumer, 0); now.Before(last.Add(time.Second)) {
			now = last.Add(time.Second)
		}
		row.LastConsumer = now.Unix()
		consumer = consumerRow{Name: *in.ConsumerName, Created: now.UnixNano(), Tags: in.Tags}
		row.Consumers = append(row.Consumers, consumer)
		return nil
	})
	if err != nil {
		return nil, s.fromBraid(t, err)
	}
	nothing := func(context.Context) error { return nil }
	if _, err := s.begin(ctx, consumerKey(t.stored, &consumer), creating, s.opts.CreateDelay, nothing); err != nil {
		return nil, s.fromBraid(t, err)
	}
	out := s.consumerOf(t, &consumer)
	out.ConsumerStatus = creating
	return &RegisterStreamConsumerOutput{out}, nil
}

// checkConsumers is the error of a stream that has as many consumers as it may.
func (s *Service) checkConsumers(t target, row *streamRow, advantage bool) error {
	most, beginning := 20, 0
	if advantage {
		most = 50
	}
	for i := range row.Consumers {
		if s.statusOf(consumerKey(t.stored, &row.Consumers[i])) == creating {
			beginning++
		}
	}
	if len(row.Consumers) >= most || beginning >= 5 {
		return limitExceeded("Stream %s under account %s cannot have more than %d consumers, nor more than 5 in state CREATING.", t.name, t.Account, most)
	}
	return nil
}

// consumerOf describes a consumer.
func (s *Service) consumerOf(t target, row *consumerRow) Consumer {
	return Consumer{
		ConsumerARN:               consumerARN(t, row),
		ConsumerCreationTimestamp: row.created(),
		ConsumerName:              row.Name,
		ConsumerStatus:            s.statusOf(consumerKey(t.stored, row)),
	}
}

// consumer finds the consumer that a request names: by its ARN, by the stream's
// and a name, or by all of these, if they agree.
func (s *Service) consumer(ctx context.Context, c Caller, in *ConsumerInput) (resource, error) {
	if in.ConsumerARN != nil {
		r, err := s.resource(ctx, c, *in.ConsumerARN)
		switch {
		case err != nil:
			return r, err
		case in.ConsumerName != nil && *in.ConsumerName != r.consumer, in.StreamARN != nil && *in.StreamARN != r.t.arn():
			return r, invalidArgument("ConsumerARN %s and the other members do not name the same consumer.", *in.ConsumerARN)
		}
		return r, nil
	}
	if in.StreamARN == nil || in.ConsumerName == nil {
		return resource{}, invalidArgument("Both streamARN and consumer name must be provided if consumerARN is not provied.")
	}
	t, stream, row, err := s.streamWithRow(ctx, c, nil, in.StreamARN)
	if err != nil {
		return resource{}, err
	}
	found := row.consumer(*in.ConsumerName)
	if found == nil {
		return resource{}, s.consumerNotFound(t, *in.ConsumerName)
	}
	return resource{t, stream, found.Name, *found}, nil
}

// DescribeStreamConsumer is the operation of that name.
func (s *Service) DescribeStreamConsumer(ctx context.Context, c Caller, in *ConsumerInput) (*DescribeStreamConsumerOutput, error) {
	r, err := s.consumer(ctx, c, in)
	if err != nil {
		return nil, err
	}
	d := s.consumerOf(r.t, &r.row)
	return &DescribeStreamConsumerOutput{ConsumerDescription{
		ConsumerARN:               d.ConsumerARN,
		ConsumerCreationTimestamp: d.ConsumerCreationTimestamp,
		ConsumerName:              d.ConsumerName,
		ConsumerStatus:            d.ConsumerStatus,
		StreamARN:                 r.t.arn(),
	}}, nil
}

// DeregisterStreamConsumer is the operation of that name. Subscriptions of the
// consumer end when it is gone.
func (s *Service) DeregisterStreamConsumer(ctx context.Context, c Caller, in *ConsumerInput) (*Empty, error) {
	r, err := s.consumer(ctx, c, in)
	if err != nil {
		return nil, err
	}
	key := consumerKey(r.t.stored, &r.row)
	for {
		busy, err := s.begin(ctx, key, deleting, s.opts.DeleteDelay, func(ctx context.Context) error {
			err := s.updateRow(ctx, r.stream, func(row *streamRow) error {
				row.Consumers = slices.DeleteFunc(row.Consumers, func(c consumerRow) bool {
					return c.Name == r.consumer && c.Created == r.row.Created
				})
				return nil
			})
			if err == nil {
				s.subscriptions.end(key, s.consumerNotFound(r.t, r.consumer))
			}
			return err
		})
		if busy == "" || busy == deleting {
			return &Empty{}, s.fromBraid(r.t, err)
		}
		s.interrupt(key)
	}
}

// ListStreamConsumers is the operation of that name.
func (s *Service) ListStreamConsumers(ctx context.Context, c Caller, in *ListStreamConsumersInput) (*ListStreamConsumersOutput, error) {
	t, stream, err := s.stream(c, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	after := int64(0) // consumers are listed in the order of their registration
	if in.NextToken != nil {
		if in.StreamCreationTimestamp != nil {
			return nil, invalidArgument("NextToken and StreamCreationTimestamp cannot be provided together.")
		}
		payload, err := s.openToken(tokenConsumers, *in.NextToken)
		if err != nil {
			return nil, err
		}
		place, name, _ := strings.Cut(string(payload), " ")
		if after, err = strconv.ParseInt(place, 10, 64); err != nil || name != t.stored {
			return nil, errNextToken()
		}
	}
	if at := in.StreamCreationTimestamp; at != nil && at.Unix() != stream.CreatedAt().Unix() {
		return nil, s.streamNotFound(t)
	}
	row, err := s.readRow(ctx, stream)
	if err != nil {
		return nil, s.fromBraid(t, err)
	}
	out := &ListStreamConsumersOutput{Consumers: []Consumer{}}
	limit := page(in.MaxResults, maxPageConsumers, maxPageConsumers)
	for i := range row.Consumers {
		consumer := &row.Consumers[i]
		if consumer.Created <= after {
			continue
		}
		if len(out.Consumers) == limit {
			next := s.sealer.Seal(tokenConsumers, []byte(strconv.FormatInt(row.Consumers[i-1].Created, 10)+" "+t.stored), time.Now())
			out.NextToken = &next
			break
		}
		out.Consumers = append(out.Consumers, s.consumerOf(t, consumer))
	}
	return out, nil
}
