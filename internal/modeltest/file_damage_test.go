package modeltest

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// This file damages every file of databases in several states in every way. The open is refused
// with an error that names the damage, and changes nothing; or everything acknowledged is readable,
// except records whose readers get an error. Nothing is missing silently, and no empty database
// takes the place of a damaged one.

// In short runs this takes a sample.
func TestEveryFileDamaged(t *testing.T) {
	most := 40
	if testing.Short() {
		most = 3
	}
	eachDamageState(t, func(t *testing.T, state *damageState, other files) map[string]int {
		outcomes := make(map[string]int)
		for _, c := range state.damages(rand.New(rand.NewPCG(5, 5)), other, most) {
			outcomes[c.kind+": "+state.judge(t, c)]++
		}
		return outcomes
	})
}

// judge opens a damaged database, and returns the outcome.
func (s *damageState) judge(t *testing.T, c damageCase) string {
	t.Helper()
	mem := c.files.lay(t)
	db, err := openState(mem, &s.options)
	if err != nil {
		requireFileDamage(t, err, c.what)
		after := filesOf(t, mem)
		require.Equal(t, c.files.paths(), after.paths(), c.what)
		for p, data := range c.files {
			require.True(t, bytes.Equal(data, after[p]), "%s: the refused open changed %s", c.what, p)
		}
		return "refused"
	}
	defer func() { _ = db.Close() }() // the damage may make it fail
	if lost := s.judgeContent(t, db, c.what); lost {
		return "readers are told"
	}
	return "all is there"
}

// requireFileDamage checks that an error names a damaged file, or the damaged rows.
func requireFileDamage(t *testing.T, err error, what string) {
	t.Helper()
	require.True(t, errors.Is(err, braid.ErrCorrupt) || errors.Is(err, braid.ErrDataLoss), "%s: %v", what, err)
	var damage *braid.FileDamageError
	if errors.As(err, &damage) {
		require.NotEmpty(t, damage.File, what)
		require.NotEmpty(t, damage.Lost, what)
		require.ErrorContains(t, err, damage.File)
	}
}

// judgeContent compares the content of a database with what was acknowledged. It reports whether
// anything is missing; reads of that must fail.
func (s *damageState) judgeContent(t *testing.T, db *braid.DB, what string) (lost bool) {
	t.Helper()
	for name := range s.records {
		_, err := db.Stream(name)
		require.NoError(t, err, what)
	}
	got, lost := s.judgeRecords(t, db, what)
	require.Empty(t, got, "%s: records that were never put", what)
	for key, want := range s.keys {
		value, err := valueOf(t, db, key)
		if err != nil {
			require.True(t, errors.Is(err, braid.ErrCorrupt) || errors.Is(err, braid.ErrDataLoss), "%s: key %s: %v", what, key, err)
			lost = true
			continue
		}
		require.Equal(t, want, value, what)
	}
	return lost
}

// judgeRecords compares the records of a database with those that were acknowledged: each is
// unchanged, or lies in a gap that the readers of its shard get an error for. It returns the
// records that were not acknowledged, and reports whether any is missing.
func (s *damageState) judgeRecords(t *testing.T, db *braid.DB, what string) (besides map[braid.SequenceNumber]string, lost bool) {
	t.Helper()
	besides = make(map[braid.SequenceNumber]string)
	for name, want := range s.records {
		stream, err := db.Stream(name)
		if errors.Is(err, braid.ErrStreamNotFound) { // created after the remaining data was written
			lost = true
			continue
		}
		require.NoError(t, err, what)
		var gaps []*braid.CorruptError
		got := make(map[braid.SequenceNumber]string)
		for _, sh := range stream.Shards() {
			records, damages := readAround(t, sh, braid.TrimHorizon())
			gaps = append(gaps, damages...)
			for _, r := range records {
				got[r.SequenceNumber] = string(r.Data)
			}
		}
		for number, data := range want {
			if is, ok := got[number]; ok {
				require.Equal(t, data, is, what)
				delete(got, number)
				continue
			}
			lost = true
			require.True(t, inAGap(gaps, number), "%s: record %s is missing without an error: %v", what, number, gaps)
		}
		maps.Copy(besides, got)
	}
	return besides, lost
}

// inAGap reports whether readers get an error for a lost record.
func inAGap(gaps []*braid.CorruptError, number braid.SequenceNumber) bool {
	return slices.ContainsFunc(gaps, func(gap *braid.CorruptError) bool {
		return counter(gap.FirstLost) <= counter(number) && counter(number) < counter(gap.FirstAvailable)
	})
}

// valueOf returns the value of an application's key.
func valueOf(t *testing.T, db *braid.DB, key string) (value string, err error) {
	t.Helper()
	err = db.View(t.Context(), func(tx *braid.Tx) error {
		data, err := tx.Get([]byte(key))
		value = string(data)
		return err
	})
	return value, err
}

// The files are copied one after the other while the database is written to. The copy is refused,
// or has everything that was acknowledged before.
func TestCopyOfALiveDirectory(t *testing.T) {
	for round := range 10 {
		synctest.Test(t, func(t *testing.T) {
			b := newDamageBuilder(t, uint64(round))
			b.open()
			defer func() { _ = b.db.Close() }()
			b.put("orders", 1, 200+100*round, 1500)
			b.remember()
			before := maps.Clone(b.records["orders"])
			copied := make(files)
			for p := range maps.Keys(filesOf(t, b.mem)) {
				if data, ok := filesOf(t, b.mem)[p]; ok {
					copied[p] = data
				}
				b.put("orders", 1, 60, 1500)
				if b.random.IntN(3) == 0 {
					<-time.After(2 * time.Second)
				}
			}
			db, err := openState(copied.lay(t), &b.options)
			if err != nil {
				requireFileDamage(t, err, "a copy")
				return
			}
			defer func() { _ = db.Close() }()
			stream, err := db.Stream("orders")
			require.NoError(t, err)
			records, told := readAround(t, stream.Shards()[0], braid.TrimHorizon())
			require.Empty(t, told)
			for _, r := range records {
				delete(before, r.SequenceNumber)
			}
			require.Empty(t, before, "acknowledged before the copy began")
		})
	}
}
