package main

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.etcd.io/bbolt"

	"github.com/braidstream/braid/queue"
)

// queueHides is how long a received record is hidden. It is the default of braid and of
// JetStream, and longer than any measurement.
const queueHides = 30 * time.Second

// openQueue returns the queue of a stream, with default options.
func (s *braidStore) openQueue() (*queue.Queue, error) {
	return queue.Open(s.ctx, s.db, "bench", &queue.Options{Stream: s.stream.Name(), VisibilityTimeout: queueHides})
}

func (s *braidStore) receiver(int) (receiver, error) {
	q, err := s.openQueue()
	return &braidReceiver{queue: q}, err
}

type braidReceiver struct {
	queue    *queue.Queue
	receipts []queue.Receipt
}

func (r *braidReceiver) receive(ctx context.Context, n int, fn func([]byte)) (int, error) {
	records, err := r.queue.Receive(ctx, n, nil)
	r.receipts = r.receipts[:0]
	for i := range records {
		fn(records[i].Data)
		r.receipts = append(r.receipts, records[i].Receipt)
	}
	return len(records), err
}

func (r *braidReceiver) acknowledge(ctx context.Context) error {
	return r.queue.Ack(ctx, r.receipts...)
}

// receiver returns a pull consumer. All receivers share a durable one with explicit
// acknowledgements and without its default limit of 1,000 unacknowledged messages.
func (s *jetstreamStore) receiver(n int) (receiver, error) {
	js, err := jetstream.New(s.conns[n%len(s.conns)], jetstream.WithDefaultTimeout(jetstreamPatient))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), jetstreamPatient)
	defer cancel()
	c, err := js.CreateOrUpdateConsumer(ctx, jetstreamStream, jetstream.ConsumerConfig{
		Durable:       "queue",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       queueHides,
		MaxAckPending: -1,
	})
	return &jetstreamReceiver{consumer: c}, err
}

type jetstreamReceiver struct {
	consumer jetstream.Consumer
	messages []jetstream.Msg
}

func (r *jetstreamReceiver) receive(ctx context.Context, n int, fn func([]byte)) (int, error) {
	r.messages = r.messages[:0]
	for len(r.messages) == 0 {
		batch, err := r.consumer.Fetch(n, jetstream.FetchContext(ctx))
		if err != nil {
			return 0, err
		}
		for msg := range batch.Messages() {
			fn(msg.Data())
			r.messages = append(r.messages, msg)
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil {
			return 0, err
		}
	}
	return len(r.messages), nil
}

// acknowledge acknowledges each message and waits for the reply to the last one: the
// server takes those of a connection in their order.
func (r *jetstreamReceiver) acknowledge(ctx context.Context) error {
	last := len(r.messages) - 1
	for _, msg := range r.messages[:last] {
		if err := msg.Ack(); err != nil {
			return err
		}
	}
	return r.messages[last].DoubleAck(ctx)
}

// bboltFlight is the bucket of received records. Its keys are the time at which the record is
// visible again, and the number; its values begin with the count of deliveries.
var bboltFlight = []byte("flight")

// bboltReceiver uses the bucket of records as a table of waiting ones.
type bboltReceiver struct {
	db    *bbolt.DB
	hides time.Duration
	held  [][]byte // keys in bboltFlight
}

func (s *bboltStore) receiver(int) (receiver, error) {
	return &bboltReceiver{db: s.db, hides: queueHides}, s.db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bboltFlight)
		return err
	})
}

// receive moves rows in one transaction: first those that are visible again, then new ones. If
// there are none it waits until the context ends: there are no puts meanwhile.
func (r *bboltReceiver) receive(ctx context.Context, n int, fn func([]byte)) (int, error) {
	var values [][]byte
	err := r.db.Update(func(tx *bbolt.Tx) error {
		waiting, flight := tx.Bucket(bboltBucket), tx.Bucket(bboltFlight)
		now := time.Now()
		r.held, values = r.held[:0], values[:0]
		hide := func(number []byte, receives uint16, value []byte) error {
			key := binary.BigEndian.AppendUint64(nil, uint64(now.Add(r.hides).UnixNano()))
			key = append(key, number...)
			row := append(binary.BigEndian.AppendUint16(nil, receives), value...)
			r.held, values = append(r.held, key), append(values, row[2:])
			return flight.Put(key, row)
		}
		// A cursor refers to its page, so rows are copied before a row is deleted.
		for key, row := flight.Cursor().First(); len(values) < n && key != nil; key, row = flight.Cursor().First() {
			if int64(binary.BigEndian.Uint64(key)) > now.UnixNano() {
				break
			}
			number, receives := append([]byte(nil), key[8:]...), binary.BigEndian.Uint16(row)
			value := append([]byte(nil), row[2:]...)
			if err := flight.Delete(key); err != nil {
				return err
			}
			if err := hide(number, min(receives, math.MaxUint16-1)+1, value); err != nil {
				return err
			}
		}
		var taken [][]byte
		cursor := waiting.Cursor()
		for key, value := cursor.First(); len(values) < n && key != nil; key, value = cursor.Next() {
			taken = append(taken, key)
			if err := hide(key, 1, value); err != nil {
				return err
			}
		}
		for _, key := range taken {
			if err := waiting.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(values) == 0 {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	for _, value := range values {
		fn(value)
	}
	return len(values), nil
}

func (r *bboltReceiver) acknowledge(context.Context) error {
	return r.db.Update(func(tx *bbolt.Tx) error {
		flight := tx.Bucket(bboltFlight)
		for _, key := range r.held {
			if err := flight.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}
