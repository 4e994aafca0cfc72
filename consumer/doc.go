// Package consumer processes the records of braid's streams: what the Kinesis
// Client Library is to Kinesis.
package consumer
