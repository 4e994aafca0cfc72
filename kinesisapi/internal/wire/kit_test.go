package wire

import "time"

// Structs as the service has them.
type (
	putRecordsInput struct {
		DryRun     *bool
		Records    []PutRecordsRequestEntry `kinesis:"required,PutRecordsRequestEntryList"`
		StreamARN  *string                  `kinesis:"StreamARN"`
		StreamName *string                  `kinesis:"StreamName"`
	}

	PutRecordsRequestEntry struct {
		Data            []byte  `kinesis:"required,Data"`
		ExplicitHashKey *string `kinesis:"HashKey"`
		PartitionKey    *string `kinesis:"required,PartitionKey"`
	}

	getRecordsOutput struct {
		ChildShards        []childShard
		MillisBehindLatest int64
		NextShardIterator  *string
		Records            []record
	}

	childShard struct {
		HashKeyRange hashKeyRange
		ParentShards []string
		ShardId      string
	}

	hashKeyRange struct{ EndingHashKey, StartingHashKey string }

	record struct {
		ApproximateArrivalTimestamp *time.Time
		Data                        []byte
		EncryptionType              *string
		PartitionKey                *string
		SequenceNumber              *string
	}

	// every has a member of each type.
	every struct {
		String  *string
		Int     *int32
		Long    *int64
		Bool    *bool
		Time    *time.Time
		Blob    []byte
		Strings []string
		Tags    map[string]string
		One     *every1
		Many    []every1
		Text    string
		Number  int32
		Count   int64
		Is      bool
		At      time.Time
		Inner   every1
	}

	every1 struct {
		String *string
		Blob   []byte
		Int    *int32
	}
)
