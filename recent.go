package braid

import "sync"

// recency lists the shards of a stream that have got records since the database was
// opened, those of the last group of the committer first. So a reader that has read
// everything up to a counter finds what came since without a look at the other shards.
//
// Invariant: of every counter up to which all records were visible at some time, the
// shards that have later records come before those that have none. For what is visible
// ends with a group, and each group brings its shards to the front.
type recency struct {
	mu    sync.Mutex // guards the field below, and the links of the shards
	first *Shard
}

// recentLinks are the shards beside one in a recency: nil at the ends of the list, and
// for one that is not in it.
type recentLinks struct{ before, after *Shard }

// touch brings a shard to the front. The committer calls it, when the shard's log has the
// group's records and before they count as visible.
func (r *recency) touch(sh *Shard) {
	if r.first == sh { // nobody else changes it
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

// remove takes a shard out that has expired. The committer calls it.
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

// since appends the shards to found that have records above a counter up to which all
// were visible. It may add others that are to have some in a moment.
func (r *recency) since(counter uint64, found []*Shard) []*Shard {
	r.mu.Lock()
	defer r.mu.Unlock()
	for sh := r.first; sh != nil && sh.log.LastCounter() > counter; sh = sh.recent.after {
		found = append(found, sh)
	}
	return found
}
