package wreck

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Tags of a manifest's edits. They are Pebble's, and part of its format.
const (
	tagComparer       = 1
	tagLogNumber      = 2
	tagNextFile       = 3
	tagLastSequence   = 4
	tagCompactPointer = 5
	tagDeletedFile    = 6
	tagPrevLogNumber  = 9
	tagNewFile2       = 100
	tagNewFile4       = 103
	tagNewFile5       = 104
	tagCreatedBacking = 105
	tagRemovedBacking = 106
	tagNewBlobFile    = 107
	tagDeletedBlob    = 108

	customTerminate = 1
	customVirtual   = 66
	customBlobs     = 69
)

// manifest is the sum of the edits.
type manifest struct {
	live   map[tableAt]liveTable
	named  map[uint64]bool // all files that an edit has named
	oldest uint64          // the oldest log with contents that are in no table
}

type tableAt struct {
	level  uint64
	number uint64
}

type liveTable struct {
	file              uint64 // its file, which tables may share
	size              int64  // of the file; 0 if the table is a part of it
	smallest, largest []byte
}

// readManifest finds the manifest, and finds out from it which files are obsolete and which are
// missing. It notes the parts that cannot be read.
func (w *Wreck) readManifest(names []string, known Known) {
	name, missing := manifestName(names, known.Manifest)
	if missing != "" {
		w.Unread = append(w.Unread, known.missing(missing, "the manifest is missing"))
	}
	m := manifest{live: make(map[tableAt]liveTable), named: make(map[uint64]bool)}
	defer w.sortMissing()
	if name == "" {
		w.findForeign(known, &m, nil)
		return
	}
	if err := w.readEdits(name, &m); err != nil {
		w.Unread = append(w.Unread, Place{File: name, Err: err})
	} else if info, err := w.fs.Stat(w.path(name)); err == nil && info.Size() < known.Durable[name] {
		w.Unread = append(w.Unread, Place{File: name, Offset: info.Size(), Err: damaged("it ends at byte %d, where %d were durable", info.Size(), known.Durable[name])})
	}
	alive := make(map[uint64]bool, len(m.live))
	for _, t := range m.live {
		alive[t.file] = true
	}
	whole := len(w.Unread) == 0
	there := make(map[uint64]bool, len(w.Tables))
	for i := range w.Tables {
		f := &w.Tables[i]
		there[f.number] = true
		f.Stale = !alive[f.number] && (whole || m.named[f.number])
	}
	for i := range w.Logs {
		w.Logs[i].Stale = w.Logs[i].number < m.oldest
	}
	w.findForeign(known, &m, alive)
	w.findNewestLog(name, names, m.oldest)
	if !whole {
		return // the edit that removes the missing files may be unreadable
	}
	w.findLogs(known.Durable, m.oldest)
	w.bound(m.live)
	for _, t := range m.live {
		if !there[t.file] {
			p := known.missing(fmt.Sprintf("%06d.sst", t.file), "the table is missing")
			p.After, p.Through = before(t.smallest), t.largest
			w.Missing = append(w.Missing, p)
		}
	}
}

// missing returns the Place for a file that is missing or foreign.
func (k *Known) missing(name, what string) Place {
	if err := k.Foreign[name]; err != nil {
		return Place{File: name, Offset: -1, Err: err}
	}
	return Place{File: name, Err: fmt.Errorf("%w: %s", ErrDamaged, what)}
}

// findForeign notes foreign logs and tables as missing, except obsolete ones, and tables for
// which the manifest has bounds.
func (w *Wreck) findForeign(known Known, m *manifest, alive map[uint64]bool) {
	whole := len(w.Unread) == 0
	for name := range known.Foreign {
		number, ok := NumberOf(name)
		switch isTable := strings.HasSuffix(name, ".sst"); {
		case !ok, isTable && (whole || m.named[number] && !alive[number]), !isTable && number < m.oldest:
		default:
			w.Missing = append(w.Missing, known.missing(name, ""))
		}
	}
}

// sortMissing sorts the missing files by name, and removes duplicates.
func (w *Wreck) sortMissing() {
	slices.SortStableFunc(w.Missing, func(x, y Place) int { return strings.Compare(x.File, y.File) })
	w.Missing = slices.CompactFunc(w.Missing, func(x, y Place) bool { return x.File == y.File && strings.HasSuffix(x.File, ".log") })
}

// findNewestLog notes whether the newest log is missing. A store always has a log that is not
// stale. Each open begins one right before it writes its options, and only a manifest may
// take a number in between.
func (w *Wreck) findNewestLog(manifest string, names []string, oldest uint64) {
	least := oldest
	for _, n := range names {
		if digits, ok := strings.CutPrefix(n, "OPTIONS-"); ok {
			number, err := strconv.ParseUint(digits, 10, 64)
			if err != nil || number == 0 {
				continue
			}
			if number--; manifest == fmt.Sprintf("MANIFEST-%06d", number) && number > 0 {
				number--
			}
			least = max(least, number)
		}
	}
	var newest uint64
	if n := len(w.Logs); n > 0 {
		newest = w.Logs[n-1].number
	}
	for _, p := range w.Missing { // the foreign ones
		if number, ok := NumberOf(p.File); ok && strings.HasSuffix(p.File, ".log") {
			newest = max(newest, number)
		}
	}
	if newest < least {
		w.Missing = append(w.Missing, Place{File: fmt.Sprintf("%06d.log", least), Err: fmt.Errorf("%w: the log is missing", ErrDamaged)})
	}
}

// findLogs notes the missing logs among those that are known to have been written, with
// contents that are in no table.
func (w *Wreck) findLogs(durable map[string]int64, oldest uint64) {
	for name := range durable {
		digits, ok := strings.CutSuffix(name, ".log")
		number, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || number < oldest || slices.ContainsFunc(w.Logs, func(f File) bool { return f.number == number }) {
			continue
		}
		if !slices.ContainsFunc(w.Missing, func(p Place) bool { return p.File == name }) {
			w.Missing = append(w.Missing, Place{File: name, Err: fmt.Errorf("%w: the log is missing", ErrDamaged)})
		}
	}
}

// bound notes the bounds and sizes of the live tables. Several tables may share a file.
func (w *Wreck) bound(live map[tableAt]liveTable) {
	files := make(map[uint64]*File, len(w.Tables))
	for i := range w.Tables {
		files[w.Tables[i].number] = &w.Tables[i]
	}
	for _, t := range live {
		f := files[t.file]
		if f == nil || len(t.smallest) == 0 {
			continue
		}
		f.Written = t.size
		if after := before(t.smallest); f.Through == nil || bytes.Compare(after, f.After) < 0 {
			f.After = after
		}
		if bytes.Compare(f.Through, t.largest) < 0 {
			f.Through = t.largest
		}
	}
}

// manifestName returns the manifest that the marker names, or least if that is newer; without
// a marker, the newest one. If that manifest is missing, it returns its name as missing, and
// the newest of the others, whose contents are true but not complete.
func manifestName(names []string, least string) (name, missing string) {
	var highest, iteration uint64
	marked := ""
	for _, n := range names {
		if number, ok := manifestNumber(n); ok && (name == "" || number > highest) {
			name, highest = n, number
		}
		if rest, ok := strings.CutPrefix(n, "marker.manifest."); ok {
			digits, value, _ := strings.Cut(rest, ".")
			if number, err := strconv.ParseUint(digits, 10, 64); err == nil && number >= iteration {
				marked, iteration = value, number
			}
		}
	}
	lowest, known := manifestNumber(least)
	if number, ok := manifestNumber(cmp.Or(marked, name)); known && (!ok || number < lowest) {
		marked = least
	}
	switch {
	case slices.Contains(names, marked):
		return marked, ""
	case marked != "":
		return name, marked
	case name == "":
		return "", "MANIFEST"
	default:
		return name, ""
	}
}

// manifestNumber returns the number in the name of a manifest.
func manifestNumber(name string) (number uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, "MANIFEST-")
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, ok && err == nil
}

// readEdits adds up the edits of a manifest. It skips damage, and returns the error for it.
func (w *Wreck) readEdits(name string, m *manifest) (wrong error) {
	file, err := w.fs.Open(w.path(name))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	chunks := newChunkReader(file, info.Size(), 0)
	note := func(err error) {
		if wrong == nil {
			wrong = err
		}
	}
	var edit []byte
	inside, edits := false, 0
	for {
		c, ok := chunks.next()
		if chunks.bad >= 0 {
			note(damaged("the manifest cannot be read at offset %d", chunks.bad))
			inside = false
		}
		if !ok {
			break
		}
		if c.part == chunkWhole || c.part == chunkFirst {
			edit, inside = edit[:0], true
		}
		if !inside {
			note(damaged("an edit of the manifest has lost its beginning"))
			continue
		}
		edit = append(edit, c.payload...)
		if c.part == chunkWhole || c.part == chunkLast {
			inside = false
			edits++
			if err := m.apply(edit); err != nil {
				note(err)
			}
		}
	}
	switch {
	case chunks.failed != nil:
		note(chunks.failed)
	case inside:
		note(damaged("the manifest ends within an edit"))
	case edits == 0:
		note(damaged("the manifest is empty"))
	}
	return wrong
}

// apply adds one edit, or nothing of it: with half of an edit, a live table could look
// obsolete.
func (m *manifest) apply(edit []byte) error {
	r := &editReader{r: bufio.NewReader(bytes.NewReader(edit))}
	var removed, added []func()
	for {
		tag, err := binary.ReadUvarint(r.r)
		if errors.Is(err, io.EOF) {
			break
		}
		switch tag {
		case tagComparer:
			r.bytes()
		case tagLogNumber:
			oldest := r.uint()
			added = append(added, func() { m.oldest = max(m.oldest, oldest) })
		case tagNextFile, tagLastSequence, tagPrevLogNumber, tagRemovedBacking:
			r.uint()
		case tagCompactPointer:
			r.uint()
			r.bytes()
		case tagCreatedBacking, tagDeletedBlob:
			r.uint()
			r.uint()
		case tagNewBlobFile:
			for range 5 {
				r.uint()
			}
		case tagDeletedFile:
			at := tableAt{level: r.uint(), number: r.uint()}
			removed = append(removed, func() { m.named[at.number] = true; delete(m.live, at) })
		case tagNewFile2, tagNewFile4, tagNewFile5:
			at, table := r.table(tag)
			added = append(added, func() { m.named[table.file], m.live[at] = true, table })
		default:
			return damaged("the manifest has an edit of an unknown kind %d", tag)
		}
		if r.err != nil {
			return damaged("an edit of the manifest is malformed: %v", r.err)
		}
	}
	for _, change := range append(removed, added...) { // a move removes the table from another level
		change()
	}
	return nil
}

// editReader reads the fields of an edit. The first error sticks.
type editReader struct {
	r   *bufio.Reader
	err error
}

func (r *editReader) uint() (n uint64) {
	if r.err == nil {
		n, r.err = binary.ReadUvarint(r.r)
	}
	return n
}

func (r *editReader) bytes() []byte {
	n := r.uint()
	if r.err != nil {
		return nil
	}
	if n > 1<<28 {
		r.err = errors.New("a field is too long")
		return nil
	}
	b := make([]byte, n)
	_, r.err = io.ReadFull(r.r, b)
	return b
}

// table reads a table that is added.
func (r *editReader) table(tag uint64) (at tableAt, t liveTable) {
	at = tableAt{level: r.uint(), number: r.uint()}
	t.file = at.number
	t.size = int64(r.uint())
	points := true
	if tag == tagNewFile5 {
		marker, err := r.r.ReadByte()
		if err != nil && r.err == nil {
			r.err = err
		}
		points = marker&1 != 0
	}
	if points {
		t.smallest, t.largest = userKey(r.bytes()), userKey(r.bytes())
	}
	if tag == tagNewFile5 {
		r.bytes()
		r.bytes()
	}
	r.uint() // its sequence numbers
	r.uint()
	for tag != tagNewFile2 && r.err == nil {
		switch custom := r.uint(); custom {
		case customTerminate:
			return at, t
		case customVirtual:
			t.file, t.size = r.uint(), 0
		case customBlobs:
			r.uint()
			for n := r.uint(); n > 0 && r.err == nil; n-- {
				r.uint()
				r.uint()
			}
		default:
			r.bytes()
		}
	}
	return at, t
}

// userKey returns an internal key without the eight bytes of its number and kind.
func userKey(key []byte) []byte { return key[:max(0, len(key)-8)] }

// before returns a key right below another, close enough for a bound: all keys between them
// begin with it.
func before(key []byte) []byte {
	if len(key) == 0 {
		return nil
	}
	below := bytes.Clone(key)
	if last := len(below) - 1; below[last] > 0 {
		below[last]--
		return append(below, 0xff)
	}
	return below[:len(below)-1]
}
