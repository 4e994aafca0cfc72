package guardfs

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/braidstream/braid/internal/layout"
)

// Durable is what the guard knows to be durable of Pebble's files: of logs and of the
// manifest the bytes up to the last sync, of tables the whole.
type Durable struct {
	Manifest string // the name of the one that the marker names
	Files    []layout.LedgerFile
	Tables   []layout.LedgerTable

	// FilesVersion and TablesVersion go up whenever what stands above changes. They
	// begin with 1.
	FilesVersion, TablesVersion uint64
}

// durable keeps account of what is durable. It sums up each byte once, on its way to
// the file, in the goroutine that writes the file.
//
// Invariant: what it states is durable, and stays so until the file is removed or used
// again. A file counts once its entry in the directory is durable, and a manifest once
// the marker that names it is. The crash images of TestModel in internal/modeltest hold it.
type durable struct {
	guard   *FS
	dir     string // whose files it keeps account of
	changed func() // called after the first change since the last state

	mu       sync.Mutex // guards the fields below
	files    map[string]*extent
	tables   map[string]layout.LedgerTable
	manifest string
	moved    string // the manifest of a marker whose entry may not be durable yet
	fresh    bool   // the state has been taken, and has not changed since

	filesVersion, tablesVersion uint64
}

// extent is the durable beginning of a log or a manifest.
type extent struct {
	layout.LedgerFile
	linked bool // its entry in the directory is durable
}

// account is kept of one file while it is written, by the goroutine that writes.
type account struct {
	of     *durable
	name   string  // without the directory
	file   *extent // nil for a table
	sum    TableSum
	synced int64 // how much of a table is durable
	ended  bool  // something was written out of order: nothing is known about it
}

// TableSum sums up a file from its beginning to its end. The zero value has seen
// nothing.
type TableSum struct {
	table layout.LedgerTable
	tail  []byte // the last bytes
}

// Add adds the bytes that follow on.
func (s *TableSum) Add(p []byte) {
	s.table.Size += int64(len(p))
	s.table.Sum = layout.LedgerSum(s.table.Sum, p)
	if len(p) >= layout.LedgerTailBytes {
		s.tail = append(s.tail[:0], p[len(p)-layout.LedgerTailBytes:]...)
		return
	}
	if over := len(s.tail) + len(p) - layout.LedgerTailBytes; over > 0 {
		s.tail = s.tail[:copy(s.tail, s.tail[over:])]
	}
	s.tail = append(s.tail, p...)
}

// Table returns the sums, without a name.
func (s *TableSum) Table() layout.LedgerTable {
	table := s.table
	table.Tail = layout.LedgerSum(0, s.tail)
	return table
}

// Track begins to keep account of the logs, manifests and tables in dir. What is there
// already is in the state. changed, if not nil, is called when the state has changed
// for the first time since it was taken: from inside file operations, and it must not
// block. Call Track before the first file is created in dir.
func (g *FS) Track(dir string, state Durable, changed func()) {
	if changed == nil {
		changed = func() {}
	}
	d := &durable{
		guard: g, dir: dir, changed: changed, manifest: state.Manifest, fresh: true,
		files: make(map[string]*extent), tables: make(map[string]layout.LedgerTable),
		filesVersion: 1, tablesVersion: 1,
	}
	for _, f := range state.Files {
		d.files[f.Name] = &extent{LedgerFile: f, linked: true}
	}
	for _, t := range state.Tables {
		d.tables[t.Name] = t
	}
	g.durable = d
}

// Durable returns what is durable in the directory that Track named. Lists of the
// versions that the caller has already are left out.
func (g *FS) Durable(filesVersion, tablesVersion uint64) Durable {
	d := g.durable
	if d == nil {
		return Durable{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fresh = true
	state := Durable{Manifest: d.manifest, FilesVersion: d.filesVersion, TablesVersion: d.tablesVersion}
	if d.filesVersion != filesVersion {
		for name, f := range d.files {
			if f.linked && f.Size > 0 && (name == d.manifest || IsLog(name)) {
				state.Files = append(state.Files, f.LedgerFile)
			}
		}
		slices.SortFunc(state.Files, func(a, b layout.LedgerFile) int { return cmp.Compare(a.Name, b.Name) })
	}
	if d.tablesVersion != tablesVersion {
		state.Tables = slices.SortedFunc(maps.Values(d.tables), func(a, b layout.LedgerTable) int { return cmp.Compare(a.Name, b.Name) })
	}
	return state
}

// Lists reports whether a file is still listed that was listed so: whether nobody has
// removed it, or used it again, since. A log may have grown.
func (g *FS) Lists(file layout.LedgerFile) bool {
	d := g.durable
	d.mu.Lock()
	defer d.mu.Unlock()
	if t, ok := d.tables[file.Name]; ok {
		return t.LedgerFile == file
	}
	f, ok := d.files[file.Name]
	return ok && f.Size >= file.Size && (f.Size > file.Size || f.Sum == file.Sum)
}

// IsLog reports whether a file is a log.
func IsLog(name string) bool { return strings.HasSuffix(name, ".log") }

func isManifest(name string) bool { return strings.HasPrefix(name, "MANIFEST-") }

// IsTable reports whether a file is written once, from its beginning to its end.
func IsTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// own returns the name without the directory, if it is the one that is tracked.
func (d *durable) own(path string) (name string, ok bool) {
	if d == nil || d.guard.PathDir(path) != d.dir {
		return "", false
	}
	return d.guard.PathBase(path), true
}

// changeLocked is called after each change.
func (d *durable) changeLocked() {
	if d.fresh {
		d.fresh = false
		d.changed()
	}
}

// begin is called when a file was created, or is used again, and returns the account of
// it; nil if none is kept.
func (d *durable) begin(path string) *account {
	name, ok := d.own(path)
	if !ok {
		return nil
	}
	a := &account{of: d, name: name}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case IsLog(name), isManifest(name):
		a.file = &extent{LedgerFile: layout.LedgerFile{Name: name}}
		d.files[name] = a.file
		d.filesVersion++
	case IsTable(name):
		delete(d.tables, name)
		d.tablesVersion++
	default:
		if rest, ok := strings.CutPrefix(name, "marker.manifest."); ok {
			if _, manifest, ok := strings.Cut(rest, "."); ok {
				d.moved = manifest
			}
		}
		return nil
	}
	return a
}

// forget is called before a file is removed, renamed or used again.
func (d *durable) forget(path string) {
	name, ok := d.own(path)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.files[name]; ok {
		delete(d.files, name)
		d.filesVersion++
	}
	if _, ok := d.tables[name]; ok {
		delete(d.tables, name)
		d.tablesVersion++
	}
}

// add is called before bytes are written behind the ones before.
func (a *account) add(p []byte) {
	if a.file == nil {
		a.sum.Add(p)
		return
	}
	sum := &a.sum.table // the tail of a log is never asked for
	if room := layout.LedgerHeadBytes - sum.Size; room > 0 {
		sum.Head = layout.LedgerSum(sum.Head, p[:min(int64(len(p)), room)])
	}
	sum.Size += int64(len(p))
	sum.Sum = layout.LedgerSum(sum.Sum, p)
}

// end is called when bytes were written elsewhere than behind the ones before. Pebble
// never does so.
func (a *account) end() {
	a.ended = true
	a.of.forget(a.of.guard.PathJoin(a.of.dir, a.name))
}

// durable is called after a sync of what had been added before it began.
func (a *account) durable() {
	if a.ended {
		return
	}
	d := a.of
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.file == nil {
		a.synced = a.sum.table.Size
		return
	}
	if sum := &a.sum.table; a.file.Size != sum.Size {
		a.file.Size, a.file.Sum, a.file.Head = sum.Size, sum.Sum, sum.Head
		d.filesVersion++
		d.changeLocked()
	}
}

// closed is called after the file was closed. Only then is a table known to be whole: on
// some file systems Pebble syncs it from time to time while it writes it.
func (a *account) closed() {
	if a.file != nil || a.ended || a.synced == 0 || a.synced != a.sum.table.Size {
		return
	}
	d := a.of
	d.mu.Lock()
	defer d.mu.Unlock()
	table := a.sum.Table()
	table.Name = a.name
	d.tables[a.name] = table
	d.tablesVersion++
	d.changeLocked()
}

// entries is what a sync of the directory makes durable.
type entries struct {
	files    []*extent
	manifest string
}

// beginLinking returns what the directory holds before it is synced.
func (d *durable) beginLinking(path string) (e entries, ok bool) {
	if d == nil || path != d.dir {
		return e, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		if !f.linked {
			e.files = append(e.files, f)
		}
	}
	e.manifest = d.moved
	return e, true
}

// link is called after the directory was synced.
func (d *durable) link(e entries) {
	if len(e.files) == 0 && e.manifest == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range e.files {
		f.linked = true
	}
	if e.manifest != "" {
		d.manifest = e.manifest
		if d.moved == e.manifest {
			d.moved = ""
		}
	}
	d.filesVersion++
	d.changeLocked()
}

// Try runs an operation that changes files which Pebble knows nothing of, and returns
// its error as it is: it waits for nothing, repeats nothing, and fails nothing. It does not
// return after Abandon.
func (g *FS) Try(run func() error) error {
	g.enter()
	defer g.leave()
	return run()
}
