package braid

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// FuzzPage replaces a block with any bytes, as they are and with a matching checksum, and
// reads the shard in pages. Nothing panics, every read advances, damage is reported, and the
// records of other blocks are unchanged.
func FuzzPage(f *testing.F) {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	build := func(t *testing.T) (*DB, *Shard) {
		db, sh := openBlocks(t, vfs.NewMem(), nil)
		for n := range 3 {
			entries := make([]Entry, 4)
			for i := range entries {
				entries[i] = Entry{PartitionKey: fmt.Sprint(n), Data: fmt.Appendf(nil, "%d-%d", n, i)}
			}
			_, err := sh.stream.PutRecords(t.Context(), entries)
			require.NoError(t, err)
		}
		return db, sh
	}
	f.Add(uint8(0), uint8(1), []byte{})
	f.Add(uint8(1), uint8(2), []byte{2 << 4, 4, 9, 2, 2, 'k', 'd', 0, 0, 0, 0})
	f.Add(uint8(2), uint8(3), []byte{2<<4 | 1, 8, 40, 4, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, '2', '2', '2', '2', 'x'})
	f.Add(uint8(1), uint8(9), []byte{2<<4 | 4, 4, 4})
	f.Add(uint8('I'), uint8(2), []byte(" 00\x00"))
	f.Fuzz(func(t *testing.T, which, limit uint8, value []byte) {
		db, sh := build(t)
		defer func() { require.NoError(t, db.Close()) }()
		blocks := blocksOf(t, sh)
		require.Len(t, blocks, 3)
		victim := blocks[int(which)%3]
		whole, _ := readAround(t, sh, TrimHorizon())
		others := make(map[SequenceNumber]string)
		for _, r := range whole {
			if counter := r.SequenceNumber.counter(); counter < victim.First || counter > victim.Last {
				others[r.SequenceNumber] = string(r.Data)
			}
		}
		sum := crc32.Update(crc32.Checksum(value, castagnoli), castagnoli, victim.key)
		for _, value := range [][]byte{value, binary.LittleEndian.AppendUint32(value[:len(value):len(value)], sum)} {
			storeBlock(t, db, victim.key, value)
			got := make(map[SequenceNumber]string)
			var told []*CorruptError
			from := TrimHorizon()
			for step := 0; ; step++ {
				require.Less(t, step, 100, "reading does not get on")
				page, err := sh.GetRecords(t.Context(), from, &GetRecordsOptions{Limit: 1 + int(limit)%20})
				var damage *CorruptError
				if errors.As(err, &damage) {
					require.Positive(t, damage.FirstAvailable.Compare(damage.FirstLost))
					from, told = AtSequence(damage.FirstAvailable), append(told, damage)
					continue
				}
				if errors.Is(err, ErrBeyondTip) { // with a matching checksum, the bytes may have an ordinal beyond the tip
					clear(others)
					break
				}
				require.NoError(t, err)
				for _, r := range page.Records {
					require.NotContains(t, got, r.SequenceNumber)
					got[r.SequenceNumber] = string(r.Data)
				}
				if from = page.Next; len(page.Records) == 0 {
					break
				}
			}
			for number, want := range others {
				data, read := got[number]
				if read {
					require.Equal(t, want, data)
					continue
				}
				require.True(t, slices.ContainsFunc(told, func(e *CorruptError) bool {
					return e.FirstLost.Compare(number) <= 0 && number.Compare(e.FirstAvailable) < 0
				}), "a record of another block is missing, and nobody is told")
			}
			storeBlock(t, db, victim.key, victim.value)
		}
	})
}
