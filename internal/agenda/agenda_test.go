package agenda

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Random sets and removals are compared with a list that is sorted each time.
func TestTheFirstIsAlwaysTheOneThatIsDueFirst(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var a Agenda[int]
	items := make([]*Item[int], 200)
	for i := range items {
		items[i] = &Item[int]{Value: i}
	}
	dues := make(map[int]uint64)
	for range 3000 {
		it := items[random.IntN(len(items))]
		if random.IntN(3) == 0 {
			a.Remove(it)
			delete(dues, it.Value)
		} else {
			due := uint64(random.IntN(50))
			a.Set(it, due)
			dues[it.Value] = due
		}
		require.Equal(t, len(dues), a.Len())
		first := a.First()
		if len(dues) == 0 {
			require.Nil(t, first)
			continue
		}
		require.Equal(t, dues[first.Value], first.Due())
		for _, due := range dues {
			require.LessOrEqual(t, first.Due(), due)
		}
		limit, before := uint64(random.IntN(52)), 0
		for it := range a.Before(limit) {
			require.Less(t, dues[it.Value], limit)
			before++
		}
		for _, due := range dues {
			if due < limit {
				before--
			}
		}
		require.Zero(t, before, "each that is due before, once")
		for range a.Before(limit) {
			break
		}
	}
	var order []uint64
	for it := a.First(); it != nil; it = a.First() {
		order = append(order, it.Due())
		a.Remove(it)
	}
	require.True(t, slices.IsSorted(order))
	require.Len(t, order, len(dues))
}

// The cost of a change is proportional to the logarithm of the number of items.
func TestAChangeMovesFewItems(t *testing.T) {
	const n = 1 << 16
	random := rand.New(rand.NewPCG(3, 4))
	var a Agenda[int]
	items := make([]Item[int], n)
	for i := range items {
		a.Set(&items[i], random.Uint64())
	}
	for range 1000 {
		before := a.moved
		it := &items[random.IntN(n)]
		a.Set(it, random.Uint64())
		require.LessOrEqual(t, a.moved-before, 17)
		before = a.moved
		a.Remove(it)
		require.LessOrEqual(t, a.moved-before, 18)
		a.Set(it, random.Uint64())
	}
}
