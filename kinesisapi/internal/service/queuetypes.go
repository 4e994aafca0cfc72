package service

import "time"

// The requests and answers of the operations on queues. See types.go.

// CreateQueueInput is the request of CreateQueue.
type CreateQueueInput struct {
	QueueAttributes         *QueueAttributes
	QueueName               *string                    `kinesis:"required,QueueName"`
	StreamConfigurationList []QueueStreamConfiguration `kinesis:"required,StreamList"`
	Tags                    map[string]string          `kinesis:"TagMap"`
}

// QueueStreamConfiguration is the stream of a queue, and where the queue begins in it.
type QueueStreamConfiguration struct {
	StartingPosition *QueueStartingPosition
	StreamARN        *string `kinesis:"required,StreamARN"`
}

// QueueStartingPosition is where a queue begins.
type QueueStartingPosition struct {
	Timestamp *time.Time
	Type      *string `kinesis:"required,QueueStartingPositionType"`
}

// QueueAttributes are the changeable settings of a queue. Absent members of CreateQueue
// mean the default; absent members of UpdateQueue leave the setting as it is.
type QueueAttributes struct {
	DeadLetterConfiguration  *DeadLetterConfiguration
	VisibilityTimeoutSeconds *int32 `kinesis:"VisibilityTimeoutSeconds"`
}

// DeadLetterConfiguration has the number of deliveries after which a record is a dead
// letter.
type DeadLetterConfiguration struct {
	MaxReceiveCount *int32  `kinesis:"MaxReceiveCount"`
	TargetType      *string `kinesis:"required,TargetType"`
}

// QueueInput is the request of operations that name a queue and nothing else.
type QueueInput struct {
	QueueARN *string `kinesis:"required,QueueARN"`
}

// UpdateQueueInput is the request of UpdateQueue.
type UpdateQueueInput struct {
	QueueARN        *string          `kinesis:"required,QueueARN"`
	QueueAttributes *QueueAttributes `kinesis:"required"`
}

// QueueOutput is the answer of CreateQueue, DescribeQueue and UpdateQueue.
type QueueOutput struct {
	QueueDescription QueueDescription
}

// QueueDescription describes a queue.
type QueueDescription struct {
	QueueARN                string
	QueueAttributes         QueueAttributes
	QueueCreationTimestamp  time.Time
	QueueName               string
	QueueStatus             string
	StreamConfigurationList []QueueStreamConfiguration
}

// ListQueuesInput is the request of ListQueues.
type ListQueuesInput struct {
	MaxResults   *int32         `kinesis:"PageLimit"`
	NextToken    *string        `kinesis:"NextToken"`
	StreamFilter []StreamFilter `kinesis:"StreamList"`
}

// ListQueuesOutput is the answer of ListQueues.
type ListQueuesOutput struct {
	NextToken      *string
	QueueSummaries []QueueSummary
}

// StreamFilter selects the channels or queues of a stream. The time distinguishes it from
// other streams of the same name.
type StreamFilter struct {
	StreamARN               *string `kinesis:"required,StreamARN"`
	StreamCreationTimestamp *time.Time
}

// QueueSummary is a queue in a list.
type QueueSummary struct {
	QueueARN               string
	QueueCreationTimestamp time.Time
	QueueName              string
	QueueStatus            string
	Streams                []QueueStreamIdentifier
}

// QueueStreamIdentifier is a stream that a queue delivers.
type QueueStreamIdentifier struct {
	StreamARN               string
	StreamCreationTimestamp time.Time
}

// ReceiveInput is the request of ReceiveQueueRecords and
// ReceiveDeadLetterQueueRecords.
type ReceiveInput struct {
	Limit                    *int32  `kinesis:"ReceiveLimit"`
	QueueARN                 *string `kinesis:"required,QueueARN"`
	VisibilityTimeoutSeconds *int32  `kinesis:"VisibilityTimeoutSeconds"`
	WaitTimeSeconds          *int32  `kinesis:"WaitTimeSeconds"`
}

// ReceiveOutput is the answer of ReceiveQueueRecords and
// ReceiveDeadLetterQueueRecords.
type ReceiveOutput struct {
	QueueRecords []QueueRecord
}

// QueueRecord is a received record.
type QueueRecord struct {
	ApproximateArrivalTimestamp time.Time
	Data                        []byte
	FirstReceiveTimestamp       time.Time
	PartitionKey                *string
	ReceiptHandle               string
	ReceiveCount                int32
	RecordId                    string
}

// ReceiptsInput is the request of AcknowledgeQueueRecords,
// AcknowledgeDeadLetterQueueRecords and RestoreDeadLetterQueueRecords.
type ReceiptsInput struct {
	Entries  []ReceiptEntry `kinesis:"required,QueueEntryList"`
	QueueARN *string        `kinesis:"required,QueueARN"`
}

// ReceiptEntry is the receipt handle of a delivery.
type ReceiptEntry struct {
	ReceiptHandle *string `kinesis:"required,ReceiptHandle"`
}

// VisibilityInput is the request of UpdateQueueRecordsVisibility and
// UpdateDeadLetterQueueRecordsVisibility.
type VisibilityInput struct {
	Entries  []VisibilityEntry `kinesis:"required,QueueEntryList"`
	QueueARN *string           `kinesis:"required,QueueARN"`
}

// VisibilityEntry is the receipt handle of a delivery, and how long its record stays hidden
// from now on.
type VisibilityEntry struct {
	ReceiptHandle            *string `kinesis:"required,ReceiptHandle"`
	VisibilityTimeoutSeconds *int32  `kinesis:"required,VisibilityTimeoutSeconds"`
}

// ReceiptsOutput is the answer of the operations on receipt handles: each handle is in
// one of the two lists.
type ReceiptsOutput struct {
	Failed     []ReceiptError
	Successful []Receipt
}

// Receipt is a handle for which an operation succeeded.
type Receipt struct {
	ReceiptHandle string
}

// ReceiptError is a handle for which an operation failed, and the reason.
type ReceiptError struct {
	ErrorCode     string
	ErrorMessage  *string
	ReceiptHandle string
}
