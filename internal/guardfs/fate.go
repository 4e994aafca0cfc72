package guardfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// How errors on other than critical files are slowed down, and for how long they
// may come in a row.
//
// Puts wait for all of failurePatience once the memtables are full. The kernel has
// tried again long before it reports an error, and a path that fails over or a
// disk that recovers holds its operations meanwhile and reports none. So what is
// left to be ridden out are hiccups. A disk that takes long to report each error
// gets minFailures of them, since a single hiccup may meet a flush and two
// compactions.
const (
	minFailureDelay = 10 * time.Millisecond
	maxFailureDelay = 500 * time.Millisecond
	failurePatience = 2 * time.Second
	minFailures     = 4
)

// class says how much depends on a file.
type class int

const (
	foreign  class = iota // outside of the guarded directory
	ordinary              // tables and temporary files: Pebble can make another
	critical              // what durability hangs on
)

// classOf returns the class of the file with this name.
func (g *FS) classOf(name string) class {
	if !g.guards(name) {
		return foreign
	}
	base := g.real.PathBase(name)
	if strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "marker.") {
		return critical
	}
	return ordinary
}

// classOfDir returns the class of a directory.
func (g *FS) classOfDir(name string) class {
	if g.guards(name) {
		return critical
	}
	return foreign
}

// guards reports whether the name is in, or is, the guarded directory.
func (g *FS) guards(name string) bool {
	rest, ok := strings.CutPrefix(name, g.cfg.Dir)
	return ok && (rest == "" || g.cfg.Dir == "" || os.IsPathSeparator(rest[0]) || rest[0] == '/')
}

// change runs an operation that changes a file, and decides about its error.
// The operation is run again after it found no space, so it must keep account of
// what it has done.
func (g *FS) change(op, name string, c class, run func() error) error {
	if c == foreign {
		return run()
	}
	wait := spaceWait{guard: g}
	for {
		g.enter()
		err := run()
		g.leave()
		switch {
		case err == nil:
			wait.done()
			return nil
		case IsShortage(err):
			wait.wait(describe(op, name, err))
		case c == critical:
			g.Park(describe(op, name, err))
		default:
			wait.done()
			return g.delay(op, name, err)
		}
	}
}

// sync is change for an operation that makes a file durable. It never runs
// twice: a second success would prove nothing about what the first one lost.
func (g *FS) sync(op, name string, c class, run func() error) error {
	if c == foreign {
		return run()
	}
	g.enter()
	err := run()
	g.leave()
	switch {
	case err == nil:
		return nil
	case c == critical:
		g.Park(describe(op, name, err))
		return err
	case IsShortage(err):
		// Pebble makes the table again, so this is a wait for space in the form
		// of a loop; it ends with a table that could be synced.
		g.updateSpace(func() {
			g.starved = true
			g.lack = describe(op, name, err)
		})
		g.pause(maxSpaceWait)
		return err
	default:
		return g.delay(op, name, err)
	}
}

// remove is change for an operation that removes a file. That the file is
// missing is a result, not an error. Pebble does not try again, so nothing has
// to be slowed down: a table that stays is removed at the next open.
func (g *FS) remove(op, name string, c class, run func() error) error {
	if c == foreign {
		return run()
	}
	wait := spaceWait{guard: g}
	defer wait.done()
	for {
		g.enter()
		err := run()
		g.leave()
		switch {
		case IsShortage(err): // a file system that copies on write needs space for it
			wait.wait(describe(op, name, err))
		case err == nil, c != critical, errors.Is(err, fs.ErrNotExist):
			return err
		default:
			g.Park(describe(op, name, err))
		}
	}
}

// ride runs an operation that changes nothing and that Pebble could not do without,
// and runs it again while there is a shortage.
func (g *FS) ride(op, name string, run func() error) error {
	wait := spaceWait{guard: g}
	defer wait.done()
	for {
		err := run()
		if !IsShortage(err) {
			return err
		}
		wait.wait(describe(op, name, err))
	}
}

// describe says what failed on which file, unless the error says so itself.
func describe(op, name string, err error) error {
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return err
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// delay returns the error after a time that grows with the number of errors in
// a row. It does not return if they have come for too long.
func (g *FS) delay(op, name string, err error) error {
	g.mu.Lock()
	if g.failures == 0 {
		g.failing = time.Now()
	}
	g.failures++
	n, since := g.failures, g.failing
	g.mu.Unlock()
	if n >= minFailures && time.Since(since) >= failurePatience {
		g.Park(fmt.Errorf("%d errors in a row: %w", n, describe(op, name, err)))
	}
	d := maxFailureDelay
	if shift := n - 1; shift < 6 { // 10 ms << 6 is above the maximum
		d = minFailureDelay << shift
	}
	g.pause(d)
	return err
}

// slowRead returns the error of reading, after a while if it may come from the
// disk. Pebble collects statistics of its tables, and tries again at once, for
// ever, if it cannot read one; that must not keep a processor busy. It does so
// even after the guard has failed.
func slowRead(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrNotExist) {
		timer := time.NewTimer(minFailureDelay)
		defer timer.Stop()
		<-timer.C
	}
	return err
}

// succeeded notes that an ordinary file was made durable. Less than that is no
// success: on a broken disk a file can be created time and again.
func (g *FS) succeeded() {
	g.mu.Lock()
	g.failures = 0
	starved := g.starved
	g.mu.Unlock()
	if starved {
		g.updateSpace(func() { g.starved = false })
	}
}
