package epoch_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/epoch"
)

// Random histories are compared with a plain sum over all extents.
func TestALedgerIsTheSumOfTheExtents(t *testing.T) {
	type extent struct{ bytes, trimmed uint64 }
	random := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		var l epoch.Ledger
		living := make(map[uint32][]extent)
		dead := make(map[uint32]uint64)
		open := uint32(1)
		for range 300 {
			id := 1 + random.Uint32N(open)
			switch kind := random.IntN(6); {
			case kind == 0:
				if _, ok := l.TakeDead(open); ok {
					require.Empty(t, living[open])
					delete(dead, open)
				}
				open++
			case kind == 1:
				l.AddExtent(open)
				l.Grow(open, 100)
				living[open] = append(living[open], extent{bytes: 100})
			case len(living[id]) == 0:
			case kind == 2:
				l.Grow(id, 7)
				living[id][0].bytes += 7
			case kind == 3:
				n := random.Uint64N(living[id][0].bytes - living[id][0].trimmed + 1)
				l.Trim(id, n)
				living[id][0].trimmed += n
			default:
				s := living[id][0]
				living[id] = living[id][1:]
				dead[id] += s.bytes
				last := l.DropExtent(id, s.bytes, s.trimmed)
				require.Equal(t, len(living[id]) == 0, last)
				if last && id != open {
					died, ok := l.TakeDead(id)
					require.True(t, ok)
					require.Equal(t, dead[id], died)
					delete(dead, id)
				}
			}
			stored := uint64(0)
			var ids []uint32
			for id, all := range living {
				if len(all) > 0 || dead[id] > 0 {
					ids = append(ids, id)
				}
				for _, s := range all {
					stored += s.bytes - s.trimmed
				}
			}
			slices.Sort(ids)
			require.Equal(t, stored, l.Stored())
			require.Len(t, l.Shares(), len(ids))
			for i, share := range l.Shares() {
				require.Equal(t, ids[i], share.Epoch)
				require.Len(t, living[share.Epoch], share.Extents)
				require.Equal(t, dead[share.Epoch], share.Dead)
			}
			checkSpare(t, &l, 1+random.Uint64N(stored+100))
		}
	}
}

// checkSpare compares Spare with a plain search.
func checkSpare(t *testing.T, l *epoch.Ledger, limit uint64) {
	t.Helper()
	kept, want := l.Stored(), uint32(0)
	for _, share := range l.Shares() {
		if kept -= share.Bytes - share.Trimmed; kept < limit {
			break
		}
		want = share.Epoch
	}
	id, ok := l.Spare(limit)
	require.Equal(t, want != 0, ok)
	require.Equal(t, want, id)
	require.Equal(t, ok, l.Over(limit))
	_, ok = l.Spare(0)
	require.False(t, ok || l.Over(0), "no limit")
}
