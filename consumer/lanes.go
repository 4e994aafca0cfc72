package consumer

import (
	"hash/maphash"
	"slices"
)

// walk reads the shard, and runs lanes if there are any.
func (r *runner) walk() error {
	if r.tracker == nil {
		return r.read()
	}
	for range r.cfg.Lanes {
		r.lanes = append(r.lanes, make(chan []Record, maxTrackedPages+1))
	}
	for i, lane := range r.lanes {
		r.busy.Go(func() { r.runLane(i, lane) })
	}
	err := r.read()
	for _, lane := range r.lanes {
		close(lane)
	}
	r.busy.Wait()
	return err
}

// feedLanes divides records by their partition keys. It waits for lanes that have
// much to do.
func (r *runner) feedLanes(records []Record) {
	if len(r.lanes) == 1 {
		r.tracker.noteFed(0)
		r.lanes[0] <- records
		return
	}
	parts := make([][]Record, len(r.lanes))
	for i := range records {
		lane := maphash.String(laneSeed, records[i].PartitionKey) % uint64(len(r.lanes))
		parts[lane] = append(parts[lane], records[i])
	}
	for i, part := range parts {
		if len(part) > 0 {
			r.tracker.noteFed(i)
			r.lanes[i] <- part
		}
	}
}

var laneSeed = maphash.MakeSeed()

// runLane is the goroutine of a lane. It ends when its channel is closed.
func (r *runner) runLane(number int, lane chan []Record) {
	returned := false
	defer func() {
		if !returned { // by runtime.Goexit
			r.halt(errGoexit)
			for range lane {
				continue // so that nobody waits for it
			}
		}
	}()
	for records := range lane {
		for batch := range slices.Chunk(records, r.cfg.BatchRecords) {
			if r.waitForCommitter() != nil || r.cause() != nil {
				break
			}
			if err := r.deliver(batch, nil); err != nil && r.cause() == nil {
				r.halt(err)
			}
		}
		r.tracker.noteProcessed(number)
	}
	returned = true
}
