package modeltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/inside"
)

// This file compares what the error of a refused open reports as missing with Salvage's report,
// with the readable content of the salvaged database, and with what AcceptLoss opens without.

// Each lost record lies in a stretch that the error names, if the error says that the list is
// complete, or if its shard is known. Counts in it are right, and it names at least what Salvage
// reports.
func TestMissingIsNamed(t *testing.T) {
	most, rounds := 12, 400
	if testing.Short() {
		most, rounds = 2, 30
	}
	eachDamageState(t, func(t *testing.T, state *damageState, other files) map[string]int {
		random := rand.New(rand.NewPCG(8, 8))
		cases := state.damages(random, other, most)
		random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
		outcomes := make(map[string]int)
		for _, c := range cases[:min(len(cases), rounds)] {
			outcomes[c.class+": "+state.judgeMissing(t, c)]++
		}
		return outcomes
	})
}

// judgeMissing opens a damaged database, and returns the outcome: what the error knows.
func (s *damageState) judgeMissing(t *testing.T, c damageCase) string {
	t.Helper()
	db, err := openState(c.files.lay(t), &s.options)
	if err == nil {
		_ = db.Close()
		return "not refused"
	}
	var damage *braid.FileDamageError
	if !errors.As(err, &damage) {
		return "refused for its rows"
	}
	what := fmt.Sprintf("%s: %.600s", c.what, err)
	require.Equal(t, damage.Complete, damage.Doubt == "", what)
	if strings.HasPrefix(damage.Doubt, "nothing is left") {
		require.Empty(t, damage.Missing, what)
		require.Empty(t, damage.GivenUp, what)
		return "nothing is left"
	}

	mem := c.files.lay(t)
	const saved = "/saved"
	report, err := inside.Salvage(t.Context(), mem, damageDir, saved)
	require.NoError(t, err, what)
	lost := report.(*braid.SalvageReport).Lost
	for _, l := range lost {
		if s.hasRecords(l.Shard) { // otherwise Salvage has created a shard that was lost
			require.True(t, isNamed(damage.Missing, l.Shard, l.FirstLost), "%s: Salvage reports more: %+v", what, l)
		}
	}
	options := s.options
	options.AcceptLoss = true
	db, err = open(saved, &s.options, companion.Environment{FS: mem})
	require.NoError(t, err, what)
	undecryptable := s.options.KeyProvider != nil && strings.Contains(c.what, "BRAID") // the database's ID is lost
	s.requireNamed(t, db, damage.Missing, damage.Complete, undecryptable, "salvaged, "+what)
	db, err = openState(c.files.lay(t), &options)
	if err == nil {
		more := strings.Contains(damage.Doubt, "AcceptLoss may give up many more")
		s.requireNamed(t, db, damage.GivenUp, damage.Complete, undecryptable || more, "accepted, "+what)
	}
	return fmt.Sprintf("complete %v, missing %v, given up %v", damage.Complete, len(damage.Missing) > 0, len(damage.GivenUp) > 0)
}

// requireNamed checks what is missing in a database against the error, unless the error gives a
// reason why there may be more. It closes the database.
func (s *damageState) requireNamed(t *testing.T, db *braid.DB, lost []braid.LostRecords, complete, more bool, what string) {
	t.Helper()
	defer func() { _ = db.Close() }() // the damage may make it fail
	if more {
		require.False(t, complete, what)
		return
	}
	counts := make([]int64, len(lost))
	for name, records := range s.records {
		got := make(map[braid.SequenceNumber]bool)
		shards := make(map[braid.ShardID]bool)
		if stream, err := db.Stream(name); err == nil {
			for _, sh := range stream.Shards() {
				shards[sh.ID()] = true
				found, _ := readAround(t, sh, braid.TrimHorizon())
				for _, r := range found {
					got[r.SequenceNumber] = true
				}
			}
		}
		for number := range records {
			if got[number] {
				continue
			}
			named := false
			for i, l := range lost {
				if l.Shard == number.ShardID() && l.Stream == name && isIn(l, number) {
					counts[i]++
					named = true
				}
			}
			if complete || shards[number.ShardID()] {
				require.True(t, named, "%s: %s of %s is missing, but not named: %+v", what, number, name, lost)
			}
		}
	}
	for i, l := range lost {
		if l.Exact && complete {
			require.Equal(t, l.Records, counts[i], "%s: %+v", what, l)
		}
	}
}

// hasRecords reports whether any record was put to the shard.
func (s *damageState) hasRecords(shard braid.ShardID) bool {
	for _, records := range s.records {
		for number := range records {
			if number.ShardID() == shard {
				return true
			}
		}
	}
	return false
}

// isNamed reports whether a record lies in one of the stretches.
func isNamed(lost []braid.LostRecords, shard braid.ShardID, number braid.SequenceNumber) bool {
	return slices.ContainsFunc(lost, func(l braid.LostRecords) bool { return l.Shard == shard && isIn(l, number) })
}

// isIn reports whether a record lies in a stretch.
func isIn(l braid.LostRecords, number braid.SequenceNumber) bool {
	return counter(l.FirstLost) <= counter(number) && counter(number) < counter(l.FirstAvailable)
}
