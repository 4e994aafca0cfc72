package braid

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDefaultsFitTheDisk(t *testing.T) {
	for _, test := range []struct {
		given             Options
		disk              int64
		memtable, reserve int64
		field             string // of the InvalidArgumentError
	}{
		{Options{}, 0, 64 << 20, 64 << 20, ""},
		{Options{}, 1 << 40, 64 << 20, 64 << 20, ""},
		{Options{}, 4 << 30, 64 << 20, 64 << 20, ""},
		{Options{}, 1 << 30, 16 << 20, 64 << 20, ""},
		{Options{}, 256 << 20, 4 << 20, 24 << 20, ""},
		{Options{}, 64 << 20, 1 << 20, 6 << 20, ""},
		{Options{}, 16 << 20, 1 << 20, 6 << 20, ""},
		{Options{}, 8 << 20, 1 << 20, 3 << 20, ""},
		{Options{ReserveBytes: -1}, 64 << 20, 1 << 20, -1, ""},
		{Options{ReserveBytes: 32 << 20}, 64 << 20, 1 << 20, 32 << 20, ""},
		{Options{ReserveBytes: 64 << 20}, 64 << 20, 0, 0, "ReserveBytes"},
		{Options{MemtableBytes: 8 << 20}, 64 << 20, 8 << 20, 24 << 20, ""},
		{Options{MemtableBytes: 30 << 20}, 64 << 20, 30 << 20, 4 << 20, ""},
		{Options{MemtableBytes: 32 << 20}, 64 << 20, 0, 0, "MemtableBytes"},
		{Options{MemtableBytes: 32 << 20, ReserveBytes: -1}, 64 << 20, 32 << 20, -1, ""},
		{Options{MemtableBytes: 64 << 20}, 1 << 30, 64 << 20, 64 << 20, ""},
	} {
		opts, err := test.given.withDefaults()
		require.NoError(t, err)
		err = opts.fit(&test.given, test.disk)
		name := fmt.Sprintf("%+v on %d: %v", test.given, test.disk, err)
		if test.field != "" {
			var invalid *InvalidArgumentError
			require.ErrorAs(t, err, &invalid, name)
			require.Equal(t, test.field, invalid.Field)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, test.memtable, opts.MemtableBytes, name)
		require.Equal(t, test.reserve, opts.ReserveBytes, name)
	}
}
