package braid

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/internal/kv"
)

// reading runs a read of the store, and returns when the read does or when ctx ends. A file
// operation cannot be interrupted, so on a stalled disk the read is abandoned: it holds its
// iterator until the disk answers, and Close waits for it. So the read must not use anything
// that the caller uses after an error.
//
// Reads from memory do not need it.
func reading[T any](ctx context.Context, db *DB, read func() (T, error)) (T, error) {
	if ctx.Done() == nil {
		return read()
	}
	var result struct {
		value T
		err   error
	}
	r := db.readers.take()
	r.work <- func() { result.value, result.err = read() }
	spin(r.done)
	select {
	case <-r.done:
		db.readers.give(r)
		return result.value, result.err
	case <-ctx.Done():
		close(r.work) // it ends when the disk answers
		var none T
		return none, context.Cause(ctx)
	}
}

const (
	maxReadSpins   = 2
	maxIdleReaders = 16 // per database; more are started when needed
)

// readers are goroutines that read the store for callers that may not wait for them.
// Starting one costs more than reading a key, mostly because its stack must grow, so some are
// kept.
type readers struct {
	ahead atomic.Int32 // how many read ahead for loops

	mu    sync.Mutex // guards the fields below
	idle  []*reader
	ended bool // none is kept from now on
}

// reader is a goroutine that reads. Closing work ends it: [reading] does that when it
// abandons the reader, and give and end do.
type reader struct {
	work  chan func()   // holds at most one
	done  chan struct{} // holds a token when the work is done
	ended chan struct{} // closed when the goroutine has returned
}

// take returns a reader without work.
func (rs *readers) take() *reader {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if last := len(rs.idle) - 1; last >= 0 {
		r := rs.idle[last]
		rs.idle = rs.idle[:last]
		return r
	}
	r := &reader{make(chan func(), 1), make(chan struct{}, 1), make(chan struct{})}
	go func() {
		defer close(r.ended)
		for read := range r.work {
			read()
			r.done <- struct{}{}
		}
	}()
	return r
}

// give takes back a reader whose work is done.
func (rs *readers) give(r *reader) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.ended || len(rs.idle) == maxIdleReaders {
		close(r.work)
		return
	}
	rs.idle = append(rs.idle, r)
}

// finished reports whether the reader is done with its work, after waiting a moment for it.
// If so, the reader can be given back.
func (r *reader) finished() bool {
	spin(r.done)
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// spin waits a moment for a token: reading cached data takes less time than parking and
// waking a goroutine.
func spin(done <-chan struct{}) {
	for i := 0; i < maxReadSpins && len(done) == 0; i++ {
		runtime.Gosched()
	}
}

// end ends the idle readers and waits for them. The others end after their work. Close calls
// it.
func (rs *readers) end() {
	rs.mu.Lock()
	idle := rs.idle
	rs.idle, rs.ended = nil, true
	rs.mu.Unlock()
	for _, r := range idle {
		close(r.work)
		<-r.ended
	}
}

// scan calls fn for every row in the range.
func scan(r kv.Reader, lower, upper []byte, fn func(key, value []byte) error) (err error) {
	it, err := r.NewIter(lower, upper)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		value := it.Value()
		if err := it.Error(); err != nil {
			return err
		}
		if err := fn(it.Key(), value); err != nil {
			return err
		}
	}
	return it.Error()
}

// corrupt makes an error of package layout an ErrCorrupt.
func corrupt(err error) error { return fmt.Errorf("%w: %w", ErrCorrupt, err) }
