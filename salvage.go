package braid

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/salvage"
)

// SalvageOptions say how to salvage a database. The zero value, and a nil pointer, mean
// the defaults.
type SalvageOptions struct {
	// Progress, if it is not nil, is called from time to time with how many bytes of how
	// many are read, on the goroutine that called Salvage. Files are read twice.
	Progress func(doneBytes, totalBytes int64)

	// Logger receives what happens to the new database meanwhile, as [Options].Logger
	// does. Nil means slog.Default.
	Logger *slog.Logger
}

// SalvageReport says what [Salvage] has saved of a database, and what it has not.
type SalvageReport struct {
	Records int64 // that were saved
	Bytes   int64 // of their partition keys and data
	Keys    int64 // keys of the application that were saved
	Queues  int64 // queues of package queue, with what is not settled in each
	Leases  int64 // leases of consumers, and what they store for an application and a stream

	// Lost are the records that are lost, or may be, by stream, shard and number.
	Lost []LostRecords

	// LostKeys are where keys of the application may be lost, or have the value of an
	// earlier time.
	LostKeys []LostKeys

	// Damaged are the places that could not be read. What was there need not be lost:
	// it may stand in another file as well.
	Damaged []DamagedFile

	// Notes say, for people, what was lost of the rows about streams and shards, and what
	// was made in their place.
	Notes []string

	// Closed reports that the database had been closed, and that nothing of its last
	// moments is lost. Otherwise records at the ends of shards, or changes of keys, may be
	// missing of which nothing is left that would tell: at most those of the last second,
	// while a ledger of the database's files can be read.
	Closed bool

	// NewID reports that the id of the database was lost, with all copies of it, and that it has another one
	// now. Records that were encrypted cannot be read without the old one.
	NewID bool
}

// Whole reports whether nothing was found to be lost.
func (r *SalvageReport) Whole() bool {
	return len(r.Lost) == 0 && len(r.LostKeys) == 0 && len(r.Damaged) == 0 && len(r.Notes) == 0
}

// LostRecords is a stretch of a shard whose records are lost. A reader that comes to it
// in the salvaged database gets a [CorruptError] with the same FirstAvailable.
type LostRecords struct {
	Stream string
	Shard  ShardID

	// FirstLost and FirstAvailable are as in [CorruptError]: the numbers of the lost
	// records are FirstLost or above, and below FirstAvailable.
	FirstLost, FirstAvailable SequenceNumber

	// Records is how many are lost if Exact is true. Else it is 1 for records that nothing
	// counts: there may have been any number of them behind the last one of the shard that
	// was found, or none.
	Records int64
	Exact   bool
}

// LostKeys is a range of the application's keys: those above After up to and including
// Through. Nil for either means no bound.
type LostKeys struct{ After, Through []byte }

// DamagedFile is a part of a file that could not be read.
type DamagedFile struct {
	Name    string // in the database's directory, or in "store" below it
	Offset  int64
	Bytes   int64  // 0 means all that follows
	Problem string // what was found, or what the disk said
}

// Salvage makes a new database, in the directory to, of all that can be read of the
// damaged one in from. It is for a database that [Open] refuses, or whose readers meet
// damage, and of which there is no better copy. It changes nothing in from, which need
// not be one that can be opened: every block of every table and every commit in the logs
// is looked at by itself. The directory to must be absent or empty.
//
// A file that is whole but is another database's, or is in the wrong place, brings nothing
// that this database never had: Salvage first compares the files with the ledger of what
// was durable, and such a file counts as missing. If the ledger cannot be read, or a file
// is younger than it, by a second at most, a foreign file goes unnoticed; a note reports a
// ledger that cannot be read.
//
// What is saved is as it was: records have their sequence numbers and arrival times,
// streams their settings, tags and data keys, shards their ranges and parents, consumers
// their leases and checkpoints, applications their keys; the id of the database, too, so
// its encrypted records can be read. That takes no [KeyProvider]: what is encrypted is
// copied as it is, and only its reader finds out whether it can be decrypted. What was
// trimmed or deleted does not come back, unless what says so is lost.
//
// What is lost is in the report, and in the new database: a reader that comes to it gets
// a [CorruptError] that says from where to where, and can go on behind it. New records
// get numbers above all that may ever have been given out.
//
// Salvage returns when ctx ends. If it ends with an error, there is no database in to,
// and what was written is removed. A crash leaves a directory that [Open] and Salvage
// refuse as that of an unfinished salvage: remove it, and salvage again. It needs disk
// space for the new database, and for leases and keys of the application once more; and
// about as much memory as to open the database.
//
// Errors: [ErrInvalidArgument] if from holds nothing of a database, or to is not empty or
// lies in from; [ErrLocked] if a process has the database open for writing;
// [ErrFormatTooNew]; [ErrFormatTooOld]; [ErrDataLoss] if the directory of its files is
// missing; the cause of ctx; [ErrDiskFull] if the new database does not fit;
// [ErrOutOfResources]; [ErrFailed]. Any other error is the file system's.
func Salvage(ctx context.Context, from, to string, options *SalvageOptions) (*SalvageReport, error) {
	return salvageDir(ctx, from, to, options, environment{})
}

// salvagePatience is how long a call that was given up waits for what it has made to be
// removed.
const salvagePatience = 200 * time.Millisecond

func salvageDir(ctx context.Context, from, to string, options *SalvageOptions, env environment) (*SalvageReport, error) {
	for _, dir := range []string{from, to} {
		err := validateDir(dir)
		if dir == InMemory {
			err = &InvalidArgumentError{"dir", dir, "must name a directory: nothing is left of a database in memory that has ended"}
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

// runSalvage leaves the work to a goroutine, which a held disk may keep for longer than
// the caller waits, and tells the caller of its progress.
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
				_ = report.Discard() // there is nobody to be told
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

// makeReport makes sequence numbers of counters.
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
