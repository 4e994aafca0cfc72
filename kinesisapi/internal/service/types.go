package service

import "time"

// The requests and answers of the service. The name of a field is the member's name on the
// wire. The tags name the constraints that package wire checks before an operation runs:
// whether a member is required, and its shape. A nil pointer, slice or map means an absent
// member; in answers all other members are always present.

// Empty is the answer of operations without an answer.
type Empty struct{}

// StreamModeDetails is a capacity mode.
type StreamModeDetails struct {
	StreamMode *string `kinesis:"required,StreamMode"`
}

// HashKeyRange is a range of hash keys in decimal; both ends belong to it.
type HashKeyRange struct {
	EndingHashKey   string
	StartingHashKey string
}

// SequenceNumberRange is where a shard's numbers begin and, if it is closed, end.
type SequenceNumberRange struct {
	EndingSequenceNumber   *string
	StartingSequenceNumber string
}

// Shard is a shard in a list.
type Shard struct {
	AdjacentParentShardId *string
	HashKeyRange          HashKeyRange
	ParentShardId         *string
	SequenceNumberRange   SequenceNumberRange
	ShardId               string
}

// ChildShard is a child of a closed shard.
type ChildShard struct {
	HashKeyRange HashKeyRange
	ParentShards []string
	ShardId      string
}

// EnhancedMetrics are the metrics of shards that are enabled.
type EnhancedMetrics struct {
	ShardLevelMetrics []string
}

// Tag is a tag of a stream or a consumer.
type Tag struct {
	Key   string
	Value *string
}

// CreateStreamInput is the request of CreateStream.
type CreateStreamInput struct {
	MaxRecordSizeInKiB         *int32  `kinesis:"MaxRecordSizeInKiB"`
	RecordDistributionStrategy *string `kinesis:"RecordDistributionStrategy"`
	ShardCount                 *int32  `kinesis:"PositiveInteger"`
	StreamModeDetails          *StreamModeDetails
	StreamName                 *string           `kinesis:"required,StreamName"`
	Tags                       map[string]string `kinesis:"TagMap"`
	WarmThroughputMiBps        *int32            `kinesis:"WarmThroughput"`
}

// DeleteStreamInput is the request of DeleteStream.
type DeleteStreamInput struct {
	EnforceConsumerDeletion *bool
	StreamARN               *string `kinesis:"StreamARN"`
	StreamId                *string `kinesis:"StreamId"`
	StreamName              *string `kinesis:"StreamName"`
}

// StreamInput is the request of operations that name a stream and nothing else.
type StreamInput struct {
	StreamARN  *string `kinesis:"StreamARN"`
	StreamId   *string `kinesis:"StreamId"`
	StreamName *string `kinesis:"StreamName"`
}

// DescribeStreamInput is the request of DescribeStream.
type DescribeStreamInput struct {
	ExclusiveStartShardId *string `kinesis:"ShardId"`
	Limit                 *int32  `kinesis:"PageLimit"`
	StreamARN             *string `kinesis:"StreamARN"`
	StreamId              *string `kinesis:"StreamId"`
	StreamName            *string `kinesis:"StreamName"`
}

// DescribeStreamOutput is the answer of DescribeStream.
type DescribeStreamOutput struct {
	StreamDescription StreamDescription
}

// StreamDescription describes a stream with a page of its shards.
type StreamDescription struct {
	EncryptionType          string
	EnhancedMonitoring      []EnhancedMetrics
	HasMoreShards           bool
	KeyId                   *string
	RetentionPeriodHours    int32
	Shards                  []Shard
	StreamARN               string
	StreamCreationTimestamp time.Time
	StreamModeDetails       StreamModeDetails
	StreamName              string
	StreamStatus            string
}

// DescribeStreamSummaryOutput is the answer of DescribeStreamSummary.
type DescribeStreamSummaryOutput struct {
	StreamDescriptionSummary StreamDescriptionSummary
}

// StreamDescriptionSummary describes a stream without its shards.
type StreamDescriptionSummary struct {
	ChannelCount               int32
	ConsumerCount              int32
	EncryptionType             string
	EnhancedMonitoring         []EnhancedMetrics
	KeyId                      *string
	MaxRecordSizeInKiB         int32
	OpenShardCount             int32
	QueueCount                 int32
	RecordDistributionStrategy *string
	RetentionPeriodHours       int32
	StreamARN                  string
	StreamCreationTimestamp    time.Time
	StreamModeDetails          StreamModeDetails
	StreamName                 string
	StreamStatus               string
	WarmThroughput             *WarmThroughput
}

// WarmThroughput is the throughput for which an on-demand stream is prepared.
type WarmThroughput struct {
	CurrentMiBps int32
	TargetMiBps  int32
}

// ListStreamsInput is the request of ListStreams.
type ListStreamsInput struct {
	ExclusiveStartStreamName *string `kinesis:"StreamName"`
	Limit                    *int32  `kinesis:"PageLimit"`
	NextToken                *string `kinesis:"NextToken"`
}

// ListStreamsOutput is the answer of ListStreams.
type ListStreamsOutput struct {
	HasMoreStreams  bool
	NextToken       *string
	StreamNames     []string
	StreamSummaries []StreamSummary
}

// StreamSummary is a stream in a list.
type StreamSummary struct {
	StreamARN               string
	StreamCreationTimestamp time.Time
	StreamModeDetails       StreamModeDetails
	StreamName              string
	StreamStatus            string
}

// ListShardsInput is the request of ListShards.
type ListShardsInput struct {
	ExclusiveStartShardId   *string `kinesis:"ShardId"`
	MaxResults              *int32  `kinesis:"PageLimit"`
	NextToken               *string `kinesis:"NextToken"`
	ShardFilter             *ShardFilter
	StreamARN               *string `kinesis:"StreamARN"`
	StreamCreationTimestamp *time.Time
	StreamId                *string `kinesis:"StreamId"`
	StreamName              *string `kinesis:"StreamName"`
}

// ShardFilter selects the shards that ListShards returns.
type ShardFilter struct {
	ShardId   *string `kinesis:"ShardId"`
	Timestamp *time.Time
	Type      *string `kinesis:"required,ShardFilterType"`
}

// ListShardsOutput is the answer of ListShards.
type ListShardsOutput struct {
	NextToken *string
	Shards    []Shard
}

// SplitShardInput is the request of SplitShard.
type SplitShardInput struct {
	NewStartingHashKey *string `kinesis:"required,HashKey"`
	ShardToSplit       *string `kinesis:"required,ShardId"`
	StreamARN          *string `kinesis:"StreamARN"`
	StreamId           *string `kinesis:"StreamId"`
	StreamName         *string `kinesis:"StreamName"`
}

// MergeShardsInput is the request of MergeShards.
type MergeShardsInput struct {
	AdjacentShardToMerge *string `kinesis:"required,ShardId"`
	ShardToMerge         *string `kinesis:"required,ShardId"`
	StreamARN            *string `kinesis:"StreamARN"`
	StreamId             *string `kinesis:"StreamId"`
	StreamName           *string `kinesis:"StreamName"`
}

// UpdateShardCountInput is the request of UpdateShardCount.
type UpdateShardCountInput struct {
	ScalingType      *string `kinesis:"required,ScalingType"`
	StreamARN        *string `kinesis:"StreamARN"`
	StreamId         *string `kinesis:"StreamId"`
	StreamName       *string `kinesis:"StreamName"`
	TargetShardCount *int32  `kinesis:"required,PositiveInteger"`
}

// UpdateShardCountOutput is the answer of UpdateShardCount.
type UpdateShardCountOutput struct {
	CurrentShardCount int32
	StreamARN         string
	StreamName        string
	TargetShardCount  int32
}

// PutRecordInput is the request of PutRecord.
type PutRecordInput struct {
	Data                      []byte `kinesis:"required,Data"`
	DryRun                    *bool
	ExplicitHashKey           *string `kinesis:"HashKey"`
	PartitionKey              *string `kinesis:"PartitionKey"`
	SequenceNumberForOrdering *string `kinesis:"SequenceNumber"`
	StreamARN                 *string `kinesis:"StreamARN"`
	StreamId                  *string `kinesis:"StreamId"`
	StreamName                *string `kinesis:"StreamName"`
}

// PutRecordOutput is the answer of PutRecord.
type PutRecordOutput struct {
	EncryptionType *string
	SequenceNumber string
	ShardId        string
}

// PutRecordsInput is the request of PutRecords.
type PutRecordsInput struct {
	DryRun     *bool
	Records    []PutRecordsRequestEntry `kinesis:"required,PutRecordsRequestEntryList"`
	StreamARN  *string                  `kinesis:"StreamARN"`
	StreamId   *string                  `kinesis:"StreamId"`
	StreamName *string                  `kinesis:"StreamName"`
}

// PutRecordsRequestEntry is a record of PutRecords.
type PutRecordsRequestEntry struct {
	Data            []byte  `kinesis:"required,Data"`
	ExplicitHashKey *string `kinesis:"HashKey"`
	PartitionKey    *string `kinesis:"PartitionKey"`
}

// PutRecordsOutput is the answer of PutRecords.
type PutRecordsOutput struct {
	EncryptionType    *string
	FailedRecordCount int32
	Records           []PutRecordsResultEntry
}

// PutRecordsResultEntry is the result for a record: its sequence number and shard, or an
// error.
type PutRecordsResultEntry struct {
	ErrorCode      *string
	ErrorMessage   *string
	SequenceNumber *string
	ShardId        *string
}

// GetShardIteratorInput is the request of GetShardIterator.
type GetShardIteratorInput struct {
	DryRun                 *bool
	ShardId                *string `kinesis:"required,ShardId"`
	ShardIteratorType      *string `kinesis:"required,ShardIteratorType"`
	StartingSequenceNumber *string `kinesis:"SequenceNumber"`
	StreamARN              *string `kinesis:"StreamARN"`
	StreamId               *string `kinesis:"StreamId"`
	StreamName             *string `kinesis:"StreamName"`
	Timestamp              *time.Time
}

// GetShardIteratorOutput is the answer of GetShardIterator.
type GetShardIteratorOutput struct {
	ShardIterator string
}

// GetRecordsInput is the request of GetRecords.
type GetRecordsInput struct {
	DryRun        *bool
	Limit         *int32  `kinesis:"PageLimit"`
	ShardIterator *string `kinesis:"required,ShardIterator"`
	StreamARN     *string `kinesis:"StreamARN"`
	StreamId      *string `kinesis:"StreamId"`
}

// GetRecordsOutput is the answer of GetRecords.
type GetRecordsOutput struct {
	ChildShards        []ChildShard
	MillisBehindLatest int64
	NextShardIterator  *string
	Records            []Record
}

// Record is a record in an answer.
type Record struct {
	ApproximateArrivalTimestamp time.Time
	Data                        []byte
	EncryptionType              *string
	PartitionKey                *string
	SequenceNumber              string
}

// RetentionInput is the request of IncreaseStreamRetentionPeriod and
// DecreaseStreamRetentionPeriod.
type RetentionInput struct {
	RetentionPeriodHours *int32  `kinesis:"required"`
	StreamARN            *string `kinesis:"StreamARN"`
	StreamId             *string `kinesis:"StreamId"`
	StreamName           *string `kinesis:"StreamName"`
}

// UpdateStreamModeInput is the request of UpdateStreamMode.
type UpdateStreamModeInput struct {
	StreamARN           *string            `kinesis:"required,StreamARN"`
	StreamId            *string            `kinesis:"StreamId"`
	StreamModeDetails   *StreamModeDetails `kinesis:"required"`
	WarmThroughputMiBps *int32             `kinesis:"WarmThroughput"`
}

// UpdateMaxRecordSizeInput is the request of UpdateMaxRecordSize.
type UpdateMaxRecordSizeInput struct {
	MaxRecordSizeInKiB *int32  `kinesis:"required,MaxRecordSizeInKiB"`
	StreamARN          *string `kinesis:"StreamARN"`
	StreamId           *string `kinesis:"StreamId"`
}

// UpdateStreamWarmThroughputInput is the request of UpdateStreamWarmThroughput.
type UpdateStreamWarmThroughputInput struct {
	StreamARN           *string `kinesis:"StreamARN"`
	StreamId            *string `kinesis:"StreamId"`
	StreamName          *string `kinesis:"StreamName"`
	WarmThroughputMiBps *int32  `kinesis:"required,WarmThroughput"`
}

// UpdateStreamWarmThroughputOutput is the answer of UpdateStreamWarmThroughput.
type UpdateStreamWarmThroughputOutput struct {
	StreamARN      string
	StreamName     string
	WarmThroughput WarmThroughput
}

// UpdateStreamRecordDistributionStrategyInput is the request of
// UpdateStreamRecordDistributionStrategy.
type UpdateStreamRecordDistributionStrategyInput struct {
	RecordDistributionStrategy *string `kinesis:"required,RecordDistributionStrategy"`
	StreamARN                  *string `kinesis:"required,StreamARN"`
	StreamId                   *string `kinesis:"StreamId"`
}

// EncryptionInput is the request of StartStreamEncryption and
// StopStreamEncryption.
type EncryptionInput struct {
	EncryptionType *string `kinesis:"required,EncryptionType"`
	KeyId          *string `kinesis:"required,KeyId"`
	StreamARN      *string `kinesis:"StreamARN"`
	StreamId       *string `kinesis:"StreamId"`
	StreamName     *string `kinesis:"StreamName"`
}

// AddTagsToStreamInput is the request of AddTagsToStream.
type AddTagsToStreamInput struct {
	StreamARN  *string           `kinesis:"StreamARN"`
	StreamId   *string           `kinesis:"StreamId"`
	StreamName *string           `kinesis:"StreamName"`
	Tags       map[string]string `kinesis:"required,TagMap"`
}

// RemoveTagsFromStreamInput is the request of RemoveTagsFromStream.
type RemoveTagsFromStreamInput struct {
	StreamARN  *string  `kinesis:"StreamARN"`
	StreamId   *string  `kinesis:"StreamId"`
	StreamName *string  `kinesis:"StreamName"`
	TagKeys    []string `kinesis:"required,TagKeyList"`
}

// ListTagsForStreamInput is the request of ListTagsForStream.
type ListTagsForStreamInput struct {
	ExclusiveStartTagKey *string `kinesis:"TagKey"`
	Limit                *int32  `kinesis:"TagsLimit"`
	StreamARN            *string `kinesis:"StreamARN"`
	StreamId             *string `kinesis:"StreamId"`
	StreamName           *string `kinesis:"StreamName"`
}

// ListTagsForStreamOutput is the answer of ListTagsForStream.
type ListTagsForStreamOutput struct {
	HasMoreTags bool
	Tags        []Tag
}

// ResourceInput is the request of operations that name a stream or a consumer and
// nothing else.
type ResourceInput struct {
	ResourceARN *string `kinesis:"required,ResourceARN"`
	StreamId    *string `kinesis:"StreamId"`
}

// TagResourceInput is the request of TagResource.
type TagResourceInput struct {
	ResourceARN *string           `kinesis:"required,ResourceARN"`
	StreamId    *string           `kinesis:"StreamId"`
	Tags        map[string]string `kinesis:"required,TagMap"`
}

// UntagResourceInput is the request of UntagResource.
type UntagResourceInput struct {
	ResourceARN *string  `kinesis:"required,ResourceARN"`
	StreamId    *string  `kinesis:"StreamId"`
	TagKeys     []string `kinesis:"required,TagKeyList"`
}

// ListTagsForResourceOutput is the answer of ListTagsForResource.
type ListTagsForResourceOutput struct {
	Tags []Tag
}

// PutResourcePolicyInput is the request of PutResourcePolicy.
type PutResourcePolicyInput struct {
	Policy      *string `kinesis:"required"`
	ResourceARN *string `kinesis:"required,ResourceARN"`
	StreamId    *string `kinesis:"StreamId"`
}

// GetResourcePolicyOutput is the answer of GetResourcePolicy.
type GetResourcePolicyOutput struct {
	Policy string
}

// MonitoringInput is the request of EnableEnhancedMonitoring and
// DisableEnhancedMonitoring.
type MonitoringInput struct {
	ShardLevelMetrics []string `kinesis:"required,ShardLevelMetrics"`
	StreamARN         *string  `kinesis:"StreamARN"`
	StreamId          *string  `kinesis:"StreamId"`
	StreamName        *string  `kinesis:"StreamName"`
}

// MonitoringOutput is the answer of EnableEnhancedMonitoring and
// DisableEnhancedMonitoring.
type MonitoringOutput struct {
	CurrentShardLevelMetrics []string
	DesiredShardLevelMetrics []string
	StreamARN                string
	StreamName               string
}

// DescribeLimitsInput is the request of DescribeLimits.
type DescribeLimitsInput struct{}

// DescribeLimitsOutput is the answer of DescribeLimits.
type DescribeLimitsOutput struct {
	ChannelCount             int32
	ChannelCountLimit        int32
	OnDemandStreamCount      int32
	OnDemandStreamCountLimit int32
	OpenShardCount           int32
	ShardLimit               int32
}

// DescribeAccountSettingsInput is the request of DescribeAccountSettings.
type DescribeAccountSettingsInput struct{}

// UpdateAccountSettingsInput is the request of UpdateAccountSettings.
type UpdateAccountSettingsInput struct {
	MinimumThroughputBillingCommitment *CommitmentInput `kinesis:"required"`
}

// CommitmentInput sets whether the account commits itself to a minimum throughput.
type CommitmentInput struct {
	Status *string `kinesis:"required,CommitmentStatus"`
}

// AccountSettingsOutput is the answer of DescribeAccountSettings and
// UpdateAccountSettings.
type AccountSettingsOutput struct {
	MinimumThroughputBillingCommitment Commitment
}

// Commitment is the account's commitment to a minimum throughput.
type Commitment struct {
	EarliestAllowedEndAt *time.Time
	EndedAt              *time.Time
	StartedAt            *time.Time
	Status               string
}

// RegisterStreamConsumerInput is the request of RegisterStreamConsumer.
type RegisterStreamConsumerInput struct {
	ConsumerName *string           `kinesis:"required,ConsumerName"`
	StreamARN    *string           `kinesis:"required,StreamARN"`
	StreamId     *string           `kinesis:"StreamId"`
	Tags         map[string]string `kinesis:"TagMap"`
}

// RegisterStreamConsumerOutput is the answer of RegisterStreamConsumer.
type RegisterStreamConsumerOutput struct {
	Consumer Consumer
}

// Consumer is a consumer in a list.
type Consumer struct {
	ConsumerARN               string
	ConsumerCreationTimestamp time.Time
	ConsumerName              string
	ConsumerStatus            string
}

// ConsumerInput is the request of DescribeStreamConsumer and
// DeregisterStreamConsumer.
type ConsumerInput struct {
	ConsumerARN  *string `kinesis:"ConsumerARN"`
	ConsumerName *string `kinesis:"ConsumerName"`
	StreamARN    *string `kinesis:"StreamARN"`
	StreamId     *string `kinesis:"StreamId"`
}

// DescribeStreamConsumerOutput is the answer of DescribeStreamConsumer.
type DescribeStreamConsumerOutput struct {
	ConsumerDescription ConsumerDescription
}

// ConsumerDescription describes a consumer.
type ConsumerDescription struct {
	ConsumerARN               string
	ConsumerCreationTimestamp time.Time
	ConsumerName              string
	ConsumerStatus            string
	StreamARN                 string
}

// ListStreamConsumersInput is the request of ListStreamConsumers.
type ListStreamConsumersInput struct {
	MaxResults              *int32  `kinesis:"PageLimit"`
	NextToken               *string `kinesis:"NextToken"`
	StreamARN               *string `kinesis:"required,StreamARN"`
	StreamCreationTimestamp *time.Time
	StreamId                *string `kinesis:"StreamId"`
}

// ListStreamConsumersOutput is the answer of ListStreamConsumers.
type ListStreamConsumersOutput struct {
	Consumers []Consumer
	NextToken *string
}

// SubscribeToShardInput is the request of SubscribeToShard.
type SubscribeToShardInput struct {
	ConsumerARN      *string `kinesis:"required,ConsumerARN"`
	DryRun           *bool
	ShardId          *string           `kinesis:"required,ShardId"`
	StartingPosition *StartingPosition `kinesis:"required"`
	StreamId         *string           `kinesis:"StreamId"`
}

// StartingPosition is where a subscription begins.
type StartingPosition struct {
	SequenceNumber *string `kinesis:"SequenceNumber"`
	Timestamp      *time.Time
	Type           *string `kinesis:"required,ShardIteratorType"`
}

// SubscribeToShardEvent is an event of a subscription.
type SubscribeToShardEvent struct {
	ChildShards                []ChildShard
	ContinuationSequenceNumber *string
	MillisBehindLatest         int64
	Records                    []Record
}
