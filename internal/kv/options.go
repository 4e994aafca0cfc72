package kv

import (
	"cmp"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleFormat is the version of Pebble's own files. Raise it only deliberately, together with
// layout.FormatVersion. It must be FormatNewest at that time: older formats do not detect
// damage in a log, and reuse timers across test bubbles.
const pebbleFormat = pebble.FormatValueSeparation

// options returns Pebble's options for one open. Two opens must not share them: a scheduler
// serves one database only.
func (s *Store) options() *pebble.Options {
	o := &pebble.Options{
		FS:                 s.guard,
		FormatMajorVersion: pebbleFormat,
		Logger:             pebbleLogger{s.reporter, s.guard},
		EventListener:      listener(s.reporter, s.damage, &s.room),
		CacheSize:          s.cfg.CacheBytes,
	}
	setLogShape(o, s.cfg)
	setBackground(o, s.damage)
	// A database in memory ends with its process, so its log would never be read.
	o.DisableWAL = s.cfg.InMemory || s.cfg.NoLog
	return o
}

// setLogShape tunes Pebble for a log: data arrives in the order of its keys, is read in long
// runs, and is removed in whole tables.
func setLogShape(o *pebble.Options, cfg Config) {
	// Large memtables make few, large tables. Four of them let a burst go on
	// while one is being written.
	o.MemTableSize = uint64(cfg.MemTableBytes)
	o.MemTableStopWritesThreshold = 4

	// A manifest that has reached this size is rewritten, so that it does not outgrow a small
	// disk.
	o.MaxManifestFileSize = cfg.MemTableBytes

	// Tables of different epochs do not overlap, so many of them in level 0 cost a reader
	// nothing, and compacting them early gains little. Level 0 is compacted after 16 flushes
	// with rows that overlap (each counts twice). Writes are never stopped because of it.
	o.L0CompactionThreshold = 32
	o.L0StopWritesThreshold = 1000
	o.LBaseMaxBytes = 512 << 20
	o.TargetFileSizes[0] = 32 << 20

	// When Pebble compacts those rows, it includes adjacent tables of level 0, up to 25 target
	// sizes of the next level. That would write every record once more for no gain, so the
	// target size is small enough that 25 of them are less than a few epochs. Tables of records
	// move to that level without being rewritten.
	o.TargetFileSizes[1] = max(cfg.MemTableBytes/64, 64<<10)
	for i := 2; i < len(o.TargetFileSizes); i++ {
		o.TargetFileSizes[i] = 32 << 20
	}

	// A reader seeks the first row at or above a key between two rows, since the key of a row
	// of records is that of its last record. The separator after a block is therefore its last
	// key itself: a shorter one could lie above the sought key, and the seek would read one
	// block more, which may be damaged. TestALookReadsNoBlockBefore verifies that.
	comparer := *pebble.DefaultComparer
	comparer.Separator = func(dst, a, _ []byte) []byte { return append(dst, a...) }
	o.Comparer = &comparer

	// Runs are long, so blocks can be large: fewer index entries and better
	// compression. Two-level indexes would cost every seek a read.
	for i := range o.Levels {
		o.Levels[i].BlockSize = cmp.Or(cfg.TableBlockBytes, 32<<10)
		o.Levels[i].IndexBlockSize = 256 << 10
	}

	// A table that crosses a boundary would tie an epoch to the next one, or to the rows about
	// streams, which every other table overlaps, too.
	if border := cfg.TableBoundary; border != nil {
		o.Experimental.SpanPolicyFunc = func(start []byte) (pebble.SpanPolicy, []byte, error) {
			return pebble.SpanPolicy{}, border(start), nil
		}
	}
}

// setBackground limits Pebble's background work, so that Pebble is completely idle, without
// even a ticker, when there is none.
func setBackground(o *pebble.Options, d *damage) {
	// A compaction that damage has stopped pauses before its retry, and must not block another
	// one meanwhile.
	o.CompactionConcurrencyRange = func() (lower, upper int) {
		if d.stopsCompactions() {
			return 2, 3
		}
		return 1, 2
	}

	// The default scheduler looks ten times a second whether more compactions
	// are allowed than a while ago. This one, the same but for that, looks when a
	// compaction asks or ends. No work can be left waiting: a compaction waits
	// only if it was refused, it is refused only while at least the lower bound,
	// one, is running, and the end of that one grants the one that waits, under
	// the mutex that was held from the refusal to its being noted. What is lost
	// is that a second compaction, allowed because much work has piled up, may
	// start only when the first ends. TestCompactionsAreGranted holds the rest.
	o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()

	// Never rewrite a table because it is read: each consumer reads a log once or twice, in
	// order.
	o.Experimental.ReadSamplingMultiplier = -1

	// Left at their defaults, which are off: TargetByteDeletionRate (a pace for deletions, by
	// sleeping), FlushDelayDeleteRange and FlushDelayRangeKey (a timer each),
	// WALMinSyncInterval (a timer; groups are formed above), and DiskSlow events (a ticker).
	// Logs are reused, the default: a sync of a log that need not grow takes about two thirds
	// of the time, and with this format the old content of a reused log never counts as new.
}
