package braid

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// These tests check the parts of a number, which are not exported, against numbers of the real
// service.

// realNumbers were given out by Amazon Kinesis.
var realNumbers = []struct {
	text    string
	created int64
	counter uint64
	seconds int64
	shard   uint32
}{
	{"49544985256907370027570885864065577703022652638596431874", 1415670039, 13422023156, 1431623575, 0},
	{"49546986683135544286507457936321625675700192471156785154", 1421279230, 469, 1421279386, 0},
	{"49585389983312162443796657944872008114154899568972529698", 1528908201, 614045414, 1530666680, 2},
	{"49587497311274533994574834252742144236107130636007899138", 1534814192, 5842092, 1536689385, 0},
	{"49594189147623985939251953501666965394405037144469929986", 1553568712, 195, 1553568735, 0},
	{"49658361752382621885697088319781165717078428243510427650", 1733418657, 0, 1733418659, 0},
	{"49670023483232461788730612813735157811693693431491592722", 1766101788, 13773199148, 1766140863, 33},
	{"49674026002850188218576229259473476449429298564223254594", 1777319237, 21689507110, 1777320018, 3076},
}

func TestSequenceNumbersOfKinesis(t *testing.T) {
	for _, row := range realNumbers {
		t.Run(row.text, func(t *testing.T) {
			n, err := ParseSequenceNumber(row.text)
			require.NoError(t, err)
			require.Equal(t, row.created, n.createdSeconds())
			require.Equal(t, row.counter, n.counter())
			require.Equal(t, time.Unix(row.seconds, 0).UTC(), n.Time())
			require.Equal(t, row.shard, n.shardIndex())
			require.Equal(t, ShardID(fmt.Sprintf("shardId-%012d", row.shard)), n.ShardID())

			require.Equal(t, row.text, n.String())
			require.Equal(t, n, newSequenceNumber(row.created, row.counter, row.seconds, row.shard))
		})
	}
}

func TestStartingNumbersOfShardsCreatedTogether(t *testing.T) {
	distance, ok := new(big.Int).SetString("22300745198530623141535718272648361505980432", 10)
	require.True(t, ok)
	for shard := range uint32(15) {
		a, b := newSequenceNumber(1700000000, 0, 1700000000, shard), newSequenceNumber(1700000000, 0, 1700000000, shard+1)
		require.Zero(t, distance.Cmp(new(big.Int).Sub(bigOf(b), bigOf(a))), "shards %d and %d", shard, shard+1)
	}
}

func TestSequenceNumberOfLargestParts(t *testing.T) {
	n := newSequenceNumber(createdSecondsEnd-1, endingCounter, 1<<36-1, 1<<32-1)
	require.EqualValues(t, createdSecondsEnd-1, n.createdSeconds())
	require.Equal(t, endingCounter, n.counter())
	require.Equal(t, time.Unix(1<<36-1, 0).UTC(), n.Time())
	require.EqualValues(t, 1<<32-1, n.shardIndex())
	require.Len(t, n.String(), 56)
	parsed, err := ParseSequenceNumber(n.String())
	require.NoError(t, err)
	require.Equal(t, n, parsed)
}

func TestSequenceNumberZeroValue(t *testing.T) {
	var zero SequenceNumber
	require.True(t, zero.IsZero())
	require.Equal(t, "0", zero.String())
	require.Empty(t, zero.ShardID())
	require.True(t, zero.Time().IsZero())

	parsed, err := ParseSequenceNumber("0")
	require.NoError(t, err)
	require.Equal(t, zero, parsed)

	lowest := newSequenceNumber(0, 0, 0, 0)
	require.False(t, lowest.IsZero())
	require.Equal(t, -1, zero.Compare(lowest))
	require.Less(t, zero.String(), lowest.String())
}

func TestEveryRecordLiesBelowItsShardsEnd(t *testing.T) {
	last := newSequenceNumber(1700000000, maxCounter, 1<<36-1, 7)
	end := newSequenceNumber(1700000000, endingCounter, 1700000000, 7)
	require.Equal(t, -1, last.Compare(end))
	child := newSequenceNumber(1700000001, 0, 1700000001, 8)
	require.Equal(t, -1, end.Compare(child), "and the end below all numbers of a child")
}

func TestParseSequenceNumberSaysWhatIsWrong(t *testing.T) {
	// Hexadecimal shows the parts: after the version, 9 digits of the second of creation, the
	// digit of the index, the 16 of the counter, and so on.
	const good = "2" + "064aaf4c0" + "1" + "0000000000000005" + "00" + "064aaf4c1" + "00000001" + "2"
	number := func(hex string) string {
		n, ok := new(big.Int).SetString(hex, 16)
		require.True(t, ok)
		return n.String()
	}
	_, err := ParseSequenceNumber(number(good))
	require.NoError(t, err)

	for _, row := range []struct{ name, text, rule string }{
		{"nothing", "", "(it is empty)"},
		{"a small number", "5", "current version"},
		{"a position's name", "TRIM_HORIZON", "not a digit"},
		{"zero twice", "00", "leading zero"},
		{"a leading zero", "0" + number(good), "leading zero"},
		{"a leading space", " " + number(good), "not a digit"},
		{"a digit more", number(good) + "0", "current version"},
		{"a digit less", number(good)[:55], "current version"},
		{"as long as Kinesis allows", strings.Repeat("9", 129), "too large"},
		{"version 1 in front", number("1" + good[1:]), "current version"},
		{"version 3 in front", number("3" + good[1:]), "current version"},
		{"version 2 with a bit above it", number("12" + good[1:]), "current version"},
		{"version 1 at the end", number(good[:46] + "1"), "current version"},
		{"version 0 at the end", number(good[:46] + "0"), "current version"},
		{"the largest of 186 bits", number("3" + strings.Repeat("f", 46)), "current version"},
		{"the first creation second not allowed", number(fmt.Sprintf("2%09x", createdSecondsEnd) + good[10:]), "creation time"},
		{"the last creation second that fits", number("2fffffffff" + good[10:]), "creation time"},
		{"a counter that is negative as signed number", number(good[:11] + "8" + good[12:]), "counter below 2^63"},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, err := ParseSequenceNumber(row.text)
			require.ErrorIs(t, err, ErrInvalidArgument)
			invalid, ok := errors.AsType[*InvalidArgumentError](err)
			require.True(t, ok)
			require.Equal(t, "SequenceNumber", invalid.Field)
			require.Contains(t, invalid.Rule, row.rule)
			require.LessOrEqual(t, len(fmt.Sprint(invalid.Value)), 66, "it is shortened")
			require.Zero(t, n)
		})
	}
}

func TestParseSequenceNumberTakesWhatKinesisTakes(t *testing.T) {
	for name, parts := range map[string]string{
		"zeros between the versions":         "2 000000000 0 0000000000000000 00 000000000 00000000 2",
		"an index with its high bit set":     "2 064aaf4c0 1 0000000000000005 00 064aaf4c1 80000001 2",
		"a byte set that is zero elsewhere":  "2 064aaf4c0 1 0000000000000005 ff 064aaf4c1 00000001 2",
		"an index whose low bits disagree":   "2 064aaf4c0 7 0000000000000005 00 064aaf4c1 00000001 2",
		"a counter beyond any record's":      "2 064aaf4c0 1 7fffffffffffffff 00 064aaf4c1 00000001 2",
		"the last creation second it allows": "2 3bb2cc3d7 1 0000000000000005 00 064aaf4c1 00000001 2",
	} {
		t.Run(name, func(t *testing.T) {
			want, ok := new(big.Int).SetString(strings.ReplaceAll(parts, " ", ""), 16)
			require.True(t, ok)
			n, err := ParseSequenceNumber(want.String())
			require.NoError(t, err)
			require.Equal(t, want.String(), n.String())
		})
	}
}

func TestSequenceNumberInJSON(t *testing.T) {
	type checkpoint struct{ At, Start SequenceNumber }
	in := checkpoint{At: newSequenceNumber(1700000000, 99, 1700000001, 3)}
	text, err := json.Marshal(in)
	require.NoError(t, err)
	require.JSONEq(t, `{"At": "`+in.At.String()+`", "Start": "0"}`, string(text))

	var out checkpoint
	require.NoError(t, json.Unmarshal(text, &out))
	require.Equal(t, in, out)

	require.ErrorIs(t, json.Unmarshal([]byte(`{"At": "17"}`), &out), ErrInvalidArgument)
	require.Equal(t, in, out, "a failed read changes nothing")
}

func TestSequenceNumberTextAllocatesOnce(t *testing.T) {
	n := newSequenceNumber(1700000000, 1700000001_000000123, 1700000001, 12)
	var text string
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() { text = n.String() }))
	require.Len(t, text, 56)

	buf := make([]byte, 0, 64)
	require.Zero(t, testing.AllocsPerRun(100, func() { buf, _ = n.AppendText(buf[:0]) }))
	require.Equal(t, text, string(buf))
	require.Zero(t, testing.AllocsPerRun(100, func() { n, _ = ParseSequenceNumber(text) }))
}

func TestSequenceNumbersSortLikeTheirTexts(t *testing.T) {
	numbers := []SequenceNumber{{}}
	for _, created := range []int64{0, 1, 1700000000} {
		for _, counter := range []uint64{0, 1, 1<<48 - 1, 1 << 48, endingCounter} {
			for _, seconds := range []int64{0, 1700000000, 1<<36 - 1} {
				numbers = append(numbers, newSequenceNumber(created, counter, seconds, 5))
			}
		}
	}
	// The numbers are in order: by creation, then by counter, then by second.
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = n.String()
		for j, m := range numbers {
			require.Equal(t, cmp.Compare(i, j), n.Compare(m), "%s, %s", n, m)
		}
	}
	require.True(t, sort.StringsAreSorted(texts))
}

func TestShardIDs(t *testing.T) {
	for index, want := range map[uint32]ShardID{
		0:             "shardId-000000000000",
		42:            "shardId-000000000042",
		3076:          "shardId-000000003076",
		maxShardIndex: "shardId-002147483647",
		1<<32 - 1:     "shardId-004294967295",
	} {
		require.Equal(t, want, shardID(index))
	}
}

func TestParseShardIDGoesByTheDigits(t *testing.T) {
	for text, want := range map[string]uint32{
		"shardId-000000000042":               42,
		"shardId-0":                          0,
		"abc-7":                              7,
		"0":                                  0,
		"0012":                               12,
		"-00000002147483647":                 maxShardIndex,
		"-" + strings.Repeat("0", 300) + "9": 9,
	} {
		id, err := ParseShardID(text)
		require.NoError(t, err, "%q", text)
		require.Equal(t, shardID(want), id, "%q", text)
		require.EqualValues(t, want, id.Index(), "%q", text)
		require.EqualValues(t, want, ShardID(text).Index(), "%q", text)
	}
	for _, text := range []string{
		"", "-", "shardId-", "shardId", "shardId-x", "shardId-2.14E4", "a-b-1", "shardId--1", "+1", " 1",
		"2147483648", "shardId-4294967296", "shardId-42949672960", "shardId-99999999999999999999", "shardId-1x", "١",
	} {
		id, err := ParseShardID(text)
		var invalid *InvalidArgumentError
		require.ErrorAs(t, err, &invalid, "%q", text)
		require.Equal(t, "ShardID", invalid.Field)
		require.Empty(t, id)
		require.Equal(t, -1, ShardID(text).Index(), "%q", text)
	}
}

func TestEveryShardIDIsParsed(t *testing.T) {
	for _, index := range []uint32{0, 1, 9, 10, 99, 1 << 16, maxShardIndex} {
		id, err := ParseShardID(string(shardID(index)))
		require.NoError(t, err)
		require.Equal(t, shardID(index), id)
		require.EqualValues(t, index, id.Index())
	}
}

// FuzzSequenceNumberText: a text is accepted if and only if it is "0" or fits the layout, as
// math/big reads it. An accepted text does not change in a round trip.
func FuzzSequenceNumberText(f *testing.F) {
	for _, row := range realNumbers {
		f.Add(row.text)
	}
	f.Add("0")
	f.Add("")
	f.Add("49")
	f.Add(strings.Repeat("4", 56))
	f.Add("98079714615416886934934209737619787751599303819750539266") // bit 186 instead of 185
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseSequenceNumber(text)
		require.Equal(t, isSequenceNumber(text), err == nil, "%q: %v", text, err)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalidArgument)
			require.Zero(t, n)
			return
		}
		require.Equal(t, text, n.String())
	})
}

// isSequenceNumber is an independent implementation of the rules of ParseSequenceNumber.
func isSequenceNumber(text string) bool {
	if text == "0" {
		return true
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || n.String() != text {
		return false
	}
	hex := n.Text(16)
	created, ok := new(big.Int).SetString((hex + strings.Repeat("0", 10))[1:10], 16)
	return ok && len(hex) == 47 && hex[0] == '2' && hex[46] == '2' && hex[11] < '8' &&
		created.Cmp(big.NewInt(16025175000)) < 0
}

// FuzzSequenceNumberOrder: numbers composed of parts return these parts, and compare as
// integers do.
func FuzzSequenceNumberOrder(f *testing.F) {
	f.Add(int64(1700000000), uint64(1), int64(1700000000), uint32(0), int64(1700000001), uint64(0), int64(1700000000), uint32(1))
	f.Add(int64(1), uint64(1<<48), int64(1<<28), uint32(16), int64(1), uint64(1<<48-1), int64(1<<28-1), uint32(15))
	f.Add(int64(0), uint64(0), int64(0), uint32(0), int64(0), uint64(0), int64(0), uint32(0))
	f.Fuzz(func(t *testing.T, created1 int64, counter1 uint64, seconds1 int64, shard1 uint32, created2 int64, counter2 uint64, seconds2 int64, shard2 uint32) {
		n := checkedSequenceNumber(t, created1, counter1, seconds1, shard1)
		m := checkedSequenceNumber(t, created2, counter2, seconds2, shard2)
		require.Equal(t, bigOf(n).Cmp(bigOf(m)), n.Compare(m))
		require.Equal(t, n.Compare(m) == 0, n == m)
		require.Equal(t, strings.Compare(n.String(), m.String()), n.Compare(m))
	})
}

func checkedSequenceNumber(t *testing.T, created int64, counter uint64, seconds int64, shard uint32) SequenceNumber {
	created, counter, seconds = int64(uint64(created)%createdSecondsEnd), counter&endingCounter, seconds&(1<<36-1)
	n := newSequenceNumber(created, counter, seconds, shard)
	require.Equal(t, created, n.createdSeconds())
	require.Equal(t, counter, n.counter())
	require.Equal(t, time.Unix(seconds, 0).UTC(), n.Time())
	require.Equal(t, shard, n.shardIndex())
	require.Equal(t, bigOf(n).String(), n.String())
	parsed, err := ParseSequenceNumber(n.String())
	require.NoError(t, err)
	require.Equal(t, n, parsed)
	return n
}

func bigOf(n SequenceNumber) *big.Int {
	b := new(big.Int)
	for _, word := range []uint64{n.hi, n.mid, n.lo} {
		b.Lsh(b, 64).Or(b, new(big.Int).SetUint64(word))
	}
	return b
}

func BenchmarkSequenceNumber(b *testing.B) {
	n := newSequenceNumber(1700000000, 1700000001_000000123, 1700000001, 12)
	text := n.String()
	b.Run("new", func(b *testing.B) {
		counter := uint64(0)
		for b.Loop() {
			counter++
			n = newSequenceNumber(1700000000, counter, 1700000001, 12)
		}
	})
	b.Run("string", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			text = n.String()
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n, _ = ParseSequenceNumber(text)
		}
	})
}
