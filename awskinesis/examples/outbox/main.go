// Outbox shows a transactional outbox in front of Kinesis. A shop accepts orders: the order and
// the event about it are one commit, in a database beside the program. A forwarder puts the
// events to Kinesis when the link is up, even after the program was stopped or has crashed.
//
//	go run ./examples/outbox
//
// Here Kinesis is a server in this process, behind a link that the program cuts. For AWS, make
// the client with kinesis.NewFromConfig(cfg); nothing else changes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/kinesisapi"
)

const orders = 300

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run is the whole demonstration: the shop runs twice, and the first run never reaches Kinesis.
func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "braid-outbox-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	far, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		return err
	}
	defer far.Close() // it is only in memory
	events, err := far.CreateStream(ctx, "order-events", &braid.StreamOptions{Shards: 2})
	if err != nil {
		return err
	}
	service, err := kinesisapi.New(far, nil)
	if err != nil {
		return err
	}
	defer service.Close()
	link := &link{to: service.Client()}
	client := kinesis.New(kinesis.Options{Region: "us-east-1", Credentials: anybody, HTTPClient: link})

	// The first run: the link is down all the time, and orders are accepted.
	if err := live(ctx, dir, client, func(ctx context.Context, s *shop) error {
		link.cut.Store(true)
		for n := range orders / 2 {
			if err := s.accept(ctx, n); err != nil {
				return err
			}
		}
		waiting, err := s.waiting(ctx)
		fmt.Fprintf(out, "The link is down. The shop has accepted %d orders, and %d events wait.\n", orders/2, waiting)
		return err
	}); err != nil {
		return err
	}
	fmt.Fprintf(out, "The program has ended. Kinesis has %d events.\n", events.Describe().Records)

	// The second run continues where the first one stopped, and so does the link.
	if err := live(ctx, dir, client, func(ctx context.Context, s *shop) error {
		link.cut.Store(false)
		for n := orders / 2; n < orders; n++ {
			if err := s.accept(ctx, n); err != nil {
				return err
			}
		}
		return s.forwarder.App().WaitCaughtUp(ctx)
	}); err != nil {
		return err
	}
	return check(ctx, out, events)
}

var anybody = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any"}, nil
})

// link is an HTTP client that can be cut off.
type link struct {
	to  kinesis.HTTPClient
	cut atomic.Bool
}

func (l *link) Do(r *http.Request) (*http.Response, error) {
	if l.cut.Load() && r.Header.Get("X-Amz-Target") == "Kinesis_20131202.PutRecords" {
		return nil, errors.New("the link is down")
	}
	return l.to.Do(r)
}

// shop accepts orders.
type shop struct {
	db        *braid.DB
	forwarder *awskinesis.Forwarder
}

// live is the main function of such a program, with work in the middle.
func live(ctx context.Context, dir string, client awskinesis.KinesisClient, work func(context.Context, *shop) error) (err error) {
	db, err := braid.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.OpenStream(ctx, "outbox", nil); err != nil {
		return err
	}
	producer, err := awskinesis.NewProducer(ctx, client, "order-events", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, producer.Close(ctx)) }()
	forwarder, err := awskinesis.NewForwarder(db, "outbox", producer, &awskinesis.ForwarderOptions{
		MaxBytes: 1 << 30, // how far the shop may be ahead of Kinesis
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.Run(ctx) }()
	err = work(ctx, &shop{db, forwarder})

	// Requests in flight get no time here; a service would give them some.
	now, cancel := context.WithCancel(ctx)
	cancel()
	_ = forwarder.Stop(now) // Run returns the same error
	return errors.Join(err, <-ended)
}

// accept stores the order and the event about it, both or neither.
func (s *shop) accept(ctx context.Context, n int) error {
	customer, event := fmt.Sprint("customer-", n%7), fmt.Append(nil, "order ", n)
	if err := s.forwarder.Admit(ctx, len(customer)+len(event)); err != nil {
		return err // the shop is closed
	}
	return s.db.Update(ctx, func(tx *braid.Tx) error {
		if err := tx.Set(fmt.Append(nil, "order/", n), []byte(customer)); err != nil {
			return err
		}
		return tx.PutRecord("outbox", customer, event)
	})
}

// waiting returns how many events Kinesis has not stored.
func (s *shop) waiting(ctx context.Context) (int64, error) {
	stream, err := s.db.Stream("outbox")
	if err != nil {
		return 0, err
	}
	return stream.Describe().Records, nil // none was ever forwarded
}

// check compares the records in Kinesis: all events, those of each customer in order.
func check(ctx context.Context, out io.Writer, events *braid.Stream) error {
	next := make(map[string]int)
	for rec, err := range events.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			return err
		}
		n := next[rec.PartitionKey]
		customer := 0
		if _, err := fmt.Sscanf(rec.PartitionKey, "customer-%d", &customer); err != nil {
			return err
		}
		if want := fmt.Sprint("order ", customer+7*n); string(rec.Data) != want {
			return fmt.Errorf("%s has the event %q after %d others; it should be %q", rec.PartitionKey, rec.Data, n, want)
		}
		next[rec.PartitionKey]++
	}
	total := 0
	for _, n := range next {
		total += n
	}
	if total != orders {
		return fmt.Errorf("%d events came to Kinesis; it should be %d", total, orders)
	}
	fmt.Fprintf(out, "The link is up. Kinesis has the events of all %d orders, each once, and each customer's in order.\n", orders)
	return nil
}
