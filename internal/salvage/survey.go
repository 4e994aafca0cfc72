package salvage

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// survey reads a damaged database. It writes nothing: it passes its findings to a sink, or to
// functions.
type survey struct {
	cfg    Config
	ctx    context.Context
	wreck  *wreck.Wreck
	report *Report
	budget *budget // Look's; nil means no bound

	// broken are the files that differ from the ledgers, by their names.
	broken map[string]*kv.FileDamageError

	// moved are tables of the database under the names of others, by the names that they
	// should have. So their own contents are not lost.
	moved map[string]string

	// outdated are tables that were replaced by an obsolete one. Only its blocks of records
	// are used.
	outdated map[string]bool

	rows   map[string]version // the newest version of each row about streams
	gone   map[string]bool    // rows that were deleted for good
	ranges []wreck.Deletion   // deleted ranges of rows about streams
	places map[placeKey]bool  // the places in the report
	logged uint64             // the number of the last change in the logs read so far
	torn   uint64             // changes that a log has lost have numbers above this one
	isTorn bool               // whether a log has lost changes
	ended  bool               // whether the last log has the end mark of its writer
	noLog  bool               // whether the last log is missing

	// foreign is set if the former contents of a log are unknown, so that any shard may have
	// lost its last records. Only Look sets it.
	foreign bool

	lost []KeyRange // the ranges of keys that tables have lost

	clock   layout.ClockRow
	streams map[uint32]*stream
	orphans map[orphan]uint64 // numbers of blocks of shards without rows
	last    uint64            // the highest counter found anywhere
	epochs  map[uint32]layout.EpochRow
	queues  map[layout.QueueID]*queue
	leftOut map[layout.QueueID]bool // queues that are left out, with a note

	done, total int64
}

type placeKey struct {
	file   string
	offset int64
}

// version is one version of a row.
type version struct {
	seq     uint64
	deleted bool
	stored  bool // whether it is in a table, and so is everything written before it
	value   []byte
}

// sink takes the rows that a survey passes on.
type sink interface {
	set(key, value []byte) error
	remove(place layout.BlockKey)
}

// newSurvey begins a survey of a database. damaged has the damaged files that are known.
func newSurvey(ctx context.Context, cfg Config, src *kv.Source, damaged []*kv.FileDamageError) (*survey, error) {
	s := &survey{
		cfg:      cfg,
		ctx:      ctx,
		report:   &Report{OtherID: src.ID == uuid.Nil},
		broken:   make(map[string]*kv.FileDamageError, len(damaged)),
		moved:    make(map[string]string),
		outdated: make(map[string]bool),
		places:   make(map[placeKey]bool),
		rows:     make(map[string]version),
		gone:     make(map[string]bool),
	}
	for _, d := range damaged {
		s.broken[path.Base(d.File)] = d
	}
	if src.Err != nil {
		s.report.Files = append(s.report.Files, wreck.Place{File: "BRAID", Err: src.Err})
	}
	if err := s.openWreck(src); err != nil {
		return nil, err
	}
	s.findMoved()
	return s, nil
}

// openWreck lists the files of this database. It leaves out a log or manifest that was longer
// once and is now too short to be distinguished from a foreign one: little of it is left, and
// foreign rows would falsify all streams. It also leaves out an obsolete file that no ledger
// lists: its origin is unknown, and it is needed only if another file is damaged.
func (s *survey) openWreck(src *kv.Source) (err error) {
	foreign := make(map[string]error)
	for name, d := range s.broken {
		var tooShort bool
		switch {
		case d.Damage != kv.FileShort && d.Damage != kv.FileChanged:
		case isLog(name): // an error of the disk is told where the log is read
			tooShort, err = wreck.IsShort(src.FS, src.FS.PathJoin(src.Store, name), min(d.Want, layout.LedgerHeadBytes))
			tooShort = tooShort && err == nil
		case strings.HasPrefix(name, "MANIFEST-"):
			tooShort = d.Damage == kv.FileShort && 0 < d.Size && d.Size < layout.LedgerHeadBytes
		}
		if d.Damage == kv.FileForeign && d.Is == "" || tooShort {
			foreign[name] = d
		}
	}
	known := wreck.Known{Durable: src.Durable, Manifest: src.Manifest, Foreign: foreign}
	if s.wreck, err = wreck.Open(src.FS, src.Store, known); err != nil {
		return err
	}
	found := len(foreign)
	for _, f := range s.wreck.Tables { // the manifest has the sizes of tables that are too new for the ledger
		if s.broken[f.Name] == nil && !f.Stale && f.Written != 0 && f.Size != f.Written && src.IsTable(f.Name) {
			foreign[f.Name] = &kv.FileDamageError{File: path.Base(src.Store) + "/" + f.Name, Damage: kv.FileForeign, Offset: -1, Size: f.Size, Want: f.Written}
		}
	}
	if len(foreign) > found {
		if s.wreck, err = wreck.Open(src.FS, src.Store, known); err != nil {
			return err
		}
	}
	unknown := func(f wreck.File) bool { return f.Stale && !src.Lists(f.Name) }
	s.wreck.Tables = slices.DeleteFunc(s.wreck.Tables, unknown)
	s.wreck.Logs = slices.DeleteFunc(s.wreck.Logs, unknown)
	return nil
}

// findMoved finds out which tables are under the names of others.
func (s *survey) findMoved() {
	live := make(map[string]bool)
	for _, f := range s.wreck.Tables {
		live[f.Name] = !f.Stale
	}
	for _, p := range s.wreck.Missing {
		live[p.File] = true
	}
	for _, f := range s.wreck.Tables {
		if d := s.broken[f.Name]; d != nil && d.Is != "" && !f.Stale {
			is := path.Base(d.Is)
			s.moved[is] = f.Name
			s.outdated[f.Name] = !live[is]
		}
	}
}

// begin notes the losses that the list of files shows.
func (s *survey) begin() error {
	for _, unread := range s.wreck.Unread {
		if kv.IsPassing(unread.Err) {
			return kv.Classify(unread.Err)
		}
		s.report.Files = append(s.report.Files, unread)
	}
	for _, missing := range s.wreck.Missing {
		if isLog(missing.File) {
			s.noLog = true // readLogs knows what came before it
			continue
		}
		if err := s.loseTable(missing); err != nil {
			return err
		}
	}
	for _, f := range s.wreck.Tables {
		if d := s.broken[f.Name]; d != nil && d.Is != "" && !f.Stale {
			if err := s.loseTable(wreck.Place{File: f.Name, Offset: -1, After: f.After, Through: f.Through, Err: d}); err != nil {
				return err
			}
		}
	}
	for name, d := range s.broken {
		if d.Damage == kv.FileOld { // the manifest of the ledger is read instead
			s.report.Files = append(s.report.Files, wreck.Place{File: name, Offset: -1, Err: d})
		}
	}
	return nil
}

// loseTable notes the contents of a missing or replaced table as lost, unless the table was
// found under another name.
func (s *survey) loseTable(p wreck.Place) error {
	if s.moved[p.File] != "" {
		s.report.Files = append(s.report.Files, p)
		return nil
	}
	return s.Lost(p)
}

// advance reports progress.
func (s *survey) advance(bytes int64) {
	s.done += bytes
	if s.cfg.Progress != nil {
		s.cfg.Progress(s.done, s.total)
	}
}

// Lost implements wreck.Visitor.
func (s *survey) Lost(p wreck.Place) error {
	if s.places[placeKey{p.File, p.Offset}] {
		return nil
	}
	if kv.IsPassing(p.Err) {
		return kv.Classify(p.Err)
	}
	s.places[placeKey{p.File, p.Offset}] = true
	s.report.Files = append(s.report.Files, p)
	if p.After == nil && len(p.Through) > 0 {
		p.After = layout.TableStart(p.Through)
	}
	if p.Through == nil && p.After != nil {
		p.Through = layout.TableBoundary(p.After) // no table crosses that border
	}
	switch {
	case p.Through != nil && len(p.Through) == 0: // no row
	case p.After != nil || len(p.Through) > 0:
		s.lost = append(s.lost, KeyRange{p.After, p.Through})
	case isLog(p.File):
		s.torn, s.isTorn = max(s.torn, s.logged, p.Seq), true // its changes came after those of the logs before
	case p.Through == nil:
		s.lost = append(s.lost, KeyRange{})
	}
	return nil
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// lostIn reports whether a table has lost keys above after and up to through.
func (s *survey) lostIn(after, through []byte) bool {
	return slices.ContainsFunc(s.lost, func(r KeyRange) bool { return r.overlaps(after, through) })
}

// overlaps reports whether the range has keys above after and below through.
func (r KeyRange) overlaps(after, through []byte) bool {
	return (r.Through == nil || bytes.Compare(r.Through, after) > 0) && (r.After == nil || bytes.Compare(r.After, through) < 0)
}

func (s *survey) note(format string, args ...any) {
	s.report.Rows = append(s.report.Rows, fmt.Sprintf(format, args...))
}

// readRows is the first pass. It gathers the rows about streams, and passes all other rows,
// except records, to keep. It leaves out obsolete files: by their numbers, rows there could
// look newer than the current ones, since a table that was merged with all older ones drops
// the numbers.
func (s *survey) readRows(keep func(wreck.Change) error) error {
	v := &sorter{survey: s, keep: keep}
	for _, f := range s.wreck.Tables {
		if !f.Stale && !s.outdated[f.Name] {
			if err := s.readTable(f, v); err != nil {
				return err
			}
		}
		s.advance(f.Size)
	}
	return s.readLogs(v)
}

// readLogs reads the logs. A log is begun only after the one before was ended properly, or its
// contents were in tables. So a log without an end mark, before one with contents, has lost
// its last changes, unless it is unknown which logs are stale.
func (s *survey) readLogs(v *sorter) error {
	v.stored = false
	var missing []wreck.Place
	for _, p := range s.wreck.Missing {
		if isLog(p.File) {
			missing = append(missing, p)
		}
	}
	skip := func(before string) error {
		for len(missing) > 0 && (before == "" || numberOf(missing[0].File) < numberOf(before)) {
			if err := s.Lost(missing[0]); err != nil {
				return err
			}
			missing = missing[1:]
		}
		return nil
	}
	var open *wreck.Place // the place after the contents of the previous log, if that has no end mark
	for _, f := range s.wreck.Logs {
		if err := skip(f.Name); err != nil {
			return err
		}
		if !f.Stale {
			if err := s.budget.read(f.Size); err != nil {
				return err
			}
			end, err := s.wreck.ReadLog(s.ctx, f, v)
			if err != nil {
				return err
			}
			if f.Size < f.Durable {
				err := fmt.Errorf("%w: the log ends at byte %d, where %d were durable", wreck.ErrDamaged, f.Size, f.Durable)
				if err := s.Lost(wreck.Place{File: f.Name, Offset: f.Size, Seq: end.Last, Err: err}); err != nil {
					return err
				}
			}
			if open != nil && end.Last > 0 && len(s.wreck.Unread) == 0 {
				if err := s.Lost(*open); err != nil {
					return err
				}
			}
			if open, s.ended = nil, end.Closed; !end.Closed {
				open = &wreck.Place{
					File: f.Name, Offset: f.Size, Seq: end.Last,
					Err: fmt.Errorf("%w: the log has no end mark, although there is a later log", wreck.ErrDamaged),
				}
			}
			s.logged = max(s.logged, end.Last)
		}
		s.advance(f.Size)
	}
	return skip("")
}

// looks reports whether the survey is Look's.
func (s *survey) looks() bool { return s.budget != nil }

// isTrusted reports whether the manifest suffices for a table, so that it need not be read.
func (s *survey) isTrusted(f wreck.File) bool { return s.looks() && f.Through != nil && s.isWhole(f) }

// isWhole reports whether a table is undamaged, as far as is known.
func (s *survey) isWhole(f wreck.File) bool {
	return s.broken[f.Name] == nil && (f.Written == 0 || f.Written == f.Size)
}

// asFound returns a table with the bounds of its real contents. They are unknown if it is not
// the table that its name says.
func (s *survey) asFound(f wreck.File) wreck.File {
	if d := s.broken[f.Name]; d != nil && d.Is != "" {
		f.After, f.Through = nil, nil
	}
	return f
}

// numberOf returns the number of a log.
func numberOf(name string) uint64 {
	number, _ := wreck.NumberOf(name)
	return number
}

func (s *survey) readTable(f wreck.File, v *sorter) error {
	if (layout.IsBlockKey(f.Through) || layout.IsAppKey(f.Through)) && s.isTrusted(f) {
		return nil // no table has both rows about streams and others
	}
	f = s.asFound(f)
	t, err := s.wreck.OpenTable(f)
	if err != nil {
		return s.Lost(wreck.Place{File: f.Name, Err: err, After: f.After, Through: f.Through})
	}
	defer t.Close() // it was only read
	first, last := t.Bounds()
	if layout.IsBlockKey(first) && layout.IsBlockKey(last) || s.looks() && layout.IsAppKey(first) {
		return nil // it has no rows that this pass needs
	}
	if err := s.budget.read(f.Size); err != nil {
		return err
	}
	v.stored = true
	if err := t.Read(s.ctx, v); err != nil {
		return err
	}
	return t.ReadDeletions(v)
}

// sorter is the visitor of the first pass.
type sorter struct {
	*survey
	keep   func(wreck.Change) error // takes the rows that are not about streams
	stored bool                     // whether it reads a table
}

// Change implements wreck.Visitor.
func (s *sorter) Change(c wreck.Change) error {
	switch {
	case layout.IsBlockKey(c.Key):
		return nil
	case layout.IsStateKey(c.Key):
		return s.addRow(c, s.stored)
	default:
		return s.keep(c)
	}
}

// DeleteRange implements wreck.Visitor. No ranges of application keys and leases are ever
// deleted, and the rows about streams show which records are.
func (s *sorter) DeleteRange(d wreck.Deletion) error {
	if layout.IsStateKey(d.Start) {
		s.ranges = append(s.ranges, wreck.Deletion{Start: bytes.Clone(d.Start), End: bytes.Clone(d.End), Seq: d.Seq})
	}
	return nil
}

// addRow keeps a row if it is the newest of its key, and undamaged. Files are read in the order
// in which they were begun, so of two versions without a number the later one counts.
func (s *survey) addRow(c wreck.Change, stored bool) error {
	key := string(c.Key)
	if c.Deleted && layout.IsDeletedForGood(c.Key) {
		s.gone[key] = true
	}
	was, found := s.rows[key]
	if found && c.Seq < was.seq {
		return nil
	}
	if !c.Deleted {
		if err := layout.CheckRow(c.Key, c.Value); err != nil {
			s.note("a row is damaged: %v", err)
			return nil
		}
	}
	stored = stored || found && was.stored && was.seq == c.Seq
	s.rows[key] = version{seq: c.Seq, deleted: c.Deleted, stored: stored, value: bytes.Clone(c.Value)}
	return s.budget.keep(int64(len(c.Key) + len(c.Value)))
}

// row returns the value of a row, if it exists.
func (s *survey) row(key []byte) (value []byte, ok bool) {
	v, found := s.rows[string(key)]
	if !found || v.deleted || s.gone[string(key)] {
		return nil, false
	}
	for _, d := range s.ranges { // of deleted streams, whose numbers are not reused
		if bytes.Compare(d.Start, key) <= 0 && bytes.Compare(key, d.End) < 0 {
			return nil, false
		}
	}
	return v.value, true
}
