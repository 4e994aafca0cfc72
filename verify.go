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
	// verifyPageBytes is about how much Verify reads at once. An iterator lives no longer.
	verifyPageBytes = 512 << 10
	verifyRowBytes  = 80 // what a row takes in memory beside its key and value

	defaultVerifyRate  = 32 << 20 // bytes per second: a quarter of what a small cloud disk gives
	defaultMaxProblems = 100
	maxMaxProblems     = 10_000

	// verifySlack bounds how much lost time, in which it could not read, Verify makes up for
	// by reading faster.
	verifySlack = 100 * time.Millisecond
)

// VerifyOptions are the options of [DB.Verify]. The zero value, and a nil pointer, mean the
// defaults.
type VerifyOptions struct {
	// BytesPerSecond bounds how fast the database is read, so that most of the disk's throughput is
	// left for others. Verify first reads files, which count with their size, and then keys and
	// values, which count with their uncompressed size. 0 means 32 MiB; a negative value means no
	// bound.
	BytesPerSecond int64

	// MaxProblems is how many problems the report may hold, 1 to 10,000. Further problems
	// are only counted. 0 means 100.
	MaxProblems int

	// Progress, if not nil, is called from time to time with the number of bytes read so far and
	// the total, on the goroutine that called Verify, which waits for it. The total is an
	// estimate, and rises if it was too low. In the last call of a Verify that has read
	// everything, both are equal.
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

// VerifyReport counts what [DB.Verify] has read, and lists the problems that it found.
type VerifyReport struct {
	Files, FileBytes int64 // files compared with their checksums, and their size; 0 in memory

	Streams, Shards int64 // streams and shards read to their ends
	Epochs          int64
	Records, Bytes  int64 // readable records, and the bytes of their partition keys and data
	Leases          int64 // rows of consumer applications
	Queues          int64 // queues of package queue
	Keys            int64 // the application's own keys

	// Unopened counts the records that are encrypted with a key that is not available. Their
	// checksums, numbers and lengths were verified, but not whether they decrypt. UnopenedErr is
	// the reason for the first of them, an [ErrKeyUnavailable].
	Unopened    int64
	UnopenedErr error

	// Problems lists what is wrong, in the order in which it was found. MoreProblems counts
	// the problems beyond [VerifyOptions].MaxProblems.
	Problems     []*VerifyError
	MoreProblems int64
}

// Err returns nil if nothing is wrong, and otherwise an error that wraps all Problems: it
// matches [ErrCorrupt], [ErrDataLoss] or a disk's error if one of them does. An encryption key
// that is not available is no error.
func (r *VerifyReport) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return &problemsError{r.Problems, r.MoreProblems}
}

// VerifyError is a problem that [DB.Verify] has found, and its place. It is an [ErrCorrupt],
// an [ErrDataLoss], or a read error of the disk, as Err is.
type VerifyError struct {
	// Kind says what is wrong:
	//
	//   - "file": a file differs from what was written, or cannot be read. Err is a
	//     [FileDamageError] or the disk's error. Other problems say which data is lost with
	//     the file; there are none if that data could not be read anyway, such as trimmed
	//     records.
	//   - "records": records of a shard cannot be read, or are missing. Err is a
	//     [CorruptError], which has their numbers.
	//   - "stream": the rows about a stream, its shards and the places of their records are
	//     wrong, or shards do not fit their parents.
	//   - "data key": a key that encrypts records of a stream is missing.
	//   - "epoch": the rows about an epoch, a span of arrival times with its own tables, are wrong.
	//   - "lease": a consumer's lease is for a shard that never existed, or has a
	//     checkpoint beyond the end of its shard. If Err is a [BeyondTipError], it has the
	//     checkpoint's number.
	//   - "queue": a row about a queue of package queue cannot be read, or names a queue,
	//     stream, shard or record that never existed.
	//   - "key": keys of the application cannot be read.
	//   - "row": this version of braid does not know a row, or cannot read it.
	Kind string

	Stream string  // the name of the stream; empty if the problem is not in a stream
	Shard  ShardID // the shard; empty if the problem is not in a shard
	App    string  // the consumer application of a lease; empty for all other problems
	Queue  string  // the name of the queue; empty if it is unknown, and for all other problems

	// AfterKey and BeforeKey enclose application keys that cannot be read: AfterKey is the
	// last readable key before them, BeforeKey the first one after them. nil means that
	// there is none.
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

// problemsError wraps all problems of a report.
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

// Verify reads everything in the database, and reports what it has read and what is wrong. So
// it finds damage on a disk before a reader comes across it. It changes nothing, and the
// database can be used meanwhile: trims, deleted streams and reshards while it runs are not
// problems. It does not read records that are put to a shard after it has reached that shard.
//
// Verify compares the files with the checksums made when they were written. So it finds damage
// anywhere, even in an index or in trimmed records. Tables written in the last second before a
// process was killed have no such checksums.
//
// It checks that:
//
//   - each record that can be read matches its checksum, and none is missing between the first
//     record of its shard and the tip;
//   - the open shards of each stream cover the hash-key space, and closed shards have their
//     children;
//   - the rows about streams, shards and epochs agree with the state of the open database;
//   - encrypted records decrypt, as far as [Options].KeyProvider has the keys;
//   - the leases and checkpoints of package consumer, and the queues of package queue, belong
//     to shards and records that existed;
//   - all keys of the application can be read.
//
// The report is never nil. The error is nil if everything was read and nothing is wrong. If
// something is wrong, the error is that of [VerifyReport.Err], so it matches [ErrCorrupt] or
// [ErrDataLoss]. Other errors are [ErrInvalidArgument] for the options, the cause of ctx,
// [ErrClosed], [ErrFailed] and [ErrOutOfResources]. The report is then about what was read so
// far, and the error also matches the problems found so far. Verify works on a database in
// memory, and on one opened with [Options].ReadOnly, such as a backup: see
// [BackupOptions].Verify.
//
// Data that is in Pebble's cache or the operating system's is read from there, and data that
// is not yet in tables is read from memory. A later call finds damage of the disk underneath.
//
// Apart from the report, Verify holds half a megabyte, or one row if that is larger, and some
// bytes for each stream and each epoch. It holds no snapshot, and no iterator for longer than
// it takes to read half a megabyte.
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
		err = fmt.Errorf("%w; found before that: %w", err, found)
	}
	return report, err
}

// verifier is one call of Verify. It belongs to the caller's goroutine.
//
// The database may change while it is read, so whatever looks wrong is checked again. For
// records, the rule is that of readers (page.go): a trim or a deletion is visible before it
// removes anything, so if neither is visible after a read, nothing was removed during it. Rows
// are compared with what readers see. If they differ, they are compared twice more on the
// committer's goroutine: see inspect. TestVerifyFindsNothingWhileEverythingHappens covers
// everything that can happen meanwhile.
type verifier struct {
	ctx    context.Context
	db     *DB
	opts   VerifyOptions
	report *VerifyReport
	due    time.Time // when the next page may be read

	done, total int64 // bytes, for Progress

	streams    map[uint32]*Stream // those that existed when it began
	epochs     map[uint32]bool    // those that existed when it began
	openEpoch  uint32             // the last of them; 0 if there is none
	unopenable map[uint32]error   // the current stream's data keys that are unavailable, and why
}

// run verifies everything, one kind after the other. The files come first: damage found
// there explains what the later steps find.
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

// goesOn returns nil, or the reason for which the call must end.
func (v *verifier) goesOn() error { return cmp.Or(ended(v.ctx), ended(v.db.life)) }

// survey notes which streams and epochs exist, and estimates how much there is to read.
func (v *verifier) survey() error {
	ids := new([]uint32) // belongs to the operation until it has ended
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
		if err == nil { // otherwise the estimate is too low
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

// inspect runs fn on the committer's goroutine, while no commit is on its way. Readers then
// see exactly what is stored, because a group is published before the next one begins. Only
// the appender's own state may be ahead, by earlier requests of the same group. Writers wait
// for fn.
func (v *verifier) inspect(fn func(a *appender) error) error {
	if v.db.opts.ReadOnly { // nothing changes, and no commit is made
		return fn(v.db.appender)
	}
	found := new(error) // belongs to the operation until it has ended
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

// settle returns when everything that Verify has read so far is visible to readers.
func (v *verifier) settle() error { return v.inspect(func(*appender) error { return nil }) }
