package kv

// LimitBatch changes how large a batch may become.
func LimitBatch(b *Batch, n int) { b.limit = n }

// Fail makes the store fail, as a broken disk does.
func Fail(s *Store, cause error) { s.guard.Abandon(cause) }

// FailSoftly makes the store fail with nothing stuck, as an error of a commit that
// Pebble returns does.
func FailSoftly(s *Store, cause error) { s.guard.Fail(cause) }

// Fatalf makes the call that Pebble makes when it cannot go on.
func Fatalf(s *Store, format string, args ...any) {
	pebbleLogger{s.reporter, s.guard}.Fatalf(format, args...)
}

// PebbleFormat is the version of Pebble's files that is written.
const PebbleFormat = pebbleFormat
