package braid

import (
	"slices"
	"sync"
	"time"
)

const maxDecisions = 16 // that Metrics shows

// CapacityDecision is what [OnDemand] has decided, and why.
type CapacityDecision struct {
	Time   time.Time
	Stream string
	Action string // such as "split shardId-000000000003 at 1701411834604692317316873037158841057280"
	Reason string
}

// decisions are the last that were made.
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
