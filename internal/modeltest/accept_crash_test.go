package modeltest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// This file cuts the power while a loss is being accepted, before each operation that
// changes a file. What is left is refused with an error that says what is damaged, or
// opens, and then each record is there or its readers are told. With AcceptLoss it opens
// in any case, and no more is lost than without the power cut.

// layDurably is lay on a disk that forgets in a power cut what has not been synced, of
// which all of this has been.
func (f files) layDurably(t *testing.T) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	dirs := map[string]bool{"/": true, damageDir + "/store": true}
	for p := range f {
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	for dir := range dirs {
		require.NoError(t, mem.MkdirAll(dir, 0o755))
	}
	for p, data := range f {
		file, err := mem.Create(p, vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = file.Write(bytes.Clone(data))
		require.NoError(t, err)
		require.NoError(t, file.Sync())
		require.NoError(t, file.Close())
	}
	for dir := range dirs {
		d, err := mem.OpenDir(dir)
		require.NoError(t, err)
		require.NoError(t, d.Sync())
		require.NoError(t, d.Close())
	}
	return mem
}

// acceptImage is a disk after a power cut.
type acceptImage struct {
	mem  *vfs.MemFS
	what string
}

// acceptImages accepts a loss, and returns what power cuts would leave meanwhile, and
// which records there are in the end; ok is false if the loss cannot be accepted.
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
	db, err := open(damageDir, &options, companion.Environment{FS: disk})
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

// TestPowerCutWhileALossIsAccepted: see above. In short runs it takes a sample.
func TestPowerCutWhileALossIsAccepted(t *testing.T) {
	one, cases := 6, 30
	if testing.Short() {
		one, cases = 8, 8
	}
	for _, name := range slices.Sorted(maps.Keys(damageStates)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				state := buildDamageState(t, name)
				random := rand.New(rand.NewPCG(7, 7))
				all := state.damages(random, buildDamageState(t, name).files, 3)
				random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				outcomes := make(map[string]int)
				seen := make(map[string]bool) // one of each kind
				for _, c := range all {
					if len(seen) == cases || seen[c.class] {
						continue
					}
					db, err := open(damageDir, &state.options, companion.Environment{FS: c.files.lay(t)})
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
				for _, outcome := range slices.Sorted(maps.Keys(outcomes)) {
					t.Logf("%-60s %5d", outcome, outcomes[outcome])
				}
			})
		})
	}
}

// judgeImage opens what a power cut has left, and returns what came of it.
func (s *damageState) judgeImage(t *testing.T, image acceptImage, kept map[braid.SequenceNumber]bool) (outcome string) {
	t.Helper()
	files := filesOf(t, image.mem)
	mem := files.lay(t)
	db, err := open(damageDir, &s.options, companion.Environment{FS: mem})
	switch {
	case err != nil:
		requireFileDamage(t, err, image.what)
		for p, data := range filesOf(t, mem) {
			require.Equal(t, files[p], data, "%s: the refused open has changed %s", image.what, p)
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
	db, err = open(damageDir, &options, companion.Environment{FS: mem})
	require.NoError(t, err, image.what)
	s.judgeRest(t, db, image.what)
	left := recordsOf(t, db)
	for number := range kept {
		require.True(t, left[number], "%s: %s would be there without the power cut", image.what, number)
	}
	_ = db.Close()
	db, err = open(damageDir, &s.options, companion.Environment{FS: mem})
	require.NoError(t, err, image.what)
	_ = db.Close()
	return outcome
}
