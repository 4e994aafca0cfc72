package braid

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A description is of one moment, even if shards are closed while it is made: the open
// ones cover the space of hash keys, and the closed ones have children.
func TestADescriptionIsOfOneMoment(t *testing.T) {
	db, err := Open(InMemory, nil)
	require.NoError(t, err)
	defer db.Close()
	s, err := db.CreateStream(t.Context(), "orders", &StreamOptions{Shards: 2})
	require.NoError(t, err)
	var moments []*topology
	var open []int
	note := func(shards int) { moments, open = append(moments, s.topology.Load()), append(open, shards) }
	note(2)
	lower, upper, err := s.SplitShard(t.Context(), s.Shards()[1].ID(), nil)
	require.NoError(t, err)
	note(3)
	_, err = s.MergeShards(t.Context(), s.Shards()[0].ID(), lower.ID())
	require.NoError(t, err)
	note(2)
	_, _, err = s.SplitShard(t.Context(), upper.ID(), nil)
	require.NoError(t, err)
	note(3)

	for i, moment := range moments { // each but the last is of the past
		var ranges []HashKeyRange
		for _, sh := range moment.describe() {
			require.Equal(t, sh.Closed, len(sh.Children) > 0, "%s at moment %d", sh.ID, i)
			require.Equal(t, sh.Closed, !sh.EndingSequenceNumber.IsZero(), "%s at moment %d", sh.ID, i)
			if !sh.Closed {
				ranges = append(ranges, sh.HashKeyRange)
			}
		}
		require.Len(t, ranges, open[i], "at moment %d", i)
		slices.SortFunc(ranges, func(a, b HashKeyRange) int { return a.Start.n.Compare(b.Start.n) })
		require.Equal(t, HashKey{}, ranges[0].Start)
		for k := 1; k < len(ranges); k++ {
			require.Equal(t, ranges[k-1].End.n.AddOne(), ranges[k].Start.n, "at moment %d", i)
		}
		require.Equal(t, MaxHashKey(), ranges[len(ranges)-1].End)
	}
	require.Equal(t, s.Describe().Shards, moments[3].describe())
}
