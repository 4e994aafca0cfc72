package layout_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/uint128"
)

// Every decoder takes any bytes without a panic: it refuses them with ErrCorrupt,
// or they are exactly what the encoder makes of what it found in them. So there
// is one encoding of each row, and nothing else is taken for one.

// addValues gives a fuzz target the values of all rows, whole and damaged.
func addValues(f *testing.F) {
	for _, r := range rows() {
		f.Add(r.value)
		if len(r.value) > 4 {
			f.Add(r.value[:len(r.value)-4]) // to be sealed
			f.Add(r.value[:len(r.value)-1])
			f.Add(append(bytes.Clone(r.value), 0))
		}
	}
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0, 0, 0})
}

// fuzzRow checks the decoder of rows under a key against its encoder, on the
// bytes as they are, and on the same with the checksum that they should have.
func fuzzRow[R any](f *testing.F, key []byte, decode func(value []byte) (R, error), encode func(R) []byte) {
	addValues(f)
	f.Fuzz(func(t *testing.T, value []byte) {
		castagnoli := crc32.MakeTable(crc32.Castagnoli)
		sum := crc32.Update(crc32.Checksum(value, castagnoli), castagnoli, key)
		sealed := binary.LittleEndian.AppendUint32(bytes.Clone(value), sum)
		for _, value := range [][]byte{value, sealed} {
			row, err := decode(value)
			if err != nil {
				require.ErrorIs(t, err, layout.ErrCorrupt)
				continue
			}
			require.Equal(t, value, encode(row))
		}
	})
}

func FuzzFormatRow(f *testing.F) {
	fuzzRow(f, layout.FormatKey(), layout.DecodeFormatRow, layout.FormatRow.Encode)
}

func FuzzClockRow(f *testing.F) {
	fuzzRow(f, layout.ClockKey(), layout.DecodeClockRow, layout.ClockRow.Encode)
}

func FuzzStreamRow(f *testing.F) {
	fuzzRow(f, layout.StreamKey(7), func(value []byte) (layout.StreamRow, error) { return layout.DecodeStreamRow(7, value) },
		func(r layout.StreamRow) []byte { return r.Encode(7) })
}

func FuzzShardRow(f *testing.F) {
	fuzzRow(f, layout.ShardKey(7, 4), func(value []byte) (layout.ShardRow, error) { return layout.DecodeShardRow(7, 4, value) },
		func(r layout.ShardRow) []byte { return r.Encode(7, 4) })
}

func FuzzEpochRow(f *testing.F) {
	fuzzRow(f, layout.EpochKey(3), func(value []byte) (layout.EpochRow, error) { return layout.DecodeEpochRow(3, value) },
		func(r layout.EpochRow) []byte { return r.Encode(3) })
}

func FuzzDataKeyRow(f *testing.F) {
	fuzzRow(f, layout.DataKeyKey(7, 2), func(value []byte) (layout.DataKeyRow, error) { return layout.DecodeDataKeyRow(7, 2, value) },
		func(r layout.DataKeyRow) []byte { return r.Encode(7, 2) })
}

func FuzzLeaseRow(f *testing.F) {
	key := layout.LeaseKey("billing", "orders", "shardId-000000000004")
	fuzzRow(f, key, func(value []byte) (layout.LeaseRow, error) { return layout.DecodeLeaseRow(key, value) },
		func(r layout.LeaseRow) []byte { return r.Encode(key) })
}

func FuzzCutRow(f *testing.F) {
	fuzzRow(f, layout.CutKey(3, 7), func(value []byte) (layout.CutRow, error) { return layout.DecodeCutRow(3, 7, value) },
		func(r layout.CutRow) []byte { return r.Encode(3, 7) })
}

func FuzzExtentRow(f *testing.F) {
	fuzzRow(f, layout.ExtentKey(7, 4, 3), func(value []byte) (layout.ExtentRow, error) { return layout.DecodeExtentRow(7, 4, 3, value) },
		func(r layout.ExtentRow) []byte { return r.Encode(7, 4, 3) })
}

// Any bytes as a key: what a decoder takes, its encoder gives back.
func FuzzKeys(f *testing.F) {
	for _, r := range rows() {
		f.Add(r.key)
	}
	f.Add([]byte{})
	f.Add([]byte{0x10, 0})
	f.Fuzz(func(t *testing.T, key []byte) {
		taken := 0
		is := func(again []byte, err error) {
			if err != nil {
				require.ErrorIs(t, err, layout.ErrCorrupt)
				return
			}
			require.Equal(t, key, again)
			taken++
		}
		stream, err := layout.DecodeStreamKey(key)
		is(layout.StreamKey(stream), err)
		stream, shard, err := layout.DecodeShardKey(key)
		is(layout.ShardKey(stream, shard), err)
		epoch, err := layout.DecodeEpochKey(key)
		is(layout.EpochKey(epoch), err)
		stream, shard, epoch, err = layout.DecodeExtentKey(key)
		is(layout.ExtentKey(stream, shard, epoch), err)
		epoch, stream, err = layout.DecodeCutKey(key)
		is(layout.CutKey(epoch, stream), err)
		stream, number, err := layout.DecodeDataKeyKey(key)
		is(layout.DataKeyKey(stream, number), err)
		app, lease, of, err := layout.DecodeLeaseKey(key)
		is(layout.LeaseKey(app, lease, of), err)
		record, err := layout.DecodeRecordKey(key)
		is(record.Bytes(), err)
		own, err := layout.DecodeAppKey(key)
		is(layout.AppKey(own), err)
		require.LessOrEqual(t, taken, 1, "a key is of one kind")

		if border := layout.TableBoundary(key); bytes.Compare(key, layout.TableBoundary([]byte{0xff})) < 0 {
			require.Negative(t, bytes.Compare(key, border))
		}
	})
}

// Any bytes as a record.
func FuzzRecord(f *testing.F) {
	addValues(f)
	key := layout.RecordKey{Epoch: 3, Stream: 7, Shard: 4, Counter: 1_700_003_700_000_000_000}
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := layout.DecodeRecord(key.Bytes(), value)
		if err != nil {
			require.ErrorIs(t, err, layout.ErrCorrupt)
			return
		}
		if got.Sealed { // nobody has the key
			require.GreaterOrEqual(t, got.Size(), 0)
			return
		}
		r := layout.Record{Ordinal: got.Ordinal, Offset: got.Offset, PartitionKey: string(got.PartitionKey), Data: got.Data}
		if got.HasExplicitHash {
			r.ExplicitHash = &got.ExplicitHash
		}
		require.Equal(t, value, recordRow("", key, r).value)
	})
}

// Whatever a record holds comes back; and with one bit changed, anywhere, or
// under another key, it is refused.
func FuzzRecordDamage(f *testing.F) {
	f.Add("customer-42", []byte("paid"), false, uint64(0), uint64(0), uint64(1), uint(3))
	f.Add("k", []byte{}, true, uint64(1)<<40, uint64(1)<<60, uint64(1)<<62, uint(77))
	f.Fuzz(func(t *testing.T, partitionKey string, data []byte, explicit bool, ordinal, offset, counter uint64, bit uint) {
		key := layout.RecordKey{Epoch: 1, Stream: 2, Shard: 3, Counter: counter}
		r := layout.Record{Ordinal: ordinal, Offset: offset, PartitionKey: partitionKey, Data: data}
		if explicit {
			r.ExplicitHash = &uint128.Uint128{Hi: ordinal, Lo: offset}
		}
		row := recordRow("", key, r)
		require.LessOrEqual(t, len(row.value), r.Size()+layout.MaxRecordOverhead)
		got, err := layout.DecodeRecord(row.key, row.value)
		require.NoError(t, err)
		require.Equal(t, partitionKey, string(got.PartitionKey))
		require.Equal(t, len(data), len(got.Data))
		require.True(t, bytes.Equal(data, got.Data))
		require.Equal(t, r.Size(), got.Size())

		damaged := bytes.Clone(row.value)
		bit %= uint(8 * len(damaged))
		damaged[bit/8] ^= 1 << (bit % 8)
		_, err = layout.DecodeRecord(row.key, damaged)
		require.ErrorIs(t, err, layout.ErrCorrupt)

		other := key
		other.Counter++
		_, err = layout.DecodeRecord(other.Bytes(), row.value)
		require.ErrorIs(t, err, layout.ErrCorrupt)
		other = key
		other.Shard++
		_, err = layout.DecodeRecord(other.Bytes(), row.value)
		require.ErrorIs(t, err, layout.ErrCorrupt)
	})
}

// A row under another key is as damaged as one with a flipped bit.
func TestRowsAreBoundToTheirKeys(t *testing.T) {
	stream := layout.StreamRow{Name: "s", NextShard: 1}.Encode(7)
	_, err := layout.DecodeStreamRow(8, stream)
	require.ErrorIs(t, err, layout.ErrCorrupt)
	shard := layout.ShardRow{End: uint128.Max}.Encode(7, 4)
	_, err = layout.DecodeShardRow(7, 5, shard)
	require.ErrorIs(t, err, layout.ErrCorrupt)
	_, err = layout.DecodeShardRow(8, 4, shard)
	require.ErrorIs(t, err, layout.ErrCorrupt)
	_, err = layout.DecodeEpochRow(2, layout.EpochRow{}.Encode(1))
	require.ErrorIs(t, err, layout.ErrCorrupt)
	_, err = layout.DecodeExtentRow(7, 4, 2, layout.ExtentRow{}.Encode(7, 4, 1))
	require.ErrorIs(t, err, layout.ErrCorrupt)

	for i := range len(shard) * 8 {
		damaged := bytes.Clone(shard)
		damaged[i/8] ^= 1 << (i % 8)
		_, err := layout.DecodeShardRow(7, 4, damaged)
		require.ErrorIs(t, err, layout.ErrCorrupt, "bit %d", i)
	}
}
