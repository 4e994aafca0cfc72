package kinesisapi_test

import (
	"fmt"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// An older copy of the data refuses an iterator from a newer copy, because records may be
// put below the iterator's position. The service has no such case.
func TestRawIteratorOfANewerCopy(t *testing.T) {
	dir, backup := filepath.Join(t.TempDir(), "db"), filepath.Join(t.TempDir(), "backup")
	serve := func(dir string) *rig {
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		server, err := kinesisapi.New(db, nil)
		require.NoError(t, err)
		t.Cleanup(server.Close)
		return &rig{t: t, db: db, server: server, client: server.Client(), url: "http://kinesis/"}
	}
	put := func(r *rig) string {
		return r.does("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`)["SequenceNumber"].(string)
	}
	next := func(r *rig, it string) string {
		return r.doesf("GetRecords", `{"ShardIterator":%q}`, it)["NextShardIterator"].(string)
	}
	newer := serve(dir)
	_, err := newer.db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	put(newer)
	horizon := newer.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
	before := next(newer, horizon)
	require.NoError(t, newer.db.Backup(t.Context(), backup, nil))
	number := put(newer)
	after := next(newer, before)

	older := serve(backup)
	require.Len(t, older.doesf("GetRecords", `{"ShardIterator":%q}`, horizon)["Records"], 1)
	require.Empty(t, older.doesf("GetRecords", `{"ShardIterator":%q}`, before)["Records"])
	older.isError(older.call("GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, after)), "InvalidArgumentException",
		"The place of the ShardIterator in stream s under account 000000000000, "+number+", lies beyond all that was ever given out in shardId-000000000000: it comes from a newer copy of the data.")

	// This does not apply to sequence numbers: the service accepts a number beyond its last.
	at := fmt.Sprintf(`"ShardIteratorType":"AFTER_SEQUENCE_NUMBER","StartingSequenceNumber":%q`, number)
	it := next(older, next(older, older.iterator("s", "0", at)))
	put(older) // at a time after that of the number
	require.Len(t, older.doesf("GetRecords", `{"ShardIterator":%q}`, it)["Records"], 1)
}

// Readers and subscribers can wait at a number beyond the last one, and the position that
// they get to continue from also works.
func TestRawNumbersBeyondTheTip(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		consumer := r.register("s", "one")
		pass(time.Minute)
		hour := new(big.Int).Lsh(big.NewInt(int64(time.Hour)), 80) // on the counter, which is a time
		last := r.does("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`)["SequenceNumber"].(string)
		beyond := plus(last, hour)
		for _, kind := range []string{"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"} {
			it := r.iterator("s", "0", fmt.Sprintf(`"ShardIteratorType":%q,"StartingSequenceNumber":%q`, kind, beyond))
			for range 3 {
				it = r.doesf("GetRecords", `{"ShardIterator":%q}`, it)["NextShardIterator"].(string)
			}
		}
		s := r.subscribe(consumer, "0", fmt.Sprintf(`"Type":"AT_SEQUENCE_NUMBER","SequenceNumber":%q`, beyond))
		goOn := s.event()["ContinuationSequenceNumber"].(string)
		s.body.Close()
		pass(time.Minute)
		s = r.subscribe(consumer, "0", fmt.Sprintf(`"Type":"AFTER_SEQUENCE_NUMBER","SequenceNumber":%q`, goOn))
		require.Equal(t, goOn, s.event()["ContinuationSequenceNumber"], "it has not moved")
		s.body.Close()
	})
}

// A reader that waits just beyond the last number gets the next record, even if it is put a
// moment later.
func TestRawNumberJustBeyondTheTip(t *testing.T) {
	for _, wait := range []time.Duration{0, 1, time.Microsecond, time.Second} {
		rigInBubble(t, nil, func(r *rig) {
			r.create("s", 1)
			put := func() string {
				return r.does("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`)["SequenceNumber"].(string)
			}
			next := plus(put(), new(big.Int).Lsh(big.NewInt(1), 80))
			it := r.iterator("s", "0", fmt.Sprintf(`"ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":%q`, next))
			pass(wait)
			want := []string{put(), put()}
			var got []string
			for _, rec := range objects(r.doesf("GetRecords", `{"ShardIterator":%q}`, it)["Records"]) {
				got = append(got, rec["SequenceNumber"].(string))
			}
			require.Equal(t, want, got)
		})
	}
}
