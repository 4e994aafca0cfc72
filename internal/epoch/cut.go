package epoch

import (
	"maps"
	"slices"
)

// Cuts has the cuts of the epochs that still have records, by their ids. The committer owns it.
type Cuts map[uint32]*Cut

// Of returns the cut of the epoch, which is empty at first.
func (c Cuts) Of(id uint32) *Cut {
	if c[id] == nil {
		c[id] = &Cut{streams: make(map[uint32]uint64)}
	}
	return c[id]
}

// Cut has the streams that have died in an epoch that still has records.
type Cut struct {
	streams map[uint32]uint64 // streams whose records there are all dead, with the bytes of those records
	bytes   uint64            // the sum of these bytes
}

// Set notes that all of a stream's records in the epoch are dead, and how many bytes they have.
func (c *Cut) Set(stream uint32, bytes uint64) {
	c.bytes += bytes - c.streams[stream]
	c.streams[stream] = bytes
}

// Remove removes a stream whose dead records were removed.
func (c *Cut) Remove(stream uint32) {
	c.bytes -= c.streams[stream]
	delete(c.streams, stream)
}

// Has reports whether the stream has died in the epoch.
func (c *Cut) Has(stream uint32) bool {
	_, has := c.streams[stream]
	return has
}

// Streams returns the streams that have died in the epoch, by their numbers.
func (c *Cut) Streams() []uint32 { return slices.Sorted(maps.Keys(c.streams)) }

// Bytes returns the size of the dead records' partition keys and data.
func (c *Cut) Bytes() uint64 { return c.bytes }
