package consumer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func TestLeasesOfADeadWorkerExpire(t *testing.T) {
	expiry(t, 4, func(c *cluster) {
		dead := false
		one := c.join("one", func(m *member, _ *consumer.Config) {
			m.process = func(ctx context.Context, _ *consumer.Batch) error {
				if dead {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		})
		two := c.join("two", nil)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 2, "two": 2}, c.owners())
		before := numbered("before", 20)
		c.put(before...)
		synctest.Wait()
		require.ElementsMatch(c, before, append(one.take(), two.take()...))
		dead = true
		bury := one.cut()
		died := time.Now()
		after := numbered("after", 20)
		c.put(after...)
		time.Sleep(leaseDuration / 2)
		require.Equal(c, map[string]int{"one": 2, "two": 2}, c.owners(), "not yet")
		for c.owners()["two"] < 4 {
			time.Sleep(100 * time.Millisecond)
			require.Less(c, time.Since(died), 2*leaseDuration)
		}
		time.Sleep(time.Second)
		require.ElementsMatch(c, after, two.take(), "it goes on from the checkpoints")
		require.Empty(c, one.take())
		bury()
		require.NoError(c, one.stop())
		require.Equal(c, map[string]int{"two": 4}, c.owners())
		require.NoError(c, two.stop())
	})
}

func TestOwnerThatDoesNotReachTheStoreGivesUpInTime(t *testing.T) {
	for name, freeze := range map[string]func(l *link) (mend func()){
		"calls end with their context": (*link).cut,
		"calls do not return": func(l *link) func() {
			mended := make(chan struct{})
			l.set(func(context.Context, string, consumer.Lease) error { <-mended; return nil })
			return func() { close(mended); l.set(nil) }
		},
		"calls have errors": func(l *link) func() {
			l.set(func(context.Context, string, consumer.Lease) error { return errUnplugged })
			return func() { l.set(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			expiry(t, 1, func(c *cluster) {
				one := c.join("one", nil)
				two := c.join("two", nil)
				time.Sleep(time.Minute)
				require.Equal(c, "one", c.lease().Owner)
				epoch := c.lease().Epoch
				mend := freeze(one.link)
				time.Sleep(2 * leaseDuration)
				require.Equal(c, "two", c.lease().Owner)
				require.Equal(c, epoch+1, c.lease().Epoch)
				c.put("a")
				synctest.Wait()
				require.Equal(c, []string{"a"}, two.take())
				require.Empty(c, one.take())
				mend()
				time.Sleep(time.Minute)
				require.Equal(c, "two", c.lease().Owner, "who comes back has to wait its turn")
				require.NoError(c, one.stop())
				require.NoError(c, two.stop())
			})
		})
	}
}

func TestWorkerThatWasAsleepCannotCheckpoint(t *testing.T) {
	expiry(t, 1, func(c *cluster) {
		wake := make(chan struct{})
		result := make(chan error, 1)
		one := c.join("one", func(m *member, cfg *consumer.Config) {
			cfg.Checkpoints = consumer.Manual
			m.process = func(_ context.Context, batch *consumer.Batch) error {
				<-wake // regardless of ctx
				result <- batch.CheckpointAt(context.Background(), batch.Records[0])
				return nil
			}
		})
		two := c.join("two", nil)
		c.put("a", "b")
		synctest.Wait()
		mend := one.cut()
		time.Sleep(2 * leaseDuration)
		require.Equal(c, []string{"a", "b"}, two.take())
		lease := c.lease()
		require.Equal(c, "two", lease.Owner)
		mend()
		close(wake)
		require.ErrorIs(c, <-result, consumer.ErrLeaseLost)
		synctest.Wait()
		require.Equal(c, lease.Checkpoint, c.lease().Checkpoint)
		require.Equal(c, lease.Epoch, c.lease().Epoch)
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// The owner does not know yet that it has lost the lease: only the store knows.
func TestCheckpointThatArrivesLateIsRefused(t *testing.T) {
	expiry(t, 1, func(c *cluster) {
		var result error
		one := c.join("one", func(m *member, cfg *consumer.Config) {
			cfg.Checkpoints = consumer.Manual
			m.process = func(ctx context.Context, batch *consumer.Batch) error {
				result = batch.CheckpointAt(ctx, batch.Records[0])
				return result
			}
		})
		lease := c.lease()
		var taken consumer.Lease
		one.set(func(_ context.Context, op string, next consumer.Lease) error {
			if op == "CompareAndSet" && !next.Checkpoint.SequenceNumber.IsZero() && taken.Version == 0 {
				taken = c.leaseNow() // just before the request arrives
				taken.Owner, taken.Epoch = "two", taken.Epoch+1
				stored, err := c.store.CompareAndSet(context.Background(), taken)
				if err != nil || !stored {
					panic("the lease could not be taken")
				}
				taken.Version++
			}
			return nil
		})
		c.put("a")
		synctest.Wait()
		require.ErrorIs(c, result, consumer.ErrLeaseLost)
		require.Equal(c, taken, c.lease())
		require.Equal(c, lease.Checkpoint, c.lease().Checkpoint)
		require.Empty(c, one.take())
		require.NoError(c, one.stop())
	})
}

func TestLostAnswersDoNotLoseTheLease(t *testing.T) {
	expiry(t, 1, func(c *cluster) {
		one := c.join("one", nil)
		two := c.join("two", nil)
		epoch := c.lease().Epoch
		version := c.lease().Version
		calls := 0
		one.set(func(_ context.Context, op string, _ consumer.Lease) error {
			if op != "CompareAndSet" {
				return nil
			}
			// After a write whose answer is lost, one write is refused, and one succeeds.
			if calls++; calls%3 == 1 {
				return fmt.Errorf("%w: %w", leasetest.ErrAfter, errUnplugged)
			}
			return nil
		})
		time.Sleep(5 * time.Minute) // renewals
		require.Equal(c, epoch, c.lease().Epoch)
		require.Greater(c, c.lease().Version, version+30)
		for i := range 10 { // checkpoints
			c.put(fmt.Sprint("record ", i))
			time.Sleep(5 * time.Second)
		}
		require.Equal(c, numbered("record", 10), one.take(), "and nothing comes twice")
		require.Empty(c, two.take())
		lease := c.lease()
		require.Equal(c, epoch, lease.Epoch)
		require.Equal(c, "one", lease.Owner)
		require.False(c, lease.Checkpoint.SequenceNumber.IsZero())
		one.set(nil)
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// A worker that takes or hands over a lease, and does not learn that it succeeded,
// reaches the same state in the end.
func TestLostAnswersDoNotLoseHandOvers(t *testing.T) {
	expiry(t, 4, func(c *cluster) {
		var mu sync.Mutex
		chance := rand.New(rand.NewPCG(1, 2))
		lossy := func(m *member, _ *consumer.Config) {
			m.set(func(_ context.Context, op string, lease consumer.Lease) error {
				mu.Lock()
				defer mu.Unlock()
				// Run does not begin without the lease of the application.
				if op == "CompareAndSet" && lease.Stream != "" && chance.IntN(4) == 0 {
					return fmt.Errorf("%w: %w", leasetest.ErrAfter, errUnplugged)
				}
				return nil
			})
		}
		one := c.join("one", lossy)
		two := c.join("two", lossy)
		time.Sleep(5 * time.Minute)
		require.Equal(c, map[string]int{"one": 2, "two": 2}, c.owners())
		data := numbered("record", 40)
		c.put(data...)
		time.Sleep(time.Minute)
		require.ElementsMatch(c, data, append(one.take(), two.take()...))
		require.NoError(c, one.stop())
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"two": 4}, c.owners())
		require.NoError(c, two.stop())
	})
}

func TestOwnerThatDiesInAHandOverIsWaitedFor(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		require.Equal(c, map[string]int{"one": 2}, c.owners())
		var mend func()
		var asked time.Time
		c.store.OnWrite(func(_, after consumer.Lease) {
			if after.NextOwner == "two" && mend == nil {
				asked = time.Now()
				mend = one.cut()
			}
		})
		two := c.join("two", nil)
		time.Sleep(leaseDuration)
		synctest.Wait()
		require.NotNil(c, mend, "it is asked for a lease")
		for c.owners()["two"] < 2 {
			time.Sleep(100 * time.Millisecond)
			require.Less(c, time.Since(asked), 2*leaseDuration)
		}
		for _, lease := range c.leases() {
			require.Empty(c, lease.NextOwner)
		}
		data := numbered("record", 10)
		c.put(data...)
		synctest.Wait()
		require.ElementsMatch(c, data, two.take())
		mend()
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

func TestWorkerThatDiesAfterItHasAskedIsForgotten(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		var mend func()
		two := c.join("two", func(m *member, _ *consumer.Config) {
			c.store.OnWrite(func(_, after consumer.Lease) {
				if after.NextOwner == "two" && mend == nil {
					mend = m.cut()
				}
			})
		})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.NotNil(c, mend, "it has asked for a lease")
		require.Equal(c, map[string]int{"one": 2}, c.owners())
		data := numbered("record", 10)
		c.put(data...)
		synctest.Wait()
		require.ElementsMatch(c, data, one.take())
		mend()
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// The owner writes the lease again and again, and does not see the request for it.
func TestOwnerThatDoesNotHandOverIsTakenFrom(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		mended := make(chan struct{})
		one.set(func(_ context.Context, op string, _ consumer.Lease) error {
			if op == "List" {
				<-mended
			}
			return nil
		})
		two := c.join("two", nil)
		time.Sleep(30 * time.Second)
		require.Equal(c, map[string]int{"one": 2}, c.owners())
		time.Sleep(30 * time.Second)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		close(mended)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
		require.Len(c, c.overlaps, 1) // the owner sees it at its next write
		c.overlaps = nil
	})
}
