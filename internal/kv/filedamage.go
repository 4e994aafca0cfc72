package kv

import (
	"errors"
	"fmt"
	"strings"
)

// FileDamage says in which way a file is not what was written.
type FileDamage string

// The ways in which a file can be damaged.
const (
	FileMissing FileDamage = "missing" // it does not exist
	FileShort   FileDamage = "short"   // it ends before what is known to be durable does
	FileChanged FileDamage = "changed" // its bytes are not those that were written
	FileForeign FileDamage = "foreign" // it is whole, and belongs somewhere else
	FileOld     FileDamage = "old"     // it is one that was replaced by a newer one
)

// FileDamageError says which file of a database is damaged, and what hangs on it. It is
// an ErrDataLoss if what was durable is missing, and an ErrCorrupt if it has changed.
type FileDamageError struct {
	File   string     // below the directory of the database, such as "store/000012.log"
	Damage FileDamage // what is wrong with it
	Offset int64      // the first byte that is missing or wrong; -1 if that is not known
	Size   int64      // how long it is; -1 if it does not exist or that does not matter
	Want   int64      // how much of it was durable; -1 if that is not known
	Is     string     // which table of the same database it is, if it is one that is foreign here
	Cause  error      // what else is known; may be nil
}

// Error names the file, the place, and what hangs on it.
func (e *FileDamageError) Error() string { return fmt.Sprintf("%v: %s", e.class(), e.what()) }

// withAdvice says what can be done in an error of an open that has changed nothing.
func withAdvice(err error) error {
	if asFileDamage(err) == nil {
		return err
	}
	return fmt.Errorf("%w; nothing was changed: put the file back, restore a backup, open with AcceptLoss to go on with what is left, or make a new database of it with Salvage", err)
}

// what says what is wrong with the file, and what hangs on it.
func (e *FileDamageError) what() string {
	var b strings.Builder
	b.WriteString(e.File)
	switch e.Damage {
	case FileMissing:
		b.WriteString(" is missing")
	case FileShort:
		fmt.Fprintf(&b, " ends at byte %d, where %d were durable", e.Size, e.Want)
	case FileChanged:
		b.WriteString(" is not what was written")
		if e.Offset >= 0 {
			fmt.Fprintf(&b, ", from about byte %d on", e.Offset)
		}
	case FileForeign:
		if e.Is != "" {
			b.WriteString(" is what " + e.Is + " has to be")
			break
		}
		b.WriteString(" belongs to another place or another database")
	case FileOld:
		b.WriteString(" is older than what was durable")
	}
	b.WriteString(": " + e.Lost())
	if e.Cause != nil {
		fmt.Fprintf(&b, " (%v)", oneLine{e.Cause})
	}
	return b.String()
}

// Lost says what hangs on the file.
func (e *FileDamageError) Lost() string {
	name := e.File[strings.LastIndexByte(e.File, '/')+1:]
	switch {
	case strings.HasSuffix(name, ".log"):
		return "it holds the last records, checkpoints and keys that were acknowledged"
	case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".blob"):
		return "it holds records or keys"
	case strings.HasPrefix(name, ledgerName), strings.HasPrefix(name, tablesName):
		return "without it nobody can tell whether other files are whole"
	case name == identityName:
		return "it says which database this is"
	default: // the manifest, its marker, OPTIONS
		return "it says which files hold the records"
	}
}

// Unwrap returns the class, and the cause.
func (e *FileDamageError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.class()}
	}
	return []error{e.class(), e.Cause}
}

func (e *FileDamageError) class() error {
	switch e.Damage {
	case FileChanged, FileForeign:
		return ErrCorrupt
	default:
		return ErrDataLoss
	}
}

// damageError makes one error of what an open has found.
func damageError(found []*FileDamageError) error {
	switch len(found) {
	case 0:
		return nil
	case 1:
		return found[0]
	default:
		return fileDamages(found)
	}
}

// fileDamages is damage of several files.
type fileDamages []*FileDamageError

// Error names the first, and says how many more there are.
func (e fileDamages) Error() string {
	const most = 3
	var err error
	for _, f := range e[:min(len(e), most)] {
		err = joinErrors(err, f)
	}
	if more := len(e) - most; more > 0 {
		err = fmt.Errorf("%w; also: %d more files", err, more)
	}
	return err.Error()
}

// Unwrap returns all of them.
func (e fileDamages) Unwrap() []error {
	errs := make([]error, len(e))
	for i, f := range e {
		errs[i] = f
	}
	return errs
}

// FileDamages returns the damage of all files that an error tells of.
func FileDamages(err error) (found []*FileDamageError) {
	if damage, ok := err.(*FileDamageError); ok {
		return []*FileDamageError{damage}
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		if below := err.Unwrap(); below != nil {
			return FileDamages(below)
		}
	case interface{ Unwrap() []error }:
		for _, below := range err.Unwrap() {
			found = append(found, FileDamages(below)...)
		}
	}
	return found
}

// asFileDamage returns the damage that an error tells of, nil if it tells of none.
func asFileDamage(err error) *FileDamageError {
	var damage *FileDamageError
	errors.As(err, &damage)
	return damage
}
