// Package plan decides which worker processes which shard. It is a pure function of the
// known state, so that every rule is a row in a table of tests.
package plan

import (
	"cmp"
	"slices"
)

// Worker is a worker that is alive and takes leases.
type Worker struct {
	Name string

	// Local workers get moves. The others decide for themselves, by the same rules, and are
	// only counted.
	Local bool

	// Has is how many leases it has besides those passed to Assign.
	Has int
}

// Lease is a lease that can be processed. Leases whose shard has ended, waits for its
// parents or is paused are left out.
type Lease struct {
	// Owner is the worker that has the lease, or will have it after a move in progress. For a
	// free lease it is the last owner: if it is alive, it gets the lease back as long as that
	// is fair.
	Owner string

	Free   bool // no worker has it
	Moving bool // it is moving to Owner
}

// Move gives the lease with this index to a worker.
type Move struct {
	Lease int
	To    string
}

// Assign returns the fewest moves after which, as far as local workers are concerned, no
// lease is free and the counts of any two workers differ by at most one. Free leases are
// given out first. Then workers get leases from the one that has the most, as long as the
// two differ by more than one. The result depends only on the arguments.
func Assign(leases []Lease, workers []Worker) []Move {
	if len(leases) == 0 || len(workers) == 0 {
		return nil
	}
	a := newAssignment(leases, workers)
	a.assignFree(leases, len(leases))
	a.balance()
	return a.moves
}

// AssignFree is Assign for the free leases alone, at a cost that does not depend on the
// others. total is the number of all leases, and Has counts the leases that a worker has.
// If even is true, Assign would return the same moves.
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

// assignFree gives out the free leases, fairly with respect to the total.
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
	given   map[int]bool   // free leases that were given out
	moves   []Move
}

// giveBack gives free leases to their last owners.
func (a *assignment) giveBack(leases []Lease, fair int) {
	a.given = make(map[int]bool)
	for i, l := range leases {
		w, known := a.index[l.Owner]
		if l.Free && known && a.workers[w].Local && a.count[w] < fair {
			a.give(i, w)
		}
	}
}

// giveOut gives the other free leases to the workers with the fewest.
func (a *assignment) giveOut(leases []Lease, fair int) {
	for i, l := range leases {
		if !l.Free || a.given[i] {
			continue
		}
		w := a.least()
		if w < 0 || a.count[w] >= fair {
			return // the rest is for workers elsewhere
		}
		a.give(i, w)
	}
}

func (a *assignment) give(lease, w int) {
	a.given[lease] = true
	a.count[w]++
	a.moves = append(a.moves, Move{lease, a.workers[w].Name})
}

// balance moves leases from the workers with the most to those with the fewest.
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

// least returns the local worker with the fewest leases, the first by name if there are
// several, or -1 if there is none.
func (a *assignment) least() int {
	least := -1
	for w := range a.workers {
		if a.workers[w].Local && (least < 0 || a.count[w] < a.count[least]) {
			least = w
		}
	}
	return least
}
