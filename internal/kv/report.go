package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/time/rate"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/wake"
)

// reporter passes the reports of Pebble and the guard to the logger.
//
// They report while they hold locks, and a logger's handler is foreign code, which may be slow
// or even use this store. So a goroutine of the reporter calls it. Reports that come faster
// than the handler takes them are dropped and counted.
type reporter struct {
	logger           *slog.Logger
	queue            chan report
	dropped          atomic.Int64
	backgroundErrors atomic.Int64
	background       rate.Sometimes // lets some background errors through
	stop             chan struct{}  // closed by close
	ended            chan struct{}  // closed when the goroutine has returned
}

type report struct {
	level slog.Level
	text  string
	args  []any
}

// newReporter starts a reporter. close stops its goroutine and waits for it.
func newReporter(logger *slog.Logger) *reporter {
	r := &reporter{
		logger:     logger,
		queue:      make(chan report, 128),
		background: rate.Sometimes{First: 3, Interval: 10 * time.Second},
		stop:       make(chan struct{}),
		ended:      make(chan struct{}),
	}
	go r.run()
	return r
}

func (r *reporter) run() {
	defer close(r.ended)
	for {
		select {
		case rep := <-r.queue:
			r.log(rep)
		case <-r.stop:
			for {
				select {
				case rep := <-r.queue:
					r.log(rep)
				default:
					return
				}
			}
		}
	}
}

func (r *reporter) log(rep report) {
	for i, arg := range rep.args {
		if err, ok := arg.(error); ok {
			rep.args[i] = plainError{err}
		}
	}
	if n := r.dropped.Swap(0); n > 0 {
		rep.args = append(rep.args, "leftOutBefore", n)
	}
	r.logger.Log(context.Background(), rep.level, rep.text, rep.args...)
}

// plainError is an error for a log line. Some handlers format errors with %+v, which prints
// stack traces for Pebble's.
type plainError struct{ error }

func (e plainError) Unwrap() error { return e.error }

// close logs what was reported by now, and stops the goroutine.
func (r *reporter) close() {
	close(r.stop)
	<-r.ended
}

// report passes a report to the goroutine without waiting.
func (r *reporter) report(level slog.Level, text string, args ...any) {
	if !r.logger.Enabled(context.Background(), level) {
		return
	}
	select {
	case r.queue <- report{level, text, args}:
	default:
		r.dropped.Add(1)
	}
}

// pebbleLogger is the Logger that Pebble gets.
type pebbleLogger struct {
	reporter *reporter
	guard    *guardfs.FS
}

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) { l.logf(slog.LevelDebug, format, args) }

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) { l.logf(slog.LevelWarn, format, args) }

func (l pebbleLogger) logf(level slog.Level, format string, args []any) {
	if l.reporter.logger.Enabled(context.Background(), level) {
		l.reporter.report(level, "pebble: "+fmt.Sprintf(format, args...))
	}
}

// Fatalf implements pebble.Logger. It must not return: Pebble calls it when it cannot continue,
// and would treat a return as success.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	var cause error
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			cause = err
		}
	}
	text := fmt.Sprintf(format, args...)
	if cause == nil {
		l.guard.Park(errors.New(text))
	}
	l.guard.Park(&fatalError{text: text, cause: cause})
}

// fatalError has the text of a call of Fatalf, and unwraps to the error among its arguments.
type fatalError struct {
	text  string
	cause error
}

func (e *fatalError) Error() string { return e.text }
func (e *fatalError) Unwrap() error { return e.cause }

// listener returns the handlers of Pebble's events. Pebble calls most of them with locks held,
// but not DataCorruption.
func listener(r *reporter, d *damage, m *room) *pebble.EventListener {
	return &pebble.EventListener{
		DataCorruption: d.found,
		WALCreated:     func(pebble.WALCreateInfo) { m.rotations.Add(1) },
		// The other reason to stall is memtables that cannot be flushed, which the guard
		// notices itself.
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) { d.setStalled(strings.HasPrefix(info.Reason, "L0")) },
		WriteStallEnd:   func() { d.setStalled(false) },
		// Pebble retries; the guard slows it down, and decides when to give up.
		BackgroundError: func(err error) {
			if errors.Is(err, pebble.ErrCancelledCompaction) {
				return // an excise removed the tables that were being compacted
			}
			r.backgroundErrors.Add(1)
			r.background.Do(func() { r.report(slog.LevelWarn, "tables could not be written; retrying", "error", err) })
			d.background()
		},
	}
}

// onSpace handles a change of space. The guard calls it.
func (s *Store) onSpace(space guardfs.Space) {
	s.space.Lock()
	full := space != guardfs.Enough
	changed := full != s.space.full
	s.space.full = full
	if changed && full {
		s.space.over = make(chan struct{})
	} else if changed {
		close(s.space.over)
	}
	if stuck := space == guardfs.None; stuck != wake.IsClosed(s.space.stuck) {
		if stuck {
			close(s.space.stuck)
		} else {
			s.space.stuck = make(chan struct{})
		}
		s.space.moved.Ring()
	}
	s.space.Unlock()
	level := slog.LevelInfo
	if full {
		level = slog.LevelWarn
	}
	args := []any{"space", space.String()}
	if lack := s.guard.Shortage(); lack != nil {
		args = append(args, "missing", lack)
	}
	s.reporter.report(level, "disk space", args...)
	if changed && s.cfg.OnFull != nil {
		s.cfg.OnFull(full)
	}
}

// stuck returns a channel that is closed while an operation waits for space.
func (s *Store) stuck() <-chan struct{} {
	s.space.Lock()
	defer s.space.Unlock()
	return s.space.stuck
}
