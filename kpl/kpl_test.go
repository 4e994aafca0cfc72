package kpl

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// maxHashKey is 2^128-1, the highest explicit hash key.
const maxHashKey = "340282366920938463463374607431768211455"

// hash reads an explicit hash key.
func hash(digits string) *braid.HashKey {
	key, err := braid.ParseHashKey(digits)
	if err != nil {
		panic(err)
	}
	return &key
}

// join packs the records, whatever their keys are. An aggregate must not have an empty
// message, so an aggregate without records has an unused key.
func join(entries []braid.Entry) []byte {
	if len(entries) == 0 {
		return seal([]byte{aggregatePartitionKey<<3 | wireBytes, 0})
	}
	var a Aggregator
	for _, e := range entries {
		a.add(e)
	}
	return a.AppendAggregate(nil)
}

// seal wraps the message in magic number and MD5.
func seal(message []byte) []byte {
	sum := md5.Sum(message)
	return slices.Concat([]byte(magic), message, sum[:])
}

// unhex decodes hexadecimal digits; spaces are ignored.
func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	require.NoError(t, err)
	return b
}

// sample has every kind of record: with and without an explicit hash key, with
// shared keys, without data.
func sample() []braid.Entry {
	return []braid.Entry{
		{PartitionKey: "a", Data: []byte("one")},
		{PartitionKey: "b", ExplicitHashKey: hash("0"), Data: []byte("two")},
		{PartitionKey: "a", ExplicitHashKey: hash(maxHashKey), Data: []byte{}},
		{PartitionKey: "ключ", ExplicitHashKey: hash("0"), Data: []byte("four")},
	}
}

// The message is written by hand:
//
//	0A 01 61                       partition key 0: "a"
//	12 01 35                       explicit hash key 0: "5"
//	1A 05  08 00  1A 01 78         record: partition key 0, data "x"
//	1A 08  08 00  10 00  1A 02 79 7A   record: both keys 0, data "yz"
//
// and its MD5 is what md5sum says.
const golden = "F3899AC2" +
	"0A 01 61" +
	"12 01 35" +
	"1A 05 08 00 1A 01 78" +
	"1A 08 08 00 10 00 1A 02 79 7A" +
	"bc0c4014892d7a726e95ee51d244acba"

func TestAHandWrittenAggregateIsReadAndWritten(t *testing.T) {
	want := []braid.Entry{
		{PartitionKey: "a", Data: []byte("x")},
		{PartitionKey: "a", ExplicitHashKey: hash("5"), Data: []byte("yz")},
	}
	records, ok := Split(unhex(t, golden))
	require.True(t, ok)
	require.Equal(t, want, records)
	require.Equal(t, unhex(t, golden), join(want))
}

func TestWhatIsJoinedIsSplitAgain(t *testing.T) {
	for _, row := range []struct {
		name    string
		records []braid.Entry
	}{
		{"no record", []braid.Entry{}},
		{"one", []braid.Entry{{PartitionKey: "k", Data: []byte("data")}}},
		{"an empty key and no data", []braid.Entry{{Data: []byte{}}}},
		{"all kinds", sample()},
		{"data longer than a byte can count", []braid.Entry{{PartitionKey: "k", Data: bytes.Repeat([]byte("x"), 70_000)}}},
		{"an aggregate in an aggregate", []braid.Entry{{PartitionKey: "k", Data: join(sample())}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			records, ok := Split(join(row.records))
			require.True(t, ok)
			require.Equal(t, row.records, records)
		})
	}
}

func TestWhatIsJoinedIsSplitAgainForRandomRecords(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		records := make([]braid.Entry, random.IntN(300))
		for i := range records {
			records[i].PartitionKey = fmt.Sprint("key-", random.IntN(200))
			if random.IntN(2) == 0 {
				records[i].ExplicitHashKey = hash(fmt.Sprint(random.Uint64N(200)))
			}
			records[i].Data = make([]byte, random.IntN(200))
			for j := range records[i].Data {
				records[i].Data[j] = byte(random.Uint32())
			}
		}
		got, ok := Split(join(records))
		require.True(t, ok)
		require.Equal(t, records, got)
	}
}

func TestAKeyIsWrittenOnce(t *testing.T) {
	key, number := "a partition key", "123456789"
	var records []braid.Entry
	for range 10 {
		records = append(records, braid.Entry{PartitionKey: key, ExplicitHashKey: hash(number), Data: []byte("x")})
	}
	aggregate := join(records)
	require.Equal(t, 1, bytes.Count(aggregate, []byte(key)))
	require.Equal(t, 1, bytes.Count(aggregate, []byte(number)))
}

func TestDataAliasTheAggregateAndEndWhereTheyEnd(t *testing.T) {
	aggregate := join([]braid.Entry{
		{PartitionKey: "a", Data: []byte("first")},
		{PartitionKey: "a", Data: []byte("second")},
	})
	records, ok := Split(aggregate)
	require.True(t, ok)
	i := bytes.Index(aggregate, []byte("first"))
	require.Same(t, &aggregate[i], &records[0].Data[0])

	before := bytes.Clone(aggregate)
	_ = append(records[0].Data, "overwritten"...)
	require.Equal(t, before, aggregate)
}

func TestAnotherRecordIsNotAnAggregate(t *testing.T) {
	for _, row := range []struct {
		name string
		data []byte
	}{
		{"nothing", nil},
		{"text", []byte("an ordinary record that is long enough to be an aggregate")},
		{"a part of the magic number", []byte(magic[:3])},
		{"the magic number alone", []byte(magic)},
		{"an empty message, as in the KCL", seal(nil)},
		{"another magic number", append([]byte("\xF3\x89\x9A\xC3"), join(sample())[4:]...)},
		{"something after the MD5", append(join(sample()), 0)},
	} {
		t.Run(row.name, func(t *testing.T) {
			requireNone(t, row.data)
		})
	}
}

func requireNone(t *testing.T, data []byte) {
	t.Helper()
	records, ok := Split(data)
	require.False(t, ok)
	require.Nil(t, records)
}

func TestNoTruncatedAggregateIsSplit(t *testing.T) {
	aggregate := join(sample())
	for n := range aggregate {
		requireNone(t, aggregate[:n])
		requireNone(t, aggregate[n+1:])
	}
}

func TestNoAggregateWithAFlippedBitIsSplit(t *testing.T) {
	aggregate := join(sample())
	for i := range 8 * len(aggregate) {
		aggregate[i/8] ^= 1 << (i % 8)
		requireNone(t, aggregate)
		aggregate[i/8] ^= 1 << (i % 8)
	}
}

// message returns the part of an aggregate between magic number and MD5.
func message(aggregate []byte) []byte {
	return bytes.Clone(aggregate[len(magic) : len(aggregate)-md5.Size])
}

// requireConsistent requires that any data either is not an aggregate, or is one whose
// records can be packed again.
func requireConsistent(t *testing.T, data []byte) {
	t.Helper()
	records, ok := Split(data)
	if !ok {
		require.Nil(t, records)
		return
	}
	again, ok := Split(join(records))
	require.True(t, ok)
	require.Equal(t, records, again)
}

func TestNoMessageUnderAGoodMD5IsTooBad(t *testing.T) {
	good := message(join(sample()))
	for i := range good {
		requireConsistent(t, seal(good[:i]))
		requireConsistent(t, seal(good[i:]))
		for value := range 256 {
			bad := bytes.Clone(good)
			bad[i] = byte(value)
			requireConsistent(t, seal(bad))
		}
	}

	random := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		bad := bytes.Clone(good)
		for range 1 + random.IntN(8) {
			i, j := random.IntN(len(bad)), random.IntN(len(bad))
			switch random.IntN(3) {
			case 0:
				bad[i] = byte(random.Uint32())
			case 1:
				bad[i] = bad[j]
			case 2:
				copy(bad[i:], bad[j:])
			}
		}
		requireConsistent(t, seal(bad))
	}
}

func TestWhatIsWellFormedIsRead(t *testing.T) {
	const nines = "FF FF FF FF FF FF FF FF FF"
	x := []braid.Entry{{PartitionKey: "a", Data: []byte("x")}}
	x5 := []braid.Entry{{PartitionKey: "a", ExplicitHashKey: hash("5"), Data: []byte("x")}}
	for _, row := range []struct {
		name    string
		message string
		want    []braid.Entry
	}{
		{"keys without records", "0A 01 61 12 01 35", []braid.Entry{}},
		{"unknown fields alone", "20 01", []braid.Entry{}},
		{"tables after the records", "1A 07 08 00 10 00 1A 01 78 12 01 35 0A 01 61", x5},
		{"the fields of a record in another order", "0A 01 61 12 01 35 1A 07 1A 01 78 10 00 08 00", x5},
		{"the last of several values", "0A 01 61 1A 0A 08 09 1A 01 79 08 00 1A 01 78", x},
		{"a number longer than need be", "0A 01 61 1A 07 08 80 80 00 1A 01 78", x},
		{"leading zeros of a hash key", "0A 01 61 12 03 30 30 35 1A 07 08 00 10 00 1A 01 78", x5},
		{"a hash key of zeros", "0A 01 61 12 03 30 30 30 1A 07 08 00 10 00 1A 01 78", []braid.Entry{{PartitionKey: "a", ExplicitHashKey: hash("0"), Data: []byte("x")}}},

		{"a tag", "0A 01 61 1A 0A 08 00 1A 01 78 22 03 0A 01 6B", x},
		{"a tag with a value", "0A 01 61 1A 0D 08 00 1A 01 78 22 06 0A 01 6B 12 01 76", x},
		{"a tag with an unknown field", "0A 01 61 1A 0C 08 00 1A 01 78 22 05 0A 01 6B 18 07", x},
		{"two tags before the data", "0A 01 61 1A 0F 22 03 0A 01 6B 22 03 0A 01 6B 08 00 1A 01 78", x},

		{"an unknown varint", "20 " + nines + " 01 0A 01 61 1A 05 08 00 1A 01 78", x},
		{"an unknown fixed64", "21 01 02 03 04 05 06 07 08 0A 01 61 1A 05 08 00 1A 01 78", x},
		{"an unknown string", "0A 01 61 22 02 FF FE 1A 05 08 00 1A 01 78", x},
		{"an unknown group", "0A 01 61 23 0A 01 62 2B 1A 00 2C 24 1A 05 08 00 1A 01 78", x},
		{"an unknown fixed32", "0A 01 61 1A 05 08 00 1A 01 78 25 01 02 03 04", x},
		{"an unknown field of the highest number", "F8 FF FF FF 0F 01 0A 01 61 1A 05 08 00 1A 01 78", x},
		{"an unknown varint in a record", "0A 01 61 1A 07 28 01 08 00 1A 01 78", x},
		{"an unknown fixed64 in a record", "0A 01 61 1A 0E 08 00 29 01 02 03 04 05 06 07 08 1A 01 78", x},
		{"an unknown string in a record", "0A 01 61 1A 08 08 00 2A 01 07 1A 01 78", x},
		{"an unknown group in a record", "0A 01 61 1A 09 08 00 2B 08 07 2C 1A 01 78", x},
		{"an unknown fixed32 in a record", "0A 01 61 1A 0A 08 00 1A 01 78 2D 01 02 03 04", x},
		{"groups as deep as allowed", strings.Repeat("23", maxDepth) + strings.Repeat("24", maxDepth) + "0A 01 61 1A 05 08 00 1A 01 78", x},
	} {
		t.Run(row.name, func(t *testing.T) {
			records, ok := Split(seal(unhex(t, row.message)))
			require.True(t, ok)
			require.Equal(t, row.want, records)
		})
	}
}

func TestWhatIsMalformedIsNotRead(t *testing.T) {
	const nines = "FF FF FF FF FF FF FF FF FF"
	// Each row alone is malformed; a good record before it is not returned.
	const good = "0A 01 61 12 01 35 1A 05 08 00 1A 01 78"
	for _, row := range []struct {
		name    string
		message string
	}{
		{"a partition key as varint", "08 00"},
		{"a partition key as group", "0B 0C"},
		{"a hash key as varint", "10 00"},
		{"a hash key as fixed64", "11 31 31 31 31 31 31 31 31"},
		{"a record as varint", "18 00"},
		{"a record as fixed32", "1D 00 00 00 00"},
		{"an index of a partition key as string", "1A 06 0A 01 00 1A 01 78"},
		{"an index of a partition key as fixed32", "1A 08 0D 00 00 00 00 1A 01 78"},
		{"an index of a hash key as string", "1A 08 08 00 12 01 00 1A 01 78"},
		{"data as varint", "1A 04 08 00 18 00"},
		{"a tag as varint", "1A 07 08 00 1A 01 78 20 00"},

		{"a record of nothing", "1A 00"},
		{"a record without partition key", "1A 03 1A 01 78"},
		{"a record without data", "1A 02 08 00"},
		{"a tag of nothing", "1A 07 08 00 1A 01 78 22 00"},
		{"a tag without key", "1A 0A 08 00 1A 01 78 22 03 12 01 76"},
		{"the key of a tag as varint", "1A 09 08 00 1A 01 78 22 02 08 00"},
		{"the value of a tag as varint", "1A 0C 08 00 1A 01 78 22 05 0A 01 6B 10 00"},
		{"a tag longer than its record", "1A 0A 08 00 1A 01 78 22 04 0A 01 6B"},

		{"a partition key out of range", "1A 05 08 01 1A 01 78"},
		{"a partition key far out of range", "1A 0E 08 " + nines + " 01 1A 01 78"},
		{"a hash key out of range", "1A 07 08 00 10 01 1A 01 78"},
		{"a hash key far out of range", "1A 10 08 00 10 " + nines + " 01 1A 01 78"},

		{"a partition key that is not UTF-8", "0A 01 FF"},
		{"an empty hash key", "12 00"},
		{"a hash key with a sign", "12 02 2B 35"},
		{"a negative hash key", "12 02 2D 35"},
		{"a hash key in hexadecimal digits", "12 01 61"},
		{"a hash key with a space", "12 02 20 35"},
		{"a hash key of 2^128", "12 27" + hex.EncodeToString([]byte("340282366920938463463374607431768211456"))},
		{"a hash key of 40 digits", "12 28" + strings.Repeat("31", 40)},

		{"a tag cut off", "9A"},
		{"field number 0", "02 01 61"},
		{"a field number too high", "80 80 80 80 10 01"},
		{"wire type 6", "26"},
		{"wire type 7", "27 00"},
		{"a length cut off", "0A"},
		{"a length greater than what is left", "0A 02 61"},
		{"a length greater than all memory", "0A " + nines + " 01 61"},
		{"a varint of more than ten bytes", "20 80 80 80 80 80 80 80 80 80 80 00"},
		{"a varint of more than 64 bits", "20 " + nines + " 02"},
		{"a varint cut off", "20 FF"},
		{"a fixed64 cut off", "21 01 02 03 04 05 06 07"},
		{"a fixed32 cut off", "25 01 02 03"},
		{"the end of no group", "24"},
		{"a group without end", "23 08 00"},
		{"a group with another's end", "23 2C"},
		{"groups that overlap", "23 2B 24 2C"},
		{"groups that are too deep", strings.Repeat("23", maxDepth+1) + strings.Repeat("24", maxDepth+1)},
		{"a group that ends outside its record", "1A 06 08 00 1A 01 78 2B 2C"},
	} {
		t.Run(row.name, func(t *testing.T) {
			requireNone(t, seal(unhex(t, good+row.message)))
		})
	}
}

func TestTheHighestHashKeyIsReadAndTheNextIsNot(t *testing.T) {
	records := []braid.Entry{{ExplicitHashKey: hash(maxHashKey), Data: []byte{}}}
	got, ok := Split(join(records))
	require.True(t, ok)
	require.Equal(t, records, got)

	above := maxHashKey[:len(maxHashKey)-1] + "6"
	requireNone(t, seal(bytes.ReplaceAll(message(join(records)), []byte(maxHashKey), []byte(above))))
}

func TestMemoryIsInProportionToTheAggregate(t *testing.T) {
	const size = 1 << 20
	for _, row := range []struct {
		name, head, unit string
	}{
		{"the smallest records", "0A 00", "1A 04 08 00 1A 00"},
		{"the smallest records, all malformed", "0A 00", "1A 00"},
		{"the smallest partition keys", "", "0A 00"},
		{"the smallest hash keys", "", "12 01 30"},
		{"groups", "", "23 24"},
		{"groups that only start", "", "23"},
		{"a length that lies", "0A FF FF FF FF FF FF FF FF FF 01", "00"},
	} {
		t.Run(row.name, func(t *testing.T) {
			unit := unhex(t, row.unit)
			data := seal(append(unhex(t, row.head), bytes.Repeat(unit, size/len(unit))...))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			Split(data)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64*len(data)))
		})
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte{})
	f.Add(unhex(f, golden))
	f.Add(join(nil))
	f.Add(join(sample()))
	f.Add(message(join(sample())))
	f.Add(unhex(f, "0A 01 61 23 0A 01 62 2B 1A 00 2C 24 1A 0A 08 00 1A 01 78 22 03 0A 01 6B"))
	f.Fuzz(func(t *testing.T, data []byte) {
		requireConsistent(t, data)
		// The fuzzer cannot find MD5s, so the test adds them.
		requireConsistent(t, seal(data))
	})
}

func BenchmarkSplit(b *testing.B) {
	records := make([]braid.Entry, 100)
	for i := range records {
		records[i] = braid.Entry{PartitionKey: fmt.Sprint("key-", i%10), Data: bytes.Repeat([]byte{byte(i)}, 100)}
	}
	aggregate := join(records)
	b.SetBytes(int64(len(aggregate)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Split(aggregate); !ok {
			b.Fatal("not an aggregate")
		}
	}
}
