package braid

import (
	"slices"
	"sync"
	"time"
)

const maxDecisions = 16 // how many Metrics returns

// CapacityDecision is a decision of [OnDemand] about a stream's shards.
type CapacityDecision struct {
	Time   time.Time
	Stream string // the name of the stream
	Action string // such as "split shardId-000000000003 at 1701411834604692317316873037158841057280"
	Reason string // why, for people
}

// decisions are the last decisions that were made.
type decisions struct {
	mu   sync.Mutex // guards the field below
	last []CapacityDecision
}

func (d *decisions) add(made []CapacityDecision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = append(d.last, made...)
	d.last = slices.Clone(d.last[max(0, len(d.last)-maxDecisions):])
}

func (d *decisions) all() []CapacityDecision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.last)
}
