package ondemand_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/ondemand"
	"github.com/braidstream/braid/internal/uint128"
)

var budget = ondemand.Load{Records: 1000, Bytes: 1 << 20}

// share is a part of the budget.
func share(records, bytes float64) *ondemand.Load {
	return &ondemand.Load{Records: records * budget.Records, Bytes: bytes * budget.Bytes}
}

// evenly is a load spread over all parts, and at is one that falls into one part.
func evenly() (parts [ondemand.Parts]float64) {
	for i := range parts {
		parts[i] = 1
	}
	return parts
}

func at(loads map[int]float64) (parts [ondemand.Parts]float64) {
	for i, n := range loads {
		parts[i] = n
	}
	return parts
}

// side is the i-th of n equal shards.
func side(i, n uint64, sh ondemand.Shard) ondemand.Shard {
	width := uint128.Step(n)
	for range i {
		sh.Start = sh.Start.Add(width)
	}
	sh.End = sh.Start.Add(width).SubOne()
	if i == n-1 {
		sh.End = uint128.Max
	}
	sh.Index = uint32(i)
	return sh
}

func TestPlan(t *testing.T) {
	cool, idle := share(0.05, 0.05), share(0, 0)
	quiet := ondemand.Shard{Minute: idle, Quarter: idle, Quiet: idle, Parts: evenly()}
	half := uint128.Uint128{Hi: 1 << 63}
	quarter := uint128.Uint128{Hi: 1 << 62}
	for _, test := range []struct {
		name   string
		stream ondemand.Stream
		want   []ondemand.Step // without the reason, which must contain a given text
		reason string
	}{
		{"nothing to do", ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 1, ondemand.Shard{Minute: cool, Quarter: cool})}}, nil, ""},
		{"no history", ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 2, ondemand.Shard{}), side(1, 2, ondemand.Shard{})}}, nil, ""},
		{
			"hot in bytes for a quarter",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 1, ondemand.Shard{Minute: cool, Quarter: share(0, 0.51), Parts: evenly()})}},
			[]ondemand.Step{{Kind: ondemand.Split, At: half}},
			"51 % of its budget over 15 minutes: 0 records/s and 534774 bytes/s",
		},
		{"warm", ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 1, ondemand.Shard{Minute: share(0.5, 0.5), Quarter: share(0.5, 0.5), Parts: evenly()})}}, nil, ""},
		{
			"hot in records for a minute",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 1, ondemand.Shard{Minute: share(0.9, 0), Parts: evenly()})}},
			[]ondemand.Step{{Kind: ondemand.Split, At: half}},
			"90 % of its budget over a minute",
		},
		{
			"where the load is",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 1, ondemand.Shard{Minute: share(2, 0), Parts: at(map[int]float64{3: 40, 15: 12, 16: 30, 60: 22})})}},
			[]ondemand.Step{{Kind: ondemand.Split, At: quarter}},
			"200 %",
		},
		{
			"one hash key",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 1, ondemand.Shard{Minute: share(2, 0), Parts: at(map[int]float64{3: 99, 40: 1})})}},
			[]ondemand.Step{{Kind: ondemand.Stay}},
			"so few hash keys",
		},
		{
			"a range too narrow",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{{End: uint128.Uint128{Lo: 2}, Minute: share(2, 0), Parts: at(map[int]float64{0: 1, 63: 1})}}},
			[]ondemand.Step{{Kind: ondemand.Stay}},
			"so few hash keys",
		},
		{
			"the most shards",
			ondemand.Stream{Min: 1, Max: 1, Shards: []ondemand.Shard{side(0, 1, ondemand.Shard{Minute: share(2, 0), Parts: evenly()})}},
			[]ondemand.Step{{Kind: ondemand.Stay}},
			"there are 1 shards, which is the most",
		},
		{
			"the hottest first, up to the most",
			ondemand.Stream{Min: 1, Max: 3, Shards: []ondemand.Shard{
				side(0, 2, ondemand.Shard{Minute: share(0.9, 0), Parts: evenly()}), side(1, 2, ondemand.Shard{Minute: share(1.5, 0), Parts: evenly()}),
			}},
			[]ondemand.Step{{Kind: ondemand.Split, Shard: 1, At: uint128.Uint128{Hi: 3 << 62}}, {Kind: ondemand.Stay, Shard: 0}},
			"",
		},
		{
			"room for twice the peak",
			ondemand.Stream{Min: 1, Max: 9, Peak: *share(0.6, 0), Shards: []ondemand.Shard{side(0, 1, ondemand.Shard{Minute: share(0.4, 0), Quarter: share(0.4, 0), Parts: evenly()})}},
			[]ondemand.Step{{Kind: ondemand.Split, At: half}},
			"2 shards are needed for twice the recent peak of 600 records/s",
		},
		{
			"cold neighbours",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 2, quiet), side(1, 2, quiet)}},
			[]ondemand.Step{{Kind: ondemand.Merge, Shard: 0, Other: 1}},
			"no more than 0 % of one budget",
		},
		{"not below the least", ondemand.Stream{Min: 2, Max: 9, Shards: []ondemand.Shard{side(0, 2, quiet), side(1, 2, quiet)}}, nil, ""},
		{"not below the peak's need", ondemand.Stream{Min: 1, Max: 9, Peak: *share(0, 0.7), Shards: []ondemand.Shard{side(0, 2, quiet), side(1, 2, quiet)}}, nil, ""},
		{
			"not before the quiet time is over",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{side(0, 2, quiet), side(1, 2, ondemand.Shard{Minute: idle, Quarter: idle})}},
			nil, "",
		},
		{
			"not what would soon be split again",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{
				side(0, 2, ondemand.Shard{Minute: idle, Quiet: share(0.2, 0)}), side(1, 2, ondemand.Shard{Minute: idle, Quiet: share(0.06, 0)}),
			}},
			nil, "",
		},
		{
			"the coldest pairs, none twice, as many as can go",
			ondemand.Stream{Min: 2, Max: 9, Shards: []ondemand.Shard{
				side(0, 5, ondemand.Shard{Quiet: share(0.1, 0)}), side(1, 5, ondemand.Shard{Quiet: share(0.01, 0)}), side(2, 5, ondemand.Shard{Quiet: share(0.02, 0)}),
				side(3, 5, ondemand.Shard{Quiet: share(0.03, 0)}), side(4, 5, ondemand.Shard{Quiet: share(0.2, 0)}),
			}},
			[]ondemand.Step{{Kind: ondemand.Merge, Shard: 1, Other: 2}, {Kind: ondemand.Merge, Shard: 3, Other: 4}},
			"",
		},
		{
			"a merge while another is hot and cannot be split",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{
				side(0, 3, quiet), side(1, 3, quiet), side(2, 3, ondemand.Shard{Minute: share(2, 0), Parts: at(map[int]float64{0: 1})}),
			}},
			[]ondemand.Step{{Kind: ondemand.Stay, Shard: 2}, {Kind: ondemand.Merge, Shard: 0, Other: 1}},
			"",
		},
		{
			"no merge in the same breath as a split",
			ondemand.Stream{Min: 1, Max: 9, Shards: []ondemand.Shard{
				side(0, 3, quiet), side(1, 3, quiet), side(2, 3, ondemand.Shard{Minute: share(2, 0), Parts: at(map[int]float64{0: 1, 32: 1})}),
			}},
			[]ondemand.Step{{Kind: ondemand.Split, Shard: 2, At: side(2, 3, quiet).Start.Add(uint128.Uint128{Hi: 0x2aaaaaaaaaaaaaaa, Lo: 0xaaaaaaaaaaaaaaab})}},
			"",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.stream.Budget = budget
			steps := ondemand.Plan(test.stream)
			require.Len(t, steps, len(test.want))
			for i, step := range steps {
				require.NotEmpty(t, step.Reason)
				require.Contains(t, step.Reason, test.reason)
				step.Reason = ""
				require.Equal(t, test.want[i], step)
			}
		})
	}
}

// A split can divide a range at the borders of its parts.
func TestPartsCoverARange(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		sh := ondemand.Shard{Start: uint128.Uint128{Hi: random.Uint64() / 2}, Minute: share(9, 0)}
		sh.End = sh.Start.Add(uint128.Uint128{Hi: random.Uint64() >> (1 + random.IntN(60)), Lo: 1 << 20})
		i := 1 + random.IntN(ondemand.Parts-1)
		sh.Parts = at(map[int]float64{i - 1: 1, i: 1})
		steps := ondemand.Plan(ondemand.Stream{Budget: budget, Min: 1, Max: 2, Shards: []ondemand.Shard{sh}})
		require.Equal(t, ondemand.Split, steps[0].Kind)
		border := steps[0].At
		require.Equal(t, i, ondemand.Part(sh.Start, sh.End, border))
		require.Equal(t, i-1, ondemand.Part(sh.Start, sh.End, border.SubOne()))
		require.Equal(t, 0, ondemand.Part(sh.Start, sh.End, sh.Start))
		require.Equal(t, ondemand.Parts-1, ondemand.Part(sh.Start, sh.End, sh.End))
	}
}
