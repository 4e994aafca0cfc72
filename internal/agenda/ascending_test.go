package agenda

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAscending(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var a Agenda[int]
	for range a.Ascending() {
		t.Fatal("it is empty")
	}
	for i := range 1000 {
		a.Set(&Item[int]{Value: i}, uint64(random.IntN(300)))
	}
	for _, most := range []int{1, 10, 1000} {
		n, last := 0, uint64(0)
		seen := make(map[int]bool)
		for it := range a.Ascending() {
			require.GreaterOrEqual(t, it.Due(), last)
			require.False(t, seen[it.Value])
			seen[it.Value], last = true, it.Due()
			if n++; n == most {
				break
			}
		}
		require.Equal(t, most, n)
	}
	require.Equal(t, 1000, a.Len())
}
