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
		damage.Doubt = err.Error()
		return damage
	}
	if damage.Complete = findings.Doubt == nil; findings.Doubt != nil {
		damage.Doubt = findings.Doubt.Error()
	}
	damage.Missing = damage.listed(findings.Missing)
	damage.GivenUp = damage.listed(findings.GivenUp)
	return damage
}

// listed returns the first of what was found. If those are not all, they are not complete.
func (e *FileDamageError) listed(found []salvage.Loss) (lost []LostRecords) {
	for _, l := range found[:min(len(found), maxMissing)] {
		lost = append(lost, lostRecords(l))
	}
	if more := len(found) - maxMissing; more > 0 {
		if e.Complete {
			e.Doubt = fmt.Sprintf("there are %d more stretches", more)
		}
		e.Complete = false
	}
	return lost
}

// missingText says what is missing; nothing if nobody has looked.
func (e *FileDamageError) missingText() string {
	switch {
	case len(e.Missing) == 0 && !e.Complete && e.Doubt == "":
		return ""
	case len(e.Missing) == 0 && !e.Complete:
		return "; which records are missing is not known: " + e.Doubt + e.savedText()
	case len(e.Missing) == 0:
		return "; no record is missing" + e.savedText()
	}
	var b strings.Builder
	for i, l := range e.Missing[:min(len(e.Missing), maxMissingText)] {
		if i == 0 {
			b.WriteString("; missing: ")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(l.text())
	}
	if more := len(e.Missing) - maxMissingText; more > 0 {
		fmt.Fprintf(&b, ", and %d more stretches", more)
	}
	if !e.Complete {
		b.WriteString("; there may be more: " + e.Doubt)
	}
	return b.String() + e.savedText()
}

// savedText says how many records AcceptLoss would give up that are not missing.
func (e *FileDamageError) savedText() string {
	givenUp, exact := recordsIn(e.GivenUp)
	missing, alsoExact := recordsIn(e.Missing)
	about := "at least "
	if exact && alsoExact && e.Complete {
		about = ""
	}
	if givenUp == missing {
		return ""
	}
	return fmt.Sprintf("; AcceptLoss would give up %s%d records that Salvage keeps", about, givenUp-missing)
}

// recordsIn returns how many records are lost at least, and whether that is exact.
func recordsIn(lost []LostRecords) (n int64, exact bool) {
	exact = true
	for _, l := range lost {
		n, exact = n+l.Records, exact && l.Exact
	}
	return n, exact
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
