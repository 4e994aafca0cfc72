package braid

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/braidstream/braid/internal/logs"
)

// InMemory, passed to [Open] instead of a directory, creates a database in memory. Its data is lost
// when it is closed.
const InMemory = ":memory:"

// Durability determines which failures an acknowledged write survives.
type Durability int

const (
	// Sync acknowledges a write when it is on disk (fsync). No acknowledged write is lost in
	// a power loss, or in a crash of the machine or the process.
	Sync Durability = iota

	// Interval acknowledges a write at once and syncs every SyncInterval. A power loss or a crash
	// may take writes that were acknowledged since the last sync, the newest first: each shard
	// keeps a prefix.
	Interval

	// NoSync acknowledges a write at once and leaves syncing to the storage engine and the
	// operating system. A power loss or a crash may take the newest writes, without a bound on how
	// many; each shard keeps a prefix. [DB.Close] loses nothing.
	NoSync
)

// String returns the name of the mode.
func (d Durability) String() string {
	switch d {
	case Sync:
		return "Sync"
	case Interval:
		return "Interval"
	case NoSync:
		return "NoSync"
	default:
		return fmt.Sprintf("Durability(%d)", int(d))
	}
}

// Options are the settings of an open database. They are not stored. The zero value, and a
// nil pointer, mean the defaults.
type Options struct {
	// ReadOnly opens an existing database for reading: a copy, a backup, or a database that no
	// program has open. No byte of it is changed and no file is created or removed, so the file
	// system may be read-only. Any number of programs may open it this way at once, but not while
	// a program has it open for writing ([ErrLocked]). The default, false, opens it for reading
	// and writing, and creates it if it does not exist.
	//
	// All reading works, and so does [DB.Backup]; every call that would change something returns
	// [ErrReadOnly]. Follow ends at the tip, where no record can come. A log that a crash left
	// behind is replayed into memory. Records that have expired by the retention of their stream
	// cannot be read, as in a database that is open for writing. The settings below that concern
	// writing have no effect.
	ReadOnly bool

	// AcceptLoss opens a damaged database with what is left of it, where Open would otherwise
	// return a [FileDamageError]. The default, false, refuses such a database. Make a copy of the
	// directory before you set it. It cannot be combined with ReadOnly, or with a database in
	// memory.
	//
	// The lost data stays lost. The error is logged, [DB.Losses] lists the loss from then on, and
	// files that are replaced are kept in the directory "lost" beside the store. If a log or a
	// manifest is damaged, its intact beginning is kept, so the database returns to an earlier
	// state. Each open shard then has a gap, which readers see as a [CorruptError], and new
	// sequence numbers are higher than all that were given out. Records of a lost table are also
	// reported with a [CorruptError]. If too little is left, Open refuses even with AcceptLoss; it
	// never creates a new database instead.
	AcceptLoss bool

	// Logger receives background events: a disk that is full or has space again, tables
	// that cannot be written, shards that [OnDemand] splits and merges, and, at level Debug,
	// Pebble's own messages. nil means that warnings and errors go to [slog.Default];
	// slog.New(slog.DiscardHandler) silences them.
	Logger *slog.Logger

	// Durability determines which failures an acknowledged write survives. The default is Sync.
	Durability Durability

	// SyncInterval is the time between syncs with [Interval], 1 millisecond or more. 0 means
	// 100 milliseconds. With another Durability it must be 0.
	SyncInterval time.Duration

	// CacheBytes bounds the cache of table blocks read from disk; any size is allowed.
	// 0 means 32 MiB; a negative value means no cache.
	CacheBytes int64

	// MemtableBytes is how much data is gathered in memory before it is written to a table. The
	// range is 1 MiB to 1 GiB. 0 means 64 MiB or, if that is less, 1/64 of the disk's size. While
	// the disk is slow, up to four times as much is held in memory. The log is cut into epochs of
	// about this size, and space is reclaimed by whole epochs. Both the log and a table of this
	// size must fit on the disk together with ReserveBytes, otherwise the error is
	// [ErrInvalidArgument].
	//
	// A new database takes about half a megabyte on disk. After many puts, it keeps log files of
	// up to about six times this size for reuse, even when all records are trimmed; the next Open
	// after a Close removes them.
	MemtableBytes int64

	// TailBytes bounds the recent records that are kept in memory for readers at the tip, for
	// all shards together; any size is allowed. 0 means 16 MiB; a negative value means none.
	TailBytes int64

	// MaxTxBytes bounds how much one transaction may read and write, together. 0 means 8 MiB;
	// the range is 1 byte to 16 MiB.
	MaxTxBytes int64

	// KeyProvider has the keys of encrypted streams. nil means that there are none: encrypted
	// streams can then be trimmed, resharded and deleted, but neither read nor put to. See
	// [Stream.StartEncryption].
	KeyProvider KeyProvider

	// ReserveBytes is how much free space remains on the disk when writes are refused with
	// [ErrDiskFull], so that there is still room to trim, to close and to open again. 0 means 64
	// MiB or, on a small disk, six times MemtableBytes, up to three eighths of the disk; a
	// negative value means no reserve. A value that is not less than the size of the disk is an
	// [ErrInvalidArgument]. With less free space than this, Open creates no database. It opens an
	// existing one, as long as the data in its log has room.
	ReserveBytes int64
}

const (
	defaultSyncInterval  = 100 * time.Millisecond
	defaultCacheBytes    = 32 << 20
	defaultMemtableBytes = 64 << 20
	minMemtableBytes     = 1 << 20
	defaultTailBytes     = 16 << 20
	defaultTxBytes       = 8 << 20
	maxTxBytes           = 16 << 20
	defaultReserveBytes  = 64 << 20

	// On a small disk, the defaults are about this share of the disk. The log, with its files kept
	// for reuse, has the size of at most ten memtables. When the reserve is reached, up to four
	// memtables are still to be written to tables, and the same after a crash.
	memtableShare    = 64
	reserveShare     = 16
	reserveMemtables = 6
)

// fit scales those options that are defaults to a disk of that size, and checks that the
// given ones fit on it. A size of zero is unknown, and changes nothing.
func (o *Options) fit(given *Options, diskBytes int64) error {
	if diskBytes == 0 {
		return nil
	}
	if given == nil {
		given = &Options{}
	}
	if given.MemtableBytes == 0 {
		o.MemtableBytes = min(o.MemtableBytes, max(diskBytes/memtableShare, minMemtableBytes))
	}
	if given.ReserveBytes == 0 {
		reserve := min(reserveMemtables*o.MemtableBytes, diskBytes*3/8, diskBytes-2*o.MemtableBytes)
		o.ReserveBytes = min(o.ReserveBytes, max(reserve, diskBytes/reserveShare))
	}
	reserve := max(0, o.ReserveBytes)
	switch {
	case given.ReserveBytes >= diskBytes:
		return &InvalidArgumentError{"ReserveBytes", o.ReserveBytes, fmt.Sprintf("must be less than the size of the disk, %d bytes", diskBytes)}
	case given.MemtableBytes != 0 && 2*o.MemtableBytes+reserve > diskBytes:
		return &InvalidArgumentError{
			"MemtableBytes", o.MemtableBytes,
			fmt.Sprintf("must fit twice, for its log and its table, on the disk of %d bytes beside ReserveBytes, %d", diskBytes, reserve),
		}
	default:
		return nil
	}
}

// withDefaults returns a copy whose zero fields have their defaults, and checks the
// others.
func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	opts.Logger = logs.OrDefault(opts.Logger)
	if opts.SyncInterval != 0 && opts.Durability != Interval && !opts.ReadOnly {
		return opts, &InvalidArgumentError{
			"SyncInterval", opts.SyncInterval,
			fmt.Sprintf("must be 0 with Durability %s; Interval is the mode that has it", opts.Durability),
		}
	}
	orDefault(&opts.SyncInterval, defaultSyncInterval)
	orDefault(&opts.CacheBytes, defaultCacheBytes)
	orDefault(&opts.MemtableBytes, defaultMemtableBytes)
	orDefault(&opts.TailBytes, defaultTailBytes)
	orDefault(&opts.MaxTxBytes, defaultTxBytes)
	orDefault(&opts.ReserveBytes, defaultReserveBytes)
	switch {
	case opts.Durability < Sync || opts.Durability > NoSync:
		return opts, &InvalidArgumentError{"Durability", opts.Durability, "must be Sync, Interval or NoSync"}
	case opts.SyncInterval < time.Millisecond:
		return opts, &InvalidArgumentError{"SyncInterval", opts.SyncInterval, "must be at least 1ms"}
	case opts.MemtableBytes < minMemtableBytes || opts.MemtableBytes > 1<<30:
		return opts, &InvalidArgumentError{"MemtableBytes", opts.MemtableBytes, "must be 1 MiB to 1 GiB"}
	case opts.MaxTxBytes < 1 || opts.MaxTxBytes > maxTxBytes:
		return opts, &InvalidArgumentError{"MaxTxBytes", opts.MaxTxBytes, fmt.Sprintf("must be 1 to %d", maxTxBytes)}
	}
	return opts, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
