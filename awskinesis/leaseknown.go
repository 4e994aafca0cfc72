package awskinesis

import "sync"

// knownRows caches the rows of the lease table as they were last seen. A listing forgets rows that
// others have deleted, so memory follows the size of the table.
type knownRows struct {
	mu       sync.Mutex // guards the fields below
	rows     map[string]knownRow
	listings uint64 // number of listings begun
}

type knownRow struct {
	rowStanding
	listing uint64 // the latest listing that had begun when the row was seen
}

// note caches a row, unless a later version of it is known.
func (k *knownRows) note(key string, now rowStanding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old, has := k.rows[key]; !has || now.version >= old.version {
		k.rows[key] = knownRow{now, k.listings}
	}
}

// at returns a row at a version, or nil if it is unknown.
func (k *knownRows) at(key string, version uint64) *rowStanding {
	k.mu.Lock()
	defer k.mu.Unlock()
	if row, has := k.rows[key]; has && row.version == version {
		return &row.rowStanding
	}
	return nil
}

func (k *knownRows) forget(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.rows, key)
}

// beginListing is called before all rows are listed.
func (k *knownRows) beginListing() (listing uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listings++
	return k.listings
}

// endListing forgets the rows that were not seen since the listing began. It is called after the
// listing has noted all rows that it found. A row that was created meanwhile, and that the listing
// missed, was noted by its creator.
func (k *knownRows) endListing(listing uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, row := range k.rows {
		if row.listing < listing {
			delete(k.rows, key)
		}
	}
}
