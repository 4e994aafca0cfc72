package sdktest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

func TestSDKStreamTags(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		name := aws.String("orders")
		tags := make(map[string]string)
		for i := range 50 {
			tags[fmt.Sprintf("key-%02d", i)] = fmt.Sprint(i)
		}
		_, err := k.AddTagsToStream(k.ctx, &kinesis.AddTagsToStreamInput{StreamName: name, Tags: tags})
		require.NoError(t, err)
		_, err = k.AddTagsToStream(k.ctx, &kinesis.AddTagsToStreamInput{StreamARN: &arn, Tags: map[string]string{"one": "more"}})
		failsWith[errArgument](t, err, "Failed to add tags to stream orders")
		_, err = k.AddTagsToStream(k.ctx, &kinesis.AddTagsToStreamInput{StreamARN: &arn, Tags: map[string]string{"key-00": "again"}})
		require.NoError(t, err, "a key that is there is overwritten")

		page, err := k.ListTagsForStream(k.ctx, &kinesis.ListTagsForStreamInput{StreamName: name, Limit: aws.Int32(20)})
		require.NoError(t, err)
		require.True(t, *page.HasMoreTags)
		require.Len(t, page.Tags, 20)
		require.Equal(t, "key-00", *page.Tags[0].Key)
		require.Equal(t, "again", *page.Tags[0].Value)
		page, err = k.ListTagsForStream(k.ctx, &kinesis.ListTagsForStreamInput{StreamARN: &arn, ExclusiveStartTagKey: page.Tags[19].Key})
		require.NoError(t, err)
		require.False(t, *page.HasMoreTags)
		require.Len(t, page.Tags, 30)
		page, err = k.ListTagsForStream(k.ctx, &kinesis.ListTagsForStreamInput{StreamARN: &arn, ExclusiveStartTagKey: aws.String("key-48x")})
		require.NoError(t, err)
		require.Len(t, page.Tags, 1)

		_, err = k.RemoveTagsFromStream(k.ctx, &kinesis.RemoveTagsFromStreamInput{StreamName: name, TagKeys: []string{"key-00", "unknown"}})
		require.NoError(t, err)
		all, err := k.ListTagsForResource(k.ctx, &kinesis.ListTagsForResourceInput{ResourceARN: &arn})
		require.NoError(t, err)
		require.Len(t, all.Tags, 49)

		for key, text := range map[string]string{
			"semi;colon": "Some tags contain invalid characters.",
			"per%cent":   "some tags contained illegal characters",
			"aws:mine":   "reserved",
		} {
			_, err = k.AddTagsToStream(k.ctx, &kinesis.AddTagsToStreamInput{StreamName: name, Tags: map[string]string{key: ""}})
			failsWith[errArgument](t, err, text)
		}
		_, err = k.AddTagsToStream(k.ctx, &kinesis.AddTagsToStreamInput{StreamName: name, Tags: map[string]string{}})
		failsWith[errValidation](t, err, "")
		_, err = k.ListTagsForStream(k.ctx, &kinesis.ListTagsForStreamInput{StreamName: name, Limit: aws.Int32(51)})
		failsWith[errValidation](t, err, "")
		_, err = k.ListTagsForStream(k.ctx, &kinesis.ListTagsForStreamInput{StreamName: aws.String("absent")})
		failsWith[errNotFound](t, err, "")
	})
}

// TestSDKResourceTags: the newer operations take streams and consumers alike.
func TestSDKResourceTags(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		stream := k.create("orders", 1)
		registered, err := k.RegisterStreamConsumer(k.ctx, &kinesis.RegisterStreamConsumerInput{
			StreamARN: &stream, ConsumerName: aws.String("c"), Tags: map[string]string{"from": "the start"},
		})
		require.NoError(t, err)
		consumer := *registered.Consumer.ConsumerARN
		list := func(arn string) map[string]string {
			out, err := k.ListTagsForResource(k.ctx, &kinesis.ListTagsForResourceInput{ResourceARN: &arn})
			require.NoError(t, err)
			tags := make(map[string]string)
			for _, tag := range out.Tags {
				tags[*tag.Key] = *tag.Value
			}
			return tags
		}
		require.Equal(t, map[string]string{"from": "the start"}, list(consumer))
		require.Empty(t, list(stream))
		for _, arn := range []string{stream, consumer} {
			_, err := k.TagResource(k.ctx, &kinesis.TagResourceInput{ResourceARN: &arn, Tags: map[string]string{"a": "1", "b": "2"}})
			require.NoError(t, err)
			_, err = k.UntagResource(k.ctx, &kinesis.UntagResourceInput{ResourceARN: &arn, TagKeys: []string{"a", "unknown"}})
			require.NoError(t, err)
			_, err = k.TagResource(k.ctx, &kinesis.TagResourceInput{ResourceARN: &arn, Tags: map[string]string{"no;": ""}})
			failsWith[errArgument](t, err, "Some tags contain invalid characters.")
		}
		require.Equal(t, map[string]string{"b": "2"}, list(stream))
		require.Equal(t, map[string]string{"b": "2", "from": "the start"}, list(consumer))
		for _, arn := range []string{arnOf("absent"), stream + "/consumer/absent:1"} {
			_, err := k.ListTagsForResource(k.ctx, &kinesis.ListTagsForResourceInput{ResourceARN: &arn})
			failsWith[errNotFound](t, err, "")
		}
	})
}

func TestSDKResourcePolicies(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		stream := k.create("orders", 1)
		consumer := k.register("orders", "c")
		const policy = `{"Version": "2012-10-17",  "Statement": []}`
		for _, arn := range []string{stream, consumer} {
			get := func() string {
				out, err := k.GetResourcePolicy(k.ctx, &kinesis.GetResourcePolicyInput{ResourceARN: &arn})
				require.NoError(t, err)
				return *out.Policy
			}
			require.Equal(t, "{}", get())
			_, err := k.DeleteResourcePolicy(k.ctx, &kinesis.DeleteResourcePolicyInput{ResourceARN: &arn})
			failsWith[errNotFound](t, err, "No resource policy found for resource ARN "+arn)
			_, err = k.PutResourcePolicy(k.ctx, &kinesis.PutResourcePolicyInput{ResourceARN: &arn, Policy: aws.String(policy)})
			require.NoError(t, err)
			require.Equal(t, policy, get(), "letter by letter")
			_, err = k.PutResourcePolicy(k.ctx, &kinesis.PutResourcePolicyInput{ResourceARN: &arn, Policy: aws.String("{")})
			failsWith[errArgument](t, err, "JSON")
			_, err = k.DeleteResourcePolicy(k.ctx, &kinesis.DeleteResourcePolicyInput{ResourceARN: &arn})
			require.NoError(t, err)
			require.Equal(t, "{}", get())
		}
		_, err := k.PutResourcePolicy(k.ctx, &kinesis.PutResourcePolicyInput{ResourceARN: aws.String(arnOf("absent")), Policy: aws.String(policy)})
		failsWith[errNotFound](t, err, "")
	})
}

func TestSDKEncryption(t *testing.T) {
	keys, err := braid.NewKeyRing(map[string][]byte{"alias/one": make([]byte, 32), "alias/two": append(make([]byte, 31), 1)})
	require.NoError(t, err)
	inBubbleWithKeys(t, &kinesisapi.Options{UpdateDelay: time.Minute}, keys, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		start := func(key string) error {
			_, err := k.StartStreamEncryption(k.ctx, &kinesis.StartStreamEncryptionInput{StreamARN: &arn, EncryptionType: types.EncryptionTypeKms, KeyId: &key})
			return err
		}
		stop := func() error {
			_, err := k.StopStreamEncryption(k.ctx, &kinesis.StopStreamEncryptionInput{StreamARN: &arn, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("alias/one")})
			return err
		}
		putMany := func(data string) types.EncryptionType {
			out, err := k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamARN: &arn, Records: []types.PutRecordsRequestEntry{{PartitionKey: aws.String("a"), Data: []byte(data)}}})
			require.NoError(t, err)
			return out.EncryptionType
		}
		require.NoError(t, stop(), "of what is not encrypted")
		require.Empty(t, k.put("orders", "a", "1").EncryptionType)
		require.Empty(t, putMany("2"))
		_, err := k.StartStreamEncryption(k.ctx, &kinesis.StartStreamEncryptionInput{StreamARN: &arn, EncryptionType: types.EncryptionTypeNone, KeyId: aws.String("alias/one")})
		failsWith[errArgument](t, err, "EncryptionType")

		require.NoError(t, start("alias/one"))
		require.Equal(t, types.StreamStatusUpdating, k.describe("orders").StreamStatus)
		k.sleep(time.Minute)
		d := k.describe("orders")
		require.Equal(t, types.StreamStatusActive, d.StreamStatus)
		require.Equal(t, types.EncryptionTypeKms, d.EncryptionType)
		require.Equal(t, "alias/one", *d.KeyId)
		require.Equal(t, types.EncryptionTypeKms, k.summary("orders").EncryptionType)
		require.Equal(t, types.EncryptionTypeKms, k.put("orders", "a", "3").EncryptionType)
		require.Equal(t, types.EncryptionTypeKms, putMany("4"))
		require.NoError(t, start("alias/one"), "the same key changes nothing")
		require.Equal(t, types.StreamStatusActive, k.describe("orders").StreamStatus)
		require.NoError(t, start("alias/two"))
		k.sleep(time.Minute)
		require.Equal(t, "alias/two", *k.describe("orders").KeyId)
		k.put("orders", "a", "5")
		require.NoError(t, stop())
		k.sleep(time.Minute)
		require.Equal(t, types.EncryptionTypeNone, k.describe("orders").EncryptionType)
		require.Empty(t, k.put("orders", "a", "6").EncryptionType)

		var kinds []types.EncryptionType
		out := k.get(k.iterator("orders", "shardId-000000000000", types.ShardIteratorTypeTrimHorizon))
		for _, r := range out.Records {
			kinds = append(kinds, r.EncryptionType)
		}
		require.Equal(t, []string{"1", "2", "3", "4", "5", "6"}, texts(out.Records))
		require.Equal(t, []types.EncryptionType{"", "", "KMS", "KMS", "KMS", ""}, kinds)

		// A key that nobody has is refused before the stream goes UPDATING.
		failsWith[*types.KMSNotFoundException](t, start("alias/unknown"), "")
		require.Equal(t, types.StreamStatusActive, k.describe("orders").StreamStatus)
	})
}
