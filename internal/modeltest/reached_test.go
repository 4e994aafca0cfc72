package modeltest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// reached counts the rare situations that random histories reach. A history proves nothing about a
// situation that its generator cannot create, so a run of full length fails if one of the wanted
// situations was never reached.
type reached struct {
	mu     sync.Mutex // guards the field below
	counts map[string]int
}

func (r *reached) note(situation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[string]int)
	}
	r.counts[situation]++
}

// require fails unless each wanted situation was reached. A situation that was reached but is not
// wanted is also an error: nobody would notice if it disappeared.
func (r *reached) require(t *testing.T, wanted ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, situation := range wanted {
		if r.counts[situation] == 0 {
			t.Errorf("no history reached %q: the test proves nothing about it", situation)
		}
	}
	for situation := range r.counts {
		if !slices.Contains(wanted, situation) {
			t.Errorf("%q was reached, but is not in the list of wanted situations", situation)
		}
	}
}

// String lists the situations and their counts.
func (r *reached) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, situation := range slices.Sorted(maps.Keys(r.counts)) {
		list = append(list, fmt.Sprintf("%s: %d", situation, r.counts[situation]))
	}
	return strings.Join(list, ", ")
}

// modelSituations are those of the model.
var modelSituations = []string{
	"an image during change of capacity", "an image during change of the key", "an image during close",
	"an image during creation", "an image during deletion", "an image during open", "an image during puts together",
	"an image during reshard", "an image during retention change", "an image during trim",
	"an image of an image that was being opened",
	"a restart after the clock went back",
	"a power cut that lost acknowledged records",
	"a reader overtaken by a trim",
	"a shard that expired",
	"a trim in the group of puts", "a key changed in the group of puts",
	"a put of unknown outcome that is stored", "a put refused in time",
	"an entry throttled beside one that was not",
	"expired records that a clock gone back brought back",
	"an epoch that was dropped",
	"an image during creation of a queue", "an image during deletion of a queue", "an image during update of a queue",
	"a queue after a power cut", "a dead letter that was received", "a record that was put for a receiver",
	"a trim that has passed a queue", "retention that has passed a queue",
}
