package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/internal/wake"
)

const (
	// closePatience is how long Close waits while the disk is full.
	closePatience = time.Second

	// quiescePatience is how long an abandoned store may take to let go of its
	// files.
	quiescePatience = 10 * time.Second
)

// Close refuses new calls with ErrClosed, waits for running calls and open iterators, makes all
// commits durable, and unlocks the directory. A second Close returns ErrClosed.
//
// If a file operation has failed the store or fails it now, or if the disk is full and stays
// full, Close abandons the store, and its error wraps ErrFailed or ErrDiskFull and the cause.
// The next open finds everything that was committed with sync. The directory is unlocked even
// then, unless the error says otherwise. A failed store with no stuck goroutine is closed like
// any other, and Close returns the error of the failure.
func (s *Store) Close() error { return s.CloseContext(context.Background()) }

// CloseContext is Close with a time limit: when the context ends first, it abandons the store
// as [Store.GiveUp] does.
func (s *Store) CloseContext(ctx context.Context) error {
	if !s.shut() {
		return ErrClosed
	}
	s.EndPauses()
	result := make(chan error, 1)
	go func() { result <- s.shutDown() }()
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	for {
		select {
		case err := <-result:
			if s.isBroken() {
				return s.abandon(s.Err()) // it may still be changing files
			}
			return joinErrors(joinErrors(s.Err(), err), s.dispose())
		case <-s.guard.Broken():
			return s.abandon(s.Err())
		case <-ctx.Done():
			return s.giveUp(ctx)
		case <-s.space.moved.C():
			patience.Reset(closePatience)
		case <-patience.C:
			if wake.IsClosed(s.stuck()) {
				return s.abandon(fmt.Errorf("%w (so it could not be closed properly)", s.Shortage()))
			}
		}
	}
}

// GiveUp abandons a store that could not be closed before the context ended, as if it had
// failed. Writes in flight may or may not reach the disk. The error wraps ErrFailed and the
// cause of the context.
func (s *Store) GiveUp(ctx context.Context) error {
	if !s.shut() {
		return ErrClosed
	}
	return s.giveUp(ctx)
}

func (s *Store) giveUp(ctx context.Context) error {
	s.guard.Fail(errGivenUp)
	return fmt.Errorf("%w: %w", s.abandonWithin(0, s.Err()), context.Cause(ctx))
}

// errGivenUp is the failure of a store that GiveUp has abandoned.
var errGivenUp = errors.New("it was not closed in time, and was abandoned")

// shut refuses new calls. It reports whether the store was open.
func (s *Store) shut() bool {
	open := s.gate.shut()
	if open {
		close(s.closing)
	}
	return open
}

// shutDown closes Pebble once nobody uses it.
//
// Invariant: Pebble is closed exactly once, with no call in the gate, no iterator and no
// snapshot. So Pebble never panics about use after close.
func (s *Store) shutDown() error {
	s.gate.wait()
	if s.isBroken() {
		return s.Err() // Close has given up on this one: see abandon
	}
	s.closeSnapshots()
	var flushed error
	if !s.cfg.InMemory && !s.cfg.ReadOnly {
		flushed = s.db.Flush() // so that the next open has nothing to replay
	}
	closed := s.db.Close()
	s.ledger.close()
	return joinErrors(flushed, closed)
}

// EndPauses wakes the goroutines of Pebble that pause after they met damage, so that calls that
// wait for them return. Close begins with it; a caller that has to wait for such calls before
// Close calls EndPauses itself.
func (s *Store) EndPauses() { s.damage.endPauses() }

// isBroken reports whether Pebble is stuck, or will be once it changes a file.
func (s *Store) isBroken() bool { return wake.IsClosed(s.guard.Broken()) }

// dispose closes the rest of the store after Pebble was closed, or if it was never opened.
func (s *Store) dispose() error {
	s.ledger.stop()
	s.guard.Close()
	s.reporter.close()
	return s.lock.release()
}

// abandon gives up on Pebble and unlocks the directory. Each of Pebble's goroutines stays
// parked forever at its next change of a file.
func (s *Store) abandon(cause error) error { return s.abandonWithin(quiescePatience, cause) }

// abandonWithin is abandon with a limit on how long it waits for a hanging file operation.
// After the limit, the directory is unlocked when the operation returns.
func (s *Store) abandonWithin(patience time.Duration, cause error) error {
	abandoned.Add(1)
	s.shut()
	s.ledger.stop()
	s.guard.Abandon(cause)
	quiet := s.guard.Quiesce(patience)
	s.guard.Close()
	s.reporter.close()
	if !quiet {
		go func() {
			s.guard.Quiesce(-1)
			_ = s.lock.release() // no caller is left to get the error
		}()
		return fmt.Errorf("%w; the directory stays locked until a hanging file operation returns", cause)
	}
	return joinErrors(cause, s.lock.release())
}
