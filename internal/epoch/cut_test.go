package epoch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/epoch"
)

func TestACutSumsWhatHasDied(t *testing.T) {
	cuts := make(epoch.Cuts)
	require.Zero(t, cuts.Of(7).Bytes())
	require.False(t, cuts.Of(7).Has(2))

	cuts.Of(7).Set(9, 100)
	cuts.Of(7).Set(2, 10)
	cuts.Of(7).Set(9, 50) // replaces the earlier value
	require.EqualValues(t, 60, cuts.Of(7).Bytes())
	require.Equal(t, []uint32{2, 9}, cuts.Of(7).Streams())
	require.True(t, cuts.Of(7).Has(2))
	require.Zero(t, cuts.Of(8).Bytes(), "that is another epoch")

	cuts.Of(7).Remove(9)
	cuts.Of(7).Remove(5) // does not exist
	require.EqualValues(t, 10, cuts.Of(7).Bytes())
	require.Equal(t, []uint32{2}, cuts.Of(7).Streams())
	require.False(t, cuts.Of(7).Has(9))
}
