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

// These control how errors on files that are not critical are slowed down, and how long a row
// of them may last.
//
// Puts wait for all of failurePatience once the memtables are full. The kernel has retried for
// a long time before it reports an error, and a path that fails over or a disk that recovers
// holds its operations meanwhile and reports no error. So only short disturbances are left to
// survive. A disk that takes long to report each error gets minFailures of them, because a
// single disturbance may hit a flush and two compactions.
const (
	minFailureDelay = 10 * time.Millisecond
	maxFailureDelay = 500 * time.Millisecond
	failurePatience = 2 * time.Second
	minFailures     = 4
)

// class says what depends on a file.
type class int

const (
	foreign  class = iota // outside the guarded directory
	ordinary              // tables and temporary files: Pebble can write another one
	critical              // durability depends on it
)

// classOf returns the class of the file with that name.
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

// guards reports whether the name is the guarded directory, or lies in it.
func (g *FS) guards(name string) bool {
	rest, ok := strings.CutPrefix(name, g.cfg.Dir)
	return ok && (rest == "" || g.cfg.Dir == "" || os.IsPathSeparator(rest[0]) || rest[0] == '/')
}

// change runs an operation that changes a file, and decides about its error. It runs the
// operation again after a lack of space, so the operation must know what it has already done.
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

// sync is change for an operation that makes a file durable. It never runs the operation twice:
// a success after an error would not prove that the bytes of the first attempt are durable.
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
		// Pebble writes the table again, so this is a loop that waits for space. It
		// ends with a table that could be synced.
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

// remove is change for an operation that removes a file. A missing file is a result, not an
// error. Pebble does not retry, so nothing must be slowed down: a remaining table is removed
// at the next open.
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
		case IsShortage(err): // a copy-on-write file system needs space to remove a file
			wait.wait(describe(op, name, err))
		case err == nil, c != critical, errors.Is(err, fs.ErrNotExist):
			return err
		default:
			g.Park(describe(op, name, err))
		}
	}
}

// ride runs an operation that changes nothing and whose failure Pebble would not survive. It
// retries during a shortage.
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

// describe adds the operation and the file to an error, unless the error has them.
func describe(op, name string, err error) error {
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return err
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// delay returns the error after a time that grows with the number of errors in a row. It does not
// return if the row has lasted too long.
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

// slowRead returns the error of a read, after a pause if it may come from the disk. When Pebble
// collects statistics of its tables and cannot read one, it retries at once and forever, even
// after the guard has failed. That must not keep a processor busy.
func slowRead(err error) error {
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrNotExist) {
		timer := time.NewTimer(minFailureDelay)
		defer timer.Stop()
		<-timer.C
	}
	return err
}

// succeeded notes that an ordinary file was made durable. Creating one is not a success: that
// may work again and again on a broken disk.
func (g *FS) succeeded() {
	g.mu.Lock()
	g.failures = 0
	starved := g.starved
	g.mu.Unlock()
	if starved {
		g.updateSpace(func() { g.starved = false })
	}
}
