// Package eventstream writes and reads the frames of an AWS event stream, the form of the
// answer to SubscribeToShard. It knows frames and their headers, and must not know the
// content of payloads.
//
// A frame, with all numbers in big-endian order:
//
//	bytes  holds
//	    4  the length of the frame, these bytes included
//	    4  the length of the headers
//	    4  CRC-32 (IEEE) of the 8 bytes before
//	    h  headers, one after the other
//	    p  payload
//	    4  CRC-32 (IEEE) of all bytes before
//
// A header is the length of its name in one byte, the name, the byte 7 for a value
// that is a string, the length of the value in two bytes, and the value.
package eventstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf8"
)

// MaxFrame is the length of the longest frame, including headers and checksums. The
// functions that append a frame panic if it would be longer, because no client could read
// it: the caller must bound its events. Values of headers are cut at 32,767 bytes.
const MaxFrame = 24 << 20

const (
	preludeBytes  = 12 // both lengths and their checksum
	checksumBytes = 4
	minFrame      = preludeBytes + checksumBytes

	maxHeadersBytes = 128 << 10 // in one frame
	maxValueBytes   = 1<<15 - 1 // in one header

	stringHeader = 7 // the type of a header whose value is a string
)

const jsonType = "application/json"

// AppendInitialResponse appends the frame with which a stream begins. Clients accept no
// event before it.
func AppendInitialResponse(dst []byte) []byte {
	return AppendEvent(dst, "initial-response", jsonType, []byte("{}"))
}

// AppendEvent appends an event of the given type. If contentType is empty, the frame has no
// such header.
func AppendEvent(dst []byte, eventType, contentType string, payload []byte) []byte {
	return appendFrame(dst, payload,
		header{":message-type", "event"},
		header{":event-type", eventType},
		header{":content-type", contentType})
}

// AppendException appends an error of the API model, by the name of its member in the union
// of events. It ends the stream.
func AppendException(dst []byte, exceptionType, contentType string, payload []byte) []byte {
	return appendFrame(dst, payload,
		header{":message-type", "exception"},
		header{":exception-type", exceptionType},
		header{":content-type", contentType})
}

// AppendError appends an error that is not in the API model. It ends the stream.
func AppendError(dst []byte, code, message string) []byte {
	return appendFrame(dst, nil,
		header{":message-type", "error"},
		header{":error-code", code},
		header{":error-message", message})
}

type header struct{ name, value string }

// appendFrame appends a frame with all headers that have a value.
func appendFrame(dst, payload []byte, headers ...header) []byte {
	headersBytes := 0
	for i := range headers {
		h := &headers[i]
		h.value = cut(h.value)
		if h.value != "" {
			headersBytes += 1 + len(h.name) + 1 + 2 + len(h.value)
		}
	}
	total := minFrame + headersBytes + len(payload)
	if total > MaxFrame {
		panic(fmt.Sprintf("eventstream: a frame of %d bytes, of which %d are payload; at most %d are allowed", total, len(payload), MaxFrame))
	}
	start := len(dst)
	dst = slices.Grow(dst, total)
	dst = binary.BigEndian.AppendUint32(dst, uint32(total))
	dst = binary.BigEndian.AppendUint32(dst, uint32(headersBytes))
	dst = appendChecksum(dst, start)
	for _, h := range headers {
		if h.value == "" {
			continue
		}
		dst = append(dst, byte(len(h.name)))
		dst = append(dst, h.name...)
		dst = append(dst, stringHeader)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(h.value)))
		dst = append(dst, h.value...)
	}
	dst = append(dst, payload...)
	return appendChecksum(dst, start)
}

// appendChecksum appends the checksum of all bytes from start on.
func appendChecksum(dst []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[start:]))
}

// cut returns as much of the value as a header can hold, in whole characters.
func cut(value string) string {
	if len(value) <= maxValueBytes {
		return value
	}
	end := maxValueBytes
	for end > maxValueBytes-utf8.UTFMax && !utf8.RuneStart(value[end]) {
		end--
	}
	return value[:end]
}

// Message is the content of a frame.
type Message struct {
	Headers map[string]string
	Payload []byte // not nil, and the caller's
}

// ErrMalformed is the class of errors about bytes that are not a valid frame.
var ErrMalformed = errors.New("eventstream: malformed frame")

// Read reads the next frame. It is strict: every deviation is an [ErrMalformed]. That
// includes headers that are not strings, and duplicate names, though other services use
// them.
//
// The error is [io.EOF] if the stream ends before the frame, and [io.ErrUnexpectedEOF] if
// it ends within the frame. Other errors of r are returned unchanged. After any error the
// stream is unusable.
//
// Read reads no byte beyond the frame. Its memory grows with the bytes that have arrived,
// not with the length that the frame claims.
func Read(r io.Reader) (*Message, error) {
	frame := make([]byte, preludeBytes)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	total, headersBytes, err := checkPrelude(frame)
	if err != nil {
		return nil, err
	}
	if frame, err = readRest(r, frame, total); err != nil {
		return nil, err
	}
	body := frame[:total-checksumBytes]
	if want, got := binary.BigEndian.Uint32(frame[len(body):]), crc32.ChecksumIEEE(body); want != got {
		return nil, malformed("its checksum is %08x, and says %08x", got, want)
	}
	payload := preludeBytes + headersBytes
	m := &Message{Payload: body[payload:len(body):len(body)]}
	if m.Headers, err = parseHeaders(body[preludeBytes:payload]); err != nil {
		return nil, err
	}
	return m, nil
}

// checkPrelude returns the lengths at the start of a frame, after checking that the headers
// fit the frame.
func checkPrelude(prelude []byte) (total, headersBytes int, err error) {
	// Check the checksum first: without it the lengths mean nothing.
	if want, got := binary.BigEndian.Uint32(prelude[8:]), crc32.ChecksumIEEE(prelude[:8]); want != got {
		return 0, 0, malformed("the checksum of its lengths is %08x, and says %08x", got, want)
	}
	t, h := binary.BigEndian.Uint32(prelude), binary.BigEndian.Uint32(prelude[4:])
	switch {
	case t < minFrame || t > MaxFrame:
		return 0, 0, malformed("it has %d bytes, where %d to %d are allowed", t, minFrame, MaxFrame)
	case h > maxHeadersBytes:
		return 0, 0, malformed("its headers have %d bytes, where up to %d are allowed", h, maxHeadersBytes)
	case h > t-minFrame:
		return 0, 0, malformed("its headers have %d bytes, the whole frame %d", h, t)
	}
	return int(t), int(h), nil
}

// firstRoom is the capacity for a frame before any of its bytes has arrived.
const firstRoom = 16 << 10

// readRest reads until the frame has total bytes. Each step reads at most as many bytes as
// have arrived before.
func readRest(r io.Reader, frame []byte, total int) ([]byte, error) {
	for len(frame) < total {
		n := min(max(len(frame), firstRoom), total-len(frame))
		frame = slices.Grow(frame, n)
		if _, err := io.ReadFull(r, frame[len(frame):len(frame)+n]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		frame = frame[:len(frame)+n]
	}
	return frame, nil
}

func parseHeaders(b []byte) (map[string]string, error) {
	headers := make(map[string]string)
	for len(b) > 0 {
		nameBytes := int(b[0])
		if nameBytes == 0 {
			return nil, malformed("it has a header without a name")
		}
		if len(b) < 1+nameBytes+1+2 {
			return nil, malformed("its headers end inside the header that begins with %q", b[1:min(len(b), 1+nameBytes)])
		}
		name := string(b[1 : 1+nameBytes])
		b = b[1+nameBytes:]
		if b[0] != stringHeader {
			return nil, malformed("its header %q is of type %d, and not a string", name, b[0])
		}
		valueBytes := int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		switch {
		case valueBytes > maxValueBytes:
			return nil, malformed("its header %q has a value of %d bytes, where up to %d are allowed", name, valueBytes, maxValueBytes)
		case valueBytes > len(b):
			return nil, malformed("its headers end inside the value of %q", name)
		}
		if _, ok := headers[name]; ok {
			return nil, malformed("it has the header %q twice", name)
		}
		headers[name], b = string(b[:valueBytes]), b[valueBytes:]
	}
	return headers, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
