package service

import (
	"context"
	"time"

	"github.com/braidstream/braid"
)

// The statuses of streams, consumers and queues.
const (
	creating = "CREATING"
	deleting = "DELETING"
	active   = "ACTIVE"
	updating = "UPDATING"
)

// status is the temporary status of a stream, consumer or queue: CREATING, UPDATING or
// DELETING. Without one it is ACTIVE.
//
// A status is only in memory. Close completes it, and a crash forgets it: a stream that was
// CREATING then exists, and a pending change has not been made.
type status struct {
	name  string
	timer *time.Timer   // runs end; nil if the operation itself does
	end   func()        // makes the change, and closes done
	done  chan struct{} // closed when the status is over
	mode  string        // of the stream at the end; empty if it does not change. Guarded by Service.mu
}

// hurry completes the status now, unless that has begun.
func (st *status) hurry() {
	if st.timer != nil && st.timer.Stop() {
		st.end()
	}
}

// begin sets a status for a time, and makes the change at its end. Without a delay it makes
// the change at once and returns its error. If the key has a status already, begin does
// nothing and returns the name of that status.
//
// The change does not end with the request's context, so that a client that hangs up does
// not leave half of it.
func (s *Service) begin(ctx context.Context, key, name string, delay time.Duration, change func(context.Context) error) (busy string, err error) {
	ctx = context.WithoutCancel(ctx)
	s.mu.Lock()
	if st := s.statuses[key]; st != nil {
		s.mu.Unlock()
		return st.name, nil
	}
	delayed := delay > 0 && !s.closing
	st := &status{name: name, done: make(chan struct{})}
	s.statuses[key] = st
	var failed error
	st.end = func() {
		if failed = change(ctx); failed != nil && delayed {
			s.opts.Logger.Warn("a change of status was not completed", "of", key, "status", name, "error", failed)
		}
		s.forget(key, st)
	}
	if delayed {
		st.timer = time.AfterFunc(delay, st.end)
		s.mu.Unlock()
		return "", nil
	}
	s.mu.Unlock()
	st.end()
	return "", failed
}

// forget ends a status.
func (s *Service) forget(key string, st *status) {
	s.mu.Lock()
	if s.statuses[key] == st {
		delete(s.statuses, key)
	}
	s.mu.Unlock()
	close(st.done)
}

// interrupt ends a status without making its change. If the change has begun, interrupt
// waits for it.
func (s *Service) interrupt(key string) {
	s.mu.Lock()
	st := s.statuses[key]
	s.mu.Unlock()
	switch {
	case st == nil:
	case st.timer != nil && st.timer.Stop():
		s.forget(key, st)
	default:
		<-st.done
	}
}

func (s *Service) statusOf(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.statuses[key]; st != nil {
		return st.name
	}
	return active
}

// promiseMode sets the mode that a stream gets at the end of its status, if it has a
// status.
func (s *Service) promiseMode(key, mode string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.statuses[key]; st != nil {
		st.mode = mode
	}
}

// promisedMode returns the mode that a stream gets at the end of its status, or "".
func (s *Service) promisedMode(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.statuses[key]; st != nil {
		return st.mode
	}
	return ""
}

// consumerKey returns a consumer's key in the statuses. It has a slash, unlike the stored
// name of any stream.
func consumerKey(stored string, c *consumerRow) string {
	return stored + "/" + c.Name + "/" + c.created().UTC().Format(time.RFC3339Nano)
}

// requireActive returns an error unless the stream is ACTIVE.
func (s *Service) requireActive(t target) error {
	if status := s.statusOf(t.stored); status != active {
		return s.notActive(t, status)
	}
	return nil
}

// updating makes a change to an ACTIVE stream at the end of the UpdateDelay. Until then the
// stream is UPDATING.
func (s *Service) updating(ctx context.Context, t target, change func(context.Context) error) error {
	busy, err := s.begin(ctx, t.stored, updating, s.opts.UpdateDelay, change)
	if busy != "" {
		return s.notActive(t, busy)
	}
	return s.fromBraid(t, err)
}

// updatingAtOnce makes a change to an ACTIVE stream at once, so that the caller gets its
// error. After that the stream is UPDATING for the UpdateDelay.
func (s *Service) updatingAtOnce(ctx context.Context, t target, change func(context.Context) error) error {
	busy, err := s.begin(ctx, t.stored, updating, 0, change)
	switch {
	case busy != "":
		return s.notActive(t, busy)
	case err != nil:
		return s.fromBraid(t, err)
	case s.opts.UpdateDelay > 0:
		// An error means that another call has set a status in between.
		_, _ = s.begin(ctx, t.stored, updating, s.opts.UpdateDelay, func(context.Context) error { return nil })
	}
	return nil
}

// open returns the stream of a request to put or read. A stream that is CREATING or
// DELETING is not found.
func (s *Service) open(c Caller, name, arn *string) (target, *braid.Stream, error) {
	t, stream, err := s.stream(c, name, arn)
	if err == nil && !s.isOpen(t) {
		err = s.streamNotFound(t)
	}
	return t, stream, err
}

func (s *Service) isOpen(t target) bool {
	status := s.statusOf(t.stored)
	return status == active || status == updating
}
