package epoch_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/layout"
)

func TestAnEpochEndsBySizeOrAge(t *testing.T) {
	x := epoch.NewIndex(1000)
	require.True(t, x.Full(5), "there is none")
	require.EqualValues(t, 1, x.Begin(5))
	require.False(t, x.Full(5))
	x.Grow(999)
	require.False(t, x.Full(5))
	x.Grow(1)
	require.True(t, x.Full(5))

	require.EqualValues(t, 2, x.Begin(100))
	hourLater := uint64(100 + epoch.MaxAge)
	require.False(t, x.Full(hourLater+1), "it is old, and empty")
	x.Grow(1)
	require.False(t, x.Full(hourLater))
	require.True(t, x.Full(hourLater+1))
	require.False(t, x.Full(50), "the clock has gone back")
	require.Equal(t, time.Hour, epoch.MaxAge)
	require.EqualValues(t, 2, x.Open())
}

func TestAnEpochThatWasOpenBeforeStaysSmall(t *testing.T) {
	x := epoch.NewIndex(6400)
	x.Reopen()
	x.Begin(1)
	x.Grow(99)
	require.False(t, x.Full(1), "it was begun since")
	x = epoch.NewIndex(6400)
	x.Restore(1, 1)
	x.Grow(98)
	x.Reopen()
	require.False(t, x.Full(1))
	x.Grow(1)
	require.False(t, x.Full(1))
	x.Grow(1)
	require.True(t, x.Full(1))
	x.Begin(2)
	x.Grow(6399)
	require.False(t, x.Full(2), "what follows is whole")
}

func TestEpochsDieWithTheirLastExtentButTheOpenOne(t *testing.T) {
	x := epoch.NewIndex(1000)
	for counter := range uint64(4) {
		x.Begin(counter)
	}
	x.AddExtent(1)
	x.AddExtent(2)
	x.AddExtent(2)
	require.Equal(t, []uint32{3}, dead(x))
	x.DropExtents(2, 1, 0)
	require.Equal(t, []uint32{3}, dead(x))
	x.DropExtents(2, 1, 0)
	x.DropExtents(1, 1, 0)
	require.Equal(t, []uint32{1, 2, 3}, dead(x))
	x.Remove(2)
	require.Equal(t, []uint32{1, 3}, dead(x))
	require.False(t, x.Has(2))
	require.True(t, x.Has(4))
	require.Equal(t, 3, x.Len())

	// Calls with unknown epochs change nothing.
	x.AddExtent(2)
	x.DropExtents(9, 1, 0)
	x.Remove(9)
	require.Equal(t, 3, x.Len())
	require.EqualValues(t, 5, x.Begin(9), "numbers are not used again")
}

func TestARestoredIndexGoesOn(t *testing.T) {
	x := epoch.NewIndex(1000)
	x.Restore(3, 30)
	x.Restore(7, 70)
	x.AddExtent(3)
	require.Empty(t, dead(x))
	require.EqualValues(t, 7, x.Open())
	require.EqualValues(t, 8, x.Begin(80))
	require.Equal(t, []uint32{7}, dead(x))
}

func extentsOf(rows ...[2]uint64) (s epoch.Extents) {
	for i, row := range rows {
		s = append(s, epoch.Extent{Epoch: uint32(i + 1), ExtentRow: layout.ExtentRow{FirstCounter: row[0], FirstOrdinal: row[1]}})
	}
	return s
}

func numbers(s epoch.Extents) (all []uint32) {
	for _, extent := range s {
		all = append(all, extent.Epoch)
	}
	return all
}

func TestFromReturnsTheExtentsThatCanHoldACounter(t *testing.T) {
	s := extentsOf([2]uint64{100, 0}, [2]uint64{200, 10}, [2]uint64{300, 15})
	for _, row := range []struct {
		counter uint64
		want    []uint32
	}{
		{0, []uint32{1, 2, 3}},
		{100, []uint32{1, 2, 3}},
		{199, []uint32{1, 2, 3}},
		{200, []uint32{2, 3}},
		{299, []uint32{2, 3}},
		{300, []uint32{3}},
		{9999, []uint32{3}},
	} {
		require.Equal(t, row.want, numbers(s.From(row.counter)), "%d", row.counter)
	}
	require.Empty(t, epoch.Extents(nil).From(5))
}

func TestSplitAtDividesByOrdinal(t *testing.T) {
	s := extentsOf([2]uint64{100, 0}, [2]uint64{200, 10}, [2]uint64{300, 15}) // ends at 20
	for _, row := range []struct {
		ordinal uint64
		before  int
	}{{0, 0}, {9, 0}, {10, 1}, {14, 1}, {15, 2}, {19, 2}, {20, 3}} {
		before, rest := s.SplitAt(row.ordinal, 20)
		require.Len(t, before, row.before, "%d", row.ordinal)
		require.Len(t, rest, 3-row.before)
	}
}

// dead returns the ended epochs in which no shard has records.
func dead(x *epoch.Index) (dead []uint32) {
	for _, id := range x.IDs() {
		if living, _, ended := x.Held(id); ended && living == 0 {
			dead = append(dead, id)
		}
	}
	return dead
}

func TestAnEpochKnowsWhatItHolds(t *testing.T) {
	x := epoch.NewIndex(1000)
	x.Begin(1)
	x.AddExtent(1)
	x.AddExtent(1)
	x.Hold(1, 10)
	x.Begin(2)
	x.AddExtent(2)
	x.Hold(2, 5)
	x.Hold(1, 20)
	living, bytes, ended := x.Held(1)
	require.Equal(t, []any{2, uint64(30), true}, []any{living, bytes, ended})
	_, _, ended = x.Held(2)
	require.False(t, ended)
	x.DropExtents(1, 2, 30)
	living, bytes, _ = x.Held(1)
	require.Zero(t, living)
	require.Zero(t, bytes)
	_, _, ended = x.Held(7)
	require.False(t, ended)
	x.Remove(1)
	require.Equal(t, []uint32{2}, x.IDs())
}
