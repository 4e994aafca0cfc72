package layout

import "github.com/braidstream/braid/internal/uint128"

// Record is a stored record of a shard that its reader knows.
type Record struct {
	Counter      uint64 // the middle of its sequence number: nanoseconds of arrival
	Ordinal      uint64 // dense in the shard: 0, 1, 2 …
	Offset       uint64 // the sum of the sizes of all earlier records of the shard
	PartitionKey string
	Data         []byte
	ExplicitHash *uint128.Uint128 // nil: the hash key is the MD5 of the partition key
	Sealed       bool             // whether it is stored encrypted
}

// Size returns the size of the record in bytes, for limits, offsets and lag.
func (r *Record) Size() int { return len(r.PartitionKey) + len(r.Data) }
