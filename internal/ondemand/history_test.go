package ondemand_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/ondemand"
)

// described adds the load of a minute, and returns the shard's description.
func described(h *ondemand.History, minute int64, bytes uint64) ondemand.Shard {
	var count *ondemand.Count
	if bytes > 0 {
		count = &ondemand.Count{Bytes: bytes}
		count.Parts[3] = bytes
	}
	h.Add(count, minute)
	var sh ondemand.Shard
	h.Describe(&sh)
	return sh
}

func TestAHistoryIsKnownOnceItIsLongEnough(t *testing.T) {
	const begin, quiet = 1000, int64(ondemand.QuietTime / ondemand.Interval)
	h := ondemand.NewHistory(begin)
	for minute := int64(begin); minute <= begin+quiet; minute++ {
		sh := described(h, minute, 60*15)
		require.InDelta(t, 15, sh.Minute.Bytes, 1e-9)
		require.Equal(t, minute >= begin+14, sh.Quarter != nil, "minute %d", minute)
		require.Equal(t, minute >= begin+quiet, sh.Quiet != nil, "minute %d", minute)
		if sh.Quarter != nil {
			require.InDelta(t, 15, sh.Quarter.Bytes, 1e-9)
		}
	}
}

func TestAPeakIsForgottenAfterTheQuietTime(t *testing.T) {
	const quiet = int64(ondemand.QuietTime / ondemand.Interval)
	h := ondemand.NewHistory(0)
	described(h, 0, 6000)
	sh := described(h, quiet-1, 0) // the minutes between had no load, so they are not added
	require.Nil(t, sh.Quiet)
	require.Zero(t, sh.Minute.Bytes)
	require.Zero(t, sh.Quarter.Bytes, "the quarter of an hour is long over")
	require.Positive(t, sh.Parts[3], "halved for each minute")
	require.Less(t, sh.Parts[3], 1.0)

	described(h, quiet+14, 0)
	sh = described(h, quiet+15, 0)
	require.Zero(t, sh.Quiet.Bytes, "the quarter of the peak is six hours old")

	h = ondemand.NewHistory(0)
	described(h, 30, 6000)
	require.InDelta(t, 100, described(h, quiet, 0).Quiet.Bytes, 1e-9, "the peak was less than six hours ago")
}

func TestAPeakOfAStreamIsRememberedFor30Days(t *testing.T) {
	const day = 24 * 60
	var p ondemand.Peaks
	require.InDelta(t, 5, p.Add(ondemand.Load{Bytes: 5}, 10).Bytes, 1e-9)
	require.InDelta(t, 9, p.Add(ondemand.Load{Bytes: 9}, 3*day).Bytes, 1e-9)
	require.InDelta(t, 9, p.Add(ondemand.Load{}, 4*day).Bytes, 1e-9)
	require.InDelta(t, 9, p.Add(ondemand.Load{Bytes: 1}, 32*day).Bytes, 1e-9)
	require.InDelta(t, 1, p.Add(ondemand.Load{}, 33*day).Bytes, 1e-9)
	require.Zero(t, p.Add(ondemand.Load{}, 500*day).Bytes)
}
