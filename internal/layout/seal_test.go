package layout_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
)

// A sealed block opens only at its own place, with its own data key, numbers and index. This
// does not depend on checksums, which could be forged.
func TestASealedBlockIsBoundToItsPlace(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, layout.DataKeyBytes)
	database := [16]byte{1}
	k := newDataKey(2, database, secret)
	place := layout.BlockKey{Epoch: 3, Stream: 7, Shard: 4}
	records := follow(
		layout.Record{Counter: 1_700_003_700_000_000_001, Ordinal: 300, Offset: 9, PartitionKey: "customer-42", Data: []byte("paid"), Sealed: true},
		layout.Record{Counter: 1_700_003_700_000_000_003, PartitionKey: "customer-43", Data: []byte("sent"), Sealed: true},
	)
	row := blockRow("", place, records, k)
	place.Counter = records[1].Counter
	require.NotContains(t, string(row.value), "customer")
	require.NotContains(t, string(row.value), "paid")
	require.NotContains(t, string(row.value), "sent")

	// open opens a forged value with a matching checksum.
	open := func(k *layout.DataKey, place layout.BlockKey, forge func(value []byte)) error {
		value := bytes.Clone(row.value[:len(row.value)-4])
		forge(value)
		castagnoli := crc32.MakeTable(crc32.Castagnoli)
		sum := crc32.Update(crc32.Checksum(value, castagnoli), castagnoli, place.Bytes())
		block, err := layout.DecodeBlock(place.Bytes(), binary.LittleEndian.AppendUint32(value, sum))
		if err != nil {
			return err
		}
		return k.Open(place.Bytes(), &block, new(layout.SealScratch))
	}
	same := func([]byte) {}
	require.NoError(t, open(k, place, same))
	for name, move := range map[string]func(p *layout.BlockKey){
		"epoch":   func(p *layout.BlockKey) { p.Epoch++ },
		"stream":  func(p *layout.BlockKey) { p.Stream++ },
		"shard":   func(p *layout.BlockKey) { p.Shard++ },
		"counter": func(p *layout.BlockKey) { p.Counter++ },
	} {
		other := place
		move(&other)
		require.ErrorIs(t, open(k, other, same), layout.ErrCorrupt, name)
	}
	for i := range row.value[:len(row.value)-4] { // each byte of the head, the index and the sealed bodies
		require.ErrorIs(t, open(k, place, func(value []byte) { value[i] ^= 1 }), layout.ErrCorrupt, "byte %d", i)
		require.ErrorIs(t, open(k, place, func(value []byte) { value[i] += 2 }), layout.ErrCorrupt, "byte %d", i)
	}
	require.ErrorIs(t, open(newDataKey(3, database, secret), place, same), layout.ErrCorrupt)
	require.ErrorIs(t, open(newDataKey(2, [16]byte{2}, secret), place, same), layout.ErrCorrupt)
	require.ErrorIs(t, open(newDataKey(2, database, bytes.Repeat([]byte{8}, layout.DataKeyBytes)), place, same), layout.ErrCorrupt)

	for i := range row.value { // the checksum finds damage without a key
		damaged := bytes.Clone(row.value)
		damaged[i] ^= 1
		_, err := layout.DecodeBlock(place.Bytes(), damaged)
		require.ErrorIs(t, err, layout.ErrCorrupt)
	}
	_, err := layout.NewDataKey(1, database, secret[:31])
	require.Error(t, err)
	require.NotEqual(t, layout.DataKeyCheck(secret), layout.DataKeyCheck(secret[1:]))
}

// A block of one record is not larger than a row of the former format, in which each record was
// a row: a byte of version and one of flags, ordinal, offset, key length, checksum.
func TestABlockOfOneRecordIsSmall(t *testing.T) {
	for _, data := range []int{0, 100, 1024, 1 << 20} {
		records := follow(layout.Record{Counter: 1, Ordinal: 300, Offset: 70_000, PartitionKey: "customer-42", Data: make([]byte, data)})
		require.LessOrEqual(t, layout.BlockBytes(records, nil), 1+2+3+1+1+records[0].Size()+4)
	}
}
