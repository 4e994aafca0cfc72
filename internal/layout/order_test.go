package layout_test

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/layout"
)

// in reports whether the key lies in the span.
func in(key, lower, upper []byte) bool {
	return bytes.Compare(lower, key) <= 0 && bytes.Compare(key, upper) < 0
}

// edges are numbers around which a byte carries.
var edges = []uint32{0, 1, 0xff, 0x100, 0xffff, 0xffffff, math.MaxUint32 - 1, math.MaxUint32}

func TestSpansHoldTheirKeysAndNoOthers(t *testing.T) {
	for _, a := range edges {
		for _, b := range edges {
			key := layout.BlockKey{Epoch: a, Stream: b, Shard: math.MaxUint32, Counter: math.MaxUint64}.Bytes()
			for _, other := range edges {
				lower, upper := layout.EpochRecordsSpan(other)
				require.Equal(t, a == other, in(key, lower, upper))
				lower, upper = layout.StreamRecordsSpan(a, other)
				require.Equal(t, b == other, in(key, lower, upper))
				lower, upper = layout.StreamRecordsSpan(other, b)
				require.Equal(t, a == other, in(key, lower, upper))
				lower, upper = layout.StreamShardsSpan(other)
				require.Equal(t, a == other, in(layout.ShardKey(a, b), lower, upper))
				lower, upper = layout.StreamExtentsSpan(other)
				require.Equal(t, a == other, in(layout.ExtentKey(a, b, 1), lower, upper))
				lower, upper = layout.StreamDataKeysSpan(other)
				require.Equal(t, a == other, in(layout.DataKeyKey(a, b), lower, upper))
				lower, upper = layout.EpochCutsSpan(other)
				require.Equal(t, a == other, in(layout.CutKey(a, b), lower, upper))
			}
		}
	}
}

// Every kind of key lies in the span of its own kind and in no other.
func TestColumnsDoNotMeet(t *testing.T) {
	type span func() (lower, upper []byte)
	app := func() (lower, upper []byte) { return layout.AppSpan(nil, nil) }
	for _, a := range edges {
		keys := [][]byte{
			layout.StreamKey(a), layout.ShardKey(a, a), layout.EpochKey(a), layout.ExtentKey(a, a, a), layout.CutKey(a, a), layout.DataKeyKey(a, a),
			layout.LeaseKey("app", string(rune(a%0x7f+1)), ""),
			layout.QueueKey(layout.QueueID{byte(a)}), layout.CursorKey(layout.QueueID{byte(a)}, a), layout.DeliveryKey(layout.QueueID{byte(a)}, a, uint64(a)),
			layout.AppKey([]byte{byte(a)}),
		}
		for i, s := range []span{layout.StreamSpan, layout.ShardSpan, layout.EpochSpan, layout.ExtentSpan, layout.CutSpan, layout.DataKeySpan, layout.LeaseSpan, layout.QueueSpan, layout.CursorSpan, layout.DeliverySpan, app} {
			lower, upper := s()
			for j, key := range keys {
				require.Equal(t, i == j, in(key, lower, upper))
			}
			require.False(t, in(layout.ClockKey(), lower, upper))
			require.False(t, in(layout.FormatKey(), lower, upper))
			require.False(t, in(layout.BlockKey{Epoch: a, Stream: a, Shard: a, Counter: uint64(a)}.Bytes(), lower, upper))
		}
	}
}

// The spans of a queue have all of its rows, and no rows of other queues.
func TestRowsOfAQueueLieInItsSpans(t *testing.T) {
	ids := []layout.QueueID{{}, {15: 1}, {15: 0xff}, {14: 1}, {0: 1}, {0: 0xff, 1: 0xff, 15: 0xff}}
	for _, id := range ids {
		for _, other := range ids {
			for _, edge := range edges {
				lower, upper := layout.QueueCursorsSpan(id)
				require.Equal(t, id == other, in(layout.CursorKey(other, edge), lower, upper))
				lower, upper = layout.QueueDeliveriesSpan(id)
				require.Equal(t, id == other, in(layout.DeliveryKey(other, edge, uint64(edge)), lower, upper))
			}
		}
	}
}

// The span of an application has all of its leases and no others, even if another
// application's name is a prefix of its own.
func TestLeasesOfAnApplicationLieInItsSpan(t *testing.T) {
	apps := []string{"a", "a.", "aa", "b"}
	for _, app := range apps {
		lower, upper := layout.AppLeasesSpan(app)
		for _, other := range apps {
			for _, key := range [][]byte{layout.LeaseKey(other, "", ""), layout.LeaseKey(other, "s", ""), layout.LeaseKey(other, "s", "shardId-000000000000")} {
				require.Equal(t, app == other, in(key, lower, upper), "%q in the span of %q", key, app)
				require.True(t, layout.IsLeaseKey(string(key)))
			}
		}
	}
	for _, stream := range []string{"s", "s.", "ss"} {
		lower, upper := layout.StreamLeasesSpan("a", stream)
		require.False(t, in(layout.LeaseKey("a", "", ""), lower, upper))
		for _, other := range []string{"s", "s.", "ss"} {
			for _, app := range apps {
				for _, shard := range []string{"", "shardId-000000000000"} {
					require.Equal(t, app == "a" && other == stream, in(layout.LeaseKey(app, other, shard), lower, upper), "%q of %q in the span of %q", other, app, stream)
				}
			}
		}
	}
	require.False(t, layout.IsLeaseKey(""))
	require.False(t, layout.IsLeaseKey(string(layout.AppKey([]byte("a")))))
}

// Each key lies below its border, and all keys up to the border have the same one.
func TestTableBoundaryEndsTheRegionOfAKey(t *testing.T) {
	record := func(epoch uint32) []byte {
		return layout.BlockKey{Epoch: epoch, Stream: math.MaxUint32, Shard: math.MaxUint32, Counter: math.MaxUint64}.Bytes()
	}
	rowsEnd := layout.TableBoundary(nil)
	for _, key := range [][]byte{{0}, layout.FormatKey(), layout.StreamKey(9), layout.ExtentKey(1, 2, 3), layout.CutKey(math.MaxUint32, math.MaxUint32)} {
		require.Equal(t, rowsEnd, layout.TableBoundary(key))
		require.Negative(t, bytes.Compare(key, rowsEnd))
	}
	require.Positive(t, bytes.Compare(layout.BlockKey{}.Bytes(), rowsEnd))
	for _, epoch := range edges {
		border := layout.TableBoundary(record(epoch))
		require.Negative(t, bytes.Compare(record(epoch), border))
		require.Equal(t, border, layout.TableBoundary(layout.BlockKey{Epoch: epoch}.Bytes()))
		if epoch < math.MaxUint32 {
			require.LessOrEqual(t, bytes.Compare(border, layout.BlockKey{Epoch: epoch + 1}.Bytes()), 0)
		}
	}
	appEnd := layout.TableBoundary(layout.AppKey([]byte{0xff, 0xff}))
	require.Equal(t, appEnd, layout.TableBoundary(layout.AppKey(nil)))
	require.Negative(t, bytes.Compare(layout.AppKey(bytes.Repeat([]byte{0xff}, 100)), appEnd))
}

func compareKeys(a, b layout.BlockKey) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Counter, b.Counter))
}

// The order of bytes is the order of fields.
func FuzzKeyOrder(f *testing.F) {
	f.Add(uint32(1), uint32(2), uint32(3), uint64(4), uint32(1), uint32(2), uint32(3), uint64(5))
	f.Add(uint32(0xff), uint32(0), uint32(0), uint64(0), uint32(0x100), uint32(0), uint32(0), uint64(0))
	f.Add(uint32(1), uint32(0xffffffff), uint32(0), uint64(0), uint32(2), uint32(0), uint32(0), uint64(1)<<63)
	f.Fuzz(func(t *testing.T, e1, s1, h1 uint32, c1 uint64, e2, s2, h2 uint32, c2 uint64) {
		a, b := layout.BlockKey{Epoch: e1, Stream: s1, Shard: h1, Counter: c1}, layout.BlockKey{Epoch: e2, Stream: s2, Shard: h2, Counter: c2}
		require.Equal(t, compareKeys(a, b), bytes.Compare(a.Bytes(), b.Bytes()))
		require.Equal(t, cmp.Or(cmp.Compare(e1, e2), cmp.Compare(s1, s2), cmp.Compare(h1, h2)),
			bytes.Compare(layout.ExtentKey(e1, s1, h1), layout.ExtentKey(e2, s2, h2)))
		require.Equal(t, cmp.Or(cmp.Compare(e1, e2), cmp.Compare(s1, s2)), bytes.Compare(layout.ShardKey(e1, s1), layout.ShardKey(e2, s2)))
		require.Equal(t, cmp.Compare(e1, e2), bytes.Compare(layout.EpochKey(e1), layout.EpochKey(e2)))
	})
}

// Keys of the application keep their order, and a span has the keys between its ends.
func FuzzAppKeyOrder(f *testing.F) {
	f.Add([]byte("a"), []byte("b"), []byte("c"))
	f.Add([]byte{0xff}, []byte{0xff, 0xff}, []byte{0xff, 0})
	f.Fuzz(func(t *testing.T, start, end, key []byte) {
		require.Equal(t, bytes.Compare(start, end), bytes.Compare(layout.AppKey(start), layout.AppKey(end)))
		lower, upper := layout.AppSpan(start, end)
		require.Equal(t, in(key, start, end), in(layout.AppKey(key), lower, upper))
		lower, upper = layout.AppSpan(start, nil)
		require.Equal(t, bytes.Compare(start, key) <= 0, in(layout.AppKey(key), lower, upper))
	})
}

// TestEveryKeyIsOfOneSpan: the spans of the columns, and those without a column, cover the key
// space without gaps. So verifying span by span covers everything that is stored.
func TestEveryKeyIsOfOneSpan(t *testing.T) {
	spans := layout.UnknownSpans()
	for _, span := range []func() (lower, upper []byte){
		layout.MetaSpan, layout.StreamSpan, layout.ShardSpan, layout.EpochSpan, layout.ExtentSpan, layout.CutSpan, layout.DataKeySpan,
		layout.LeaseSpan, layout.QueueSpan, layout.CursorSpan, layout.DeliverySpan, layout.RecordSpan, func() (lower, upper []byte) { return layout.AppSpan(nil, nil) },
	} {
		lower, upper := span()
		spans = append(spans, [2][]byte{lower, upper})
	}
	slices.SortFunc(spans, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
	var end []byte
	for _, span := range spans {
		require.Equal(t, end, span[0])
		end = span[1]
		require.NotEqual(t, []byte{}, end, "no bound is nil")
	}
	require.Nil(t, end)
}
