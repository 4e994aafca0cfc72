package consumer

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBudgetSizesReadsByWhatIsFree(t *testing.T) {
	t.Run("a shard that is alone reads whole batches", func(t *testing.T) {
		b := newBudget(1<<20, 1<<20)
		require.Equal(t, 1<<20, b.take())
		require.Equal(t, 1<<10, b.take(), "nothing is free, so it is the least")
	})
	t.Run("whatever is held, the next read may bring something", func(t *testing.T) {
		for _, c := range []struct{ most, batch int }{{1, 1}, {100, 1}, {100, 100}, {64 << 20, 1 << 20}, {10 << 20, 10 << 20}} {
			b := newBudget(int64(c.most), c.batch)
			total := 0
			for range 5000 {
				n := b.take()
				require.Positive(t, n)
				require.LessOrEqual(t, n, c.batch)
				total += n
			}
			require.LessOrEqual(t, total, c.most+5000*int(b.least))
		}
	})
	t.Run("shards with a backlog get even shares", func(t *testing.T) {
		b := newBudget(64<<20, 1<<20)
		held := make([]int, 400)
		for range 2000 { // each gives back its bytes, and reads again
			for i := range held {
				b.give(held[i])
				held[i] = b.take()
			}
		}
		require.Less(t, slices.Max(held), 2*slices.Min(held))
		require.Greater(t, slices.Min(held), 64<<20/2/len(held))
		require.LessOrEqual(t, b.held.Load(), b.most)
	})
	t.Run("what is given back is free", func(t *testing.T) {
		b := newBudget(64<<20, 1<<20)
		n := b.take()
		b.give(n - 5<<20) // the record was larger
		require.EqualValues(t, 5<<20, b.held.Load())
		b.give(5 << 20)
		require.Zero(t, b.held.Load())
	})
}
