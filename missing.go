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

// This file adds to the error of an open that met a damaged file which records are missing.

const (
	// An open that is refused looks for missing records for lookPatience at most, reads up
	// to lookBytes, and holds up to lookMemory bytes meanwhile.
	lookPatience = 2 * time.Second
	lookBytes    = 256 << 20
	lookMemory   = 64 << 20

	// maxMissing bounds how many ranges of records a FileDamageError lists, and
	// maxMissingText how many its text names.
	maxMissing     = 64
	maxMissingText = 3
)

// findMissing adds to an error of an open, if it reports damaged files, which records are
// missing. The open has released the lock of the directory, so findMissing takes a shared one;
// it changes nothing.
func (db *DB) findMissing(err error, dir string, env environment) error {
	found := kv.FileDamages(err)
	if len(found) == 0 || dir == InMemory {
		return err
	}
	damage, ok := fileDamage(err).(*FileDamageError)
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), lookPatience, fmt.Errorf("the search takes longer than %v", lookPatience))
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

// listed returns the first maxMissing of the losses. If there are more, e is not complete.
func (e *FileDamageError) listed(found []salvage.Loss) (lost []LostRecords) {
	for _, l := range found[:min(len(found), maxMissing)] {
		lost = append(lost, lostRecords(l))
	}
	if more := len(found) - maxMissing; more > 0 {
		if e.Complete {
			e.Doubt = fmt.Sprintf("there are %d more ranges", more)
		}
		e.Complete = false
	}
	return lost
}

// missingText says which records are missing. It is empty if nobody has looked for them.
func (e *FileDamageError) missingText() string {
	switch {
	case len(e.Missing) == 0 && !e.Complete && e.Doubt == "":
		return ""
	case len(e.Missing) == 0 && !e.Complete:
		return "; it is unknown which records are missing: " + e.Doubt + e.savedText()
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
		fmt.Fprintf(&b, ", and %d more ranges", more)
	}
	if !e.Complete {
		b.WriteString("; there may be more: " + e.Doubt)
	}
	return b.String() + e.savedText()
}

// savedText says how many records AcceptLoss would give up although they are not missing.
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

// recordsIn returns a lower bound of the number of lost records, and whether it is exact.
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

// lostStreamRow replaces the row of a stream that was lost. Nothing in that stream expires.
var lostStreamRow = layout.StreamRow{MaxRecordBytes: maxDataBytes}

// lostRecords returns the public form of a loss, with sequence numbers for counters.
func lostRecords(l salvage.Loss) LostRecords {
	number := func(counter uint64) SequenceNumber {
		return newSequenceNumber(int64(l.CreatedSeconds), counter, int64(counter/uint64(time.Second)), l.Shard)
	}
	return LostRecords{
		Stream: l.Stream, Shard: shardID(l.Shard), FirstLost: number(l.First), FirstAvailable: number(l.Next),
		Records: int64(l.Records), Exact: l.Counted,
	}
}
