package kinesisapi_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// A program that talks to Kinesis talks to a database in its own process.
func Example() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil) // or a directory, such as "data"
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	server, err := kinesisapi.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	client := kinesis.New(kinesis.Options{
		Region:      "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("any", "any", ""),
		HTTPClient:  server.Client(),
	})
	name := aws.String("orders")
	if _, err := client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(1)}); err != nil {
		log.Fatal(err)
	}
	put, err := client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("customer-42"), Data: []byte("shipped")})
	if err != nil {
		log.Fatal(err)
	}
	it, err := client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
		StreamName: name, ShardId: put.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	if err != nil {
		log.Fatal(err)
	}
	got, err := client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range got.Records {
		fmt.Printf("%s: %s\n", *r.PartitionKey, r.Data)
	}
	// Output: customer-42: shipped
}

// Programs in any language reach a server over HTTP.
func ExampleServer() {
	db, err := braid.Open("data", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	api, err := kinesisapi.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}

	server := &http.Server{Addr: "localhost:4567", Handler: api, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // SubscribeToShard of some SDKs asks for it
	server.RegisterOnShutdown(api.Close)       // subscriptions would keep it waiting
	log.Fatal(server.ListenAndServe())
}

// One HTTP server serves a plain port and one with TLS, on which clients speak HTTP/2
// with ALPN or without it.
func ExampleTLSListener() {
	db, err := braid.Open("data", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	api, err := kinesisapi.New(db, nil)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := tls.LoadX509KeyPair("cert.pem", "key.pem")
	if err != nil {
		log.Fatal(err)
	}
	plain, err := net.Listen("tcp", "localhost:4567")
	if err != nil {
		log.Fatal(err)
	}
	secure, err := net.Listen("tcp", "localhost:4568")
	if err != nil {
		log.Fatal(err)
	}

	server := &http.Server{Handler: api, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // on the TLS port, too
	server.RegisterOnShutdown(api.Close)
	go server.Serve(&kinesisapi.TLSListener{
		Listener: secure,
		Config:   &tls.Config{Certificates: []tls.Certificate{certificate}},
	})
	log.Fatal(server.Serve(plain))
}

// Without limits a stream takes what the machine can; with them it takes what
// Kinesis would.
func ExampleOptions_exactLimits() {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	server, err := kinesisapi.New(db, &kinesisapi.Options{
		ExactLimits: true,
		CreateDelay: 10 * time.Second,
		UpdateDelay: 10 * time.Second,
		DeleteDelay: 10 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	fmt.Println(server != nil)
	// Output: true
}

// With accounts apart, the access key says whose streams a request is about.
func ExampleOptions_separateAccounts() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	server, err := kinesisapi.New(db, &kinesisapi.Options{SeparateAccounts: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	as := func(account, region string) *kinesis.Client {
		return kinesis.New(kinesis.Options{
			Region:      region,
			Credentials: credentials.NewStaticCredentialsProvider(account, "any", ""),
			HTTPClient:  server.Client(),
		})
	}
	for _, client := range []*kinesis.Client{as("111111111111", "us-east-1"), as("222222222222", "eu-west-1")} {
		if _, err := client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("orders")}); err != nil {
			log.Fatal(err)
		}
		list, err := client.ListStreams(ctx, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(*list.StreamSummaries[0].StreamARN)
	}
	// Output:
	// arn:aws:kinesis:us-east-1:111111111111:stream/orders
	// arn:aws:kinesis:eu-west-1:222222222222:stream/orders
}
