package sdktest_test

import (
	"context"
	"fmt"
	"log"

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

// With accounts apart, the access key says whose streams a request is about.
func Example_separateAccounts() {
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
