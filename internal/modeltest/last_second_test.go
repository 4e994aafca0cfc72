package modeltest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// This measures what the ledger cannot know. A process is killed right after 500 puts, before the
// ledger has any of them, and the log that contains them is damaged. Nothing put before the ledger
// was last written is ever lost silently; the test logs how much of the rest is.
func TestTheLastSecondBeforeAKill(t *testing.T) {
	places := 60
	if testing.Short() {
		places = 15
	}
	for name, wait := range map[string]time.Duration{"at once": 0, "two seconds later": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newDamageBuilder(t, 3)
				b.open()
				b.put("orders", 1, 60, 300)
				b.remember()
				known := maps.Clone(b.records["orders"])
				b.put("orders", 1, 500, 300)
				<-time.After(wait)
				synctest.Wait()
				b.files = filesOf(t, b.mem)
				require.NoError(t, b.db.Close())
				if wait > 0 {
					known = b.records["orders"]
				}

				counts := make(map[string]int)
				most := 0 // the most records that one damage loses silently
				for _, c := range b.damages(b.random, nil, places) {
					if !strings.HasSuffix(c.class, "*.log") {
						continue
					}
					outcome, silent := b.silentLosses(t, c, known)
					counts[c.kind+": "+outcome]++
					most = max(most, silent)
				}
				require.NotEmpty(t, counts)
				for _, outcome := range slices.Sorted(maps.Keys(counts)) {
					t.Logf("%-30s %3d", outcome, counts[outcome])
				}
				t.Logf("most records lost silently: %d of 500", most)
				if wait > 0 {
					require.Zero(t, most)
				}
			})
		})
	}
}

// silentLosses opens a damaged database. It returns the outcome, and how many records are missing
// without an error for their readers. None of known may be one of them.
func (s *damageState) silentLosses(t *testing.T, c damageCase, known map[braid.SequenceNumber]string) (outcome string, silent int) {
	t.Helper()
	mem := c.files.lay(t)
	db, err := openState(mem, &s.options)
	if err != nil {
		requireFileDamage(t, err, c.what)
		return "refused", 0
	}
	defer func() { _ = db.Close() }() // the damage may make it fail
	stream, err := db.Stream("orders")
	require.NoError(t, err, c.what)
	records, gaps := readAround(t, stream.Shards()[0], braid.TrimHorizon())
	got := make(map[braid.SequenceNumber][]byte)
	for _, r := range records {
		got[r.SequenceNumber] = r.Data
	}
	for number, data := range s.records["orders"] {
		is, ok := got[number]
		if ok {
			require.True(t, bytes.Equal([]byte(data), is), c.what)
			continue
		}
		if inAGap(gaps, number) {
			continue
		}
		require.NotContains(t, known, number, "%s: it is missing without an error", c.what)
		silent++
	}
	if silent > 0 {
		return "silent loss", silent
	}
	return "all is there, or told", 0
}
