package braid

import (
	"cmp"
	"context"
	"fmt"

	"github.com/braidstream/braid/internal/kv"
)

// reading runs a read of the store, and returns when it does or when ctx ends. The
// file system cannot be told to stop, so on a stalled disk the read is left behind:
// it holds its iterator until the disk answers, and Close waits for it. So it may
// use nothing that the caller uses after an error.
//
// A page from memory needs none of this, and a page from the store is worth a
// goroutine.
func reading[T any](ctx context.Context, read func() (T, error)) (T, error) {
	if ctx.Done() == nil {
		return read()
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
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

// corrupt classes an error of package layout.
func corrupt(err error) error { return fmt.Errorf("%w: %w", ErrCorrupt, err) }
