package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// jetstreamStore is a NATS server inside the process: connections are pipes in memory, without
// a port. A shard is a subject.
type jetstreamStore struct {
	server *server.Server
	shards int
	apart  bool
	queue  bool // the stream is a work queue
	conns  []*nats.Conn
}

const (
	jetstreamStream  = "bench"
	jetstreamPatient = 30 * time.Second

	// The number of messages that are requested, and acknowledged, at once: ten times the
	// default. With 500 the difference was within the spread.
	jetstreamPull = 5000

	// Beyond this number producers share connections. More connections were no faster.
	jetstreamConns = 16
)

func openJetStream(dir string, s settings) (store, error) {
	if s.disk.simulated() {
		return nil, noDisk()
	}
	srv, err := server.NewServer(&server.Options{
		DontListen: true,
		NoLog:      true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   dir,
		SyncAlways: s.durable, // else it syncs every two minutes, the default
	})
	if err != nil {
		return nil, err
	}
	srv.Start()
	js := &jetstreamStore{server: srv, shards: s.shards, apart: s.apart, queue: s.queue}
	if err := js.start(); err != nil {
		return nil, errors.Join(err, js.close())
	}
	return js, nil
}

func (s *jetstreamStore) start() error {
	if !s.server.ReadyForConnections(jetstreamPatient) {
		return errors.New("server accepts no connections")
	}
	for range jetstreamConns {
		conn, err := nats.Connect("", nats.InProcessServer(s.server), nats.MaxReconnects(0))
		if err != nil {
			return err
		}
		s.conns = append(s.conns, conn)
	}
	js, err := jetstream.New(s.conns[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), jetstreamPatient)
	defer cancel()
	retention := jetstream.LimitsPolicy
	if s.queue {
		retention = jetstream.WorkQueuePolicy
	}
	_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:               jetstreamStream,
		Subjects:           []string{"bench.*"},
		Retention:          retention,
		Storage:            jetstream.FileStorage,
		AllowAtomicPublish: true,
	})
	return err
}

func (s *jetstreamStore) close() error {
	for _, conn := range s.conns {
		conn.Close()
	}
	s.server.Shutdown()
	s.server.WaitForShutdown()
	return nil
}

func jetstreamSubject(shard int) string { return "bench." + strconv.Itoa(shard) }

func (s *jetstreamStore) producer(n int) (producer, error) {
	conn := s.conns[n%len(s.conns)]
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(jetstreamPatient))
	if err != nil {
		return nil, err
	}
	p := &jetstreamProducer{conn: conn, js: js, apart: s.apart, next: n, name: fmt.Sprintf("p%d", n)}
	for shard := range s.shards {
		p.subjects = append(p.subjects, jetstreamSubject(shard))
	}
	return p, nil
}

type jetstreamProducer struct {
	conn     *nats.Conn
	js       jetstream.JetStream
	apart    bool
	subjects []string
	next     int
	name     string
	batches  int
}

func (p *jetstreamProducer) subject() string {
	p.next++
	return p.subjects[p.next%len(p.subjects)]
}

func (p *jetstreamProducer) put(value []byte) error {
	_, err := p.js.Publish(context.Background(), p.subject(), value)
	return err
}

// putBatch puts an atomic batch: all messages carry its name and their index, the last one
// commits it and is acknowledged.
func (p *jetstreamProducer) putBatch(values [][]byte) error {
	if p.apart {
		return p.putApart(values)
	}
	p.batches++
	id := p.name + "-" + strconv.Itoa(p.batches)
	for i, v := range values {
		msg := nats.NewMsg(p.subject())
		msg.Data = v
		msg.Header.Set("Nats-Batch-Id", id)
		msg.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < len(values)-1 {
			if err := p.conn.PublishMsg(msg); err != nil {
				return err
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		reply, err := p.conn.RequestMsg(msg, jetstreamPatient)
		if err != nil {
			return err
		}
		return checkBatchReply(reply.Data, len(values))
	}
	return nil
}

// putApart publishes all values, and then waits for all acknowledgements.
func (p *jetstreamProducer) putApart(values [][]byte) error {
	acks := make([]jetstream.PubAckFuture, len(values))
	deadline := time.NewTimer(jetstreamPatient)
	defer deadline.Stop()
	for i, v := range values {
		var err error
		if acks[i], err = p.js.PublishAsync(p.subject(), v); err != nil {
			return err
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-deadline.C:
			return errors.New("message not acknowledged in time")
		}
	}
	return nil
}

// checkBatchReply checks that the server accepted the batch as one.
func checkBatchReply(data []byte, size int) error {
	var reply struct {
		Count int `json:"count"`
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &reply); err != nil {
		return err
	}
	if reply.Error != nil {
		return errors.New(reply.Error.Description)
	}
	if reply.Count != size {
		return fmt.Errorf("server stored %d messages of a batch of %d", reply.Count, size)
	}
	return nil
}

// follow is a push consumer, kept in order by the client, without
// acknowledgements.
func (s *jetstreamStore) follow(shard int, fn func([]byte)) error {
	js, err := s.conns[shard%len(s.conns)].JetStream(nats.MaxWait(jetstreamPatient))
	if err != nil {
		return err
	}
	sub, err := js.Subscribe(jetstreamSubject(shard), func(msg *nats.Msg) { fn(msg.Data) },
		nats.BindStream(jetstreamStream), nats.OrderedConsumer(), nats.DeliverNew())
	if err != nil {
		return err
	}
	return sub.SetPendingLimits(-1, -1)
}

// consume is a durable pull consumer of all subjects, with a connection of its own. Its limit
// of unacknowledged messages is raised: with the default of 1,000 it would wait.
func (s *jetstreamStore) consume(each bool, reader func() func([]byte)) error {
	js, err := jetstream.New(s.conns[len(s.conns)-1], jetstream.WithDefaultTimeout(jetstreamPatient))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), jetstreamPatient)
	defer cancel()
	c, err := js.CreateOrUpdateConsumer(ctx, jetstreamStream, jetstream.ConsumerConfig{
		Durable:       "bench",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckAllPolicy,
		MaxAckPending: -1,
	})
	if err != nil {
		return err
	}
	fn, got := reader(), 0
	_, err = c.Consume(func(msg jetstream.Msg) {
		fn(msg.Data())
		if got++; each || got%jetstreamPull == 0 {
			_ = msg.Ack() // it fails only after close
		}
	}, jetstream.PullMaxMessages(jetstreamPull))
	return err
}
