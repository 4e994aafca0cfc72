// Grow is a program that runs on a local directory or on Amazon Kinesis. It reads orders, puts
// them to a stream, and a worker writes an invoice for each. Begin on one machine:
//
//	go run ./examples/grow -dir data < orders.txt
//
// When that is not enough, start as many processes as you need with
//
//	go run ./examples/grow -region eu-central-1 < orders.txt
//
// A line of the input is an order: its ID, the customer, and the amount, separated by spaces. On
// AWS, the stream "orders" must exist, and a DynamoDB table "invoices" whose key is "id". The
// worker creates its own table for leases and checkpoints.
//
// Only openDirectory and openKinesis differ.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
)

func main() {
	dir := flag.String("dir", "", "the directory of a database, which is made if it is not there")
	region := flag.String("region", "", "the AWS region to work in, in place of a directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	var p *platform
	var err error
	switch {
	case (*dir == "") == (*region == ""):
		err = errors.New("either -dir or -region must be given")
	case *dir != "":
		p, err = openDirectory(ctx, *dir)
	default:
		p, err = openKinesis(ctx,
			kinesis.New(kinesis.Options{Region: *region, Credentials: environment}),
			dynamodb.New(dynamodb.Options{Region: *region, Credentials: environment}))
	}
	if err == nil {
		err = errors.Join(run(ctx, p, os.Stdin, os.Stdout), p.close())
	}
	if err != nil {
		log.Fatal(err)
	}
}

// environment has the credentials of the process. With the SDK's package config, use
// config.LoadDefaultConfig instead, which also finds them elsewhere.
var environment = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
	return aws.Credentials{
		AccessKeyID:     os.Getenv("AWS_ACCESS_KEY_ID"),
		SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken:    os.Getenv("AWS_SESSION_TOKEN"),
	}, nil
})

// platform is the program's environment.
type platform struct {
	orders interface {
		PutRecordWait(ctx context.Context, partitionKey string, data []byte) (braid.PutResult, error)
	}

	// The records that a worker reads, and its leases. Either db is set, or the others.
	db     *braid.DB
	source consumer.Source
	leases consumer.LeaseStore

	// save stores an invoice under the ID of its order. Storing it again changes nothing.
	save func(ctx context.Context, id, invoice string) error

	close func() error
}

// openDirectory keeps everything in one database.
func openDirectory(ctx context.Context, dir string) (*platform, error) {
	db, err := braid.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	orders, err := db.OpenStream(ctx, "orders", nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	save := func(ctx context.Context, id, invoice string) error {
		return db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("invoice/"+id), []byte(invoice)) })
	}
	return &platform{orders: orders, db: db, save: save, close: db.Close}, nil
}

// openKinesis keeps the orders in Kinesis, and leases, checkpoints and invoices in DynamoDB, for
// any number of processes on any number of machines.
func openKinesis(ctx context.Context, streams *kinesis.Client, tables *dynamodb.Client) (*platform, error) {
	source, err := awskinesis.NewSource(streams, nil)
	if err != nil {
		return nil, err
	}
	leases, err := awskinesis.NewLeaseStore(ctx, tables, "invoicing", &awskinesis.LeaseStoreOptions{Stream: "orders"})
	if err != nil {
		return nil, err
	}
	orders, err := awskinesis.NewProducer(ctx, streams, "orders", nil)
	if err != nil {
		return nil, err
	}
	save := func(ctx context.Context, id, invoice string) error {
		_, err := tables.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String("invoices"), Item: map[string]types.AttributeValue{
			"id":      &types.AttributeValueMemberS{Value: id},
			"invoice": &types.AttributeValueMemberS{Value: invoice},
		}})
		return err
	}
	end := func() error { return orders.Close(context.WithoutCancel(ctx)) }
	return &platform{orders: orders, source: source, leases: leases, save: save, close: end}, nil
}

// run puts the orders, and returns when all of them have an invoice.
func run(ctx context.Context, p *platform, in io.Reader, out io.Writer) error {
	w, err := consumer.New(p.db, &consumer.Config{
		App:     "invoicing",
		Streams: []string{"orders"},
		Source:  p.source,
		Leases:  p.leases,
	}, consumer.ProcessorFunc(p.invoice))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := w.Run(ctx)
		cancel(err) // without a worker nobody writes invoices
		ended <- err
	}()
	n, err := p.take(ctx, in)
	if err == nil {
		err = w.App().WaitCaughtUp(ctx)
	}
	if err == nil {
		fmt.Fprintf(out, "%d orders were put, and all have an invoice\n", n)
	}
	cancel(nil)
	if err := <-ended; err != nil {
		return err
	}
	return err
}

// take puts an order for each line. A customer's orders stay in order.
func (p *platform) take(ctx context.Context, in io.Reader) (n int, err error) {
	for lines := bufio.NewScanner(in); ; n++ {
		if !lines.Scan() {
			return n, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return n, fmt.Errorf("an order is an id, a customer and an amount: %.100q", lines.Text())
		}
		if _, err := p.orders.PutRecordWait(ctx, fields[1], lines.Bytes()); err != nil {
			return n, err
		}
	}
}

// invoice writes an invoice for each order. A batch is delivered again after a failure or a crash,
// and if an answer of Kinesis was lost, an order may be stored there twice. Neither makes a second
// invoice, since its ID is that of the order.
func (p *platform) invoice(ctx context.Context, batch *consumer.Batch) error {
	for _, r := range batch.Records {
		fields := strings.Fields(string(r.Data))
		if err := p.save(ctx, fields[0], fields[1]+" pays "+fields[2]); err != nil {
			return err
		}
	}
	return nil
}
