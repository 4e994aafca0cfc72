package braid

import "fmt"

// TrimmedError is an [ErrTrimmed] with its particulars. To go on with what is
// left, read from [AtSequence](e.FirstAvailable).
type TrimmedError struct {
	Shard ShardID

	// FirstLost is where the reader stood: every record it lost has this number
	// or a greater one.
	FirstLost SequenceNumber

	// LastLost is the number of the last record that was trimmed.
	LastLost SequenceNumber

	// FirstAvailable is the lowest number that a record still readable can
	// have. It is not the number of a record when the shard is empty.
	FirstAvailable SequenceNumber

	// Suspected reports that records may have been trimmed, and need not have been. A
	// database always knows; another consumer.Source, such as one on Kinesis, which moves
	// a reader silently, may not. LastLost is zero then.
	Suspected bool `json:",omitzero"`
}

// Error names the shard and the two numbers.
func (e *TrimmedError) Error() string {
	if e.Suspected {
		return fmt.Sprintf("records of %s from %s on may have been trimmed; the first available is at %s",
			e.Shard, e.FirstLost, e.FirstAvailable)
	}
	return fmt.Sprintf("records of %s from %s to %s were trimmed; the first available is at %s",
		e.Shard, e.FirstLost, e.LastLost, e.FirstAvailable)
}

// Is reports whether target is [ErrTrimmed].
func (e *TrimmedError) Is(target error) bool { return target == ErrTrimmed }

// BeyondTipError is an [ErrBeyondTip] with its particulars.
type BeyondTipError struct {
	Shard ShardID // that the number belongs to

	// Number is that of the position. Last is the highest number that the shard can
	// have given out so far, which need not be that of a record.
	Number, Last SequenceNumber
}

// Error names the shard and both numbers.
func (e *BeyondTipError) Error() string {
	return fmt.Sprintf("position %s of %s is beyond the tip, %s: it comes from another copy of the database", e.Number, e.Shard, e.Last)
}

// Is reports whether target is [ErrBeyondTip].
func (e *BeyondTipError) Is(target error) bool { return target == ErrBeyondTip }

// CorruptError says which records of a shard cannot be read. It is an
// [ErrCorrupt], an [ErrDataLoss], or a read error of the disk, as Err is. Records
// before FirstLost were returned first. To skip what is lost, read from
// [AtSequence](e.FirstAvailable).
//
// Damage concerns its readers and nothing else: the shard and all others go on. To
// be rid of it, trim the shard up to FirstAvailable.
type CorruptError struct {
	Shard ShardID

	// FirstLost is where the reader stood: every record that it cannot read has
	// this number or a greater one.
	FirstLost SequenceNumber

	// FirstAvailable is where reading can go on: every record that cannot be read
	// has a lower number. It need not be the number of a record. Where several places are damaged close to each other,
	// a record before it may still be found by its number.
	FirstAvailable SequenceNumber

	Err error // what was found, or what the disk said
}

// Error names the shard, the two numbers and the cause.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("records of %s from %s up to, not including, %s cannot be read: %v",
		e.Shard, e.FirstLost, e.FirstAvailable, e.Err)
}

// Unwrap returns Err.
func (e *CorruptError) Unwrap() error { return e.Err }
