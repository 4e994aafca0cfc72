package wire

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// shape is a set of constraints on a value. Which of them apply depends on the type.
type shape struct {
	on       domain
	min, max int64 // of a number, or of a length
	pattern  string
	match    func(string) bool // whether all of a value matches pattern
	enum     []string
	element  *shape // for each element of a list, or each key of a map
	value    *shape // for each value of a map
}

// domain is a set of types to which a shape applies.
type domain uint8

const (
	onString domain = iota
	onNumber
	onBlob
	onList
	onStrings
	onTags
	onAny
)

func (s *shape) suits(c class) bool {
	switch s.on {
	case onString:
		return c == classString || c == classPlainString
	case onNumber:
		return c == classInt32 || c == classInt64 || c == classPlainInt32 || c == classPlainInt64
	case onBlob:
		return c == classBlob
	case onList:
		return c == classStructs || c == classStrings
	case onStrings:
		return c == classStrings
	case onTags:
		return c == classTags
	}
	return true
}

const unbounded = math.MaxInt64

// shapes has the constraints of the service model, by name. Enum values are in the order in
// which the service lists them, where that is known.
var shapes = map[string]*shape{
	"StreamName":   name,
	"ConsumerName": name,
	"QueueName":    name,
	"ShardId":      name,
	"StreamARN": {
		max: 2048, min: 1,
		pattern: `arn:aws.*:kinesis:.*:\d{12}:stream/\S+`,
		match:   arn(`arn:aws.*:kinesis:.*:\d{12}:stream/\S+`, "stream/"),
	},
	"ResourceARN": {
		max: 2048, min: 1,
		pattern: `arn:aws.*:kinesis:.*:\d{12}:.*(stream|channel|queue)/\S+`,
		match:   arn(`arn:aws.*:kinesis:.*:\d{12}:.*(stream|channel|queue)/\S+`, "stream/"),
	},
	"QueueARN": {
		max: 2048, min: 1,
		pattern: `arn:aws.*:kinesis:.*:\d{12}:queue/\S+`,
		match:   arn(`arn:aws.*:kinesis:.*:\d{12}:queue/\S+`, "queue/"),
	},
	"ConsumerARN": {
		max: 2048, min: 1,
		pattern: `^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+`,
		match:   arn(`^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+`, ""),
	},
	"ShardIterator": {min: 1, max: 512},
	"ReceiptHandle": {min: 1, max: 1024},
	"SequenceNumber": {
		max:     unbounded,
		pattern: `0|([1-9]\d{0,128})`,
		match:   func(s string) bool { return isNumber(s, 129) },
	},
	"HashKey": {
		max:     unbounded,
		pattern: `0|([1-9]\d{0,38})`,
		match:   func(s string) bool { return isNumber(s, 39) },
	},
	"PartitionKey": {min: 1, max: 256},
	"TagKey":       tagKey,
	"NextToken":    {min: 1, max: 1048576},
	"KeyId":        {min: 1, max: 2048},

	"Data": {on: onBlob, max: 10485760},

	"PositiveInteger":    {on: onNumber, min: 1, max: unbounded},
	"PageLimit":          {on: onNumber, min: 1, max: 10000},
	"TagsLimit":          {on: onNumber, min: 1, max: 50},
	"MaxRecordSizeInKiB": {on: onNumber, min: 1024, max: 10240},
	"WarmThroughput":     {on: onNumber, max: unbounded},

	"VisibilityTimeoutSeconds": {on: onNumber, max: 43200},
	"MaxReceiveCount":          {on: onNumber, min: 1, max: 1000},
	"ReceiveLimit":             {on: onNumber, min: 1, max: 10},
	"WaitTimeSeconds":          {on: onNumber, min: 1, max: 20},

	"PutRecordsRequestEntryList": {on: onList, min: 1, max: 500},
	"QueueEntryList":             {on: onList, min: 1, max: 10},
	"StreamList":                 {on: onList, min: 1, max: 10000},
	"TagKeyList":                 {on: onStrings, min: 1, max: 50, element: tagKey},
	"TagMap":                     {on: onTags, min: 1, max: 200, element: tagKey, value: &shape{max: 256}},

	// The model has 7, without ALL.
	"ShardLevelMetrics": {on: onStrings, min: 1, max: 8, element: enum(
		"IncomingBytes", "IncomingRecords", "OutgoingBytes", "OutgoingRecords",
		"WriteProvisionedThroughputExceeded", "ReadProvisionedThroughputExceeded",
		"IteratorAgeMilliseconds", "ALL",
	)},

	"ShardIteratorType":          enum("AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"),
	"ShardFilterType":            enum("AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST", "AT_TIMESTAMP", "FROM_TIMESTAMP"),
	"StreamMode":                 enum("PROVISIONED", "ON_DEMAND"),
	"EncryptionType":             enum("NONE", "KMS"),
	"ScalingType":                enum("UNIFORM_SCALING"),
	"RecordDistributionStrategy": enum("AUTO", "USER_PARTITION_KEY"),
	"CommitmentStatus":           enum("ENABLED", "DISABLED"),
	"QueueStartingPositionType":  enum("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
	"TargetType":                 enum("BUILT_IN", "NONE"),

	"StreamId": {on: onAny, max: unbounded},
}

var (
	name   = &shape{min: 1, max: 128, pattern: `[a-zA-Z0-9_.-]+`, match: isName}
	tagKey = &shape{min: 1, max: 128}
)

func enum(values ...string) *shape {
	return &shape{max: unbounded, enum: values}
}

// isName matches [a-zA-Z0-9_.-]+.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != '.' && c != '-' && !isDigit(c) && (c|0x20 < 'a' || 'z' < c|0x20) {
			return false
		}
	}
	return s != ""
}

// isNumber matches 0|([1-9]\d{0,most-1}).
func isNumber(s string, most int) bool {
	if s == "" || len(s) > most || s[0] == '0' && s != "0" {
		return false
	}
	return isDigits(s)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// longestARN bounds the work of a pattern with several loops. A longer text counts as a
// match, because it fails the bound on its length anyway.
const longestARN = 1 << 16

// inJava converts the service's patterns, which are Java's, to Go's syntax. In Java, a dot
// matches no line terminator of any kind, and a vertical tab is white space.
var inJava = strings.NewReplacer(`.*`, `[^\n\r\x{85}\x{2028}\x{2029}]*`, `\S`, `[^\t-\r ]`)

// arn matches a pattern. If the pattern's resource is a prefix followed by anything without
// white space, a faster check recognises most values.
func arn(pattern, prefix string) func(string) bool {
	whole := regexp.MustCompile(`^(?:` + inJava.Replace(pattern) + `)$`)
	return func(s string) bool {
		return len(s) > longestARN || prefix != "" && isPlainARN(s, prefix) || whole.MatchString(s)
	}
}

// isPlainARN recognises arn:aws*:kinesis:region:account:prefix* with parts of printable
// ASCII.
func isPlainARN(s, prefix string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	partition, s, _ := strings.Cut(strings.TrimPrefix(s, "arn:"), ":")
	service, s, _ := strings.Cut(s, ":")
	_, s, _ = strings.Cut(s, ":")
	account, resource, _ := strings.Cut(s, ":")
	return strings.HasPrefix(partition, "aws") && service == "kinesis" &&
		len(account) == 12 && isDigits(account) &&
		len(resource) > len(prefix) && strings.HasPrefix(resource, prefix)
}

// length counts the characters of a string as braid does: Unicode code points. It is not
// known whether the service counts a code point beyond U+FFFF once or twice.
func length(s string) int { return utf8.RuneCountInString(s) }

// These methods append the failed constraints of a value to faults. They do not allocate if
// there are none.

func (s *shape) checkString(faults []string, v string) []string {
	if s.enum != nil {
		for _, allowed := range s.enum {
			if v == allowed {
				return faults
			}
		}
		return append(faults, s.enumText())
	}
	if s.match != nil && !s.match(v) {
		faults = append(faults, "Member must satisfy regular expression pattern: "+s.pattern)
	}
	// A string has at most as many characters as bytes.
	if s.min <= 1 && int64(len(v)) >= s.min && int64(len(v)) <= s.max {
		return faults
	}
	return s.checkLength(faults, length(v))
}

func (s *shape) checkLength(faults []string, n int) []string {
	if int64(n) < s.min {
		return append(faults, s.shortText())
	}
	if int64(n) > s.max {
		return append(faults, s.longText())
	}
	return faults
}

func (s *shape) checkNumber(faults []string, n int64) []string {
	if n < s.min {
		return append(faults, "Member must have value greater than or equal to "+strconv.FormatInt(s.min, 10))
	}
	if n > s.max {
		return append(faults, "Member must have value less than or equal to "+strconv.FormatInt(s.max, 10))
	}
	return faults
}

func (s *shape) checkStrings(faults []string, list []string) []string {
	faults = s.checkLength(faults, len(list))
	if s.element == nil {
		return faults
	}
	for _, v := range list {
		if s.element.checkString(nil, v) != nil {
			return append(faults, "Member must satisfy constraint: "+s.element.text())
		}
	}
	return faults
}

func (s *shape) checkTags(faults []string, tags map[string]string) []string {
	faults = s.checkLength(faults, len(tags))
	keys, values := true, true
	for k, v := range tags {
		keys = keys && s.element.checkString(nil, k) == nil
		values = values && s.value.checkString(nil, v) == nil
	}
	if !keys {
		faults = append(faults, "Map keys must satisfy constraint: "+s.element.text())
	}
	if !values {
		faults = append(faults, "Map value must satisfy constraint: "+s.value.text())
	}
	return faults
}

// text lists all constraints on an element, not only those that fail.
func (s *shape) text() string {
	if s.enum != nil {
		return "[" + s.enumText() + "]"
	}
	return "[" + s.longText() + ", " + s.shortText() + "]"
}

func (s *shape) enumText() string {
	return "Member must satisfy enum value set: [" + strings.Join(s.enum, ", ") + "]"
}

func (s *shape) shortText() string {
	return "Member must have length greater than or equal to " + strconv.FormatInt(s.min, 10)
}

func (s *shape) longText() string {
	return "Member must have length less than or equal to " + strconv.FormatInt(s.max, 10)
}
