// Package kinesisapi lets code that was written for Amazon Kinesis run against a braid
// database. A [Server] answers the operations of Kinesis Data Streams from the database's
// streams, in JSON or CBOR. The AWS SDKs, the Kinesis Client Library and the AWS CLI need
// no change but the endpoint:
//
//	server, err := kinesisapi.New(db, nil)
//	defer server.Close()
//	err = http.ListenAndServe("localhost:4567", server)
//
// In the same process no port is needed: [Server.Client] is an HTTP client that calls the
// server directly:
//
//	client := kinesis.New(kinesis.Options{
//		Region:      "us-east-1",
//		Credentials: credentials.NewStaticCredentialsProvider("any", "any", ""),
//		HTTPClient:  server.Client(),
//	})
//
// The service and package braid share the streams: a stream that one creates, the other can
// read and write.
//
// For tests, see package kinesistest, a separate module. For programs in other languages,
// see the command braid-kinesis.
package kinesisapi
