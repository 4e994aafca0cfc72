package seqnum_test

import (
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/seqnum"
)

// given are numbers that Kinesis issued.
var given = []struct {
	text string
	want seqnum.Number
}{
	{"49544985256907370027570885864065577703022652638596431874", seqnum.Number{Version: 2, CreateSeconds: 1415670039, SeqIx: 13422023156, Seconds: 1431623575}},
	{"49546986683135544286507457936321625675700192471156785154", seqnum.Number{Version: 2, CreateSeconds: 1421279230, SeqIx: 469, Seconds: 1421279386}},
	{"49585389983312162443796657944872008114154899568972529698", seqnum.Number{Version: 2, CreateSeconds: 1528908201, SeqIx: 614045414, Seconds: 1530666680, ShardIndex: 2}},
	{"49587497311274533994574834252742144236107130636007899138", seqnum.Number{Version: 2, CreateSeconds: 1534814192, SeqIx: 5842092, Seconds: 1536689385}},
	{"49594189147623985939251953501666965394405037144469929986", seqnum.Number{Version: 2, CreateSeconds: 1553568712, SeqIx: 195, Seconds: 1553568735}},
	{"49658361752382621885697088319781165717078428243510427650", seqnum.Number{Version: 2, CreateSeconds: 1733418657, Seconds: 1733418659}},
	{"49670023483232461788730612813735157811693693431491592722", seqnum.Number{Version: 2, CreateSeconds: 1766101788, SeqIx: 13773199148, Seconds: 1766140863, ShardIndex: 33}},
	{"49674026002850188218576229259473476449429298564223254594", seqnum.Number{Version: 2, CreateSeconds: 1777319237, SeqIx: 21689507110, Seconds: 1777320018, ShardIndex: 3076}},
}

func TestRealNumbers(t *testing.T) {
	for _, row := range given {
		n, err := seqnum.Parse(row.text)
		require.NoError(t, err)
		require.Equal(t, row.want, n, row.text)
	}
	last, err := seqnum.Parse(given[len(given)-1].text)
	require.NoError(t, err)
	require.Equal(t, "shardId-000000003076", last.ShardID())
}

// The database decodes the same numbers.
func TestTheDatabaseAgrees(t *testing.T) {
	for _, row := range given {
		n, err := braid.ParseSequenceNumber(row.text)
		require.NoError(t, err)
		require.Equal(t, string(n.ShardID()), row.want.ShardID())
		require.Equal(t, n.Time().Unix(), row.want.Seconds)
	}
}

// fromHex returns the decimal text of a number from its hexadecimal digits, in several
// parts.
func fromHex(digits ...string) string {
	n, ok := new(big.Int).SetString(strings.Join(digits, ""), 16)
	if !ok {
		panic("not hexadecimal")
	}
	return n.String()
}

func TestEveryVersion(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       seqnum.Number
	}{
		{
			"version 2", fromHex("2", "054321098", "9", "7654321012345678", "00", "0abcdef01", "00000029", "2"),
			seqnum.Number{Version: 2, CreateSeconds: 0x054321098, ShardIndex: 0x29, SeqIx: 0x7654321012345678, Seconds: 0x0abcdef01},
		},
		{
			"version 1", fromHex("2", "054321098", "9", "00", "0abcdef01", "ffffffffffffff", "a7", "00000029", "1"),
			seqnum.Number{Version: 1, CreateSeconds: 0x054321098, ShardIndex: 0x29, SeqIx: 0xa7, Seconds: 0x0abcdef01},
		},
		{
			"version 0", fromHex("1", "054321098", "00", "ffffffffffffffff", "8029"),
			seqnum.Number{CreateSeconds: 0x054321098, ShardIndex: 0x8029},
		},
		{"version 0, another first digit", fromHex("f", "054321098", "00", "ffffffffffffffff", "8029"), seqnum.Number{CreateSeconds: 0x054321098, ShardIndex: 0x8029}},
		{"version 0, a digit more", fromHex("1", "054321098", "00", "ffffffffffffffff", "8029", "f"), seqnum.Number{CreateSeconds: 0x054321098, ShardIndex: 0x8029}},
		{"end of a shard", fromHex("2", "054321098", "0", "7fffffffffffffff", "00", "054321099", "00000000", "2"), seqnum.Number{Version: 2, CreateSeconds: 0x054321098, SeqIx: 1<<63 - 1, Seconds: 0x054321099}},
		{"zero", "0", seqnum.Number{}},
		{"a small literal", "5", seqnum.Number{ShardIndex: 5}},
		{"its low 16 bits", "65541", seqnum.Number{ShardIndex: 5}},
		{"all others", strconv.Itoa(1<<32 | 0xffff), seqnum.Number{ShardIndex: 0xffff}},
		{"unknown bits", fromHex("2", "000000000", "0", "0000000000000000", "ff", "000000000", "00000000", "2"), seqnum.Number{Version: 2}},
		{"another low digit", fromHex("2", "000000000", "f", "0000000000000000", "00", "000000000", "00000000", "2"), seqnum.Number{Version: 2}},
		{"negative index", fromHex("2", "000000000", "0", "0000000000000000", "00", "000000000", "80000000", "2"), seqnum.Number{Version: 2, ShardIndex: -1 << 31}},
		{"last second of creation", fromHex("2", "3bb2cc3d7", "0", "0000000000000000", "00", "000000000", "00000000", "2"), seqnum.Number{Version: 2, CreateSeconds: 16025174999}},
		{"last second of creation, version 0", fromHex("1", "3bb2cc3d7", "0000000000000000000000"), seqnum.Number{CreateSeconds: 16025174999}},
		{"all seconds of creation, version 1", fromHex("2", "fffffffff", "0", "00", "000000000", "00000000000000", "00", "00000000", "1"), seqnum.Number{Version: 1, CreateSeconds: 1<<36 - 1}},
		{"all record times", fromHex("2", "000000000", "0", "0000000000000000", "00", "fffffffff", "00000000", "2"), seqnum.Number{Version: 2, Seconds: 1<<36 - 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, err := seqnum.Parse(row.text)
			require.NoError(t, err)
			require.Equal(t, row.want, n)
		})
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	power := func(bit uint, add int64) string {
		n := new(big.Int).Lsh(big.NewInt(1), bit)
		return n.Add(n, big.NewInt(add)).String()
	}
	const noVersion = "the size of no version"
	for _, row := range []struct{ name, text, want string }{
		{"nothing", "", "it is empty"},
		{"a word", "TRIM_HORIZON", "other characters"},
		{"sign", "-1", "other characters"},
		{"plus", "+1", "other characters"},
		{"space", "1 2", "other characters"},
		{"exponent", "1e5", "other characters"},
		{"fraction", "1.0", "other characters"},
		{"other digits", "٣", "other characters"},
		{"leading zero", "05", "leading zeros"},
		{"zeros", "00", "leading zeros"},
		{"above version 0", power(129, 0), noVersion},
		{"below version 1", power(185, -1), noVersion},
		{"last digit 0", power(185, 0), "its version is 0"},
		{"last digit 3", power(185, 3), "its version is 3"},
		{"above version 2", fromHex("3", strings.Repeat("0", 45), "2"), noVersion},
		{"57 digits", "1" + strings.Repeat("0", 56), noVersion},
		{"129 digits", strings.Repeat("9", 129), noVersion},
		{"creation", fromHex("2", "3bb2cc3d8", "0", "0000000000000000", "00", "000000000", "00000000", "2"), "created at second 16025175000"},
		{"creation, version 0", fromHex("1", "3bb2cc3d8", "0000000000000000000000"), "created at second 16025175000"},
		{"counter", fromHex("2", "000000000", "0", "8000000000000000", "00", "000000000", "00000000", "2"), "its counter is 9223372036854775808"},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, err := seqnum.Parse(row.text)
			require.ErrorIs(t, err, seqnum.ErrInvalid)
			require.ErrorContains(t, err, row.want)
			require.Zero(t, n)
		})
	}
}

func TestShardID(t *testing.T) {
	require.Equal(t, "shardId-000000000000", seqnum.Number{}.ShardID())
	require.Equal(t, "shardId-000000000005", seqnum.Number{ShardIndex: 5}.ShardID())
	require.Equal(t, "shardId-002147483647", seqnum.Number{ShardIndex: 1<<31 - 1}.ShardID())
	require.Equal(t, "shardId--00000000001", seqnum.Number{ShardIndex: -1}.ShardID())
	require.Equal(t, "shardId--02147483648", seqnum.Number{ShardIndex: -1 << 31}.ShardID())
}

func TestOrdering(t *testing.T) {
	now := time.Unix(0x054321099, 999_999_999)
	zeros := strings.Repeat("0", 45)
	at := func(seconds int64, version string) string {
		s := strconv.FormatInt(seconds, 16)
		s = strings.Repeat("0", 9-len(s)) + s
		if version == "1" {
			return fromHex("2", "000000000", "0", "00", s, "00000000000000", "00", "00000000", "1")
		}
		return fromHex("2", "000000000", "0", "0000000000000000", "00", s, "00000000", "2")
	}
	for _, row := range []struct {
		name, text string
		want       bool
	}{
		{"zeros, version 2", fromHex("2", zeros, "2"), true},
		{"zeros, version 1", fromHex("2", zeros, "1"), true},
		{"high bit of the index", fromHex("2", "000000000", "0", "0000000000000000", "00", "000000000", "80000000", "2"), true},
		{"last digit 0", fromHex("2", zeros, "0"), false},
		{"last digit 3", fromHex("2", zeros, "3"), false},
		{"last digit 4", fromHex("2", zeros, "4"), false},
		{"first digit 1", fromHex("1", zeros, "2"), false},
		{"first digit 3", fromHex("3", zeros, "2"), false},
		{"top bit of the counter", fromHex("2", "000000000", "0", "8000000000000000", "00", "000000000", "00000000", "2"), false},
		{"creation", fromHex("2", "fffffffff", "0", "0000000000000000", "00", "000000000", "00000000", "2"), false},
		{"creation, version 0", fromHex("1", "fffffffff", "0000000000000000000000"), false},
		{"now", at(now.Unix(), "2"), true},
		{"future", at(now.Unix()+1, "2"), false},
		{"far future", at(1<<36-1, "2"), false},
		{"now, version 1", at(now.Unix(), "1"), true},
		{"future, version 1", at(now.Unix()+1, "1"), false},
		{"a small literal", "0", true},
		{"no number", "LATEST", false},
		{"nothing", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, row.want, seqnum.ValidForOrdering(row.text, now))
		})
	}
}

// slowly decodes digit by digit, as the layouts are documented.
func slowly(text string) (n seqnum.Number, ok bool) {
	number, ok := new(big.Int).SetString(text, 10)
	if !ok || number.String() != text || number.Sign() < 0 {
		return n, false
	}
	hex := number.Text(16)
	if len(hex) < 32 {
		hex = "1" + strings.Repeat("0", 31-len(hex)) + hex
	}
	field := func(from, to int) uint64 {
		v, err := strconv.ParseUint(hex[from:to], 16, 64)
		if err != nil {
			panic(err)
		}
		return v
	}
	if len(hex) <= 33 && (len(hex) == 32 || hex[0] == '1') {
		n = seqnum.Number{CreateSeconds: int64(field(1, 10)), ShardIndex: int32(field(28, 32))}
		return n, n.CreateSeconds < 16025175000
	}
	if len(hex) != 47 || hex[0] != '2' {
		return n, false
	}
	switch hex[46] {
	case '1':
		return seqnum.Number{Version: 1, CreateSeconds: int64(field(1, 10)), Seconds: int64(field(13, 22)), SeqIx: field(36, 38), ShardIndex: int32(uint32(field(38, 46)))}, true
	case '2':
		n = seqnum.Number{Version: 2, CreateSeconds: int64(field(1, 10)), SeqIx: field(11, 27), Seconds: int64(field(29, 38)), ShardIndex: int32(uint32(field(38, 46)))}
		return n, n.CreateSeconds < 16025175000 && n.SeqIx < 1<<63
	}
	return n, false
}

func FuzzParse(f *testing.F) {
	for _, row := range given {
		f.Add(row.text)
	}
	for _, text := range []string{"", "0", "5", "-1", "05", "1e5", "TRIM_HORIZON", strings.Repeat("9", 56), strings.Repeat("9", 129)} {
		f.Add(text)
	}
	for _, bit := range []uint{16, 123, 124, 125, 128, 129, 184, 185, 186, 192} {
		for add := int64(-2); add <= 2; add++ {
			n := new(big.Int).Lsh(big.NewInt(1), bit)
			f.Add(n.Add(n, big.NewInt(add)).String())
		}
	}
	f.Add(fromHex("2", "054321098", "9", "00", "0abcdef01", "ffffffffffffff", "a7", "00000029", "1"))
	f.Add(fromHex("1", "054321098", "00", "ffffffffffffffff", "8029", "f"))
	f.Fuzz(func(t *testing.T, text string) {
		n, err := seqnum.Parse(text)
		want, ok := slowly(text)
		if !ok {
			require.ErrorIs(t, err, seqnum.ErrInvalid)
			require.False(t, seqnum.ValidForOrdering(text, time.Unix(1<<40, 0)))
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, n)
		require.True(t, seqnum.ValidForOrdering(text, time.Unix(n.Seconds, 0)))
		require.False(t, seqnum.ValidForOrdering(text, time.Unix(n.Seconds, -1)))
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := seqnum.Parse(given[0].text); err != nil {
			b.Fatal(err)
		}
	}
}
