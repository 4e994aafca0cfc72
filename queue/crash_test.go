package queue_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/queue"
)

// At whatever moment the power is cut, the writes of a transaction and the
// acknowledgement of its record are either both there, or both missing.
func TestEffectsOfWorkTxAreAtomicWithTheAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := braidtest.NewDisk()
		db, err := disk.Open(nil)
		require.NoError(t, err)
		s, err := db.CreateStream(ctx, "s", nil)
		require.NoError(t, err)
		_, err = db.CreateStream(ctx, "effects", nil)
		require.NoError(t, err)
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{})
		const n = 60
		k.put(n)
		var mu sync.Mutex
		var images []*braidtest.Disk
		work, stop := context.WithCancel(ctx)
		done := make(chan error)
		go func() {
			done <- q.WorkTx(work, func(_ context.Context, tx *braid.Tx, r queue.Record) error {
				mu.Lock()
				images = append(images, disk.PowerCut())
				mu.Unlock()
				if err := tx.PutRecord("effects", "k", r.Data); err != nil {
					return err
				}
				return tx.Set(append([]byte("effect/"), r.Data...), nil)
			}, &queue.WorkOptions{Concurrency: 4})
		}()
		time.Sleep(time.Second)
		stop()
		require.NoError(t, <-done)
		require.NoError(t, db.Close())
		require.GreaterOrEqual(t, len(images), n)
		for _, image := range images {
			db, err := image.Open(nil)
			require.NoError(t, err)
			effects := 0
			require.NoError(t, db.View(ctx, func(tx *braid.Tx) error {
				for _, err := range tx.Scan([]byte("effect/"), []byte("effect0")) {
					require.NoError(t, err)
					effects++
				}
				return nil
			}))
			q, err := queue.Get(ctx, db, "q")
			require.NoError(t, err)
			d, err := q.Describe(ctx)
			require.NoError(t, err)
			s, err := db.Stream("effects")
			require.NoError(t, err)
			require.EqualValues(t, n-d.Visible-d.InFlight, effects)
			require.EqualValues(t, effects, s.Describe().Records)
			require.NoError(t, db.Close())
		}
	})
}

// poison is the data of a record that ends the process that works on it.
const poison = "poison"

// A record ends the process each time. It is the only one that becomes a dead letter, for
// batches and for concurrent workers.
func TestARecordThatEndsTheProcessDiesAlone(t *testing.T) {
	for _, o := range []queue.WorkOptions{{Batch: 10}, {Concurrency: 8}} {
		t.Run(fmt.Sprintf("batch=%d,concurrency=%d", o.Batch, o.Concurrency), func(t *testing.T) {
			dir := os.Getenv("QUEUE_TEST_DIR")
			if !childtest.InChild(t) {
				dir = t.TempDir()
				db, err := braid.Open(dir, nil)
				require.NoError(t, err)
				s, err := db.CreateStream(ctx, "s", nil)
				require.NoError(t, err)
				_, err = queue.Open(ctx, db, "q", &queue.Options{Stream: "s", MaxReceives: 4})
				require.NoError(t, err)
				for i := range 20 {
					data := fmt.Sprint(i)
					if i == 7 {
						data = poison
					}
					_, err = s.PutRecord(ctx, data, []byte(data))
					require.NoError(t, err)
				}
				require.NoError(t, db.Close())
				t.Setenv("QUEUE_TEST_DIR", dir)
			}
			died := 0
			for {
				result := childtest.Output(t, func(t *testing.T) { workUntilIdle(t, dir, o) })
				if result.Passed {
					break
				}
				require.Contains(t, result.Output, "the poison works")
				died++
				require.LessOrEqual(t, died, 4)
			}
			require.Equal(t, 4, died)

			db, err := braid.Open(dir, nil)
			require.NoError(t, err)
			q, err := queue.Get(ctx, db, "q")
			require.NoError(t, err)
			for r, err := range q.DeadLetters().All(ctx) {
				require.NoError(t, err)
				require.Equal(t, poison, string(r.Data))
				require.Equal(t, 4, r.Receives)
			}
			d, err := q.Describe(ctx)
			require.NoError(t, err)
			require.Equal(t, []int64{0, 0, 1}, []int64{d.Visible, d.InFlight, d.Dead})
			require.NoError(t, db.Close())
			done, err := filepath.Glob(filepath.Join(dir, "done-*"))
			require.NoError(t, err)
			require.Len(t, done, 19)
		})
	}
}

// workUntilIdle works until only dead letters are left.
func workUntilIdle(t *testing.T, dir string, o queue.WorkOptions) {
	db, err := braid.Open(dir, nil)
	require.NoError(t, err)
	q, err := queue.Get(ctx, db, "q")
	require.NoError(t, err)
	work, stop := context.WithCancel(ctx)
	var side sync.WaitGroup
	side.Go(func() {
		for {
			d, err := q.Describe(ctx)
			if err != nil || d.Visible+d.InFlight+d.Delayed == 0 {
				stop()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	err = q.Work(work, func(_ context.Context, r queue.Record) error {
		if string(r.Data) == poison {
			fmt.Println("the poison works")
			os.Exit(3)
		}
		time.Sleep(time.Millisecond)
		return os.WriteFile(filepath.Join(dir, "done-"+string(r.Data)), nil, 0o600)
	}, &o)
	side.Wait()
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// A wall clock that is changed during a restart hides no record for longer than 12 hours,
// and loses none.
func TestStepsOfTheWallClock(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour, -48 * time.Hour, 48 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := vfs.FS(vfs.NewMem())
				offset := 72 * time.Hour
				open := func() *braid.DB {
					db, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{
						FS: disk, Clock: func() time.Time { return time.Now().Add(offset) },
					})
					require.NoError(t, err)
					return db.(*braid.DB)
				}
				db := open()
				s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Retention: -1})
				require.NoError(t, err)
				k := &kit{t, db, s}
				q := k.open("q", queue.Options{VisibilityTimeout: 12 * time.Hour})
				k.put(2)
				k.receive(q, 1)
				time.Sleep(time.Minute)
				require.NoError(t, db.Close())
				offset += step
				db = open()
				q, err = queue.Get(ctx, db, "q")
				require.NoError(t, err)
				d, err := q.Describe(ctx)
				require.NoError(t, err)
				require.EqualValues(t, 2, d.Visible+d.InFlight)
				time.Sleep(12 * time.Hour)
				d, err = q.Describe(ctx)
				require.NoError(t, err)
				require.EqualValues(t, 2, d.Visible)
				require.NoError(t, db.Close())
			})
		})
	}
}

// The cost of the state depends on the unsettled records.
func TestRowsAreOfWhatIsNotSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := braidtest.NewDisk()
		db, err := disk.Open(nil)
		require.NoError(t, err)
		s, err := db.CreateStream(ctx, "s", nil)
		require.NoError(t, err)
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{})
		n := 100_000
		if testing.Short() {
			n = 20_000
		}
		entries := make([]braid.Entry, 1000)
		for i := 0; i < n; i += len(entries) {
			for j := range entries {
				entries[j] = braid.Entry{PartitionKey: fmt.Sprint(i + j), Data: []byte(strings.Repeat("x", 90))}
			}
			_, err := s.PutRecords(ctx, entries)
			require.NoError(t, err)
		}
		kept := 0
		for i := 0; i < n; {
			records := k.receive(q, 1000)
			require.NotEmpty(t, records)
			var done []queue.Receipt
			for _, r := range records {
				if i++; i%1000 == 0 {
					kept++
				} else {
					done = append(done, r.Receipt)
				}
			}
			require.NoError(t, q.Ack(ctx, done...))
		}
		require.Equal(t, n/1000, kept)
		require.EqualValues(t, kept, k.describe(q).InFlight)
		require.Equal(t, kept, queue.Rows(q))
		require.NoError(t, db.Close())
		db, err = disk.Open(nil)
		require.NoError(t, err)
		q, err = queue.Get(ctx, db, "q")
		require.NoError(t, err)
		d, err := q.Describe(ctx)
		require.NoError(t, err)
		require.EqualValues(t, kept, d.InFlight)
		require.Equal(t, kept, queue.Rows(q))
		require.NoError(t, db.Close())
	})
}
