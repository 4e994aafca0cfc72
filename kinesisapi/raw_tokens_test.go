package kinesisapi_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

// An iterator is valid for 300 seconds, any number of times.
func TestRawIteratorExpires(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		it := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
		issued := time.Now().UTC()
		pass(5*time.Minute - time.Millisecond)
		r.doesf("GetRecords", `{"ShardIterator":%q}`, it)
		r.doesf("GetRecords", `{"ShardIterator":%q}`, it)
		pass(time.Millisecond)
		const clock = "Mon Jan 02 15:04:05 UTC 2006"
		r.refuses(refusal{
			"ExpiredIteratorException",
			fmt.Sprintf("Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the tolerated delay of 300000 milliseconds.",
				issued.Format(clock), time.Now().UTC().Format(clock)),
			"GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, it),
		})
	})
}

// No two calls return the same iterator, even if nothing has changed, and the content of an
// iterator is unreadable.
func TestRawIteratorIsOpaque(t *testing.T) {
	name := strings.Repeat("n", 128)
	options := &kinesisapi.Options{SeparateAccounts: true, Region: strings.Repeat("r", 32)}
	rigInBubble(t, options, func(r *rig) {
		r.create(name, 1)
		put := r.doesf("PutRecord", `{"StreamName":%q,"PartitionKey":"a","Data":""}`, name)
		seen := make(map[string]bool)
		for _, kind := range []string{
			`"ShardIteratorType":"TRIM_HORIZON"`, `"ShardIteratorType":"LATEST"`, `"ShardIteratorType":"AT_TIMESTAMP","Timestamp":0`,
			fmt.Sprintf(`"ShardIteratorType":"AFTER_SEQUENCE_NUMBER","StartingSequenceNumber":%q`, put["SequenceNumber"]),
		} {
			for range 2 {
				it := r.iterator(name, "0", kind)
				next := r.doesf("GetRecords", `{"ShardIterator":%q}`, it)["NextShardIterator"].(string)
				for _, it := range []string{it, next} {
					require.LessOrEqual(t, len(it), 512)
					require.False(t, seen[it])
					seen[it] = true
					raw, err := base64.StdEncoding.DecodeString(it)
					require.NoError(t, err)
					require.Equal(t, "\x00\x00\x00\x00\x00\x00\x00\x01", string(raw[:8]))
					require.Zero(t, (len(raw)-8)%16)
					require.NotContains(t, string(raw), "nnn")
				}
			}
		}
	})
}

// An iterator belongs to one stream, not to its name. AWS was seen to fail in this case; this
// server answers that the shard does not exist.
func TestRawIteratorOfAnotherStream(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 2)
		it := r.iterator("s", "1", `"ShardIteratorType":"LATEST"`)
		gone := refusal{notFound, "Shard shardId-000000000001" + in + " does not exist", "GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, it)}
		r.does("DeleteStream", `{"StreamName":"s"}`)
		r.refuses(gone)
		r.create("s", 1)
		r.refuses(gone)
		r.does("DeleteStream", `{"StreamName":"s"}`)
		r.create("s", 2)
		r.refuses(gone)

		r.create("x", 1)
		it = r.iterator("s", "1", `"ShardIteratorType":"LATEST"`)
		r.doesf("GetRecords", `{"ShardIterator":%q,"StreamARN":"%ss"}`, it, streamARN)
		a := r.call("GetRecords", fmt.Sprintf(`{"ShardIterator":%q,"StreamARN":"%sx"}`, it, streamARN))
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, invalid)
	})
}

func TestRawIteratorInQuotes(t *testing.T) {
	r := newRig(t, nil)
	r.create("s", 1)
	it := r.iterator("s", "0", `"ShardIteratorType":"LATEST"`)
	r.doesf("GetRecords", `{"ShardIterator":"\"%s\""}`, it)
	for _, text := range []string{`\"` + it, it + `\"`, `\"\"` + it + `\"\"`, `'` + it + `'`, it + " ", it + `\n`, "AAAAAAAAAAE=", `\"\"`, `\"`, "x"} {
		r.refuses(refusal{invalid, "Invalid ShardIterator.", "GetRecords", `{"ShardIterator":"` + text + `"}`})
	}
	// A token of one kind is invalid as another.
	next := r.does("ListStreams", `{"Limit":1}`)
	require.NotContains(t, next, "NextToken")
	for _, op := range []string{`ListStreams`, `ListShards`, `ListChannels`} {
		a := r.call(op, `{"NextToken":"`+it+`"}`)
		if op != "ListChannels" {
			require.Equal(t, 400, a.status, op)
			require.Contains(t, a.body, invalid)
		}
	}
	r.create("t", 1)
	next = r.does("ListStreams", `{"Limit":1}`)
	r.refuses(refusal{invalid, "Invalid ShardIterator.", "GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, next["NextToken"])})
}
