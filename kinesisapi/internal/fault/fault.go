// Package fault injects faults into the operations of a server: any error of the service,
// delays, partial failures, and broken connections.
package fault

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/kinesisapi/internal/server"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Fault describes what happens to a call.
type Fault struct {
	// Delay is how long the call waits before anything else happens.
	Delay time.Duration

	// DropBefore breaks the connection before the operation runs, DropAfter after it has run.
	// The caller cannot distinguish them.
	DropBefore, DropAfter bool

	// Error, if not nil, is the answer, and the operation does not run.
	Error *service.Error

	// Entries are the indexes of the entries of a PutRecords call that fail with EntryError;
	// the others are put. Other operations ignore it.
	Entries    []int
	EntryError *service.Error

	// Redeliver makes the records of an AcknowledgeQueueRecords call come again, although the
	// call succeeds. Other operations ignore it.
	Redeliver bool
}

// Script is a list of pending faults. Each call takes the first that applies to its
// operation.
type Script struct {
	mu      sync.Mutex // guards the fields below
	lines   []line
	misfits []Misfit
}

// Misfit is a PutRecords call that lacked an entry of its fault.
type Misfit struct {
	Entry   int // counted from 0
	Entries int // of the call
}

// Misfits returns the calls so far that lacked an entry of their fault.
func (s *Script) Misfits() []Misfit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.misfits)
}

type line struct {
	operation string
	times     int
	fault     Fault
}

// Add adds a fault for the next calls of an operation, as many as times, after the faults
// added before. An empty operation means any.
func (s *Script) Add(operation string, times int, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line{operation, times, fault})
}

// Clear removes all pending faults.
func (s *Script) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = nil
}

// Pending returns how many calls will still take a fault.
func (s *Script) Pending() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		n += l.times
	}
	return n
}

// Unmet is a pending fault.
type Unmet struct {
	Operation string
	Times     int
	Fault     Fault
}

// Unmet returns the pending faults, in the order of Add.
func (s *Script) Unmet() []Unmet {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Unmet, len(s.lines))
	for i, l := range s.lines {
		list[i] = Unmet{l.operation, l.times, l.fault}
	}
	return list
}

// take removes and returns the fault for a call of the operation.
func (s *Script) take(operation string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.lines {
		l := &s.lines[i]
		if l.operation != "" && l.operation != operation {
			continue
		}
		fault := l.fault
		if l.times--; l.times <= 0 {
			s.lines = slices.Delete(s.lines, i, i+1)
		}
		return fault, true
	}
	return Fault{}, false
}

// Intercept runs a call with its fault, if it has one. It is for server.Options.
func (s *Script) Intercept(ctx context.Context, call *server.Call, next func(context.Context) (any, error)) (any, error) {
	fault, ok := s.take(call.Operation)
	if !ok {
		return next(ctx)
	}
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	switch {
	case fault.DropBefore:
		return nil, server.ErrDrop
	case fault.Error != nil:
		return nil, fault.Error
	}
	s.fit(call, fault)
	if fault.Redeliver {
		ctx = service.Redelivering(ctx)
	}
	out, err := putOthers(ctx, call, next, fault)
	if fault.DropAfter {
		if sub, ok := out.(*service.Subscription); ok {
			sub.Close()
		}
		return nil, server.ErrDrop
	}
	return out, err
}

// fit records the entries of the fault that a PutRecords call lacks.
func (s *Script) fit(call *server.Call, fault Fault) {
	in, ok := call.Input.(*service.PutRecordsInput)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, entry := range fault.Entries {
		if entry >= len(in.Records) {
			s.misfits = append(s.misfits, Misfit{entry, len(in.Records)})
		}
	}
}

// putOthers puts the entries of a PutRecords call that are not in the fault, and answers as
// if the service had refused those that are. It runs calls of other operations unchanged.
func putOthers(ctx context.Context, call *server.Call, next func(context.Context) (any, error), fault Fault) (any, error) {
	in, ok := call.Input.(*service.PutRecordsInput)
	if !ok || len(fault.Entries) == 0 {
		return next(ctx)
	}
	fails := func(i int) bool { return slices.Contains(fault.Entries, i) }
	others := *in
	others.Records = nil
	for i := range in.Records {
		if !fails(i) {
			others.Records = append(others.Records, in.Records[i])
		}
	}
	put := &service.PutRecordsOutput{}
	if len(others.Records) == 0 { // put nothing, but let the service check the call
		others.Records, others.DryRun = in.Records, new(true)
	}
	call.Input = &others
	switch out, err := next(ctx); {
	case err == nil:
		put = out.(*service.PutRecordsOutput)
	case len(others.Records) < len(in.Records) || in.DryRun != nil && *in.DryRun || !isDryRun(err):
		return nil, err
	}
	out := &service.PutRecordsOutput{EncryptionType: put.EncryptionType, FailedRecordCount: put.FailedRecordCount}
	for i := range in.Records {
		if fails(i) {
			e := fault.EntryError
			out.FailedRecordCount++
			out.Records = append(out.Records, service.PutRecordsResultEntry{ErrorCode: &e.Type, ErrorMessage: &e.Message})
			continue
		}
		out.Records = append(out.Records, put.Records[0])
		put.Records = put.Records[1:]
	}
	return out, nil
}

// isDryRun reports whether the error is that of a valid call with DryRun.
func isDryRun(err error) bool {
	var e *service.Error
	return errors.As(err, &e) && e.Type == "DryRunOperationException"
}
