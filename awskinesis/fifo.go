package awskinesis

// fifo is a queue whose memory follows its length. The zero value is empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) push(item T) { f.items = append(f.items, item) }

// peek returns the first item. The queue must not be empty.
func (f *fifo[T]) peek() T { return f.items[f.head] }

// pop removes the first item. The queue must not be empty.
func (f *fifo[T]) pop() T {
	var none T
	item := f.items[f.head]
	f.items[f.head] = none
	f.head++
	if f.head == len(f.items) || f.head > 64 && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	return item
}

// all yields the items. The queue must not change meanwhile.
func (f *fifo[T]) all() []T { return f.items[f.head:] }
