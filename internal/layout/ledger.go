package layout

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// MaxLedgerBytes bounds a ledger file of every version: a list of half a million
// tables.
const MaxLedgerBytes = 32 << 20

// The first lines of the two ledgers.
const (
	ledgerMagic = "braid ledger"
	tablesMagic = "braid tables"
)

// Ledger records how much of the engine's logs and manifest is known to be durable, so that an
// open notices if a part of it is missing. It consists of lines of text:
//
//	braid ledger
//	length 0000000223
//	sequence 17
//	database 9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11
//	state ready
//	manifest MANIFEST-000004
//	file 000007.log 123456 a885d993 00000001
//	file MANIFEST-000004 789 0c1d2e3f 0c1d2e3f
//	crc 645eb5cf
//
// The length is that of the text, including the last line, which is the CRC-32C of all bytes
// before it. The file is overwritten in place, so bytes of an earlier, longer text may follow.
type Ledger struct {
	Sequence uint64       // rises with each ledger that is written
	Database uuid.UUID    // the id of the database
	Ready    bool         // false while the database is being created
	Manifest string       // the name of the manifest that the engine opens
	Files    []LedgerFile // logs and the manifest, in the order of their names
}

// LedgerFile is the durable beginning of a file.
type LedgerFile struct {
	Name string
	Size int64  // bytes known to be durable
	Sum  uint32 // their CRC-32C
	Head uint32 // the CRC-32C of the first LedgerHeadBytes of them, or of all; 0 for a table
}

// TableLedger lists the engine's tables, which are written once. It is a text as that
// of [Ledger], with lines such as
//
//	table 000012.sst 123456 a885d993 0c1d2e3f
type TableLedger struct {
	Sequence uint64
	Database uuid.UUID
	Tables   []LedgerTable // in the order of their names
}

// LedgerTable is a table as it was written.
type LedgerTable struct {
	LedgerFile
	Tail uint32 // the CRC-32C of the last LedgerTailBytes, or of all if there are fewer
}

// LedgerHeadBytes is how many bytes at the beginning of a log or manifest distinguish it from
// one of another database, even if its end is damaged.
const LedgerHeadBytes = 4096

// LedgerTailBytes is how many bytes at a table's end an open reads to distinguish it from
// another table. The end has the table's last keys.
const LedgerTailBytes = 4096

// LedgerSum adds bytes to a checksum of a ledger, which begins with zero.
func LedgerSum(sum uint32, data []byte) uint32 { return crc32.Update(sum, castagnoli, data) }

// Encode returns the file's bytes.
func (l *Ledger) Encode() []byte {
	text := beginLedger(ledgerMagic, l.Sequence, l.Database)
	text = fmt.Appendf(text, "state %s\nmanifest %s\n", stateName(l.Ready), l.Manifest)
	for _, f := range l.Files {
		text = fmt.Appendf(text, "file %s %d %08x %08x\n", f.Name, f.Size, f.Sum, f.Head)
	}
	return endLedger(text)
}

// Encode returns the file's bytes.
func (l *TableLedger) Encode() []byte {
	text := beginLedger(tablesMagic, l.Sequence, l.Database)
	for _, t := range l.Tables {
		text = fmt.Appendf(text, "table %s %d %08x %08x\n", t.Name, t.Size, t.Sum, t.Tail)
	}
	return endLedger(text)
}

// DecodeLedger is the inverse of Encode. It ignores bytes after the text.
func DecodeLedger(data []byte) (l Ledger, err error) {
	lines, err := ledgerLines(data, ledgerMagic, &l.Sequence, &l.Database)
	if err != nil {
		return Ledger{}, err
	}
	if len(lines) < 2 {
		return Ledger{}, ledgerError("%d lines", len(lines))
	}
	switch lines[0] {
	case "state ready":
		l.Ready = true
	case "state creating":
	default:
		return Ledger{}, ledgerError("%q is not a state", lines[0])
	}
	name, ok := strings.CutPrefix(lines[1], "manifest ")
	if !ok {
		return Ledger{}, ledgerError("%q names no manifest", lines[1])
	}
	l.Manifest = name
	for _, line := range lines[2:] {
		f, rest, err := ledgerFile(line, "file")
		if err == nil && len(rest) == 1 {
			f.Head, err = parseSum(rest[0])
		}
		if err != nil || len(rest) != 1 {
			return Ledger{}, ledgerError("%q is not a file", line)
		}
		l.Files = append(l.Files, f)
	}
	return l, nil
}

// DecodeTableLedger is the inverse of Encode. It ignores bytes after the text.
func DecodeTableLedger(data []byte) (l TableLedger, err error) {
	lines, err := ledgerLines(data, tablesMagic, &l.Sequence, &l.Database)
	if err != nil {
		return TableLedger{}, err
	}
	for _, line := range lines {
		f, rest, err := ledgerFile(line, "table")
		if err != nil || len(rest) != 1 {
			return TableLedger{}, ledgerError("%q is not a table", line)
		}
		tail, err := parseSum(rest[0])
		if err != nil {
			return TableLedger{}, ledgerError("%q is not a table", line)
		}
		l.Tables = append(l.Tables, LedgerTable{f, tail})
	}
	return l, nil
}

func stateName(ready bool) string {
	if ready {
		return "ready"
	}
	return "creating"
}

// beginLedger returns the lines that both ledgers begin with. The length is filled in later.
func beginLedger(magic string, sequence uint64, database uuid.UUID) []byte {
	return fmt.Appendf(nil, "%s\nlength %010d\nsequence %d\ndatabase %s\n", magic, 0, sequence, database)
}

// endLedger fills in the length, and adds the checksum.
func endLedger(text []byte) []byte {
	at := bytes.IndexByte(text, '\n') + len("\nlength ")
	copy(text[at:], fmt.Sprintf("%010d", len(text)+len("crc 00000000\n")))
	return fmt.Appendf(text, "crc %08x\n", crc32.Checksum(text, castagnoli))
}

func ledgerError(format string, args ...any) error {
	return fmt.Errorf("%w: ledger: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// ledgerLines verifies the lines that beginLedger and endLedger write, and returns the lines
// between them.
func ledgerLines(data []byte, magic string, sequence *uint64, database *uuid.UUID) ([]string, error) {
	const lengthDigits, sumLine = 10, len("crc 00000000\n")
	rest, ok := bytes.CutPrefix(data, []byte(magic+"\nlength "))
	if !ok || len(rest) < lengthDigits {
		return nil, ledgerError("does not begin with %q and a length", magic)
	}
	digits := string(rest[:lengthDigits])
	length, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || length > uint64(len(data)) || length < uint64(len(magic)+lengthDigits+sumLine) {
		return nil, ledgerError("length %q, of %d bytes", digits, len(data))
	}
	text, last := data[:length-uint64(sumLine)], data[length-uint64(sumLine):length]
	if want := fmt.Sprintf("crc %08x\n", crc32.Checksum(text, castagnoli)); string(last) != want {
		return nil, ledgerError("checksum does not match")
	}
	if !bytes.HasSuffix(text, []byte("\n")) {
		return nil, ledgerError("the last line has no end")
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) < 4 {
		return nil, ledgerError("%d lines", len(lines))
	}
	number, ok := strings.CutPrefix(lines[2], "sequence ")
	if *sequence, err = strconv.ParseUint(number, 10, 64); !ok || err != nil || strconv.FormatUint(*sequence, 10) != number {
		return nil, ledgerError("%q is not a sequence", lines[2])
	}
	id, ok := strings.CutPrefix(lines[3], "database ")
	if *database, err = uuid.Parse(id); !ok || err != nil || database.String() != id {
		return nil, ledgerError("%q is not a database", lines[3])
	}
	return lines[4:], nil
}

// ledgerFile reads a line with a kind, a name, a size and a sum, and returns the fields after
// those.
func ledgerFile(line, kind string) (f LedgerFile, rest []string, err error) {
	fields := strings.Split(line, " ")
	if len(fields) < 4 || fields[0] != kind || fields[1] == "" || slices.Contains(fields, "") {
		return f, nil, ErrCorrupt
	}
	f.Name = fields[1]
	if f.Size, err = strconv.ParseInt(fields[2], 10, 64); err != nil || f.Size < 0 || strconv.FormatInt(f.Size, 10) != fields[2] {
		return f, nil, ErrCorrupt
	}
	if f.Sum, err = parseSum(fields[3]); err != nil {
		return f, nil, err
	}
	return f, fields[4:], nil
}

func parseSum(text string) (uint32, error) {
	sum, err := strconv.ParseUint(text, 16, 32)
	if err != nil || fmt.Sprintf("%08x", sum) != text {
		return 0, ErrCorrupt
	}
	return uint32(sum), nil
}
