package braid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

const (
	// verifyPageBytes is about how much Verify reads at once. No iterator outlives that.
	verifyPageBytes = 512 << 10
	verifyRowBytes  = 80 // that a row takes in memory beside its key and value

	defaultVerifyRate  = 32 << 20 // bytes per second: a quarter of what a small cloud disk gives
	defaultMaxProblems = 100
	maxMaxProblems     = 10_000

	// verifySlack is how much of the time in which Verify could not read it may make up
	// for by reading faster.
	verifySlack = 100 * time.Millisecond
)

// VerifyOptions say how [DB.Verify] goes about its work. The zero value, and a nil
// pointer, mean the defaults.
type VerifyOptions struct {
	// BytesPerSecond bounds how fast the database is read, so that others keep most
	// of the disk: first its files, and then keys and values as they are stored, before
	// compression. 0 means 32 MiB; negative means no bound.
	BytesPerSecond int64

	// MaxProblems is how many problems the report may hold, 1 to 10,000. The others are
	// counted. 0 means 100.
	MaxProblems int

	// Progress, if it is not nil, is called from time to time with how many bytes of how
	// many were read, on the goroutine that called Verify, which waits for it. The total
	// is an estimate, and goes up where it was too low; the last call of a Verify that
	// has read everything has both the same.
	Progress func(doneBytes, totalBytes int64)
}

func (o *VerifyOptions) withDefaults() (VerifyOptions, error) {
	var opts VerifyOptions
	if o != nil {
		opts = *o
	}
	orDefault(&opts.BytesPerSecond, defaultVerifyRate)
	orDefault(&opts.MaxProblems, defaultMaxProblems)
	if opts.MaxProblems < 1 || opts.MaxProblems > maxMaxProblems {
		return opts, &InvalidArgumentError{"MaxProblems", opts.MaxProblems, fmt.Sprintf("must be 1 to %d", maxMaxProblems)}
	}
	return opts, nil
}

// VerifyReport is what [DB.Verify] has read, and what it has found.
type VerifyReport struct {
	Files, FileBytes int64 // that were compared with what was written; none of a database in memory

	Streams, Shards int64 // that were read to their ends
	Epochs          int64
	Records, Bytes  int64 // that can be read; Bytes are those of partition keys and data
	Leases          int64 // rows of consumer applications
	Queues          int64 // of package queue
	Keys            int64 // of the application's own

	// Unopened counts the records that are encrypted with a key that is not available:
	// their checksums, numbers and lengths were verified, and whether they decrypt was
	// not. UnopenedErr is why, for the first of them: an [ErrKeyUnavailable].
	Unopened    int64
	UnopenedErr error

	// Problems are what is wrong, in the order in which it was found, and MoreProblems
	// counts those that went beyond [VerifyOptions].MaxProblems.
	Problems     []*VerifyError
	MoreProblems int64
}

// Err returns nil if nothing is wrong, and else an error that wraps all Problems: it
// matches [ErrCorrupt], [ErrDataLoss] or the disk's error if one of them does. That a
// key is not available is no error.
func (r *VerifyReport) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return &problemsError{r.Problems, r.MoreProblems}
}

// VerifyError is something that [DB.Verify] has found to be wrong, and its place. It is
// an [ErrCorrupt], an [ErrDataLoss], or a read error of the disk, as Err is.
type VerifyError struct {
	// Kind says what is wrong:
	//
	//   - "file": a file is not what was written. Err is a [FileDamageError], or the error
	//     of a disk that cannot read it. Other problems say what is lost with it; there
	//     are none if nobody can read what was there, such as records that were trimmed.
	//   - "records": records of a shard cannot be read, or are missing. Err is a
	//     [CorruptError], which has their numbers.
	//   - "stream": what is stored about a stream, its shards and where their records
	//     lie is not what it should be, or shards and their parents do not fit.
	//   - "data key": a key that records of a stream are encrypted with is missing.
	//   - "epoch": the same of a stretch of arrival that shares tables.
	//   - "lease": a consumer's lease is not of a shard that there ever was, or has a
	//     checkpoint that the shard has not come to. If Err is a [BeyondTipError], it
	//     has the number.
	//   - "queue": what is stored about a queue of package queue cannot be read, or speaks
	//     of a queue, stream, shard or record that there never was.
	//   - "key": keys of the application cannot be read.
	//   - "row": rows that this version of braid does not know, or cannot read.
	Kind string

	Stream string  // the name of the stream, empty if it is none's
	Shard  ShardID // the shard, empty if it is none's
	App    string  // the consumer application of a lease; empty if it is none's
	Queue  string  // the name of the queue; empty if it is none's, or not known

	// AfterKey and BeforeKey are, of keys of the application that cannot be read, the
	// last one before and the first one behind them that can. nil is that there is none.
	AfterKey, BeforeKey []byte

	File string // the damaged file, if that is known, as in [FileDamageError]
	Err  error
}

// Error names the place and says what is wrong there.
func (e *VerifyError) Error() string {
	var text strings.Builder
	text.WriteString(e.Kind)
	if e.App != "" {
		fmt.Fprintf(&text, " of application %s", quoted(e.App))
	}
	if e.Queue != "" {
		fmt.Fprintf(&text, " %s", quoted(e.Queue))
	}
	if e.Stream != "" {
		fmt.Fprintf(&text, " of stream %s", quoted(e.Stream))
	}
	if e.Shard != "" {
		fmt.Fprintf(&text, ", %s", e.Shard)
	}
	fmt.Fprintf(&text, ": %v", e.Err)
	return text.String()
}

// Unwrap returns Err.
func (e *VerifyError) Unwrap() error { return e.Err }

// problemsError is all that a Verify has found.
type problemsError struct {
	problems []*VerifyError
	more     int64
}

func (e *problemsError) Error() string {
	if n := int64(len(e.problems)) + e.more; n > 1 {
		return fmt.Sprintf("%d problems, the first: %v", n, e.problems[0])
	}
	return e.problems[0].Error()
}

func (e *problemsError) Unwrap() []error {
	all := make([]error, len(e.problems))
	for i, p := range e.problems {
		all[i] = p
	}
	return all
}

// Verify reads everything in the database, and returns what it has read and what is
// wrong, such as damage on a disk of which no reader has come across it yet. It changes
// nothing, and the database is in use meanwhile: records that are trimmed, streams that
// are deleted, and shards that are split while it runs are no problems. What is put
// after it has come to a shard is not read.
//
// It compares the files with the sums that were made when they were written, so damage is
// found wherever it is, even in an index or in records that were trimmed. Tables that were
// written in the last second before a process was killed have no such sums.
//
// It checks the checksum of every record that can be read, and that none is missing
// between the first of its shard and the tip; that the open shards of each stream cover
// the hash-key space, and that closed ones have their children; that what is stored
// about streams, shards and epochs is what the database goes by; that encrypted records
// decrypt, as far as [Options].KeyProvider has the keys; that the leases and checkpoints
// of package consumer, and the queues of package queue, are of shards and records that there
// were; and that all keys of
// the application can be read.
//
// The report is never nil. The error is nil if everything was read and nothing is wrong.
// If something is, it is that of [VerifyReport.Err], so it matches [ErrCorrupt] or
// [ErrDataLoss]. Errors besides: [ErrInvalidArgument] for the options; the cause of ctx,
// [ErrClosed], [ErrFailed], [ErrOutOfResources]: then the report is of what was read by
// then, and the error also matches what was found. Verify works on a database in memory,
// and on one opened with [Options].ReadOnly, such as a backup: see [BackupOptions].Verify.
//
// What Pebble's cache or that of the operating system holds is read from there, and what
// is still to be written to tables from memory: damage of the disk beneath is found by a
// later call.
//
// Beside the report it holds half a megabyte, or one row if that is larger, and some bytes
// for each stream and each epoch; and neither an iterator nor a snapshot for longer than it
// takes to read that.
func (db *DB) Verify(ctx context.Context, options *VerifyOptions) (*VerifyReport, error) {
	report, err := db.verify(ctx, options)
	return report, wrapError("verify", "", err)
}

func (db *DB) verify(ctx context.Context, options *VerifyOptions) (*VerifyReport, error) {
	report := new(VerifyReport)
	opts, err := options.withDefaults()
	if err != nil {
		return report, err
	}
	v := &verifier{ctx: ctx, db: db, opts: opts, report: report, due: time.Now()}
	err = v.run()
	switch found := report.Err(); {
	case err == nil:
		err = found
	case found != nil:
		err = fmt.Errorf("%w; before that it has found %w", err, found)
	}
	return report, err
}

// verifier is one call of Verify. It belongs to the caller's goroutine.
//
// What it reads may change under it, so what looks wrong is looked at again. Of records,
// the rule is that of readers (page.go): a trim or a deletion shows before it removes
// anything, so if neither shows after the look, nothing was removed under it. Rows are
// compared with what readers see, and if they differ, twice more where commits are made:
// see inspect. TestVerifyFindsNothingWhileEverythingHappens holds it for all that can
// happen meanwhile.
type verifier struct {
	ctx    context.Context
	db     *DB
	opts   VerifyOptions
	report *VerifyReport
	due    time.Time // when the next page may be read

	done, total int64 // bytes, as Progress is told

	streams    map[uint32]*Stream // those that there were when it began, as the next
	epochs     map[uint32]bool
	openEpoch  uint32           // the last of them; 0 if there is none
	unopenable map[uint32]error // the data keys of the current stream that cannot be had, and why
}

// run is the list of what is verified. The files come first: what is found in them explains
// what the others find.
func (v *verifier) run() error {
	if err := v.goesOn(); err != nil {
		return err
	}
	if err := v.survey(); err != nil {
		return err
	}
	for _, step := range []func() error{
		v.verifyFiles, v.verifyMeta, v.verifyKnownRows, v.verifyStreams, v.verifyEpochs, v.verifyLeases, v.verifyQueues, v.verifyKeys, v.verifyUnknown,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	v.total = v.done
	v.tell()
	return nil
}

// goesOn returns why the call has to end, or nil.
func (v *verifier) goesOn() error { return cmp.Or(ended(v.ctx), ended(v.db.life)) }

// survey notes what there is, and estimates how much.
func (v *verifier) survey() error {
	ids := new([]uint32) // the operation's until it has ended
	if err := v.inspect(func(a *appender) error { *ids = a.epochs.IDs(); return nil }); err != nil {
		return err
	}
	v.epochs = make(map[uint32]bool, len(*ids))
	for _, id := range *ids {
		v.epochs[id], v.openEpoch = true, id
	}
	v.total = v.db.store.DurableBytes()
	v.streams = make(map[uint32]*Stream)
	for _, s := range v.db.Streams() {
		v.streams[s.number] = s
		for _, sh := range s.topology.Load().shards {
			horizon, _ := sh.view()
			if tip := sh.log.Tip(); tip.Offset > horizon.Offset {
				v.total += int64(tip.Offset - horizon.Offset)
			}
		}
	}
	record, _ := layout.RecordSpan()
	_, last := layout.AppSpan(nil, nil)
	app, _ := layout.AppSpan(nil, nil)
	for _, span := range [][2][]byte{{{}, record}, {app, last}} {
		n, err := reading(v.ctx, v.db, func() (int64, error) { return v.db.store.EstimateBytes(span[0], span[1]) })
		if err == nil { // else it is too low
			v.total += n
		}
	}
	return v.goesOn()
}

// paced counts what was read, and waits until the rate allows more.
func (v *verifier) paced(bytes int64) error {
	if v.done += bytes; v.done > v.total {
		v.total = v.done
	}
	v.tell()
	if v.opts.BytesPerSecond < 0 {
		return v.goesOn()
	}
	if late := time.Now().Add(-verifySlack); v.due.Before(late) {
		v.due = late
	}
	v.due = v.due.Add(time.Duration(float64(bytes) / float64(v.opts.BytesPerSecond) * float64(time.Second)))
	pause := time.Until(v.due)
	if pause <= 0 {
		return v.goesOn()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	return wait(v.ctx, v.db, timer.C)
}

func (v *verifier) tell() {
	if v.opts.Progress != nil {
		v.opts.Progress(v.done, v.total)
	}
}

// found adds a problem to the report.
func (v *verifier) found(at VerifyError, err error) {
	if len(v.report.Problems) == v.opts.MaxProblems {
		v.report.MoreProblems++
		return
	}
	at.Err, at.File = err, cmp.Or(kv.DamagedFile(err), at.File)
	v.report.Problems = append(v.report.Problems, &at)
}

// inspect runs fn where commits are made, when none is on its way: what readers see is
// what is stored then, for a group is published before the next one begins. Only what
// the appender itself keeps may be ahead, by the requests that came before in the same
// group. Writers wait for fn.
func (v *verifier) inspect(fn func(a *appender) error) error {
	if v.db.opts.ReadOnly { // nothing changes, and no commit is made
		return fn(v.db.appender)
	}
	found := new(error) // the operation's until it has ended
	err := v.db.control(v.ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		*found = fn(a)
		return nil, nil
	})
	if errors.Is(err, commit.ErrUnknown) { // it changes nothing
		err = cmp.Or(context.Cause(v.ctx), v.db.store.Err(), err)
	}
	if err != nil {
		return err
	}
	return *found
}

// settle returns when all that has been read by now shows to readers.
func (v *verifier) settle() error { return v.inspect(func(*appender) error { return nil }) }
