package braid

import "sync"

// recency lists the shards of a stream that got records since the database was opened, those
// of the committer's last group first. So a reader that has read everything up to a counter
// finds the shards with later records without a look at the others.
//
// Invariant: for every counter up to which all records were visible at some time, the shards
// that have later records come before those that have none. This holds because visibility ends
// with a group, and each group moves its shards to the front.
type recency struct {
	mu    sync.Mutex // guards the field below, and the links of the shards
	first *Shard
}

// recentLinks are a shard's neighbors in a recency: nil at the ends of the list, and for a
// shard that is not in it.
type recentLinks struct{ before, after *Shard }

// touch moves a shard to the front. The committer calls it after the shard's log has the
// group's records, and before they count as visible.
func (r *recency) touch(sh *Shard) {
	if r.first == sh { // only the committer changes first, so it needs no lock to read it
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlink(sh)
	if sh.recent.after = r.first; r.first != nil {
		r.first.recent.before = sh
	}
	r.first = sh
}

// remove removes a shard that has expired. The committer calls it.
func (r *recency) remove(sh *Shard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unlink(sh)
}

func (r *recency) unlink(sh *Shard) {
	before, after := sh.recent.before, sh.recent.after
	switch {
	case before != nil:
		before.recent.after = after
	case r.first == sh:
		r.first = after
	}
	if after != nil {
		after.recent.before = before
	}
	sh.recent = recentLinks{}
}

// since appends to found the shards that have records above a counter up to which all
// records were visible. It may add shards whose records become visible in a moment.
func (r *recency) since(counter uint64, found []*Shard) []*Shard {
	r.mu.Lock()
	defer r.mu.Unlock()
	for sh := r.first; sh != nil && sh.log.LastCounter() > counter; sh = sh.recent.after {
		found = append(found, sh)
	}
	return found
}
