package service

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

const (
	deadLetterBuiltIn = "BUILT_IN"
	deadLetterNone    = "NONE"

	// queuesOnTheirWay is the maximum number of queues of an account and region that are
	// CREATING or DELETING.
	queuesOnTheirWay = 5
)

// Every queue of the service is a queue of package queue, and vice versa. The queueRow has
// the rest of its data.

// queueOf is the queue of a request: its name for the caller, and the queue itself.
type queueOf struct {
	t     target
	queue *queue.Queue
}

func (q queueOf) arn() string { return queueARN(q.t.Caller, q.queue.ID()) }

func queueARN(c Caller, id string) string {
	return "arn:aws:kinesis:" + c.Region + ":" + c.Account + ":queue/" + id
}

// queueKey returns a queue's key in the statuses. Keys of streams and consumers begin with
// the stored name of a stream, which has no slash.
func queueKey(q *queue.Queue) string { return "/" + q.ID() }

func (s *Service) queueNotFound(c Caller, arn string) *Error {
	return notFound("Queue %s under account %s not found.", arn, s.named(c, "").Account)
}

// fromQueue converts an error of package queue to an error of the service.
func (s *Service) fromQueue(q queueOf, err error) error {
	if errors.Is(err, queue.ErrQueueNotFound) {
		return s.queueNotFound(q.t.Caller, q.arn())
	}
	return s.fromBraid(q.t, err)
}

// queue returns the queue that an ARN names, in any status.
func (s *Service) queue(ctx context.Context, c Caller, arn string) (queueOf, error) {
	parts := strings.SplitN(arn, ":", 6) // arn:aws:kinesis:region:account:queue/id
	if len(parts) < 6 || s.opts.SeparateAccounts && (Caller{Account: parts[4], Region: parts[3]}) != c {
		return queueOf{}, s.queueNotFound(c, arn)
	}
	id, _ := strings.CutPrefix(parts[5], "queue/")
	q, err := s.queueByID(ctx, id)
	if errors.Is(err, queue.ErrQueueNotFound) {
		return queueOf{}, s.queueNotFound(c, arn)
	}
	if err != nil {
		return queueOf{}, s.fromBraid(s.named(c, id), err)
	}
	found, mine, err := s.ownQueue(ctx, c, q)
	if err == nil && !mine {
		err = s.queueNotFound(c, arn)
	}
	return found, err
}

// queueByID returns the queue with an id, and not a queue whose name equals the id.
func (s *Service) queueByID(ctx context.Context, id string) (*queue.Queue, error) {
	q, err := queue.Get(ctx, s.db, id)
	if err != nil || q.ID() == id {
		return q, err
	}
	list, err := queue.List(ctx, s.db, "")
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(list, func(q *queue.Queue) bool { return q.ID() == id }); i >= 0 {
		return list[i], nil
	}
	return nil, queue.ErrQueueNotFound
}

// deliveringQueue returns the queue of a request to receive or settle records. A queue that
// is CREATING or DELETING is not found.
func (s *Service) deliveringQueue(ctx context.Context, c Caller, arn string) (queueOf, error) {
	q, err := s.queue(ctx, c, arn)
	if err == nil && !s.delivers(q) {
		err = s.queueNotFound(c, arn)
	}
	return q, err
}

func (s *Service) delivers(q queueOf) bool {
	status := s.statusOf(queueKey(q.queue))
	return status == active || status == updating
}

// ownQueue returns a queue's name for the caller, and whether it belongs to the caller.
func (s *Service) ownQueue(ctx context.Context, c Caller, q *queue.Queue) (found queueOf, mine bool, err error) {
	stored := q.Name()
	if s.opts.SeparateAccounts && strings.HasPrefix(stored, longPrefix) {
		row, err := s.readQueueRow(ctx, q)
		mine := row.Account == c.Account && row.Region == c.Region
		return queueOf{s.named(c, row.Name), q}, mine, s.fromBraid(s.named(c, stored), err)
	}
	name, mine := strings.CutPrefix(stored, s.namespace(c))
	return queueOf{s.named(c, name), q}, mine, nil
}

// streamOf returns the stream of a queue as the caller names it.
func (s *Service) streamOf(ctx context.Context, q queueOf) (target, error) {
	stream := q.queue.Stream()
	if s.opts.SeparateAccounts && strings.HasPrefix(stream.Name(), longPrefix) {
		row, err := s.readRow(ctx, stream)
		return s.named(q.t.Caller, row.Name), s.fromQueue(q, err)
	}
	return s.named(q.t.Caller, strings.TrimPrefix(stream.Name(), s.namespace(q.t.Caller))), nil
}

// CreateQueue is the operation of that name.
func (s *Service) CreateQueue(ctx context.Context, c Caller, in *CreateQueueInput) (*QueueOutput, error) {
	t := s.named(c, *in.QueueName)
	if n := len(in.StreamConfigurationList); n > 1 {
		return nil, Invalid("StreamConfigurationList must have exactly one member; it has " + strconv.Itoa(n) + ".")
	}
	from := in.StreamConfigurationList[0]
	st, stream, err := s.stream(c, nil, from.StreamARN)
	if err != nil {
		return nil, err
	}
	opts := &queue.Options{Stream: stream.Name()}
	row := queueRow{Account: t.Account, Region: t.Region, Name: t.name, Tags: in.Tags}
	if opts.Start, err = row.start(from.StartingPosition); err != nil {
		return nil, err
	}
	if err := setAttributes(opts, in.QueueAttributes); err != nil {
		return nil, err
	}
	if err := checkNewTags(t, nil, in.Tags); err != nil {
		return nil, err
	}
	q, err := s.attachQueue(ctx, t, st, stream, opts, row)
	if err != nil {
		return nil, err
	}
	d, err := s.describeQueue(ctx, q, creating)
	return &QueueOutput{d}, err
}

// attachQueue creates a queue if its stream can have another one. When it returns, the
// queue's starting position is fixed.
func (s *Service) attachQueue(ctx context.Context, t, st target, stream *braid.Stream, opts *queue.Options, row queueRow) (queueOf, error) {
	s.attach.Lock()
	defer s.attach.Unlock()
	if !s.isOpen(st) {
		return queueOf{}, s.notActive(st, s.statusOf(st.stored))
	}
	streamRow, err := s.readRow(ctx, stream)
	if err != nil {
		return queueOf{}, s.fromBraid(st, err)
	}
	if streamRow.mode(stream) != modeOnDemand || s.promisedMode(st.stored) == modeProvisioned {
		return queueOf{}, Invalid("Stream " + st.name + " under account " + st.Account + " is not in On-Demand mode, which queues require.")
	}
	if s.ExactLimits() {
		if err := s.checkQueueLimits(ctx, st, stream, &streamRow); err != nil {
			return queueOf{}, err
		}
	}
	// Creation does not end with the request's context, so that a client that hangs up does not
	// leave half of it.
	ctx = context.WithoutCancel(ctx)
	made, err := queue.Create(ctx, s.db, t.stored, opts)
	if errors.Is(err, queue.ErrQueueExists) && s.removeHalf(ctx, t) {
		made, err = queue.Create(ctx, s.db, t.stored, opts)
	}
	if errors.Is(err, queue.ErrQueueExists) {
		return queueOf{}, inUse("Queue %s under account %s already exists.", t.name, t.Account)
	}
	if err != nil {
		return queueOf{}, s.fromBraid(st, err)
	}
	q := queueOf{t, made}
	if err := s.updateQueueRow(ctx, made, func(r *queueRow) error { *r = row; return nil }); err != nil {
		if failed := made.Delete(ctx); failed != nil {
			s.opts.Logger.Warn("an incomplete queue could not be removed", "queue", t.name, "error", failed)
		}
		return q, s.fromQueue(q, err)
	}
	nothing := func(context.Context) error { return nil }
	_, err = s.begin(ctx, queueKey(q.queue), creating, s.opts.CreateDelay, nothing)
	return q, s.fromQueue(q, err)
}

// removeHalf deletes the queue with the stored name of t if it has no row but its stored name
// does not show its name. A crash came between the two, so no caller got its name, and none
// can delete it. It reports whether the name is free now.
func (s *Service) removeHalf(ctx context.Context, t target) bool {
	if !s.opts.SeparateAccounts || !strings.HasPrefix(t.stored, longPrefix) {
		return false
	}
	q, err := queue.Get(ctx, s.db, t.stored)
	if err != nil {
		return false
	}
	row, err := s.readQueueRow(ctx, q)
	return err == nil && row.Name == "" && q.Delete(ctx) == nil
}

// checkQueueLimits returns an error if the stream cannot have another queue now.
func (s *Service) checkQueueLimits(ctx context.Context, t target, stream *braid.Stream, row *streamRow) error {
	advantage, err := s.advantage(ctx, t)
	if err != nil {
		return err
	}
	if err := checkPlaces(t, len(row.Consumers)+stream.Describe().Queues, advantage); err != nil {
		return err
	}
	all, err := s.queuesOf(ctx, t.Caller)
	if err != nil {
		return err
	}
	busy := 0
	for _, q := range all {
		if status := s.statusOf(queueKey(q.queue)); status == creating || status == deleting {
			busy++
		}
	}
	if busy >= queuesOnTheirWay {
		return limitExceeded("No more than %d queues of account %s can be in state CREATING or DELETING.", queuesOnTheirWay, t.Account)
	}
	return nil
}

// start stores the requested starting position in the row, and returns it as a position.
func (r *queueRow) start(p *QueueStartingPosition) (braid.Position, error) {
	if p == nil {
		r.StartType = latest
		return braid.Latest(), nil
	}
	r.StartType = *p.Type
	switch {
	case r.StartType != atTimestamp && p.Timestamp != nil:
		return braid.Position{}, Invalid("A Timestamp of StartingPosition requires the Type AT_TIMESTAMP; the Type is " + r.StartType + ".")
	case r.StartType == trimHorizon:
		return braid.TrimHorizon(), nil
	case r.StartType == latest:
		return braid.Latest(), nil
	case p.Timestamp == nil:
		return braid.Position{}, Invalid("StartingPosition with the Type AT_TIMESTAMP requires a Timestamp.")
	case p.Timestamp.After(time.Now()):
		return braid.Position{}, Invalid("The Timestamp of StartingPosition must not be in the future.")
	}
	r.StartTime = *p.Timestamp
	return braid.AtTime(*p.Timestamp), nil
}

// setAttributes applies the attributes that a request has.
func setAttributes(opts *queue.Options, in *QueueAttributes) error {
	if in == nil {
		return nil
	}
	if v := in.VisibilityTimeoutSeconds; v != nil {
		opts.VisibilityTimeout = visibility(*v)
	}
	switch d := in.DeadLetterConfiguration; {
	case d == nil:
	case *d.TargetType == deadLetterNone:
		opts.MaxReceives = -1
	case d.MaxReceiveCount == nil:
		return Invalid("DeadLetterConfiguration with the TargetType BUILT_IN requires a MaxReceiveCount.")
	default:
		opts.MaxReceives = int(*d.MaxReceiveCount)
	}
	return nil
}

// visibility converts a timeout to that of package queue, where 0 means the default.
func visibility(seconds int32) time.Duration {
	if seconds == 0 {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

func attributesOf(opts *queue.Options) QueueAttributes {
	timeout := max(0, (opts.VisibilityTimeout+time.Second-1)/time.Second)
	letters := DeadLetterConfiguration{TargetType: new(deadLetterNone)}
	if opts.MaxReceives > 0 {
		letters = DeadLetterConfiguration{TargetType: new(deadLetterBuiltIn), MaxReceiveCount: new(int32(opts.MaxReceives))}
	}
	return QueueAttributes{VisibilityTimeoutSeconds: new(int32(timeout)), DeadLetterConfiguration: &letters}
}

// DescribeQueue is the operation of that name.
func (s *Service) DescribeQueue(ctx context.Context, c Caller, in *QueueInput) (*QueueOutput, error) {
	q, err := s.queue(ctx, c, *in.QueueARN)
	if err != nil {
		return nil, err
	}
	d, err := s.describeQueue(ctx, q, s.statusOf(queueKey(q.queue)))
	return &QueueOutput{d}, err
}

func (s *Service) describeQueue(ctx context.Context, q queueOf, status string) (QueueDescription, error) {
	row, err := s.readQueueRow(ctx, q.queue)
	if err != nil {
		return QueueDescription{}, s.fromQueue(q, err)
	}
	stream, err := s.streamOf(ctx, q)
	if err != nil {
		return QueueDescription{}, err
	}
	options := q.queue.Options()
	return QueueDescription{
		QueueARN:               q.arn(),
		QueueAttributes:        attributesOf(&options),
		QueueCreationTimestamp: q.queue.CreatedAt(),
		QueueName:              q.t.name,
		QueueStatus:            status,
		StreamConfigurationList: []QueueStreamConfiguration{{
			StartingPosition: row.startingPosition(q.queue, status),
			StreamARN:        new(stream.arn()),
		}},
	}, nil
}

// startingPosition describes where the queue begins: the requested position while the queue
// is CREATING, and afterwards also its time. For a queue that the service did not create,
// only the time is known.
func (r *queueRow) startingPosition(q *queue.Queue, status string) *QueueStartingPosition {
	p := &QueueStartingPosition{Type: new(r.StartType), Timestamp: new(q.StartedAt())}
	switch {
	case r.StartType == "":
		p.Type = new(atTimestamp)
	case status != creating:
	case r.StartType == atTimestamp:
		p.Timestamp = &r.StartTime
	default:
		p.Timestamp = nil
	}
	return p
}

// UpdateQueue is the operation of that name. Its answer has the attributes that the queue
// will have.
func (s *Service) UpdateQueue(ctx context.Context, c Caller, in *UpdateQueueInput) (*QueueOutput, error) {
	q, err := s.queue(ctx, c, *in.QueueARN)
	if err != nil {
		return nil, err
	}
	d, err := s.describeQueue(ctx, q, updating)
	if err != nil {
		return nil, err
	}
	var coming queue.Options // the current settings, with the requested changes
	if err := setAttributes(&coming, &d.QueueAttributes); err != nil {
		return nil, err
	}
	if err := setAttributes(&coming, in.QueueAttributes); err != nil {
		return nil, err
	}
	d.QueueAttributes = attributesOf(&coming)
	busy, err := s.begin(ctx, queueKey(q.queue), updating, s.opts.UpdateDelay, func(ctx context.Context) error {
		return q.queue.Update(ctx, func(opts *queue.Options) { _ = setAttributes(opts, in.QueueAttributes) }) // it was checked
	})
	if busy != "" {
		return nil, inUse("Queue %s under account %s not ACTIVE, instead in state %s", q.t.name, q.t.Account, busy)
	}
	return &QueueOutput{d}, s.fromQueue(q, err)
}

// DeleteQueue is the operation of that name. It ends the waits of receivers; from then on
// nothing can be received or settled.
func (s *Service) DeleteQueue(ctx context.Context, c Caller, in *QueueInput) (*Empty, error) {
	q, err := s.queue(ctx, c, *in.QueueARN)
	if err != nil {
		return nil, err
	}
	return &Empty{}, s.fromQueue(q, s.deleteQueue(ctx, q.queue, s.opts.DeleteDelay))
}

// deleteQueue deletes a queue after a delay, and discards its pending change of status.
func (s *Service) deleteQueue(ctx context.Context, q *queue.Queue, delay time.Duration) error {
	for {
		busy, err := s.begin(ctx, queueKey(q), deleting, delay, func(ctx context.Context) error {
			return s.deleteQueueAndRow(ctx, q)
		})
		switch {
		case busy == "":
			s.receivers.end(q)
			return err
		case busy == deleting && delay > 0:
			return nil
		}
		s.interrupt(queueKey(q))
	}
}

// deleteQueuesOf deletes the queues of a stream at once.
func (s *Service) deleteQueuesOf(ctx context.Context, stream *braid.Stream) error {
	list, err := queue.List(ctx, s.db, stream.Name())
	for _, q := range list {
		if err := s.deleteQueue(ctx, q, 0); err != nil && !errors.Is(err, queue.ErrQueueNotFound) {
			return err
		}
	}
	return err
}
