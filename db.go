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
	// with [ErrDiskFull], so that there is still room to trim. 0 means 64 MiB or,
	// if that is less, a 16th of the disk's size; negative means none. A value that
	// is not less than the size of the disk is an [ErrInvalidArgument]. With less
	// free than this Open creates no database, but opens one that exists.
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

	// Of a small disk a default takes no more than this part. The log, and what is
	// kept of it for use again, is at most ten memtables.
	memtableShare = 64
	reserveShare  = 16
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
		o.ReserveBytes = min(o.ReserveBytes, diskBytes/reserveShare)
	}
	reserve := max(0, o.ReserveBytes)
	switch {
	case given.ReserveBytes >= diskBytes:
		return &InvalidArgumentError{"ReserveBytes", o.ReserveBytes, fmt.Sprintf("must be less than the size of the disk, %d bytes", diskBytes)}
	case given.MemtableBytes != 0 && 2*o.MemtableBytes+reserve > diskBytes:
		return &InvalidArgumentError{"MemtableBytes", o.MemtableBytes, fmt.Sprintf("must fit twice, for its log and its table, on the disk of %d bytes beside ReserveBytes, %d", diskBytes, reserve)}
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
		return opts, &InvalidArgumentError{"SyncInterval", opts.SyncInterval, fmt.Sprintf("must be 0 with Durability %s; Interval is the mode that has it", opts.Durability)}
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
	onLease   atomic.Pointer[func(key, value []byte)] // of tests

	// visible is the highest counter of any record that readers can see. All
	// records at or below it are visible, in whatever shard.
	visible atomic.Uint64

	// damaged is the last epoch in which a reader has met damage, or 0.
	damaged atomic.Uint32

	mu      sync.Mutex         // guards the fields below
	streams map[string]*Stream // by name

	cutsLoaded bool // belongs to the goroutine of runReclaim

	closed     atomic.Bool   // set first by Close
	closing    chan struct{} // closed by Close
	reclaim    chan struct{} // holds a token while there is space to return
	loaded     chan struct{} // holds a token while a stream on demand was put to
	expiring   chan struct{} // holds a token while there is retention to be planned
	unsynced   chan struct{} // holds a token while Interval has something to sync
	turn       chan struct{} // holds a token unless a transaction insists
	background sync.WaitGroup
}

// Open opens the database in a directory, which is created if it does not exist;
// [InMemory] makes one in memory. Close it when done.
//
// With [Options].ReadOnly it opens one that exists, and changes nothing.
//
// Errors: [ErrInvalidArgument] for the options, for the empty name, and for a
// directory that holds something else, or, with ReadOnly, no database;
// [ErrLocked]; [ErrFormatTooNew]; [ErrCorrupt] and [ErrDataLoss] if the log, the
// manifest or rows about streams are damaged or a table is missing, while a damaged
// record is its readers' matter; [ErrDiskFull]; [ErrOutOfResources]; [ErrFailed]. Any
// other error is the file system's, such as fs.ErrPermission. A refused open has
// changed nothing.
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
	if err == nil {
		err = validateDir(dir)
	}
	if err == nil && opts.ReadOnly && dir == InMemory {
		err = &InvalidArgumentError{"ReadOnly", true, "must be false for a database in memory, which is always a new one"}
	}
	if err != nil {
		return nil, wrapError("open", dir, err)
	}
	if dir != InMemory {
		if err := opts.fit(options, kv.DiskBytes(env.fs, dir)); err != nil {
			return nil, wrapError("open", dir, err)
		}
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
		turn:      newTurn(),
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

// validateDir checks the name of a directory, and not what is there.
func validateDir(dir string) error {
	if dir == "" || strings.ContainsRune(dir, 0) {
		return &InvalidArgumentError{"dir", fmt.Sprintf("%.300q", dir), "must name a directory, such as \".\", without NUL characters"}
	}
	return nil
}

func (db *DB) openStore(dir string, fs kv.FS) (err error) {
	db.store, err = kv.Open(kv.Config{
		Dir:           dir,
		InMemory:      dir == InMemory,
		ReadOnly:      db.opts.ReadOnly,
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
	if db.opts.ReadOnly {
		return // the committer refuses every request, and there is nothing else to be done
	}
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
	if db.committer == nil {
		return
	}
	full := db.store.Full()
	db.committer.SetFull(full)
	if !full { // what failed for want of space is tried again
		db.kickReclaim()
		db.kickRetention()
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

func (db *DB) createStream(ctx context.Context, name string, options *StreamOptions) (*Stream, error) {
	if err := validateStreamName(name); err != nil {
		return nil, err
	}
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	var stream *Stream
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

// OpenStream returns the stream of that name, and creates it with the options if
// there is none. A stream that exists keeps its settings, such as the shards that
// it was resharded to since: it is returned as it is, and the Logger hears at Info
// level where it differs from the options. To be refused instead, set
// [StreamOptions].MustMatch: that is a [StreamMismatchError]. To change the
// settings there are methods of [Stream], such as [Stream.UpdateShardCount].
//
// Errors: as [DB.CreateStream], with [ErrStreamExists] for MustMatch only.
func (db *DB) OpenStream(ctx context.Context, name string, options *StreamOptions) (*Stream, error) {
	if _, err := options.withDefaults(); err != nil {
		return nil, wrapError("open stream", name, err)
	}
	for {
		s, err := db.stream(name)
		switch {
		case err == nil:
			if err := s.match(options); err != nil {
				return nil, wrapError("open stream", name, err)
			}
			return s, nil
		case !errors.Is(err, ErrStreamNotFound):
			return nil, wrapError("open stream", name, err)
		}
		s, err = db.createStream(ctx, name, options)
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
		return nil, wrapError("get stream", name, err)
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
		return wrapError("delete stream", name, err)
	}
	err = db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.w.deleted {
			return nil, ErrStreamNotFound
		}
		a.deleteStream(s, batch)
		return func() { db.removeStream(s) }, nil
	})
	return wrapError("delete stream", name, err)
}

func (db *DB) addStream(s *Stream) {
	db.appender.counts.shards.Add(int64(len(s.topology.Load().shards)))
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
	shards := s.topology.Load().shards
	for _, sh := range shards {
		sh.log.End()
	}
	db.appender.counts.shards.Add(-int64(len(shards)))
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
// what it added is durable. After an error the committer may still run it: then
// whatever op uses belongs to op. So none of it may be a named result, which a
// return changes. TestEveryCallEndsWithItsContextOnAStalledDisk holds that.
func (db *DB) control(ctx context.Context, op controlOp) error {
	return db.committer.Do(ctx, &commit.Request{Op: op, Essential: true})
}

// wait waits until ch is closed or has something, or ctx ends, or the database
// closes or fails. Every wait of a caller for something other than its own commit
// goes through it.
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

// newTurn returns a channel that holds the one token of a turn: [wait] takes it,
// and giveTurn puts it back.
func newTurn() chan struct{} {
	turn := make(chan struct{}, 1)
	giveTurn(turn)
	return turn
}

func giveTurn(turn chan struct{}) { turn <- struct{}{} }

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
		case <-db.store.Failed():
			return
		}
		timer.Reset(db.opts.SyncInterval)
		select {
		case <-timer.C:
		case <-db.closing:
			return // closing syncs
		case <-db.store.Failed():
			return
		}
		if err := db.store.Sync(); err != nil {
			return // the store has failed, and tells every caller
		}
	}
}

// Close finishes the writes that are on their way, ends all readers, and closes
// the files. All that was acknowledged is durable when it returns nil, in every
// mode. After a failure, or while the disk is full, it gives the directory up at
// once and returns an error that matches [ErrFailed], [ErrDiskFull] or
// [ErrOutOfResources]: then what was acknowledged is as durable as the mode
// promised. Everything after it is [ErrClosed], a second Close too.
//
// While the disk is stalled Close waits for it: see [DB.CloseContext].
func (db *DB) Close() error { return db.CloseContext(context.Background()) }

// CloseContext is [DB.Close] with a bound: if the database is not closed when ctx
// ends, as while an operation of the disk is held, it is given up as after a failed
// sync, and the error matches [ErrFailed] and the cause of ctx. What was acknowledged
// is as durable as the mode promised. The directory can be opened again once the
// held operation has returned, and is [ErrLocked] until then. What was given up
// stays in memory, and a process may give up only a few databases before Open
// refuses to make more.
func (db *DB) CloseContext(ctx context.Context) error {
	if db.closed.Swap(true) {
		return wrapError("close", "", kv.ErrClosed)
	}
	close(db.closing)
	db.changed.Raise()
	db.store.EndPauses()         // returning space may be waiting for one
	quiet := make(chan struct{}) // closed when nothing of ours uses the store
	if db.committer.Close(ctx) {
		go func() { // left behind with a store that is given up
			defer close(quiet)
			db.background.Wait()
			db.saveEnd()
		}()
	} else if ctx.Err() == nil {
		close(quiet) // the store is full or has failed, and will be given up
	}
	select {
	case <-quiet:
		return wrapError("close", "", db.store.CloseContext(ctx))
	case <-ctx.Done():
		return wrapError("close", "", db.store.GiveUp(ctx))
	}
}

// saveEnd stores the exact last counter, so that the next open need not jump ahead
// to the end of a lease, and where the shards end, so that it need not rely on
// their last records. The committer has ended: its state is ours.
//
// It waits a while only. If the disk is full or gives no answer then Close of the
// store has something to say about that.
func (db *DB) saveEnd() {
	if db.opts.ReadOnly {
		return
	}
	batch := db.store.NewBatch()
	if !db.appender.finish(batch) {
		batch.Close()
		return
	}
	done := make(chan struct{})
	go func() { // which ends before the store is closed, or is left behind with it
		defer close(done)
		_ = batch.Commit(true) // a failure latches the store, whose Close reports it
		batch.Close()
	}()
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	case <-db.store.Failed():
	}
}
