package kinesisapi_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// CBOR documents as SDKs send them: with definite or indefinite lengths, and with integers
// of any width.
func TestRawCBORRequests(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		send := func(operation string, parts ...string) answer {
			var body []byte
			for _, part := range parts {
				if text, ok := strings.CutPrefix(part, "'"); ok {
					body = append(body, 0x60|byte(len(text))) // a text of less than 24 bytes
					body = append(body, text...)
					continue
				}
				data, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
				require.NoError(t, err)
				body = append(body, data...)
			}
			return r.send("POST", "/", string(body), "Content-Type", typeCBOR, "X-Amz-Target", "Kinesis_20131202."+operation)
		}
		const open, end, list = "bf", "ff", "9f"

		a := send("CreateStream", open, "'StreamName", "7f", "'s", "'1", end, "'ShardCount", "19 0001", end)
		require.Equal(t, 200, a.status, a.body)
		require.Empty(t, a.body)
		require.Equal(t, typeCBOR, a.header.Get("Content-Type"))

		a = send("PutRecord", "a4", "'StreamName", "'s1", "'PartitionKey", "'a", "'Data", "5f 42 0102 41 03 ff", "'Unknown", "f6")
		require.Equal(t, 200, a.status, a.body)
		a = send("PutRecords", open, "'Records", list, "a2", "'Data", "40", "'PartitionKey", "'b", open, "'PartitionKey", "'c", "'Data", "'AQI=", end, end, "'StreamName", "'s1", end)
		require.Equal(t, 200, a.status, a.body)

		// A timestamp counts milliseconds: with the tag or without, in any width.
		now := time.Now().UnixMilli()
		for name, at := range map[string]string{"tagged": "c1 1b 0000000000000000", "plain": "1b 0000000000000000", "short": "c1 00", "narrow": "1a 00000000", "null tag": "c1 18 01"} {
			a = send("GetShardIterator", "a4", "'StreamName", "'s1", "'ShardId", "'0", "'ShardIteratorType", "'AT_TIMESTAMP", "'Timestamp", at)
			require.Equal(t, 200, a.status, "%s: %s", name, a.body)
		}
		status, document := r.callCBOR("GetShardIterator", map[string]any{"StreamName": "s1", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": instant(time.Now())})
		require.Equal(t, 200, status)
		it := document.(map[string]any)["ShardIterator"].(string)
		_, document = r.callCBOR("GetRecords", map[string]any{"ShardIterator": it})
		records := document.(map[string]any)["Records"].([]any)
		require.Len(t, records, 3)
		for i, want := range []struct {
			data []byte
			key  string
		}{{[]byte{1, 2, 3}, "a"}, {[]byte{}, "b"}, {[]byte{1, 2}, "c"}} {
			record := records[i].(map[string]any)
			require.Equal(t, want.data, record["Data"])
			require.Equal(t, want.key, record["PartitionKey"])
			require.Equal(t, now, record["ApproximateArrivalTimestamp"].(time.Time).Unix(), "milliseconds, with tag 1")
			require.NotContains(t, record, "EncryptionType")
		}
		a = send("GetRecords", "a1", "'ShardIterator", "79 "+hex.EncodeToString([]byte{byte(len(it) >> 8), byte(len(it))})+hex.EncodeToString([]byte(it)))
		require.Equal(t, 200, a.status, a.body)
		require.Contains(t, a.body, string([]byte{0xc1, 0x1b, byte(now >> 56), byte(now >> 48), byte(now >> 40), byte(now >> 32), byte(now >> 24), byte(now >> 16), byte(now >> 8), byte(now)}))

		// Errors are maps with the same members as in JSON.
		for _, row := range []struct {
			operation string
			body      map[string]any
			want      map[string]any
		}{
			{"DescribeStream", map[string]any{"StreamName": "x"}, map[string]any{"__type": notFound, "message": noStream}},
			{"DescribeStream", map[string]any{"Limit": "a"}, map[string]any{"__type": "SerializationException", "Message": "class java.lang.String can not be converted to an Integer"}},
			{"ListStreams", map[string]any{"Limit": 0}, map[string]any{"__type": validation, "message": "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"}},
			{"SubscribeToShard", map[string]any{"ConsumerARN": streamARN + "x/consumer/c:1", "ShardId": "0", "StartingPosition": map[string]any{"Type": "LATEST"}}, map[string]any{"__type": notFound, "message": noStream}},
		} {
			status, document := r.callCBOR(row.operation, row.body)
			require.Equal(t, 400, status)
			require.Equal(t, row.want, document)
		}
		for _, body := range []string{"\xff", "\xbf", "\xbf\x61a", "\xa1\x01\x02", "\x9f\xff", "\xa0\xa0", "\xf6", "\x00", "\xc1\xa0\xa0"} {
			a = r.send("POST", "/", body, "Content-Type", typeCBOR, "X-Amz-Target", "Kinesis_20131202.ListStreams")
			require.Equal(t, 400, a.status, "%x", body)
			require.Equal(t, cborError("SerializationException"), a.body, "%x", body)
		}
	})
}
