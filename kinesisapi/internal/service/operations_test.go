package service

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/wire"
)

// Every shape that a request's tags name exists. Otherwise its first use would panic.
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
