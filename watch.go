package braid

// Changed returns a channel that is closed at the next change of what streams and
// shards there are: when a stream is created or deleted, when shards are split,
// merged or expire, and when the database closes. Whoever wants to know of every
// change takes the channel first and looks after that:
//
//	for {
//		changed := db.Changed()
//		... look at db.Streams() and Stream.Describe ...
//		select {
//		case <-changed:
//		case <-ctx.Done():
//			return
//		}
//	}
//
// Settings, records and their trimming are no such changes.
func (db *DB) Changed() <-chan struct{} { return db.changed.Wait() }
