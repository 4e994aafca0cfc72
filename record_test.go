package braid_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestPartitionKeysAreOneTo256Characters(t *testing.T) {
	db, stream := boxStream(t, 3)
	for _, key := range []string{
		"a", "\x00", " ", "\n", "\uFFFD", strings.Repeat("k", 256),
		strings.Repeat("é", 256), strings.Repeat("界", 256), strings.Repeat("😀", 256), // 2, 3 and 4 bytes each
	} {
		result, err := stream.PutRecord(t.Context(), key, []byte("data"))
		require.NoError(t, err)
		sh, err := stream.Shard(result.ShardID)
		require.NoError(t, err)
		page, err := sh.GetRecords(t.Context(), braid.AtSequence(result.SequenceNumber), nil)
		require.NoError(t, err)
		require.Len(t, page.Records, 1)
		require.Equal(t, key, page.Records[0].PartitionKey)
		require.True(t, sh.HashKeyRange().Contains(braid.HashKeyOf(key)))
	}
	before := stream.Describe()
	for _, key := range []string{"", strings.Repeat("k", 257), strings.Repeat("é", 257), "\xff", "a\xc3", "\xed\xa0\x80", strings.Repeat("k", 100_000)} {
		_, err := stream.PutRecord(t.Context(), key, nil)
		invalid := boxInvalid(t, err, "PartitionKey")
		require.Less(t, len(fmt.Sprint(invalid.Value)), 300, "a long value is shortened")
		_, err = stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "good"}, {PartitionKey: key}})
		boxInvalid(t, err, "Entries[1].PartitionKey")
		err = db.Update(t.Context(), func(tx *braid.Tx) error { return tx.PutRecord("s", key, nil) })
		boxInvalid(t, err, "PartitionKey")
	}
	require.Equal(t, before, stream.Describe(), "nothing happened")
}

func TestDataMayBeEmptyAndAsLargeAsTheStreamAllows(t *testing.T) {
	db := boxOpen(t, &braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, MaxTxBytes: 16 << 20})
	for _, most := range []int{1, 1 << 20, 10 << 20} {
		name := fmt.Sprint("s", most)
		stream, err := db.CreateStream(t.Context(), name, &braid.StreamOptions{MaxRecordBytes: most})
		require.NoError(t, err)
		largest := bytes.Repeat([]byte{0xa5}, most)
		longKey := strings.Repeat("界", 256) // does not count toward MaxRecordBytes
		for _, data := range [][]byte{nil, {}, largest[:most-1], largest} {
			_, err := stream.PutRecord(t.Context(), longKey, data)
			require.NoError(t, err)
		}
		_, err = stream.PutRecord(t.Context(), "key", append(largest, 0))
		boxInvalid(t, err, "Data")
		_, err = stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "key"}, {PartitionKey: "key"}, {PartitionKey: "key", Data: append(largest, 0)}})
		boxInvalid(t, err, "Entries[2].Data")
		err = db.Update(t.Context(), func(tx *braid.Tx) error { return tx.PutRecord(name, "key", append(largest, 0)) })
		boxInvalid(t, err, "Data")

		var sizes []int
		for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			require.True(t, bytes.Equal(rec.Data, largest[:len(rec.Data)]))
			sizes = append(sizes, len(rec.Data))
		}
		require.Equal(t, []int{0, 0, most - 1, most}, sizes)
	}
}

func TestACallOfPutRecordsTakes16MiB(t *testing.T) {
	db := boxOpen(t, &braid.Options{MemtableBytes: 1 << 20})
	stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{MaxRecordBytes: 8 << 20})
	require.NoError(t, err)
	data := make([]byte, 8<<20)
	_, err = stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "k", Data: data[1:]}, {PartitionKey: "k", Data: data}})
	boxInvalid(t, err, "Entries")
	require.Zero(t, stream.Describe().Records)
	_, err = stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "k", Data: data[1:]}, {PartitionKey: "k", Data: data[1:]}})
	require.NoError(t, err)
	require.EqualValues(t, 16<<20, stream.Describe().Bytes)

	results, err := stream.PutRecords(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, results)
}

// The vectors are Kinesis's.
func TestRecordsGoToTheShardThatHoldsTheMD5OfTheirKey(t *testing.T) {
	_, stream := boxStream(t, 3)
	for key, shard := range map[string]braid.ShardID{
		"a": "shardId-000000000000",
		"b": "shardId-000000000001",
		"e": "shardId-000000000002",
		"f": "shardId-000000000001",
	} {
		result, err := stream.PutRecord(t.Context(), key, nil)
		require.NoError(t, err)
		require.Equal(t, shard, result.ShardID)
		require.Equal(t, shard, result.SequenceNumber.ShardID())
		sh, err := stream.Shard(shard)
		require.NoError(t, err)
		require.True(t, sh.HashKeyRange().Contains(braid.HashKeyOf(key)))
	}
	require.Equal(t, "16955237001963240173058271559858726497", braid.HashKeyOf("a").String()) // md5 0cc175b9…
}

func TestAnExplicitHashKeyChoosesTheShardAtEveryBorder(t *testing.T) {
	db, stream := boxStream(t, 3)
	for text, shard := range map[string]int{
		"0": 0,
		"113427455640312821154458202477256070484": 0,
		"113427455640312821154458202477256070485": 1,
		"226854911280625642308916404954512140969": 1,
		"226854911280625642308916404954512140970": 2,
		"340282366920938463463374607431768211455": 2,
	} {
		entry := braid.Entry{PartitionKey: "a", ExplicitHashKey: hashKey(t, text), Data: []byte(text)}
		results, err := stream.PutRecords(t.Context(), []braid.Entry{entry})
		require.NoError(t, err)
		require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error { return tx.PutEntry("s", entry) }))
		sh := stream.Shards()[shard]
		require.Equal(t, sh.ID(), results[0].ShardID)
		n := 0
		for rec, err := range sh.Records(t.Context(), braid.AtSequence(results[0].SequenceNumber)) {
			require.NoError(t, err)
			require.Equal(t, "a", rec.PartitionKey)
			require.Equal(t, text, rec.ExplicitHashKey.String())
			n++
		}
		require.Equal(t, 2, n)
	}
}

func TestHashKeysAreDecimalNumbersOf128Bits(t *testing.T) {
	for _, text := range []string{"0", "1", "340282366920938463463374607431768211455"} {
		k, err := braid.ParseHashKey(text)
		require.NoError(t, err)
		require.Equal(t, text, k.String())
	}
	for _, text := range []string{"", "-1", "+1", "01", "00", " 1", "1.0", "1e3", "0x1", "340282366920938463463374607431768211456", strings.Repeat("9", 10_000)} {
		_, err := braid.ParseHashKey(text)
		boxInvalid(t, err, "HashKey")
		k := braid.MaxHashKey()
		boxInvalid(t, k.UnmarshalText([]byte(text)), "HashKey")
	}
}

func TestHashKeysFollowEachOther(t *testing.T) {
	for text, want := range map[string]string{
		"0":                    "1",
		"9":                    "10",
		"18446744073709551615": "18446744073709551616", // 2^64
		"340282366920938463463374607431768211454": "340282366920938463463374607431768211455",
	} {
		k, err := braid.ParseHashKey(text)
		require.NoError(t, err)
		next, ok := k.Next()
		require.True(t, ok, text)
		require.Equal(t, want, next.String())
	}
	next, ok := braid.MaxHashKey().Next()
	require.False(t, ok)
	require.Zero(t, next)

	_, stream := boxStream(t, 7)
	shards := stream.Shards()
	for i, sh := range shards[1:] {
		next, ok := shards[i].HashKeyRange().End.Next()
		require.True(t, ok)
		require.Equal(t, sh.HashKeyRange().Start, next)
	}
}

// Every figure in bytes is the sum of the records' sizes.
func TestSizesOfRecordsAreWhatFiguresCount(t *testing.T) {
	db, stream := boxStream(t, 1)
	explicit := braid.MaxHashKey()
	entries := []braid.Entry{
		{PartitionKey: "k"},
		{PartitionKey: "ключ", Data: []byte("four letters of two bytes each")},
		{PartitionKey: "explicit", ExplicitHashKey: &explicit, Data: make([]byte, 1000)},
	}
	total := 0
	for i, size := range []int{1, 8 + 30, 8 + 1000} {
		require.Equal(t, size, entries[i].Size())
		total += size
	}
	_, err := stream.PutRecords(t.Context(), entries)
	require.NoError(t, err)

	sh := stream.Shards()[0]
	page, err := sh.GetRecords(t.Context(), braid.TrimHorizon(), nil)
	require.NoError(t, err)
	require.Len(t, page.Records, len(entries))
	behind := total
	for i := range page.Records {
		rec := &page.Records[i]
		require.Equal(t, entries[i].Size(), rec.Size())
		behind -= rec.Size()
		page, err := sh.GetRecords(t.Context(), braid.TrimHorizon(), &braid.GetRecordsOptions{Limit: i + 1})
		require.NoError(t, err)
		require.EqualValues(t, behind, page.BehindBytes)
	}
	require.EqualValues(t, total, stream.Describe().Bytes)
	require.EqualValues(t, total, db.Metrics().BytesPut)
}

func TestPutRecordsStoresAllOrNoneInOrder(t *testing.T) {
	_, stream := boxStream(t, 4)
	var entries []braid.Entry
	for i := range 1000 {
		entries = append(entries, braid.Entry{PartitionKey: fmt.Sprint("key-", i%17), Data: fmt.Append(nil, i)})
	}
	bad := append(append([]braid.Entry{}, entries...), braid.Entry{})
	_, err := stream.PutRecords(t.Context(), bad)
	boxInvalid(t, err, "Entries[1000].PartitionKey")
	require.Zero(t, stream.Describe().Records)

	results, err := stream.PutRecords(t.Context(), entries)
	require.NoError(t, err)
	require.Len(t, results, len(entries))
	i := 0
	for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		require.Equal(t, entries[i].PartitionKey, rec.PartitionKey)
		require.Equal(t, entries[i].Data, rec.Data)
		require.Equal(t, results[i], braid.PutResult{ShardID: rec.ShardID, SequenceNumber: rec.SequenceNumber, Encrypted: rec.Encrypted})
		require.Equal(t, rec.ArrivalTime.Unix(), rec.SequenceNumber.Time().Unix())
		i++
	}
	require.Equal(t, len(entries), i)
}

// boxReaders runs a test with records in the tail, and with records in the store.
func boxReaders(t *testing.T, test func(t *testing.T, db *braid.DB, stream *braid.Stream)) {
	for name, options := range map[string]*braid.Options{
		"from memory": nil,
		"from store":  {TailBytes: -1, CacheBytes: -1},
	} {
		t.Run(name, func(t *testing.T) {
			db := boxOpen(t, options)
			test(t, db, boxOpenStream(t, db, "s", 1))
		})
	}
}

func TestWhatIsGivenToAPutIsCopied(t *testing.T) {
	boxReaders(t, func(t *testing.T, db *braid.DB, stream *braid.Stream) {
		data := []byte("data of one")
		_, err := stream.PutRecord(t.Context(), "key", data)
		require.NoError(t, err)
		copy(data, "MANGLED BYTES")
		data = []byte("data of two")
		hash := *hashKey(t, "7")
		_, err = stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "key", ExplicitHashKey: &hash, Data: data}})
		require.NoError(t, err)
		copy(data, "MANGLED BYTES")
		hash = braid.MaxHashKey()
		data = []byte("data of three")
		hash2 := *hashKey(t, "8")
		require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
			if err := tx.PutEntry("s", braid.Entry{PartitionKey: "key", ExplicitHashKey: &hash2, Data: data}); err != nil {
				return err
			}
			copy(data, "MANGLED BYTES")
			hash2 = braid.MaxHashKey()
			return nil
		}))
		var hashes []string
		for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			if rec.ExplicitHashKey != nil {
				hashes = append(hashes, rec.ExplicitHashKey.String())
			}
		}
		require.Equal(t, []string{"7", "8"}, hashes)
		require.Equal(t, []string{"data of one", "data of two", "data of three"}, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
	})
}

// Records may be kept: nothing that happens later changes them.
func TestARecordOwnsItsMemory(t *testing.T) {
	boxReaders(t, func(t *testing.T, db *braid.DB, stream *braid.Stream) {
		const n = 5000 // several pages of an iterator
		entries := make([]braid.Entry, n)
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: fmt.Sprint("key-", i), Data: fmt.Appendf(nil, "data-%d", i), ExplicitHashKey: hashKey(t, fmt.Sprint(i))}
		}
		_, err := stream.PutRecords(t.Context(), entries)
		require.NoError(t, err)
		var kept []braid.Record
		for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			require.Equal(t, len(rec.Data), cap(rec.Data), "appending to one record must not reach the next")
			kept = append(kept, rec)
		}
		boxFill(t, stream, 1000, 1000)
		boxAll(t, stream.Records(t.Context(), braid.TrimHorizon()))
		require.NoError(t, db.DeleteStream(t.Context(), "s"))
		require.NoError(t, db.Close())
		require.Len(t, kept, n)
		for i, rec := range kept {
			require.Equal(t, entries[i].PartitionKey, rec.PartitionKey)
			require.Equal(t, entries[i].Data, rec.Data)
			require.Equal(t, *entries[i].ExplicitHashKey, *rec.ExplicitHashKey)
		}
	})
}

func TestArrivalTimesAreTheClocksAndNeverEqualInADatabase(t *testing.T) {
	_, stream := boxStream(t, 4)
	start := time.Now()
	boxFill(t, stream, 1000, 10)
	boxFill(t, stream, 1000, 10)
	end := time.Now().Add(2 * time.Microsecond) // a nanosecond for each record of a call
	seen := make(map[int64]bool)
	for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		require.False(t, rec.ArrivalTime.Before(start.Truncate(0)))
		require.False(t, rec.ArrivalTime.After(end))
		seen[rec.ArrivalTime.UnixNano()] = true
	}
	require.Len(t, seen, 2000)
}

func TestHashKeyOfAnEntry(t *testing.T) {
	e := braid.Entry{PartitionKey: "customer"}
	require.Equal(t, braid.HashKeyOf("customer"), e.HashKey())
	explicit := braid.MaxHashKey()
	e.ExplicitHashKey = &explicit
	require.Equal(t, explicit, e.HashKey())
}
