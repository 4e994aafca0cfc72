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

// survey is what is found out about a damaged database by reading it. It writes nothing:
// what it finds is given to a sink, or to functions.
type survey struct {
	cfg    Config
	ctx    context.Context
	wreck  *wreck.Wreck
	report *Report
	budget *budget // of Look; nil means no bound

	// broken are the files that are not what the ledgers say, by their names.
	broken map[string]*kv.FileDamageError

	// moved are tables of the database that stand in the place of others, by the names that
	// they should have: what was in those is not lost.
	moved map[string]string

	// outdated are tables in whose place stands one that the store had done with. Only its
	// blocks of records are believed.
	outdated map[string]bool

	rows   map[string]version // the newest of each row about streams
	gone   map[string]bool    // rows that were deleted and cannot come back
	ranges []wreck.Deletion   // of rows about streams
	places map[placeKey]bool  // that the report has
	logged uint64             // the number of the last change in the logs that are read
	torn   uint64             // the highest number that changes which a log has lost exceed
	isTorn bool               // a log has lost changes
	ended  bool               // the last log ends as its writer ends one
	noLog  bool               // the last log is missing

	// foreign says that nothing tells what a log has lost, so that any shard may have lost
	// its last records. Only Look sets it.
	foreign bool

	lost []KeyRange // all keys that a table has lost

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
	stored  bool // it stands in a table, and so does all that was written before it
	value   []byte
}

// sink takes what a survey gives out.
type sink interface {
	set(key, value []byte) error
	remove(place layout.BlockKey)
}

// newSurvey begins a survey of a database whose damaged files are given, as far as they are
// known.
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

// openWreck lists the files that are this database's. A log or a manifest that is too short
// to be told from another one, and once was longer, is none of them: little of it is left,
// and another's rows would change what is known of all streams. Nor is a file that the store
// had done with and that no ledger lists: nothing is known of it, and it is needed only
// where another one is damaged.
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
	for _, f := range s.wreck.Tables { // the manifest has the sizes of those that are too new for a ledger
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

// findMoved finds out which tables stand in the place of others.
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

// begin notes what the list of the files says.
func (s *survey) begin() error {
	for _, unread := range s.wreck.Unread {
		if kv.IsPassing(unread.Err) {
			return kv.Classify(unread.Err)
		}
		s.report.Files = append(s.report.Files, unread)
	}
	for _, missing := range s.wreck.Missing {
		if isLog(missing.File) {
			s.noLog = true // readLogs knows what it followed on
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
		if d.Damage == kv.FileOld { // the manifest that it should name is read
			s.report.Files = append(s.report.Files, wreck.Place{File: name, Offset: -1, Err: d})
		}
	}
	return nil
}

// loseTable notes as lost what was in a table that is missing or is another one, unless it
// stands in the place of another one.
func (s *survey) loseTable(p wreck.Place) error {
	if s.moved[p.File] != "" {
		s.report.Files = append(s.report.Files, p)
		return nil
	}
	return s.Lost(p)
}

// advance tells how far the reading has come.
func (s *survey) advance(bytes int64) {
	s.done += bytes
	if s.cfg.Progress != nil {
		s.cfg.Progress(s.done, s.total)
	}
}

// Lost is part of wreck.Visitor.
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
		p.Through = layout.TableBoundary(p.After) // which no table crosses
	}
	switch {
	case p.Through != nil && len(p.Through) == 0: // no row
	case p.After != nil || len(p.Through) > 0:
		s.lost = append(s.lost, KeyRange{p.After, p.Through})
	case isLog(p.File):
		s.torn, s.isTorn = max(s.torn, s.logged, p.Seq), true // it followed on the logs before
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

// readRows is the first pass: it gathers the rows about streams, and gives all others but
// records to keep. Files that the store had
// done with are left out: what a later file says is no newer there by its number, since
// a table that was merged with all that was older forgets the numbers.
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

// readLogs reads the logs. One that was begun after another had been ended properly, or
// its content had come into tables. So a log without an end, before one that has
// something, has lost its last changes, unless it is not known which logs are stale.
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
	var open *wreck.Place // behind what was found of the log before, if it has no end
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
					Err: fmt.Errorf("%w: the log has no end, and there is a later one", wreck.ErrDamaged),
				}
			}
			s.logged = max(s.logged, end.Last)
		}
		s.advance(f.Size)
	}
	return skip("")
}

// looks reports whether this is for Look.
func (s *survey) looks() bool { return s.budget != nil }

// isTrusted reports whether a table can be taken for what the manifest says of it, and so
// need not be read.
func (s *survey) isTrusted(f wreck.File) bool { return s.looks() && f.Through != nil && s.isWhole(f) }

// isWhole reports whether nothing is known against a table.
func (s *survey) isWhole(f wreck.File) bool {
	return s.broken[f.Name] == nil && (f.Written == 0 || f.Written == f.Size)
}

// asFound returns a table with the bounds of what is in it, which are not known if it is
// another one than its name says.
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
		return nil // no table crosses from one to another
	}
	f = s.asFound(f)
	t, err := s.wreck.OpenTable(f)
	if err != nil {
		return s.Lost(wreck.Place{File: f.Name, Err: err, After: f.After, Through: f.Through})
	}
	defer t.Close() // it was only read
	first, last := t.Bounds()
	if layout.IsBlockKey(first) && layout.IsBlockKey(last) || s.looks() && layout.IsAppKey(first) {
		return nil // there is nothing else between them
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
	stored bool                     // it reads a table
}

// Change is part of wreck.Visitor.
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

// DeleteRange is part of wreck.Visitor. Applications and their leases have no part in
// it, and of records the rows about them tell what is deleted.
func (s *sorter) DeleteRange(d wreck.Deletion) error {
	if layout.IsStateKey(d.Start) {
		s.ranges = append(s.ranges, wreck.Deletion{Start: bytes.Clone(d.Start), End: bytes.Clone(d.End), Seq: d.Seq})
	}
	return nil
}

// addRow keeps a row if it is the newest of its key, and whole. Files are read in the
// order in which they were begun, so of two without a number the later one counts.
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

// row returns the value of a row, if it is there.
func (s *survey) row(key []byte) (value []byte, ok bool) {
	v, found := s.rows[string(key)]
	if !found || v.deleted || s.gone[string(key)] {
		return nil, false
	}
	for _, d := range s.ranges { // of streams that were deleted, whose numbers do not come back
		if bytes.Compare(d.Start, key) <= 0 && bytes.Compare(key, d.End) < 0 {
			return nil, false
		}
	}
	return v.value, true
}
