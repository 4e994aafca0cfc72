package archive

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/braidstream/braid"
)

// The binary form is magic and then frames:
//
//	kind, 1 byte | length, 4 bytes | checksum, 4 bytes | payload
//
// Numbers are little-endian. The checksum is the CRC-32C of kind, length and payload. The
// payload of the header and of the end is JSON; that of a block is records, one after the
// other, compressed by Zstandard. A record is
//
//	sequence number, 24 bytes, big-endian
//	arrival, a varint: nanoseconds since that of the record before it in the block, or 1970
//	flags, 1 byte
//	explicit hash key, 16 bytes, big-endian, if flagged
//	partition key and data, each a uvarint of its length and its bytes
const (
	magic     = "braidX1\n"
	frameHead = 9

	kindHeader byte = 'H'
	kindBlock  byte = 'B'
	kindEnd    byte = 'E'

	flagHashKey   byte = 1
	flagEncrypted byte = 2

	blockBytes      = 1 << 20  // records are compressed and written in blocks of at least so many bytes
	maxPayloadBytes = 64 << 20 // the limit of a reader: more than a block with a record of any size
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// binaryEncoder is the encoder of the binary form.
type binaryEncoder struct {
	w        io.Writer
	zip      *zstd.Encoder
	block    []byte // records that are not written yet
	arrival  int64  // of the last record in block
	frame    []byte // reused
	sequence []byte // reused
}

func newBinaryEncoder(w io.Writer) *binaryEncoder {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // the options are constants
	}
	return &binaryEncoder{w: w, zip: zip}
}

func (e *binaryEncoder) header(h Header) error {
	payload, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(e.w, magic); err != nil {
		return err
	}
	return e.write(kindHeader, payload)
}

func (e *binaryEncoder) record(rec *braid.Record) (err error) {
	e.sequence, err = rec.SequenceNumber.AppendText(e.sequence[:0])
	if err != nil {
		return err
	}
	if e.block, err = appendDecimal(e.block, string(e.sequence), 24); err != nil {
		return err
	}
	arrival := rec.ArrivalTime.UnixNano()
	e.block = binary.AppendVarint(e.block, arrival-e.arrival)
	e.arrival = arrival
	var flags byte
	if rec.ExplicitHashKey != nil {
		flags |= flagHashKey
	}
	if rec.Encrypted {
		flags |= flagEncrypted
	}
	e.block = append(e.block, flags)
	if rec.ExplicitHashKey != nil {
		if e.block, err = appendDecimal(e.block, rec.ExplicitHashKey.String(), 16); err != nil {
			return err
		}
	}
	e.block = binary.AppendUvarint(e.block, uint64(len(rec.PartitionKey)))
	e.block = append(e.block, rec.PartitionKey...)
	e.block = binary.AppendUvarint(e.block, uint64(len(rec.Data)))
	e.block = append(e.block, rec.Data...)
	if len(e.block) >= blockBytes {
		return e.flush()
	}
	return nil
}

func (e *binaryEncoder) flush() error {
	if len(e.block) == 0 {
		return nil
	}
	err := e.write(kindBlock, e.zip.EncodeAll(e.block, nil))
	e.block, e.arrival = e.block[:0], 0
	return err
}

func (e *binaryEncoder) end(end End) error {
	payload, err := json.Marshal(end)
	if err != nil {
		return err
	}
	return e.write(kindEnd, payload)
}

// write writes a frame in one call, so that an interruption leaves at most one torn
// frame.
func (e *binaryEncoder) write(kind byte, payload []byte) error {
	head := append(e.frame[:0], kind)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(payload)))
	head = binary.LittleEndian.AppendUint32(head, checksum(head, payload))
	e.frame = append(head, payload...)
	_, err := e.w.Write(e.frame)
	return err
}

// checksum returns the checksum of a frame; head is its kind and length.
func checksum(head, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:5], castagnoli), castagnoli, payload)
}

// appendDecimal appends a decimal number in that many bytes.
func appendDecimal(dst []byte, text string, bytes int) ([]byte, error) {
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || n.BitLen() > 8*bytes {
		return dst, fmt.Errorf("%q is not a number of %d bytes", text, bytes)
	}
	at := len(dst)
	dst = append(dst, make([]byte, bytes)...)
	n.FillBytes(dst[at:])
	return dst, nil
}

// binaryDecoder is the decoder of the binary form.
type binaryDecoder struct {
	in      *bufio.Reader
	unzip   *zstd.Decoder
	block   []byte // records that are not returned yet
	arrival int64  // of the last returned record
	offset  int64  // of the next frame
}

func newBinaryDecoder(in *bufio.Reader) *binaryDecoder {
	unzip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPayloadBytes))
	if err != nil {
		panic(err) // the options are constants
	}
	return &binaryDecoder{in: in, unzip: unzip}
}

func (d *binaryDecoder) whole() int64 { return d.offset }

func (d *binaryDecoder) header() (h Header, err error) {
	n, err := d.in.Discard(len(magic))
	d.offset += int64(n)
	if err != nil {
		return h, err
	}
	kind, payload, err := d.frame()
	if err != nil {
		return h, err
	}
	if kind != kindHeader {
		return h, d.damaged("a frame of kind %q where the header was expected", kind)
	}
	if err := json.Unmarshal(payload, &h); err != nil {
		return h, d.damaged("its header: %w", err)
	}
	return h, nil
}

func (d *binaryDecoder) damaged(format string, args ...any) error {
	return fmt.Errorf("%w before byte %d: %w", ErrDamaged, d.offset, fmt.Errorf(format, args...))
}

// frame reads a frame and verifies it.
func (d *binaryDecoder) frame() (kind byte, payload []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		return 0, nil, incomplete(err)
	}
	length := binary.LittleEndian.Uint32(head[1:])
	if length > maxPayloadBytes {
		return 0, nil, d.damaged("a frame of %d bytes", length)
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(d.in, payload); err != nil {
		return 0, nil, incomplete(err)
	}
	d.offset += frameHead + int64(length)
	if sum := checksum(head[:], payload); sum != binary.LittleEndian.Uint32(head[5:]) {
		return 0, nil, d.damaged("the checksum of a frame of %d bytes does not match", length)
	}
	return head[0], payload, nil
}

// incomplete turns the end of a file into ErrIncomplete.
func incomplete(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrIncomplete
	}
	return err
}

func (d *binaryDecoder) record() (rec braid.Record, end *End, err error) {
	for len(d.block) == 0 {
		kind, payload, err := d.frame()
		if err != nil {
			return rec, nil, err
		}
		switch kind {
		case kindBlock:
			d.arrival = 0
			if d.block, err = d.unzip.DecodeAll(payload, nil); err != nil {
				return rec, nil, d.damaged("%w", err)
			}
		case kindEnd:
			end = new(End)
			if err := json.Unmarshal(payload, end); err != nil {
				return rec, nil, d.damaged("its end: %w", err)
			}
			if more, _ := d.in.Peek(1); len(more) > 0 {
				return rec, nil, d.damaged("data after its end")
			}
			return rec, end, nil
		default:
			return rec, nil, d.damaged("a frame of the unknown kind %q", kind)
		}
	}
	if rec, err = d.next(); err != nil {
		return rec, nil, d.damaged("a record: %w", err)
	}
	return rec, nil, nil
}

// next takes a record from the block.
func (d *binaryDecoder) next() (rec braid.Record, err error) {
	number, err := d.take(24)
	if err != nil {
		return rec, err
	}
	if rec.SequenceNumber, err = braid.ParseSequenceNumber(decimal(number)); err != nil {
		return rec, err
	}
	rec.ShardID = rec.SequenceNumber.ShardID()
	since, n := binary.Varint(d.block)
	if n <= 0 {
		return rec, errShort
	}
	d.block = d.block[n:]
	d.arrival += since
	rec.ArrivalTime = time.Unix(0, d.arrival).UTC()
	flags, err := d.take(1)
	if err != nil {
		return rec, err
	}
	rec.Encrypted = flags[0]&flagEncrypted != 0
	if flags[0]&flagHashKey != 0 {
		text, err := d.take(16)
		if err != nil {
			return rec, err
		}
		key, err := braid.ParseHashKey(decimal(text))
		if err != nil {
			return rec, err
		}
		rec.ExplicitHashKey = &key
	}
	key, err := d.takeCounted()
	if err != nil {
		return rec, err
	}
	rec.PartitionKey = string(key)
	rec.Data, err = d.takeCounted()
	return rec, err
}

var errShort = errors.New("a block ends within it")

func (d *binaryDecoder) take(n int) ([]byte, error) {
	if n > len(d.block) {
		return nil, errShort
	}
	taken := d.block[:n:n]
	d.block = d.block[n:]
	return taken, nil
}

func (d *binaryDecoder) takeCounted() ([]byte, error) {
	length, n := binary.Uvarint(d.block)
	if n <= 0 || length > uint64(len(d.block)) {
		return nil, errShort
	}
	d.block = d.block[n:]
	return d.take(int(length))
}

func decimal(bytes []byte) string { return new(big.Int).SetBytes(bytes).String() }
