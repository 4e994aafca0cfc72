package kv

import (
	"errors"
	"fmt"
	"strings"
)

// FileDamage says how a file differs from the one that was written.
type FileDamage string

// The ways in which a file can be damaged.
const (
	FileMissing FileDamage = "missing" // it does not exist
	FileShort   FileDamage = "short"   // it is shorter than its durable length
	FileChanged FileDamage = "changed" // its bytes are not those that were written
	FileForeign FileDamage = "foreign" // it is whole, but another file
	FileOld     FileDamage = "old"     // it is an older file, which a newer one had replaced
)

// FileDamageError says which file of a database is damaged, and what depends on it. It is an
// ErrDataLoss if durable bytes are missing, and an ErrCorrupt if they have changed.
type FileDamageError struct {
	File   string     // relative to the database's directory, such as "store/000012.log"
	Damage FileDamage // what is wrong with it
	Offset int64      // the first byte that is missing or wrong; -1 if unknown
	Size   int64      // its length; -1 if it does not exist or that does not matter
	Want   int64      // its durable length; -1 if unknown
	Is     string     // the table of the same database that a foreign file is, if it is one
	Cause  error      // the underlying error; may be nil
}

// Error names the file, the place, and what depends on it.
func (e *FileDamageError) Error() string { return fmt.Sprintf("%v: %s", e.class(), e.what()) }

// withAdvice adds advice to the error of an open that has changed nothing.
func withAdvice(err error) error {
	if asFileDamage(err) == nil {
		return err
	}
	return fmt.Errorf("%w; nothing was changed: put the file back, restore a backup, open with AcceptLoss to go on with what is left, or make a new database of it with Salvage", err)
}

// what describes the damage, and what depends on the file.
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

// Lost says what depends on the file.
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

// Unwrap returns the class and the cause.
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

// damageError joins the damage that an open has found into one error.
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

// Error describes the first, and says how many more there are.
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

// FileDamages returns the damage of all files that an error reports.
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

// asFileDamage returns the first damage that an error reports, nil for none.
func asFileDamage(err error) *FileDamageError {
	var damage *FileDamageError
	errors.As(err, &damage)
	return damage
}
