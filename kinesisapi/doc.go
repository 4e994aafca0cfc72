// Package kinesisapi lets code that was written for Amazon Kinesis run against a
// braid database. A [Server] answers the operations of Kinesis Data Streams from
// the database's streams, as JSON or CBOR, to the SDKs of AWS, the Kinesis Client
// Library and the AWS CLI, which need no change but the endpoint:
//
//	server, err := kinesisapi.New(db, nil)
//	defer server.Close()
//	err = http.ListenAndServe("localhost:4567", server)
//
// In the same process no port is needed. [Server.Client] is an HTTP client that
// calls the server itself:
//
//	client := kinesis.New(kinesis.Options{
//		Region:      "us-east-1",
//		Credentials: credentials.NewStaticCredentialsProvider("any", "any", ""),
//		HTTPClient:  server.Client(),
//	})
//
// A stream that an application made with package braid is a stream of the service,
// and the other way round: what one puts the other reads.
//
// For tests there is package kinesistest, in a module of its own, and for programs
// that are not written in Go command braid-kinesis.
package kinesisapi
