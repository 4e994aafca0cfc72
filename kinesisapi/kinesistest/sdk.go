package kinesistest

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/braidstream/braid/kinesisapi/internal/wire"
)

// backoff computes a client's pause before a retry as the SDK does: a random part of a time
// that doubles with each attempt. The SDK's own random source cannot be seeded.
type backoff struct {
	mu     sync.Mutex // guards random
	random *rand.Rand
}

// BackoffDelay is part of retry.BackoffDelayer.
func (b *backoff) BackoffDelay(attempt int, err error) (time.Duration, error) {
	longest := 50 * time.Millisecond
	if retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err).Bool() {
		longest = time.Second
	}
	for ; attempt > 1 && longest < retry.DefaultMaxBackoff; attempt-- {
		longest *= 2
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Duration(b.random.Float64() * float64(min(longest, retry.DefaultMaxBackoff))), nil
}

// sdkInputs are the SDK's requests, by operation. It has none on queues.
var sdkInputs = map[string]reflect.Type{
	"AddTagsToStream":                        reflect.TypeFor[kinesis.AddTagsToStreamInput](),
	"CreateChannel":                          reflect.TypeFor[kinesis.CreateChannelInput](),
	"CreateStream":                           reflect.TypeFor[kinesis.CreateStreamInput](),
	"DecreaseStreamRetentionPeriod":          reflect.TypeFor[kinesis.DecreaseStreamRetentionPeriodInput](),
	"DeleteChannel":                          reflect.TypeFor[kinesis.DeleteChannelInput](),
	"DeleteResourcePolicy":                   reflect.TypeFor[kinesis.DeleteResourcePolicyInput](),
	"DeleteStream":                           reflect.TypeFor[kinesis.DeleteStreamInput](),
	"DeregisterStreamConsumer":               reflect.TypeFor[kinesis.DeregisterStreamConsumerInput](),
	"DescribeAccountSettings":                reflect.TypeFor[kinesis.DescribeAccountSettingsInput](),
	"DescribeChannel":                        reflect.TypeFor[kinesis.DescribeChannelInput](),
	"DescribeLimits":                         reflect.TypeFor[kinesis.DescribeLimitsInput](),
	"DescribeStream":                         reflect.TypeFor[kinesis.DescribeStreamInput](),
	"DescribeStreamConsumer":                 reflect.TypeFor[kinesis.DescribeStreamConsumerInput](),
	"DescribeStreamSummary":                  reflect.TypeFor[kinesis.DescribeStreamSummaryInput](),
	"DisableEnhancedMonitoring":              reflect.TypeFor[kinesis.DisableEnhancedMonitoringInput](),
	"EnableEnhancedMonitoring":               reflect.TypeFor[kinesis.EnableEnhancedMonitoringInput](),
	"GetRecords":                             reflect.TypeFor[kinesis.GetRecordsInput](),
	"GetResourcePolicy":                      reflect.TypeFor[kinesis.GetResourcePolicyInput](),
	"GetShardIterator":                       reflect.TypeFor[kinesis.GetShardIteratorInput](),
	"IncreaseStreamRetentionPeriod":          reflect.TypeFor[kinesis.IncreaseStreamRetentionPeriodInput](),
	"ListChannels":                           reflect.TypeFor[kinesis.ListChannelsInput](),
	"ListShards":                             reflect.TypeFor[kinesis.ListShardsInput](),
	"ListStreamConsumers":                    reflect.TypeFor[kinesis.ListStreamConsumersInput](),
	"ListStreams":                            reflect.TypeFor[kinesis.ListStreamsInput](),
	"ListTagsForResource":                    reflect.TypeFor[kinesis.ListTagsForResourceInput](),
	"ListTagsForStream":                      reflect.TypeFor[kinesis.ListTagsForStreamInput](),
	"MergeShards":                            reflect.TypeFor[kinesis.MergeShardsInput](),
	"PutRecord":                              reflect.TypeFor[kinesis.PutRecordInput](),
	"PutRecords":                             reflect.TypeFor[kinesis.PutRecordsInput](),
	"PutResourcePolicy":                      reflect.TypeFor[kinesis.PutResourcePolicyInput](),
	"RegisterStreamConsumer":                 reflect.TypeFor[kinesis.RegisterStreamConsumerInput](),
	"RemoveTagsFromStream":                   reflect.TypeFor[kinesis.RemoveTagsFromStreamInput](),
	"SplitShard":                             reflect.TypeFor[kinesis.SplitShardInput](),
	"StartStreamEncryption":                  reflect.TypeFor[kinesis.StartStreamEncryptionInput](),
	"StopStreamEncryption":                   reflect.TypeFor[kinesis.StopStreamEncryptionInput](),
	"SubscribeToShard":                       reflect.TypeFor[kinesis.SubscribeToShardInput](),
	"TagResource":                            reflect.TypeFor[kinesis.TagResourceInput](),
	"UntagResource":                          reflect.TypeFor[kinesis.UntagResourceInput](),
	"UpdateAccountSettings":                  reflect.TypeFor[kinesis.UpdateAccountSettingsInput](),
	"UpdateChannel":                          reflect.TypeFor[kinesis.UpdateChannelInput](),
	"UpdateMaxRecordSize":                    reflect.TypeFor[kinesis.UpdateMaxRecordSizeInput](),
	"UpdateShardCount":                       reflect.TypeFor[kinesis.UpdateShardCountInput](),
	"UpdateStreamMode":                       reflect.TypeFor[kinesis.UpdateStreamModeInput](),
	"UpdateStreamRecordDistributionStrategy": reflect.TypeFor[kinesis.UpdateStreamRecordDistributionStrategyInput](),
	"UpdateStreamWarmThroughput":             reflect.TypeFor[kinesis.UpdateStreamWarmThroughputInput](),
}

// toSDK converts a request of package service to the SDK's. The members have the same
// names; those that the SDK lacks are left out. If the SDK lacks the operation, the result
// is the request's JSON, decoded.
func toSDK(operation string, in any) any {
	input := sdkInputs[operation]
	if input == nil {
		var document map[string]any
		if err := json.Unmarshal(wire.AppendJSON(nil, in), &document); err != nil {
			panic(err) // it is JSON
		}
		return document
	}
	out := reflect.New(input)
	copyValue(out.Elem(), reflect.ValueOf(in).Elem())
	return out.Interface()
}

// copyValue copies a value to an equivalent type. It also copies the targets of pointers
// and the elements of slices.
func copyValue(to, from reflect.Value) {
	switch {
	case from.Kind() == reflect.Pointer && from.IsNil(), from.Kind() == reflect.Slice && from.IsNil():
	case from.Kind() == reflect.Pointer && to.Kind() == reflect.Pointer:
		to.Set(reflect.New(to.Type().Elem()))
		copyValue(to.Elem(), from.Elem())
	case from.Kind() == reflect.Pointer: // an enumeration: in the SDK, absent is empty
		copyValue(to, from.Elem())
	case from.Kind() == reflect.Slice:
		to.Set(reflect.MakeSlice(to.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			copyValue(to.Index(i), from.Index(i))
		}
	case from.Type().ConvertibleTo(to.Type()): // also times, and maps, which nobody changes
		to.Set(from.Convert(to.Type()))
	case from.Kind() == reflect.Struct:
		for i := range from.NumField() {
			if field := to.FieldByName(from.Type().Field(i).Name); field.IsValid() {
				copyValue(field, from.Field(i))
			}
		}
	}
}
