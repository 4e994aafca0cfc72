// Package envelope adds headers to the data of a record, and compresses the data. Records of
// Kinesis and braid consist of a partition key and bytes. So anything that a program needs to know
// before it decodes a record, such as its trace, must be part of these bytes.
//
//	codec := envelope.New(&envelope.Options{Compress: true})
//	m := envelope.Message{Data: order}
//	m.Set(envelope.TraceParent, trace)
//	m.Set(envelope.ID, orderID)
//	data, err := codec.Append(nil, &m)
//	...
//	stream.PutRecord(ctx, customer, data)
//
// [Codec.Decode] decodes it. Data that is not an envelope is decoded as a message without headers, so
// that a stream can begin to use envelopes while it is in use.
//
// # The format
//
// All numbers are unsigned varints, as in encoding/binary.
//
//	E5 62 72 64        magic number
//	01                 version
//	flags              one byte: bit 0 says that the body is compressed
//	count              of headers
//	  length, key, length, value    each
//	length             of the data, before it was compressed
//	body               the data, or one frame of Zstandard
//	checksum           CRC-32C of all before it, 4 bytes, big-endian
//
// A reader refuses unknown versions and flags.
package envelope

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// Header keys with a defined meaning. Applications may use any other keys.
const (
	// TraceParent and TraceState are the W3C trace context, as in HTTP.
	TraceParent = "traceparent"
	TraceState  = "tracestate"

	// ID identifies the record. A record that is put more than once has the same ID each time, so a
	// consumer that stores the IDs of processed records can skip duplicates.
	ID = "id"

	// ContentType is the media type of the data, such as "application/json".
	ContentType = "content-type"
)

const (
	magic   = "\xE5brd"
	version = 1

	flagZstd = 1

	checksumBytes = 4
	shortest      = len(magic) + 4 + checksumBytes // version, flags, count, length

	defaultMaxBytes = 10 << 20

	maxHeaders = 100
	maxKey     = 128
	maxValue   = 8 << 10
)

// Errors of this package. They mean that nothing was changed.
var (
	// ErrInvalidMessage reports a message that cannot be encoded: it has more than 100 headers, a
	// key that is not 1 to 128 bytes of UTF-8, a duplicate key, or a value that is longer than 8
	// KiB or not UTF-8.
	ErrInvalidMessage = errors.New("invalid message")

	// ErrCorrupt reports an envelope that is truncated, malformed, or fails its checksum.
	ErrCorrupt = errors.New("envelope is corrupt")

	// ErrUnsupported reports an envelope with a newer version of the format, or with unknown flags.
	ErrUnsupported = errors.New("unsupported version of the envelope")

	// ErrTooLarge reports data that is larger than [Options].MaxBytes.
	ErrTooLarge = errors.New("data of the envelope is too large")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is a key and its value.
type Header struct{ Key, Value string }

// Message is what an envelope contains.
type Message struct {
	Headers []Header // up to 100, with different keys; encoded in this order
	Data    []byte
}

// Get returns the value of a header, or "" if there is none.
func (m *Message) Get(key string) string {
	for _, h := range m.Headers {
		if h.Key == key {
			return h.Value
		}
	}
	return ""
}

// Set sets a header. It replaces the value if there is a header with that key.
func (m *Message) Set(key, value string) {
	for i := range m.Headers {
		if m.Headers[i].Key == key {
			m.Headers[i].Value = value
			return
		}
	}
	m.Headers = append(m.Headers, Header{key, value})
}

// Options are the settings of a [Codec].
type Options struct {
	// Compress compresses data with Zstandard if that makes it smaller. Compressed data is decoded
	// regardless of this option.
	Compress bool

	// MaxBytes is the maximum size of decoded data, after decompression. 0 or less means 10 MiB,
	// the largest record of Kinesis.
	MaxBytes int
}

// Codec encodes and decodes envelopes. It may be used by any number of goroutines, and needs no
// Close. Create one and reuse it, because compression needs tables of a few hundred kilobytes. A
// test in a testing/synctest bubble must create its own.
type Codec struct {
	compress bool
	maxBytes int
	encoder  *zstd.Encoder
	decoder  *zstd.Decoder
}

// New returns a codec. nil options are safe defaults.
func New(opts *Options) *Codec {
	c := &Codec{maxBytes: defaultMaxBytes}
	if opts != nil {
		c.compress = opts.Compress
		if opts.MaxBytes > 0 {
			c.maxBytes = opts.MaxBytes
		}
	}
	var err, err2 error
	c.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderCRC(false)) // the envelope has a checksum
	c.decoder, err2 = zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true))
	if err = errors.Join(err, err2); err != nil {
		panic(err) // only invalid options fail, and these are constants
	}
	return c
}

// Append appends the message to dst as an envelope, and returns the extended slice. Error:
// [ErrInvalidMessage].
func (c *Codec) Append(dst []byte, m *Message) ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	start := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, version, 0)
	flags := len(dst) - 1
	dst = binary.AppendUvarint(dst, uint64(len(m.Headers)))
	for _, h := range m.Headers {
		dst = appendString(appendString(dst, h.Key), h.Value)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Data)))
	body := len(dst)
	if c.compress && len(m.Data) > 0 {
		if dst = c.encoder.EncodeAll(m.Data, dst); len(dst)-body < len(m.Data) {
			dst[flags] |= flagZstd
		} else {
			dst = append(dst[:body], m.Data...)
		}
	} else {
		dst = append(dst, m.Data...)
	}
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli)), nil
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func (m *Message) validate() error {
	if n := len(m.Headers); n > maxHeaders {
		return fmt.Errorf("%w: it has %d headers; the maximum is %d", ErrInvalidMessage, n, maxHeaders)
	}
	for i, h := range m.Headers {
		switch {
		case h.Key == "" || len(h.Key) > maxKey || !utf8.ValidString(h.Key):
			return fmt.Errorf("%w: the key of header %d must be 1 to %d bytes of UTF-8; it is %.64q", ErrInvalidMessage, i, maxKey, h.Key)
		case len(h.Value) > maxValue || !utf8.ValidString(h.Value):
			return fmt.Errorf("%w: the value of header %q must be at most %d bytes of UTF-8", ErrInvalidMessage, h.Key, maxValue)
		}
		for _, other := range m.Headers[:i] {
			if other.Key == h.Key {
				return fmt.Errorf("%w: duplicate header %q", ErrInvalidMessage, h.Key)
			}
		}
	}
	return nil
}

// Decode decodes an envelope. If data does not begin with the magic number, it is the Data of a
// message without headers, and enveloped is false. Data of the message aliases data unless it was
// compressed.
//
// Errors: [ErrCorrupt], [ErrUnsupported], [ErrTooLarge].
func (c *Codec) Decode(data []byte) (m Message, enveloped bool, err error) {
	if len(data) >= len(magic) && string(data[:len(magic)]) == magic {
		m, err = c.decode(data)
		return m, true, err
	}
	if len(data) > c.maxBytes {
		return Message{}, false, c.tooLarge(uint64(len(data)))
	}
	return Message{Data: data}, false, nil
}

func (c *Codec) tooLarge(size uint64) error {
	return fmt.Errorf("%w: %d bytes; Options.MaxBytes is %d", ErrTooLarge, size, c.maxBytes)
}

func (c *Codec) decode(data []byte) (m Message, err error) {
	if len(data) < shortest {
		return Message{}, fmt.Errorf("%w: truncated after %d bytes", ErrCorrupt, len(data))
	}
	// The checksum is verified first, and has the same place in all versions, so that corruption
	// does not look like another version.
	end := len(data) - checksumBytes
	if crc32.Checksum(data[:end], castagnoli) != binary.BigEndian.Uint32(data[end:]) {
		return Message{}, fmt.Errorf("%w: wrong checksum", ErrCorrupt)
	}
	flags := data[len(magic)+1]
	if v := data[len(magic)]; v != version || flags&^flagZstd != 0 {
		return Message{}, fmt.Errorf("%w: version %d with flags %#x", ErrUnsupported, v, flags)
	}
	r := reader{data[len(magic)+2 : end], true}
	if n := r.number(maxHeaders); n > 0 {
		m.Headers = make([]Header, 0, n)
		for range n {
			m.Headers = append(m.Headers, Header{r.text(maxKey), r.text(maxValue)})
		}
	}
	size := r.number(1<<63 - 1)
	if !r.ok || m.validate() != nil {
		return Message{}, fmt.Errorf("%w: malformed headers", ErrCorrupt)
	}
	if size > uint64(c.maxBytes) {
		return Message{}, c.tooLarge(size)
	}
	m.Data = r.rest
	if flags&flagZstd != 0 {
		// Allocate no more than the envelope's length, whatever the frame says.
		if m.Data, err = c.decoder.DecodeAll(r.rest, make([]byte, 0, size)); err != nil {
			return Message{}, fmt.Errorf("%w: data cannot be decompressed: %w", ErrCorrupt, err)
		}
	}
	if uint64(len(m.Data)) != size {
		return Message{}, fmt.Errorf("%w: %d bytes of data instead of %d", ErrCorrupt, len(m.Data), size)
	}
	return m, nil
}

// reader consumes an envelope part by part. After an error it returns nothing more.
type reader struct {
	rest []byte
	ok   bool
}

func (r *reader) number(limit uint64) uint64 {
	n, size := binary.Uvarint(r.rest)
	if !r.ok || size <= 0 || n > limit {
		r.ok = false
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) text(limit uint64) string {
	n := r.number(limit)
	if !r.ok || n > uint64(len(r.rest)) {
		r.ok = false
		return ""
	}
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}
