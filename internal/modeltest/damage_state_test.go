package modeltest

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// This file makes the databases whose files the other tests damage, and records their content.

// damageState is a database whose files a test will damage.
type damageState struct {
	files   files
	older   files // of the same database at an earlier time
	options braid.Options
	records map[string]map[braid.SequenceNumber]string // acknowledged and not trimmed, by stream
	trimmed map[braid.SequenceNumber]string            // may return if a loss is accepted
	keys    map[string]string
}

// damageBuilder builds a damageState.
type damageBuilder struct {
	t      *testing.T
	random *rand.Rand
	mem    *vfs.MemFS
	db     *braid.DB
	damageState
}

func (b *damageBuilder) open() {
	b.t.Helper()
	var err error
	b.db, err = openState(b.mem, &b.options)
	require.NoError(b.t, err)
}

func (b *damageBuilder) put(stream string, shards, n, size int) {
	b.t.Helper()
	s, err := b.db.OpenStream(b.t.Context(), stream, &braid.StreamOptions{Shards: shards})
	require.NoError(b.t, err)
	if b.options.KeyProvider != nil {
		require.NoError(b.t, s.StartEncryption(b.t.Context(), "a"))
	}
	if b.records[stream] == nil {
		b.records[stream] = make(map[braid.SequenceNumber]string)
	}
	for range n {
		data := randomBytes(b.random, 1+b.random.IntN(2*size))
		res, err := s.PutRecord(b.t.Context(), fmt.Sprint(b.random.IntN(100)), data)
		require.NoError(b.t, err)
		b.records[stream][res.SequenceNumber] = string(data)
	}
}

func (b *damageBuilder) set(n int) {
	b.t.Helper()
	for range n {
		key, value := fmt.Sprintf("key-%d", b.random.IntN(50)), fmt.Sprint(b.random.Uint64())
		require.NoError(b.t, b.db.Update(b.t.Context(), func(tx *braid.Tx) error { return tx.Set([]byte(key), []byte(value)) }))
		b.keys[key] = value
	}
}

// remember keeps the current files as the older state.
func (b *damageBuilder) remember() {
	<-time.After(2 * time.Second) // the ledger is written
	synctest.Wait()
	b.older = filesOf(b.t, b.mem)
}

// kill ends the process some time after its last write; close ends it in an orderly way.
func (b *damageBuilder) kill() {
	b.t.Helper()
	<-time.After(2 * time.Second)
	synctest.Wait()
	b.files = filesOf(b.t, b.mem)
	require.NoError(b.t, b.db.Close())
}

func (b *damageBuilder) close() {
	b.t.Helper()
	require.NoError(b.t, b.db.Close())
	b.files = filesOf(b.t, b.mem)
}

// damageStates are the histories of the states.
var damageStates = map[string]func(b *damageBuilder){
	"young, killed": func(b *damageBuilder) {
		b.put("orders", 1, 60, 300)
		b.remember()
		b.put("orders", 1, 60, 300)
		b.kill()
	},
	"young, closed": func(b *damageBuilder) {
		b.put("orders", 2, 40, 300)
		b.set(20)
		b.remember()
		b.set(20)
		b.close()
	},
	"opened again, killed": func(b *damageBuilder) {
		b.put("orders", 1, 30, 300)
		require.NoError(b.t, b.db.Close())
		b.open()
		b.put("orders", 1, 30, 300)
		b.remember()
		b.put("orders", 1, 30, 300)
		b.kill()
	},
	"keys written last, killed": func(b *damageBuilder) {
		b.put("orders", 2, 500, 1500)
		b.set(30)
		b.remember()
		b.set(60)
		b.kill()
	},
	"many tables, closed": func(b *damageBuilder) {
		for range 3 {
			b.put("orders", 3, 200, 800)
			b.set(10)
			b.remember()
			require.NoError(b.t, b.db.Close())
			b.open()
		}
		b.close()
	},
	"split and trimmed, killed": func(b *damageBuilder) {
		b.put("orders", 1, 100, 500)
		b.put("bills", 1, 100, 500)
		s, err := b.db.Stream("orders")
		require.NoError(b.t, err)
		_, _, err = s.SplitShard(b.t.Context(), s.Shards()[0].ID(), nil)
		require.NoError(b.t, err)
		b.remember()
		bills, err := b.db.Stream("bills")
		require.NoError(b.t, err)
		require.NoError(b.t, bills.Trim(b.t.Context(), braid.Latest()))
		b.trimmed = maps.Clone(b.records["bills"])
		clear(b.records["bills"])
		b.put("orders", 1, 50, 500)
		b.put("bills", 1, 50, 500)
		b.kill()
	},
	"encrypted, killed": func(b *damageBuilder) {
		b.options.KeyProvider = twoKeys
		b.open()
		b.put("orders", 1, 60, 300)
		b.remember()
		b.put("orders", 1, 60, 300)
		b.kill()
	},
}

// damagePairs are the states built so far, by name. Nobody changes their files: a test damages a
// copy.
var damagePairs struct {
	mu    sync.Mutex // guards the field below
	pairs map[string]*damagePair
}

// damagePair is a state, and the files of another database with the same history.
type damagePair struct {
	once  sync.Once
	state damageState
	other files
}

// newDamageBuilder returns a builder of a database that does not exist yet.
func newDamageBuilder(t *testing.T, seed uint64) *damageBuilder {
	b := &damageBuilder{
		t: t, random: rand.New(rand.NewPCG(11, seed)), mem: vfs.NewMem(),
		damageState: damageState{options: damageOptions, records: make(map[string]map[braid.SequenceNumber]string), keys: make(map[string]string)},
	}
	b.options.Logger = slog.New(slog.DiscardHandler)
	return b
}

func buildDamageState(t *testing.T, name string) (state damageState) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newDamageBuilder(t, uint64(len(name)))
		if !strings.HasPrefix(name, "encrypted") {
			b.open()
		}
		damageStates[name](b)
		state = b.damageState
	})
	return state
}

// eachDamageState runs a test for each state, in a bubble whose clock is ahead of everything in the
// state. The test counts its damages by outcome, and the counts are logged.
func eachDamageState(t *testing.T, test func(t *testing.T, state *damageState, other files) (outcomes map[string]int)) {
	for _, name := range slices.Sorted(maps.Keys(damageStates)) {
		damagePairs.mu.Lock()
		if damagePairs.pairs == nil {
			damagePairs.pairs = make(map[string]*damagePair)
		}
		pair := damagePairs.pairs[name]
		if pair == nil {
			pair = new(damagePair)
			damagePairs.pairs[name] = pair
		}
		damagePairs.mu.Unlock()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair.once.Do(func() {
				pair.other = buildDamageState(t, name).files
				pair.state = buildDamageState(t, name)
			})
			require.NotEmpty(t, pair.state.files, "the test that builds the state failed")
			synctest.Test(t, func(t *testing.T) {
				<-time.After(time.Hour)
				outcomes := test(t, &pair.state, pair.other)
				for _, outcome := range slices.Sorted(maps.Keys(outcomes)) {
					t.Logf("%-60s %5d", outcome, outcomes[outcome])
				}
			})
		})
	}
}
