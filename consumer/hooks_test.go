package consumer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func TestShardEndedIsCalledUntilItSucceeds(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		stop := f.start(f.worker(consumer.Config{}, seen.each(map[string]int{"shard ended": 2})))
		f.split(shard0)
		synctest.Wait()
		require.Equal(f, []string{"0 initialize", "0 shard ended"}, seen.take())
		require.Equal(f, consumer.StateRetrying, f.status(shard0).State)
		time.Sleep(time.Minute)
		lines := seen.take()
		require.Equal(f, []string{"0 shard ended", "0 shard ended"}, lines[:2])
		require.ElementsMatch(f, []string{"1 initialize", "2 initialize"}, lines[2:], "the children begin once")
		require.NoError(f, stop())
	})
}

// rewinder seeks its shard back while it ends.
type rewinder struct {
	*journal
	app *consumer.App
}

func (p *rewinder) ProcessRecords(context.Context, *consumer.Batch) error { return nil }

func (p *rewinder) ShardEnded(ctx context.Context, c *consumer.Checkpointer) error {
	p.add("ended")
	if c.Lease().Epoch == 1 {
		return p.app.Seek(context.WithoutCancel(ctx), c.Lease().LeaseKey, braid.TrimHorizon())
	}
	return nil
}

func (p *rewinder) LeaseLost(context.Context, error) { p.add("lost") }

func TestTerminalHookIsOne(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		var seen journal
		first := true
		stop := f.start(f.worker(consumer.Config{}, consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
			if lease.Shard == shard0 && first {
				first = false
				return &rewinder{&seen, app}
			}
			return consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
		})))
		f.split(shard0)
		synctest.Wait()
		require.Equal(f, []string{"ended"}, seen.take())
		require.Equal(f, consumer.StateDone, f.status(shard0).State)
		require.NoError(f, stop())
	})
}

// The function of PerLease may return another PerLease.
func TestPerLeaseMayBeNested(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		f.put("a")
		inner := func(consumer.Lease) consumer.Processor { return consumer.ProcessorFunc(seen.collect) }
		stop := f.start(f.worker(consumer.Config{SkipFailed: true}, consumer.PerLease(func(consumer.Lease) consumer.Processor { return consumer.PerLease(inner) })))
		require.Equal(f, []string{"a"}, seen.take())
		require.NoError(f, stop())
	})
}
