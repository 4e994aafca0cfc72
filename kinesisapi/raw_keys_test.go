package kinesisapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/queue"
)

const (
	keyUUID = "1234abcd-12ab-34cd-56ef-1234567890ab"
	kms     = "arn:aws:kms:us-east-1:" + account + ":"
)

// rigWithKeys is a rig whose database has that key provider, over the directory.
func rigWithKeys(t *testing.T, dir string, keys braid.KeyProvider, options *kinesisapi.Options) *rig {
	t.Helper()
	db, err := braid.Open(dir, &braid.Options{KeyProvider: keys})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	server, err := kinesisapi.New(db, options)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return &rig{t: t, db: db, server: server, client: server.Client(), url: "http://kinesis/"}
}

func startWith(key string) string {
	return fmt.Sprintf(`{"StreamName":"s","EncryptionType":"KMS","KeyId":%q}`, key)
}

// A key ring also accepts ARNs of its keys, and an unknown key is refused with the text of
// KMS.
func TestRawKeyForms(t *testing.T) {
	keys, err := braid.NewKeyRing(map[string][]byte{"alias/one": make([]byte, 32), keyUUID: append(make([]byte, 31), 1)})
	require.NoError(t, err)
	r := rigWithKeys(t, braid.InMemory, keys, nil)
	r.create("s", 1)
	puts := 0
	for _, key := range []string{"alias/one", kms + "alias/one", keyUUID, kms + "key/" + keyUUID, "arn:aws-cn:kms:cn-north-1:123456789012:alias/one"} {
		require.Nil(t, r.does("StartStreamEncryption", startWith(key)))
		d := r.does("DescribeStreamSummary", `{"StreamName":"s"}`)["StreamDescriptionSummary"].(map[string]any)
		require.Equal(t, key, d["KeyId"], "as it was given")
		require.Equal(t, "KMS", r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)["EncryptionType"])
		puts++
	}
	page := r.doesf("GetRecords", `{"ShardIterator":%q}`, r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`))
	require.Len(t, page["Records"], puts)
	const other = "00000000-12ab-34cd-56ef-1234567890ab"
	for key, text := range map[string]string{
		"alias/two":                      "Alias " + kms + "alias/two is not found.",
		"alias/aws/kinesis":              "Alias " + kms + "alias/aws/kinesis is not found.",
		kms + "alias/two":                "Alias " + kms + "alias/two is not found.",
		other:                            "Key '" + kms + "key/" + other + "' does not exist",
		kms + "key/" + other:             "Key '" + kms + "key/" + other + "' does not exist",
		"mrk-" + fmt.Sprintf("%032x", 7): "Key '" + kms + "key/mrk-" + fmt.Sprintf("%032x", 7) + "' does not exist",
		"one":                            "Invalid keyId 'one'",
		"arn:aws:kms:us-east-1:":         "Invalid keyId 'arn:aws:kms:us-east-1:'",
	} {
		r.refuses(refusal{"KMSNotFoundException", text, "StartStreamEncryption", startWith(key)})
	}
	r = rigWithKeys(t, braid.InMemory, nil, nil)
	r.create("s", 1)
	r.refuses(refusal{"KMSNotFoundException", "Alias " + kms + "alias/one is not found.", "StartStreamEncryption", startWith("alias/one")})
}

// If accounts are separate, ARNs name keys of their own account and region only.
func TestRawKeysOfAccounts(t *testing.T) {
	r := rigWithKeys(t, braid.InMemory, kinesisapi.AnyKey(), &kinesisapi.Options{SeparateAccounts: true})
	r.create("s", 1)
	r.refuses(
		refusal{"KMSNotFoundException", "Invalid arn eu-west-1", "StartStreamEncryption", startWith("arn:aws:kms:eu-west-1:" + account + ":alias/one")},
		refusal{"KMSNotFoundException", "Alias arn:aws:kms:us-east-1:123456789012:alias/one is not found.", "StartStreamEncryption", startWith("arn:aws:kms:us-east-1:123456789012:alias/one")},
		refusal{"KMSNotFoundException", "Key 'arn:aws:kms:us-east-1:123456789012:key/" + keyUUID + "' does not exist", "StartStreamEncryption", startWith("arn:aws:kms:us-east-1:123456789012:key/" + keyUUID)},
	)
	require.Nil(t, r.does("StartStreamEncryption", startWith(kms+"alias/one")))
}

// With AnyKey every id is valid, and the next run can read encrypted data.
func TestRawAnyKey(t *testing.T) {
	dir := t.TempDir()
	puts := 0
	for range 2 {
		t.Run("run", func(t *testing.T) {
			r := rigWithKeys(t, dir, kinesisapi.AnyKey(), nil)
			if puts == 0 {
				r.create("s", 1)
			}
			for _, key := range []string{"alias/aws/kinesis", kms + "alias/aws/kinesis", "any thing # at all", "ключ", keyUUID, kms + "key/" + keyUUID} {
				require.Nil(t, r.does("StartStreamEncryption", startWith(key)))
				require.Equal(t, "KMS", r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)["EncryptionType"])
				puts++
			}
			page := r.doesf("GetRecords", `{"ShardIterator":%q}`, r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`))
			require.Len(t, page["Records"], puts)
		})
	}
	r := rigWithKeys(t, braid.InMemory, kinesisapi.ServiceKey(), nil)
	r.create("s", 1)
	require.Nil(t, r.does("StartStreamEncryption", startWith("alias/aws/kinesis")))
	require.Nil(t, r.does("StartStreamEncryption", startWith(kms+"alias/aws/kinesis")))
	r.refuses(refusal{"KMSNotFoundException", "Invalid keyId 'any'", "StartStreamEncryption", startWith("any")})
}

// If a key fails after encryption has started, callers that put, read, subscribe or receive
// get an error of KMS. The provider's error is logged, and is not part of an answer.
func TestRawKeyFails(t *testing.T) {
	dir := t.TempDir()
	consumer, waiting := "", ""
	t.Run("start", func(t *testing.T) {
		ring, err := braid.NewKeyRing(map[string][]byte{"alias/one": make([]byte, 32)})
		require.NoError(t, err)
		r := rigWithKeys(t, dir, ring, nil)
		r.create("s", 1)
		r.does("StartStreamEncryption", startWith("alias/one"))
		r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)
		consumer = r.register("s", "c")
		_, err = queue.Create(t.Context(), r.db, "q", &queue.Options{Stream: "s"})
		require.NoError(t, err)
		waiting = objects(r.does("ListQueues", `{}`)["QueueSummaries"])[0]["QueueARN"].(string)
	})
	const denied = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."
	empty, err := braid.NewKeyRing(nil)
	require.NoError(t, err)
	for name, keys := range map[string]braid.KeyProvider{"lost": empty, "none": nil, "failing": failingKeys{}} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			r := rigWithKeys(t, dir, keys, &kinesisapi.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			it := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
			r.refuses(
				refusal{"KMSAccessDeniedException", denied, "PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`},
				refusal{"KMSAccessDeniedException", denied, "PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""}]}`},
				refusal{"KMSAccessDeniedException", denied, "GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, it)},
				refusal{"KMSAccessDeniedException", denied, "ReceiveQueueRecords", fmt.Sprintf(`{"QueueARN":%q}`, waiting)},
			)
			r.subscribe(consumer, "0", `"Type":"TRIM_HORIZON"`).ends("KMSAccessDeniedException", denied)
			r.server.Close()
			require.Equal(t, 5, strings.Count(logged.String(), "level=WARN"), logged.String())
			require.Equal(t, name == "failing", strings.Contains(logged.String(), errKeys.Error()))
		})
	}
}

// failingKeys is a provider that cannot be reached.
type failingKeys struct{}

var errKeys = errors.New("dial tcp 10.0.0.1:443: no route to secret.host")

func (failingKeys) DescribeKey(context.Context, string) (string, error) { return "", errKeys }

func (failingKeys) WrapKey(context.Context, string, []byte, string, string) ([]byte, error) {
	return nil, errKeys
}

func (failingKeys) UnwrapKey(context.Context, string, []byte, string, string) ([]byte, error) {
	return nil, errKeys
}
