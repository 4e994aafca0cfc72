package modeltest

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// This file opens damaged databases with AcceptLoss.

// A database that was refused opens with AcceptLoss, or is refused again. If it opens, each record
// is readable or its readers get an error; no record appears that was never put; the loss is
// listed; and every stream accepts records, with new numbers. All of that still holds after the
// next open.
func TestLossAccepted(t *testing.T) {
	most, rounds := 12, 400
	if testing.Short() {
		most, rounds = 2, 25
	}
	eachDamageState(t, func(t *testing.T, state *damageState, other files) map[string]int {
		random := rand.New(rand.NewPCG(6, 6))
		cases := state.damages(random, other, most)
		random.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
		outcomes := make(map[string]int)
		for _, c := range cases[:min(len(cases), rounds)] {
			outcomes[c.kind+": "+state.accept(t, c)]++
		}
		return outcomes
	})
}

// accept opens a damaged database with AcceptLoss, and returns the outcome.
func (s *damageState) accept(t *testing.T, c damageCase) string {
	t.Helper()
	ctx := t.Context()
	mem := c.files.lay(t)
	if db, err := openState(mem, &s.options); err == nil {
		require.Empty(t, db.Losses(), c.what)
		_ = db.Close()
		return "not refused"
	}
	options := s.options
	options.AcceptLoss = true
	db, err := openState(mem, &options)
	if err != nil {
		requireFileDamage(t, err, c.what)
		_, err := openState(mem, &s.options)
		require.Error(t, err, c.what)
		return "refused all the same"
	}
	defer func() { _ = db.Close() }() // of the last database, if a check fails
	require.NotEmpty(t, db.Losses(), c.what)
	outcome := "accepted, with all there"
	if s.judgeRest(t, db, c.what) {
		outcome = "accepted, with a loss"
	}

	var highest uint64
	for _, records := range s.records {
		for number := range records {
			highest = max(highest, counter(number))
		}
	}
	put := make(map[string]braid.SequenceNumber)
	for _, stream := range db.Streams() {
		res, err := stream.PutRecord(ctx, "key", []byte("new"))
		require.NoError(t, err, c.what)
		require.Greater(t, counter(res.SequenceNumber), highest, "%s: a sequence number was used twice", c.what)
		put[stream.Name()] = res.SequenceNumber
	}
	losses := db.Losses()
	_ = db.Close()

	db, err = openState(mem, &s.options)
	require.NoError(t, err, c.what)
	require.Equal(t, losses, db.Losses(), c.what)
	for _, stream := range db.Streams() {
		found := false
		for _, sh := range stream.Shards() {
			records, _ := readAround(t, sh, braid.TrimHorizon())
			for _, r := range records {
				found = found || r.SequenceNumber == put[stream.Name()]
			}
		}
		require.True(t, found, "%s: records put after the loss", c.what)
		require.NoError(t, stream.Trim(ctx, braid.Latest()), c.what)
		for _, sh := range stream.Shards() {
			_, damages := readAround(t, sh, braid.TrimHorizon())
			require.Empty(t, damages, c.what)
		}
	}
	_ = db.Close()
	return outcome
}

// judgeRest checks the remaining content of a database. It reports whether anything is missing.
func (s *damageState) judgeRest(t *testing.T, db *braid.DB, what string) (lost bool) {
	t.Helper()
	besides, lost := s.judgeRecords(t, db, what)
	for number, data := range besides {
		require.Equal(t, s.trimmed[number], data, "%s: record %s was never put", what, number)
	}
	for key, want := range s.keys {
		value, err := valueOf(t, db, key)
		lost = lost || err != nil || value != want
	}
	return lost
}
