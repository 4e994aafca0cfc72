package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFilesHaveEachRecordOnce(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, regexp.MustCompile(`^rain: 1000 records of 5 shards are in [4-9] files, each once, in order.
temperature: 2000 records of 9 shards are in \d\d? files, each once, in order.
wind: 2000 records of 9 shards are in \d\d? files, each once, in order.
$`), out.String())
}
