package braid

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wake"
)

// Open opens the database in a directory, which is created if it does not exist.
// [InMemory] creates one in memory. Close it when done.
//
// With [Options].ReadOnly it opens an existing database and changes nothing.
//
// Errors:
//
//   - [ErrInvalidArgument] for the options, for an empty name, and for a directory that
//     holds something else, such as an unfinished backup, or, with ReadOnly, no database;
//   - [ErrLocked], [ErrFormatTooNew], [ErrFormatTooOld];
//   - [ErrCorrupt] and [ErrDataLoss] if rows about streams are damaged;
//   - [FileDamageError], which is one of these two, if the log or the manifest is damaged or
//     a file is missing. It says which records are missing, which ones AcceptLoss would give
//     up, and what can be done. A damaged record alone does not prevent an open;
//   - [ErrDiskFull], [ErrOutOfResources], [ErrFailed];
//   - any other error is the file system's, such as fs.ErrPermission.
//
// If Open fails, it has changed nothing. The exception is [Options].AcceptLoss: Open may then have
// replaced files before it found damage that it cannot handle. Its error says so.
func Open(dir string, options *Options) (*DB, error) {
	return open(dir, options, environment{})
}

// environment is the part of a database's surroundings that tests replace.
type environment struct {
	fs    kv.FS            // nil: the operating system's
	clock func() time.Time // nil: time.Now

	// instant is set if fs never blocks: a commit then waits for no disk, so callers run
	// commits themselves.
	instant bool

	// noLedger turns the ledger of durable files off, to measure its cost.
	noLedger bool

	// tableBlock is the size of a block of a table in bytes, 0 for that of kv.
	tableBlock int

	// unnamed is set to read a backup that is not finished.
	unnamed bool

	// byHand starts no background workers; the test runs their steps itself.
	byHand bool
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
	if opts.AcceptLoss && (opts.ReadOnly || dir == InMemory) {
		err := &InvalidArgumentError{"AcceptLoss", true, "must be false with ReadOnly and for a database in memory"}
		return nil, wrapError("open", dir, err)
	}
	if dir != InMemory {
		if err := opts.fit(options, kv.DiskBytes(env.fs, dir)); err != nil {
			return nil, wrapError("open", dir, err)
		}
	}
	db := &DB{
		opts:       opts,
		otherWall:  env.clock,
		pages:      usualPages,
		streams:    make(map[string]*Stream),
		turn:       newTurn(),
		reclaiming: wake.NewBell(),
		trimming:   wake.NewBell(),
		scaling:    wake.NewBell(),
		syncing:    wake.NewBell(),
	}
	db.life, db.end = context.WithCancelCause(context.Background())
	db.times.measure(dir, opts.Durability)
	db.requests.New = func() any { return &putRequest{dice: dice(rand.Uint32())} }
	if err := db.openStore(dir, env); err != nil {
		return nil, wrapError("open", dir, db.findMissing(err, dir, env))
	}
	if err := db.load(); err != nil {
		_ = db.store.Close() // the first error is the one that matters
		return nil, wrapError("open", dir, err)
	}
	db.start(dir == InMemory || env.instant, env.byHand)
	return db, nil
}

// validateDir checks the name of a directory, not its contents.
func validateDir(dir string) error {
	if dir == "" || strings.ContainsRune(dir, 0) {
		return &InvalidArgumentError{"dir", fmt.Sprintf("%.300q", dir), "must name a directory, such as \".\", without NUL characters"}
	}
	return nil
}

func (db *DB) openStore(dir string, env environment) (err error) {
	db.store, err = kv.Open(kv.Config{
		Dir:             dir,
		InMemory:        dir == InMemory,
		ReadOnly:        db.opts.ReadOnly,
		AcceptLoss:      db.opts.AcceptLoss,
		NoLedger:        env.noLedger,
		Unnamed:         env.unnamed,
		FS:              env.fs,
		Logger:          db.opts.Logger,
		CacheBytes:      max(0, db.opts.CacheBytes),
		MemTableBytes:   db.opts.MemtableBytes,
		TableBlockBytes: env.tableBlock,
		ReserveBytes:    max(0, db.opts.ReserveBytes),
		TableBoundary:   layout.TableBoundary,
		OnFull:          func(bool) { db.noteFull() },
		Init:            initStore,
		Verify:          db.verifyStore,
	})
	return err
}

// inlineCommits returns which callers run commits by themselves.
func inlineCommits(instant bool, mode Durability) commit.Inline {
	switch {
	case instant:
		return commit.AlwaysInline
	case mode == Sync:
		return commit.NeverInline
	default:
		return commit.PromptInline
	}
}

// start begins to accept requests and starts the goroutines. Close stops the goroutines and
// waits for them. For the arguments see environment.
func (db *DB) start(instant, byHand bool) {
	db.mu.Lock()
	db.committer = commit.New(db.store, db.appender, inlineCommits(instant, db.opts.Durability))
	db.mu.Unlock()
	db.background.Go(func() { // a failure ends db.life, and so every call that waits
		select {
		case <-db.store.Failed():
			db.end(db.store.Err())
		case <-db.life.Done():
		}
	})
	if db.opts.ReadOnly {
		return // the committer refuses every request, and no worker has anything to do
	}
	db.noteFull()
	if byHand {
		return
	}
	db.work(db.reclaiming, &reclaimer{db: db, damaged: make(map[uint32]bool)})
	db.work(db.trimming, &trimmer{db: db})
	db.work(db.scaling, &scaler{db: db, watched: make(map[*Stream]int64)})
	if db.opts.Durability == Interval {
		db.work(db.syncing, &syncer{db: db})
	}
	db.reclaiming.Ring() // a crash may have left something
	db.trimming.Ring()
}

// noteFull passes on to the committer whether the disk is full. The store calls it during file
// operations after each change, perhaps before there is a committer. It reads the state under
// the mutex, so that of two concurrent calls the later one decides.
func (db *DB) noteFull() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.committer == nil {
		return
	}
	full := db.store.Full()
	db.committer.SetFull(full)
	if !full { // retry what failed for lack of space
		db.reclaiming.Ring()
		db.trimming.Ring()
	}
}

// Close finishes the writes in progress, ends all readers, and closes the files. When it returns
// nil, everything that was acknowledged is durable, in every mode. After a failure, or while the
// disk is full, it releases the directory at once and returns an error that matches [ErrFailed],
// [ErrDiskFull] or [ErrOutOfResources]; acknowledged writes are then as durable as the mode
// promises. Every later call returns [ErrClosed], even a second Close.
//
// While the disk is stalled, Close waits for it: see [DB.CloseContext].
func (db *DB) Close() error { return db.CloseContext(context.Background()) }

// CloseContext is [DB.Close] with a bound. If the database is not closed when ctx ends, for
// example because the disk holds an operation, the database is abandoned as after a failed
// sync, and the error matches [ErrFailed] and the cause of ctx. Acknowledged writes are then
// as durable as the mode promises. Opening the directory returns [ErrLocked] until the held
// operation has returned. An abandoned database stays in memory, and a process may abandon at
// most eight before Open refuses to open more.
func (db *DB) CloseContext(ctx context.Context) error {
	if db.closed.Swap(true) {
		return wrapError("close", "", kv.ErrClosed)
	}
	db.end(ErrClosed)
	db.changed.Raise()
	db.onStream.noteAll()
	db.readers.end()
	db.store.EndPauses()         // the reclaimer may be waiting in one
	quiet := make(chan struct{}) // closed when no goroutine uses the store
	if db.committer.Close(ctx) {
		go func() { // abandoned with the store if ctx ends
			defer close(quiet)
			db.background.Wait()
			db.saveEnd()
		}()
	} else if ctx.Err() == nil {
		close(quiet) // the store is full or has failed, and its Close abandons it
	}
	select {
	case <-quiet:
		return wrapError("close", "", db.store.CloseContext(ctx))
	case <-ctx.Done():
		return wrapError("close", "", db.store.GiveUp(ctx))
	}
}

// saveEnd stores the exact last counter, so that the next open need not skip to the end of the
// reserved counters. It also stores the ends of the shards, so that the open need not read
// their last records. The committer has ended, so its state may be used here.
//
// It waits one second at most. If the disk is full or does not answer, the Close of the store
// reports it.
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
	go func() { // ends before the store is closed, or is abandoned with it
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
