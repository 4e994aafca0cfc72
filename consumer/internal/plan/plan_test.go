package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/consumer/internal/plan"
)

func local(names ...string) (workers []plan.Worker) {
	for _, name := range names {
		workers = append(workers, plan.Worker{Name: name, Local: true})
	}
	return workers
}

// held returns leases with owners.
func held(owners ...string) (leases []plan.Lease) {
	for _, owner := range owners {
		leases = append(leases, plan.Lease{Owner: owner})
	}
	return leases
}

func TestWhoGetsWhichLease(t *testing.T) {
	free := plan.Lease{Free: true}
	remote := func(name string) plan.Worker { return plan.Worker{Name: name} }
	for _, row := range []struct {
		name    string
		leases  []plan.Lease
		workers []plan.Worker
		want    []plan.Move
	}{
		{"nobody is there", []plan.Lease{free}, nil, nil},
		{"nothing is to be done", nil, local("a"), nil},
		{"one takes all at once", []plan.Lease{free, free, free}, local("a"), []plan.Move{{0, "a"}, {1, "a"}, {2, "a"}}},
		{"several share", []plan.Lease{free, free, free}, local("a", "b"), []plan.Move{{0, "a"}, {1, "b"}, {2, "a"}}},
		{"more workers than leases", []plan.Lease{free}, local("a", "b", "c"), []plan.Move{{0, "a"}}},
		{"who had a lease gets it back", []plan.Lease{{Owner: "b", Free: true}, {Owner: "a", Free: true}}, local("a", "b"), []plan.Move{{0, "b"}, {1, "a"}}},
		{"but not more than is fair", []plan.Lease{{Owner: "b", Free: true}, {Owner: "b", Free: true}}, local("a", "b"), []plan.Move{{0, "b"}, {1, "a"}}},
		{"a dead owner's lease goes to who has least", []plan.Lease{{Owner: "a"}, {Owner: "dead", Free: true}}, local("a", "b"), []plan.Move{{1, "b"}}},
		{"a balanced group is left alone", held("a", "b", "a"), local("a", "b"), nil},
		{"one joins and gets its share, no more", held("a", "a", "a", "a"), local("a", "b"), []plan.Move{{3, "b"}, {2, "b"}}},
		{"one joins where all have one", held("a", "b"), local("a", "b", "c"), nil},
		{"what moves already counts for its new owner", []plan.Lease{{Owner: "a"}, {Owner: "b", Moving: true}}, local("a", "b"), nil},
		{"what moves is not moved on", []plan.Lease{{Owner: "b", Moving: true}, {Owner: "b", Moving: true}}, local("a", "b"), nil},
		{"others take their share of what is free", []plan.Lease{free, free, free, free}, append(local("a"), remote("z")), []plan.Move{{0, "a"}, {1, "a"}}},
		{"others are asked for what is missing", held("z", "z", "z", "z"), append(local("a"), remote("z")), []plan.Move{{3, "a"}, {2, "a"}}},
		{"nothing is given to others", held("a", "a", "a", "a"), append(local("a"), remote("z")), nil},
		{"an owner that is not counted keeps its lease", held("gone"), local("a"), nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.Equal(t, row.want, plan.Assign(row.leases, row.workers))
		})
	}
}

// After any history of joins and leaves, all leases are owned, counts differ by at most
// one, and no more leases have moved than necessary.
func TestAssignBalancesWithTheFewestMoves(t *testing.T) {
	for seed := range 300 {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		leases := make([]plan.Lease, 1+random.IntN(60))
		for i := range leases {
			leases[i].Free = true
		}
		workers := local("w0")
		for step := range 30 {
			switch {
			case len(workers) == 1 || random.IntN(2) == 0:
				workers = append(workers, local(fmt.Sprintf("w%d.%d", step+1, seed))...)
			default:
				gone := random.IntN(len(workers))
				for i := range leases {
					if leases[i].Owner == workers[gone].Name {
						leases[i].Free = true
					}
				}
				workers = append(workers[:gone:gone], workers[gone+1:]...)
			}
			needed := fewestMoves(leases, workers)
			moves := plan.Assign(leases, workers)
			require.Len(t, moves, needed, "seed %d step %d", seed, step)
			for _, m := range moves {
				leases[m.Lease] = plan.Lease{Owner: m.To}
			}
			count := make(map[string]int)
			for _, l := range leases {
				require.False(t, l.Free)
				count[l.Owner]++
			}
			low, high := len(leases), 0
			for _, w := range workers {
				low, high = min(low, count[w.Name]), max(high, count[w.Name])
			}
			require.LessOrEqual(t, high-low, 1, "seed %d step %d: %v", seed, step, count)
			require.Empty(t, plan.Assign(leases, workers), "it is quiet then")
		}
	}
}

// fewestMoves returns the minimum number of moves: the free leases, and those that any
// worker has above its maximum.
func fewestMoves(leases []plan.Lease, workers []plan.Worker) int {
	count := make(map[string]int)
	free := 0
	for _, l := range leases {
		if l.Free {
			free++
		} else {
			count[l.Owner]++
		}
	}
	low, extra := len(leases)/len(workers), len(leases)%len(workers)
	over, above := 0, 0 // leases above low+1, and workers with more than low
	for _, w := range workers {
		if n := count[w.Name]; n > low {
			above++
			over += n - low - 1
		}
	}
	return free + over + max(0, above-extra)
}

// AssignFree returns the same as Assign if it reports that this is everything.
func TestAssignFreeAgreesWithAssign(t *testing.T) {
	evens := 0
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 11))
		workers := make([]plan.Worker, 1+random.IntN(5))
		for i := range workers {
			workers[i] = plan.Worker{Name: fmt.Sprint("w", i), Local: random.IntN(4) > 0}
		}
		var leases, free []plan.Lease
		var where []int // the places of the free leases among all
		has := slices.Clone(workers)
		for i := range random.IntN(20) {
			owner := random.IntN(len(workers) + 1)
			l := plan.Lease{Free: random.IntN(2) == 0, Moving: random.IntN(4) == 0}
			if owner < len(workers) {
				l.Owner = workers[owner].Name
			}
			if l.Free {
				l.Moving = false
				free, where = append(free, l), append(where, i)
			} else if owner < len(workers) {
				has[owner].Has++
			}
			leases = append(leases, l)
		}
		moves, even := plan.AssignFree(free, has, len(leases))
		if !even {
			continue
		}
		evens++
		for i := range moves {
			moves[i].Lease = where[moves[i].Lease]
		}
		require.ElementsMatch(t, plan.Assign(leases, workers), moves, "seed %d", seed)
	}
	require.Greater(t, evens, 200)
}
