// Package layout is the only code that knows the bytes on disk: the prefixes that divide
// Pebble's key space into columns, the encoding of each key and value, and the version of the
// format.
//
// It knows no engine, no clock and no locks, so every encoding can be fuzzed by itself. The root
// package calls it for each row that it reads or writes; internal/kv calls it for the identity
// of a database.
//
// Two rules hold for all of it, and the golden tests pin both:
//
//   - Keys are fixed-width and big-endian, so byte order is the order of the
//     fields. The exceptions, names of meta rows and keys of the application,
//     come last in their keys; those of leases are divided by zero bytes.
//   - A value ends with a CRC-32C over its key's fields and its own bytes. A row
//     that was moved to another key is as damaged as one with a flipped bit.
package layout

import (
	"errors"
	"hash/crc32"
)

// FormatVersion is the version of everything that this package writes. It rises with every
// change after which an older braid would misread a database. In version 1 each record was a
// row, and version 2 had no ledger of durable files.
const FormatVersion = 3

// OldestReader is the oldest format version whose code can read what this one
// writes.
const OldestReader = 3

// OldestReadable is the oldest format version that this one's code can read.
const OldestReadable = 3

// ErrCorrupt is wrapped by every error of a decoder: this version of the package did not write
// these bytes under that key.
var ErrCorrupt = errors.New("malformed row")

// castagnoli is CRC-32C, which processors compute in hardware.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)
