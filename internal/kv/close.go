package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/internal/wake"
)

const (
	// closePatience is how long Close waits on a full disk.
	closePatience = time.Second

	// quiescePatience is how long an abandoned store may take to let go of its
	// files.
	quiescePatience = 10 * time.Second
)

// Close refuses new calls with ErrClosed, waits for those inside, iterators
// among them, makes everything durable that was committed, and gives the
// directory back. A second Close returns ErrClosed.
//
// If an operation of the disk has failed the store, or does so now, or if the disk
// is full and stays so, it is abandoned, and the error wraps ErrFailed or
// ErrDiskFull and the cause. All that was committed with sync is there at the next
// open. The directory is given back in this case too, unless the error says
// otherwise. A store that failed with nothing stuck is closed like any other, and
// its error is returned.
func (s *Store) Close() error { return s.CloseContext(context.Background()) }

// CloseContext is Close with a bound. A store that is not closed when the context
// ends is given up as with [Store.GiveUp].
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
				return s.abandon(fmt.Errorf("%w (so it could not be closed in the proper way)", s.Shortage()))
			}
		}
	}
}

// GiveUp abandons a store that could not be closed before the context ended, as if
// it had failed. What is on its way to the disk may or may not arrive. The error
// wraps ErrFailed and the cause of the context.
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

// errGivenUp is why a store has failed that giveUp has abandoned.
var errGivenUp = errors.New("it was not closed in time, and is given up")

// shut refuses new calls. It reports whether the store was open.
func (s *Store) shut() bool {
	open := s.gate.shut()
	if open {
		close(s.closing)
	}
	return open
}

// shutDown closes Pebble once nobody uses it any more.
//
// Invariant: Pebble is closed exactly once, with nobody in the gate, no iterator
// and no snapshot. So none of its panics about closed use can be met.
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

// EndPauses lets Pebble's goroutines go on that wait because they met damage, so
// that calls which wait for them return. Close begins with it; a caller that
// has to wait for such calls before it can close the store makes it earlier.
func (s *Store) EndPauses() { s.damage.endPauses() }

// isBroken reports whether Pebble is stuck, or will be once it changes a file.
func (s *Store) isBroken() bool { return wake.IsClosed(s.guard.Broken()) }

// dispose ends what belongs to the store besides Pebble, which is closed or was
// never opened.
func (s *Store) dispose() error {
	s.ledger.stop()
	s.guard.Close()
	s.reporter.close()
	return s.lock.release()
}

// abandon leaves Pebble behind and gives the directory back. Its goroutines are
// parked where they next want to change a file, forever.
func (s *Store) abandon(cause error) error { return s.abandonWithin(quiescePatience, cause) }

// abandonWithin is abandon with a bound on how long a file operation may keep it.
// The directory of one that is kept is given back when the operation returns.
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
			_ = s.lock.release() // there is nobody to be told
		}()
		return fmt.Errorf("%w; the directory stays locked until a file operation that is held returns", cause)
	}
	return joinErrors(cause, s.lock.release())
}
