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
	for i := range r.cfg.Lanes {
		lane := make(chan []Record, maxTrackedPages+1)
		r.w.lanes = append(r.w.lanes, lane)
		r.w.busy.Go(func() { r.runLane(i, lane) })
	}
	err := errGoexit // in case a hook or OnGap calls runtime.Goexit, so that read does not return
	defer func() {
		if err != nil {
			r.halt(err) // so that lanes do not retry for a stopped shard
		}
		for _, lane := range r.w.lanes {
			close(lane)
		}
		r.w.busy.Wait()
	}()
	err = r.read()
	return err
}

// feedLanes divides records among lanes by their partition keys. It waits for lanes that
// are full.
func (r *runner) feedLanes(records []Record) {
	if len(r.w.lanes) == 1 {
		r.tracker.noteFed(0)
		r.w.lanes[0] <- records
		return
	}
	parts := make([][]Record, len(r.w.lanes))
	for i := range records {
		lane := maphash.String(laneSeed, records[i].PartitionKey) % uint64(len(r.w.lanes))
		parts[lane] = append(parts[lane], records[i])
	}
	for i, part := range parts {
		if len(part) > 0 {
			r.tracker.noteFed(i)
			r.w.lanes[i] <- part
		}
	}
}

var laneSeed = maphash.MakeSeed()

// runLane is the goroutine of a lane. It ends when its channel is closed.
func (r *runner) runLane(number int, lane chan []Record) {
	var trying retry
	var part []Record // the lane's part of a page
	returned := false
	defer func() {
		if !returned { // the processor called runtime.Goexit
			r.halt(errGoexit)
			r.tracker.withdraw(part)
			for records := range lane { // drain the channel, so that nobody waits for it
				r.tracker.withdraw(records)
			}
		}
	}()
	for part = range lane {
		for batch := range slices.Chunk(part, r.cfg.BatchRecords) {
			_ = r.waitForCommitter() // deliver sees the cause of an error
			if err := r.deliver(&trying, batch, nil); err != nil && r.cause() == nil {
				r.halt(err)
			}
		}
		r.tracker.noteProcessed(number)
	}
	returned = true
}
