// Package salvage makes a database of all that can be read of a damaged one, or says what
// is missing there without making one: see [Look].
//
// It knows what rows there are and what ties them together, and takes them from package
// wreck, which reads Pebble's files without Pebble. It does not know the API: the root
// package calls it, and makes sequence numbers of its counters.
//
// It works in three passes, so that memory is bounded by what an open needs anyway:
//
//  1. The rows about streams are gathered, the newest of each; leases and the keys of
//     applications, of which there may be any number, are sorted in a scratch store.
//  2. Blocks of records are copied as they are, sealed ones too: their checksums are
//     bound to their keys, so they need no other proof of what they are and where they
//     belong. What lies below a horizon, or belongs to a deleted stream, stays behind.
//  3. The blocks are walked in order. Their ordinals tell what is missing; a block that
//     says so is put there. The rows of extents are made anew.
//
// Invariant: what the new database holds of a shard has dense ordinals, from its horizon
// to its tip, where a block that is lost counts for its records. So its readers pass no
// hole unnoticed.
//
// Both share a survey, which makes these passes and writes nothing: a salvager writes
// what it gives out, and Look keeps in memory where the blocks stand.
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

	// MaxBytes and MaxMemory are how much Look may read, and keep in memory.
	MaxBytes, MaxMemory int64

	// Now is a counter that is not below any that was given out, as far as a clock can
	// tell.
	Now uint64

	// Stream is the row of a stream whose own is lost, but for its name and times.
	Stream layout.StreamRow

	// Progress, if it is not nil, is told how many bytes of how many Run has read.
	Progress func(done, total int64)
}

// Report says what was saved and what was not.
type Report struct {
	Records, Bytes, Keys, Leases, Queues uint64 // that were saved

	Losses   []Loss
	LostKeys []KeyRange // of the application, without what braid puts in front
	Files    []wreck.Place
	Rows     []string // what was lost of rows, and what was made in their place

	// Whole reports that the database had been closed, and that the row that says so
	// was read: nothing was put after what was found.
	Whole bool

	// OtherID reports that the id of the database is lost.
	OtherID bool

	target *kv.Target
}

// Discard removes the database that the report is of, for a caller that has given up.
func (r *Report) Discard() error { return r.target.Discard() }

// Loss is a stretch of a shard that is lost.
type Loss struct {
	Stream         string // empty if its name is lost, and Look says so
	Shard          uint32
	CreatedSeconds uint64
	First, Next    uint64 // counters: of the lost ones at least First, and below Next
	Records        uint64 // at least
	Counted        bool   // Records is exact
	streamNumber   uint32
	ordinal, end   uint64 // ordinals: of the first, and behind the last
}

// KeyRange is where keys may be lost, or have an earlier value: above After, and not
// above Through. Nil is no bound.
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

// noteUncompared notes which ledgers could not be read, with which files were to be compared.
func (s *salvager) noteUncompared(damaged []*kv.FileDamageError) {
	for _, d := range damaged {
		if path.Dir(d.File) != "." {
			continue // a file of the store
		}
		s.report.Files = append(s.report.Files, wreck.Place{File: d.File, Err: d})
		s.note("files cannot be told from those of another database, and cut ones from whole ones: %v", d)
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

// copyRecords is the second pass: it copies the blocks of records that live.
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
	defer it.Close() // its error is that of the last move
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
		return f, false, err // it was checked when it was written
	}
	place, err := layout.DecodeBlockKey(b.it.Key())
	return newFoundBlock(place, &block), err == nil, err
}
