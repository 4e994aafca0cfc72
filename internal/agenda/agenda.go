// Package agenda orders items by when they are due. It is a heap whose items know their places in
// it. So the first item is found, and any item is moved or removed, without a look at the others.
//
// It knows neither clocks nor the meaning of the items. It has no locks: an agenda and its items
// belong to one goroutine at a time.
package agenda

import "iter"

// Item is the place of a value in an agenda. A value that is in several agendas needs an item for
// each. The zero Item is in none. Set Value before adding the item.
type Item[T any] struct {
	Value T
	due   uint64
	slot  int // one above its place in the heap; 0 while it is in none
}

// Due returns when the value is due, if it is in an agenda.
func (it *Item[T]) Due() uint64 { return it.due }

// Agenda holds items in the order in which they are due. The zero value is empty.
type Agenda[T any] struct {
	heap  []*Item[T]
	moved int // how many items were moved so far, for tests of the cost
}

// First returns the item that is due first, nil if there is none.
func (a *Agenda[T]) First() *Item[T] {
	if len(a.heap) == 0 {
		return nil
	}
	return a.heap[0]
}

// Len returns the number of items.
func (a *Agenda[T]) Len() int { return len(a.heap) }

// Before returns the items that are due before a time, in no particular order. The cost does not
// depend on the others. The agenda must not be changed meanwhile.
func (a *Agenda[T]) Before(due uint64) iter.Seq[*Item[T]] {
	return func(yield func(*Item[T]) bool) { a.before(0, due, yield) }
}

// before is Before for the heap below place i. It returns false if yield has returned false.
func (a *Agenda[T]) before(i int, due uint64, yield func(*Item[T]) bool) bool {
	if i >= len(a.heap) || a.heap[i].due >= due {
		return true
	}
	return yield(a.heap[i]) && a.before(2*i+1, due, yield) && a.before(2*i+2, due, yield)
}

// Ascending returns the items in the order in which they are due. The cost of the first n does
// not depend on the rest. The agenda must not be changed meanwhile.
func (a *Agenda[T]) Ascending() iter.Seq[*Item[T]] {
	return func(yield func(*Item[T]) bool) {
		var next Agenda[int] // places in the heap whose parents were yielded
		if len(a.heap) > 0 {
			next.Set(new(Item[int]), a.heap[0].due)
		}
		for it := next.First(); it != nil; it = next.First() {
			i := it.Value
			next.Remove(it)
			if !yield(a.heap[i]) {
				return
			}
			for child := 2*i + 1; child <= 2*i+2 && child < len(a.heap); child++ {
				next.Set(&Item[int]{Value: child}, a.heap[child].due)
			}
		}
	}
}

// Set adds the item, or moves it if it is already in the agenda.
func (a *Agenda[T]) Set(it *Item[T], due uint64) {
	it.due = due
	if it.slot == 0 {
		a.heap = append(a.heap, it)
		it.slot = len(a.heap)
	}
	a.restore(it.slot - 1)
}

// Remove removes the item. It does nothing if the item is not in the agenda.
func (a *Agenda[T]) Remove(it *Item[T]) {
	if it.slot == 0 {
		return
	}
	i, last := it.slot-1, len(a.heap)-1
	a.put(i, a.heap[last])
	a.heap[last] = nil
	a.heap = a.heap[:last]
	it.slot = 0
	if i < last {
		a.restore(i)
	}
}

// restore moves the item at place i to its right place.
func (a *Agenda[T]) restore(i int) {
	it := a.heap[i]
	for i > 0 && it.due < a.heap[(i-1)/2].due {
		a.put(i, a.heap[(i-1)/2])
		i = (i - 1) / 2
	}
	for {
		child := 2*i + 1
		if child >= len(a.heap) {
			break
		}
		if child+1 < len(a.heap) && a.heap[child+1].due < a.heap[child].due {
			child++
		}
		if it.due <= a.heap[child].due {
			break
		}
		a.put(i, a.heap[child])
		i = child
	}
	a.put(i, it)
}

func (a *Agenda[T]) put(i int, it *Item[T]) {
	a.heap[i] = it
	it.slot = i + 1
	a.moved++
}
