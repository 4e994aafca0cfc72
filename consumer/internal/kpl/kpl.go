// Package kpl reads and writes the aggregated records of the Kinesis Producer
// Library: many user records packed into the data of one stream record.
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
// Nobody marks a stream record as an aggregate; its data alone tell. So whatever
// is not an aggregate in every detail is an ordinary record, and the package
// knows no errors.
package kpl

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"unicode/utf8"
)

// magic starts every aggregate.
const magic = "\xF3\x89\x9A\xC2"

// maxHashKey is 2^128-1, the highest explicit hash key.
const maxHashKey = "340282366920938463463374607431768211455"

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

// UserRecord is one record of an aggregate.
type UserRecord struct {
	// PartitionKey is valid UTF-8.
	PartitionKey string
	// ExplicitHashKey is a decimal number from 0 to 2^128-1, or "" if the
	// producer gave none. [Split] returns it without leading zeros.
	ExplicitHashKey string
	// Data aliases the memory of the aggregate that [Split] was given.
	Data []byte
}

// Split returns the user records of an aggregate, in their order. If data is not
// an aggregate, ok is false and there are no records: the caller is to take data
// as an ordinary record. That is so for another magic number, for less than one
// byte between magic number and MD5, for a wrong MD5, and for a message that is
// malformed anywhere, even in a key that no record uses. An aggregate may be
// empty: then ok is true and there are no records either.
func Split(data []byte) (records []UserRecord, ok bool) {
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
func parse(message []byte) (records []UserRecord, ok bool) {
	var partitionKeys, hashKeys []string
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

	records = make([]UserRecord, 0, count)
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

// hashKey reads an entry of the table of explicit hash keys.
func hashKey(f field) (key string, ok bool) {
	if f.wire != wireBytes || len(f.bytes) == 0 {
		return "", false
	}
	for _, c := range f.bytes {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	digits := bytes.TrimLeft(f.bytes, "0")
	switch {
	case len(digits) == 0:
		return "0", true
	case len(digits) > len(maxHashKey):
		return "", false
	case len(digits) == len(maxHashKey) && string(digits) > maxHashKey:
		return "", false
	}
	return string(digits), true
}

// record reads a Record. As everywhere in protobuf, the last of several values
// of a field that is not repeated counts.
func record(f field, partitionKeys, hashKeys []string) (r UserRecord, ok bool) {
	if f.wire != wireBytes {
		return UserRecord{}, false
	}
	var partition, hash uint64
	var hasPartition, hasHash, hasData bool
	for rest := f.bytes; len(rest) > 0; {
		if f, rest, ok = next(rest); !ok {
			return UserRecord{}, false
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
			return UserRecord{}, false
		}
	}
	if !hasPartition || !hasData || partition >= uint64(len(partitionKeys)) {
		return UserRecord{}, false
	}
	r.PartitionKey = partitionKeys[partition]
	if hasHash {
		if hash >= uint64(len(hashKeys)) {
			return UserRecord{}, false
		}
		r.ExplicitHashKey = hashKeys[hash]
	}
	return r, true
}

// isTag tells whether f holds a Tag. Nobody needs its contents, but if they are
// malformed, so is the aggregate.
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

// Join writes an aggregate of the records, and each different key only once. It
// does not judge the keys: if one is not as [UserRecord] wants it, [Split] will
// not take the result for an aggregate.
func Join(records []UserRecord) []byte {
	var message, body []byte
	var partitionKeys, hashKeys table
	for _, r := range records {
		body = appendVarint(body[:0], recordPartitionKey, partitionKeys.index(r.PartitionKey))
		if r.ExplicitHashKey != "" {
			body = appendVarint(body, recordHashKey, hashKeys.index(r.ExplicitHashKey))
		}
		body = appendBytes(body, recordData, r.Data)
		message = appendBytes(message, aggregateRecord, body)
	}
	if len(records) == 0 {
		// An aggregate must not have an empty message, so this one gets a key
		// that nothing uses.
		partitionKeys.index("")
	}

	var tables []byte
	for _, key := range partitionKeys.keys {
		tables = appendBytes(tables, aggregatePartitionKey, key)
	}
	for _, key := range hashKeys.keys {
		tables = appendBytes(tables, aggregateHashKey, key)
	}
	return seal(append(tables, message...))
}

// seal puts the message between magic number and MD5.
func seal(message []byte) []byte {
	sum := md5.Sum(message)
	aggregate := make([]byte, 0, len(magic)+len(message)+len(sum))
	aggregate = append(aggregate, magic...)
	aggregate = append(aggregate, message...)
	return append(aggregate, sum[:]...)
}

// table is a key table that is being written.
type table struct {
	keys    []string
	indices map[string]uint64
}

// index returns where key is in the table, and adds it if it is not there yet.
func (t *table) index(key string) uint64 {
	i, known := t.indices[key]
	if !known {
		if t.indices == nil {
			t.indices = make(map[string]uint64)
		}
		i = uint64(len(t.keys))
		t.keys, t.indices[key] = append(t.keys, key), i
	}
	return i
}

func appendVarint(dst []byte, number, value uint64) []byte {
	dst = binary.AppendUvarint(dst, number<<3|wireVarint)
	return binary.AppendUvarint(dst, value)
}

func appendBytes[T string | []byte](dst []byte, number uint64, value T) []byte {
	dst = binary.AppendUvarint(dst, number<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}
