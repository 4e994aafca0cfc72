package braid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/broadcast"
	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
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
	// Logger receives what the database has to tell while nobody is calling it,
	// such as a disk that is full. nil means silence.
	Logger *slog.Logger

	// Durability is what an acknowledged write can rely on. The default is Sync.
	Durability Durability

	// SyncInterval is how often [Interval] syncs. 0 means 100 milliseconds.
	SyncInterval time.Duration

	// CacheBytes bounds the cache of blocks read from disk. 0 means 32 MiB,
	// negative none.
	CacheBytes int64

	// MemtableBytes is how much is gathered in memory before it is written to a
	// table; up to four times as much is held while the disk is slow. The log is
	// cut into epochs of about this size, and space is returned by epochs. 0
	// means 64 MiB; the least is 1 MiB.
	MemtableBytes int64

	// TailBytes bounds the recent records kept in memory for readers at the tip,
	// of all shards together. 0 means 16 MiB, negative none.
	TailBytes int64

	// MaxTxBytes bounds what one transaction may read and write. 0 means 8 MiB;
	// the most is 16 MiB.
	MaxTxBytes int64

	// KeyProvider has the keys of streams that are encrypted. nil means that there
	// is none: such streams can be trimmed, resharded and deleted, and neither be
	// put to nor read. See [Stream.StartEncryption].
	KeyProvider KeyProvider

	// ReserveBytes is how much space is left on the disk when writes are refused
	// with [ErrDiskFull], so that there is still room to trim. 0 means 64 MiB,
	// negative none.
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
)

// withDefaults returns a copy whose zero fields are filled in, after checking
// the others.
func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
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

// DB is a database: one directory, or memory, with any number of streams and
// keys of the application's own. It comes from [Open]. All methods may be called
// from any number of goroutines.
//
// Lock order: mu, then the committer's or a shard's mutex; a tail's and a
// signal's are taken alone. None is held over a wait, a commit or a read of the
// store.
type DB struct {
	opts      Options
	otherWall func() time.Time // the wall clock of tests; nil for that of the system
	store     *kv.Store
	committer *commit.Committer
	appender  *appender // the committer's
	aging     retentionClock
	capacity  capacity
	requests  sync.Pool // of *putRequest
	snapshots snapshots
	reads     reads
	changed   broadcast.Signal
	attached  attachments
	onLease   leaseWatch

	// visible is the highest counter of any record that readers can see. All
	// records at or below it are visible, in whatever shard.
	visible atomic.Uint64

	mu      sync.Mutex         // guards the fields below
	streams map[string]*Stream // by name

	closed     atomic.Bool   // set first by Close
	closing    chan struct{} // closed by Close
	reclaim    chan struct{} // holds a token while there is space to return
	loaded     chan struct{} // holds a token while a stream on demand was put to
	expiring   chan struct{} // holds a token while there is retention to be planned
	unsynced   chan struct{} // holds a token while Interval has something to sync
	turn       chan struct{} // holds the token of the transaction that insists
	background sync.WaitGroup
}

// Open opens the database in a directory, which is created if it does not exist;
// [InMemory] makes one in memory. Close it when done.
//
// Errors: [ErrInvalidArgument] for the options, and for a directory that holds
// something else; [ErrLocked]; [ErrFormatTooNew]; [ErrCorrupt] and [ErrDataLoss]
// if the files are damaged; [ErrDiskFull]; [ErrFailed]. Any other error is the
// file system's, such as fs.ErrPermission. A refused open has changed nothing.
func Open(dir string, options *Options) (*DB, error) {
	return open(dir, options, environment{})
}

// environment is what tests replace.
type environment struct {
	fs    kv.FS            // nil: the operating system's
	clock func() time.Time // nil: time.Now

	// instant says that fs never waits. There is no disk that a commit could wait
	// for, so callers run commits themselves.
	instant bool
}

func open(dir string, options *Options, env environment) (*DB, error) {
	opts, err := options.withDefaults()
	if err != nil {
		return nil, wrapError("open", dir, err)
	}
	db := &DB{
		opts:      opts,
		otherWall: env.clock,
		streams:   make(map[string]*Stream),
		closing:   make(chan struct{}),
		reclaim:   make(chan struct{}, 1),
		expiring:  make(chan struct{}, 1),
		loaded:    make(chan struct{}, 1),
		unsynced:  make(chan struct{}, 1),
		turn:      make(chan struct{}, 1),
	}
	db.requests.New = func() any { return new(putRequest) }
	if err := db.openStore(dir, env.fs); err != nil {
		return nil, wrapError("open", dir, err)
	}
	if err := db.load(); err != nil {
		_ = db.store.Close() // the first error tells more
		return nil, wrapError("open", dir, err)
	}
	db.start(dir == InMemory || env.instant)
	return db, nil
}

func (db *DB) openStore(dir string, fs kv.FS) (err error) {
	db.store, err = kv.Open(kv.Config{
		Dir:           dir,
		InMemory:      dir == InMemory,
		FS:            fs,
		Logger:        db.opts.Logger,
		CacheBytes:    max(0, db.opts.CacheBytes),
		MemTableBytes: db.opts.MemtableBytes,
		ReserveBytes:  max(0, db.opts.ReserveBytes),
		TableBoundary: layout.TableBoundary,
		OnFull:        func(bool) { db.noteFull() },
		Init:          initStore,
		Verify:        verifyStore,
	})
	return err
}

// start begins to take requests, and starts the goroutines. Close stops them and
// waits. instant is as in environment.
func (db *DB) start(instant bool) {
	db.mu.Lock()
	db.committer = commit.New(db.store, db.appender, instant)
	db.mu.Unlock()
	db.noteFull()
	db.background.Go(db.runReclaim)
	db.background.Go(db.runRetention)
	db.background.Go(db.runCapacity)
	if db.opts.Durability == Interval {
		db.background.Go(db.runSync)
	}
	db.kickReclaim() // a crash may have left something
	db.kickRetention()
}

// noteFull passes on whether the disk is full. The store calls it from inside of
// file operations after each change, and may do so before there is a committer.
// It looks under the mutex, so that of two calls the later one has the last word.
func (db *DB) noteFull() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.committer != nil {
		db.committer.SetFull(db.store.Full())
	}
}

// CreateStream creates a stream. Errors: [ErrStreamExists];
// [ErrInvalidArgument] for the name (1 to 128 characters of a-z, A-Z, 0-9, '_',
// '.' and '-') and the options; [ErrDiskFull]; [ErrFailed]; [ErrClosed];
// [ErrOutcomeUnknown]. Kinesis: CreateStream.
func (db *DB) CreateStream(ctx context.Context, name string, options *StreamOptions) (*Stream, error) {
	stream, err := db.createStream(ctx, name, options)
	return stream, wrapError("create stream", name, err)
}

func (db *DB) createStream(ctx context.Context, name string, options *StreamOptions) (stream *Stream, err error) {
	if err := validateStreamName(name); err != nil {
		return nil, err
	}
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	err = db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if a.names[name] {
			return nil, ErrStreamExists
		}
		stream = a.createStream(name, opts, batch)
		return func() { db.addStream(stream) }, nil
	})
	if err != nil {
		return nil, err
	}
	return stream, nil
}

// OpenStream returns the stream of that name, and creates it if there is none:
// only then do the options count. Errors: as [DB.CreateStream], without
// ErrStreamExists.
func (db *DB) OpenStream(ctx context.Context, name string, options *StreamOptions) (*Stream, error) {
	if _, err := options.withDefaults(); err != nil {
		return nil, wrapError("open stream", name, err)
	}
	for {
		if s, err := db.Stream(name); err == nil || db.closed.Load() {
			return s, err
		}
		s, err := db.createStream(ctx, name, options)
		if !errors.Is(err, ErrStreamExists) {
			return s, wrapError("open stream", name, err)
		}
		// It was created since we looked: take it, unless it was deleted since.
	}
}

// Stream returns the stream of that name. Errors: [ErrStreamNotFound],
// [ErrClosed].
func (db *DB) Stream(name string) (*Stream, error) {
	s, err := db.stream(name)
	if err != nil {
		return nil, wrapError("get stream", fmt.Sprintf("%.140q", name), err)
	}
	return s, nil
}

func (db *DB) stream(name string) (*Stream, error) {
	if db.closed.Load() {
		return nil, ErrClosed
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if s := db.streams[name]; s != nil {
		return s, nil
	}
	return nil, ErrStreamNotFound
}

// Streams returns all streams, by name. Kinesis: ListStreams.
func (db *DB) Streams() []*Stream {
	db.mu.Lock()
	defer db.mu.Unlock()
	all := make([]*Stream, 0, len(db.streams))
	for _, s := range db.streams {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Stream) int { return strings.Compare(a.name, b.name) })
	return all
}

// DeleteStream deletes a stream with all its records. They cannot be read from
// the moment at which it returns; their space is returned in the background. A
// stream of the same name may be created at once, and shares nothing with it.
// It works while the disk is full.
//
// Errors: [ErrStreamNotFound], [ErrFailed], [ErrClosed], [ErrOutcomeUnknown].
// Kinesis: DeleteStream.
func (db *DB) DeleteStream(ctx context.Context, name string) error {
	s, err := db.stream(name)
	if err != nil {
		return wrapError("delete stream", fmt.Sprintf("%.140q", name), err)
	}
	err = db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.gone {
			return nil, ErrStreamNotFound
		}
		a.deleteStream(s, batch)
		return func() { db.removeStream(s) }, nil
	})
	return wrapError("delete stream", name, err)
}

func (db *DB) addStream(s *Stream) {
	db.mu.Lock()
	db.streams[s.name] = s
	db.mu.Unlock()
	db.changed.Raise()
}

func (db *DB) removeStream(s *Stream) {
	s.deleted.Store(true)
	db.mu.Lock()
	if db.streams[s.name] == s {
		delete(db.streams, s.name)
	}
	db.mu.Unlock()
	for _, sh := range s.topology.Load().shards {
		sh.log.End()
	}
	s.signal.End()
	db.kickReclaim()
	db.changed.Raise()
}

// clock returns the time of the wall clock.
func (db *DB) clock() time.Time { return db.wall(time.Now()) }

// wall returns what the wall clock says at that moment, which is now.
func (db *DB) wall(moment time.Time) time.Time {
	if db.otherWall != nil {
		return db.otherWall()
	}
	return moment
}

// control has an operation run by the committer, and waits until
// what it added is durable.
func (db *DB) control(ctx context.Context, op controlOp) error {
	return db.committer.Do(ctx, &commit.Request{Op: op, Essential: true})
}

// wait waits until ch is closed or has something, or ctx ends, or the database
// closes or fails.
func wait[T any](ctx context.Context, db *DB, ch <-chan T) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-db.closing:
		return ErrClosed
	case <-db.store.Failed():
		return db.store.Err()
	}
}

// noteUnsynced tells that something was acknowledged that is not durable yet.
func (db *DB) noteUnsynced() {
	if db.opts.Durability != Interval {
		return
	}
	select {
	case db.unsynced <- struct{}{}:
	default:
	}
}

// runSync is the goroutine of Interval. Its timer runs only while there is
// something to sync, so an idle database does nothing.
func (db *DB) runSync() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-db.unsynced:
		case <-db.closing:
			return
		}
		timer.Reset(db.opts.SyncInterval)
		select {
		case <-timer.C:
		case <-db.closing:
			return // closing syncs
		}
		if err := db.store.Sync(); err != nil {
			return // the store has failed, and tells every caller
		}
	}
}

// Close finishes the writes that are on their way, ends all readers, and closes
// the files. All that was acknowledged is durable when it returns nil, in every
// mode. After a failure, or while the disk is full, it gives the directory up at
// once and returns an error that matches [ErrFailed] or [ErrDiskFull]: then what
// was acknowledged is as durable as the mode promised. Everything after it is
// [ErrClosed], a second Close too.
func (db *DB) Close() error {
	if db.closed.Swap(true) {
		return wrapError("close", "", kv.ErrClosed)
	}
	close(db.closing)
	db.changed.Raise()
	if db.committer.Close() {
		db.background.Wait()
		db.saveClock()
	}
	return wrapError("close", "", db.store.Close())
}

// saveClock stores the exact last counter, so that the next open need not jump
// ahead to the end of a lease. The committer has ended: its state is ours.
func (db *DB) saveClock() {
	a := db.appender
	if a.mode == Sync {
		return // no lease: what is stored tells
	}
	batch := db.store.NewBatch()
	defer batch.Close()
	batch.Set(layout.ClockKey(), a.clockRow(a.last))
	_ = batch.Commit(true) // a failure latches the store, whose Close reports it
}
