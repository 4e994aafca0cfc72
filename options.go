package braid

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/braidstream/braid/internal/logs"
)

// InMemory, given to [Open] in place of a directory, makes a database that lives
// in memory and is gone when it is closed.
const InMemory = ":memory:"

// Durability is what an acknowledged write can rely on.
type Durability int

const (
	// Sync acknowledges a write when it is on disk (fsync). A power cut, a crash
	// of the machine or of the process takes nothing that was acknowledged.
	Sync Durability = iota

	// Interval acknowledges a write at once and syncs every SyncInterval. A
	// power cut or a crash may take what was acknowledged since the last sync,
	// the newest first: each shard keeps a prefix.
	Interval

	// NoSync acknowledges a write at once and leaves the syncing to the engine
	// and the operating system. A power cut or a crash may take what was
	// acknowledged in the last moments, which may be long ones; each shard keeps
	// a prefix. [DB.Close] loses nothing.
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

// Options are the settings of an open database. They are not stored. The zero
// value, and a nil pointer, mean the defaults.
type Options struct {
	// ReadOnly opens a database that exists, a copy, a backup or one that no
	// program has open, to read it without changing a byte of it: no file is made,
	// written or removed, so the directory may be on a file system on which nothing
	// can be. Any number of programs may have it open this way at once, but not
	// beside one that writes ([ErrLocked]). The default, false, opens it for writing
	// too, and creates it if it does not exist.
	//
	// All reading works, and so does [DB.Backup]; every call that would change
	// something is [ErrReadOnly]. Follow ends at the tip, where no record can come.
	// A log that a crash left behind is replayed into memory. What has expired by
	// the retention of its stream cannot be read, as if the database were open for
	// writing. The settings below that are about writing have no effect.
	ReadOnly bool

	// AcceptLoss opens a database that is damaged with what is left of it, where
	// Open would refuse it with a [FileDamageError]. The default, false, refuses. What
	// was lost stays lost: the error is logged, [DB.Losses] lists it from then on, and
	// files that are replaced are kept in the directory "lost" beside the store. Of a
	// log or a manifest the sound beginning is kept, so that the database is as it was
	// some time before; then each open shard has a gap, of which readers are told with
	// a [CorruptError], and numbers go on behind all that were given out. Records in a
	// table that is lost are told of in the same way. Where too little is left, Open
	// refuses all the same; it never makes a new database. Make a copy of the directory
	// before. Not with ReadOnly.
	AcceptLoss bool

	// Logger receives what happens while nobody is calling: a disk that is full or
	// has space again, tables that cannot be written, shards that [OnDemand] splits
	// and merges, and what Pebble does, at level Debug. nil means that warnings and
	// errors go to [slog.Default]; slog.New(slog.DiscardHandler) silences them.
	Logger *slog.Logger

	// Durability is what an acknowledged write can rely on. The default is Sync.
	Durability Durability

	// SyncInterval is how often [Interval] syncs, 1 millisecond or more. 0 means 100
	// milliseconds. With another Durability it must be 0.
	SyncInterval time.Duration

	// CacheBytes bounds the cache of blocks read from disk, of any size. 0 means 32
	// MiB, negative none.
	CacheBytes int64

	// MemtableBytes is how much is gathered in memory before it is written to a
	// table; up to four times as much is held while the disk is slow. The log is
	// cut into epochs of about this size, and space is returned by epochs. 0
	// means 64 MiB or, if that is less, a 64th of the disk's size; the range is
	// 1 MiB to 1 GiB. A value whose log and table do not fit on the disk together
	// with ReserveBytes is an [ErrInvalidArgument].
	//
	// A new database takes about half a megabyte on disk. One that much was put to
	// keeps up to about six times this size in log files, to use them again, even when
	// all records are trimmed; the next Open after a Close removes them.
	MemtableBytes int64

	// TailBytes bounds the recent records kept in memory for readers at the tip,
	// of all shards together, at any size. 0 means 16 MiB, negative none.
	TailBytes int64

	// MaxTxBytes bounds what one transaction may read and write. 0 means 8 MiB;
	// the range is 1 byte to 16 MiB.
	MaxTxBytes int64

	// KeyProvider has the keys of streams that are encrypted. nil means that there
	// is none: such streams can be trimmed, resharded and deleted, and neither be
	// put to nor read. See [Stream.StartEncryption].
	KeyProvider KeyProvider

	// ReserveBytes is how much space is left on the disk when writes are refused
	// with [ErrDiskFull], so that there is still room to trim, to close and to open
	// again. 0 means 64 MiB or, on a small disk, six times MemtableBytes, up to three
	// eighths of the disk; negative means none. A value that is not less than the size
	// of the disk is an [ErrInvalidArgument]. With less free than this Open creates no
	// database, but opens one that exists, as long as what its log holds has room.
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

	// Of a small disk a default takes about this part. The log, and what is kept of
	// it for use again, is at most ten memtables. When the reserve is met, up to four
	// are on their way to tables, or are after a crash.
	memtableShare    = 64
	reserveShare     = 16
	reserveMemtables = 6
)

// fit scales the defaults among the options to a disk of that size, and checks that
// those which were given fit on it. Zero bytes are a disk that does not tell.
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

// withDefaults returns a copy whose zero fields are filled in, after checking
// the others.
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
