package queue_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

var quiet = slog.New(slog.DiscardHandler)

// salvaged is the state of a queue when its database was closed.
type salvaged struct {
	settled, unsettled map[string]bool // by data of the records; unsettled ones can be received
	held               []queue.Receipt // of records in flight
	id                 string
}

// buildSalvaged creates a database with a queue that has records in all states, in
// several tables, and another queue on a second stream.
func buildSalvaged(t *testing.T, dir string) (was salvaged) {
	t.Helper()
	was.settled, was.unsettled = make(map[string]bool), make(map[string]bool)
	for round := range 2 {
		db, err := braid.Open(dir, &braid.Options{Durability: braid.NoSync, Logger: quiet})
		require.NoError(t, err)
		s, err := db.OpenStream(ctx, "s", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		q, err := queue.Open(ctx, db, "q", &queue.Options{
			Stream: "s", Start: braid.TrimHorizon(),
			VisibilityTimeout: 12 * time.Hour, // records in flight stay so, however slow the machine is
		})
		require.NoError(t, err)
		gone, err := queue.Open(ctx, db, "gone", &queue.Options{Stream: "s", Start: braid.TrimHorizon()})
		require.NoError(t, err)
		was.id = q.ID()
		for i := range 60 {
			data := fmt.Sprint(round, "-", i)
			_, err := s.PutRecord(ctx, data, []byte(data))
			require.NoError(t, err)
			was.unsettled[data] = true
		}
		_, err = gone.Receive(ctx, 10, noWait)
		require.NoError(t, err)
		require.NoError(t, gone.Delete(ctx))
		records, err := q.Receive(ctx, 40, noWait)
		require.NoError(t, err)
		require.Len(t, records, 40)
		for i, r := range records {
			switch {
			case i < 20:
				require.NoError(t, q.Ack(ctx, r.Receipt))
				was.settled[string(r.Data)] = true
				delete(was.unsettled, string(r.Data))
			case i < 30:
				require.NoError(t, q.Release(ctx, 0, r.Receipt))
			case i < 35:
				was.held = append(was.held, r.Receipt)
				delete(was.unsettled, string(r.Data))
			}
			// The others are given back below.
		}
		require.NoError(t, q.Return(ctx, receipts(records[35:])...))
		require.NoError(t, db.Close())
	}
	return was
}

// open salvages a database, and returns its queue and the records that it still hands
// out.
func (was *salvaged) open(t *testing.T, from string) (q *queue.Queue, report *braid.SalvageReport, got map[string]bool) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "to")
	report, err := braid.Salvage(ctx, from, to, &braid.SalvageOptions{Logger: quiet})
	require.NoError(t, err)
	db, err := braid.Open(to, &braid.Options{Durability: braid.NoSync, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	verified, _ := db.Verify(ctx, nil)
	for _, p := range verified.Problems {
		require.Equal(t, "records", p.Kind, "%v, of %+v", p, report)
	}
	got = make(map[string]bool)
	if q, err = queue.Get(ctx, db, "q"); err != nil {
		require.ErrorIs(t, err, queue.ErrQueueNotFound)
		return nil, report, got
	}
	require.Equal(t, was.id, q.ID())
	s, err := db.Stream(q.Stream().Name())
	require.NoError(t, err)
	_, err = s.PutRecord(ctx, "new", []byte("new"))
	require.NoError(t, err)
	for {
		records, err := q.Receive(ctx, 100, noWait)
		require.NoError(t, err)
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			require.False(t, got[string(r.Data)], "%s was received twice", r.Data)
			got[string(r.Data)] = true
		}
	}
	require.True(t, got["new"], "%+v", report)
	delete(got, "new")
	return q, report, got
}

// A queue continues on a salvaged database: acknowledged records do not come back, others
// are received, and receipts hold the same records as before.
func TestQueueGoesOnAfterSalvage(t *testing.T) {
	from := filepath.Join(t.TempDir(), "from")
	was := buildSalvaged(t, from)
	q, report, got := was.open(t, from)
	require.True(t, report.Whole(), "%+v", report)
	require.Equal(t, int64(1), report.Queues)
	require.Equal(t, was.unsettled, got)
	require.NoError(t, q.Ack(ctx, was.held...))
}

// Whichever file is damaged, the report mentions it if an acknowledged record comes back,
// or another one is missing.
func TestQueueGoesOnAfterSalvageOfDamage(t *testing.T) {
	from := filepath.Join(t.TempDir(), "from")
	was := buildSalvaged(t, from)
	files, err := filepath.Glob(filepath.Join(from, "store", "*"))
	require.NoError(t, err)
	others, err := filepath.Glob(filepath.Join(from, "*"))
	require.NoError(t, err)
	for _, file := range append(files, others...) {
		content, err := os.ReadFile(file)
		if err != nil || len(content) == 0 || filepath.Base(file) == "LOCK" {
			continue
		}
		places := 5
		if testing.Short() {
			places = 1
		}
		for n := range places + 1 {
			damaged := append([]byte(nil), content...)
			if n == places {
				damaged = damaged[:len(damaged)/2]
			} else {
				damaged[len(damaged)*n/places+len(damaged)/(2*places)] ^= 1
			}
			require.NoError(t, os.WriteFile(file, damaged, 0o600))
			q, report, got := was.open(t, from)
			what := fmt.Sprintf("%s, %d: %+v", filepath.Base(file), n, report)
			told := strings.Contains(strings.Join(report.Notes, "\n"), "queue") || len(report.Lost) > 0
			if q == nil || len(was.unsettled) != len(got) {
				require.True(t, told || !report.Closed, what)
			}
			for data := range got {
				require.True(t, was.unsettled[data] || told || !report.Closed, "%s came back: %s", data, what)
			}
			for data := range was.unsettled {
				require.True(t, got[data] || told || !report.Closed, "%s is missing: %s", data, what)
			}
		}
		require.NoError(t, os.WriteFile(file, content, 0o600))
	}
}
