package wire

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func putRecords(n, size int) *putRecordsInput {
	r := rand.New(rand.NewPCG(7, 8))
	in := &putRecordsInput{StreamName: new("orders")}
	for i := range n {
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		in.Records = append(in.Records, PutRecordsRequestEntry{Data: data, PartitionKey: new(fmt.Sprintf("customer-%08d", i))})
	}
	return in
}

func getRecords(n, size int) *getRecordsOutput {
	out := &getRecordsOutput{NextShardIterator: new("AAAA"), MillisBehindLatest: 5}
	for i, r := range putRecords(n, size).Records {
		out.Records = append(out.Records, record{
			ApproximateArrivalTimestamp: new(time.UnixMilli(1459799926480 + int64(i)).UTC()),
			Data:                        r.Data,
			PartitionKey:                r.PartitionKey,
			SequenceNumber:              new(fmt.Sprintf("495444985104396670%038d", i)),
		})
	}
	return out
}

// A request is parsed, bound and validated.
func BenchmarkParsePutRecords(b *testing.B) {
	in := putRecords(500, 1024)
	for _, format := range []struct {
		name  string
		body  []byte
		parse func([]byte) (Value, error)
	}{
		{"json", AppendJSON(nil, in), ParseJSON},
		{"cbor", AppendCBOR(nil, in), ParseCBOR},
	} {
		b.Run(format.name, func(b *testing.B) {
			b.SetBytes(int64(len(format.body)))
			b.ReportAllocs()
			for b.Loop() {
				v, err := format.parse(format.body)
				require.NoError(b, err)
				var in putRecordsInput
				require.NoError(b, Bind(v, &in))
				require.Empty(b, Validate(&in))
			}
		})
		b.Run(format.name+"/same memory", func(b *testing.B) {
			b.SetBytes(int64(len(format.body)))
			b.ReportAllocs()
			var memory Memory
			for b.Loop() {
				v, err := format.parse(format.body)
				require.NoError(b, err)
				var in putRecordsInput
				require.NoError(b, memory.Bind(v, &in))
				require.Empty(b, Validate(&in))
			}
		})
	}
	b.Run("json/parse only", func(b *testing.B) {
		body := AppendJSON(nil, in)
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			_, err := ParseJSON(body)
			require.NoError(b, err)
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		body := AppendJSON(nil, in)
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var in putRecordsInput
			require.NoError(b, json.Unmarshal(body, &in))
		}
	})
}

func BenchmarkAppendGetRecords(b *testing.B) {
	for _, size := range []int{100, 1024} {
		out := getRecords(10_000, size)
		var buf []byte
		for _, format := range []struct {
			name   string
			append func([]byte, any) []byte
		}{{"json", AppendJSON}, {"cbor", AppendCBOR}} {
			b.Run(fmt.Sprintf("%d bytes/%s", size, format.name), func(b *testing.B) {
				b.SetBytes(int64(len(format.append(nil, out))))
				b.ReportAllocs()
				for b.Loop() {
					buf = format.append(buf[:0], out)
				}
			})
		}
		b.Run(fmt.Sprintf("%d bytes/encoding/json", size), func(b *testing.B) {
			b.SetBytes(int64(len(AppendJSON(nil, out))))
			b.ReportAllocs()
			for b.Loop() {
				_, err := json.Marshal(out)
				require.NoError(b, err)
			}
		})
	}
}
