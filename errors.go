package braid

import (
	"errors"
	"fmt"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
)

// Every error of braid belongs to one of three classes. Each sentinel below names
// its class:
//
//   - refused: nothing happened. Trying again is safe.
//   - unknown: the change may or may not survive. A later read, or the next
//     open, shows which; after that it does not change.
//   - damage: stored data is missing or wrong. Finding it changed nothing.
//
// No error means that a part was done. Match with [errors.Is]; use [errors.As]
// for the types that carry fields.

// Errors of opening and closing a database. All are refused.
var (
	// ErrLocked reports that another DB holds the directory, in this process or in the one that
	// the message names. Close that one first. DBs opened with [Options].ReadOnly share a
	// directory with each other, but not with a DB that may write; the message then says how to
	// read the data of that one.
	ErrLocked = kv.ErrLocked

	// ErrFormatTooNew reports a database written by a newer version of braid
	// than this one can read. No byte of it was changed.
	ErrFormatTooNew = kv.ErrFormatTooNew

	// ErrFormatTooOld reports a database written by an older version of braid, in a
	// format that this one no longer reads. No byte of it was changed: read it with
	// that version.
	ErrFormatTooOld = kv.ErrFormatTooOld

	// ErrReadOnly reports a call that would change a database opened with [Options].ReadOnly.
	// Nothing was done.
	ErrReadOnly = kv.ErrReadOnly

	// ErrClosed reports the use of a [DB], or of anything that came from it,
	// after [DB.Close].
	ErrClosed = kv.ErrClosed
)

// Errors that refuse a call because of what was asked.
var (
	// ErrInvalidArgument reports a value that is not allowed. The error is an
	// [InvalidArgumentError], which says what is allowed. Kinesis: InvalidArgumentException and
	// ValidationException.
	ErrInvalidArgument = errors.New("invalid argument")

	// ErrStreamNotFound reports a stream that does not exist, or that was deleted.
	// Kinesis: ResourceNotFoundException.
	ErrStreamNotFound = errors.New("no such stream")

	// ErrShardNotFound reports a shard that the stream does not have. Kinesis:
	// ResourceNotFoundException.
	ErrShardNotFound = errors.New("no such shard")

	// ErrStreamExists reports that [DB.CreateStream] was asked for a stream that exists.
	// [DB.OpenStream] returns such a stream. It refuses only one whose settings differ, if
	// [StreamOptions].MustMatch is set: that error is a [StreamMismatchError]. Kinesis:
	// ResourceInUseException.
	ErrStreamExists = errors.New("stream already exists")

	// ErrStreamInUse reports that [DB.DeleteStream] was asked to delete a stream that has queues.
	// Delete the queues first. Kinesis: ResourceInUseException.
	ErrStreamInUse = errors.New("stream has queues")

	// ErrLimitExceeded reports that there would be too many of something, such
	// as shards of a stream; the message says how many there may be. Kinesis:
	// LimitExceededException.
	ErrLimitExceeded = errors.New("limit exceeded")

	// ErrThroughputExceeded reports a put or a read beyond a shard's budget in its stream's
	// capacity mode. The error is a [ThroughputExceededError], which says when to try again.
	// Kinesis: ProvisionedThroughputExceededException.
	ErrThroughputExceeded = errors.New("throughput exceeded")

	// ErrKeyUnavailable reports that a record cannot be encrypted or decrypted, because the
	// [KeyProvider] does not have the key, has a different key under its id, or fails. The error
	// wraps the provider's. Refused. Kinesis: KMSAccessDeniedException and others.
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
	// each time another transaction changed what the function had read.
	ErrTxConflict = errors.New("transaction conflicted on every attempt")
)

// Errors of reading.
var (
	// ErrTrimmed reports that records at a reader's position were trimmed before it read them. The
	// error is a [TrimmedError], which says which records and where reading can resume. Refused:
	// the position has not moved. Kinesis moves such a reader silently.
	ErrTrimmed = errors.New("records were trimmed")

	// ErrBeyondTip reports a position that lies beyond every number that this database has given
	// out. The position comes from a newer copy of the database; records could be put below it
	// that its reader would never see. The error is a [BeyondTipError]. Refused: the position has
	// not moved. Restore the newer copy, or choose where the reader resumes, such as [TrimHorizon]
	// or [Latest]. In [Interval] and [NoSync], [RecordsPage].Next can be such a position, too, if
	// a crash has taken back the records of its page. Kinesis has no such error.
	ErrBeyondTip = errors.New("position is beyond the tip")

	// ErrCorrupt reports that stored bytes differ from what was written: a checksum does not
	// match, or a table is damaged. A reader of records gets a [CorruptError], which says which
	// records are affected and where reading can resume. An [Open] that a damaged file prevents
	// returns a [FileDamageError], which says which records are missing. Damage.
	ErrCorrupt = kv.ErrCorrupt

	// ErrDataLoss reports that stored data is missing: a gap between two records of a shard, or a
	// missing file. The error types with details are those of ErrCorrupt. Damage.
	ErrDataLoss = kv.ErrDataLoss
)

// Errors of the storage under the database.
var (
	// ErrOutcomeUnknown reports a write that was on its way to the disk when its context ended or
	// the storage failed. The write may or may not survive. The error wraps the cause. Unknown.
	ErrOutcomeUnknown = commit.ErrUnknown

	// ErrDiskFull reports that there is no space for writing. Reading and trimming still work, and
	// writing resumes by itself once there is space. Refused. Kinesis: InternalFailure.
	ErrDiskFull = kv.ErrDiskFull

	// ErrOutOfResources reports that the process or the machine has run out of file descriptors
	// (EMFILE, ENFILE), or the kernel out of memory (ENOMEM); the message names the limit. Every
	// call that may return ErrDiskFull may return this error, and so may a call that reads.
	// Recovery is as with a full disk: writing resumes by itself, and a later read succeeds.
	// Refused. Kinesis: InternalFailure.
	ErrOutOfResources = kv.ErrOutOfResources

	// ErrFailed reports that the storage has failed and cannot be trusted with another write; it
	// wraps the cause. The causes are a failed write or fsync of the log, the manifest or a
	// directory; tables that could not be written many times in a row; and damaged tables of the
	// application's keys or of braid's own rows, once writes would have to wait for them forever.
	// An error while reading never fails the storage. Every later write is refused with ErrFailed.
	// Close the DB and open it again: everything that was acknowledged is there. Kinesis:
	// InternalFailure.
	ErrFailed = kv.ErrFailed
)

// InvalidArgumentError is an [ErrInvalidArgument] with its details.
type InvalidArgumentError struct {
	Field string // the argument or field, such as "Entries[3].PartitionKey"
	Value any    // the value that was given, shortened when it is long; nil if there is none to show
	Rule  string // what is allowed, such as "must be 1 to 256 characters"
}

// Error names the field, the rule and the value, if there is one.
func (e *InvalidArgumentError) Error() string {
	if e.Value == nil {
		return fmt.Sprintf("invalid argument: %s %s", e.Field, e.Rule)
	}
	return fmt.Sprintf("invalid argument: %s %s; it is %v", e.Field, e.Rule, e.Value)
}

// Is reports whether target is [ErrInvalidArgument].
func (e *InvalidArgumentError) Is(target error) bool { return target == ErrInvalidArgument }

// FileDamageError says which file of a database is damaged. [Open] returns it when it
// refuses a database, and [DB.Verify] when it finds damage. It is an [ErrDataLoss] if durable
// data is missing, and an [ErrCorrupt] if data has changed.
//
// The error of an Open also says which records are missing, as far as the remaining files
// show. Put the file back as it was, or restore a backup. Without a backup, [Salvage] makes a
// new database of all but the records in Missing. An open with [Options].AcceptLoss is
// quicker, and goes on without the records in GivenUp. The text names the first few of them,
// and says whether the Open has changed anything. Application keys and checkpoints may be
// missing, too: [Salvage] reports which.
//
// The search for missing records changes nothing. It needs no [KeyProvider], takes up to two
// seconds, and reads at most 256 MiB: logs, rows about streams and shards, what is left of
// the damaged tables, and the newest records. It does not check the contents of other tables;
// [DB.Verify] does.
type FileDamageError struct {
	// File is the file's path below the directory of the database, with slashes, such as
	// "store/000012.log".
	File string

	// Damage is what is wrong with it: "missing", "short", "changed", "foreign" (it
	// belongs to another place or another database) or "old".
	Damage string

	// Offset is approximately where the damage begins, in bytes; -1 if unknown.
	Offset int64

	// Lost says which data depends on the file.
	Lost string

	// Missing lists ranges of records that can no longer be read from any file, or that may be
	// missing, in the order of streams and shards. GivenUp lists those that an open with
	// [Options].AcceptLoss would give up: the ranges of Missing, records of a lost table
	// that other files still hold, and everything that follows damage of a log, in that log and
	// in later ones. Each list has at most 64 entries. The Stream of an entry is empty if its
	// name is lost. Only an error of Open has these lists.
	Missing, GivenUp []LostRecords

	// Complete reports whether the lists cover every record that is missing or would be given
	// up. If it is false, which is the zero value, there may be others; in an error of Open,
	// Doubt then says why.
	Complete bool
	Doubt    string

	Err error // describes the damage of this file and of others
}

// Error names the files, what is wrong with them, what is missing and what can be done.
func (e *FileDamageError) Error() string { return e.Err.Error() + e.missingText() }

// Unwrap returns Err.
func (e *FileDamageError) Unwrap() error { return e.Err }

// opError is the error of a public method: the operation, its subject, and the
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

// dirRules has, for each fault of a directory, the rule that it breaks.
var dirRules = []struct {
	below error
	rule  string
}{
	{kv.ErrNotDatabase, "must hold a database; to create one, it must be empty or absent, and not opened with ReadOnly"},
	{kv.ErrNotDirectory, "must be a directory, or absent"},
	{kv.ErrNotEmpty, "must be empty or absent"},
	{kv.ErrOwnDirectory, "must lie outside of the database's own directory"},
}

// quoted returns a name in the form for error texts. Names come from callers, so they
// may be long and hold any bytes.
func quoted(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%.300q", name)
}

// wrapError turns an error of an internal package into a public one: op and name say which
// call failed. It returns nil for nil, and leaves an error unchanged that is public already.
//
// The sentinels of the storage are those of the packages below, so an error has its class and
// its text from where it arose, and says nothing twice: TestWrappedErrorsRepeatNothing.
func wrapError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return wrapWhat(op, quoted(name), err)
}

// wrapWhat is wrapError for a name that is quoted already.
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

// fileDamage turns an error that wraps kv's error of a damaged file into a
// [FileDamageError]. It leaves one unchanged that is public already.
func fileDamage(err error) error {
	var public *FileDamageError
	var damage *kv.FileDamageError
	if errors.As(err, &public) || !errors.As(err, &damage) {
		return err
	}
	return &FileDamageError{File: damage.File, Damage: string(damage.Damage), Offset: damage.Offset, Lost: damage.Lost(), Err: err}
}
