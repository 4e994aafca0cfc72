package main

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNothingIsHandedInTwice(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot interrupt itself there")
	}
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `The first run was interrupted, and has handed in all that it had gathered.
The second run continued there. All 1000 measurements are in the archive, each once.
`, out.String())
}
