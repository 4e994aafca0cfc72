package kpl

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestTheSizeIsKnownBeforehandToTheByte(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var a Aggregator
	for round := range 100 {
		a.Reset()
		require.Zero(t, a.Len())
		var entries []braid.Entry
		for range 1 + random.IntN(300) { // more than 127, so that indices take two bytes
			e := braid.Entry{
				PartitionKey: strings.Repeat("ключ", 1+random.IntN(40)) + fmt.Sprint(random.IntN(250)),
				Data:         bytes.Repeat([]byte{byte(round)}, random.IntN(300)),
			}
			if random.IntN(2) == 0 {
				e.ExplicitHashKey = hash(strings.Repeat("7", 1+random.IntN(38)))
			}
			want := a.SizeWith(e)
			require.NoError(t, a.Add(e))
			require.Equal(t, want, a.Size())
			entries = append(entries, e)
		}
		aggregate := a.AppendAggregate([]byte("before"))
		require.Len(t, aggregate, len("before")+a.Size())
		require.Equal(t, len(entries), a.Len())
		got, ok := Split(aggregate[len("before"):])
		require.True(t, ok)
		require.Equal(t, entries, got)
	}
}

func TestACarrierGoesToTheShardOfItsRecords(t *testing.T) {
	plain := braid.Entry{PartitionKey: "customer", Data: []byte("one")}
	explicit := braid.Entry{PartitionKey: "customer", ExplicitHashKey: hash("77"), Data: []byte("two")}
	t.Run("which is that of the first", func(t *testing.T) {
		for _, first := range []braid.Entry{plain, explicit} {
			var a Aggregator
			require.NoError(t, a.Add(first))
			require.NoError(t, a.Add(plain))
			carrier := a.Carrier()
			require.Equal(t, "a", carrier.PartitionKey)
			require.Equal(t, first.HashKey(), *carrier.ExplicitHashKey)
			got, ok := Split(carrier.Data)
			require.True(t, ok)
			require.Equal(t, []braid.Entry{first, plain}, got)
		}
	})
	t.Run("and a single record is its own", func(t *testing.T) {
		for _, only := range []braid.Entry{plain, explicit, {PartitionKey: "no data", Data: []byte{}}} {
			var a Aggregator
			require.NoError(t, a.Add(plain))
			a.Reset()
			require.NoError(t, a.Add(only))
			require.Equal(t, only, a.Carrier())
		}
	})
	t.Run("unless it would be taken apart", func(t *testing.T) {
		inner := braid.Entry{PartitionKey: "customer", Data: join([]braid.Entry{plain, explicit})}
		var a Aggregator
		require.NoError(t, a.Add(inner))
		got, ok := Split(a.Carrier().Data)
		require.True(t, ok)
		require.Equal(t, []braid.Entry{inner}, got)
	})
}

func TestAddCopiesTheData(t *testing.T) {
	data := []byte("as it was added")
	var a Aggregator
	require.NoError(t, a.Add(braid.Entry{PartitionKey: "k", Data: data}))
	clear(data)
	carrier := a.Carrier()
	require.Equal(t, "as it was added", string(carrier.Data))
	a.Reset()
	require.NoError(t, a.Add(braid.Entry{PartitionKey: "k", Data: []byte("something else!")}))
	require.Equal(t, "as it was added", string(carrier.Data))
}

func TestAddRefusesKeysThatNoStreamTakes(t *testing.T) {
	var a Aggregator
	require.NoError(t, a.Add(braid.Entry{PartitionKey: strings.Repeat("ü", 256)}))
	before := a.AppendAggregate(nil)
	for _, key := range []string{"", strings.Repeat("ü", 257), "\xff"} {
		err := a.Add(braid.Entry{PartitionKey: key})
		require.ErrorIs(t, err, braid.ErrInvalidArgument)
		require.ErrorContains(t, err, "must be 1 to 256 characters of UTF-8")
		require.Equal(t, before, a.AppendAggregate(nil))
		require.Equal(t, 1, a.Len())
	}
}

func TestPackingAllocatesNothingOnceItHasRoom(t *testing.T) {
	var a Aggregator
	e := braid.Entry{PartitionKey: "customer", Data: make([]byte, 100)}
	dst := make([]byte, 0, 10_000)
	pack := func() {
		a.Reset()
		for range 50 {
			if a.SizeWith(e) > cap(dst) || a.Add(e) != nil {
				t.Fatal("it does not fit")
			}
		}
		dst = a.AppendAggregate(dst[:0])
	}
	pack()
	require.Zero(t, testing.AllocsPerRun(100, pack))
}

func ExampleAggregator() {
	var a Aggregator
	for _, e := range []braid.Entry{
		{PartitionKey: "customer-1", Data: []byte("ordered")},
		{PartitionKey: "customer-1", Data: []byte("paid")},
	} {
		if a.Len() > 0 && a.SizeWith(e) > 50<<10 {
			break // put a.Carrier() and Reset before the next
		}
		if err := a.Add(e); err != nil {
			fmt.Println(err)
			return
		}
	}
	carrier := a.Carrier()
	fmt.Println(len(carrier.Data), "bytes, as Size says:", a.Size())

	records, _ := Split(carrier.Data)
	for _, r := range records {
		fmt.Printf("%s %s\n", r.PartitionKey, r.Data)
	}
	// Output:
	// 55 bytes, as Size says: 55
	// customer-1 ordered
	// customer-1 paid
}

func BenchmarkAggregator(b *testing.B) {
	entries := make([]braid.Entry, 100)
	for i := range entries {
		entries[i] = braid.Entry{PartitionKey: fmt.Sprint("key-", i%10), Data: bytes.Repeat([]byte{byte(i)}, 100)}
	}
	var a Aggregator
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		a.Reset()
		for _, e := range entries {
			if a.SizeWith(e) > 1<<20 || a.Add(e) != nil {
				b.Fatal("it does not fit")
			}
		}
		dst = a.AppendAggregate(dst[:0])
	}
	b.SetBytes(int64(len(dst)))
}
