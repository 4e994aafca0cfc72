package layout

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// The columns, by the first byte of a key. A column's number never changes.
// Room is left between the groups: rows about streams, records, application.
const (
	columnMeta     = 0x01 // name -> one row about the database
	columnStream   = 0x02 // stream -> StreamRow
	columnShard    = 0x03 // stream, shard -> ShardRow
	columnEpoch    = 0x04 // epoch -> EpochRow
	columnExtent   = 0x05 // stream, shard, epoch -> ExtentRow
	columnCut      = 0x06 // epoch, stream -> CutRow: records to be removed
	columnKey      = 0x07 // stream, number -> DataKeyRow
	columnLease    = 0x08 // consumer application, stream, shard -> LeaseRow
	columnQueue    = 0x09 // queue -> QueueRow
	columnCursor   = 0x0a // queue, shard -> CursorRow
	columnDelivery = 0x0b // queue, shard, counter -> DeliveryRow
	columnRecord   = 0x10 // epoch, stream, shard, last counter -> a block of records
	columnApp      = 0x20 // the application's own key -> its value
	columnEnd      = 0x21 // above every key
)

// BlockKeyBytes is the length of every block's key.
const BlockKeyBytes = 1 + 4 + 4 + 4 + 8

// ClockKey is the key of the [ClockRow].
func ClockKey() []byte { return append([]byte{columnMeta}, "clock"...) }

// FormatKey is the key of the [FormatRow].
func FormatKey() []byte { return append([]byte{columnMeta}, "format"...) }

// MetaSpan is the range of all rows about the database as a whole: [ClockKey] and
// [FormatKey].
func MetaSpan() (lower, upper []byte) { return []byte{columnMeta}, []byte{columnMeta + 1} }

// StreamKey is the key of a stream's [StreamRow].
func StreamKey(stream uint32) []byte { return key32(columnStream, stream) }

// StreamSpan is the range of all [StreamRow]s.
func StreamSpan() (lower, upper []byte) { return []byte{columnStream}, []byte{columnStream + 1} }

// DecodeStreamKey is the inverse of [StreamKey].
func DecodeStreamKey(key []byte) (stream uint32, err error) {
	fields, err := split32(key, columnStream, 1)
	return fields[0], err
}

// ShardKey is the key of a shard's [ShardRow].
func ShardKey(stream, shard uint32) []byte { return key32(columnShard, stream, shard) }

// ShardSpan is the range of all [ShardRow]s.
func ShardSpan() (lower, upper []byte) { return []byte{columnShard}, []byte{columnShard + 1} }

// StreamShardsSpan is the range of one stream's [ShardRow]s.
func StreamShardsSpan(stream uint32) (lower, upper []byte) {
	return span32(columnShard, stream)
}

// DecodeShardKey is the inverse of [ShardKey].
func DecodeShardKey(key []byte) (stream, shard uint32, err error) {
	fields, err := split32(key, columnShard, 2)
	return fields[0], fields[1], err
}

// EpochKey is the key of an epoch's [EpochRow].
func EpochKey(epoch uint32) []byte { return key32(columnEpoch, epoch) }

// EpochSpan is the range of all [EpochRow]s.
func EpochSpan() (lower, upper []byte) { return []byte{columnEpoch}, []byte{columnEpoch + 1} }

// DecodeEpochKey is the inverse of [EpochKey].
func DecodeEpochKey(key []byte) (epoch uint32, err error) {
	fields, err := split32(key, columnEpoch, 1)
	return fields[0], err
}

// ExtentKey is the key of the [ExtentRow] of a shard's records in an epoch.
func ExtentKey(stream, shard, epoch uint32) []byte {
	return key32(columnExtent, stream, shard, epoch)
}

// ExtentSpan is the range of all [ExtentRow]s.
func ExtentSpan() (lower, upper []byte) { return []byte{columnExtent}, []byte{columnExtent + 1} }

// StreamExtentsSpan is the range of one stream's [ExtentRow]s.
func StreamExtentsSpan(stream uint32) (lower, upper []byte) {
	return span32(columnExtent, stream)
}

// DecodeExtentKey is the inverse of [ExtentKey].
func DecodeExtentKey(key []byte) (stream, shard, epoch uint32, err error) {
	fields, err := split32(key, columnExtent, 3)
	return fields[0], fields[1], fields[2], err
}

// CutKey is the key of the [CutRow] of a stream whose records in the epoch are dead, and whose
// space there is still to be reclaimed.
func CutKey(epoch, stream uint32) []byte { return key32(columnCut, epoch, stream) }

// CutSpan is the range of all cuts.
func CutSpan() (lower, upper []byte) { return []byte{columnCut}, []byte{columnCut + 1} }

// EpochCutsSpan is the range of one epoch's cuts.
func EpochCutsSpan(epoch uint32) (lower, upper []byte) { return span32(columnCut, epoch) }

// DecodeCutKey is the inverse of [CutKey].
func DecodeCutKey(key []byte) (epoch, stream uint32, err error) {
	fields, err := split32(key, columnCut, 2)
	return fields[0], fields[1], err
}

// DataKeyKey is the key of the [DataKeyRow] of a stream's data key.
func DataKeyKey(stream, number uint32) []byte { return key32(columnKey, stream, number) }

// DataKeySpan is the range of all [DataKeyRow]s.
func DataKeySpan() (lower, upper []byte) { return []byte{columnKey}, []byte{columnKey + 1} }

// StreamDataKeysSpan is the range of one stream's [DataKeyRow]s.
func StreamDataKeysSpan(stream uint32) (lower, upper []byte) { return span32(columnKey, stream) }

// DecodeDataKeyKey is the inverse of [DataKeyKey].
func DecodeDataKeyKey(key []byte) (stream, number uint32, err error) {
	fields, err := split32(key, columnKey, 2)
	return fields[0], fields[1], err
}

// LeaseKey is the key of a [LeaseRow]. The names have no zero byte. An empty shard means the
// whole stream, and an empty stream the application.
func LeaseKey(app, stream, shard string) []byte {
	return slices.Concat([]byte{columnLease}, []byte(app), []byte{0}, []byte(stream), []byte{0}, []byte(shard))
}

// AppLeasesSpan is the range of one application's [LeaseRow]s.
func AppLeasesSpan(app string) (lower, upper []byte) {
	lower = append(append([]byte{columnLease}, app...), 0)
	upper = bytes.Clone(lower)
	upper[len(upper)-1]++
	return lower, upper
}

// StreamLeasesSpan is the range of one stream's [LeaseRow]s, including that of the whole stream.
func StreamLeasesSpan(app, stream string) (lower, upper []byte) {
	lower = LeaseKey(app, stream, "")
	upper = bytes.Clone(lower)
	upper[len(upper)-1]++
	return lower, upper
}

// LeaseSpan is the range of all [LeaseRow]s.
func LeaseSpan() (lower, upper []byte) { return []byte{columnLease}, []byte{columnLease + 1} }

// IsLeaseKey reports whether a key is a [LeaseRow]'s.
func IsLeaseKey(key string) bool { return key != "" && key[0] == columnLease }

// LeaseApp returns the application of a [LeaseKey].
func LeaseApp(key []byte) []byte {
	app, _, _ := bytes.Cut(key[1:], []byte{0})
	return app
}

// DecodeLeaseKey is the inverse of [LeaseKey].
func DecodeLeaseKey(key []byte) (app, stream, shard string, err error) {
	names := bytes.Split(key[min(1, len(key)):], []byte{0})
	if len(key) == 0 || key[0] != columnLease || len(names) != 3 {
		return "", "", "", fmt.Errorf("%w: key %x is not a lease's", ErrCorrupt, key)
	}
	return string(names[0]), string(names[1]), string(names[2]), nil
}

// BlockKey is the key of a block of records. Time, as epochs of arrival, comes before the
// shard: see ARCHITECTURE.md, "Epochs".
type BlockKey struct {
	Epoch, Stream, Shard uint32
	Counter              uint64 // of its last record
}

// Put writes the key into dst, which has [BlockKeyBytes].
func (k BlockKey) Put(dst []byte) {
	_ = dst[BlockKeyBytes-1]
	dst[0] = columnRecord
	binary.BigEndian.PutUint32(dst[1:], k.Epoch)
	binary.BigEndian.PutUint32(dst[5:], k.Stream)
	binary.BigEndian.PutUint32(dst[9:], k.Shard)
	binary.BigEndian.PutUint64(dst[13:], k.Counter)
}

// Bytes returns the encoded key.
func (k BlockKey) Bytes() []byte {
	key := make([]byte, BlockKeyBytes)
	k.Put(key)
	return key
}

// DecodeBlockKey is the inverse of [BlockKey.Bytes].
func DecodeBlockKey(key []byte) (BlockKey, error) {
	if len(key) != BlockKeyBytes || key[0] != columnRecord {
		return BlockKey{}, fmt.Errorf("%w: key %x is not a block's", ErrCorrupt, key)
	}
	return BlockKey{
		Epoch:   binary.BigEndian.Uint32(key[1:]),
		Stream:  binary.BigEndian.Uint32(key[5:]),
		Shard:   binary.BigEndian.Uint32(key[9:]),
		Counter: binary.BigEndian.Uint64(key[13:]),
	}, nil
}

// RecordSpan is the range of all records.
func RecordSpan() (lower, upper []byte) { return []byte{columnRecord}, []byte{columnRecord + 1} }

// EpochRecordsSpan is the range of all records of an epoch.
func EpochRecordsSpan(epoch uint32) (lower, upper []byte) { return span32(columnRecord, epoch) }

// StreamRecordsSpan is the range of a stream's records in an epoch.
func StreamRecordsSpan(epoch, stream uint32) (lower, upper []byte) {
	return span32(columnRecord, epoch, stream)
}

// AppKey is the key of a value of the application.
func AppKey(key []byte) []byte {
	row := make([]byte, 0, 1+len(key))
	return append(append(row, columnApp), key...)
}

// AppSpan is the range of the application's keys from start up to, but not including, end. nil
// for either means no bound.
func AppSpan(start, end []byte) (lower, upper []byte) {
	if end == nil {
		return AppKey(start), []byte{columnEnd}
	}
	return AppKey(start), AppKey(end)
}

// DecodeAppKey is the inverse of [AppKey]. The result is a part of key.
func DecodeAppKey(key []byte) ([]byte, error) {
	if len(key) < 1 || key[0] != columnApp {
		return nil, fmt.Errorf("%w: key %x is not the application's", ErrCorrupt, key)
	}
	return key[1:], nil
}

// IsBlockKey reports whether a key is the key of a block of records.
func IsBlockKey(key []byte) bool { return len(key) > 0 && key[0] == columnRecord }

// IsStateKey reports whether a key belongs to the rows about the database, streams, shards,
// epochs, extents, cuts and data keys.
func IsStateKey(key []byte) bool { return len(key) > 0 && key[0] < columnLease }

// IsDeletedForGood reports whether a row with that key is never written again once it is
// deleted, because its numbers are not reused.
func IsDeletedForGood(key []byte) bool {
	if len(key) == 0 {
		return false
	}
	switch key[0] {
	case columnStream, columnShard, columnEpoch, columnKey:
		return true
	default: // an extent may begin again in the open epoch
		return false
	}
}

// IsQueueKey reports whether a key belongs to a queue, a cursor or a delivery.
func IsQueueKey(key []byte) bool {
	return len(key) > 0 && columnQueue <= key[0] && key[0] <= columnDelivery
}

// IsAppKey reports whether a key is the application's own.
func IsAppKey(key []byte) bool { return len(key) > 0 && key[0] == columnApp }

// TableBoundary returns the end of the region of the key space that has the key: all rows about
// streams, one epoch of records, or the application's keys. No table crosses such a border. So an
// epoch's tables overlap no others, are never rewritten, and can be dropped whole.
func TableBoundary(key []byte) []byte {
	switch {
	case len(key) == 0 || key[0] < columnRecord:
		return []byte{columnRecord}
	case key[0] == columnRecord && len(key) >= 5:
		_, upper := EpochRecordsSpan(binary.BigEndian.Uint32(key[1:]))
		return upper
	case key[0] < columnApp:
		return []byte{columnApp}
	case key[0] < columnEnd:
		return []byte{columnEnd}
	default:
		return nil // not a key of this package: a border at or below it would split tables forever
	}
}

// UnknownSpans are the ranges without a column: neither this version of the package nor an
// earlier one has written a row there. A nil end means no bound.
func UnknownSpans() [][2][]byte {
	return [][2][]byte{
		{nil, {columnMeta}},
		{{columnDelivery + 1}, {columnRecord}},
		{{columnRecord + 1}, {columnApp}},
		{{columnEnd}, nil},
	}
}

// TableStart returns the start of the region whose end [TableBoundary] returns. The key may
// also be the end of a region, above all its keys.
func TableStart(key []byte) []byte {
	switch {
	case len(key) == 0 || key[0] < columnRecord:
		return nil
	case key[0] == columnRecord && len(key) >= 5:
		return bytes.Clone(key[:5])
	case key[0] < columnApp:
		return []byte{columnRecord}
	default:
		return []byte{columnApp}
	}
}

// key32 encodes a key of one column whose fields are all 32 bits wide.
func key32(column byte, fields ...uint32) []byte {
	key := make([]byte, 1, 1+4*len(fields))
	key[0] = column
	for _, field := range fields {
		key = binary.BigEndian.AppendUint32(key, field)
	}
	return key
}

// span32 returns the range of the keys that begin with the column and fields.
func span32(column byte, fields ...uint32) (lower, upper []byte) {
	lower = key32(column, fields...)
	upper = key32(column, fields...)
	for i := len(upper) - 1; ; i-- {
		if upper[i]++; upper[i] != 0 {
			return lower, upper[:i+1]
		}
	}
}

// split32 is the inverse of key32 for a key of n fields. The result has room for the fields of
// every column, so callers need no further check.
func split32(key []byte, column byte, n int) (fields [3]uint32, err error) {
	if len(key) != 1+4*n || key[0] != column {
		return fields, fmt.Errorf("%w: key %x is not one of column %#x with %d fields", ErrCorrupt, key, column, n)
	}
	for i := range n {
		fields[i] = binary.BigEndian.Uint32(key[1+4*i:])
	}
	return fields, nil
}
