package service

import (
	"context"
	"errors"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// The rest of this file is not part of Kinesis. It is for operators of the service: changes
// take effect at once, and no limits apply.

// Managed is a stream of an account: its name and settings in the service, and the stream
// in the database.
type Managed struct {
	Name, ARN    string
	Mode, Status string
	Stream       *braid.Stream
}

// Managed returns the caller's streams, by name.
func (s *Service) Managed(ctx context.Context, c Caller) ([]Managed, error) {
	streams, err := s.streamsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	managed := make([]Managed, 0, len(streams))
	for _, l := range streams {
		managed = append(managed, s.managed(l.t, l.stream, &l.row))
	}
	return managed, nil
}

// Manage returns one of the caller's streams.
func (s *Service) Manage(ctx context.Context, c Caller, name string) (Managed, error) {
	t, stream, row, err := s.streamWithRow(ctx, c, &name, nil)
	if err != nil {
		return Managed{}, err
	}
	return s.managed(t, stream, &row), nil
}

func (s *Service) managed(t target, stream *braid.Stream, row *streamRow) Managed {
	return Managed{t.name, t.arn(), row.mode(stream), s.statusOf(t.stored), stream}
}

// ManagedQueue is a queue of an account: its names in the service, and the queue in the
// database.
type ManagedQueue struct {
	Name, ARN      string
	Stream, Status string
	Queue          *queue.Queue
}

// ManagedQueues returns the caller's queues, in the order in which they were created.
func (s *Service) ManagedQueues(ctx context.Context, c Caller) ([]ManagedQueue, error) {
	queues, err := s.queuesOf(ctx, c)
	if err != nil {
		return nil, err
	}
	managed := make([]ManagedQueue, 0, len(queues))
	for _, q := range queues {
		stream, err := s.streamOf(ctx, q)
		if err != nil {
			return nil, err
		}
		managed = append(managed, ManagedQueue{q.t.name, q.arn(), stream.name, s.statusOf(queueKey(q.queue)), q.queue})
	}
	return managed, nil
}

// CreateOnDemand creates an on-demand stream, which is ACTIVE.
func (s *Service) CreateOnDemand(ctx context.Context, c Caller, name string) error {
	t := s.named(c, name)
	stream, err := s.db.CreateStream(ctx, t.stored, &braid.StreamOptions{Shards: onDemandShards, Capacity: s.capacity(modeOnDemand)})
	if err != nil {
		return err
	}
	return s.updateRow(ctx, stream, func(r *streamRow) error {
		r.Account, r.Region, r.Name, r.Mode, r.Shards = t.Account, t.Region, t.name, modeOnDemand, onDemandShards
		return nil
	})
}

// AddQueue creates a queue that begins with the oldest record of a stream, and is ACTIVE.
// It returns the queue's ARN.
func (s *Service) AddQueue(ctx context.Context, c Caller, name, stream string) (arn string, q *queue.Queue, err error) {
	out, err := s.CreateQueue(ctx, c, &CreateQueueInput{
		QueueName: &name,
		StreamConfigurationList: []QueueStreamConfiguration{{
			StreamARN:        new(s.named(c, stream).arn()),
			StartingPosition: &QueueStartingPosition{Type: new(trimHorizon)},
		}},
	})
	if err != nil {
		return "", nil, err
	}
	made, err := s.queue(ctx, c, out.QueueDescription.QueueARN)
	if err != nil {
		return "", nil, err
	}
	s.interrupt(queueKey(made.queue))
	return made.arn(), made.queue, nil
}

// Recreate deletes a stream, and creates it again with its settings and its original
// shards. Its consumers and queues are deleted. If Recreate fails, the stream may be
// deleted, too.
func (s *Service) Recreate(ctx context.Context, c Caller, name string) error {
	t, stream, err := s.stream(c, &name, nil)
	if err != nil {
		return err
	}
	return s.fromBraid(t, s.atOnce(ctx, t.stored, creating, func(ctx context.Context) error {
		row, err := s.readRow(ctx, stream)
		if err != nil {
			return err
		}
		d := stream.Describe()
		opts := &braid.StreamOptions{
			Shards:         row.Shards,
			MaxRecordBytes: d.MaxRecordBytes,
			Retention:      d.Retention,
			RetentionBytes: d.RetentionBytes,
			Capacity:       d.Capacity,
			Tags:           d.Tags,
		}
		if opts.Shards == 0 {
			opts.Shards = firstShards(d)
		}
		if err := s.deleteQueuesOf(ctx, stream); err != nil {
			return err
		}
		if err := s.db.DeleteStream(ctx, t.stored); err != nil {
			return err
		}
		s.placements.forget(stream)
		fresh, err := s.db.CreateStream(ctx, t.stored, opts)
		if err != nil {
			return err
		}
		if d.EncryptionKey != "" {
			if err := fresh.StartEncryption(ctx, d.EncryptionKey); err != nil {
				return err
			}
		}
		return s.updateRow(ctx, fresh, func(r *streamRow) error {
			row.Created, row.Consumers, row.LastConsumer = r.Created, nil, 0
			*r = row
			return nil
		})
	}))
}

// firstShards returns the number of shards with which a stream began, if its row does not
// have it: the shards before the first that has parents. Expired shards are not visible, so
// the number may be too high for a stream that was resharded long ago.
func firstShards(d braid.StreamDescription) int {
	n := 0
	for i := range d.Shards {
		index := d.Shards[i].ID.Index()
		if len(d.Shards[i].Parents) > 0 {
			return index
		}
		n = index + 1
	}
	return n
}

// Remove deletes all streams of the caller, with their consumers and queues.
func (s *Service) Remove(ctx context.Context, c Caller) error {
	streams, err := s.streamsOf(ctx, c)
	if err != nil {
		return err
	}
	for _, l := range streams {
		if err := s.remove(ctx, l.stream); err != nil {
			return s.fromBraid(l.t, err)
		}
	}
	return nil
}

// RemoveAll deletes the streams of all accounts.
func (s *Service) RemoveAll(ctx context.Context) error {
	for _, stream := range s.db.Streams() {
		if err := s.remove(ctx, stream); err != nil {
			return s.fromBraid(s.named(Caller{s.opts.Account, s.opts.Region}, stream.Name()), err)
		}
	}
	return nil
}

func (s *Service) remove(ctx context.Context, stream *braid.Stream) error {
	err := s.atOnce(ctx, stream.Name(), deleting, func(ctx context.Context) error {
		if err := s.deleteQueuesOf(ctx, stream); err != nil {
			return err
		}
		return s.deleteWithRow(ctx, stream)
	})
	if errors.Is(err, braid.ErrStreamNotFound) {
		return nil // somebody else was quicker
	}
	return err
}

// atOnce makes a change to a stream at once, and discards its pending change of status.
func (s *Service) atOnce(ctx context.Context, stored, status string, change func(context.Context) error) error {
	for {
		busy, err := s.begin(ctx, stored, status, 0, change)
		if busy == "" {
			return err
		}
		s.interrupt(stored)
	}
}
