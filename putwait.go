package braid

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
)

// PutRecordWait is like [Stream.PutRecord], but while the shard's budget is used up, it waits
// and tries again until ctx ends. Errors: as PutRecord, without ErrThroughputExceeded. If ctx
// ends during the wait, the error is its cause, and the record is refused.
func (s *Stream) PutRecordWait(ctx context.Context, partitionKey string, data []byte) (PutResult, error) {
	for {
		result, err := s.PutRecord(ctx, partitionKey, data)
		retry := retryAfter(err)
		if retry == 0 {
			return result, err
		}
		if err := wait(ctx, s.db, time.After(retry)); err != nil {
			return PutResult{}, wrapError("put record", s.name, err)
		}
	}
}

// retryAfter returns the RetryAfter of an [ErrThroughputExceeded], and 0 for any other
// error and for nil.
func retryAfter(err error) time.Duration {
	var e *ThroughputExceededError
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// PutRecordsWait is like [Stream.PutRecords], but waits and tries again, in the same way,
// until no entry is refused for its shard's budget. Entries for the same shard keep their
// order. If it has to wait, it takes more than one commit.
//
// If ctx ends during the wait, or another error stops the call, some entries may be stored
// already. The error of the call is then nil, and the results of the entries that were not
// stored have the error in their Err: check the results. The call itself returns an error only
// if no entry was stored, with the errors of [Stream.PutRecords].
func (s *Stream) PutRecordsWait(ctx context.Context, entries []Entry) ([]PutResult, error) {
	total, err := s.validateEntries(entries)
	if err != nil {
		return nil, wrapError("put records", s.name, err)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	op := &waitingOp{stream: s, puts: s.preparePuts(nil, entries, total)}
	bytes := 0 // of the puts that are not stored
	for i := range op.puts {
		bytes += op.puts[i].bytes()
	}
	results, left := make([]PutResult, len(entries)), len(entries)
	for {
		err := op.commit(ctx, bytes)
		if err != nil && left == len(entries) {
			return nil, wrapError("put records", s.name, err)
		}
		if err == nil { // after an error, op may still belong to the committer
			for _, i := range op.placed {
				results[i] = op.puts[i].result()
				bytes -= op.puts[i].bytes()
			}
			if left -= len(op.placed); left == 0 {
				return results, nil
			}
			err = wait(ctx, s.db, time.After(op.retry))
		}
		if err != nil {
			err = wrapError("put records", s.name, err)
			for i := range results {
				if results[i].ShardID == "" {
					results[i].Err = err
				}
			}
			return results, nil
		}
	}
}

// waitingOp is the operation of PutRecordsWait. It is committed repeatedly, and each commit
// stores the puts that the budgets allow. The others wait in one line per shard, and only the
// first put of a line is tried again. So a commit costs what it stores plus one look at each
// line, however many puts wait.
type waitingOp struct {
	stream *Stream
	puts   []put

	// The committer sets the fields below during a commit. Between two commits they belong to
	// the caller.
	placed []int         // the puts that the last commit has stored
	retry  time.Duration // when the first put of each line is within its budget
	lines  []line        // the puts that are not stored
	of     *topology     // the topology that lines were made for; nil before the first commit
}

// line has the puts for a shard that are not stored, in their order.
type line struct {
	shard *Shard
	puts  []int
}

// commit commits the operation, which adds at most so many bytes.
func (op *waitingOp) commit(ctx context.Context, bytes int) error {
	for {
		// Use a new request each time: after an unknown outcome, the old one belongs to the
		// committer.
		err := op.stream.db.committer.Do(ctx, &commit.Request{Op: op, Bytes: bytes, Prompt: true})
		if err == nil {
			return nil
		}
		if err = op.stream.db.renewDataKey(ctx, err); err != nil { // nil: it was refused only for lack of a data key
			return err
		}
	}
}

// applyWaiting places the puts that the budgets allow.
func (a *appender) applyWaiting(op *waitingOp, batch *kv.Batch) error {
	s := op.stream
	if s.w.deleted {
		return ErrStreamNotFound
	}
	if err := a.canSeal(s); err != nil {
		return err
	}
	a.call++
	op.placed, op.retry = op.placed[:0], 0
	if op.of == s.w.topology {
		a.takeFromLines(op, batch)
	} else {
		a.lineUp(op, batch)
	}
	a.settle()
	return nil
}

// takeFromLines places puts from the front of each line.
func (a *appender) takeFromLines(op *waitingOp, batch *kv.Batch) {
	kept := op.lines[:0]
	for _, l := range op.lines {
		for len(l.puts) > 0 && a.placeWaiting(op, l.shard, l.puts[0], batch) {
			l.puts = l.puts[1:]
		}
		if len(l.puts) > 0 {
			kept = append(kept, l)
		}
	}
	clear(op.lines[len(kept):])
	op.lines = kept
}

// lineUp places puts in the order of the call, and makes lines of the others. It is called
// first, and after a reshard, when puts of two lines may belong to one shard.
func (a *appender) lineUp(op *waitingOp, batch *kv.Batch) {
	var left []int
	if op.of == nil {
		left = make([]int, len(op.puts))
		for i := range left {
			left[i] = i
		}
		op.placed = make([]int, 0, len(left))
	}
	for _, l := range op.lines {
		left = append(left, l.puts...)
	}
	slices.Sort(left)
	op.of, op.lines = op.stream.w.topology, nil
	lines := make(map[*Shard]int) // the index of each shard's line
	for _, i := range left {
		sh := op.of.route(&op.puts[i])
		if a.placeWaiting(op, sh, i, batch) { // false if an earlier put for the shard was refused
			continue
		}
		n, ok := lines[sh]
		if !ok {
			n = len(op.lines)
			lines[sh] = n
			op.lines = append(op.lines, line{shard: sh})
		}
		op.lines[n].puts = append(op.lines[n].puts, i)
	}
}

// placeWaiting places a put, and reports whether the shard's budgets allow it.
func (a *appender) placeWaiting(op *waitingOp, sh *Shard, i int, batch *kv.Batch) bool {
	p := &op.puts[i]
	mode := op.stream.w.settings.capacity.Mode
	if mode == OnDemand {
		a.observe(sh, p) // refused records count as load, too
	}
	if mode != Unlimited {
		if err := a.admit(sh, p.record.Size()); err != nil {
			op.retry = max(op.retry, retryAfter(err))
			return false
		}
	}
	a.place(sh, p, batch)
	op.placed = append(op.placed, i)
	return true
}
