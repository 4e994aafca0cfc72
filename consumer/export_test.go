package consumer

import "github.com/braidstream/braid"

// What tests outside of the package need of it.

// DBSource is the source of a database's streams.
type DBSource = dbSource

// NewDBSource returns the source of a database's streams.
func NewDBSource(db *braid.DB) Source { return dbSource{db} }

// NewDBLeases returns the store of an application's leases in a database.
func NewDBLeases(db *braid.DB, app string) LeaseStore { return dbLeases{db, app} }

// DecodeLease reads a stored lease.
var DecodeLease = decodeLease

// Before reports whether c lies before other.
func (c Checkpoint) Before(other Checkpoint) bool { return c.before(other) }
