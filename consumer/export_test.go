package consumer

import "github.com/braidstream/braid"

// What [New] uses by default, for tests that give it to somebody else.

func DatabaseLeases(db *braid.DB, app string) LeaseStore { return dbLeases{db, app} }

func DatabaseSource(db *braid.DB) Source { return dbSource{db} }
