package braid

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/salvage"
)

// SalvageOptions are the options of [Salvage]. The zero value, and a nil pointer, mean the
// defaults.
type SalvageOptions struct {
	// Progress, if not nil, is called from time to time with the number of bytes read so far and
	// the total, on the goroutine that called Salvage. Files are read twice, and count twice.
	Progress func(doneBytes, totalBytes int64)

	// Logger receives the events of the new database while it is written, as
	// [Options].Logger does. nil means slog.Default.
	Logger *slog.Logger
}

// SalvageReport lists what [Salvage] has saved of a database, and what is lost.
type SalvageReport struct {
	Records int64 // saved records
	Bytes   int64 // bytes of their partition keys and data
	Keys    int64 // saved keys of the application
	Queues  int64 // saved queues of package queue, with their unsettled records
	Leases  int64 // saved leases of consumers, and their rows about applications and streams

	// Lost lists the records that are lost or may be lost, by stream, shard and number.
	Lost []LostRecords

	// LostKeys lists ranges in which keys of the application may be lost, or may have an
	// older value.
	LostKeys []LostKeys

	// Damaged lists the places that could not be read. Their data need not be lost: another
	// file may have it as well.
	Damaged []DamagedFile

	// Notes say, for people, which rows about streams and shards were lost, and what
	// replaced them.
	Notes []string

	// Closed reports whether the database had been closed, so that nothing of its last moments is
	// lost. Otherwise records at the ends of shards, or changes of keys, may be missing without a
	// trace: at most those of the last second, if the ledger of the database's files can be read.
	Closed bool

	// NewID reports whether the id of the database was lost, with all copies of it. The new
	// database then has another id, and encrypted records cannot be decrypted.
	NewID bool
}

// Whole reports whether nothing was found to be lost.
func (r *SalvageReport) Whole() bool {
	return len(r.Lost) == 0 && len(r.LostKeys) == 0 && len(r.Damaged) == 0 && len(r.Notes) == 0
}

// LostRecords is a range of lost records of a shard. A reader that reaches it in the
// salvaged database gets a [CorruptError] with the same FirstAvailable.
type LostRecords struct {
	Stream string // the name of the stream; empty if it is lost
	Shard  ShardID

	// FirstLost and FirstAvailable are as in [CorruptError]: the lost records have numbers
	// from FirstLost on, and below FirstAvailable.
	FirstLost, FirstAvailable SequenceNumber

	// Records is the number of lost records if Exact is true. Otherwise it is an estimate. It is 1
	// if the number cannot be estimated: any number of records, or none, may have followed the last
	// record found in the shard.
	Records int64
	Exact   bool
}

// LostKeys is a range of the application's keys: those above After, up to and including
// Through. nil means no bound on that side.
type LostKeys struct{ After, Through []byte }

// DamagedFile is a part of a file that could not be read.
type DamagedFile struct {
	Name    string // the file's path in the database's directory, or in "store" below it
	Offset  int64  // where the part begins, in bytes
	Bytes   int64  // the length of the part; 0 means the rest of the file
	Problem string // a description, or the disk's error
}

// Salvage makes a new database, in the directory to, from everything that can be read of the
// damaged database in from. It is for a database that [Open] refuses, or whose readers meet
// damage, and of which there is no better copy. It changes nothing in from, and works even
// where no open succeeds: it reads every block of every table, and every commit in the logs,
// on its own. The directory to must be absent or empty.
//
// Salvage does not take data from files of another database or in the wrong place: it first
// compares the files with the ledger of what was durable, and treats such files as missing. If
// the ledger cannot be read, which a note reports, foreign files go unnoticed. So does a
// foreign file newer than the ledger, which is at most a second old.
//
// Saved data is unchanged: records have their sequence numbers and arrival times, streams
// their settings, tags and data keys, shards their ranges and parents, consumers their leases
// and checkpoints, and applications their keys. The database keeps its id, so its encrypted
// records can still be decrypted. Salvage needs no [KeyProvider]: it copies encrypted records
// as they are, and only a reader finds out whether they decrypt. Trimmed and deleted records
// do not come back, unless the note of their removal is lost.
//
// Lost records are listed in the report and marked in the new database: a reader that reaches
// them gets a [CorruptError] with their range, and can resume after it. New records get
// numbers above all that may ever have been given out.
//
// Salvage returns when ctx ends. If it fails, there is no database in to, and everything that
// it has written is removed. A crash leaves a directory that [Open] and Salvage refuse as an
// unfinished salvage: remove it, and salvage again. Salvage needs disk space for the new
// database, and for leases and keys of the application a second time. It needs about as much
// memory as opening the database.
//
// Errors: [ErrInvalidArgument] if from holds nothing of a database, or to is not empty or
// lies in from; [ErrLocked] if a process has the database open for writing;
// [ErrFormatTooNew]; [ErrFormatTooOld]; [ErrDataLoss] if the directory of its files is
// missing; the cause of ctx; [ErrDiskFull] if the new database does not fit;
// [ErrOutOfResources]; [ErrFailed]. Any other error is the file system's.
func Salvage(ctx context.Context, from, to string, options *SalvageOptions) (*SalvageReport, error) {
	return salvageDir(ctx, from, to, options, environment{})
}

// salvagePatience is how long a call whose context has ended waits until its files are
// removed.
const salvagePatience = 200 * time.Millisecond

func salvageDir(ctx context.Context, from, to string, options *SalvageOptions, env environment) (*SalvageReport, error) {
	for _, dir := range []string{from, to} {
		err := validateDir(dir)
		if dir == InMemory {
			err = &InvalidArgumentError{"dir", dir, "must name a directory: a database in memory leaves nothing that could be salvaged"}
		}
		if err != nil {
			return nil, wrapError("salvage", dir, err)
		}
	}
	var opts SalvageOptions
	if options != nil {
		opts = *options
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	now := time.Now
	if env.clock != nil {
		now = env.clock
	}
	cfg := salvage.Config{
		FS: env.fs, From: from, To: to, Logger: opts.Logger,
		MemTableBytes: defaultMemtableBytes, CacheBytes: minMemtableBytes,
		Now:    uint64(max(0, now().UnixNano())),
		Stream: lostStreamRow,
	}
	report, err := runSalvage(ctx, cfg, opts.Progress)
	if err != nil {
		if errors.Is(err, kv.ErrNotEmpty) || errors.Is(err, kv.ErrOwnDirectory) {
			from = to
		}
		return nil, wrapError("salvage", from, err)
	}
	return makeReport(report), nil
}

// runSalvage runs the salvage on another goroutine, because a stalled disk may hold it for
// longer than the caller waits. It passes the progress on to the caller.
func runSalvage(ctx context.Context, cfg salvage.Config, progress func(done, total int64)) (*salvage.Report, error) {
	type read struct{ done, total int64 }
	type result struct {
		report *salvage.Report
		err    error
	}
	reads, results := make(chan read), make(chan result)
	givenUp := make(chan struct{})
	defer close(givenUp)
	if progress != nil {
		cfg.Progress = func(done, total int64) {
			select {
			case reads <- read{done, total}:
			case <-ctx.Done():
			}
		}
	}
	go func() {
		report, err := salvage.Run(ctx, cfg)
		select {
		case results <- result{report, err}:
		case <-givenUp:
			if err == nil {
				_ = report.Discard() // nobody is left to get the error
			}
		}
	}()
	for {
		select {
		case r := <-results:
			return r.report, r.err
		case r := <-reads:
			progress(r.done, r.total)
		case <-ctx.Done():
			patience := time.NewTimer(salvagePatience)
			defer patience.Stop()
			select {
			case r := <-results:
				return r.report, r.err
			case <-patience.C:
				return nil, context.Cause(ctx)
			}
		}
	}
}

// makeReport returns the public form of a report.
func makeReport(r *salvage.Report) *SalvageReport {
	report := &SalvageReport{
		Records: int64(r.Records), Bytes: int64(r.Bytes), Keys: int64(r.Keys), Leases: int64(r.Leases), Queues: int64(r.Queues),
		Notes: r.Rows, Closed: r.Whole, NewID: r.OtherID,
	}
	for _, l := range r.Losses {
		report.Lost = append(report.Lost, lostRecords(l))
	}
	for _, k := range r.LostKeys {
		report.LostKeys = append(report.LostKeys, LostKeys(k))
	}
	for _, p := range r.Files {
		report.Damaged = append(report.Damaged, DamagedFile{Name: p.File, Offset: max(0, p.Offset), Bytes: p.Bytes, Problem: p.Err.Error()})
	}
	return report
}
