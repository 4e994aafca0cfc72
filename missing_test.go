package braid

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
)

// A block that is missing in the store is told to every reader that comes to its place, or
// begins in it by a bare number, whatever made it go: nothing but the ordinals of its
// neighbours says that it was there.
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
			begins := map[string]Position{ // where readers begin that know no ordinal
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
