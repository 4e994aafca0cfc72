package wire

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shaped has a member of each shape.
type shaped struct {
	StreamName, ConsumerName   *string                  `kinesis:"StreamName"`
	StreamARN                  *string                  `kinesis:"StreamARN"`
	ResourceARN                *string                  `kinesis:"ResourceARN"`
	ConsumerARN                *string                  `kinesis:"ConsumerARN"`
	ShardIterator              *string                  `kinesis:"ShardIterator"`
	StartingSequenceNumber     *string                  `kinesis:"SequenceNumber"`
	NewStartingHashKey         *string                  `kinesis:"HashKey"`
	PartitionKey               *string                  `kinesis:"PartitionKey"`
	NextToken                  *string                  `kinesis:"NextToken"`
	KeyId                      *string                  `kinesis:"KeyId"`
	StreamId                   *string                  `kinesis:"StreamId"`
	Data                       []byte                   `kinesis:"Data"`
	ShardCount                 *int32                   `kinesis:"PositiveInteger"`
	Limit                      *int32                   `kinesis:"PageLimit"`
	TagsLimit                  *int32                   `kinesis:"TagsLimit"`
	MaxRecordSizeInKiB         *int32                   `kinesis:"MaxRecordSizeInKiB"`
	WarmThroughputMiBps        *int64                   `kinesis:"WarmThroughput"`
	Entries                    []PutRecordsRequestEntry `kinesis:"PutRecordsRequestEntryList"`
	TagKeys                    []string                 `kinesis:"TagKeyList"`
	Tags                       map[string]string        `kinesis:"TagMap"`
	ShardLevelMetrics          []string                 `kinesis:"ShardLevelMetrics"`
	ShardIteratorType          *string                  `kinesis:"ShardIteratorType"`
	ShardFilterType            *string                  `kinesis:"ShardFilterType"`
	StreamMode                 *string                  `kinesis:"StreamMode"`
	EncryptionType             *string                  `kinesis:"EncryptionType"`
	ScalingType                *string                  `kinesis:"ScalingType"`
	RecordDistributionStrategy *string                  `kinesis:"RecordDistributionStrategy"`
	Status                     *string                  `kinesis:"CommitmentStatus"`
}

func TestConstraints(t *testing.T) {
	const (
		atLeast = "Member must have length greater than or equal to %d"
		atMost  = "Member must have length less than or equal to %d"
		from    = "Member must have value greater than or equal to %d"
		upTo    = "Member must have value less than or equal to %d"
		pattern = "Member must satisfy regular expression pattern: "
		values  = "Member must satisfy enum value set: "
		keySize = "[Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"
	)
	long := func(n int) *string { return new(strings.Repeat("a", n)) }
	tags := func(n int) map[string]string {
		tags := map[string]string{}
		for i := range n {
			tags[fmt.Sprintf("%03d", i)] = ""
		}
		return tags
	}
	tagText := func(n int) string {
		var pairs []string
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("%03d=", i))
		}
		return "{" + strings.Join(pairs, ", ") + "}"
	}
	for _, c := range []struct {
		in   shaped
		path string
		v    string
		want []string // the constraints that fail
	}{
		{in: shaped{}},
		{in: shaped{StreamName: new("aZ09_.-")}},
		{in: shaped{StreamName: long(128)}},
		{shaped{StreamName: new("")}, "streamName", "", []string{pattern + `[a-zA-Z0-9_.-]+`, fmt.Sprintf(atLeast, 1)}},
		{shaped{StreamName: long(129)}, "streamName", *long(129), []string{fmt.Sprintf(atMost, 128)}},
		{shaped{StreamName: new("a;" + *long(127))}, "streamName", "a;" + *long(127), []string{pattern + `[a-zA-Z0-9_.-]+`, fmt.Sprintf(atMost, 128)}},
		{shaped{ConsumerName: new("a\n")}, "consumerName", "a\n", []string{pattern + `[a-zA-Z0-9_.-]+`}},
		{in: shaped{StreamARN: new("arn:aws:kinesis:us-east-1:123456789012:stream/a")}},
		{in: shaped{StreamARN: new("arn:aws-cn:kinesis:a:b:kinesis::123456789012:stream/é")}},
		{shaped{StreamARN: new("arn:aws:kinesis:us-east-1:12345678901:stream/a")}, "streamARN", "arn:aws:kinesis:us-east-1:12345678901:stream/a", []string{pattern + `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`}},
		{shaped{StreamARN: new("arn:aws:kinesis:us-east-1:123456789012:stream/a b")}, "streamARN", "arn:aws:kinesis:us-east-1:123456789012:stream/a b", []string{pattern + `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`}},
		// White space and line terminators are Java's.
		{shaped{StreamARN: new("arn:aws:kinesis:us-east-1:123456789012:stream/a\vb")}, "streamARN", "arn:aws:kinesis:us-east-1:123456789012:stream/a\vb", []string{pattern + `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`}},
		{shaped{StreamARN: new("arn:aws:kinesis:us\reast:123456789012:stream/a")}, "streamARN", "arn:aws:kinesis:us\reast:123456789012:stream/a", []string{pattern + `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`}},
		{shaped{ResourceARN: new("arn:aws:kinesis:us\u2028east:123456789012:stream/a")}, "resourceARN", "arn:aws:kinesis:us\u2028east:123456789012:stream/a", []string{pattern + `arn:aws.*:kinesis:.*:\d{12}:.*(stream|channel|queue)/\S+`}},
		{in: shaped{StreamARN: new("arn:aws:kinesis:us\teast:123456789012:stream/a\u00a0b")}},
		{shaped{StreamARN: long(1 << 17)}, "streamARN", *long(1 << 17), []string{fmt.Sprintf(atMost, 2048)}},
		{in: shaped{ResourceARN: new("arn:aws:kinesis:us-east-1:123456789012:stream/a/consumer/b:1")}},
		{in: shaped{ResourceARN: new("arn:aws:kinesis:us-east-1:123456789012:xstream/a")}},
		{shaped{ResourceARN: new("x")}, "resourceARN", "x", []string{pattern + `arn:aws.*:kinesis:.*:\d{12}:.*(stream|channel|queue)/\S+`}},
		{in: shaped{ConsumerARN: new("arn:aws:kinesis:us-east-1:123456789012:stream/a/consumer/b:1")}},
		{shaped{ConsumerARN: new("arn:aws:kinesis:us-east-1:123456789012:stream/a")}, "consumerARN", "arn:aws:kinesis:us-east-1:123456789012:stream/a", []string{pattern + `^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+`}},
		{shaped{ShardIterator: new("")}, "shardIterator", "", []string{fmt.Sprintf(atLeast, 1)}},
		{shaped{ShardIterator: long(513)}, "shardIterator", *long(513), []string{fmt.Sprintf(atMost, 512)}},
		{in: shaped{StartingSequenceNumber: new("0")}},
		{in: shaped{StartingSequenceNumber: new(strings.Repeat("9", 129))}},
		{shaped{StartingSequenceNumber: new(strings.Repeat("9", 130))}, "startingSequenceNumber", strings.Repeat("9", 130), []string{pattern + `0|([1-9]\d{0,128})`}},
		{in: shaped{NewStartingHashKey: new(strings.Repeat("9", 39))}},
		{shaped{NewStartingHashKey: new("")}, "newStartingHashKey", "", []string{pattern + `0|([1-9]\d{0,38})`}},
		{shaped{NewStartingHashKey: new("01")}, "newStartingHashKey", "01", []string{pattern + `0|([1-9]\d{0,38})`}},
		{in: shaped{PartitionKey: new(strings.Repeat("日", 256))}},
		{in: shaped{PartitionKey: new(strings.Repeat("😀", 256))}},
		{shaped{PartitionKey: new("")}, "partitionKey", "", []string{fmt.Sprintf(atLeast, 1)}},
		{shaped{PartitionKey: new(strings.Repeat("😀", 256) + "a")}, "partitionKey", strings.Repeat("😀", 256) + "a", []string{fmt.Sprintf(atMost, 256)}},
		{in: shaped{Tags: map[string]string{strings.Repeat("𐐷", 128): strings.Repeat("𐐷", 256)}}},
		{in: shaped{TagKeys: []string{strings.Repeat("𐐷", 128)}}},
		{in: shaped{KeyId: new(strings.Repeat("𐐷", 2048))}},
		{shaped{NextToken: long(1<<20 + 1)}, "nextToken", *long(1<<20 + 1), []string{fmt.Sprintf(atMost, 1<<20)}},
		{shaped{KeyId: long(2049)}, "keyId", *long(2049), []string{fmt.Sprintf(atMost, 2048)}},
		{in: shaped{StreamId: new("")}},
		{in: shaped{Data: []byte{}}},
		{in: shaped{Data: make([]byte, 10485760)}},
		{shaped{Data: make([]byte, 10485761)}, "data", "java.nio.HeapByteBuffer[pos=0 lim=10485761 cap=10485761]", []string{fmt.Sprintf(atMost, 10485760)}},
		{in: shaped{ShardCount: new(int32(1))}},
		{shaped{ShardCount: new(int32(0))}, "shardCount", "0", []string{fmt.Sprintf(from, 1)}},
		{in: shaped{Limit: new(int32(10000))}},
		{shaped{Limit: new(int32(-1))}, "limit", "-1", []string{fmt.Sprintf(from, 1)}},
		{shaped{Limit: new(int32(10001))}, "limit", "10001", []string{fmt.Sprintf(upTo, 10000)}},
		{shaped{TagsLimit: new(int32(51))}, "tagsLimit", "51", []string{fmt.Sprintf(upTo, 50)}},
		{shaped{MaxRecordSizeInKiB: new(int32(1023))}, "maxRecordSizeInKiB", "1023", []string{fmt.Sprintf(from, 1024)}},
		{shaped{MaxRecordSizeInKiB: new(int32(10241))}, "maxRecordSizeInKiB", "10241", []string{fmt.Sprintf(upTo, 10240)}},
		{in: shaped{WarmThroughputMiBps: new(int64(0))}},
		{shaped{WarmThroughputMiBps: new(int64(-1))}, "warmThroughputMiBps", "-1", []string{fmt.Sprintf(from, 0)}},
		{shaped{Entries: []PutRecordsRequestEntry{}}, "entries", "[]", []string{fmt.Sprintf(atLeast, 1)}},
		{shaped{TagKeys: []string{}}, "tagKeys", "[]", []string{fmt.Sprintf(atLeast, 1)}},
		{shaped{TagKeys: []string{"a", ""}}, "tagKeys", "[a, ]", []string{"Member must satisfy constraint: " + keySize}},
		{shaped{TagKeys: []string{*long(129)}}, "tagKeys", "[" + *long(129) + "]", []string{"Member must satisfy constraint: " + keySize}},
		{shaped{TagKeys: make([]string, 51)}, "tagKeys", "[" + strings.Repeat(", ", 50) + "]", []string{fmt.Sprintf(atMost, 50), "Member must satisfy constraint: " + keySize}},
		{in: shaped{Tags: tags(200)}},
		{shaped{Tags: tags(201)}, "tags", tagText(201), []string{fmt.Sprintf(atMost, 200)}},
		{shaped{Tags: tags(0)}, "tags", "{}", []string{fmt.Sprintf(atLeast, 1)}},
		{shaped{Tags: map[string]string{"": "a", "b": "c"}}, "tags", "{=a, b=c}", []string{"Map keys must satisfy constraint: " + keySize}},
		{
			shaped{Tags: map[string]string{"": *long(257)}},
			"tags", "{=" + *long(257) + "}",
			[]string{"Map keys must satisfy constraint: " + keySize, "Map value must satisfy constraint: [Member must have length less than or equal to 256, Member must have length greater than or equal to 0]"},
		},
		{in: shaped{ShardLevelMetrics: []string{"ALL"}}},
		{shaped{ShardLevelMetrics: []string{}}, "shardLevelMetrics", "[]", []string{fmt.Sprintf(atLeast, 1)}},
		{shaped{ShardLevelMetrics: strings.Fields(strings.Repeat("ALL ", 9))}, "shardLevelMetrics", "[ALL" + strings.Repeat(", ALL", 8) + "]", []string{fmt.Sprintf(atMost, 8)}},
		{
			shaped{ShardLevelMetrics: []string{"ALL", "all"}},
			"shardLevelMetrics", "[ALL, all]",
			[]string{"Member must satisfy constraint: [" + values + "[IncomingBytes, IncomingRecords, OutgoingBytes, OutgoingRecords, WriteProvisionedThroughputExceeded, ReadProvisionedThroughputExceeded, IteratorAgeMilliseconds, ALL]]"},
		},
		{in: shaped{ShardIteratorType: new("LATEST")}},
		{shaped{ShardIteratorType: new("latest")}, "shardIteratorType", "latest", []string{values + "[AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]"}},
		{shaped{ShardFilterType: new("")}, "shardFilterType", "", []string{values + "[AFTER_SHARD_ID, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, AT_LATEST, AT_TIMESTAMP, FROM_TIMESTAMP]"}},
		{shaped{StreamMode: new("x")}, "streamMode", "x", []string{values + "[PROVISIONED, ON_DEMAND]"}},
		{shaped{EncryptionType: new("x")}, "encryptionType", "x", []string{values + "[NONE, KMS]"}},
		{shaped{ScalingType: new("x")}, "scalingType", "x", []string{values + "[UNIFORM_SCALING]"}},
		{shaped{RecordDistributionStrategy: new("x")}, "recordDistributionStrategy", "x", []string{values + "[AUTO, USER_PARTITION_KEY]"}},
		{shaped{Status: new("ENABLED_UNTIL_EARLIEST_ALLOWED_END")}, "status", "ENABLED_UNTIL_EARLIEST_ALLOWED_END", []string{values + "[ENABLED, DISABLED]"}},
	} {
		var faults []string
		for _, constraint := range c.want {
			faults = append(faults, "Value '"+c.v+"' at '"+c.path+"' failed to satisfy constraint: "+constraint)
		}
		want := ""
		switch len(faults) {
		case 0:
		case 1:
			want = "1 validation error detected: " + faults[0]
		default:
			want = fmt.Sprintf("%d validation errors detected: %s", len(faults), strings.Join(faults, "; "))
		}
		require.Equal(t, want, Validate(&c.in))
		require.Equal(t, want, Validate(c.in))
	}
}

func TestNestedConstraints(t *testing.T) {
	require.Equal(t, "1 validation error detected: Value null at 'records' failed to satisfy constraint: Member must not be null",
		Validate(&putRecordsInput{}))

	in := putRecords(3, 10)
	in.Records[0].Data = nil
	in.Records[2].PartitionKey = new("")
	in.Records[2].ExplicitHashKey = new("x")
	require.Equal(t, "3 validation errors detected: "+
		"Value null at 'records.1.member.data' failed to satisfy constraint: Member must not be null; "+
		`Value 'x' at 'records.3.member.explicitHashKey' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\d{0,38}); `+
		"Value '' at 'records.3.member.partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1",
		Validate(in))

	require.Regexp(t, `^1 validation error detected: Value '\[(com\.amazonaws\.kinesis\.v20131202\.PutRecordsRequestEntry@[0-9a-f]+, ){500}`+
		`com\.amazonaws\.kinesis\.v20131202\.PutRecordsRequestEntry@[0-9a-f]+\]' at 'records' failed to satisfy constraint: `+
		`Member must have length less than or equal to 500$`, Validate(putRecords(501, 1)))

	// At most ten failures are reported, and the text stays small.
	text := Validate(&putRecordsInput{Records: make([]PutRecordsRequestEntry, 100_000)})
	require.True(t, strings.HasPrefix(text, "10 validation errors detected: "))
	require.Equal(t, 10, strings.Count(text, "failed to satisfy constraint"))
	require.Less(t, len(text), 100<<10)

	type filter struct {
		Type *string `kinesis:"required,ShardFilterType"`
	}
	type listShardsInput struct {
		ShardFilter *filter
		Position    *filter           `kinesis:"required"`
		Names       []string          `kinesis:"required"`
		Tags        map[string]string `kinesis:"required"`
		Enforce     *bool             `kinesis:"required"`
		Limit       *int32            `kinesis:"required,PageLimit"`
		Size        *int64            `kinesis:"required"`
	}
	absent := func(paths ...string) string {
		for i, path := range paths {
			paths[i] = "Value null at '" + path + "' failed to satisfy constraint: Member must not be null"
		}
		return fmt.Sprintf("%d validation errors detected: ", len(paths)) + strings.Join(paths, "; ")
	}
	require.Equal(t, absent("shardFilter.type", "position", "names", "tags", "enforce", "limit", "size"),
		Validate(&listShardsInput{ShardFilter: &filter{}}))
	require.Empty(t, Validate(&listShardsInput{
		Position: &filter{Type: new("AT_LATEST")}, Names: []string{}, Tags: map[string]string{},
		Enforce: new(false), Limit: new(int32(1)), Size: new(int64(0)),
	}))
}

// The hand-written matchers agree with the patterns.
func TestPatterns(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	pieces := []string{"arn", ":", "aws", "-cn", "kinesis", "us-east-1", "123456789012", "12345678901", "stream/", "/consumer/", "a", "Z", "0", "1", "9", "_", ".", "-", " ", "\n", "é", "`", "{", "@", "[", "/"}
	pieces = append(pieces, "queue/", "channel/")
	goods := []string{"arn:aws:kinesis:us-east-1:123456789012:stream/a/consumer/b:1", "arn:aws:kinesis:us-east-1:123456789012:queue/a1"}
	for name, s := range shapes {
		if s.match == nil {
			continue
		}
		whole := regexp.MustCompile(`^(?:` + s.pattern + `)$`)
		matched := 0
		for range 20_000 {
			text := ""
			if r.IntN(2) == 0 {
				good := goods[r.IntN(len(goods))]
				cut := r.IntN(len(good) + 1)
				text = good[:cut] + pieces[r.IntN(len(pieces))] + good[min(len(good), cut+r.IntN(3)):]
			} else {
				for range r.IntN(8) {
					text += pieces[r.IntN(len(pieces))]
				}
			}
			if r.IntN(4) == 0 {
				text = strings.Repeat(string(rune('0'+r.IntN(10))), 30+r.IntN(110))
			}
			if text != "" && r.IntN(50) == 0 {
				text = "0"
			}
			want := whole.MatchString(text)
			require.Equal(t, want, s.match(text), "%s: %q", name, text)
			if want {
				matched++
			}
		}
		require.NotZero(t, matched, name)
	}
}
