package kinesisapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Limits on lengths count characters, which are Unicode code points: those beyond U+FFFF
// count once, in JSON, in CBOR and in the database.
func TestRawCharacters(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		const letter = "𐐷" // U+10437
		tooLong := func(member, value string, most int) string {
			return fmt.Sprintf("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", value, member, most)
		}
		type request = map[string]any
		entries := func(key string) []any { return []any{request{"PartitionKey": key, "Data": []byte{1}}} }
		var puts int
		for _, row := range []struct {
			operation, member string
			most              int
			request           func(text string) request
			answer            string // to a text of that length; empty if it is accepted
		}{
			{"PutRecord", "partitionKey", 256, func(s string) request { return request{"StreamName": "s", "PartitionKey": s, "Data": []byte{1}} }, ""},
			{"PutRecords", "records.1.member.partitionKey", 256, func(s string) request { return request{"StreamName": "s", "Records": entries(s)} }, ""},
			{"StartStreamEncryption", "keyId", 2048, func(s string) request {
				return request{"StreamName": "s", "EncryptionType": "KMS", "KeyId": s}
			}, "KMSNotFoundException"},
			{"ListTagsForStream", "exclusiveStartTagKey", 128, func(s string) request { return request{"StreamName": "s", "ExclusiveStartTagKey": s} }, ""},
			{"GetRecords", "shardIterator", 512, func(s string) request { return request{"ShardIterator": s} }, "InvalidArgumentException"},
		} {
			for _, cbor := range []bool{false, true} {
				s := newSpeaker(r, cbor)
				longest := strings.Repeat(letter, row.most)
				status, document := ask(s, row.operation, row.request(longest))
				if row.answer == "" {
					require.Equal(t, 200, status, "%s: %v", row.operation, document)
				} else {
					require.Equal(t, row.answer, document["__type"], row.operation)
				}
				if strings.HasPrefix(row.operation, "Put") {
					puts++
				}
				status, document = ask(s, row.operation, row.request(longest+"a"))
				require.Equal(t, 400, status)
				require.Equal(t, "ValidationException", document["__type"])
				require.Equal(t, tooLong(row.member, longest+"a", row.most), document["message"])
			}
		}
		tags := request{"StreamName": "s", "Tags": request{strings.Repeat(letter, 128): strings.Repeat(letter, 256)}}
		for _, cbor := range []bool{false, true} {
			s := newSpeaker(r, cbor)
			status, document := ask(s, "AddTagsToStream", tags)
			require.Equal(t, 200, status, document)
			status, document = ask(s, "RemoveTagsFromStream", request{"StreamName": "s", "TagKeys": []any{strings.Repeat(letter, 128)}})
			require.Equal(t, 200, status, document)
		}
		page := r.doesf("GetRecords", `{"ShardIterator":%q}`, r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`))
		require.Len(t, page["Records"], puts)
		for _, rec := range objects(page["Records"]) {
			require.Equal(t, strings.Repeat(letter, 256), rec["PartitionKey"])
		}
	})
}

// ask calls an operation with a document, and returns the answer's document.
func ask(s *speaker, operation string, document map[string]any) (status int, answer map[string]any) {
	s.t.Helper()
	h := s.say(operation, document)
	answer, _ = h.document.(map[string]any) // some have none
	return h.status, answer
}
