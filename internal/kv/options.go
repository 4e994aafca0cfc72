package kv

import (
	"cmp"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleFormat is the version of Pebble's own files. It is raised on purpose
// only, together with layout.FormatVersion. It must be FormatNewest at the time:
// older ones do not find damage in a log, and reuse timers across test bubbles.
const pebbleFormat = pebble.FormatValueSeparation

// options returns Pebble's options for one open. They are not shared by two: a
// scheduler serves one database only.
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
	// A database in memory ends with its process, so a log of what is not in a
	// table yet would never be read.
	o.DisableWAL = s.cfg.InMemory || s.cfg.NoLog
	return o
}

// setLogShape fits Pebble's tree to a log: data arrives in the order of its
// keys, is read in long runs, and goes in whole tables.
func setLogShape(o *pebble.Options, cfg Config) {
	// Large memtables make few, large tables. Four of them let a burst go on
	// while one is being written.
	o.MemTableSize = uint64(cfg.MemTableBytes)
	o.MemTableStopWritesThreshold = 4

	// A manifest is written anew when it has grown to this, so that it does not
	// outgrow a small disk.
	o.MaxManifestFileSize = cfg.MemTableBytes

	// Tables of different epochs do not overlap, so many of them in level 0 cost
	// a reader nothing, and there is little to gain from compacting them soon: it
	// happens when 16 flushes have brought rows that do overlap (each counts
	// twice). Writes are never stopped for their sake.
	o.L0CompactionThreshold = 32
	o.L0StopWritesThreshold = 1000
	o.LBaseMaxBytes = 512 << 20
	o.TargetFileSizes[0] = 32 << 20

	// When Pebble compacts those rows it takes along what lies beside them in
	// level 0, up to 25 target sizes of the next level, so as to do more in one
	// go. That would write every record once more, for nothing: so 25 of them are
	// less than a few epochs. Tables of records reach that level by being moved.
	o.TargetFileSizes[1] = max(cfg.MemTableBytes/64, 64<<10)
	for i := 2; i < len(o.TargetFileSizes); i++ {
		o.TargetFileSizes[i] = 32 << 20
	}

	// A reader looks for the first row at or above a place between two rows: a row of
	// records is named by the last of them. The end of a block is therefore its last key
	// itself. A shorter text between that and the next key could lie above the place,
	// and the look would read one block more, which may be a damaged one.
	// TestALookReadsNoBlockBefore holds it.
	comparer := *pebble.DefaultComparer
	comparer.Separator = func(dst, a, _ []byte) []byte { return append(dst, a...) }
	o.Comparer = &comparer

	// Runs are long, so blocks can be large: fewer index entries and better
	// compression. Two-level indexes would cost every seek a read.
	for i := range o.Levels {
		o.Levels[i].BlockSize = cmp.Or(cfg.TableBlockBytes, 32<<10)
		o.Levels[i].IndexBlockSize = 256 << 10
	}

	// A table that crosses a border would tie an epoch to its neighbours, or to
	// the rows about streams, which every other table overlaps too.
	if border := cfg.TableBoundary; border != nil {
		o.Experimental.SpanPolicyFunc = func(start []byte) (pebble.SpanPolicy, []byte, error) {
			return pebble.SpanPolicy{}, border(start), nil
		}
	}
}

// setBackground bounds the work that Pebble does by itself, and sees to it that
// it does nothing, not even tick, when there is no work.
func setBackground(o *pebble.Options, d *damage) {
	// A compaction that damage has stopped waits before it is tried again, and
	// must not keep another one waiting.
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

	// A table is never rewritten because it is read: a log is read once or twice
	// by each consumer, in order.
	o.Experimental.ReadSamplingMultiplier = -1

	// Left at their defaults, which are off: TargetByteDeletionRate (a pace for
	// deletions, by sleeping), FlushDelayDeleteRange and FlushDelayRangeKey (a
	// timer each), WALMinSyncInterval (a timer; groups are formed above), and
	// DiskSlow events (a ticker). Logs are reused, the default: a
	// sync of a log that need not grow takes about two thirds of the time, and
	// with this format a reused log's old content is never taken for new.
}
