package braid

import (
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
)

// An error's class that comes from a package below is not repeated here, and a wrapped error
// is not wrapped again.
func TestWrappedErrorsRepeatNothing(t *testing.T) {
	sentinels := []error{
		ErrLocked, ErrFormatTooNew, ErrClosed, ErrInvalidArgument, ErrStreamNotFound, ErrShardNotFound,
		ErrStreamExists, ErrLimitExceeded, ErrThroughputExceeded, ErrKeyUnavailable, ErrKeyNotFound, ErrTxTooLarge,
		ErrTxConflict, ErrTrimmed, ErrCorrupt, ErrDataLoss, ErrOutcomeUnknown, ErrDiskFull, ErrFailed,
		kv.ErrLocked, kv.ErrFormatTooNew, kv.ErrNotDatabase, kv.ErrNotEmpty, kv.ErrClosed, kv.ErrFailed,
		kv.ErrDiskFull, kv.ErrCorrupt, kv.ErrDataLoss, kv.ErrNotFound, commit.ErrUnknown,
	}
	disk := &fs.PathError{Op: "sync", Path: "/db/store/000004.log", Err: syscall.EIO}
	for _, sentinel := range sentinels {
		for _, err := range []error{
			sentinel,
			fmt.Errorf("%w: %w", sentinel, disk),
			fmt.Errorf("%w: %w", commit.ErrUnknown, fmt.Errorf("%w: %w", kv.ErrFailed, disk)),
			&InvalidArgumentError{"Field", 1, "must be 2"},
		} {
			wrapped := wrapError("put record", "s", err)
			require.ErrorIs(t, wrapped, err)
			require.Equal(t, wrapped, wrapError("again", "", wrapped))
			for _, part := range append(sentinels, disk) {
				require.LessOrEqual(t, strings.Count(wrapped.Error(), part.Error()), 1, wrapped.Error())
			}
		}
	}
}
