package kv

// LimitBatch changes the maximal size of a batch.
func LimitBatch(b *Batch, n int) { b.limit = n }

// Fail makes the store fail, as a broken disk does.
func Fail(s *Store, cause error) { s.guard.Abandon(cause) }

// FailSoftly makes the store fail with no goroutine stuck, as when Pebble returns an error from
// a commit.
func FailSoftly(s *Store, cause error) { s.guard.Fail(cause) }

// Fatalf is the call that Pebble makes when it cannot continue.
func Fatalf(s *Store, format string, args ...any) {
	pebbleLogger{s.reporter, s.guard}.Fatalf(format, args...)
}

// PebbleFormat is the version of Pebble's files that is written.
const PebbleFormat = pebbleFormat
