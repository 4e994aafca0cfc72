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

// status is that of a stream, consumer or queue which is on its way to another one. What
// is in no such status is ACTIVE.
//
// A status lives in memory. Close brings it to its end, and a crash forgets it:
// what was being created then exists, and a change that had not been made is not.
type status struct {
	name  string
	timer *time.Timer   // runs end; nil if the operation itself does
	end   func()        // makes the change, and closes done
	done  chan struct{} // closed when the status is over
	mode  string        // that a stream gets at the end; empty if it keeps its own. Guarded by Service.mu
}

// hurry brings the status to its end, if that is not under way.
func (st *status) hurry() {
	if st.timer != nil && st.timer.Stop() {
		st.end()
	}
}

// begin gives something a status for a time, at the end of which the change is
// made; without a delay it is made at once, and its error returned. If the thing
// has a status already, nothing happens, and begin returns that one's name.
//
// The change does not end with the request's context: nobody should find the half
// of it because a client hung up.
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

// interrupt ends a status without the change that it is about, or waits for it if
// it is being made.
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

// promiseMode notes that a stream gets a mode at the end of its status, if it has one.
func (s *Service) promiseMode(key, mode string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.statuses[key]; st != nil {
		st.mode = mode
	}
}

// promisedMode returns the mode that a stream is to get, or nothing.
func (s *Service) promisedMode(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.statuses[key]; st != nil {
		return st.mode
	}
	return ""
}

// consumerKey is what the statuses call a consumer. No stored name of a stream
// has a slash.
func consumerKey(stored string, c *consumerRow) string {
	return stored + "/" + c.Name + "/" + c.created().UTC().Format(time.RFC3339Nano)
}

// requireActive is the error of an operation that needs an ACTIVE stream.
func (s *Service) requireActive(t target) error {
	if status := s.statusOf(t.stored); status != active {
		return s.notActive(t, status)
	}
	return nil
}

// updating makes a change to an ACTIVE stream, which is UPDATING meanwhile.
func (s *Service) updating(ctx context.Context, t target, change func(context.Context) error) error {
	busy, err := s.begin(ctx, t.stored, updating, s.opts.UpdateDelay, change)
	if busy != "" {
		return s.notActive(t, busy)
	}
	return s.fromBraid(t, err)
}

// updatingAtOnce makes a change to an ACTIVE stream at once, so that a caller that asks
// for it is told if it cannot be made. The stream is UPDATING after it.
func (s *Service) updatingAtOnce(ctx context.Context, t target, change func(context.Context) error) error {
	busy, err := s.begin(ctx, t.stored, updating, 0, change)
	switch {
	case busy != "":
		return s.notActive(t, busy)
	case err != nil:
		return s.fromBraid(t, err)
	case s.opts.UpdateDelay > 0:
		// Another call came in between and gave the stream another status.
		_, _ = s.begin(ctx, t.stored, updating, s.opts.UpdateDelay, func(context.Context) error { return nil })
	}
	return nil
}

// open returns the stream of a request that puts to it or reads it: one that is
// being created or deleted is not there.
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
