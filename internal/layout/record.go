package layout

import "github.com/braidstream/braid/internal/uint128"

// Record is a record as it lies in a shard. Which shard, its reader knows.
type Record struct {
	Counter      uint64 // the middle of its sequence number: nanoseconds of arrival
	Ordinal      uint64 // dense in the shard: 0, 1, 2 …
	Offset       uint64 // sizes of all records of the shard before this one, added up
	PartitionKey string
	Data         []byte
	ExplicitHash *uint128.Uint128 // nil: the hash key is the MD5 of the partition key
	Sealed       bool             // it is stored encrypted
}

// Size is what the record counts for in limits, offsets and lag.
func (r *Record) Size() int { return len(r.PartitionKey) + len(r.Data) }
