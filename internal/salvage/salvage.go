// Package salvage makes a database of all that can be read of a damaged one.
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
package salvage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/google/uuid"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// Config says what to do.
type Config struct {
	FS            kv.FS // nil: the real one
	From, To      string
	Logger        *slog.Logger
	MemTableBytes int64
	CacheBytes    int64

	// Now is a counter that is not below any that was given out, as far as a clock can
	// tell.
	Now uint64

	// Stream is the row of a stream whose own is lost, but for its name and times.
	Stream layout.StreamRow

	// Progress, if it is not nil, is told how many bytes of how many are read.
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
	Stream                 string
	Shard                  uint32
	CreatedSeconds         uint64
	First, Next            uint64 // counters: of the lost ones at least First, and below Next
	Records                uint64 // at least
	Counted                bool   // Records is exact
	streamNumber, position uint64
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
	w, err := wreck.Open(src.FS, src.Store, src.Durable)
	if err != nil {
		return nil, err
	}
	target, err := kv.NewTarget(kv.Config{
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
	s := &salvager{
		cfg:    cfg,
		ctx:    ctx,
		wreck:  w,
		target: target,
		report: Report{OtherID: src.ID == uuid.Nil},
		places: make(map[placeKey]bool),
		rows:   make(map[string]version),
		gone:   make(map[string]bool),
	}
	if src.Err != nil {
		s.report.Files = append(s.report.Files, wreck.Place{File: "BRAID", Err: src.Err})
	}
	err = s.run()
	if err == nil {
		err = target.Finish(ctx)
	}
	if err != nil {
		return nil, cmp.Or(err, target.Discard())
	}
	s.report.target = target
	return &s.report, nil
}

// salvager is one call of Run.
type salvager struct {
	cfg    Config
	ctx    context.Context
	wreck  *wreck.Wreck
	target *kv.Target
	report Report

	rows   map[string]version // the newest of each row about streams
	gone   map[string]bool    // rows that were deleted and cannot come back
	ranges []wreck.Deletion   // of rows about streams
	places map[placeKey]bool  // that the report has
	torn   uint64             // the highest number that changes which a log has lost exceed
	isTorn bool               // a log has lost changes
	ended  bool               // the last log ends as its writer ends one
	noLog  bool               // the last log is missing
	lost   []KeyRange         // all keys that a table has lost

	clock   layout.ClockRow
	streams map[uint32]*stream
	orphans map[orphan]uint64 // blocks of shards that nothing is known of
	last    uint64            // the highest counter that anything speaks of
	epochs  map[uint32]layout.EpochRow
	queues  map[layout.QueueID]*queue
	leftOut map[layout.QueueID]bool // queues whose rows are left out, which has been noted

	done, total int64
}

type placeKey struct {
	file   string
	offset int64
}

// version is a row as it was at a time.
type version struct {
	seq     uint64
	deleted bool
	value   []byte
}

func (s *salvager) run() error {
	s.total = 2 * s.wreck.Bytes()
	for _, unread := range s.wreck.Unread {
		if isPassing(unread.Err) {
			return kv.Classify(unread.Err)
		}
		s.report.Files = append(s.report.Files, unread)
	}
	for _, missing := range s.wreck.Missing {
		s.noLog = s.noLog || isLog(missing.File)
		if err := s.Lost(missing); err != nil {
			return err
		}
	}
	steps := []func() error{s.survey, s.restoreState, s.copyRecords, s.copyKeys, s.walk, s.writeState}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	s.describe()
	return nil
}

// advance tells how far the reading has come.
func (s *salvager) advance(bytes int64) {
	s.done += bytes
	if s.cfg.Progress != nil {
		s.cfg.Progress(s.done, s.total)
	}
}

// Lost is part of wreck.Visitor.
func (s *salvager) Lost(p wreck.Place) error {
	if s.places[placeKey{p.File, p.Offset}] {
		return nil
	}
	if isPassing(p.Err) {
		return kv.Classify(p.Err)
	}
	s.places[placeKey{p.File, p.Offset}] = true
	s.report.Files = append(s.report.Files, p)
	if p.After == nil && len(p.Through) > 0 {
		p.After = layout.TableStart(p.Through)
	}
	if p.Through == nil && p.After != nil {
		p.Through = layout.TableBoundary(p.After) // which no table crosses
	}
	switch {
	case p.Through != nil && len(p.Through) == 0: // no row
	case p.After != nil || len(p.Through) > 0:
		s.lost = append(s.lost, KeyRange{p.After, p.Through})
	case isLog(p.File):
		s.torn, s.isTorn = max(s.torn, p.Seq), true
	case p.Through == nil:
		s.lost = append(s.lost, KeyRange{})
	}
	return nil
}

func isLog(name string) bool { return len(name) > 4 && name[len(name)-4:] == ".log" }

// isPassing reports whether an error of reading is one of this process or its machine
// and not of the file: what it hides must not be taken for lost.
func isPassing(err error) bool {
	return errors.Is(kv.Classify(err), kv.ErrOutOfResources) || errors.Is(err, fs.ErrPermission)
}

// lostIn reports whether a table has lost keys above after and up to through.
func (s *salvager) lostIn(after, through []byte) bool {
	return slices.ContainsFunc(s.lost, func(r KeyRange) bool { return r.overlaps(after, through) })
}

// overlaps reports whether the range has keys above after and below through.
func (r KeyRange) overlaps(after, through []byte) bool {
	return (r.Through == nil || bytes.Compare(r.Through, after) > 0) && (r.After == nil || bytes.Compare(r.After, through) < 0)
}

func (s *salvager) note(format string, args ...any) {
	s.report.Rows = append(s.report.Rows, fmt.Sprintf(format, args...))
}
