package braid

import "fmt"

// CapacityMode determines whether a stream's throughput is limited, and who decides how many shards
// it has. The zero value is [Unlimited].
type CapacityMode int

const (
	// Unlimited accepts as much as the machine can handle. Shards only serve order and
	// parallelism.
	Unlimited CapacityMode = iota

	// Provisioned gives every shard the budgets of [Capacity]. Puts and reads beyond a
	// budget are refused with [ErrThroughputExceeded]. Kinesis: PROVISIONED.
	Provisioned

	// OnDemand gives every shard budgets, as Provisioned does. It splits busy shards and
	// merges quiet ones, so that there is room for twice the recent peak. It only knows the
	// load since the database was opened, and does not change a stream without puts since.
	// [Stream.SplitShard], [Stream.MergeShards] and [Stream.UpdateShardCount] are refused.
	// Kinesis: ON_DEMAND.
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

// Kinesis's budgets of a shard, and its numbers of shards for a stream on demand.
const (
	defaultWriteRecordsPerSecond = 1000
	defaultWriteBytesPerSecond   = 1 << 20
	defaultReadsPerSecond        = 5
	defaultReadBytesPerSecond    = 2 << 20
	onDemandShards               = 4
	defaultOnDemandMaxShards     = 200
)

const maxShards = 10_000 // Kinesis: shards per stream

// Capacity has the throughput budgets of each shard of a stream, and determines whether the number
// of shards follows the load. The zero value is [Unlimited]. A budget of 0 means Kinesis's. Budgets
// must be 0 with Unlimited, and MaxShards must be 0 except with [OnDemand].
type Capacity struct {
	Mode CapacityMode

	// WriteRecordsPerSecond and WriteBytesPerSecond bound the puts to one shard, 1 to 2^30
	// each. 0 means 1,000 records and 1,048,576 bytes (1 MiB).
	WriteRecordsPerSecond int
	WriteBytesPerSecond   int

	// ReadsPerSecond and ReadBytesPerSecond bound the calls of [Shard.GetRecords] on one
	// shard, 1 to 2^30 each. 0 means 5 calls and 2,097,152 bytes (2 MiB).
	ReadsPerSecond     int
	ReadBytesPerSecond int

	// MaxShards is the most open shards that [OnDemand] splits a stream into, 1 to 10,000. It
	// must not be less than the number of shards that a stream is created with. 0 means 200.
	MaxShards int
}

// withDefaults returns a copy whose zero fields have their defaults, and checks the
// others.
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
