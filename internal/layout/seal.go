package layout

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The bodies of an encrypted block are sealed together with AES-256-GCM, which adds a tag of
// 16 bytes. Everything before them is in the clear, and the checksum covers the sealed bytes,
// so that offsets, lag and checks need no key. The tag binds the bodies to the database, to
// the block's key, and to everything in the clear.
//
// Invariant: a data key seals at most one block with a given last counter. So that counter is
// the nonce, and is not stored. This holds because a data key seals only in the run of the
// process that made it, and because counters strictly increase: each belongs to one record,
// which is in one block. See TestNoNonceIsUsedTwice.

// DataKeyBytes is the length of a data key.
const DataKeyBytes = 32

const sealTagBytes = 16

// DataKey encrypts and decrypts blocks. It may be used by many goroutines.
type DataKey struct {
	number   uint32
	database [16]byte
	aead     cipher.AEAD
}

// NewDataKey returns a data key of a stream. key has [DataKeyBytes].
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

// SealScratch is memory for sealing and opening. Only one goroutine at a time may use it.
type SealScratch struct {
	place []byte
	nonce [12]byte
}

// bind prepares the scratch for the block at key, which begins with head.
func (k *DataKey) bind(scratch *SealScratch, key, head []byte) (nonce, place []byte) {
	b := append(scratch.place[:0], k.database[:]...)
	b = binary.BigEndian.AppendUint32(b, k.number)
	b = append(b, key...)
	b = append(b, head...)
	scratch.place = b
	copy(scratch.nonce[4:], key[BlockKeyBytes-8:]) // the counter
	return scratch.nonce[:], b
}

// seal encrypts the bodies of the block at key in place. They begin at offset head in b, which
// has room for the tag.
func (k *DataKey) seal(b []byte, head int, key []byte, scratch *SealScratch) []byte {
	nonce, place := k.bind(scratch, key, b[:head])
	return k.aead.Seal(b[:head], nonce, b[head:], place)
}

// Open decrypts a block that was decoded from the value under key, and that was sealed with this
// data key. The contents of the records are then in new memory.
func (k *DataKey) Open(key []byte, b *Block, scratch *SealScratch) error {
	return k.open(make([]byte, 0, len(b.bodies)), key, b, scratch)
}

// OpenInPlace is [DataKey.Open], but overwrites the memory that the block was decoded from,
// which must belong to the caller. After an error, the contents of that memory are undefined.
func (k *DataKey) OpenInPlace(key []byte, b *Block, scratch *SealScratch) error {
	return k.open(b.bodies[:0], key, b, scratch)
}

func (k *DataKey) open(dst, key []byte, b *Block, scratch *SealScratch) error {
	nonce, place := k.bind(scratch, key, b.head)
	bodies, err := k.aead.Open(dst, nonce, b.bodies, place)
	if err != nil {
		return fmt.Errorf("%w: block at %x: it does not open with data key %d", ErrCorrupt, key, k.number)
	}
	b.bodies, b.opened = bodies, true
	return nil
}

// DataKeyRow is a stored data key, encrypted with a key of the KeyProvider. Its key is
// [DataKeyKey].
type DataKeyRow struct {
	KeyID   string   // names the key that encrypts it
	Created uint64   // a counter; records sealed with the key have greater ones, except in the same commit
	Wrapped []byte   // the data key, encrypted
	Check   [16]byte // see [DataKeyCheck]
}

// DataKeyCheck returns a value by which a data key can be recognized. It reveals nothing else
// about the key.
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
