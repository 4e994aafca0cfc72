package layout

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// MaxLossesBytes bounds the file of accepted losses, of every version.
const MaxLossesBytes = 1 << 20

const lossesMagic = "braid losses"

// Losses lists what a database has lost for good, in opens with AcceptLoss. It consists of
// lines of text:
//
//	braid losses
//	state marked
//	loss 2026-11-28T09:00:00Z store/000012.log short 4096 "…"
//	crc 5d8a2b9f
//
// The crc is the CRC-32C of all bytes before its line. Until the state is marked, the gaps of
// possibly missing records are not yet in the shards.
type Losses struct {
	Marked bool
	Losses []Loss
}

// Loss is one damaged file.
type Loss struct {
	Time   time.Time // when it was accepted, in seconds
	File   string    // its path below the directory of the database
	Damage string    // one word
	Offset int64     // where the damage begins; -1 if unknown
	Text   string    // for people
}

// Encode returns the file's bytes.
func (l *Losses) Encode() []byte {
	state := "open"
	if l.Marked {
		state = "marked"
	}
	text := fmt.Appendf(nil, "%s\nstate %s\n", lossesMagic, state)
	for _, loss := range l.Losses {
		text = fmt.Appendf(text, "loss %s %s %s %d %s\n",
			loss.Time.UTC().Format(time.RFC3339), loss.File, loss.Damage, loss.Offset, strconv.Quote(loss.Text))
	}
	return fmt.Appendf(text, "crc %08x\n", crc32.Checksum(text, castagnoli))
}

// DecodeLosses is the inverse of Encode.
func DecodeLosses(data []byte) (l Losses, err error) {
	bad := func(format string, args ...any) (Losses, error) {
		return Losses{}, fmt.Errorf("%w: losses: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	at := bytes.LastIndex(data, []byte("\ncrc ")) + 1
	if at == 0 {
		return bad("no crc line")
	}
	text := data[:at]
	if want := fmt.Sprintf("crc %08x\n", crc32.Checksum(text, castagnoli)); string(data[at:]) != want {
		return bad("checksum does not match")
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) < 2 || lines[0] != lossesMagic || lines[1] != "state open" && lines[1] != "state marked" {
		return bad("does not begin with %q and a state", lossesMagic)
	}
	l.Marked = lines[1] == "state marked"
	for _, line := range lines[2:] {
		fields := strings.SplitN(line, " ", 6)
		if len(fields) != 6 || fields[0] != "loss" {
			return bad("%q is not a loss", line)
		}
		loss := Loss{File: fields[2], Damage: fields[3]}
		if loss.Time, err = time.Parse(time.RFC3339, fields[1]); err != nil {
			return bad("%q has no time", line)
		}
		if loss.Offset, err = strconv.ParseInt(fields[4], 10, 64); err != nil {
			return bad("%q has no offset", line)
		}
		if loss.Text, err = strconv.Unquote(fields[5]); err != nil {
			return bad("%q has no text", line)
		}
		l.Losses = append(l.Losses, loss)
	}
	return l, nil
}
