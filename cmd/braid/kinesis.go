package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/braidstream/braid"
)

// kinesisAPI is the part of Amazon Kinesis that a replay calls.
type kinesisAPI interface {
	PutRecords(ctx context.Context, in *kinesis.PutRecordsInput, options ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error)
}

// newKinesis returns a client with the configuration of the environment.
func newKinesis(ctx context.Context, endpoint, region string) (kinesisAPI, error) {
	var options []func(*config.LoadOptions) error
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("configuration of AWS: %w", err)
	}
	if c.Region == "" {
		return nil, usagef("the region of Kinesis is missing: give --region, or set AWS_REGION")
	}
	return kinesis.NewFromConfig(c, func(o *kinesis.Options) {
		if endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	}), nil
}

// The limits of a call of PutRecords: 500 records, and, in all accounts, 5 MiB.
const (
	kinesisRecords = 500
	kinesisBytes   = 4 << 20
)

// Refused records are put again after a pause, which doubles from the first to the
// longest one. The replay fails when that many attempts in a row have stored no record.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	attempts     = 20
)

// kinesisSink puts to a stream of Kinesis.
type kinesisSink struct {
	api    kinesisAPI
	stream string
}

// put puts entries, and retries refused ones until all are stored.
func (k *kinesisSink) put(ctx context.Context, entries []braid.Entry) error {
	var left []types.PutRecordsRequestEntry
	for _, entry := range entries {
		e := types.PutRecordsRequestEntry{PartitionKey: aws.String(entry.PartitionKey), Data: entry.Data}
		if e.Data == nil {
			e.Data = []byte{}
		}
		if entry.ExplicitHashKey != nil {
			e.ExplicitHashKey = aws.String(entry.ExplicitHashKey.String())
		}
		left = append(left, e)
	}
	pause := firstPause
	for attempt := 1; ; attempt++ {
		out, err := k.api.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: &k.stream, Records: left})
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return kinesisError(k.stream, err)
		}
		if len(out.Records) != len(left) {
			return fmt.Errorf("stream %s of Kinesis: %d results for %d records", k.stream, len(out.Records), len(left))
		}
		var refused []types.PutRecordsRequestEntry
		var code, why string
		for i, result := range out.Records {
			if result.ErrorCode != nil {
				refused = append(refused, left[i])
				code, why = *result.ErrorCode, aws.ToString(result.ErrorMessage)
			}
		}
		switch {
		case len(refused) == 0:
			return nil
		case len(refused) < len(left):
			attempt, pause = 0, firstPause
		case attempt == attempts:
			return fmt.Errorf("stream %s of Kinesis refused the records %d times: %s: %s", k.stream, attempts, code, why)
		}
		left = refused
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, longestPause)
	}
}

// kinesisError adds the name of the stream to an error.
func kinesisError(stream string, err error) error {
	err = fmt.Errorf("stream %s of Kinesis: %w", stream, err)
	var notFound *types.ResourceNotFoundException
	if errors.As(err, &notFound) {
		return &codedError{err, exitNotFound}
	}
	return err
}
