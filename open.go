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

// Open opens the database in a directory, which is created if it does not exist;
// [InMemory] makes one in memory. Close it when done.
//
// With [Options].ReadOnly it opens one that exists, and changes nothing.
//
// Errors: [ErrInvalidArgument] for the options, for the empty name, and for a
// directory that holds something else, such as an unfinished backup, or, with ReadOnly,
// no database; [ErrLocked]; [ErrFormatTooNew]; [ErrFormatTooOld]; [ErrCorrupt] and
// [ErrDataLoss] if rows about streams are damaged or, as a [FileDamageError], if the log or
// the manifest is damaged or a file is missing, while a damaged record is its readers'
// matter: see [Options].AcceptLoss; [ErrDiskFull]; [ErrOutOfResources]; [ErrFailed]. Any
// other error is the file system's, such as fs.ErrPermission. A refused open has
// changed nothing; only one with AcceptLoss may have replaced files before it came to one
// that it can do nothing about, and says so.
//
// A [FileDamageError] says which records are missing, which would be given up with
// AcceptLoss, and what can be done.
func Open(dir string, options *Options) (*DB, error) {
	return open(dir, options, environment{})
}

// environment is what tests replace.
type environment struct {
	fs    kv.FS            // nil: the operating system's
	clock func() time.Time // nil: time.Now

	// instant is set if fs never waits. There is no disk that a commit could wait
	// for, so callers run commits themselves.
	instant bool

	// noLedger keeps no ledger of durable files, to measure what it costs.
	noLedger bool

	// tableBlock is the size of a block of a table in bytes, 0 for that of kv.
	tableBlock int

	// unnamed is set if dir has a backup in the making, to be read.
	unnamed bool

	// byHand starts no worker: the test calls what they would.
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
		_ = db.store.Close() // the first error tells more
		return nil, wrapError("open", dir, err)
	}
	db.start(dir == InMemory || env.instant, env.byHand)
	return db, nil
}

// validateDir checks the name of a directory, and not what is there.
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

// start begins to take requests, and starts the goroutines. Close stops them and
// waits. Both arguments are as in environment.
func (db *DB) start(instant, byHand bool) {
	db.mu.Lock()
	db.committer = commit.New(db.store, db.appender, inlineCommits(instant, db.opts.Durability))
	db.mu.Unlock()
	db.background.Go(func() { // a failure reaches all who wait by way of db.life
		select {
		case <-db.store.Failed():
			db.end(db.store.Err())
		case <-db.life.Done():
		}
	})
	if db.opts.ReadOnly {
		return // the committer refuses every request, and there is nothing else to be done
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
		db.reclaiming.Ring()
		db.trimming.Ring()
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
	db.end(ErrClosed)
	db.changed.Raise()
	db.onStream.noteAll()
	db.readers.end()
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
// to the end of what was reserved, and where the shards end, so that it need not rely on
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
