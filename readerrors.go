package braid

import "fmt"

// TrimmedError is an [ErrTrimmed] with its details. To resume with the records that are left,
// read from [AtSequence](e.FirstAvailable).
type TrimmedError struct {
	Shard ShardID

	// FirstLost is the reader's position: every record that it has lost has this number or a
	// greater one.
	FirstLost SequenceNumber

	// LastLost is the number of the last record that was trimmed. It is zero, like
	// FirstAvailable, if the shard has expired.
	LastLost SequenceNumber

	// FirstAvailable is a lower bound of the numbers that can still be read. It need not be
	// the number of a record: the shard may be empty.
	FirstAvailable SequenceNumber

	// Suspected reports whether it is unknown if records were trimmed. LastLost is then zero. It
	// is unknown of a shard that expired before a consumer had reached its end: nothing shows
	// whether records were left. Of other shards a database always knows. Another
	// consumer.Source may not, such as one on Kinesis, which moves a reader silently.
	Suspected bool `json:",omitzero"`
}

// Error names the shard and the numbers that are known.
func (e *TrimmedError) Error() string {
	if e.Suspected && e.FirstAvailable.IsZero() {
		return fmt.Sprintf("records of %s from %s on may have been trimmed", e.Shard, e.FirstLost)
	}
	if e.Suspected {
		return fmt.Sprintf("records of %s from %s on may have been trimmed; the first available is at %s",
			e.Shard, e.FirstLost, e.FirstAvailable)
	}
	if e.LastLost.IsZero() {
		return fmt.Sprintf("records of %s from %s on were trimmed", e.Shard, e.FirstLost)
	}
	return fmt.Sprintf("records of %s from %s to %s were trimmed; the first available is at %s",
		e.Shard, e.FirstLost, e.LastLost, e.FirstAvailable)
}

// Is reports whether target is [ErrTrimmed].
func (e *TrimmedError) Is(target error) bool { return target == ErrTrimmed }

// BeyondTipError is an [ErrBeyondTip] with its details.
type BeyondTipError struct {
	Shard ShardID // the shard that the number belongs to

	// Number is the number of the position. Last is an upper bound of the numbers that the
	// shard has given out so far; it need not be the number of a record.
	Number, Last SequenceNumber
}

// Error names the shard and both numbers.
func (e *BeyondTipError) Error() string {
	return fmt.Sprintf("position %s of %s is beyond the tip, %s: it comes from another copy of the database", e.Number, e.Shard, e.Last)
}

// Is reports whether target is [ErrBeyondTip].
func (e *BeyondTipError) Is(target error) bool { return target == ErrBeyondTip }

// CorruptError reports which records of a shard cannot be read. It is an [ErrCorrupt], an
// [ErrDataLoss], or a read error of the disk, as Err is. The readable records before FirstLost were
// returned first. To skip the damage, read from [AtSequence](e.FirstAvailable).
//
// Damage affects only its readers: the shard still accepts records, and other shards are
// unaffected. To get rid of it, trim the stream up to FirstAvailable.
type CorruptError struct {
	Shard ShardID

	// FirstLost is the reader's position: every record that it cannot read has this number
	// or a greater one.
	FirstLost SequenceNumber

	// FirstAvailable is where reading can resume: every record that cannot be read has a lower
	// number. It need not be the number of a record. If several places close to each other are
	// damaged, a reader at the number of a record between them may still find that record.
	FirstAvailable SequenceNumber

	Err error // a description of the damage, or the disk's error
}

// Error names the shard, the two numbers and the cause.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("records of %s from %s up to, not including, %s cannot be read: %v",
		e.Shard, e.FirstLost, e.FirstAvailable, e.Err)
}

// Unwrap returns Err.
func (e *CorruptError) Unwrap() error { return e.Err }
