package layout_test

import (
	"bytes"
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

// row is an example of a kind of key and value. decode checks that both decode to the values
// that they were made from.
type row struct {
	name       string
	key, value []byte
	decode     func(t *testing.T, key, value []byte)
}

// blockRow returns an example of a block. With a data key, it is encrypted.
func blockRow(name string, k layout.BlockKey, records []layout.Record, dataKey *layout.DataKey) row {
	k.Counter = records[len(records)-1].Counter
	value := make([]byte, layout.BlockBytes(records, dataKey))
	layout.PutBlock(value, k.Bytes(), records, dataKey, new(layout.SealScratch))
	return row{name, k.Bytes(), value, func(t *testing.T, key, value []byte) {
		gotKey, err := layout.DecodeBlockKey(key)
		require.NoError(t, err)
		require.Equal(t, k, gotKey)
		block, err := layout.DecodeBlock(key, value)
		require.NoError(t, err)
		require.Equal(t, dataKey != nil, block.Sealed)
		last := records[len(records)-1]
		require.Equal(t, layout.Horizon{Counter: last.Counter + 1, Ordinal: last.Ordinal + 1, Offset: last.Offset + uint64(last.Size())}, block.End())
		if dataKey != nil {
			require.Equal(t, dataKey.Number(), block.DataKey)
			require.NoError(t, dataKey.Open(key, &block, new(layout.SealScratch)))
		}
		require.Equal(t, records, recordsOf(&block))
	}}
}

// recordsOf returns all records of an unencrypted block.
func recordsOf(block *layout.Block) []layout.Record {
	it := block.Records()
	it.Next()
	keys, data := it.Stretch(block.Count)
	return it.Append(nil, block.Count, string(keys), data)
}

// follow gives records consecutive places after the first one.
func follow(records ...layout.Record) []layout.Record {
	for i := 1; i < len(records); i++ {
		before := &records[i-1]
		records[i].Ordinal, records[i].Offset = before.Ordinal+1, before.Offset+uint64(before.Size())
	}
	return records
}

func newDataKey(number uint32, database [16]byte, secret []byte) *layout.DataKey {
	dataKey, err := layout.NewDataKey(number, database, secret)
	if err != nil {
		panic(err)
	}
	return dataKey
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
	format := layout.FormatRow{Version: 2, OldestReader: 2}
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
	queueID := layout.QueueID{0: 1, 15: 0xff}
	queue := layout.QueueRow{
		Name: "mails", Stream: 7, Created: 1_700_000_000_000_000_005, Start: 1, Started: 1_700_000_000_000_000_001, Secret: [16]byte{15: 9},
		Visibility: 30 * 1e9, MaxReceives: 6, MaxInFlight: 120_000, MaxWaiting: 1_000_000, OrderByKey: true, BlockAtDead: true,
		ExpiredUnreceived: 300, ExpiredReceived: 2, ExpiredDead: 1,
	}
	cursor := layout.CursorRow{Counter: 1_700_000_000_000_000_005, Ordinal: 12}
	hash := uint128.Uint128{Hi: 1, Lo: 2}
	place := layout.BlockKey{Epoch: 3, Stream: 7, Shard: 4}
	sealing := newDataKey(2, [16]byte{15: 1}, make([]byte, layout.DataKeyBytes))
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
		leaseRow("lease, after expired parents", layout.LeaseKey("billing", "orders", "shardId-000000000006"), layout.LeaseRow{
			Stream: 1_700_000_000_000_000_001, Version: 4, Epoch: 2, Owner: "worker-1",
			Checkpoint: layout.LeaseCheckpoint{Start: "TRIM_HORIZON"},
			Gaps: []layout.LeaseGap{
				{Shard: "shardId-000000000001", FirstLost: "49568749374218235080373793662021150003767486140978823170", Accepted: true},
				{Shard: "shardId-000000000002"},
			},
		}),
		leaseRow("lease of an application", layout.LeaseKey("billing", "", ""), layout.LeaseRow{Version: 1, Checkpoint: layout.LeaseCheckpoint{Start: "LATEST"}}),
		{"queue", layout.QueueKey(queueID), queue.Encode(queueID), func(t *testing.T, key, value []byte) {
			id, err := layout.DecodeQueueKey(key)
			require.NoError(t, err)
			require.Equal(t, queueID, id)
			got, err := layout.DecodeQueueRow(id, value)
			require.NoError(t, err)
			require.Equal(t, queue, got)
		}},
		{"cursor of a queue", layout.CursorKey(queueID, 4), cursor.Encode(layout.CursorKey(queueID, 4)), func(t *testing.T, key, value []byte) {
			id, shard, err := layout.DecodeCursorKey(key)
			require.NoError(t, err)
			require.Equal(t, queueID, id)
			require.EqualValues(t, 4, shard)
			got, err := layout.DecodeCursorRow(key, value)
			require.NoError(t, err)
			require.Equal(t, cursor, got)
		}},
		deliveryRow("delivery", layout.DeliveryKey(queueID, 4, 1_700_000_000_000_000_005), layout.DeliveryRow{
			Receives: 2, Generation: 3, Visible: 1_700_000_030_000_000_000, First: 1_700_000_000_000_000_006, Size: 100, Local: true,
		}),
		deliveryRow("delivery, dead, with a reason and a key", layout.DeliveryKey(queueID, 4, 1_700_000_000_000_000_007), layout.DeliveryRow{
			Receives: 6, Generation: 6, Visible: 1_700_000_030_000_000_000, First: 1_700_000_000_000_000_008, Size: 1 << 20,
			KeyHash: 1 << 63, Dead: true, Reason: "no such customer",
		}),
		deliveryRow("delivery, held back", layout.DeliveryKey(queueID, 4, 1_700_000_000_000_000_009), layout.DeliveryRow{Size: 5, KeyHash: 1}),
		deliveryRow("delivery, given back", layout.DeliveryKey(queueID, 4, 1_700_000_000_000_000_010), layout.DeliveryRow{
			Receives: 1, Generation: 1, Visible: 1_700_000_060_000_000_000, First: 1_700_000_000_000_000_011, Size: 5, Waiting: true,
		}),
		blockRow("block of one record", place, follow(layout.Record{Counter: 1_700_003_700_000_000_000, Ordinal: 300, Offset: 70_000, PartitionKey: "customer-42", Data: []byte("paid")}), nil),
		blockRow("block of one record, empty, with a hash key", layout.BlockKey{Epoch: 1, Stream: 1}, follow(layout.Record{Counter: 1, PartitionKey: "k", Data: []byte{}, ExplicitHash: &hash}), nil),
		blockRow("block of three records", place, follow(
			layout.Record{Counter: 1_700_003_700_000_000_000, Ordinal: 300, Offset: 70_000, PartitionKey: "customer-42", Data: []byte("paid")},
			layout.Record{Counter: 1_700_003_700_000_000_001, PartitionKey: "customer-43", Data: []byte{}, ExplicitHash: &hash},
			layout.Record{Counter: 1_700_003_700_000_000_200, PartitionKey: "customer-42", Data: bytes.Repeat([]byte("sent"), 50)}), nil),
		blockRow("block of one record, encrypted", place, follow(layout.Record{Counter: 1_700_003_700_000_000_001, Ordinal: 301, Offset: 70_015, PartitionKey: "customer-42", Data: []byte("paid"), ExplicitHash: &hash, Sealed: true}), sealing),
		blockRow("block of two records, encrypted", place, follow(
			layout.Record{Counter: 1_700_003_700_000_000_300, Ordinal: 302, Offset: 70_030, PartitionKey: "customer-42", Data: []byte("paid"), Sealed: true},
			layout.Record{Counter: 1_700_003_700_000_000_301, PartitionKey: "customer-43", Data: []byte("sent"), Sealed: true}), sealing),
		{"block of 12 records, lost", place.Bytes(), layout.PutLostBlock(place.Bytes(), 300, 12, true), func(t *testing.T, key, value []byte) {
			_, err := layout.DecodeBlock(key, value)
			require.ErrorIs(t, err, layout.ErrCorrupt)
			require.Equal(t, &layout.LostBlockError{Ordinal: 300, Count: 12, Exact: true}, err)
			value[1] ^= 1
			_, err = layout.DecodeBlock(key, value)
			value[1] ^= 1
			require.ErrorIs(t, err, layout.ErrCorrupt)
			require.NotErrorAs(t, err, new(*layout.LostBlockError))
		}},
		{"block of records, lost, of an unknown number", place.Bytes(), layout.PutLostBlock(place.Bytes(), 300, 1, false), func(t *testing.T, key, value []byte) {
			_, err := layout.DecodeBlock(key, value)
			require.Equal(t, &layout.LostBlockError{Ordinal: 300, Count: 1}, err)
		}},
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

func deliveryRow(name string, key []byte, want layout.DeliveryRow) row {
	return row{name, key, want.Encode(key), func(t *testing.T, key, value []byte) {
		id, shard, counter, err := layout.DecodeDeliveryKey(key)
		require.NoError(t, err)
		require.Equal(t, key, layout.DeliveryKey(id, shard, counter))
		got, err := layout.DecodeDeliveryRow(key, value)
		require.NoError(t, err)
		require.Equal(t, want, got)
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

// Later versions must read the databases of this one, so the bytes of every key and value are
// pinned.
func TestGoldenBytes(t *testing.T) {
	var text strings.Builder
	fmt.Fprintf(&text, "format %d, readable from %d on\n", layout.FormatVersion, layout.OldestReader)
	for _, r := range rows() {
		fmt.Fprintf(&text, "\n%s\nkey   %s\nvalue %s\n", r.name, hex.EncodeToString(r.key), hex.EncodeToString(r.value))
	}
	const path = "testdata/rows-3.golden"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o644))
	}
	golden, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(golden), text.String())

	// The pinned bytes can be read.
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
