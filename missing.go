package braid

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/salvage"
)

// This file says, in the error of an open that met a damaged file, which records are
// missing.

const (
	// lookPatience is how long an open that is refused looks for what is missing,
	// lookBytes how much it reads for that, and lookMemory how much it keeps meanwhile.
	lookPatience = 2 * time.Second
	lookBytes    = 256 << 20
	lookMemory   = 64 << 20

	// maxMissing bounds how many stretches of records a FileDamageError lists, and
	// maxMissingText how many its text names.
	maxMissing     = 64
	maxMissingText = 3
)

// MissingRecords says which records are missing from a damaged database: see
// [FileDamageError].
type MissingRecords struct {
	// Lost are stretches of shards whose records are missing, or may be, in the order of
	// streams and shards: at most 64. The Stream of one is empty if its name is lost.
	Lost []LostRecords

	// Known says whether Lost names all that is missing.
	Known MissingKnown

	// Why says why Known is not MissingAll.
	Why string
}

// MissingKnown says how much of what is missing a [MissingRecords] names.
type MissingKnown string

const (
	// MissingUnknown, the zero value, means that nothing is known but what Lost names.
	MissingUnknown MissingKnown = ""

	// MissingSome means that Lost was looked for everywhere, and that other records may be
	// missing of which nothing is left that would tell, or which are too many to be listed.
	MissingSome MissingKnown = "some"

	// MissingAll means that each record that is missing lies in one of the stretches.
	MissingAll MissingKnown = "all"
)

// records returns how many records are lost at least, and whether that is exact.
func (m *MissingRecords) records() (n int64, exact bool) {
	exact = m.Known == MissingAll
	for _, l := range m.Lost {
		n, exact = n+l.Records, exact && l.Exact
	}
	return n, exact
}

// findMissing adds to an error of opening a directory, if it is of damaged files, which
// records are missing. The open has given the directory's lock back, so this one shares it
// meanwhile, and changes nothing.
func (db *DB) findMissing(err error, dir string, env environment) error {
	found := kv.FileDamages(err)
	if len(found) == 0 || dir == InMemory {
		return err
	}
	damage, ok := fileDamage(err).(*FileDamageError)
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), lookPatience, fmt.Errorf("it takes longer than %v to look", lookPatience))
	defer cancel()
	cfg := salvage.Config{
		FS: env.fs, From: dir, MaxBytes: lookBytes, MaxMemory: lookMemory,
		Now: uint64(max(0, db.clock().UnixNano())), Stream: lostStreamRow,
	}
	findings, err := salvage.Look(ctx, cfg, found)
	if err != nil {
		damage.Missing.Why = err.Error()
		damage.GivenUp.Why = damage.Missing.Why
		return damage
	}
	damage.Missing = missingRecords(findings.Missing, findings.Doubt, false)
	damage.GivenUp = missingRecords(findings.GivenUp, findings.Doubt, findings.GivenUpUnknown)
	return damage
}

// missingRecords makes a MissingRecords of what was found.
func missingRecords(losses []salvage.Loss, doubt error, unknown bool) MissingRecords {
	m := MissingRecords{Known: MissingAll}
	for _, l := range losses[:min(len(losses), maxMissing)] {
		m.Lost = append(m.Lost, lostRecords(l))
	}
	switch more := len(losses) - maxMissing; {
	case unknown:
		m.Known = MissingUnknown
	case doubt != nil || more > 0:
		m.Known = MissingSome
	}
	if doubt != nil {
		m.Why = doubt.Error()
	} else if m.Known != MissingAll {
		m.Why = fmt.Sprintf("there are %d more stretches", len(losses)-maxMissing)
	}
	return m
}

// missingText says what is missing.
func (e *FileDamageError) missingText() string {
	if e.Missing.Known == MissingUnknown {
		if e.Missing.Why == "" {
			return "" // nobody has looked
		}
		return "; which records are missing is not known: " + e.Missing.Why
	}
	var b strings.Builder
	b.WriteString("; " + e.Missing.text())
	saved, exact := e.GivenUp.records()
	missing, alsoExact := e.Missing.records()
	saved, exact = saved-missing, exact && alsoExact
	switch {
	case e.GivenUp.Known == MissingUnknown:
		b.WriteString("; what AcceptLoss would give up besides is not known; Salvage keeps all that can be read")
	case saved > 0:
		about := "at least "
		if exact {
			about = ""
		}
		fmt.Fprintf(&b, "; AcceptLoss would give up %s%d more, which Salvage keeps", about, saved)
	}
	return b.String()
}

// text names some of the stretches.
func (m *MissingRecords) text() string {
	var b strings.Builder
	switch {
	case len(m.Lost) > 0:
		b.WriteString("missing: ")
	case m.Known == MissingAll:
		b.WriteString("no record is missing")
	default:
		b.WriteString("no record is known to be missing")
	}
	for i, l := range m.Lost[:min(len(m.Lost), maxMissingText)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(l.text())
	}
	if more := len(m.Lost) - maxMissingText; more > 0 {
		fmt.Fprintf(&b, ", and %d more stretches", more)
	}
	if m.Known == MissingSome {
		b.WriteString("; there may be more: " + m.Why)
	}
	return b.String()
}

// text says how many records are lost, and where.
func (l *LostRecords) text() string {
	count := "1 record"
	switch {
	case !l.Exact && l.Records == 1:
		count = "any number of records"
	case !l.Exact:
		count = fmt.Sprintf("about %d records", l.Records)
	case l.Records > 1:
		count = fmt.Sprintf("%d records", l.Records)
	}
	stream := "a stream whose name is lost"
	if l.Stream != "" {
		stream = "stream " + quoted(l.Stream)
	}
	return fmt.Sprintf("%s of %s of %s from %s on, below %s", count, l.Shard, stream, l.FirstLost, l.FirstAvailable)
}

// lostStreamRow is the row of a stream whose own is lost: nothing of it expires.
var lostStreamRow = layout.StreamRow{MaxRecordBytes: maxDataBytes}

// lostRecords makes sequence numbers of counters.
func lostRecords(l salvage.Loss) LostRecords {
	number := func(counter uint64) SequenceNumber {
		return newSequenceNumber(int64(l.CreatedSeconds), counter, int64(counter/uint64(time.Second)), l.Shard)
	}
	return LostRecords{
		Stream: l.Stream, Shard: shardID(l.Shard), FirstLost: number(l.First), FirstAvailable: number(l.Next),
		Records: int64(l.Records), Exact: l.Counted,
	}
}
