package braid_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// A reader keeps its position, and the database is replaced by an older copy. Records could
// be put below that position, which the reader would never see.
func TestAPlaceInANewerCopyIsRefused(t *testing.T) {
	ctx := t.Context()
	db := boxOpenDir(t, filepath.Join(t.TempDir(), "db"), nil)
	stream := boxOpenStream(t, db, "s", 1)
	old := boxPut(t, stream, "one", "two")
	backup := filepath.Join(t.TempDir(), "backup")
	require.NoError(t, db.Backup(ctx, backup, nil))
	newer := boxPut(t, stream, "three", "four")
	page, err := stream.Shards()[0].GetRecords(ctx, braid.TrimHorizon(), nil)
	require.NoError(t, err)

	older := boxOpenDir(t, backup, nil)
	stream, err = older.Stream("s")
	require.NoError(t, err)
	sh := stream.Shards()[0]
	requireBeyond := func(err error, n braid.SequenceNumber) {
		t.Helper()
		requireUseful(t, "beyond", err, braid.ErrBeyondTip)
		var beyond *braid.BeyondTipError
		require.ErrorAs(t, err, &beyond)
		require.Equal(t, sh.ID(), beyond.Shard)
		require.Equal(t, n, beyond.Number)
		require.Positive(t, n.Compare(beyond.Last))
		require.GreaterOrEqual(t, beyond.Last.Compare(old[1]), 0)
	}
	for i, p := range []braid.Position{page.Next, braid.AfterSequence(newer[0]), braid.AfterSequence(newer[1]), braid.AtSequence(newer[1])} {
		n := []braid.SequenceNumber{newer[1], newer[0], newer[1], newer[1]}[i]
		_, err := sh.GetRecords(ctx, p, nil)
		requireBeyond(err, n)
		_, err = sh.GetRecords(ctx, p, &braid.GetRecordsOptions{Wait: true})
		requireBeyond(err, n)
		requireBeyond(ended(sh.Records(ctx, p)), n)
		requireBeyond(ended(sh.Follow(ctx, p)), n)
		requireBeyond(ended(stream.Records(ctx, p)), n)
		requireBeyond(ended(stream.Follow(ctx, p)), n)
		requireBeyond(stream.Trim(ctx, p), n)
	}
	require.Equal(t, []string{"one", "two"}, boxAll(t, stream.Records(ctx, braid.TrimHorizon())), "nothing was trimmed")
	require.Equal(t, []string{"two"}, boxAll(t, sh.Records(ctx, braid.AfterSequence(old[0]))))
	require.Empty(t, boxAll(t, sh.Records(ctx, braid.AfterSequence(old[1]))))

	// The position after a page also has the ordinal of the next record. So it is refused
	// even after other records of this copy have passed its number.
	boxPut(t, stream, "another three")
	_, err = sh.GetRecords(ctx, page.Next, nil)
	require.ErrorIs(t, err, braid.ErrBeyondTip)
}

// A position that braid itself has returned is never beyond the tip, in this run and the next.
func TestAPlaceThatWasGivenOutIsNeverBeyondTheTip(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	places := make(map[string]braid.Position) // restored from text, as programs keep them
	stream := func(db *braid.DB, name string) *braid.Stream {
		s, err := db.OpenStream(ctx, name, &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		return s
	}
	keep := func(s *braid.Stream, what string, p braid.Position) {
		t.Helper()
		text, err := p.MarshalText()
		require.NoError(t, err)
		var kept braid.Position
		require.NoError(t, kept.UnmarshalText(text))
		places[s.Name()+": "+what] = kept
	}
	db, err := braid.Open(dir, nil)
	require.NoError(t, err)
	for _, name := range []string{"empty", "full", "trimmed", "split"} {
		s := stream(db, name)
		if name != "empty" {
			boxFill(t, s, 20, 10)
		}
		if name == "trimmed" {
			first := s.Shards()[0].Describe().First
			require.NoError(t, s.Trim(ctx, braid.Latest()))
			_, err := s.Shards()[0].GetRecords(ctx, braid.AtSequence(first), nil)
			var gap *braid.TrimmedError
			require.ErrorAs(t, err, &gap)
			keep(s, "first available", braid.AtSequence(gap.FirstAvailable))
			keep(s, "last lost", braid.AfterSequence(gap.LastLost))
		}
		if name == "split" {
			require.NoError(t, s.UpdateShardCount(ctx, 4))
			d := s.Shards()[0].Describe()
			require.True(t, d.Closed)
			places["split: the end"] = braid.AtSequence(d.EndingSequenceNumber)
		}
		for _, sh := range s.Shards() {
			keep(s, "start of "+string(sh.ID()), braid.AfterSequence(sh.Describe().StartingSequenceNumber))
			for what, p := range map[string]braid.Position{
				"latest":  braid.Latest(),
				"now":     braid.AtTime(time.Now()),
				"future":  braid.AtTime(time.Now().Add(time.Hour)),
				"no time": braid.AtTime(time.Unix(1<<40, 0)),
				"all":     braid.TrimHorizon(),
			} {
				page, err := sh.GetRecords(ctx, p, nil)
				require.NoError(t, err)
				keep(s, what+" of "+string(sh.ID()), page.Next)
			}
		}
	}
	for range 2 {
		for what, p := range places {
			name, _, _ := strings.Cut(what, ":")
			s := stream(db, name)
			for _, sh := range s.Shards() {
				if _, err := sh.GetRecords(ctx, p, nil); err != nil {
					require.NotErrorIs(t, err, braid.ErrBeyondTip, what) // other errors are allowed: it may be another shard's
				}
			}
			if what != "split: the end" { // which is not a position in the stream
				_, err := boxRead(s.Records(ctx, p))
				require.NotErrorIs(t, err, braid.ErrBeyondTip, what)
			}
		}
		require.NoError(t, db.Close())
		db, err = braid.Open(dir, nil)
		require.NoError(t, err)
	}
	err = ended(stream(db, "split").Records(ctx, places["split: the end"]))
	require.ErrorIs(t, err, braid.ErrBeyondTip)

	// A position kept for a future time excludes the records that arrived before it.
	s := stream(db, "full")
	boxFill(t, s, 20, 10)
	for _, sh := range s.Shards() {
		require.NotEmpty(t, boxAll(t, sh.Records(ctx, places["full: now of "+string(sh.ID())])))
		require.Empty(t, boxAll(t, sh.Records(ctx, places["full: future of "+string(sh.ID())])))
	}
	require.NoError(t, db.Close())
}
