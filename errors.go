package braid

import (
	"errors"
	"fmt"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
)

// Every error of braid belongs to one of three classes, and each sentinel below
// says to which:
//
//   - refused: nothing happened. Trying again is safe.
//   - unknown: the change may or may not survive; a later read, or the next
//     open, shows which, and that is final.
//   - damage: stored data is missing or wrong. Finding it changed nothing.
//
// An error never means "partly". Match with [errors.Is]; use [errors.As] for
// the types that carry fields.

// Errors of how a database was opened, and of its closing. All are refused.
var (
	// ErrLocked reports that another handle holds the directory, in this
	// process or in the one that the message names. Close that one first. What is
	// opened with [Options].ReadOnly shares the directory with others of its kind,
	// and with no DB that may write; the message says how to read from that one.
	ErrLocked = kv.ErrLocked

	// ErrFormatTooNew reports a database written by a newer version of braid
	// than this one can read. No byte of it was changed.
	ErrFormatTooNew = kv.ErrFormatTooNew

	// ErrFormatTooOld reports a database written by an older version of braid, in a
	// format that this one no longer reads. No byte of it was changed: read it with
	// that version.
	ErrFormatTooOld = kv.ErrFormatTooOld

	// ErrReadOnly reports a call that would change a database that was opened with
	// [Options].ReadOnly. Nothing was done.
	ErrReadOnly = kv.ErrReadOnly

	// ErrClosed reports the use of a [DB], or of anything that came from it,
	// after [DB.Close].
	ErrClosed = kv.ErrClosed
)

// Errors that refuse a call because of what was asked.
var (
	// ErrInvalidArgument reports a value outside of what is allowed. The error
	// is an [InvalidArgumentError], which says what is. Kinesis:
	// InvalidArgumentException and ValidationException.
	ErrInvalidArgument = errors.New("invalid argument")

	// ErrStreamNotFound reports a stream that does not exist, or no longer
	// does. Kinesis: ResourceNotFoundException.
	ErrStreamNotFound = errors.New("no such stream")

	// ErrShardNotFound reports a shard that the stream does not have. Kinesis:
	// ResourceNotFoundException.
	ErrShardNotFound = errors.New("no such shard")

	// ErrStreamExists reports that [DB.CreateStream] met a stream of that name;
	// [DB.OpenStream] takes what is there, unless [StreamOptions].MustMatch refuses
	// it: then the error is a [StreamMismatchError]. Kinesis:
	// ResourceInUseException.
	ErrStreamExists = errors.New("stream already exists")

	// ErrStreamInUse reports that [DB.DeleteStream] met a stream that has queues.
	// Delete those first. Kinesis: ResourceInUseException.
	ErrStreamInUse = errors.New("stream has queues")

	// ErrLimitExceeded reports that there would be too many of something, such
	// as shards of a stream; the message says how many there may be. Kinesis:
	// LimitExceededException.
	ErrLimitExceeded = errors.New("limit exceeded")

	// ErrThroughputExceeded reports a put or a read that goes beyond what a shard
	// takes in its stream's capacity mode. The error is a
	// [ThroughputExceededError], which says when to try again. Kinesis:
	// ProvisionedThroughputExceededException.
	ErrThroughputExceeded = errors.New("throughput exceeded")

	// ErrKeyUnavailable reports that a record cannot be encrypted or decrypted: the
	// [KeyProvider] does not have the key, or has another one under its id, or
	// fails; the error wraps what it said. Refused. Kinesis: KMSAccessDeniedException
	// and others.
	ErrKeyUnavailable = errors.New("encryption key not available")

	// ErrKeyNotFound is the error of [Tx.Get] for a key that has no value.
	ErrKeyNotFound = errors.New("no such key")
)

// Errors that refuse a transaction.
var (
	// ErrTxTooLarge reports a transaction that reads or writes more than
	// [Options].MaxTxBytes. Split it, or raise the limit.
	ErrTxTooLarge = errors.New("transaction too large")

	// ErrTxConflict reports that [DB.Update] ran its function many times, and
	// each time another transaction had changed what it read.
	ErrTxConflict = errors.New("transaction conflicted on every attempt")
)

// Errors of reading.
var (
	// ErrTrimmed reports that records at a reader's position were trimmed
	// before it read them. The error is a [TrimmedError], which says which ones
	// and where reading can go on. Refused: the position has not moved. Kinesis
	// moves such a reader silently.
	ErrTrimmed = errors.New("records were trimmed")

	// ErrBeyondTip reports a position that no reader of this database can have
	// come to: it lies beyond every number that was ever given out here. It is one
	// of a newer copy of the database, and records could be put below it that its
	// reader would never see. The error is a [BeyondTipError]. Refused: the position
	// has not moved. Restore the newer copy, or decide where the reader is to go on,
	// such as at [TrimHorizon] or [Latest]. In [Interval] and [NoSync] it is also the
	// [RecordsPage].Next of a page whose records a crash has taken back. Kinesis has no
	// such error.
	ErrBeyondTip = errors.New("position is beyond the tip")

	// ErrCorrupt reports stored bytes that are not what was written: a checksum
	// does not match, or a table is damaged. The error of a reader of records is a
	// [CorruptError], which says which ones and where reading can go on; that of an [Open]
	// that is refused for a file is a [FileDamageError], which says which ones are missing.
	// Damage.
	ErrCorrupt = kv.ErrCorrupt

	// ErrDataLoss reports stored data that should be there and is not: a gap
	// between two records of a shard, or a missing file. The errors with particulars are
	// those of ErrCorrupt. Damage.
	ErrDataLoss = kv.ErrDataLoss
)

// Errors of the storage under the database.
var (
	// ErrOutcomeUnknown reports a write that was on its way to the disk when the
	// call had to end: its context did, or the store failed. It may or may not
	// survive. The error wraps the cause. Unknown.
	ErrOutcomeUnknown = commit.ErrUnknown

	// ErrDiskFull reports that there is no space for writing. Reading and
	// trimming go on, and writing does by itself once there is space again.
	// Refused. Kinesis: InternalFailure.
	ErrDiskFull = kv.ErrDiskFull

	// ErrOutOfResources reports that the process or the machine is short of file
	// descriptors (EMFILE, ENFILE) or the kernel of memory (ENOMEM); the message
	// names the limit. A call that may return ErrDiskFull may return this one as
	// well, and so may one that reads. It heals as a full disk does: writing waits
	// and goes on by itself, and a later read succeeds. Refused. Kinesis:
	// InternalFailure.
	ErrOutOfResources = kv.ErrOutOfResources

	// ErrFailed reports that storage failed in a way after which it cannot be
	// trusted with another write; it wraps the cause. That is a failed write or
	// fsync of the log, the manifest or a directory; tables that could not be
	// written many times in a row; and tables of the application's keys or of
	// braid's own rows so damaged, and for so long, that writes would have to wait
	// forever. Nothing that was met while reading fails the storage. Every later
	// write is refused with it. Close the DB and open it again: all that was
	// acknowledged is there. Kinesis: InternalFailure.
	ErrFailed = kv.ErrFailed
)

// InvalidArgumentError is an [ErrInvalidArgument] with its particulars.
type InvalidArgumentError struct {
	Field string // the argument or field, such as "Entries[3].PartitionKey"
	Value any    // the value that was given, shortened when it is long
	Rule  string // what is allowed, such as "must be 1 to 256 characters"
}

// Error names the field, the value and the rule.
func (e *InvalidArgumentError) Error() string {
	return fmt.Sprintf("invalid argument: %s %s; it is %v", e.Field, e.Rule, e.Value)
}

// Is reports whether target is [ErrInvalidArgument].
func (e *InvalidArgumentError) Is(target error) bool { return target == ErrInvalidArgument }

// FileDamageError says which file of a database is damaged: [Open] refused it, or
// [DB.Verify] found it. It is an [ErrDataLoss] if something that was durable is missing,
// and an [ErrCorrupt] if it has changed.
//
// That of an Open also says which records are missing, as far as the files that are left
// tell. Put the file back as it was, or restore a backup. If there is none, then [Salvage]
// makes a new database of all but the records in Missing; an open with
// [Options].AcceptLoss is quicker, and goes on without those in GivenUp. The text names the
// first few, and says whether the Open has changed anything. Keys of the application and
// checkpoints may be missing, too: [Salvage] reports which.
//
// Looking for them changes nothing. It needs no [KeyProvider], takes up to two seconds,
// and reads at most 256 MiB: logs, rows about streams and shards, what is left of the
// damaged tables, and the newest records. What other tables hold is not checked, which
// [DB.Verify] does.
type FileDamageError struct {
	// File is its name below the directory of the database, with slashes, such as
	// "store/000012.log".
	File string

	// Damage is what is wrong with it: "missing", "short", "changed", "foreign" (it
	// belongs to another place or another database) or "old".
	Damage string

	// Offset is about where the damage begins, in bytes; -1 if that is not known.
	Offset int64

	// Lost says what hangs on the file.
	Lost string

	// Missing are stretches of shards whose records can no longer be read from any file, or
	// may be missing, in the order of streams and shards. GivenUp are those that an open with
	// [Options].AcceptLoss would go on without: those of Missing, what a lost table has
	// elsewhere, and what follows on damage of a log, in it and in later ones. Each lists at
	// most 64. The Stream of one is empty if its name is lost. Only an error of Open has them.
	Missing, GivenUp []LostRecords

	// Complete reports that each record that is missing, or would be given up, lies in one of
	// the stretches. If it is false, which is the zero value, there may be others; then Doubt
	// says why, in an error of Open.
	Complete bool
	Doubt    string

	Err error // what was found, of this file and others
}

// Error names the files, what is wrong with them, what is missing and what can be done.
func (e *FileDamageError) Error() string { return e.Err.Error() + e.missingText() }

// Unwrap returns Err.
func (e *FileDamageError) Unwrap() error { return e.Err }

// opError is what a public method returns: the operation, its subject, and the
// cause, which is of one class.
type opError struct {
	op    string // such as "put record"
	what  string // a name in quotes, such as that of a stream; may be empty
	cause error
}

func (e *opError) Error() string {
	text := "braid: " + e.op
	if e.what != "" {
		text += " " + e.what
	}
	return text + ": " + e.cause.Error()
}

func (e *opError) Unwrap() error { return e.cause }

// dirRules are what a directory must be, by what is wrong with it.
var dirRules = []struct {
	below error
	rule  string
}{
	{kv.ErrNotDatabase, "must hold a database; to create one, it must be empty or absent, and not opened with ReadOnly"},
	{kv.ErrNotDirectory, "must be a directory, or absent"},
	{kv.ErrNotEmpty, "must be empty or absent"},
	{kv.ErrOwnDirectory, "must lie outside of the database's own directory"},
}

// quoted returns a name as error texts have it: names come from callers, and may
// hold anything, and any amount of it.
func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%.300q", name)
}

// wrapError makes a public error of one from below: op and name say which call
// failed. It returns nil for nil, and leaves an error that is public already.
//
// The classes of storage are those of the packages below, so an error has its
// class, and the text of it, from where it arose; nothing is said twice.
// TestNoErrorRepeatsItself holds that.
func wrapError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return wrapWhat(op, quoted(name), err)
}

// wrapWhat is wrapError for what was put in quotes already.
func wrapWhat(op, what string, err error) error {
	var public *opError
	if errors.As(err, &public) {
		return err
	}
	err = fileDamage(err)
	for _, d := range dirRules {
		if errors.Is(err, d.below) {
			return &opError{op: op, what: what, cause: fmt.Errorf("%w: %w", &InvalidArgumentError{"dir", what, d.rule}, err)}
		}
	}
	return &opError{op: op, what: what, cause: err}
}

// fileDamage makes a [FileDamageError] of an error that tells of one, and leaves one that
// is public already.
func fileDamage(err error) error {
	var public *FileDamageError
	var damage *kv.FileDamageError
	if errors.As(err, &public) || !errors.As(err, &damage) {
		return err
	}
	return &FileDamageError{File: damage.File, Damage: string(damage.Damage), Offset: damage.Offset, Lost: damage.Lost(), Err: err}
}
