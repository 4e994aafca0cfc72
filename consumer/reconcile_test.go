package consumer_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func nop(context.Context, *consumer.Batch) error { return nil }

// The steps of the group's passes follow the changes, not the number of shards: each
// shard of a chain of reshards costs the same, however long the chain is.
func TestPassesCostWhatHasChangedInAChain(t *testing.T) {
	const perShard = 20
	for _, live := range []bool{false, true} {
		for _, reshards := range []int{10, 80} {
			t.Run(fmt.Sprintf("%d reshards, live=%t", reshards, live), func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					var stop func() error
					start := func() { stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(nop))) }
					if live {
						start()
						for range reshards {
							chain(f, f.orders, 1)
							synctest.Wait()
						}
					} else {
						chain(f, f.orders, reshards)
						start()
					}
					require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
					shards := f.orders.Shards()
					require.Len(f, shards, 3*reshards+1)
					last := shards[len(shards)-1].ID()
					require.Equal(f, consumer.StateRunning, f.status(last).State)
					require.Less(f, consumer.Steps(f.db, "billing"), int64(perShard*len(shards)))

					// The shards expire one after the other.
					before := consumer.Steps(f.db, "billing")
					time.Sleep(48 * time.Hour)
					synctest.Wait()
					require.Less(f, len(f.orders.Shards()), len(shards))
					require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
					require.Less(f, consumer.Steps(f.db, "billing")-before, int64(perShard*len(shards)))
					require.NoError(f, stop())
				})
			})
		}
	}
}

// A change of the source between one look and the beginning of the next wait is not
// missed.
func TestNoChangeIsMissedBetweenTwoLooks(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		source := &changingSource{Source: consumer.NewDBSource(f.db)}
		stop := f.start(f.worker(consumer.Config{Source: source}, consumer.ProcessorFunc(nop)))
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		change := func() { f.split(shard1) }
		source.change.Store(&change)
		require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard0})) // this causes a look
		synctest.Wait()
		require.Nil(f, source.change.Load())
		require.Equal(f, consumer.StateDone, f.status(shard1).State)
		require.Equal(f, consumer.StateRunning, f.status(shard2).State)
		require.NoError(f, stop())
	})
}

// changingSource changes once, when it is next asked for its channel of changes.
type changingSource struct {
	consumer.Source
	change atomic.Pointer[func()]
}

func (s *changingSource) Changed() <-chan struct{} {
	if change := s.change.Swap(nil); change != nil {
		(*change)()
	}
	return s.Source.Changed()
}

// In a group of 1,000 shards, an event in one costs the same as in a small group.
func TestPassesCostWhatHasChangedInAWideGroup(t *testing.T) {
	for _, shards := range []int{4, 1000} {
		bubble(t, shards, func(f *fixture) {
			app, err := consumer.OpenApp(f.db, "billing")
			require.NoError(f, err)
			stopOne := f.start(f.worker(consumer.Config{WorkerID: "one"}, consumer.ProcessorFunc(nop)))
			stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, consumer.ProcessorFunc(nop)))
			key := consumer.LeaseKey{Stream: "orders", Shard: f.orders.Shards()[1].ID()}
			// The writes of all leases when they were taken are visited once.
			require.NoError(f, app.Pause(f.Context(), key))
			require.NoError(f, app.Resume(f.Context(), key))
			synctest.Wait()
			for _, row := range []struct {
				name string
				do   func() error
			}{
				{"a checkpoint", func() error { f.putIn(f.orders.Shards()[0], "k", nil); return nil }},
				{"a split", func() error { f.split(f.orders.Shards()[0].ID()); return nil }},
				{"a pause", func() error { return app.Pause(f.Context(), key) }},
				{"a resume", func() error { return app.Resume(f.Context(), key) }},
				{"a seek", func() error { return app.Seek(f.Context(), key, braid.TrimHorizon()) }},
				{"another stream", func() error {
					_, err := f.db.CreateStream(f.Context(), "other", &braid.StreamOptions{Shards: 500})
					return err
				}},
			} {
				before := consumer.Steps(f.db, "billing")
				require.NoError(f, row.do(), row.name)
				synctest.Wait()
				require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"), row.name)
				require.LessOrEqual(f, consumer.Steps(f.db, "billing")-before, int64(30), row.name)
			}
			// A worker that comes or goes concerns all shards; their moves one after the other do
			// not.
			before := consumer.Steps(f.db, "billing")
			require.NoError(f, stopTwo())
			synctest.Wait()
			require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
			require.LessOrEqual(f, consumer.Steps(f.db, "billing")-before, int64(30*(shards+2)))
			require.Equal(f, "one", f.status(f.orders.Shards()[2].ID()).Owner)
			require.NoError(f, stopOne())
		})
	}
}

// beginIdle makes a worker of an application begin with streams without records.
func beginIdle(f *fixture, app string, streams ...string) (stop func() error) {
	w, err := consumer.New(f.db, &consumer.Config{App: app, Streams: streams, Logger: slog.New(slog.DiscardHandler)}, consumer.ProcessorFunc(nop))
	require.NoError(f, err)
	stop = f.start(w)
	synctest.Wait()
	return stop
}

// A worker begins with many streams in few commits: a thousand leases share one.
func TestBeginningTakesFewCommits(t *testing.T) {
	for _, streams := range []int{2, 1500} {
		bubble(t, 1, func(f *fixture) {
			var names []string
			for i := range streams {
				names = append(names, fmt.Sprintf("s%d", i))
				_, err := f.db.CreateStream(f.Context(), names[i], &braid.StreamOptions{Shards: 2})
				require.NoError(f, err)
			}
			before := f.db.Metrics().Commits
			stop := beginIdle(f, "app", names...)
			// The application; starts of the shards, the streams, the leases: 1,000 each time.
			require.LessOrEqual(f, f.db.Metrics().Commits-before, int64(1+3+2+3))
			for _, name := range []string{names[0], names[streams-1]} {
				s, err := f.db.Stream(name)
				require.NoError(f, err)
				lease, found, err := consumer.NewDBLeases(f.db, "app").Get(f.Context(), consumer.LeaseKey{Stream: name, Shard: s.Shards()[1].ID()})
				require.NoError(f, err)
				require.True(f, found)
				require.NotEmpty(f, lease.Owner)
			}
			require.NoError(f, stop())
		})
	}
}

// A stream for which a crash has left the start of only some shards begins like a
// complete one.
func TestBeginningGoesOnAfterACrash(t *testing.T) {
	bubble(t, 3, func(f *fixture) {
		f.putIn(f.orders.Shards()[2], "k", nil)
		leases := consumer.NewDBLeases(f.db, "app")
		there := consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "orders", Shard: shard1}, Incarnation: uint64(f.orders.CreatedAt().UnixNano())}
		there.Checkpoint.Start = braid.TrimHorizon()
		stored, err := leases.CompareAndSet(f.Context(), there)
		require.NoError(f, err)
		require.True(f, stored)
		stop := beginIdle(f, "app", "orders")
		for i, sh := range f.orders.Shards() {
			lease, found, err := leases.Get(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: sh.ID()})
			require.NoError(f, err)
			require.True(f, found, i)
			require.NotEmpty(f, lease.Owner, i)
			require.Equal(f, i == 1, lease.Checkpoint.Start.Equal(braid.TrimHorizon()), "what was placed stays, and the others have a place")
		}
		require.NoError(f, stop())
	})
}

// What a crash has left of a deleted stream has no influence on the start of a new one of
// its name.
func TestBeginningReplacesWhatIsLeftOfADeletedStream(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		leases := consumer.NewDBLeases(f.db, "app")
		left := consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "orders", Shard: shard1}, Incarnation: 1}
		left.Checkpoint.Start = braid.TrimHorizon()
		stored, err := leases.CompareAndSet(f.Context(), left)
		require.NoError(f, err)
		require.True(f, stored)
		for _, sh := range f.orders.Shards() {
			f.putIn(sh, "k", []byte("old"))
		}
		var seen journal
		w := f.worker(consumer.Config{App: "app", Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		require.Empty(f, seen.take(), "all shards begin at the application's start")
		f.put("new")
		synctest.Wait()
		require.Equal(f, []string{"new"}, seen.take())
		require.NoError(f, stop())
	})
}

// Changes of a stream cost nothing to applications that do not process it. To the others
// they cost only what has changed, however many streams they have.
func TestChangesCostThoseTheyConcern(t *testing.T) {
	for _, many := range []int{2, 100} {
		bubble(t, 1, func(f *fixture) {
			var names, apps []string
			var stops []func() error
			for i := range many {
				names = append(names, fmt.Sprintf("s%d", i))
				_, err := f.db.CreateStream(f.Context(), names[i], nil)
				require.NoError(f, err)
			}
			stops = append(stops, beginIdle(f, "all", append(names, "later", "never")...))
			for i := range many {
				apps = append(apps, fmt.Sprintf("app%d", i))
				stops = append(stops, beginIdle(f, apps[i], names[i], "never"))
			}
			steps := func() (all, others int64) {
				for _, app := range apps[1:] {
					others += consumer.Steps(f.db, app)
				}
				return consumer.Steps(f.db, "all"), others
			}
			visit := func(app, stream string) { // the writes of all leases are visited once
				a, err := consumer.OpenApp(f.db, app)
				require.NoError(f, err)
				key := consumer.LeaseKey{Stream: stream, Shard: shard0}
				require.NoError(f, a.Pause(f.Context(), key))
				require.NoError(f, a.Resume(f.Context(), key))
				synctest.Wait()
			}
			visit("all", names[0])
			for i, app := range apps {
				visit(app, names[i])
			}
			first, err := f.db.Stream(names[0])
			require.NoError(f, err)
			for _, row := range []struct {
				name  string
				steps int64 // of the application that has all streams
				do    func() error
			}{
				{"a stream that nobody has", 0, func() error { _, err := f.db.CreateStream(f.Context(), "other", nil); return err }},
				{"its end", 0, func() error { return f.db.DeleteStream(f.Context(), "other") }},
				{"a split", 30, func() error { _, _, err := first.SplitShard(f.Context(), shard0, nil); return err }},
			} {
				all, others := steps()
				require.NoError(f, row.do())
				synctest.Wait()
				allNow, othersNow := steps()
				require.LessOrEqual(f, allNow-all, row.steps, row.name)
				require.Zero(f, othersNow-others, row.name)
				require.NoError(f, consumer.CheckView(f.Context(), f.db, "all"), row.name)
			}
			all, others := steps()
			_, err = f.db.CreateStream(f.Context(), "later", nil) // it is awaited, and begins
			require.NoError(f, err)
			synctest.Wait()
			allNow, othersNow := steps()
			require.LessOrEqual(f, allNow-all, int64(30))
			require.Zero(f, othersNow-others)
			require.NoError(f, consumer.CheckView(f.Context(), f.db, "all"))
			lease, found, err := consumer.NewDBLeases(f.db, "all").Get(f.Context(), consumer.LeaseKey{Stream: "later", Shard: shard0})
			require.NoError(f, err)
			require.True(f, found)
			require.NotEmpty(f, lease.Owner)
			for _, stop := range stops {
				require.NoError(f, stop())
			}
		})
	}
}

// A worker that waits for streams that do not exist ends when the database closes.
func TestAWorkerWithoutStreamsEndsWithTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		w, err := consumer.New(db, &consumer.Config{App: "app", Streams: []string{"never"}, Logger: slog.New(slog.DiscardHandler)}, consumer.ProcessorFunc(nop))
		require.NoError(t, err)
		ended := make(chan error)
		go func() { ended <- w.Run(t.Context()) }()
		synctest.Wait()
		require.NoError(t, db.Close())
		require.ErrorIs(t, <-ended, braid.ErrClosed)
	})
}
