package txlog_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/txlog"
)

func TestConflicts(t *testing.T) {
	var log txlog.Log
	log.Add(slices.Values([]string{"a", "m"}))
	log.Add(slices.Values([]string{"k"}))
	require.Equal(t, uint64(2), log.Version())
	for _, test := range []struct {
		name     string
		version  uint64
		keys     []string
		ranges   []txlog.Range
		conflict bool
	}{
		{"nothing was read", 0, nil, nil, false},
		{"a key was written since", 1, []string{"k"}, nil, true},
		{"a key was written before", 2, []string{"k"}, nil, false},
		{"another key was written", 0, []string{"b"}, nil, false},
		{"the first of two was written", 0, []string{"b", "a"}, nil, true},
		{"a range begins with a key that was written", 1, nil, []txlog.Range{{[]byte("k"), []byte("l")}}, true},
		{"a range ends with a key that was written", 1, nil, []txlog.Range{{[]byte("j"), []byte("k")}}, false},
		{"a range holds keys written before", 1, nil, []txlog.Range{{[]byte("a"), []byte("b")}}, false},
		{"an empty range", 0, nil, []txlog.Range{{[]byte("k"), []byte("k")}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := make(map[string]struct{})
			for _, key := range test.keys {
				keys[key] = struct{}{}
			}
			require.Equal(t, test.conflict, log.Conflicts(test.version, keys, test.ranges))
		})
	}
}

func TestWhatWasForgottenCannotBeChecked(t *testing.T) {
	var log txlog.Log
	for i := range 2*txlog.MaxKeys + 1 {
		log.Add(slices.Values([]string{fmt.Sprint(i)}))
	}
	read := map[string]struct{}{"read": {}}
	last := log.Version()
	require.False(t, log.Conflicts(last, read, nil))
	require.False(t, log.Conflicts(last-txlog.MaxKeys, read, nil), "all that came after are known")
	require.True(t, log.Conflicts(last-txlog.MaxKeys-1, read, nil), "one of those that came after was forgotten")
	require.False(t, log.Conflicts(0, nil, nil), "nothing was read")
}
