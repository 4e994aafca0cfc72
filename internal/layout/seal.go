package layout

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// An encrypted record has, in place of its payload,
//
//	flags     1 byte    says so
//	data key  uvarint   number of the key in its stream
//	size      uvarint   partition key and data together
//	sealed    the payload, by AES-256-GCM, and the tag (16 bytes)
//
// So that what needs no key, such as offsets and lag, needs none: ordinal, offset
// and size are in the clear, and the checksum covers the sealed bytes. The tag
// binds them to the database, to the record's key and to its numbers.
//
// Invariant: a data key seals one record with a counter at most. So the counter
// is the nonce, and is not stored. It holds because a data key seals only in the
// process run that made it, and in that counters strictly increase.

// DataKeyBytes is the length of a data key.
const DataKeyBytes = 32

const sealTagBytes = 16

// DataKey encrypts and decrypts records. It may be used by many goroutines.
type DataKey struct {
	number   uint32
	database [16]byte
	aead     cipher.AEAD
}

// NewDataKey makes a stream's data key of its bytes, [DataKeyBytes] of them.
func NewDataKey(number uint32, database [16]byte, key []byte) (*DataKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &DataKey{number: number, database: database, aead: aead}, nil
}

// Number returns the number of the key in its stream.
func (k *DataKey) Number() uint32 { return k.number }

// SealScratch is memory for sealing and opening, one of each for a goroutine.
type SealScratch struct {
	place [16 + RecordKeyBytes + 8 + 4]byte
	nonce [12]byte
}

// bind fills the scratch in for the record at key.
func (k *DataKey) bind(scratch *SealScratch, key []byte, ordinal uint64) (nonce, place []byte) {
	b := append(scratch.place[:0], k.database[:]...)
	b = append(b, key...)
	b = binary.BigEndian.AppendUint64(b, ordinal)
	b = binary.BigEndian.AppendUint32(b, k.number)
	copy(scratch.nonce[4:], key[RecordKeyBytes-8:]) // the counter
	return scratch.nonce[:], b
}

// RecordBytes is as the function of that name, for [DataKey.PutRecord].
func (k *DataKey) RecordBytes(r *Record, p Payload) int {
	return 1 + uvarintLen(r.Ordinal) + uvarintLen(r.Offset) +
		1 + uvarintLen(uint64(k.number)) + uvarintLen(uint64(r.Size())) + len(p.encoded) + sealTagBytes + 4
}

// PutRecord is as the function of that name, and encrypts the payload. The
// scratch must have been used for nothing but this.
func (k *DataKey) PutRecord(dst, key []byte, r *Record, p Payload, scratch *SealScratch) {
	b := append(dst[:0], recordVersion)
	b = binary.AppendUvarint(b, r.Ordinal)
	b = binary.AppendUvarint(b, r.Offset)
	start := len(b)
	b = append(b, flagSealed)
	b = binary.AppendUvarint(b, uint64(k.number))
	b = binary.AppendUvarint(b, uint64(r.Size()))
	nonce, place := k.bind(scratch, key, r.Ordinal)
	b = k.aead.Seal(b, nonce, p.encoded, place)
	sum := placeChecksum(crc32.Checksum(b[start:], castagnoli), b[1:start], key)
	binary.LittleEndian.AppendUint32(b, sum)
}

// Open decrypts a record that was decoded from what is stored under key, and
// whose DataKey this is. The record's slices are memory of its own then.
func (k *DataKey) Open(key []byte, r *StoredRecord, scratch *SealScratch) error {
	nonce, place := k.bind(scratch, key, r.Ordinal)
	payload, err := k.aead.Open(make([]byte, 0, len(r.sealed)), nonce, r.sealed, place)
	if err != nil {
		return fmt.Errorf("%w: record at %x: it does not open with data key %d", ErrCorrupt, key, k.number)
	}
	size := r.size
	if !r.decodePayload(payload) || r.Sealed || len(r.PartitionKey)+len(r.Data) != size {
		return fmt.Errorf("%w: record at %x: its encrypted payload is malformed", ErrCorrupt, key)
	}
	return nil
}

// decodeSealed takes apart what stands after the flags of an encrypted record.
func (r *StoredRecord) decodeSealed(b []byte) bool {
	number, n := uvarint(b)
	if n <= 0 || number > 1<<32-1 {
		return false
	}
	size, m := uvarint(b[n:])
	if m <= 0 || size > uint64(len(b)) || len(b)-n-m < sealTagBytes {
		return false
	}
	r.Sealed, r.DataKey, r.size, r.sealed = true, uint32(number), int(size), b[n+m:]
	return true
}

// DataKeyRow is a data key as it is stored: encrypted by a key that lies
// elsewhere. Its key is [DataKeyKey].
type DataKeyRow struct {
	KeyID   string   // names the key that encrypts it
	Created uint64   // counter: records sealed with it that are not of the same commit have greater ones
	Wrapped []byte   // the data key, encrypted
	Check   [16]byte // see [DataKeyCheck]
}

// DataKeyCheck tells whether a data key is the right one. It says nothing else
// about it.
func DataKeyCheck(key []byte) (check [16]byte) {
	sum := sha256.Sum256(append([]byte("braid data key check "), key...))
	return [16]byte(sum[:])
}

// Encode returns the bytes of the row of a stream's data key.
func (r DataKeyRow) Encode(stream, number uint32) []byte {
	w := newRow()
	w.string(r.KeyID)
	w.uint(r.Created)
	w.string(string(r.Wrapped))
	w.bytes(r.Check[:])
	return w.seal(DataKeyKey(stream, number))
}

// DecodeDataKeyRow is the inverse of [DataKeyRow.Encode].
func DecodeDataKeyRow(stream, number uint32, value []byte) (row DataKeyRow, err error) {
	r := openRow(DataKeyKey(stream, number), value)
	row.KeyID = string(r.string())
	row.Created = r.uint()
	row.Wrapped = append([]byte{}, r.string()...)
	row.Check = [16]byte(r.fixed(16))
	return row, r.close()
}
