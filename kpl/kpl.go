// Package kpl reads and writes the aggregated records of the Kinesis Producer
// Library: many user records packed into the data of one stream record, the carrier.
// Aggregation saves where the service counts records: a shard takes 1,000 of them in a
// second, and each is billed as at least 25 KB.
//
// [Split] takes an aggregate apart. An [Aggregator] packs one, and says exactly how large
// it will be. Workers of package consumer unpack by themselves, as Config.Deaggregate says.
//
// # The format
//
// An aggregate is a magic number of four bytes, a protobuf message, and the MD5
// of that message. In protobuf's own language the message is
//
//	message AggregatedRecord {
//	  repeated string partition_key_table     = 1;
//	  repeated string explicit_hash_key_table = 2;
//	  repeated Record records                 = 3;
//	}
//	message Record {
//	  required uint64 partition_key_index     = 1;
//	  optional uint64 explicit_hash_key_index = 2;
//	  required bytes  data                    = 3;
//	  repeated Tag    tags                    = 4;
//	}
//	message Tag {
//	  required string key   = 1;
//	  optional string value = 2;
//	}
//
// Nothing marks a stream record as an aggregate except its data. Data that is not an
// aggregate in every detail is an ordinary record, so reading has no errors.
//
// # Which shard
//
// A user record belongs to the shard that its own hash key falls to, and consumers drop
// the ones that they find in another shard: their producer is expected to put them there
// again. The Java KCL then drops the whole carrier, braid's workers only those records.
// A producer therefore packs records of one shard together, and looks at which shard
// each carrier arrived in.
package kpl

import (
	"bytes"
	"crypto/md5"
	"unicode/utf8"

	"github.com/braidstream/braid"
)

// magic starts every aggregate.
const magic = "\xF3\x89\x9A\xC2"

// The field numbers of the messages.
const (
	aggregatePartitionKey = 1
	aggregateHashKey      = 2
	aggregateRecord       = 3

	recordPartitionKey = 1
	recordHashKey      = 2
	recordData         = 3
	recordTag          = 4

	tagKey   = 1
	tagValue = 2
)

// Split returns the user records of an aggregate, in their order. Their Data aliases data,
// which must not change while they are used. Keys of any length are accepted.
//
// If data is not an aggregate, ok is false and the caller takes data as an ordinary record.
// That is so for another magic number, for less than one byte between magic number and MD5,
// for a wrong MD5, and for a message that is malformed anywhere, even in a key that no
// record uses. An aggregate may be empty: then ok is true and there are no records.
func Split(data []byte) (records []braid.Entry, ok bool) {
	// The KCL wants at least one byte of message too. To differ would make a
	// record disappear which Java workers deliver.
	if len(data) <= len(magic)+md5.Size || string(data[:len(magic)]) != magic {
		return nil, false
	}
	message := data[len(magic) : len(data)-md5.Size]
	if sum := md5.Sum(message); !bytes.Equal(sum[:], data[len(data)-md5.Size:]) {
		return nil, false
	}
	return parse(message)
}

// parse takes two passes, because protobuf lets the tables come after the
// records that point into them.
func parse(message []byte) (records []braid.Entry, ok bool) {
	var partitionKeys []string
	var hashKeys []braid.HashKey
	count := 0
	for rest := message; len(rest) > 0; {
		var f field
		if f, rest, ok = next(rest); !ok {
			return nil, false
		}
		switch f.number {
		case aggregatePartitionKey:
			if f.wire != wireBytes || !utf8.Valid(f.bytes) {
				return nil, false
			}
			partitionKeys = append(partitionKeys, string(f.bytes))
		case aggregateHashKey:
			key, valid := hashKey(f)
			if !valid {
				return nil, false
			}
			hashKeys = append(hashKeys, key)
		case aggregateRecord:
			count++
		}
	}

	records = make([]braid.Entry, 0, count)
	for rest := message; len(rest) > 0; {
		var f field
		f, rest, _ = next(rest) // the first pass has seen that it is well-formed
		if f.number != aggregateRecord {
			continue
		}
		r, valid := record(f, partitionKeys, hashKeys)
		if !valid {
			return nil, false
		}
		records = append(records, r)
	}
	return records, true
}

// hashKey reads an entry of the table of explicit hash keys: decimal digits, before which
// there may be zeros.
func hashKey(f field) (key braid.HashKey, ok bool) {
	if f.wire != wireBytes || len(f.bytes) == 0 {
		return braid.HashKey{}, false
	}
	digits := bytes.TrimLeft(f.bytes, "0")
	if len(digits) == 0 {
		return braid.HashKey{}, true
	}
	key, err := braid.ParseHashKey(string(digits))
	return key, err == nil
}

// record reads a Record. As everywhere in protobuf, the last of several values
// of a field that is not repeated counts.
func record(f field, partitionKeys []string, hashKeys []braid.HashKey) (r braid.Entry, ok bool) {
	if f.wire != wireBytes {
		return braid.Entry{}, false
	}
	var partition, hash uint64
	var hasPartition, hasHash, hasData bool
	for rest := f.bytes; len(rest) > 0; {
		if f, rest, ok = next(rest); !ok {
			return braid.Entry{}, false
		}
		switch f.number {
		case recordPartitionKey:
			partition, hasPartition, ok = f.value, true, f.wire == wireVarint
		case recordHashKey:
			hash, hasHash, ok = f.value, true, f.wire == wireVarint
		case recordData:
			r.Data, hasData, ok = f.bytes, true, f.wire == wireBytes
		case recordTag:
			ok = isTag(f)
		}
		if !ok {
			return braid.Entry{}, false
		}
	}
	if !hasPartition || !hasData || partition >= uint64(len(partitionKeys)) {
		return braid.Entry{}, false
	}
	r.PartitionKey = partitionKeys[partition]
	if hasHash {
		if hash >= uint64(len(hashKeys)) {
			return braid.Entry{}, false
		}
		r.ExplicitHashKey = &hashKeys[hash]
	}
	return r, true
}

// isTag reports whether f holds a Tag. Nothing uses its contents, but a malformed tag makes
// the aggregate malformed.
func isTag(f field) bool {
	if f.wire != wireBytes {
		return false
	}
	hasKey := false
	for rest := f.bytes; len(rest) > 0; {
		var ok bool
		if f, rest, ok = next(rest); !ok {
			return false
		}
		switch f.number {
		case tagKey, tagValue:
			if f.wire != wireBytes {
				return false
			}
			hasKey = hasKey || f.number == tagKey
		}
	}
	return hasKey
}
