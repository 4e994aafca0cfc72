package sdktest_test

import (
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

func number(text *string) *big.Int {
	n, ok := new(big.Int).SetString(*text, 10)
	if !ok {
		panic("not a number: " + *text)
	}
	return n
}

var one = big.NewInt(1)

// between is a hash key in the middle of a range.
func between(r *types.HashKeyRange) string {
	sum := new(big.Int).Add(number(r.StartingHashKey), number(r.EndingHashKey))
	return sum.Rsh(sum, 1).String()
}

// requireTiles checks that shards cover the space of hash keys without gaps or overlaps.
func requireTiles(t *testing.T, shards []types.Shard) {
	t.Helper()
	require.NoError(t, tiles(shards))
}

func tiles(shards []types.Shard) error {
	ranges := make([]*types.HashKeyRange, len(shards))
	for i := range shards {
		ranges[i] = shards[i].HashKeyRange
	}
	return tileRanges(ranges)
}

func tileRanges(ranges []*types.HashKeyRange) error {
	slices.SortFunc(ranges, func(a, b *types.HashKeyRange) int { return number(a.StartingHashKey).Cmp(number(b.StartingHashKey)) })
	next := new(big.Int)
	for _, r := range ranges {
		if next.Cmp(number(r.StartingHashKey)) != 0 || next.Cmp(number(r.EndingHashKey)) > 0 {
			return fmt.Errorf("%s to %s follows where %s should", *r.StartingHashKey, *r.EndingHashKey, next)
		}
		next.Add(number(r.EndingHashKey), one)
	}
	if next.Cmp(new(big.Int).Lsh(one, 128)) != 0 {
		return fmt.Errorf("it ends before %s", next)
	}
	return nil
}
