package layout_test

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/uint128"
)

var update = flag.Bool("update", false, "rewrite the golden bytes; only together with a new format version")

// row is one example of a kind of key and value. decode checks that both mean
// what they were made of.
type row struct {
	name       string
	key, value []byte
	decode     func(t *testing.T, key, value []byte)
}

// recordRow is an example of a record.
func recordRow(name string, k layout.RecordKey, r layout.Record) row {
	payload := layout.EncodePayload(make([]byte, layout.PayloadBytes(r.PartitionKey, r.ExplicitHash != nil, len(r.Data))), r.PartitionKey, r.ExplicitHash, r.Data)
	value := make([]byte, layout.RecordBytes(&r, payload))
	layout.PutRecord(value, k.Bytes(), &r, payload)
	return row{name, k.Bytes(), value, func(t *testing.T, key, value []byte) {
		gotKey, err := layout.DecodeRecordKey(key)
		require.NoError(t, err)
		require.Equal(t, k, gotKey)
		got, err := layout.DecodeRecord(key, value)
		require.NoError(t, err)
		require.Equal(t, r.Ordinal, got.Ordinal)
		require.Equal(t, r.Offset, got.Offset)
		require.Equal(t, r.PartitionKey, string(got.PartitionKey))
		require.Equal(t, r.Data, got.Data)
		require.Equal(t, r.ExplicitHash != nil, got.HasExplicitHash)
		if r.ExplicitHash != nil {
			require.Equal(t, *r.ExplicitHash, got.ExplicitHash)
		}
	}}
}

func sealedRow(name string, key layout.RecordKey, r layout.Record) row {
	dataKey, err := layout.NewDataKey(2, [16]byte{15: 1}, make([]byte, layout.DataKeyBytes))
	if err != nil {
		panic(err)
	}
	payload := layout.EncodePayload(make([]byte, layout.PayloadBytes(r.PartitionKey, r.ExplicitHash != nil, len(r.Data))), r.PartitionKey, r.ExplicitHash, r.Data)
	value := make([]byte, dataKey.RecordBytes(&r, payload))
	dataKey.PutRecord(value, key.Bytes(), &r, payload, new(layout.SealScratch))
	return row{name, key.Bytes(), value, func(t *testing.T, _, value []byte) {
		got, err := layout.DecodeRecord(key.Bytes(), value)
		require.NoError(t, err)
		require.True(t, got.Sealed)
		require.Equal(t, dataKey.Number(), got.DataKey)
		require.Equal(t, r.Size(), got.Size())
		require.Nil(t, got.Data)
		require.NoError(t, dataKey.Open(key.Bytes(), &got, new(layout.SealScratch)))
		require.Equal(t, r.PartitionKey, string(got.PartitionKey))
		require.Equal(t, r.Data, got.Data)
		require.Equal(t, *r.ExplicitHash, got.ExplicitHash)
	}}
}

func leaseRow(name string, key []byte, want layout.LeaseRow) row {
	return row{name, key, want.Encode(key), func(t *testing.T, key, value []byte) {
		app, stream, shard, err := layout.DecodeLeaseKey(key)
		require.NoError(t, err)
		require.Equal(t, key, layout.LeaseKey(app, stream, shard))
		got, err := layout.DecodeLeaseRow(key, value)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}}
}

// rows has an example of everything that is stored.
func rows() []row {
	format := layout.FormatRow{Version: 1, OldestReader: 1}
	clock := layout.ClockRow{Counter: 1_700_000_000_123_456_789, NextStream: 8, Closed: true}
	stream := layout.StreamRow{Name: "orders", Created: 1_700_000_000_000_000_001, NextShard: 5, MaxRecordBytes: 1 << 20}
	settled := layout.StreamRow{
		Name: "payments", Created: 1_700_000_000_000_000_002, NextShard: 300, MaxRecordBytes: 10 << 20,
		Retention: 24 * 3600 * 1e9, RetentionBytes: 1 << 40, Floor: 1_699_999_000_000_000_000,
		Expired: layout.ExpiredShard{Shard: 2, CreatedSeconds: 1_600_000_000, Horizon: 1_600_000_001_000_000_000},
		Mode:    2, WriteRecords: 1000, WriteBytes: 1 << 20, Reads: 5, ReadBytes: 2 << 20, MaxShards: 200,
		KeyID: "main", NextDataKey: 9,
		Tags: []layout.Tag{{Key: "stage", Value: "production"}, {Key: "team", Value: ""}},
	}
	first := layout.ShardRow{
		End: uint128.Uint128{Hi: 1<<63 - 1, Lo: 1<<64 - 1}, CreatedSeconds: 1_700_000_000, ClosedSeconds: 1_700_003_600,
		Created: 1_700_000_000_000_000_002, Closed: 1_700_003_599_000_000_000,
	}
	merged := layout.ShardRow{
		Start: uint128.Uint128{Hi: 1 << 63}, End: uint128.Max,
		Parents: []uint32{2, 3}, CreatedSeconds: 1_700_003_601, Created: 1_700_003_599_000_000_000,
		Horizon: layout.Horizon{Counter: 1_700_003_700_000_000_000, Ordinal: 300, Offset: 70_000},
	}
	epoch := layout.EpochRow{FirstCounter: 1_700_000_000_000_000_002}
	extent := layout.ExtentRow{FirstCounter: 1_700_000_000_000_000_003, FirstOrdinal: 2, FirstOffset: 40, End: layout.Horizon{Counter: 1_700_000_000_000_000_009, Ordinal: 5, Offset: 100}}
	cut := layout.CutRow{Bytes: 5 << 20}
	dataKey := layout.DataKeyRow{KeyID: "main", Created: 1_700_000_000_000_000_004, Wrapped: []byte("wrapped"), Check: layout.DataKeyCheck(make([]byte, 32))}
	hash := uint128.Uint128{Hi: 1, Lo: 2}
	return []row{
		{"format", layout.FormatKey(), format.Encode(), func(t *testing.T, _, value []byte) {
			got, err := layout.DecodeFormatRow(value)
			require.NoError(t, err)
			require.Equal(t, format, got)
		}},
		{"clock", layout.ClockKey(), clock.Encode(), func(t *testing.T, _, value []byte) {
			got, err := layout.DecodeClockRow(value)
			require.NoError(t, err)
			require.Equal(t, clock, got)
		}},
		streamRow("stream", 7, stream),
		streamRow("stream, with all settings", 8, settled),
		shardRow("shard, closed", 7, 0, first),
		shardRow("shard, of two parents, trimmed", 7, 4, merged),
		{"epoch", layout.EpochKey(3), epoch.Encode(3), func(t *testing.T, key, value []byte) {
			number, err := layout.DecodeEpochKey(key)
			require.NoError(t, err)
			require.EqualValues(t, 3, number)
			got, err := layout.DecodeEpochRow(3, value)
			require.NoError(t, err)
			require.Equal(t, epoch, got)
		}},
		{"extent", layout.ExtentKey(7, 4, 3), extent.Encode(7, 4, 3), func(t *testing.T, key, value []byte) {
			stream, shard, epoch, err := layout.DecodeExtentKey(key)
			require.NoError(t, err)
			require.Equal(t, []uint32{7, 4, 3}, []uint32{stream, shard, epoch})
			got, err := layout.DecodeExtentRow(7, 4, 3, value)
			require.NoError(t, err)
			require.Equal(t, extent, got)
		}},
		{"cut", layout.CutKey(3, 7), cut.Encode(3, 7), func(t *testing.T, key, value []byte) {
			epoch, stream, err := layout.DecodeCutKey(key)
			require.NoError(t, err)
			require.Equal(t, []uint32{3, 7}, []uint32{epoch, stream})
			got, err := layout.DecodeCutRow(3, 7, value)
			require.NoError(t, err)
			require.Equal(t, cut, got)
		}},
		{"data key", layout.DataKeyKey(7, 2), dataKey.Encode(7, 2), func(t *testing.T, key, value []byte) {
			stream, number, err := layout.DecodeDataKeyKey(key)
			require.NoError(t, err)
			require.Equal(t, []uint32{7, 2}, []uint32{stream, number})
			got, err := layout.DecodeDataKeyRow(7, 2, value)
			require.NoError(t, err)
			require.Equal(t, dataKey, got)
		}},
		leaseRow("lease", layout.LeaseKey("billing", "orders", "shardId-000000000004"), layout.LeaseRow{
			Stream: 1_700_000_000_000_000_001, Version: 12, Epoch: 3, Owner: "worker-1", NextOwner: "worker-2",
			Checkpoint: layout.LeaseCheckpoint{Start: "TRIM_HORIZON", Number: "49568749374218235080373793662021150003767486140978823170", Sub: 4, Partial: true},
		}),
		leaseRow("lease, done, with a prepared checkpoint", layout.LeaseKey("billing", "orders", "shardId-000000000005"), layout.LeaseRow{
			Stream: 1_700_000_000_000_000_001, Version: 1, Epoch: 1, Paused: true, Prepared: true,
			Checkpoint: layout.LeaseCheckpoint{Start: "TRIM_HORIZON", ShardEnd: true},
			Pending:    layout.LeaseCheckpoint{Start: "LATEST"}, State: []byte("halfway"),
		}),
		leaseRow("lease of an application", layout.LeaseKey("billing", "", ""), layout.LeaseRow{Version: 1, Checkpoint: layout.LeaseCheckpoint{Start: "LATEST"}}),
		sealedRow("record, encrypted", layout.RecordKey{Epoch: 3, Stream: 7, Shard: 4, Counter: 1_700_003_700_000_000_001},
			layout.Record{Ordinal: 301, Offset: 70_015, PartitionKey: "customer-42", Data: []byte("paid"), ExplicitHash: &hash}),
		recordRow("record", layout.RecordKey{Epoch: 3, Stream: 7, Shard: 4, Counter: 1_700_003_700_000_000_000},
			layout.Record{Ordinal: 300, Offset: 70_000, PartitionKey: "customer-42", Data: []byte("paid")}),
		recordRow("record, empty, with a hash key", layout.RecordKey{Epoch: 1, Stream: 1, Counter: 1},
			layout.Record{PartitionKey: "k", Data: []byte{}, ExplicitHash: &hash}),
		{"application", layout.AppKey([]byte("user/ann")), []byte("admin"), func(t *testing.T, key, _ []byte) {
			got, err := layout.DecodeAppKey(key)
			require.NoError(t, err)
			require.Equal(t, "user/ann", string(got))
		}},
	}
}

func streamRow(name string, number uint32, want layout.StreamRow) row {
	return row{name, layout.StreamKey(number), want.Encode(number), func(t *testing.T, key, value []byte) {
		got, err := layout.DecodeStreamKey(key)
		require.NoError(t, err)
		require.Equal(t, number, got)
		row, err := layout.DecodeStreamRow(number, value)
		require.NoError(t, err)
		require.Equal(t, want, row)
	}}
}

func shardRow(name string, stream, shard uint32, want layout.ShardRow) row {
	return row{name, layout.ShardKey(stream, shard), want.Encode(stream, shard), func(t *testing.T, key, value []byte) {
		gotStream, gotShard, err := layout.DecodeShardKey(key)
		require.NoError(t, err)
		require.Equal(t, []uint32{stream, shard}, []uint32{gotStream, gotShard})
		got, err := layout.DecodeShardRow(stream, shard, value)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}}
}

// A database that was written yesterday is read tomorrow: the bytes of every key
// and value are pinned.
func TestGoldenBytes(t *testing.T) {
	var text strings.Builder
	fmt.Fprintf(&text, "format %d, readable from %d on\n", layout.FormatVersion, layout.OldestReader)
	for _, r := range rows() {
		fmt.Fprintf(&text, "\n%s\nkey   %s\nvalue %s\n", r.name, hex.EncodeToString(r.key), hex.EncodeToString(r.value))
	}
	const path = "testdata/rows-1.golden"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o644))
	}
	golden, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(golden), text.String())

	// What is pinned is also what is read.
	var values []string
	for _, line := range strings.Split(string(golden), "\n") {
		if hexadecimal, ok := strings.CutPrefix(line, "value "); ok {
			values = append(values, hexadecimal)
		}
	}
	require.Len(t, values, len(rows()))
	for i, r := range rows() {
		value, err := hex.DecodeString(values[i])
		require.NoError(t, err)
		t.Run(r.name, func(t *testing.T) { r.decode(t, r.key, value) })
	}
}
