package awskinesis_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// A shard that expired unprocessed is reported until that is accepted, even if a worker of the KCL,
// which does not know of the gap, has the lease of a child in between.
func TestFleetReportsAnExpiredParentUntilThatIsAccepted(t *testing.T) {
	inFleet(t, 1, func(f *fleet) {
		const child, other = "shardId-000000000001", "shardId-000000000002"
		var d diary
		answer := errors.New("refused")
		run := func() error {
			one := f.hire("one", consumer.Config{OnGap: func(_ context.Context, _ string, gap *braid.TrimmedError) error {
				d.add("gap in %s", gap.Shard)
				return answer
			}}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				for _, r := range batch.Records {
					d.add("%s", r.Data)
				}
				return nil
			}))
			time.Sleep(5 * time.Minute)
			return one.stop()
		}
		f.kit.Put("orders", "key", "first")
		require.NoError(f, run())
		require.Equal(f, []string{"first"}, d.take())
		f.kit.Put("orders", "key", "lost")
		f.kit.Split("orders", "0")
		time.Sleep(25 * time.Hour)
		f.kit.Put("orders", "key", "last")
		for range 2 {
			require.ErrorIs(f, run(), answer)
			require.Equal(f, []string{"gap in shardId-000000000000", "gap in shardId-000000000000"}, d.take())
			require.Len(f, f.leases()[child].Gaps, 1)
			require.NotContains(f, f.leases(), braid.ShardID("shardId-000000000000"), "the children's leases have what it showed")
			f.assign(child, "java-1") // and it dies
		}
		answer = nil
		require.NoError(f, run())
		lines := d.take()
		require.ElementsMatch(f, []string{"gap in shardId-000000000000", "gap in shardId-000000000000", "last"}, lines)
		require.NotEqual(f, "last", lines[0])
		for _, shard := range []braid.ShardID{child, other} {
			require.True(f, f.leases()[shard].Gaps[0].Accepted)
		}
		f.assign(child, "java-1")
		require.NoError(f, run())
		require.Empty(f, d.take())
	})
}
