package braid

import "context"

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
