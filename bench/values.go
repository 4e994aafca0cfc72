package main

import "math/rand/v2"

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// valuePoolBytes is far more than any system compresses together, so that no value is
// compressed with its copy.
const valuePoolBytes = 8 * mib

// newValues returns values of that size that are half compressible: one half random, one half
// constant. They are equal in every run.
func newValues(size int) [][]byte {
	random := rand.NewChaCha8([32]byte{'b', 'r', 'a', 'i', 'd'})
	values := make([][]byte, max(1, valuePoolBytes/size))
	for i := range values {
		values[i] = make([]byte, size)
		_, _ = random.Read(values[i][:size/2]) // it never fails
	}
	return values
}

// valueCursor cycles through values.
type valueCursor struct {
	values [][]byte
	at     int
}

// startValues returns a cursor for the n-th producer, far from those of the others.
func startValues(values [][]byte, n int) valueCursor {
	return valueCursor{values, n * 7919 % len(values)}
}

func (c *valueCursor) next() []byte {
	c.at = (c.at + 1) % len(c.values)
	return c.values[c.at]
}

// fill replaces the elements of batch by the next values.
func (c *valueCursor) fill(batch [][]byte) {
	for i := range batch {
		batch[i] = c.next()
	}
}
