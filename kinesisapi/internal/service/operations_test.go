package service

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/wire"
)

// A request names shapes that exist, or its first use panics.
func TestRequestsCanBeBound(t *testing.T) {
	require.Len(t, Operations, 57)
	document, err := wire.ParseJSON([]byte(`{}`))
	require.NoError(t, err)
	for name, op := range Operations {
		in := op.NewInput()
		require.NoError(t, wire.Bind(document, in), name)
		_ = wire.Validate(in)
	}
}
