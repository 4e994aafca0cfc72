// Package plan decides who processes which shard. It is a pure function of what
// is known, so that every rule of it is a row in a table of tests.
package plan

import (
	"cmp"
	"slices"
)

// Worker is a worker that lives and takes leases.
type Worker struct {
	Name string

	// Local workers are decided for. The others decide for themselves, by the same
	// rules, and are counted.
	Local bool

	// Has is how many leases it has beside those that are given with it.
	Has int
}

// Lease is a lease with work to be done: not one whose shard has ended, waits for
// its parents or is paused.
type Lease struct {
	// Owner is who has the lease, or who will when a move that is under way is
	// done. For a free lease it is who had it last: if it lives, it gets it back as
	// long as that is fair.
	Owner string

	Free   bool // nobody has it
	Moving bool // it is on its way to Owner
}

// Move gives a lease, by its index, to a worker.
type Move struct {
	Lease int
	To    string
}

// Assign returns the moves that leave no lease free, as far as the local workers
// are concerned, and the counts of any two workers no more than one apart; and no
// more moves than that takes. Free leases are taken first; then a worker is given
// a lease of the one that has most, for as long as the two are more than one
// apart. The result depends on nothing but the arguments.
func Assign(leases []Lease, workers []Worker) []Move {
	if len(leases) == 0 || len(workers) == 0 {
		return nil
	}
	a := newAssignment(leases, workers)
	a.assignFree(leases, len(leases))
	a.balance()
	return a.moves
}

// AssignFree is Assign for the free leases alone, at a cost that does not depend on
// the others: of all there are total, and Has counts those that workers have. Assign
// would return the same moves and no more, if even is true.
func AssignFree(free []Lease, workers []Worker, total int) (moves []Move, even bool) {
	if len(workers) == 0 {
		return nil, true
	}
	a := newAssignment(free, workers)
	a.assignFree(free, total)
	least := a.least()
	return a.moves, least < 0 || slices.Max(a.count) < a.count[least]+2
}

func newAssignment(leases []Lease, workers []Worker) *assignment {
	workers = slices.Clone(workers)
	slices.SortFunc(workers, func(a, b Worker) int { return cmp.Compare(a.Name, b.Name) })
	a := &assignment{workers: workers, index: make(map[string]int), count: make([]int, len(workers)), owned: make([][]int, len(workers))}
	for i, w := range workers {
		a.index[w.Name], a.count[i] = i, w.Has
	}
	for i, l := range leases {
		if w, known := a.index[l.Owner]; known && !l.Free {
			a.count[w]++
			if !l.Moving {
				a.owned[w] = append(a.owned[w], i)
			}
		}
	}
	return a
}

// assignFree gives out the free leases, fairly among a total.
func (a *assignment) assignFree(leases []Lease, total int) {
	fair := (total + len(a.workers) - 1) / len(a.workers)
	a.giveBack(leases, fair)
	a.giveOut(leases, fair)
}

type assignment struct {
	workers []Worker
	index   map[string]int // by name
	count   []int          // of leases, by worker
	owned   [][]int        // leases that can be moved, by worker
	given   map[int]bool   // free leases that have been given to somebody
	moves   []Move
}

// giveBack gives free leases to those who had them last.
func (a *assignment) giveBack(leases []Lease, fair int) {
	a.given = make(map[int]bool)
	for i, l := range leases {
		w, known := a.index[l.Owner]
		if l.Free && known && a.workers[w].Local && a.count[w] < fair {
			a.give(i, w)
		}
	}
}

// giveOut gives the other free leases to those who have least.
func (a *assignment) giveOut(leases []Lease, fair int) {
	for i, l := range leases {
		if !l.Free || a.given[i] {
			continue
		}
		w := a.least()
		if w < 0 || a.count[w] >= fair {
			return // the rest is for others
		}
		a.give(i, w)
	}
}

func (a *assignment) give(lease, w int) {
	a.given[lease] = true
	a.count[w]++
	a.moves = append(a.moves, Move{lease, a.workers[w].Name})
}

// balance moves leases from those who have most to those who have least.
func (a *assignment) balance() {
	for {
		to, from := a.least(), -1
		for w := range a.workers {
			if len(a.owned[w]) > 0 && (from < 0 || a.count[w] > a.count[from]) {
				from = w
			}
		}
		if to < 0 || from < 0 || a.count[from] < a.count[to]+2 {
			return
		}
		last := len(a.owned[from]) - 1
		a.moves = append(a.moves, Move{a.owned[from][last], a.workers[to].Name})
		a.owned[from] = a.owned[from][:last]
		a.count[from]--
		a.count[to]++
	}
}

// least returns the local worker that has least, the first by name of several;
// -1 if there is none.
func (a *assignment) least() int {
	least := -1
	for w := range a.workers {
		if a.workers[w].Local && (least < 0 || a.count[w] < a.count[least]) {
			least = w
		}
	}
	return least
}
