// Package salvage makes a new database of everything that can be read of a damaged one. [Look]
// finds out what is missing without making one.
//
// It knows all rows and how they depend on each other. It gets them from package wreck, which
// reads Pebble's files without Pebble. It does not know the API: the root package calls it,
// and makes sequence numbers of its counters.
//
// It works in three passes, so that memory is bounded by what an open needs anyway:
//
//  1. The newest versions of the rows about streams are gathered. Leases and the keys of
//     applications, of which there may be any number, are sorted in a scratch store.
//  2. Blocks of records are copied unchanged, even encrypted ones: their checksums bind them
//     to their keys, so nothing else need prove what they are and where they belong. Blocks
//     below a horizon and of deleted streams are left out.
//  3. The blocks are walked in order. Their ordinals show where records are missing; there a
//     block is inserted that says so. The rows of extents are replaced.
//
// Invariant: the blocks of a shard in the new database have dense ordinals from its horizon
// to its tip, if an inserted block counts for its lost records. So readers notice every gap.
//
// Run and Look share a survey, which makes these passes and writes nothing itself: a salvager
// writes the rows that it passes on, and Look keeps the places of the blocks in memory.
package salvage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// Config says what to do.
type Config struct {
	FS   kv.FS // nil: the real one
	From string

	// These are for Run.
	To            string
	Logger        *slog.Logger
	MemTableBytes int64
	CacheBytes    int64

	// MaxBytes and MaxMemory bound how many bytes Look may read, and keep in memory.
	MaxBytes, MaxMemory int64

	// Now is a counter that is not below any that was given out, as far as the clock is right.
	Now uint64

	// Stream replaces the lost row of a stream, except for its name and times.
	Stream layout.StreamRow

	// Progress, if not nil, is called with the number of bytes that Run has read, and the total.
	Progress func(done, total int64)
}

// Report says what was saved and what is lost.
type Report struct {
	Records, Bytes, Keys, Leases, Queues uint64 // how many were saved

	Losses   []Loss
	LostKeys []KeyRange // of the application, without braid's prefix
	Files    []wreck.Place
	Rows     []string // notes on lost rows, and on their replacements

	// Whole reports whether the database had been closed, and the row with that mark was
	// read: no newer record existed.
	Whole bool

	// OtherID reports whether the id of the database is lost.
	OtherID bool

	target *kv.Target
}

// Discard removes the new database, for a caller that no longer waits.
func (r *Report) Discard() error { return r.target.Discard() }

// Loss is a range of lost records of a shard.
type Loss struct {
	Stream         string // empty if its name is lost, and Look says so
	Shard          uint32
	CreatedSeconds uint64
	First, Next    uint64 // the lost records have counters from First on, below Next
	Records        uint64 // at least
	Counted        bool   // Records is exact
	streamNumber   uint32
	ordinal, end   uint64 // ordinals: of the first, and after the last
}

// KeyRange is a range in which keys may be lost, or have an earlier value: above After, up to
// and including Through. nil means no bound.
type KeyRange struct{ After, Through []byte }

// commitBytes is how much is committed to the new database at once.
const commitBytes = 4 << 20

// Run salvages a database. It changes nothing in Config.From.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	src, err := kv.OpenSource(cfg.FS, cfg.From)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if src.Owns(cfg.To) {
		return nil, fmt.Errorf("%w: %q", kv.ErrOwnDirectory, cfg.To)
	}
	damaged, err := src.Compare(ctx)
	if err != nil {
		return nil, err
	}
	s := &salvager{}
	if s.survey, err = newSurvey(ctx, cfg, src, damaged); err != nil {
		return nil, err
	}
	s.noteUncompared(damaged)
	s.target, err = kv.NewTarget(kv.Config{
		Dir:           cfg.To,
		FS:            cfg.FS,
		ID:            src.ID,
		Logger:        cfg.Logger,
		CacheBytes:    cfg.CacheBytes,
		MemTableBytes: cfg.MemTableBytes,
		TableBoundary: layout.TableBoundary,
	})
	if err != nil {
		return nil, err
	}
	err = s.run()
	if err == nil {
		err = s.target.Finish(ctx)
	}
	if err != nil {
		return nil, cmp.Or(err, s.target.Discard())
	}
	s.report.target = s.target
	return s.report, nil
}

// salvager is one call of Run.
type salvager struct {
	*survey
	target *kv.Target
}

func (s *salvager) run() error {
	s.total = 2 * s.wreck.Bytes()
	steps := []func() error{s.begin, s.sortRows, s.restoreState, s.copyRecords, s.copyKeys, s.walkRecords, s.writeState}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	s.describe()
	return nil
}

// noteUncompared notes which ledgers could not be read, so that files were not compared.
func (s *salvager) noteUncompared(damaged []*kv.FileDamageError) {
	for _, d := range damaged {
		if path.Dir(d.File) != "." {
			continue // a file of the store
		}
		s.report.Files = append(s.report.Files, wreck.Place{File: d.File, Err: d})
		s.note("files of another database, and truncated files, cannot be recognized: %v", d)
	}
}

// sortRows is the first pass.
func (s *salvager) sortRows() error {
	scratch := newScratchWriter(s)
	defer scratch.close()
	if err := s.readRows(scratch.keep); err != nil {
		return err
	}
	return scratch.flush()
}

// copyRecords is the second pass: it copies the blocks of living records.
func (s *salvager) copyRecords() error {
	out := newWriter(s)
	defer out.close()
	err := s.readBlocks(&blockReader{survey: s.survey, take: func(c wreck.Change, _ *layout.Block) error { return out.set(c.Key, c.Value) }})
	if err != nil {
		return err
	}
	return out.flush()
}

// walkRecords is the third pass.
func (s *salvager) walkRecords() error {
	lower, upper := layout.RecordSpan()
	it, err := s.target.Store.NewIter(lower, upper)
	if err != nil {
		return err
	}
	defer it.Close() // Close returns the error of the last move, which was checked
	out := newWriter(s)
	defer out.close()
	if err := s.walk(&storedBlocks{it: it}, out, nil); err != nil {
		return err
	}
	return out.flush()
}

// storedBlocks are the blocks of the new database.
type storedBlocks struct {
	it    *kv.Iter
	begun bool
}

// next implements blocks.
func (b *storedBlocks) next() (f foundBlock, ok bool, err error) {
	if b.begun {
		ok = b.it.Next()
	} else {
		ok, b.begun = b.it.First(), true
	}
	if !ok {
		return f, false, b.it.Error()
	}
	block, err := layout.DecodeBlock(b.it.Key(), b.it.Value())
	if err != nil {
		return f, false, err // cannot happen: the block was verified before it was written
	}
	place, err := layout.DecodeBlockKey(b.it.Key())
	return newFoundBlock(place, &block), err == nil, err
}
