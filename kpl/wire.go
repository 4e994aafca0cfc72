package kpl

import "encoding/binary"

// The wire types of protobuf.
const (
	wireVarint     = 0
	wireFixed64    = 1
	wireBytes      = 2
	wireGroupStart = 3
	wireGroupEnd   = 4
	wireFixed32    = 5
)

// maxNumber is the highest field number that protobuf allows.
const maxNumber = 1<<29 - 1

// maxDepth limits how deep groups nest, and thereby the stack. Other protobuf readers
// have the same limit.
const maxDepth = 100

// field is one field of a message.
type field struct {
	number uint64
	wire   uint64
	value  uint64 // of a varint
	bytes  []byte // of a string, of bytes, and of a message
}

// next reads the first field of a message that is not empty, and returns the rest of the
// message. It can skip every wire type, including those that only unknown fields have.
func next(message []byte) (f field, rest []byte, ok bool) {
	f, rest, ok = nextPart(message)
	if !ok || f.wire == wireGroupEnd {
		return field{}, nil, false
	}
	if f.wire == wireGroupStart {
		rest, ok = skipGroup(f.number, rest)
	}
	return f, rest, ok
}

// skipGroup returns the message after the end of the group that has just started.
func skipGroup(number uint64, message []byte) (rest []byte, ok bool) {
	var open [maxDepth]uint64
	open[0] = number
	for depth := 1; depth > 0; {
		var f field
		if f, message, ok = nextPart(message); !ok {
			return nil, false
		}
		switch f.wire {
		case wireGroupStart:
			if depth == maxDepth {
				return nil, false
			}
			open[depth] = f.number
			depth++
		case wireGroupEnd:
			depth--
			if open[depth] != f.number {
				return nil, false
			}
		}
	}
	return message, true
}

// nextPart is like next, but returns the start and the end of a group as fields without
// contents.
func nextPart(message []byte) (f field, rest []byte, ok bool) {
	tag, rest, ok := varint(message)
	if !ok {
		return field{}, nil, false
	}
	f.number, f.wire = tag>>3, tag&7
	if f.number == 0 || f.number > maxNumber {
		return field{}, nil, false
	}
	size := uint64(0)
	switch f.wire {
	case wireVarint:
		f.value, rest, ok = varint(rest)
	case wireBytes:
		size, rest, ok = varint(rest)
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	case wireGroupStart, wireGroupEnd:
	default:
		ok = false
	}
	if !ok || size > uint64(len(rest)) {
		return field{}, nil, false
	}
	// The capacity ends with the field, so that an append to it cannot overwrite the next
	// one.
	f.bytes = rest[:size:size]
	return f, rest[size:], true
}

// varint reads a number of at most ten bytes and 64 bits.
func varint(message []byte) (value uint64, rest []byte, ok bool) {
	value, n := binary.Uvarint(message)
	if n <= 0 {
		return 0, nil, false
	}
	return value, message[n:], true
}
