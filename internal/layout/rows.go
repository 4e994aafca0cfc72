package layout

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/braidstream/braid/internal/uint128"
)

// rowVersion is the first byte of every row except records: the version of that kind of row.
const rowVersion = 1

// FormatRow has the format, as the identity file does, but inside the key space. A key space
// without it is not braid's.
type FormatRow struct{ Version, OldestReader uint32 }

// Encode returns the row's bytes.
func (r FormatRow) Encode() []byte {
	w := newRow()
	w.uint(uint64(r.Version))
	w.uint(uint64(r.OldestReader))
	return w.seal(FormatKey())
}

// DecodeFormatRow is the inverse of [FormatRow.Encode].
func DecodeFormatRow(value []byte) (row FormatRow, err error) {
	r := openRow(FormatKey(), value)
	row.Version = r.uint32()
	row.OldestReader = r.uint32()
	return row, r.close()
}

// ClockRow bounds the numbers that must not be given out again.
type ClockRow struct {
	// Counter is an upper bound of the counters of all records that are no longer stored.
	Counter uint64

	// NextStream is the number of the next stream to be created.
	NextStream uint32

	// Closed marks a clean close: nothing was committed after this row. Then Counter is the
	// last counter given out, and each extent of the open epoch has its End.
	Closed bool
}

// Encode returns the row's bytes.
func (r ClockRow) Encode() []byte {
	w := newRow()
	w.uint(r.Counter)
	w.uint(uint64(r.NextStream))
	w.bool(r.Closed)
	return w.seal(ClockKey())
}

// DecodeClockRow is the inverse of [ClockRow.Encode].
func DecodeClockRow(value []byte) (row ClockRow, err error) {
	r := openRow(ClockKey(), value)
	row.Counter = r.uint()
	row.NextStream = r.uint32()
	row.Closed = r.bool()
	return row, r.close()
}

// StreamRow is what is stored about a stream. Its key is [StreamKey].
type StreamRow struct {
	Name           string
	Created        uint64 // counter at which it was created, in nanoseconds
	NextShard      uint32 // index of the next shard
	MaxRecordBytes uint64 // limit of a record's data

	Retention      uint64 // nanoseconds after which a record expires; 0: never
	RetentionBytes uint64 // size above which the oldest records are trimmed; 0: no bound
	Floor          uint64 // records with a lower counter have expired, whatever Retention says
	Expired        ExpiredShard

	Mode                                       uint32 // capacity mode
	WriteRecords, WriteBytes, Reads, ReadBytes uint64 // budgets of a shard, per second
	MaxShards                                  uint32 // most shards in the mode on demand

	KeyID       string // the provider's key for new records; empty: they are not encrypted
	NextDataKey uint32 // number of the next data key

	Tags []Tag // sorted by key
}

// ExpiredShard is the expired shard that had the latest record. The zero value means that
// there is none.
type ExpiredShard struct {
	Shard          uint32
	CreatedSeconds uint64
	Horizon        uint64 // one above the counter of that record
}

// Tag is a label that the application has given to a stream.
type Tag struct{ Key, Value string }

// Encode returns the bytes of stream's row.
func (r StreamRow) Encode(stream uint32) []byte {
	w := newRow()
	w.string(r.Name)
	w.uint(r.Created)
	w.uint(uint64(r.NextShard))
	w.uint(r.MaxRecordBytes)
	w.uint(r.Retention)
	w.uint(r.RetentionBytes)
	w.uint(r.Floor)
	w.uint(uint64(r.Expired.Shard))
	w.uint(r.Expired.CreatedSeconds)
	w.uint(r.Expired.Horizon)
	w.uint(uint64(r.Mode))
	w.uint(r.WriteRecords)
	w.uint(r.WriteBytes)
	w.uint(r.Reads)
	w.uint(r.ReadBytes)
	w.uint(uint64(r.MaxShards))
	w.string(r.KeyID)
	w.uint(uint64(r.NextDataKey))
	w.uint(uint64(len(r.Tags)))
	for _, tag := range r.Tags {
		w.string(tag.Key)
		w.string(tag.Value)
	}
	return w.seal(StreamKey(stream))
}

// DecodeStreamRow is the inverse of [StreamRow.Encode].
func DecodeStreamRow(stream uint32, value []byte) (row StreamRow, err error) {
	r := openRow(StreamKey(stream), value)
	row.Name = string(r.string())
	row.Created = r.uint()
	row.NextShard = r.uint32()
	row.MaxRecordBytes = r.uint()
	row.Retention = r.uint()
	row.RetentionBytes = r.uint()
	row.Floor = r.uint()
	row.Expired.Shard = r.uint32()
	row.Expired.CreatedSeconds = r.uint()
	row.Expired.Horizon = r.uint()
	row.Mode = r.uint32()
	row.WriteRecords = r.uint()
	row.WriteBytes = r.uint()
	row.Reads = r.uint()
	row.ReadBytes = r.uint()
	row.MaxShards = r.uint32()
	row.KeyID = string(r.string())
	row.NextDataKey = r.uint32()
	for tags := r.uint(); tags > 0 && r.err == nil; tags-- {
		row.Tags = append(row.Tags, Tag{Key: string(r.string()), Value: string(r.string())})
	}
	return row, r.close()
}

// ShardRow is what is stored about a shard. Its key is [ShardKey].
type ShardRow struct {
	Start, End     uint128.Uint128 // the range of hash keys, both ends inclusive
	Parents        []uint32        // indexes of the shards it came from: none, one or two
	CreatedSeconds uint64          // part of each of its sequence numbers; ahead of the clock if reshards follow each other quickly
	ClosedSeconds  uint64          // part of the number at which it ends; 0 while it is open
	Created        uint64          // when it was created: a counter of its own, Unix time in nanoseconds
	Closed         uint64          // when it was closed, also a counter; 0 while it is open
	Horizon        Horizon
}

// Horizon is the border in a shard below which all records were trimmed. The zero value trims
// nothing.
type Horizon struct {
	Counter uint64 // one above the counter of the last trimmed record
	Ordinal uint64 // the ordinal of the first record that is not trimmed
	Offset  uint64 // the offset of that record
}

// Encode returns the bytes of the shard's row.
func (r ShardRow) Encode(stream, shard uint32) []byte {
	w := newRow()
	start, end := r.Start.Bytes(), r.End.Bytes()
	w.bytes(start[:])
	w.bytes(end[:])
	w.uint(uint64(len(r.Parents)))
	for _, parent := range r.Parents {
		w.uint(uint64(parent))
	}
	w.uint(r.CreatedSeconds)
	w.uint(r.ClosedSeconds)
	w.uint(r.Created)
	w.uint(r.Closed)
	w.horizon(r.Horizon)
	return w.seal(ShardKey(stream, shard))
}

// DecodeShardRow is the inverse of [ShardRow.Encode].
func DecodeShardRow(stream, shard uint32, value []byte) (row ShardRow, err error) {
	r := openRow(ShardKey(stream, shard), value)
	row.Start = uint128.FromBytes([16]byte(r.fixed(16)))
	row.End = uint128.FromBytes([16]byte(r.fixed(16)))
	parents := r.uint()
	if parents > 2 {
		r.fail("%d parents", parents)
		parents = 0
	}
	for range parents {
		row.Parents = append(row.Parents, r.uint32())
	}
	row.CreatedSeconds = r.uint()
	row.ClosedSeconds = r.uint()
	row.Created = r.uint()
	row.Closed = r.uint()
	row.Horizon = r.horizon()
	return row, r.close()
}

// EpochRow says when an epoch began. Its key is [EpochKey].
type EpochRow struct {
	FirstCounter uint64 // every record of the epoch has this counter or a greater one
}

// Encode returns the bytes of the epoch's row.
func (r EpochRow) Encode(epoch uint32) []byte {
	w := newRow()
	w.uint(r.FirstCounter)
	return w.seal(EpochKey(epoch))
}

// DecodeEpochRow is the inverse of [EpochRow.Encode].
func DecodeEpochRow(epoch uint32, value []byte) (row EpochRow, err error) {
	r := openRow(EpochKey(epoch), value)
	row.FirstCounter = r.uint()
	return row, r.close()
}

// ExtentRow has the beginning and the end of a shard's records in an epoch. It is written in
// the commit of the first record, and again when the epoch ends or the database is closed. Its
// key is [ExtentKey].
type ExtentRow struct {
	FirstCounter, FirstOrdinal, FirstOffset uint64

	// End is the border right above the last record when the row was written. It is zero
	// until the row is written the second time. With it, the end of a shard is known without
	// reading a record, which could be damaged.
	End Horizon
}

// Encode returns the bytes of the extent's row.
func (r ExtentRow) Encode(stream, shard, epoch uint32) []byte {
	w := newRow()
	w.uint(r.FirstCounter)
	w.uint(r.FirstOrdinal)
	w.uint(r.FirstOffset)
	w.horizon(r.End)
	return w.seal(ExtentKey(stream, shard, epoch))
}

// DecodeExtentRow is the inverse of [ExtentRow.Encode].
func DecodeExtentRow(stream, shard, epoch uint32, value []byte) (row ExtentRow, err error) {
	r := openRow(ExtentKey(stream, shard, epoch), value)
	row.FirstCounter = r.uint()
	row.FirstOrdinal = r.uint()
	row.FirstOffset = r.uint()
	row.End = r.horizon()
	return row, r.close()
}

// CutRow says how much space dead records of a stream take in an epoch. Its key is [CutKey].
type CutRow struct {
	Bytes uint64 // size of the dead records' partition keys and data, as far as known
}

// Encode returns the bytes of the cut's row.
func (r CutRow) Encode(epoch, stream uint32) []byte {
	w := newRow()
	w.uint(r.Bytes)
	return w.seal(CutKey(epoch, stream))
}

// DecodeCutRow is the inverse of [CutRow.Encode].
func DecodeCutRow(epoch, stream uint32, value []byte) (row CutRow, err error) {
	r := openRow(CutKey(epoch, stream), value)
	row.Bytes = r.uint()
	return row, r.close()
}

// CheckRow verifies that a value is the row of a key for which [IsStateKey] is true.
func CheckRow(key, value []byte) error {
	var err error
	switch a, b, c, malformed := stateKey(key); {
	case malformed != nil:
		return malformed
	case key[0] == columnMeta && string(key) == string(ClockKey()):
		_, err = DecodeClockRow(value)
	case key[0] == columnMeta:
		_, err = DecodeFormatRow(value)
	case key[0] == columnStream:
		_, err = DecodeStreamRow(a, value)
	case key[0] == columnShard:
		_, err = DecodeShardRow(a, b, value)
	case key[0] == columnEpoch:
		_, err = DecodeEpochRow(a, value)
	case key[0] == columnExtent:
		_, err = DecodeExtentRow(a, b, c, value)
	case key[0] == columnCut:
		_, err = DecodeCutRow(a, b, value)
	case key[0] == columnKey:
		_, err = DecodeDataKeyRow(a, b, value)
	}
	return err
}

// stateKey returns the numbers of a key for which [IsStateKey] is true.
func stateKey(key []byte) (a, b, c uint32, err error) {
	if key[0] == columnMeta {
		if k := string(key); k != string(ClockKey()) && k != string(FormatKey()) {
			return 0, 0, 0, fmt.Errorf("%w: key %x is not one of column %#x", ErrCorrupt, key, columnMeta)
		}
		return 0, 0, 0, nil
	}
	fields := map[byte]int{columnStream: 1, columnShard: 2, columnEpoch: 1, columnExtent: 3, columnCut: 2, columnKey: 2}
	all, err := split32(key, key[0], fields[key[0]])
	return all[0], all[1], all[2], err
}

// rowWriter builds a row: version, fields, checksum.
type rowWriter struct{ buf []byte }

func newRow() *rowWriter { return &rowWriter{buf: []byte{rowVersion}} }

func (w *rowWriter) uint(v uint64)  { w.buf = binary.AppendUvarint(w.buf, v) }
func (w *rowWriter) bytes(b []byte) { w.buf = append(w.buf, b...) }

func (w *rowWriter) bool(b bool) {
	if b {
		w.uint(1)
	} else {
		w.uint(0)
	}
}

func (w *rowWriter) horizon(h Horizon) {
	w.uint(h.Counter)
	w.uint(h.Ordinal)
	w.uint(h.Offset)
}

func (w *rowWriter) string(s string) {
	w.uint(uint64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *rowWriter) seal(key []byte) []byte {
	return binary.LittleEndian.AppendUint32(w.buf, rowChecksum(key, w.buf))
}

// rowReader decodes a row. The first error sticks, and every later read returns zeroes, so a
// decoder checks once, in close.
type rowReader struct {
	key, rest []byte
	err       error
}

func openRow(key, value []byte) *rowReader {
	r := &rowReader{key: key}
	body := len(value) - 4
	switch {
	case body < 1:
		r.fail("%d bytes are too few", len(value))
	case rowChecksum(key, value[:body]) != binary.LittleEndian.Uint32(value[body:]):
		r.fail("the checksum does not match")
	case value[0] != rowVersion:
		r.fail("row version %d is unknown", value[0])
	default:
		r.rest = value[1:body]
	}
	return r
}

func (r *rowReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: key %x: %s", ErrCorrupt, r.key, fmt.Sprintf(format, args...))
	}
	r.rest = nil
}

func (r *rowReader) uint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := uvarint(r.rest)
	if n <= 0 {
		r.fail("a number is cut short or not in its shortest form")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *rowReader) uint32() uint32 {
	v := r.uint()
	if v > 1<<32-1 {
		r.fail("%d does not fit 32 bits", v)
		return 0
	}
	return uint32(v)
}

func (r *rowReader) bool() bool {
	v := r.uint()
	if v > 1 {
		r.fail("%d is neither no nor yes", v)
	}
	return v == 1
}

func (r *rowReader) horizon() Horizon {
	return Horizon{Counter: r.uint(), Ordinal: r.uint(), Offset: r.uint()}
}

// fixed returns the next n bytes, or n zeroes after an error.
func (r *rowReader) fixed(n int) []byte {
	if r.err == nil && len(r.rest) < n {
		r.fail("%d bytes left where %d are needed", len(r.rest), n)
	}
	if r.err != nil {
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *rowReader) string() []byte {
	n := r.uint()
	if n > uint64(len(r.rest)) {
		r.fail("a text of %d bytes where %d are left", n, len(r.rest))
		return nil
	}
	return r.fixed(int(n))
}

func (r *rowReader) close() error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("%d bytes too many", len(r.rest))
	}
	return r.err
}

func rowChecksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, key)
}

// uvarint is binary.Uvarint, but accepts only the shortest form, so that each row has one
// encoding.
func uvarint(b []byte) (v uint64, n int) {
	v, n = binary.Uvarint(b)
	if n > 1 && b[n-1] == 0 {
		return 0, -n
	}
	return v, n
}
