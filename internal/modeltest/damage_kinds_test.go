package modeltest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"

	"github.com/cockroachdb/pebble/v2/record"
)

// This file damages the files of a database in every way: bits are flipped, pages are zeroed, and
// files are cut at and between the borders of their records, removed, swapped, or replaced by those
// of an earlier time or of another database.

// damageCase is one damage of one state.
type damageCase struct {
	what  string
	kind  string
	class string // the kind of damage, and of file
	files files
}

// damages returns damages of every file. most limits how many of one kind there are in a large
// file, and in a table, where each takes Pebble long.
func (s *damageState) damages(random *rand.Rand, other files, most int) (cases []damageCase) {
	add := func(kind, p string, changed files, detail string, args ...any) {
		class := kind + " " + strings.TrimRight(path.Base(p), "0123456789.")
		if ext := path.Ext(p); ext == ".log" || ext == ".sst" {
			class = kind + " *" + ext
		} else if strings.HasPrefix(path.Base(p), "marker.") {
			class = kind + " " + strings.Split(path.Base(p), ".")[1] + " marker"
		}
		cases = append(cases, damageCase{kind + " " + p + fmt.Sprintf(" "+detail, args...), kind, class, changed})
	}
	for _, p := range s.files.paths() {
		data := s.files[p]
		n, flips := most, most
		if strings.HasSuffix(p, ".sst") {
			n, flips = max(1, most/8), max(1, most/16)
		}
		add("delete", p, s.files.with(p, nil), "")
		for _, at := range places(random, len(data), flips) {
			changed := bytes.Clone(data)
			changed[at] ^= 1 << random.IntN(8)
			add("flip", p, s.files.with(p, changed), "at %d of %d", at, len(data))
		}
		cuts := places(random, len(data), n)
		borders := recordBorders(p, data)
		for _, i := range places(random, len(borders), n) {
			cuts = append(cuts, borders[i])
		}
		for _, at := range cuts {
			add("cut", p, s.files.with(p, bytes.Clone(data[:at:at])), "to %d of %d", at, len(data))
		}
		for _, page := range places(random, (len(data)+4095)/4096, max(1, flips/2)) {
			changed := bytes.Clone(data)
			clear(changed[page*4096 : min(len(data), page*4096+4096)])
			add("zero", p, s.files.with(p, changed), "page %d", page)
		}
		if old, ok := s.older[p]; ok && !bytes.Equal(old, data) {
			add("older", p, s.files.with(p, old), "")
		}
		if foreign, ok := other[p]; ok {
			add("of another database", p, s.files.with(p, foreign), "")
		}
	}
	for _, prefix := range []string{"marker.manifest.", "marker.format"} { // a marker's name is its content
		was, is := s.older.named(prefix), s.files.named(prefix)
		if was != is && was != "" {
			add("older", is, s.files.with(is, nil).with(was, []byte{}), "replaced by %s", was)
			add("older", is, s.files.with(is, nil).with(was, []byte{}).with(manifestOf(was), s.older[manifestOf(was)]), "and its manifest")
		}
	}
	paths := s.files.paths()
	for i, p := range paths {
		for _, q := range paths[i+1:] {
			alike := path.Ext(p) == path.Ext(q)
			if bytes.Equal(s.files[p], s.files[q]) || random.IntN(40) >= most && random.IntN(2) > 0 || !alike && random.IntN(4) > 0 {
				continue
			}
			add("swap", p, s.files.with(p, s.files[q]).with(q, s.files[p]), "with %s", q)
		}
	}
	add("delete", "store", s.files.only(func(p string) bool { return !strings.Contains(p, "/store/") }), "")
	add("delete", "ledgers", s.files.only(func(p string) bool { return !strings.Contains(p, "/LEDGER.") }), "")
	add("delete", "all logs", s.files.only(func(p string) bool { return !strings.HasSuffix(p, ".log") }), "")
	add("delete", "all but the identity", s.files.only(func(p string) bool { return strings.HasSuffix(p, "/BRAID") }), "")
	return cases
}

// places returns up to most numbers below n, the first and the last among them.
func places(random *rand.Rand, n, most int) (at []int) {
	if n <= most {
		for i := range n {
			at = append(at, i)
		}
		return at
	}
	at = []int{0, n - 1}
	for len(at) < most {
		at = append(at, random.IntN(n))
	}
	return at
}

// recordBorders returns the offsets at which records of a log or manifest end.
func recordBorders(p string, data []byte) (borders []int) {
	var number uint64
	if _, err := fmt.Sscanf(path.Base(p), "%d.log", &number); err != nil && !strings.Contains(p, "MANIFEST-") {
		return nil
	}
	r := newRecordReader(record.NewReader, bytes.NewReader(data), number)
	for {
		next, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, next)
		}
		if err != nil {
			return borders
		}
		borders = append(borders, int(r.Offset()))
	}
}

// newRecordReader is record.NewReader, whose second parameter has an internal type.
func newRecordReader[N ~uint64](newReader func(io.Reader, N) *record.Reader, r io.Reader, number uint64) *record.Reader {
	return newReader(r, N(number))
}

// manifestOf returns the path of the manifest that a marker names.
func manifestOf(marker string) string {
	return path.Join(path.Dir(marker), marker[strings.LastIndexByte(marker, '.')+1:])
}
