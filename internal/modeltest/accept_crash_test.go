package modeltest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/testdisk"
)

// This file cuts the power while a loss is being accepted, before each operation that changes a
// file. The open of what remains either fails with an error that names the damage, or succeeds, and
// then each record is readable or its readers get an error. With AcceptLoss it always succeeds, and
// loses no more than without the power cut.

// acceptImage is a disk after a power cut.
type acceptImage struct {
	mem  *vfs.MemFS
	what string
}

// acceptImages accepts a loss. It returns what power cuts would leave on disk meanwhile, and the
// records that exist at the end; ok is false if the loss cannot be accepted.
func (s *damageState) acceptImages(t *testing.T, c damageCase, random *rand.Rand, one int) (images []acceptImage, kept map[braid.SequenceNumber]bool, ok bool) {
	t.Helper()
	mem := c.files.layDurably(t)
	disk := testdisk.On(mem)
	var mu sync.Mutex // operations come from several goroutines
	disk.Before(func(op testdisk.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if !op.Changes() || random.IntN(one) > 0 {
			return nil
		}
		percent := []int{0, 0, 100, random.IntN(101)}[random.IntN(4)]
		images = append(images, acceptImage{
			mem: mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: random}),
			what: fmt.Sprintf("%s; before operation %d (%s %s), keeping %d %% of what was not synced",
				c.what, op.Index, op.Change(), op.Path, percent),
		})
		return nil
	})
	options := s.options
	options.AcceptLoss = true
	db, err := openState(disk, &options)
	disk.Before(nil)
	if err != nil {
		return nil, nil, false
	}
	defer func() { _ = db.Close() }()
	s.judgeRest(t, db, c.what)
	return images, recordsOf(t, db), true
}

// recordsOf returns the numbers of all records that can be read.
func recordsOf(t *testing.T, db *braid.DB) map[braid.SequenceNumber]bool {
	t.Helper()
	all := make(map[braid.SequenceNumber]bool)
	for _, stream := range db.Streams() {
		for _, sh := range stream.Shards() {
			records, _ := readAround(t, sh, braid.TrimHorizon())
			for _, r := range records {
				all[r.SequenceNumber] = true
			}
		}
	}
	return all
}

// In short runs this takes a sample.
func TestPowerCutWhileALossIsAccepted(t *testing.T) {
	one, cases := 6, 30
	if testing.Short() {
		one, cases = 16, 5
	}
	eachDamageState(t, func(t *testing.T, state *damageState, other files) map[string]int {
		random := rand.New(rand.NewPCG(7, 7))
		all := state.damages(random, other, 3)
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		outcomes := make(map[string]int)
		seen := make(map[string]bool) // one case of each class
		for _, c := range all {
			if len(seen) == cases || seen[c.class] {
				continue
			}
			db, err := openState(c.files.lay(t), &state.options)
			if err == nil {
				_ = db.Close()
				continue
			}
			images, kept, ok := state.acceptImages(t, c, random, one)
			if !ok {
				continue
			}
			seen[c.class] = true
			for _, image := range images {
				outcomes[c.class+": "+state.judgeImage(t, image, kept)]++
			}
		}
		return outcomes
	})
}

// judgeImage opens an image, and returns the outcome.
func (s *damageState) judgeImage(t *testing.T, image acceptImage, kept map[braid.SequenceNumber]bool) (outcome string) {
	t.Helper()
	files := filesOf(t, image.mem)
	mem := files.lay(t)
	db, err := openState(mem, &s.options)
	switch {
	case err != nil:
		requireFileDamage(t, err, image.what)
		for p, data := range filesOf(t, mem) {
			require.Equal(t, files[p], data, "%s: the refused open changed %s", image.what, p)
		}
		outcome = "refused"
	case len(db.Losses()) == 0:
		s.judgeContent(t, db, image.what)
		_ = db.Close()
		outcome = "all is there"
	default:
		s.judgeRest(t, db, image.what)
		_ = db.Close()
		outcome = "opened with the loss"
	}

	mem = files.lay(t)
	options := s.options
	options.AcceptLoss = true
	db, err = openState(mem, &options)
	require.NoError(t, err, image.what)
	s.judgeRest(t, db, image.what)
	left := recordsOf(t, db)
	for number := range kept {
		require.True(t, left[number], "%s: %s is lost, and would not be without the power cut", image.what, number)
	}
	_ = db.Close()
	db, err = openState(mem, &s.options)
	require.NoError(t, err, image.what)
	_ = db.Close()
	return outcome
}
