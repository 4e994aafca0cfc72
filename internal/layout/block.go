package layout

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/braidstream/braid/internal/uint128"
)

// A block holds consecutive records of one shard that were committed together. Its key has
// the counter of the last of them, so the first block at or above a counter has the first
// record at or above that counter. Its value is
//
//	version   4 bits
//	flags     4 bits    several records, encrypted, lost
//	ordinal   uvarint   of the first record
//	offset    uvarint   of the first record
//	count     uvarint   of the records, if there are several
//	data key  uvarint   its number in the stream, if the bodies are encrypted
//	index     for each record:
//	          step      uvarint   from the counter before to this one; not for the first
//	          key       uvarint   length of the partition key, doubled; one more
//	                              if there is an explicit hash key
//	          data      uvarint   length of the data; not for the last, which gets the rest
//	bodies    all partition keys, each after its explicit hash key (16 bytes)
//	          if it has one, then all data; see seal.go if they are encrypted
//	checksum  4 bytes, CRC-32C over all of that, and the block's key
//
// So operations that need no bodies, such as lag and trims, read only the index, and a page
// copies the keys of the records that it needs in one piece, and the data in another. In a
// block, counters rise and ordinals are consecutive. Each block has exactly one encoding.
//
// A block of one record has one byte of version and flags, the record's numbers, and one
// length.
//
// A lost block stands for records that a salvage could not save: see [PutLostBlock].

const (
	blockVersion = 2 // 1 was a record by itself
	flagMany     = 1 << 0
	flagSealed   = 1 << 1
	flagLost     = 1 << 2
	hashBytes    = 16
)

// These bound the partition keys and data of a block, unless it has a single record, and the
// number of its records. A reader verifies, walks and decrypts a whole block to get one record
// of it. Larger blocks would make small pages more expensive, and not speed up writes and long
// reads. The decoder has no bounds, so they can change.
const (
	MaxBlockBytes       = 16 << 10
	MaxSealedBlockBytes = 4 << 10 // if the block is encrypted
	MaxBlockRecords     = 256
)

// MaxRecordOverhead is the most bytes that a record takes in the value of a block beside its
// partition key and data: those of a block of one record.
const MaxRecordOverhead = 1 + 2*binary.MaxVarintLen64 + binary.MaxVarintLen32 + binary.MaxVarintLen64 + hashBytes + sealTagBytes + 4

// BlockRecords returns how many of the records, from the first on, form the next block: at least
// one.
func BlockRecords(records []Record, sealed bool) int {
	most := MaxBlockBytes
	if sealed {
		most = MaxSealedBlockBytes
	}
	bytes := records[0].Size()
	for n := 1; n < min(len(records), MaxBlockRecords); n++ {
		if bytes += records[n].Size(); bytes > most {
			return n
		}
	}
	return min(len(records), MaxBlockRecords)
}

// BlockBytes returns the length of the value that [PutBlock] writes.
func BlockBytes(records []Record, dataKey *DataKey) int {
	first, last := &records[0], &records[len(records)-1]
	n := 1 + uvarintLen(first.Ordinal) + uvarintLen(first.Offset) + 4
	if len(records) > 1 {
		n += uvarintLen(uint64(len(records)))
	}
	if dataKey != nil {
		n += uvarintLen(uint64(dataKey.number)) + sealTagBytes
	}
	counter := first.Counter
	for i := range records {
		r := &records[i]
		if i > 0 {
			n += uvarintLen(r.Counter - counter)
			counter = r.Counter
		}
		if r.ExplicitHash != nil {
			n += hashBytes
		}
		n += uvarintLen(uint64(len(r.PartitionKey))<<1) + uvarintLen(uint64(len(r.Data))) + r.Size()
	}
	return n - uvarintLen(uint64(len(last.Data)))
}

// PutBlock writes the value of the block of these records into dst, which has [BlockBytes]. The
// block will be stored under key. With a data key, PutBlock encrypts the records.
func PutBlock(dst, key []byte, records []Record, dataKey *DataKey, scratch *SealScratch) {
	b := putHead(dst[:0], records, dataKey)
	head := len(b)
	for i := range records {
		r := &records[i]
		if r.ExplicitHash != nil {
			hash := r.ExplicitHash.Bytes()
			b = append(b, hash[:]...)
		}
		b = append(b, r.PartitionKey...)
	}
	for i := range records {
		b = append(b, records[i].Data...)
	}
	if dataKey != nil {
		b = dataKey.seal(b, head, key, scratch)
	}
	binary.LittleEndian.AppendUint32(b, blockChecksum(b, key))
}

// putHead appends everything before the bodies.
func putHead(b []byte, records []Record, dataKey *DataKey) []byte {
	b = append(b, blockVersion<<4)
	b = binary.AppendUvarint(b, records[0].Ordinal)
	b = binary.AppendUvarint(b, records[0].Offset)
	if len(records) > 1 {
		b[0] |= flagMany
		b = binary.AppendUvarint(b, uint64(len(records)))
	}
	if dataKey != nil {
		b[0] |= flagSealed
		b = binary.AppendUvarint(b, uint64(dataKey.number))
	}
	for i := range records {
		r := &records[i]
		if i > 0 {
			b = binary.AppendUvarint(b, r.Counter-records[i-1].Counter)
		}
		key := uint64(len(r.PartitionKey)) << 1
		if r.ExplicitHash != nil {
			key++
		}
		b = binary.AppendUvarint(b, key)
		if i < len(records)-1 {
			b = binary.AppendUvarint(b, uint64(len(r.Data)))
		}
	}
	return b
}

// blockChecksum binds a value to its key, so that a moved value is noticed like a changed one.
func blockChecksum(value, key []byte) uint32 {
	return crc32.Update(crc32.Checksum(value, castagnoli), castagnoli, key)
}

// PutLostBlock returns the value of a block that stands for lost records: count of them, from
// an ordinal on. If exact is false, their real number is unknown. The block's key is one that
// a reader of any of the lost records meets, and [DecodeBlock] returns an error for the block
// as for any other damaged one. So every reader notices losses of a salvage, wherever it
// begins.
func PutLostBlock(key []byte, ordinal, count uint64, exact bool) []byte {
	b := []byte{blockVersion<<4 | flagLost}
	if exact {
		b[0] |= flagMany
	}
	b = binary.AppendUvarint(b, ordinal)
	b = binary.AppendUvarint(b, count)
	return binary.LittleEndian.AppendUint32(b, blockChecksum(b, key))
}

// LostBlockError is an [ErrCorrupt] of a block that [PutLostBlock] wrote.
type LostBlockError struct {
	Ordinal, Count uint64
	Exact          bool
}

// Error says how many records were lost.
func (e *LostBlockError) Error() string {
	if !e.Exact {
		return fmt.Sprintf("an unknown number of records from ordinal %d on were lost before the database was salvaged", e.Ordinal)
	}
	return fmt.Sprintf("%d records from ordinal %d on were lost before the database was salvaged", e.Count, e.Ordinal)
}

// Is reports whether target is [ErrCorrupt].
func (e *LostBlockError) Is(target error) bool { return target == ErrCorrupt }

// Block is a decoded block. Its slices are parts of the value.
type Block struct {
	First, Last     uint64 // counters of its first and its last record
	Ordinal, Offset uint64 // of its first record
	Count           int    // how many records it has
	Bytes           uint64 // the sum of its records' [Record.Size]

	// Sealed reports whether the records are encrypted, with the stream's data key of number
	// DataKey. Their contents are unknown before [DataKey.Open].
	Sealed  bool
	DataKey uint32

	head   []byte // everything before the bodies
	index  []byte // the last part of head
	bodies []byte // everything between index and checksum; in the clear once opened
	keys   int    // length of the partition keys, with explicit hash keys, in the clear
	opened bool   // whether bodies are in the clear
}

// NextOrdinal returns the ordinal of the record after the block.
func (b *Block) NextOrdinal() uint64 { return b.Ordinal + uint64(b.Count) }

// NextOffset returns the offset of the record after the block.
func (b *Block) NextOffset() uint64 { return b.Offset + b.Bytes }

// End returns the horizon right above the block.
func (b *Block) End() Horizon {
	return Horizon{Counter: b.Last + 1, Ordinal: b.NextOrdinal(), Offset: b.NextOffset()}
}

// DecodeBlock decodes the value stored under key, and verifies that it is the value that was
// written there.
func DecodeBlock(key, value []byte) (b Block, err error) {
	bad := func(why string) (Block, error) {
		return Block{}, fmt.Errorf("%w: block at %x: %s", ErrCorrupt, key, why)
	}
	body := len(value) - 4
	switch {
	case len(key) != BlockKeyBytes:
		return bad("its key is malformed")
	case body < 1:
		return bad("it is cut short")
	case value[0]>>4 != blockVersion:
		return bad(fmt.Sprintf("block version %d is unknown", value[0]>>4))
	case blockChecksum(value[:body], key) != binary.LittleEndian.Uint32(value[body:]):
		return bad("its checksum does not match")
	}
	b.Last = binary.BigEndian.Uint64(key[BlockKeyBytes-8:])
	if value[0]&0xf&^flagMany == flagLost {
		ordinal, n := uvarint(value[1:body])
		count, m := uvarint(value[1+max(n, 0) : body])
		if n <= 0 || m <= 0 || 1+n+m != body || count == 0 {
			return bad("it is malformed")
		}
		return Block{}, &LostBlockError{Ordinal: ordinal, Count: count, Exact: value[0]&flagMany != 0}
	}
	if !b.decodeHead(value[:body]) || !b.decodeIndex(value[:body]) {
		return bad("it is malformed")
	}
	return b, nil
}

// decodeHead reads everything before the index.
func (b *Block) decodeHead(value []byte) bool {
	flags := value[0] & 0xf
	if flags&^(flagMany|flagSealed) != 0 {
		return false
	}
	at, ok := 1, true
	number := func() uint64 {
		v, n := uvarint(value[at:])
		if n <= 0 {
			ok = false
			return 0
		}
		at += n
		return v
	}
	b.Ordinal, b.Offset, b.Count = number(), number(), 1
	if flags&flagMany != 0 {
		count := number()
		if count < 2 || count > uint64(len(value)) {
			return false
		}
		b.Count = int(count)
	}
	if b.Sealed = flags&flagSealed != 0; b.Sealed {
		number := number()
		ok = ok && number < 1<<32
		b.DataKey = uint32(number)
	}
	b.index = value[at:]
	return ok
}

// decodeIndex walks the index, which begins where decodeHead has stopped, and finds its end.
func (b *Block) decodeIndex(value []byte) bool {
	index := b.index
	at := 0
	var span, keys, hashes, data uint64
	limit := uint64(len(value)) // lengths are not greater, so their sums do not overflow
	for i := range b.Count {
		if i > 0 {
			step, n := shortUvarint(index, at)
			if n <= 0 || step == 0 || span+step < span {
				return false
			}
			span, at = span+step, at+n
		}
		key, n := shortUvarint(index, at)
		if n <= 0 || key>>1 > limit {
			return false
		}
		keys, hashes, at = keys+key>>1, hashes+key&1, at+n
		if i < b.Count-1 {
			size, n := shortUvarint(index, at)
			if n <= 0 || size > limit {
				return false
			}
			data, at = data+size, at+n
		}
	}
	b.bodies = index[at:]
	plain := len(b.bodies)
	if b.Sealed {
		plain -= sealTagBytes
	}
	keys += hashBytes * hashes
	if span > b.Last || plain < 0 || keys+data > uint64(plain) {
		return false
	}
	b.First = b.Last - span
	b.Bytes = uint64(plain) - hashBytes*hashes
	b.keys = int(keys)
	b.head = value[:len(value)-len(b.bodies)]
	b.index = index[:at]
	b.opened = !b.Sealed
	return true
}

// shortUvarint is uvarint at a place in b, and fast for a single byte.
func shortUvarint(b []byte, at int) (v uint64, n int) {
	if at < len(b) && b[at] < 0x80 {
		return uint64(b[at]), 1
	}
	return uvarint(b[min(at, len(b)):])
}

// BlockIter walks the records of a block, in order. It is a small value, so a copy can keep a
// place.
type BlockIter struct {
	Counter uint64 // of the current record
	N       int    // how many records of the block come before it

	block           *Block
	at              int // the beginning of the next entry of the index
	hash            bool
	hashes          int // the number of explicit hash keys before the current record
	keyAt, keyEnd   int // the partition key in the bodies, with the explicit hash key
	dataAt, dataEnd int // the data in the bodies
}

// Records returns an iterator over the records of the block.
func (b *Block) Records() BlockIter {
	return BlockIter{block: b, N: -1, Counter: b.First, dataEnd: b.keys}
}

// Next moves to the next record, if there is one.
func (it *BlockIter) Next() bool {
	b := it.block
	it.N++
	if it.N >= b.Count {
		return false
	}
	if it.N > 0 {
		it.Counter += it.uvarint()
	}
	if it.hash {
		it.hashes++
	}
	key := it.uvarint()
	it.keyAt, it.keyEnd = it.keyEnd, it.keyEnd+int(key>>1)
	if it.hash = key&1 != 0; it.hash {
		it.keyEnd += hashBytes
	}
	it.dataAt = it.dataEnd
	if it.N < b.Count-1 {
		it.dataEnd += int(it.uvarint())
	} else if it.dataEnd = len(b.bodies); !b.opened {
		it.dataEnd -= sealTagBytes
	}
	return true
}

// uvarint reads from the index, which was verified when the block was decoded.
func (it *BlockIter) uvarint() uint64 {
	if v := it.block.index[it.at]; v < 0x80 {
		it.at++
		return uint64(v)
	}
	v, n := binary.Uvarint(it.block.index[it.at:])
	it.at += n
	return v
}

// Seek moves to the first record at or above a counter, from the current record on. It returns
// false if there is none.
func (it *BlockIter) Seek(counter uint64) bool {
	for it.Next() {
		if it.Counter >= counter {
			return true
		}
	}
	return false
}

// Ordinal returns the ordinal of the current record.
func (it *BlockIter) Ordinal() uint64 { return it.block.Ordinal + uint64(it.N) }

// Offset returns the offset of the current record.
func (it *BlockIter) Offset() uint64 {
	return it.block.Offset + uint64(it.keyAt-hashBytes*it.hashes+it.dataAt-it.block.keys)
}

// Size returns the [Record.Size] of the current record.
func (it *BlockIter) Size() int {
	n := it.keyEnd - it.keyAt + it.dataEnd - it.dataAt
	if it.hash {
		n -= hashBytes
	}
	return n
}

// Before returns the horizon that trims the records of the block below a counter. At least the
// first record must be below it.
func (b *Block) Before(counter uint64) Horizon {
	it := b.Records()
	h := Horizon{Ordinal: b.Ordinal, Offset: b.Offset}
	for it.Next() && it.Counter < counter {
		h = Horizon{Counter: it.Counter + 1, Ordinal: h.Ordinal + 1, Offset: h.Offset + uint64(it.Size())}
	}
	return h
}

// Stretch returns the partition keys, with the explicit hash keys between them, and
// the data of the n records that begin with the current one: parts of the block's
// memory.
func (it *BlockIter) Stretch(n int) (keys, data []byte) {
	end := *it
	if b := it.block; it.N+n == b.Count { // the rest of the block: no need to walk
		end.keyEnd, end.dataEnd = b.keys, len(b.bodies)
	} else {
		for range n - 1 {
			end.Next()
		}
	}
	return it.block.bodies[it.keyAt:end.keyEnd], it.block.bodies[it.dataAt:end.dataEnd]
}

// Append appends the n records that begin with the current one to dst. They share the memory of
// keys and data, which are the results of [BlockIter.Stretch], or copies of them.
func (it *BlockIter) Append(dst []Record, n int, keys string, data []byte) []Record {
	b, move := it.block, *it
	for i := range n {
		if i > 0 {
			move.Next()
		}
		r := Record{Counter: move.Counter, Ordinal: move.Ordinal(), Offset: move.Offset(), Sealed: b.Sealed}
		key := keys[move.keyAt-it.keyAt : move.keyEnd-it.keyAt]
		if move.hash {
			hash := uint128.FromBytes([hashBytes]byte([]byte(key[:hashBytes])))
			r.ExplicitHash, key = &hash, key[hashBytes:]
		}
		r.PartitionKey = key
		r.Data = data[move.dataAt-it.dataAt : move.dataEnd-it.dataAt : move.dataEnd-it.dataAt]
		dst = append(dst, r)
	}
	return dst
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
