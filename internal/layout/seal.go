package layout

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The bodies of an encrypted block are sealed as one, by AES-256-GCM, which adds a tag
// (16 bytes). So that what needs no key, such as offsets and lag, needs none, what
// stands before them is in the clear, and the checksum covers the sealed bytes. The tag
// binds them to the database, to the block's key, and to all that is in the clear.
//
// Invariant: a data key seals one block with a counter as its last one at most. So that
// counter is the nonce, and is not stored. It holds because a data key seals only in
// the process run that made it, and in that counters strictly increase: each is one
// record's, which is in one block. TestNoNonceIsUsedTwice holds it.

// DataKeyBytes is the length of a data key.
const DataKeyBytes = 32

const sealTagBytes = 16

// DataKey encrypts and decrypts blocks. It may be used by many goroutines.
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
	place []byte
	nonce [12]byte
}

// bind fills the scratch in for the block at key that begins with head.
func (k *DataKey) bind(scratch *SealScratch, key, head []byte) (nonce, place []byte) {
	b := append(scratch.place[:0], k.database[:]...)
	b = binary.BigEndian.AppendUint32(b, k.number)
	b = append(b, key...)
	b = append(b, head...)
	scratch.place = b
	copy(scratch.nonce[4:], key[BlockKeyBytes-8:]) // the counter
	return scratch.nonce[:], b
}

// seal encrypts the bodies of the block at key, which begin at head, in place. There is
// room for the tag.
func (k *DataKey) seal(b []byte, head int, key []byte, scratch *SealScratch) []byte {
	nonce, place := k.bind(scratch, key, b[:head])
	return k.aead.Seal(b[:head], nonce, b[head:], place)
}

// Open decrypts a block that was decoded from what is stored under key, and whose
// DataKey this is. What its records hold is memory of its own then.
func (k *DataKey) Open(key []byte, b *Block, scratch *SealScratch) error {
	return k.open(make([]byte, 0, len(b.bodies)), key, b, scratch)
}

// OpenInPlace is [DataKey.Open] for a block that was decoded from memory of the caller's
// own, where it leaves what its records hold. After an error the memory holds nothing useful.
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
