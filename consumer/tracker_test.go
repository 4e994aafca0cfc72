package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/wake"
)

// numbered returns records from one number up to another, in order.
func numbered(t *testing.T, from, to int) []Record {
	t.Helper()
	var records []Record
	for n := from; n <= to; n++ {
		number, err := braid.ParseSequenceNumber(fmt.Sprintf("4956874937421823508037379366202115000376748614097882%04d", n*16+2))
		require.NoError(t, err)
		records = append(records, Record{Record: braid.Record{SequenceNumber: number}})
	}
	return records
}

func newTestTracker(lanes int) *tracker {
	return newTracker(newBudget(1000, 100), wake.NewBell(), lanes, Checkpoint{Start: braid.TrimHorizon()})
}

// In whatever order records are done, even repeatedly, the watermark is the last record
// before which all are done, and the budget gets back the bytes of the pages before it.
func TestWatermarkIsTheLastRecordBeforeWhichAllAreDone(t *testing.T) {
	const pages, perPage, pageBytes = 5, 7, 11
	records := numbered(t, 1, pages*perPage)
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		tr := newTestTracker(1)
		for p := range pages {
			tr.budget.give(-pageBytes)
			tr.add(records[p*perPage:(p+1)*perPage], pageBytes)
		}
		done, through := make([]bool, len(records)), 0
		for through < len(records) {
			n := random.IntN(len(records))
			tr.markDone(records[n : n+1])
			done[n] = true
			before := through
			for through < len(records) && done[through] {
				through++
			}
			want := Checkpoint{Start: braid.TrimHorizon()}
			if through > 0 {
				want = records[through-1].checkpoint()
			}
			require.Equal(t, want, tr.at(), "seed %d", seed)
			require.EqualValues(t, (pages-through/perPage)*pageBytes, tr.budget.held.Load(), "seed %d", seed)
			require.Equal(t, pages-through/perPage, tr.pages, "seed %d", seed)
			select {
			case <-tr.moved.C():
				require.Greater(t, through, before, "seed %d: the committer is woken for nothing", seed)
			default:
				require.Equal(t, before, through, "seed %d: the committer is not woken", seed)
			}
		}
		require.Empty(t, tr.entries)
	}
}

// A place without a record counts when everything before it is done, and no sooner.
func TestWatermarkSkipsPlacesWithoutRecords(t *testing.T) {
	records := numbered(t, 1, 3)
	tr := newTestTracker(1)
	tr.skipTo(records[0].checkpoint())
	require.Equal(t, records[0].checkpoint(), tr.at(), "nothing is before it")
	tr.add(records[1:2], 1)
	tr.skipTo(records[2].checkpoint())
	require.Equal(t, records[0].checkpoint(), tr.at())
	tr.markDone(records[1:2])
	require.Equal(t, records[2].checkpoint(), tr.at())
}

// Records of an aggregate have one sequence number, but are done one by one.
func TestWatermarkMovesInsideOfAnAggregate(t *testing.T) {
	carrier := numbered(t, 1, 1)[0]
	parts := make([]Record, 3)
	for i := range parts {
		parts[i] = carrier
		parts[i].Aggregated, parts[i].SubSequenceNumber, parts[i].Partial = true, i, i < 2
	}
	tr := newTestTracker(1)
	tr.add(parts, 1)
	tr.markDone(parts[1:2])
	require.True(t, tr.at().SequenceNumber.IsZero())
	tr.markDone(parts[:1])
	require.Equal(t, parts[1].checkpoint(), tr.at())
	require.True(t, tr.at().Partial)
	tr.markDone(parts[2:])
	require.Equal(t, Checkpoint{SequenceNumber: carrier.SequenceNumber, SubSequenceNumber: 2}, tr.at())
}

// A dead letter is committed with the watermark as if its record was done.
func TestWatermarkWithARecordPassesWhatIsDoneBehindIt(t *testing.T) {
	records := numbered(t, 1, 4)
	tr := newTestTracker(1)
	tr.add(records, 1)
	start := tr.at()
	require.Equal(t, records[0].checkpoint(), tr.watermarkWith(&records[0]))
	require.Equal(t, start, tr.watermarkWith(&records[2]), "others before it are not done")
	tr.markDone(records[:2])
	require.Equal(t, records[2].checkpoint(), tr.watermarkWith(&records[2]))
	require.Equal(t, records[1].checkpoint(), tr.at(), "it only asks")
}

// More of a shard is read while it stays within its limits. Beyond what a read may take
// now, that is so only for an idle lane.
func TestTrackerHasRoom(t *testing.T) {
	records := numbered(t, 1, 10)
	for _, row := range []struct {
		name            string
		pages, bytes    int // limits
		busy            bool
		added, perAdded int // number of pages with one record, and their bytes
		room            bool
	}{
		{name: "nothing is held", pages: 0, bytes: 0, room: true},
		{name: "as many pages as may be", pages: 2, bytes: 100, added: 2, perAdded: 1, room: true},
		{name: "one page more", pages: 2, bytes: 100, added: 3, perAdded: 1},
		{name: "as many bytes as may be", pages: 9, bytes: 100, added: 2, perAdded: 50, room: true},
		{name: "one byte more", pages: 9, bytes: 100, added: 1, perAdded: 101},
		{name: "all lanes are busy, and it holds what a read may bring", pages: 9, bytes: 1000, busy: true, added: 1, perAdded: 100, room: true},
		{name: "all lanes are busy, and it holds more", pages: 9, bytes: 1000, busy: true, added: 1, perAdded: 101},
		{name: "a lane is idle, and it holds more", pages: 9, bytes: 1000, added: 1, perAdded: 101, room: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTestTracker(2)
				tr.noteFed(0)
				if row.busy {
					tr.noteFed(1)
				}
				for i := range row.added {
					tr.add(records[i:i+1], row.perAdded)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				over := errors.New("over")
				result := make(chan error, 1)
				go func() { result <- tr.waitForRoom(ctx, row.pages, row.bytes) }()
				synctest.Wait()
				if row.room {
					require.Len(t, result, 1)
				} else {
					require.Empty(t, result)
					if row.busy {
						tr.noteProcessed(1)
					} else {
						tr.markDone(records[:row.added])
					}
					synctest.Wait()
					require.Len(t, result, 1, "it is woken")
				}
				require.NoError(t, <-result)
				cancel(over)
				tr.add(records[9:], 1<<20)
				require.Equal(t, over, tr.waitForRoom(ctx, row.pages, row.bytes))
			})
		})
	}
}

// A hold that ends returns the bytes of its records to the budget.
func TestTrackerThatClosesHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := numbered(t, 1, 4)
		tr := newTestTracker(1)
		tr.budget.give(-30)
		tr.add(records[:2], 10)
		tr.add(records[2:], 20)
		tr.markDone(records[:3])
		require.EqualValues(t, 20, tr.budget.held.Load())
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { ended <- tr.waitUntilDone(ctx) }()
		synctest.Wait()
		require.Empty(t, ended)
		over := errors.New("over")
		cancel(over)
		require.Equal(t, over, <-ended)
		tr.close()
		require.Zero(t, tr.budget.held.Load())
		require.NoError(t, tr.waitUntilDone(t.Context()))
		tr.markDone(records[3:])
		require.Zero(t, tr.budget.held.Load(), "not twice")
		require.Equal(t, records[2].checkpoint(), tr.at())
	})
}
