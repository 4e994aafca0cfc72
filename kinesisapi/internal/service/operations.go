package service

import "context"

// Operation is one of the operations of the service.
type Operation struct {
	Name string

	// NewInput returns an empty request, to be filled in and passed to Call.
	NewInput func() any

	// Call runs the operation. The answer is a struct, an *Empty, or a
	// *Subscription.
	Call func(ctx context.Context, s *Service, c Caller, in any) (out any, err error)
}

// rates has the maximum number of calls of an operation per second and account, when limits
// are exact. 0 means no limit.
var rates = map[string]int{
	"DescribeLimits":         1,
	"DescribeStream":         10,
	"UpdateShardCount":       10,
	"DescribeStreamSummary":  20,
	"DescribeStreamConsumer": 20,
	"ListShards":             1000,

	// Their limits are per shard.
	"PutRecord":        0,
	"PutRecords":       0,
	"GetRecords":       0,
	"GetShardIterator": 0,
	"SubscribeToShard": 0,

	// No limits are documented.
	"ReceiveQueueRecords":                    0,
	"AcknowledgeQueueRecords":                0,
	"UpdateQueueRecordsVisibility":           0,
	"ReceiveDeadLetterQueueRecords":          0,
	"AcknowledgeDeadLetterQueueRecords":      0,
	"UpdateDeadLetterQueueRecordsVisibility": 0,
	"RestoreDeadLetterQueueRecords":          0,
}

const usualRate = 5 // of all others

func operation[In, Out any](name string, fn func(*Service, context.Context, Caller, *In) (*Out, error)) *Operation {
	rate, ok := rates[name]
	if !ok {
		rate = usualRate
	}
	return &Operation{
		Name:     name,
		NewInput: func() any { return new(In) },
		Call: func(ctx context.Context, s *Service, c Caller, in any) (any, error) {
			if rate > 0 && s.ExactLimits() && !s.limits.allow(name+" "+c.Account+" "+c.Region, rate) {
				return nil, limitExceeded("Rate exceeded for operation %s under account %s.", name, s.named(c, "").Account)
			}
			out, err := fn(s, ctx, c, in.(*In))
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}
}

// Operations has all operations of the service, by name.
var Operations = func() map[string]*Operation {
	all := make(map[string]*Operation)
	for _, op := range []*Operation{
		operation("AcknowledgeDeadLetterQueueRecords", (*Service).AcknowledgeDeadLetterQueueRecords),
		operation("AcknowledgeQueueRecords", (*Service).AcknowledgeQueueRecords),
		operation("AddTagsToStream", (*Service).AddTagsToStream),
		operation("CreateChannel", (*Service).channel),
		operation("CreateQueue", (*Service).CreateQueue),
		operation("CreateStream", (*Service).CreateStream),
		operation("DecreaseStreamRetentionPeriod", (*Service).DecreaseStreamRetentionPeriod),
		operation("DeleteChannel", (*Service).channel),
		operation("DeleteQueue", (*Service).DeleteQueue),
		operation("DeleteResourcePolicy", (*Service).DeleteResourcePolicy),
		operation("DeleteStream", (*Service).DeleteStream),
		operation("DeregisterStreamConsumer", (*Service).DeregisterStreamConsumer),
		operation("DescribeAccountSettings", (*Service).DescribeAccountSettings),
		operation("DescribeChannel", (*Service).channel),
		operation("DescribeLimits", (*Service).DescribeLimits),
		operation("DescribeQueue", (*Service).DescribeQueue),
		operation("DescribeStream", (*Service).DescribeStream),
		operation("DescribeStreamConsumer", (*Service).DescribeStreamConsumer),
		operation("DescribeStreamSummary", (*Service).DescribeStreamSummary),
		operation("DisableEnhancedMonitoring", (*Service).DisableEnhancedMonitoring),
		operation("EnableEnhancedMonitoring", (*Service).EnableEnhancedMonitoring),
		operation("GetRecords", (*Service).GetRecords),
		operation("GetResourcePolicy", (*Service).GetResourcePolicy),
		operation("GetShardIterator", (*Service).GetShardIterator),
		operation("IncreaseStreamRetentionPeriod", (*Service).IncreaseStreamRetentionPeriod),
		operation("ListChannels", (*Service).ListChannels),
		operation("ListQueues", (*Service).ListQueues),
		operation("ListShards", (*Service).ListShards),
		operation("ListStreamConsumers", (*Service).ListStreamConsumers),
		operation("ListStreams", (*Service).ListStreams),
		operation("ListTagsForResource", (*Service).ListTagsForResource),
		operation("ListTagsForStream", (*Service).ListTagsForStream),
		operation("MergeShards", (*Service).MergeShards),
		operation("PutRecord", (*Service).PutRecord),
		operation("PutRecords", (*Service).PutRecords),
		operation("PutResourcePolicy", (*Service).PutResourcePolicy),
		operation("ReceiveDeadLetterQueueRecords", (*Service).ReceiveDeadLetterQueueRecords),
		operation("ReceiveQueueRecords", (*Service).ReceiveQueueRecords),
		operation("RegisterStreamConsumer", (*Service).RegisterStreamConsumer),
		operation("RemoveTagsFromStream", (*Service).RemoveTagsFromStream),
		operation("RestoreDeadLetterQueueRecords", (*Service).RestoreDeadLetterQueueRecords),
		operation("SplitShard", (*Service).SplitShard),
		operation("StartStreamEncryption", (*Service).StartStreamEncryption),
		operation("StopStreamEncryption", (*Service).StopStreamEncryption),
		operation("SubscribeToShard", (*Service).SubscribeToShard),
		operation("TagResource", (*Service).TagResource),
		operation("UntagResource", (*Service).UntagResource),
		operation("UpdateAccountSettings", (*Service).UpdateAccountSettings),
		operation("UpdateChannel", (*Service).channel),
		operation("UpdateDeadLetterQueueRecordsVisibility", (*Service).UpdateDeadLetterQueueRecordsVisibility),
		operation("UpdateMaxRecordSize", (*Service).UpdateMaxRecordSize),
		operation("UpdateQueue", (*Service).UpdateQueue),
		operation("UpdateQueueRecordsVisibility", (*Service).UpdateQueueRecordsVisibility),
		operation("UpdateShardCount", (*Service).UpdateShardCount),
		operation("UpdateStreamMode", (*Service).UpdateStreamMode),
		operation("UpdateStreamRecordDistributionStrategy", (*Service).UpdateStreamRecordDistributionStrategy),
		operation("UpdateStreamWarmThroughput", (*Service).UpdateStreamWarmThroughput),
	} {
		all[op.Name] = op
	}
	return all
}()
