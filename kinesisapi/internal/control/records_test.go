package control_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/calltest"
)

type peeked struct {
	Records []struct {
		ShardID        string
		SequenceNumber string
		PartitionKey   string
		ArrivalTime    time.Time
		Encrypted      bool
		Data           []byte
		Text           *string
	}
	More bool
}

func (k *kit) peek(query string) (p peeked, texts []string) {
	k.t.Helper()
	k.do("GET", "streams/orders/records"+query, "", http.StatusOK, &p)
	for _, r := range p.Records {
		texts = append(texts, *r.Text)
	}
	return p, texts
}

// numbers returns the numbers from..to-1 as texts.
func numbers(from, to int) (texts []string) {
	for i := from; i < to; i++ {
		texts = append(texts, strconv.Itoa(i))
	}
	return texts
}

func TestPeek(t *testing.T) {
	// In the bubble many records arrive at the same time, and others hours later.
	for _, pause := range []time.Duration{0, time.Nanosecond, time.Millisecond, 5 * time.Minute} {
		t.Run(pause.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, nil)
				k.create(k.kinesis, "orders", 3)
				p, texts := k.peek("?order=newest")
				require.Empty(t, texts)
				require.False(t, p.More)
				for i := range 200 {
					require.NoError(t, k.put("orders", strconv.Itoa(i%7), strconv.Itoa(i)))
					time.Sleep(pause)
				}

				p, texts = k.peek("")
				require.Equal(t, numbers(0, 100), texts)
				require.True(t, p.More)
				p, texts = k.peek("?after=" + p.Records[99].SequenceNumber)
				require.Equal(t, numbers(100, 200), texts)
				require.False(t, p.More)
				p, texts = k.peek("?limit=7&order=newest")
				require.Equal(t, numbers(193, 200), texts)
				require.True(t, p.More)
				p, texts = k.peek("?limit=200&order=newest")
				require.Equal(t, numbers(0, 200), texts)
				require.False(t, p.More)

				all, _ := k.peek("?limit=1000&shard=shardId-000000000001")
				require.NotEmpty(t, all.Records)
				for _, r := range all.Records {
					require.Equal(t, "shardId-000000000001", r.ShardID)
				}
				last, _ := k.peek("?limit=3&order=newest&shard=1")
				require.Equal(t, all.Records[len(all.Records)-3:], last.Records)
			})
		})
	}
}

// Reading records here moves no reader, and is not counted against a throughput.
func TestPeekIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		k.do("PUT", "limits", `{"exact":true}`, http.StatusOK, nil)
		k.create(k.kinesis, "orders", 1)
		require.NoError(t, k.put("orders", "a", "hello"))
		for range 20 {
			_, texts := k.peek("?order=newest&limit=1")
			require.Equal(t, []string{"hello"}, texts)
		}
		var got struct{ Records []any }
		k.call("GetRecords", calltest.Object{"ShardIterator": k.iterator()}, &got)
		require.Len(t, got.Records, 1)
	})
}

func TestPeekData(t *testing.T) {
	k := newKit(t, nil)
	k.create(k.kinesis, "orders", 1)
	require.NoError(t, k.put("orders", "a", "grün"))
	require.NoError(t, k.put("orders", "a", "\xff"))
	k.call("StartStreamEncryption", calltest.Object{"StreamName": "orders", "KeyId": "key", "EncryptionType": "KMS"}, nil)
	stream, err := k.db.Stream("orders")
	require.NoError(t, err)
	_, err = stream.PutRecord(t.Context(), "a", nil)
	require.NoError(t, err)

	var p peeked
	k.do("GET", "streams/orders/records", "", http.StatusOK, &p)
	require.Len(t, p.Records, 3)
	require.Equal(t, "grün", *p.Records[0].Text)
	require.Equal(t, []byte("grün"), p.Records[0].Data)
	require.False(t, p.Records[0].Encrypted)
	require.Nil(t, p.Records[1].Text)
	require.Equal(t, []byte{0xff}, p.Records[1].Data)
	require.Empty(t, *p.Records[2].Text)
	require.NotNil(t, p.Records[2].Data)
	require.True(t, p.Records[2].Encrypted)
}

// The bytes of data also limit an answer.
func TestPeekLarge(t *testing.T) {
	k := newKit(t, nil)
	stream, err := k.db.CreateStream(t.Context(), "orders", &braid.StreamOptions{MaxRecordBytes: 10 << 20})
	require.NoError(t, err)
	for i, size := range []int{4<<20 + 1, 4 << 20, 1} {
		_, err := stream.PutRecord(t.Context(), fmt.Sprint(i), bytes.Repeat([]byte("x"), size))
		require.NoError(t, err)
	}
	sizes := func(query string) (sizes []int) {
		p, _ := k.peek(query)
		require.True(t, p.More)
		for _, r := range p.Records {
			sizes = append(sizes, len(r.Data))
		}
		return sizes
	}
	require.Equal(t, []int{4<<20 + 1}, sizes(""))
	require.Equal(t, []int{1}, sizes("?order=newest"))
}

func TestPeekRefused(t *testing.T) {
	k := newKit(t, nil)
	k.create(k.kinesis, "orders", 2)
	require.NoError(t, k.put("orders", "a", "hello"))
	p, _ := k.peek("")
	for query, contains := range map[string]string{
		"?limit=0":               "limit",
		"?limit=1001":            "limit",
		"?limit=x":               "limit",
		"?order=random":          "order",
		"?after=17":              "after",
		"?order=newest&after=17": "after",
		"?count=1":               "count",
	} {
		k.refused("GET", "streams/orders/records"+query, "", http.StatusBadRequest, contains)
	}
	other := map[string]string{"shardId-000000000000": "1", "shardId-000000000001": "0"}[p.Records[0].ShardID]
	k.refused("GET", "streams/orders/records?shard="+other+"&after="+p.Records[0].SequenceNumber, "", http.StatusBadRequest, "")
	k.refused("GET", "streams/orders/records?shard=7", "", http.StatusNotFound, "shard")
	k.refused("GET", "streams/none/records", "", http.StatusNotFound, "Stream none")
}

// A reader that continues after removed records gets an error.
func TestPeekTrimmed(t *testing.T) {
	k := newKit(t, nil)
	k.create(k.kinesis, "orders", 1)
	for _, text := range []string{"a", "b"} {
		require.NoError(t, k.put("orders", "k", text))
	}
	p, _ := k.peek("")
	k.do("POST", "streams/orders/truncate", "", http.StatusOK, nil)
	k.refused("GET", "streams/orders/records?after="+p.Records[0].SequenceNumber, "", http.StatusGone, "trimmed")
}
