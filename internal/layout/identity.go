package layout

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/google/uuid"
)

// MaxIdentityBytes bounds the identity file of every version, so that a reader need not trust
// the length of the file.
const MaxIdentityBytes = 4096

// identityMagic is the first line of every identity file.
const identityMagic = "braid database"

// Identity is the content of the file that makes a directory a database. It consists of lines
// of text, so that people can read it:
//
//	braid database
//	format 3
//	oldest-reader 3
//	id 9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11
//	state ready
//	crc a06a4c35
//
// Invariant: in every version, now and later, the first three lines have the same meaning as
// here, and the last line is the CRC-32C of all bytes before it. So any version can determine
// whether it can read the database.
type Identity struct {
	Format       uint32    // format version of the database
	OldestReader uint32    // oldest format version whose code can read it
	ID           uuid.UUID // the database's; a copy of the files has the same
	Ready        bool      // false while the database is being created
}

// NewIdentity returns the identity of a database that this version creates.
func NewIdentity() (Identity, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return Identity{}, fmt.Errorf("make a database id: %w", err)
	}
	return Identity{Format: FormatVersion, OldestReader: OldestReader, ID: id}, nil
}

// TooNew reports whether only a later version can read the database. Then only Format and
// OldestReader are known.
func (id Identity) TooNew() bool { return id.OldestReader > FormatVersion }

// TooOld reports whether only an earlier version can read the database. Then only Format and
// OldestReader are known.
func (id Identity) TooOld() bool { return id.Format < OldestReadable }

// Encode returns the file's bytes.
func (id Identity) Encode() []byte {
	state := "creating"
	if id.Ready {
		state = "ready"
	}
	text := fmt.Appendf(nil, "%s\nformat %d\noldest-reader %d\nid %s\nstate %s\n",
		identityMagic, id.Format, id.OldestReader, id.ID, state)
	return fmt.Appendf(text, "crc %08x\n", crc32.Checksum(text, castagnoli))
}

// DecodeIdentity is the inverse of Encode. Of a file of another version, it may read only a
// part: see TooNew and TooOld.
func DecodeIdentity(data []byte) (Identity, error) {
	lines, err := identityLines(data)
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	if err := scanNumber(lines[1], "format", &id.Format); err != nil {
		return Identity{}, err
	}
	if err := scanNumber(lines[2], "oldest-reader", &id.OldestReader); err != nil {
		return Identity{}, err
	}
	if id.OldestReader > id.Format {
		return Identity{}, fmt.Errorf("%w: identity: oldest-reader %d is above format %d", ErrCorrupt, id.OldestReader, id.Format)
	}
	if id.TooNew() || id.TooOld() {
		return Identity{Format: id.Format, OldestReader: id.OldestReader}, nil
	}
	if err := id.decodeRest(lines[3:]); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// identityLines verifies the first and the last line, and returns the lines without the last, at
// least three.
func identityLines(data []byte) ([]string, error) {
	if len(data) > MaxIdentityBytes {
		return nil, fmt.Errorf("%w: identity: more than %d bytes", ErrCorrupt, MaxIdentityBytes)
	}
	at := bytes.LastIndex(data, []byte("\ncrc ")) + 1
	if at == 0 {
		return nil, fmt.Errorf("%w: identity: no crc line", ErrCorrupt)
	}
	text := data[:at]
	if want := fmt.Sprintf("crc %08x\n", crc32.Checksum(text, castagnoli)); string(data[at:]) != want {
		return nil, fmt.Errorf("%w: identity: checksum does not match", ErrCorrupt)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) < 3 || lines[0] != identityMagic {
		return nil, fmt.Errorf("%w: identity: does not begin with %q", ErrCorrupt, identityMagic)
	}
	return lines, nil
}

// decodeRest reads the lines after the third. A later format that this version can read may
// have more of them.
func (id *Identity) decodeRest(lines []string) error {
	if len(lines) < 2 || len(lines) > 2 && id.Format == FormatVersion {
		return fmt.Errorf("%w: identity: %d lines after the third, not 2", ErrCorrupt, len(lines))
	}
	text, ok := strings.CutPrefix(lines[0], "id ")
	parsed, err := uuid.Parse(text)
	if !ok || err != nil || parsed.String() != text {
		return fmt.Errorf("%w: identity: %q is not an id", ErrCorrupt, lines[0])
	}
	id.ID = parsed
	switch lines[1] {
	case "state ready":
		id.Ready = true
	case "state creating":
	default:
		return fmt.Errorf("%w: identity: %q is not a state", ErrCorrupt, lines[1])
	}
	return nil
}

// scanNumber reads a line of a name and a positive number in its shortest form.
func scanNumber(line, name string, n *uint32) error {
	if _, err := fmt.Sscanf(line, name+" %d", n); err != nil || *n == 0 || line != fmt.Sprintf("%s %d", name, *n) {
		return fmt.Errorf("%w: identity: %q is not a %s number", ErrCorrupt, line, name)
	}
	return nil
}
