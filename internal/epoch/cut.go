package epoch

import (
	"maps"
	"slices"
)

// Cuts are what has died in the epochs that live on, by their ids. The committer owns
// them.
type Cuts map[uint32]*Cut

// Of returns what has died in the epoch, which is nothing at first.
func (c Cuts) Of(id uint32) *Cut {
	if c[id] == nil {
		c[id] = &Cut{streams: make(map[uint32]uint64)}
	}
	return c[id]
}

// Cut is what has died in an epoch that lives on.
type Cut struct {
	streams map[uint32]uint64 // that have no living record there, and how many bytes of dead ones
	bytes   uint64            // of all of them
}

// Set notes that a stream has no living record in the epoch, and so many bytes of dead
// ones.
func (c *Cut) Set(stream uint32, bytes uint64) {
	c.bytes += bytes - c.streams[stream]
	c.streams[stream] = bytes
}

// Remove forgets a stream, whose dead records are there no longer.
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

// Bytes returns how much the dead records hold, in partition keys and data.
func (c *Cut) Bytes() uint64 { return c.bytes }
