package layout_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/uint128"
)

// No decoder panics on any bytes. It refuses them with ErrCorrupt, unless they are exactly what
// the encoder makes of the decoded row. So each row has one encoding, and no other bytes are
// accepted.

// addValues gives a fuzz target the values of all rows, undamaged and damaged.
func addValues(f *testing.F) {
	for _, r := range rows() {
		f.Add(r.value)
		if len(r.value) > 4 {
			f.Add(r.value[:len(r.value)-4]) // without a checksum, which the target adds
			f.Add(r.value[:len(r.value)-1])
			f.Add(append(bytes.Clone(r.value), 0))
		}
	}
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0, 0, 0})
}

// fuzzRow checks the decoder of rows under a key against its encoder, on the bytes as they are,
// and on the bytes with a matching checksum.
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

func FuzzQueueRow(f *testing.F) {
	id := layout.QueueID{0: 1, 15: 0xff}
	fuzzRow(f, layout.QueueKey(id), func(value []byte) (layout.QueueRow, error) { return layout.DecodeQueueRow(id, value) },
		func(r layout.QueueRow) []byte { return r.Encode(id) })
}

func FuzzCursorRow(f *testing.F) {
	key := layout.CursorKey(layout.QueueID{0: 1, 15: 0xff}, 4)
	fuzzRow(f, key, func(value []byte) (layout.CursorRow, error) { return layout.DecodeCursorRow(key, value) },
		func(r layout.CursorRow) []byte { return r.Encode(key) })
}

func FuzzDeliveryRow(f *testing.F) {
	key := layout.DeliveryKey(layout.QueueID{0: 1, 15: 0xff}, 4, 1_700_000_000_000_000_005)
	fuzzRow(f, key, func(value []byte) (layout.DeliveryRow, error) { return layout.DecodeDeliveryRow(key, value) },
		func(r layout.DeliveryRow) []byte { return r.Encode(key) })
}

func FuzzCutRow(f *testing.F) {
	fuzzRow(f, layout.CutKey(3, 7), func(value []byte) (layout.CutRow, error) { return layout.DecodeCutRow(3, 7, value) },
		func(r layout.CutRow) []byte { return r.Encode(3, 7) })
}

func FuzzExtentRow(f *testing.F) {
	fuzzRow(f, layout.ExtentKey(7, 4, 3), func(value []byte) (layout.ExtentRow, error) { return layout.DecodeExtentRow(7, 4, 3, value) },
		func(r layout.ExtentRow) []byte { return r.Encode(7, 4, 3) })
}

// Any bytes as a key: if a decoder accepts them, its encoder returns them.
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
		queue, err := layout.DecodeQueueKey(key)
		is(layout.QueueKey(queue), err)
		queue, shard, err = layout.DecodeCursorKey(key)
		is(layout.CursorKey(queue, shard), err)
		queue, shard, counter, err := layout.DecodeDeliveryKey(key)
		is(layout.DeliveryKey(queue, shard, counter), err)
		record, err := layout.DecodeBlockKey(key)
		is(record.Bytes(), err)
		own, err := layout.DecodeAppKey(key)
		is(layout.AppKey(own), err)
		require.LessOrEqual(t, taken, 1, "a key is of one kind")

		if border := layout.TableBoundary(key); border != nil {
			require.Negative(t, bytes.Compare(key, border))
		}
	})
}

// Any bytes as a block, as they are, and with a matching checksum.
func FuzzBlock(f *testing.F) {
	addValues(f)
	f.Add([]byte{0x21, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1, 1})
	key := layout.BlockKey{Epoch: 3, Stream: 7, Shard: 4, Counter: 1_700_003_700_000_000_000}
	f.Fuzz(func(t *testing.T, value []byte) {
		castagnoli := crc32.MakeTable(crc32.Castagnoli)
		sum := crc32.Update(crc32.Checksum(value, castagnoli), castagnoli, key.Bytes())
		summed := binary.LittleEndian.AppendUint32(bytes.Clone(value), sum)
		for _, value := range [][]byte{value, summed} {
			block, err := layout.DecodeBlock(key.Bytes(), value)
			if err != nil {
				require.ErrorIs(t, err, layout.ErrCorrupt)
				continue
			}
			require.Equal(t, key.Counter, block.Last)
			requireIndex(t, &block)
			if !block.Sealed { // a sealed block has no key here
				require.Equal(t, value, blockRow("", key, recordsOf(&block), nil).value)
			}
		}
	})
}

// Lengths in a block are not trusted: decoding and walking a block allocates nothing.
func TestDecodingABlockAllocatesNothing(t *testing.T) {
	records := randomRecords(5, 200, 1, 1, 1)
	row := blockRow("", layout.BlockKey{Epoch: 1}, records, nil)
	require.Zero(t, testing.AllocsPerRun(10, func() {
		block, _ := layout.DecodeBlock(row.key, row.value)
		it := block.Records()
		it.Seek(records[150].Counter)
		it.Stretch(20)
		block.Before(records[10].Counter)
	}))
}

// requireIndex checks everything that does not need the bodies.
func requireIndex(t *testing.T, block *layout.Block) {
	n, bytes, counter := 0, uint64(0), uint64(0)
	it := block.Records()
	for it.Next() {
		require.Equal(t, n, it.N)
		require.Equal(t, block.Ordinal+uint64(n), it.Ordinal())
		require.Equal(t, block.Offset+bytes, it.Offset())
		require.True(t, n == 0 && it.Counter == block.First || it.Counter > counter)
		counter = it.Counter
		bytes += uint64(it.Size())
		n++
	}
	require.Equal(t, block.Last, counter)
	require.Equal(t, block.Count, n)
	require.Equal(t, block.Bytes, bytes)
	require.Equal(t, block.Ordinal+uint64(n), block.NextOrdinal())
}

// randomRecords makes random records with a seed: many small ones, or large ones, or both.
func randomRecords(seed uint64, count int, ordinal, offset, counter uint64) []layout.Record {
	random := rand.New(rand.NewPCG(seed, 1))
	records := make([]layout.Record, count)
	for i := range records {
		r := &records[i]
		counter += 1 + uint64(random.IntN(1<<random.IntN(20)))
		r.Counter = counter
		r.PartitionKey = strings.Repeat("k", random.IntN(1<<random.IntN(10)))
		r.Data = make([]byte, random.IntN(1<<random.IntN(12)))
		for i := range r.Data {
			r.Data[i] = byte(random.Uint32())
		}
		if random.IntN(8) == 0 {
			r.ExplicitHash = &uint128.Uint128{Hi: random.Uint64(), Lo: random.Uint64()}
		}
	}
	records[0].Ordinal, records[0].Offset = ordinal, offset
	return follow(records...)
}

// The records of a block come back, all or any consecutive ones. If any bit is changed, or
// if the block is truncated or under another key, it is refused.
func FuzzBlockOfRecords(f *testing.F) {
	f.Add(uint64(1), uint8(1), uint64(0), uint64(0), uint64(0), uint(3), false)
	f.Add(uint64(2), uint8(200), uint64(1)<<40, uint64(1)<<60, uint64(1)<<62, uint(77), true)
	f.Add(uint64(3), uint8(3), uint64(300), uint64(1)<<20, uint64(1)<<30, uint(999), false)
	dataKey := newDataKey(1<<32-1, [16]byte{1}, make([]byte, layout.DataKeyBytes))
	f.Fuzz(func(t *testing.T, seed uint64, count uint8, ordinal, offset, counter uint64, at uint, encrypted bool) {
		records := randomRecords(seed, max(1, int(count)), ordinal>>1, offset>>1, counter>>1)
		key := layout.BlockKey{Epoch: 1, Stream: 2, Shard: 3}
		var sealing *layout.DataKey
		if encrypted {
			sealing = dataKey
			for i := range records {
				records[i].Sealed = true
			}
		}
		n := layout.BlockRecords(records, encrypted)
		most := layout.MaxBlockBytes
		if encrypted {
			most = layout.MaxSealedBlockBytes
		}
		size := 0
		for i := range records[:n] {
			size += records[i].Size()
		}
		require.True(t, n == 1 || size <= most)
		require.LessOrEqual(t, n, layout.MaxBlockRecords)
		require.True(t, n == len(records) || size+records[n].Size() > most, "it could be larger")

		row := blockRow("", key, records, sealing)
		row.decode(t, row.key, row.value)
		size = 0
		for i := range records {
			size += records[i].Size()
		}
		require.LessOrEqual(t, len(row.value), size+len(records)*layout.MaxRecordOverhead)
		block, err := layout.DecodeBlock(row.key, row.value)
		require.NoError(t, err)
		requireIndex(t, &block)
		first := int(at % uint(len(records)))
		horizon := records[first]
		if first > 0 {
			require.Equal(t, layout.Horizon{Counter: records[first-1].Counter + 1, Ordinal: horizon.Ordinal, Offset: horizon.Offset}, block.Before(horizon.Counter))
		}
		if sealing != nil {
			require.NoError(t, sealing.Open(row.key, &block, new(layout.SealScratch)))
		}
		it := block.Records()
		require.True(t, it.Seek(horizon.Counter))
		require.Equal(t, first, it.N)
		n = 1 + int(at>>8%uint(len(records)-first))
		keys, data := it.Stretch(n)
		require.Equal(t, records[first:first+n], it.Append(nil, n, string(keys), data))

		damaged := bytes.Clone(row.value)
		bit := at % uint(8*len(damaged))
		damaged[bit/8] ^= 1 << (bit % 8)
		_, err = layout.DecodeBlock(row.key, damaged)
		require.ErrorIs(t, err, layout.ErrCorrupt)
		_, err = layout.DecodeBlock(row.key, row.value[:at%uint(len(row.value))])
		require.ErrorIs(t, err, layout.ErrCorrupt)
		for _, other := range []layout.BlockKey{
			{Epoch: 2, Stream: 2, Shard: 3, Counter: block.Last},
			{Epoch: 1, Stream: 1, Shard: 3, Counter: block.Last},
			{Epoch: 1, Stream: 2, Shard: 4, Counter: block.Last},
			{Epoch: 1, Stream: 2, Shard: 3, Counter: block.Last + 1},
		} {
			_, err = layout.DecodeBlock(other.Bytes(), row.value)
			require.ErrorIs(t, err, layout.ErrCorrupt)
		}
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
