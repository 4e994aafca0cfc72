// Package kpl reads and writes the aggregated records of the Kinesis Producer Library. An
// aggregate is many user records packed into the data of one stream record, the carrier.
// That saves money and capacity on Kinesis, which counts records: a shard takes 1,000 of
// them per second, and each is billed as at least 25 KB.
//
// [Split] unpacks an aggregate. An [Aggregator] packs one, and reports its exact size in
// advance. Workers of package consumer unpack aggregates themselves if Config.Deaggregate
// is set.
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
// Only its data marks a stream record as an aggregate. Data that is not an aggregate in
// every detail is an ordinary record, so reading has no errors.
//
// # Which shard
//
// A user record belongs to the shard of its own hash key. Consumers drop user records
// that they find in another shard, because the producer is expected to put them again. In
// that case the Java KCL drops the whole carrier; braid's workers drop only those
// records. A producer therefore packs records of one shard together, and checks in which
// shard each carrier arrived.
package kpl

import (
	"bytes"
	"crypto/md5"
	"unicode/utf8"

	"github.com/braidstream/braid"
)

// magic is the beginning of every aggregate.
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

// Split returns the user records of an aggregate, in order. Their Data aliases data,
// which must not change while they are in use. Keys of any length are accepted.
//
// If data is not an aggregate, ok is false, and the caller treats data as an ordinary
// record. Reasons are another magic number, less than one byte between magic number and
// MD5, a wrong MD5, and a message that is malformed anywhere, even in a key that no
// record uses. An aggregate may be empty: ok is then true, and there are no records.
func Split(data []byte) (records []braid.Entry, ok bool) {
	// Like the KCL, require at least one byte of message. Otherwise a record would disappear
	// that Java workers deliver.
	if len(data) <= len(magic)+md5.Size || string(data[:len(magic)]) != magic {
		return nil, false
	}
	message := data[len(magic) : len(data)-md5.Size]
	if sum := md5.Sum(message); !bytes.Equal(sum[:], data[len(data)-md5.Size:]) {
		return nil, false
	}
	return parse(message)
}

// parse makes two passes, because in protobuf the tables may come after the records that
// refer to them.
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
		f, rest, _ = next(rest) // the first pass has checked that it is well-formed
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

// hashKey reads an entry of the table of explicit hash keys: decimal digits, possibly
// with leading zeros.
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

// record reads a Record. As everywhere in protobuf, if a field that is not repeated has
// several values, the last one counts.
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

// isTag reports whether f holds a Tag. Its contents are not used, but a malformed tag
// makes the aggregate malformed.
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
