package braid

import "fmt"

// CapacityMode is how much a stream takes, and who decides on its shards.
type CapacityMode int

const (
	// Unlimited takes whatever the machine can. Shards are for order and
	// parallelism alone.
	Unlimited CapacityMode = iota

	// Provisioned gives every shard the budgets of [Capacity]. What goes beyond
	// is refused with [ErrThroughputExceeded]. Kinesis: PROVISIONED.
	Provisioned

	// OnDemand gives every shard the same budgets, splits those that are busy and
	// merges those that are not: there is room for twice the recent peak. It knows
	// the load since the database was opened: a stream that nothing was put to since
	// stays as it is. [Stream.SplitShard], [Stream.MergeShards] and
	// [Stream.UpdateShardCount] are refused. Kinesis: ON_DEMAND.
	OnDemand
)

// String returns the name of the mode.
func (m CapacityMode) String() string {
	switch m {
	case Unlimited:
		return "Unlimited"
	case Provisioned:
		return "Provisioned"
	case OnDemand:
		return "OnDemand"
	default:
		return fmt.Sprintf("CapacityMode(%d)", int(m))
	}
}

// Kinesis's budgets of a shard, and its shards of a stream on demand.
const (
	defaultWriteRecordsPerSecond = 1000
	defaultWriteBytesPerSecond   = 1 << 20
	defaultReadsPerSecond        = 5
	defaultReadBytesPerSecond    = 2 << 20
	onDemandShards               = 4
	defaultOnDemandMaxShards     = 200
)

const maxShards = 10_000 // Kinesis: shards per stream

// Capacity is how much each shard of a stream takes, and whether the number of
// shards follows the load. The zero value is [Unlimited]; a budget that is 0 is
// Kinesis's. Budgets, and MaxShards, can be given for the modes that have them
// only.
type Capacity struct {
	Mode CapacityMode

	// WriteRecordsPerSecond and WriteBytesPerSecond are what can be put to one
	// shard, 1 to 2^30 each. 0 means 1,000 records and 1,048,576 bytes (1 MiB).
	WriteRecordsPerSecond int
	WriteBytesPerSecond   int

	// ReadsPerSecond and ReadBytesPerSecond are what [Shard.GetRecords] can read
	// of one shard, 1 to 2^30 each. 0 means 5 calls and 2,097,152 bytes (2 MiB).
	ReadsPerSecond     int
	ReadBytesPerSecond int

	// MaxShards is how far [OnDemand] goes, 1 to 10,000, and not below the shards
	// that a stream is created with. 0 means 200.
	MaxShards int
}

// withDefaults returns a copy whose zero fields are filled in, after checking
// the others.
func (c Capacity) withDefaults() (Capacity, error) {
	if c.Mode < Unlimited || c.Mode > OnDemand {
		return c, &InvalidArgumentError{"Capacity.Mode", c.Mode, "must be Unlimited, Provisioned or OnDemand"}
	}
	for _, budget := range []struct {
		name         string
		value        *int
		standard     int
		most         int
		onDemandOnly bool
	}{
		{"WriteRecordsPerSecond", &c.WriteRecordsPerSecond, defaultWriteRecordsPerSecond, 1 << 30, false},
		{"WriteBytesPerSecond", &c.WriteBytesPerSecond, defaultWriteBytesPerSecond, 1 << 30, false},
		{"ReadsPerSecond", &c.ReadsPerSecond, defaultReadsPerSecond, 1 << 30, false},
		{"ReadBytesPerSecond", &c.ReadBytesPerSecond, defaultReadBytesPerSecond, 1 << 30, false},
		{"MaxShards", &c.MaxShards, defaultOnDemandMaxShards, maxShards, true},
	} {
		field := "Capacity." + budget.name
		if c.Mode == Unlimited || budget.onDemandOnly && c.Mode != OnDemand {
			if *budget.value != 0 {
				return c, &InvalidArgumentError{field, *budget.value, fmt.Sprintf("must be 0, as %s has no such limit", c.Mode)}
			}
			continue
		}
		orDefault(budget.value, budget.standard)
		if *budget.value < 1 || *budget.value > budget.most {
			return c, &InvalidArgumentError{field, *budget.value, fmt.Sprintf("must be 1 to %d", budget.most)}
		}
	}
	return c, nil
}
