package braid

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// A block that is missing in the store is reported to every reader that reaches its place, or
// begins inside it with only a number. Only the ordinals of the neighboring blocks show that
// it existed.
func TestAMissingBlockIsTold(t *testing.T) {
	const blocks, records = 5, 3
	entries := make([]Entry, records)
	for i := range entries {
		entries[i] = Entry{PartitionKey: "k", Data: fmt.Append(nil, "record ", i)}
	}
	for missing := range blocks {
		t.Run(fmt.Sprint(missing), func(t *testing.T) {
			db, err := open("/db", &Options{TailBytes: -1}, environment{fs: vfs.NewMem()})
			require.NoError(t, err)
			s, err := db.CreateStream(t.Context(), "s", nil)
			require.NoError(t, err)
			sh := s.Shards()[0]
			var numbers []SequenceNumber
			for range blocks {
				results, err := s.PutRecords(t.Context(), entries)
				require.NoError(t, err)
				for _, res := range results {
					numbers = append(numbers, res.SequenceNumber)
				}
			}
			_, extents := sh.view()
			require.Len(t, extents, 1)
			key := layout.BlockKey{Epoch: extents[0].Epoch, Stream: s.number, Shard: sh.index, Counter: numbers[(missing+1)*records-1].counter()}
			batch := db.store.NewBatch()
			batch.Delete(key.Bytes())
			require.NoError(t, batch.Commit(true))
			batch.Close()

			gone := numbers[missing*records : (missing+1)*records]
			told := func(err error) *CorruptError {
				var loss *CorruptError
				require.ErrorAs(t, err, &loss)
				require.ErrorIs(t, err, ErrDataLoss)
				require.Equal(t, sh.ID(), loss.Shard)
				require.LessOrEqual(t, loss.FirstLost.counter(), gone[0].counter())
				require.Greater(t, loss.FirstAvailable.counter(), gone[records-1].counter())
				return loss
			}
			ways := map[string]func(Position) ([]SequenceNumber, error){
				"shard": func(from Position) (got []SequenceNumber, err error) {
					for r, err := range sh.Records(t.Context(), from) {
						if err != nil {
							return got, err
						}
						got = append(got, r.SequenceNumber)
					}
					return got, nil
				},
				"stream": func(from Position) (got []SequenceNumber, err error) {
					for r, err := range s.Records(t.Context(), from) {
						if err != nil {
							return got, err
						}
						got = append(got, r.SequenceNumber)
					}
					return got, nil
				},
				"pages": func(from Position) (got []SequenceNumber, err error) {
					for more := true; more; {
						page, err := sh.GetRecords(t.Context(), from, &GetRecordsOptions{Limit: 2})
						if err != nil {
							return got, err
						}
						for _, r := range page.Records {
							got = append(got, r.SequenceNumber)
						}
						from, more = page.Next, page.BehindRecords > 0
					}
					return got, nil
				},
			}
			begins := map[string]Position{ // positions of readers that know no ordinal
				"at the first":    AtSequence(gone[0]),
				"after the first": AfterSequence(gone[0]),
				"at the last":     AtSequence(gone[records-1]),
				"at its time":     AtTime(time.Unix(0, int64(gone[1].counter()))),
			}
			if missing > 0 {
				begins["after the one before"] = AfterSequence(numbers[missing*records-1])
			}
			for name, read := range ways {
				for begin, from := range begins {
					got, err := read(from)
					require.Error(t, err, "%s %s", name, begin)
					var loss *CorruptError
					require.ErrorAs(t, err, &loss)
					require.ErrorIs(t, err, ErrDataLoss)
					require.Empty(t, got, "%s %s", name, begin)
					require.Greater(t, loss.FirstAvailable.counter(), gone[records-1].counter())
					if missing < blocks-1 {
						require.Equal(t, numbers[(missing+1)*records], loss.FirstAvailable)
					}
				}
				starts := map[int]Position{0: TrimHorizon()}
				for first := 1; first < missing*records; first++ {
					starts[first] = AtSequence(numbers[first])
				}
				for first, from := range starts {
					got, err := read(from)
					loss := told(err)
					require.True(t, slices.Equal(numbers[first:missing*records], got), "%s: %v", name, got)
					if missing < blocks-1 {
						got, err = read(AtSequence(loss.FirstAvailable))
						require.NoError(t, err, name)
						require.Equal(t, numbers[(missing+1)*records:], got, name)
					}
				}
			}
			require.NoError(t, db.Close())
		})
	}
}

// A reader that resumes with its companion.Place notices a missing block right after its
// place, even if the block before, which it has read, is gone, too.
func TestAPlaceTellsOfAMissingBlock(t *testing.T) {
	db, err := open("/db", &Options{TailBytes: -1}, environment{fs: vfs.NewMem()})
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
	require.NoError(t, err)
	sh := s.Shards()[0]
	var keys [][]byte
	var ids []SequenceNumber
	for range 4 {
		res, err := s.PutRecord(t.Context(), "k", []byte("data"))
		require.NoError(t, err)
		sh = s.topology.Load().shard(res.SequenceNumber.shardIndex())
		_, extents := sh.view()
		key := layout.BlockKey{Epoch: extents[0].Epoch, Stream: s.number, Shard: sh.index, Counter: res.SequenceNumber.counter()}
		keys, ids = append(keys, key.Bytes()), append(ids, res.SequenceNumber)
	}
	var place companion.Place
	read, next, err := s.readMerged(t.Context(), 1, 2, 1<<20, &place)
	require.NoError(t, err)
	require.Len(t, read, 2)
	require.Equal(t, map[uint32]uint64{sh.index: 3}, place.At(next))
	require.Nil(t, place.At(next+1))

	batch := db.store.NewBatch()
	batch.Set(keys[1], []byte("damaged"))
	batch.Delete(keys[2])
	require.NoError(t, batch.Commit(true))
	batch.Close()
	read, after, err := s.readMerged(t.Context(), next, 2, 1<<20, &place)
	var loss *CorruptError
	require.ErrorAs(t, err, &loss)
	require.ErrorIs(t, err, ErrDataLoss)
	require.Empty(t, read)
	require.Equal(t, ids[3].counter(), after)
	require.Empty(t, place.At(after), "what is behind the damage may have any ordinal")

	read, after, err = s.readMerged(t.Context(), after, 2, 1<<20, &place)
	require.NoError(t, err)
	require.Len(t, read, 1)
	require.Equal(t, map[uint32]uint64{sh.index: 5}, place.At(after))
	require.NoError(t, db.Close())
}

// Damage of a shard is reported even if the last record before the next readable one is
// another shard's. A reader that resumes after that record has passed the damage.
func TestMergedDamageBelowAnotherShardsRecordIsTold(t *testing.T) {
	db, err := open("/db", &Options{TailBytes: -1}, environment{fs: vfs.NewMem()})
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
	require.NoError(t, err)
	keys := make(map[uint32]string) // one of each shard, by its index
	for i := 0; len(keys) < 2; i++ {
		key := fmt.Sprint(i)
		res, err := s.PutRecord(t.Context(), key, []byte("first"))
		require.NoError(t, err)
		keys[res.SequenceNumber.shardIndex()] = key
	}
	start := db.visible.Load() + 1
	var ids []SequenceNumber
	for _, shard := range []uint32{0, 0, 1, 0, 1} {
		res, err := s.PutRecord(t.Context(), keys[shard], []byte("data"))
		require.NoError(t, err)
		ids = append(ids, res.SequenceNumber)
	}
	_, extents := s.topology.Load().shard(0).view()
	key := layout.BlockKey{Epoch: extents[0].Epoch, Stream: s.number, Shard: 0, Counter: ids[1].counter()}
	batch := db.store.NewBatch()
	batch.Delete(key.Bytes())
	require.NoError(t, batch.Commit(true))
	batch.Close()

	var place companion.Place
	numbers := func(read []Record) (all []SequenceNumber) {
		for _, r := range read {
			all = append(all, r.SequenceNumber)
		}
		return all
	}
	read, next, err := s.readMerged(t.Context(), start, 10, 1<<20, &place)
	require.ErrorIs(t, err, ErrDataLoss)
	require.Equal(t, []SequenceNumber{ids[0], ids[2]}, numbers(read))
	require.Equal(t, ids[3].counter(), next)
	require.NotContains(t, place.At(next), uint32(0))
	require.Contains(t, place.At(next), uint32(1))
	read, _, err = s.readMerged(t.Context(), next, 10, 1<<20, &place)
	require.NoError(t, err)
	require.Equal(t, ids[3:], numbers(read))
	require.NoError(t, db.Close())
}
