package layout

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/braidstream/braid/internal/uint128"
)

// A stored record is
//
//	version   1 byte
//	ordinal   uvarint   dense in the shard: 0, 1, 2 …
//	offset    uvarint   sizes of all records of the shard before this one, added up
//	payload   flags (1 byte), key length (uvarint), partition key,
//	          explicit hash key (16 bytes, if flagged), data
//	checksum  4 bytes, CRC-32C over payload, ordinal, offset, and the record's key
//
// The payload is all that a producer can know. It is encoded, and its part of
// the checksum computed (see Sum), on the producer's goroutine; the committer, through
// which every record must pass, adds the few bytes that it alone decides.

const (
	recordVersion    = 1
	flagExplicitHash = 1 << 0
	flagSealed       = 1 << 1 // see seal.go; no other flag is set beside it
)

// MaxRecordOverhead is the most by which a stored record's value exceeds its
// partition key and data together.
const MaxRecordOverhead = 1 + 2*binary.MaxVarintLen64 + 1 + binary.MaxVarintLen64 + 16 + 4 +
	1 + binary.MaxVarintLen32 + binary.MaxVarintLen64 + sealTagBytes // if it is encrypted

// Record is a record as it lies in a shard. Which shard, its reader knows.
type Record struct {
	Counter      uint64 // the middle of its sequence number: nanoseconds of arrival
	Ordinal      uint64
	Offset       uint64
	PartitionKey string
	Data         []byte
	ExplicitHash *uint128.Uint128 // nil: the hash key is the MD5 of the partition key
	Sealed       bool             // it is stored encrypted
}

// Size is what the record counts for in limits, offsets and lag.
func (r *Record) Size() int { return len(r.PartitionKey) + len(r.Data) }

// Payload is a record's part that its producer encodes.
type Payload struct {
	encoded []byte
	key     int // where the partition key begins in encoded
	keyEnd  int // and where it ends
	data    int // where the data begins
	crc     uint32
	summed  bool // crc is known
}

// PayloadBytes returns the length of the payload that [EncodePayload] makes.
func PayloadBytes(partitionKey string, explicitHash bool, data int) int {
	n := 1 + uvarintLen(uint64(len(partitionKey))) + len(partitionKey) + data
	if explicitHash {
		n += 16
	}
	return n
}

// EncodePayload encodes into buf, which has [PayloadBytes] and belongs to the
// payload from then on. It copies data.
func EncodePayload(buf []byte, partitionKey string, explicitHash *uint128.Uint128, data []byte) Payload {
	b := append(buf[:0], 0)
	b = binary.AppendUvarint(b, uint64(len(partitionKey)))
	key := len(b)
	b = append(b, partitionKey...)
	keyEnd := len(b)
	if explicitHash != nil {
		b[0] |= flagExplicitHash
		hash := explicitHash.Bytes()
		b = append(b, hash[:]...)
	}
	start := len(b)
	b = append(b, data...)
	return Payload{encoded: b, key: key, keyEnd: keyEnd, data: start}
}

// Sum returns the payload with its checksum, which [PutRecord] needs and
// [DataKey.PutRecord] does not.
func (p Payload) Sum() Payload {
	if !p.summed {
		p.crc, p.summed = crc32.Checksum(p.encoded, castagnoli), true
	}
	return p
}

// PartitionKey returns the partition key: a part of the payload's memory.
func (p Payload) PartitionKey() []byte { return p.encoded[p.key:p.keyEnd] }

// Data returns the record's data: a part of the payload's memory.
func (p Payload) Data() []byte { return p.encoded[p.data:len(p.encoded):len(p.encoded)] }

// RecordBytes returns the length of the value that [PutRecord] writes.
func RecordBytes(r *Record, p Payload) int {
	return 1 + uvarintLen(r.Ordinal) + uvarintLen(r.Offset) + len(p.encoded) + 4
}

// PutRecord writes the value of the record at key, encoded, into dst, which has
// [RecordBytes].
func PutRecord(dst, key []byte, r *Record, p Payload) {
	p = p.Sum()
	b := append(dst[:0], recordVersion)
	b = binary.AppendUvarint(b, r.Ordinal)
	b = binary.AppendUvarint(b, r.Offset)
	sum := placeChecksum(p.crc, b[1:], key)
	b = append(b, p.encoded...)
	binary.LittleEndian.AppendUint32(b, sum)
}

// StoredRecord is a record's value taken apart; its slices are parts of the
// value that was decoded.
type StoredRecord struct {
	Ordinal, Offset uint64
	PartitionKey    []byte
	Data            []byte
	ExplicitHash    uint128.Uint128
	HasExplicitHash bool

	// Sealed says that the record is encrypted, with the stream's data key of
	// that number: the four fields above are not known before [DataKey.Open].
	Sealed  bool
	DataKey uint32
	sealed  []byte
	size    int
}

// Size is as [Record.Size]. It is known of a sealed record, too.
func (r *StoredRecord) Size() int {
	if r.Sealed {
		return r.size
	}
	return len(r.PartitionKey) + len(r.Data)
}

// DecodeRecord takes apart the value found under key, and checks that it is
// what was written there.
func DecodeRecord(key, value []byte) (r StoredRecord, err error) {
	bad := func(why string) (StoredRecord, error) {
		return StoredRecord{}, fmt.Errorf("%w: record at %x: %s", ErrCorrupt, key, why)
	}
	body := len(value) - 4
	if body < 1 {
		return bad("it is cut short")
	}
	if value[0] != recordVersion {
		return bad(fmt.Sprintf("record version %d is unknown", value[0]))
	}
	rest := value[1:body]
	var n, m int
	if r.Ordinal, n = uvarint(rest); n <= 0 {
		return bad("its ordinal is malformed")
	}
	if r.Offset, m = uvarint(rest[n:]); m <= 0 {
		return bad("its offset is malformed")
	}
	numbers, payload := rest[:n+m], rest[n+m:]
	sum := placeChecksum(crc32.Checksum(payload, castagnoli), numbers, key)
	if sum != binary.LittleEndian.Uint32(value[body:]) {
		return bad("its checksum does not match")
	}
	if !r.decodePayload(payload) {
		return bad("its payload is malformed")
	}
	return r, nil
}

func (r *StoredRecord) decodePayload(b []byte) bool {
	r.Sealed = false
	if len(b) > 0 && b[0] == flagSealed {
		return r.decodeSealed(b[1:])
	}
	if len(b) < 1 || b[0]&^flagExplicitHash != 0 {
		return false
	}
	r.HasExplicitHash = b[0]&flagExplicitHash != 0
	b = b[1:]
	size, n := uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return false
	}
	b = b[n:]
	r.PartitionKey, b = b[:size], b[size:]
	if r.HasExplicitHash {
		if len(b) < 16 {
			return false
		}
		r.ExplicitHash, b = uint128.FromBytes([16]byte(b[:16])), b[16:]
	}
	r.Data = b
	return true
}

// placeChecksum extends a payload's checksum by the numbers and the place of the
// record, so that one that was moved is found out as well as one that was changed.
func placeChecksum(crc uint32, numbers, key []byte) uint32 {
	return crc32.Update(crc32.Update(crc, castagnoli, numbers), castagnoli, key)
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
