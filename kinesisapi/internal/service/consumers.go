package service

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

const maxPageConsumers = 100 // of ListStreamConsumers

// resource is the object that an ARN names: a stream, a consumer of a stream, or a queue.
type resource struct {
	t        target
	stream   *braid.Stream
	consumer string       // its name; empty if the resource is not a consumer
	row      consumerRow  // of the consumer
	queue    *queue.Queue // nil if the resource is not a queue
}

func (r *resource) isStream() bool { return r.queue == nil && r.consumer == "" }

// consumerARN returns a consumer's ARN. It contains the second of the registration, so a
// consumer that is registered again has another ARN.
func consumerARN(t target, row *consumerRow) string {
	return t.arn() + "/consumer/" + row.Name + ":" + strconv.FormatInt(row.created().Unix(), 10)
}

// resource returns the object that an ARN names.
func (s *Service) resource(ctx context.Context, c Caller, arn string) (resource, error) {
	switch parts := strings.SplitN(arn, ":", 6); {
	case len(parts) < 6:
	case strings.HasPrefix(parts[5], "queue/"):
		q, err := s.queue(ctx, c, arn)
		return resource{t: q.t, queue: q.queue}, err
	case strings.HasPrefix(parts[5], "channel/"):
		return resource{}, notFound("Channel %s under account %s not found.", arn, s.named(c, "").Account)
	}
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

// attributes returns the tags and the policy of a resource.
func (s *Service) attributes(ctx context.Context, r resource) (tags map[string]string, policy string, err error) {
	switch {
	case r.queue != nil:
		row, err := s.readQueueRow(ctx, r.queue)
		return row.Tags, row.Policy, s.fromBraid(r.t, err)
	case r.consumer != "":
		return r.row.Tags, r.row.Policy, nil
	}
	row, err := s.readRow(ctx, r.stream)
	return r.stream.Describe().Tags, row.Policy, s.fromBraid(r.t, err)
}

// changeAttributes changes the tags and the policy of a resource. A stream's tags are
// stored by braid, so change does not get them.
func (s *Service) changeAttributes(ctx context.Context, r resource, change func(tags *map[string]string, policy *string) error) error {
	switch {
	case r.queue != nil:
		return s.fromQueue(queueOf{r.t, r.queue}, s.updateQueueRow(ctx, r.queue, func(row *queueRow) error {
			return change(&row.Tags, &row.Policy)
		}))
	case r.consumer != "":
		return s.changeConsumer(ctx, r, func(row *consumerRow) error { return change(&row.Tags, &row.Policy) })
	}
	return s.fromBraid(r.t, s.updateRow(ctx, r.stream, func(row *streamRow) error { return change(nil, &row.Policy) }))
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
	advantage, queues := false, 0
	if exact {
		// Consumers and queues share the places of a stream.
		s.attach.Lock()
		defer s.attach.Unlock()
		if advantage, err = s.advantage(ctx, t); err != nil {
			return nil, err
		}
		queues = stream.Describe().Queues
	}
	var consumer consumerRow
	err = s.updateRow(ctx, stream, func(row *streamRow) error {
		if row.consumer(*in.ConsumerName) != nil {
			return inUse("Consumer %s of stream %s under account %s already exists.", *in.ConsumerName, t.name, t.Account)
		}
		if exact {
			if err := s.checkConsumers(t, row, queues, advantage); err != nil {
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

// checkConsumers returns an error if the stream cannot have another consumer now.
func (s *Service) checkConsumers(t target, row *streamRow, queues int, advantage bool) error {
	beginning := 0
	for i := range row.Consumers {
		if s.statusOf(consumerKey(t.stored, &row.Consumers[i])) == creating {
			beginning++
		}
	}
	if beginning >= 5 {
		return limitExceeded("Stream %s under account %s cannot have more than 5 consumers in state CREATING.", t.name, t.Account)
	}
	return checkPlaces(t, len(row.Consumers)+queues, advantage)
}

// checkPlaces returns an error if the stream has its maximum number of consumers and
// queues.
func checkPlaces(t target, taken int, advantage bool) error {
	most := 20
	if advantage {
		most = 50
	}
	if taken < most {
		return nil
	}
	return limitExceeded("Stream %s under account %s cannot have more than %d consumers and queues.", t.name, t.Account, most)
}

// advantage reports whether the account has committed itself to a minimum throughput. If
// so, its streams have more places.
func (s *Service) advantage(ctx context.Context, t target) (bool, error) {
	committed, err := s.commitment(ctx, t.Caller)
	return committed.status() != commitmentDisabled, s.fromBraid(t, err)
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
	return resource{t: t, stream: stream, consumer: found.Name, row: *found}, nil
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
	after := int64(0) // consumers are in the order of their registration
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
