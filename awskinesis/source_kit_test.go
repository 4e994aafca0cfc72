package awskinesis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer/sourcetest"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// Kinesis does not report trimmed records, so gaps are suspected, and its times are in
// milliseconds. Nothing else is relaxed.
func TestSourceKeepsThePromisesOfASource(t *testing.T) {
	for _, m := range []mode{polling, fanOut} {
		t.Run(string(m), func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T) sourcetest.Fixture {
				kit := kinesistest.NewWith(t, &kinesistest.Options{ExactLimits: true})
				source, err := awskinesis.NewSource(newSourceClient(kit), m.options())
				require.NoError(t, err)
				return sourcetest.Fixture{
					Source: source,
					CreateStream: func(t *testing.T, name string, shards int) {
						t.Helper()
						_, err := kit.DB().CreateStream(t.Context(), name, &braid.StreamOptions{
							Shards: shards, Capacity: braid.Capacity{Mode: braid.Provisioned}, Retention: 24 * time.Hour,
						})
						require.NoError(t, err)
					},
					Put: func(t *testing.T, stream, partitionKey string, data []byte) {
						t.Helper()
						kit.Put(stream, partitionKey, string(data))
					},
					Split: func(t *testing.T, stream string, shard braid.ShardID) {
						t.Helper()
						kit.Split(stream, string(shard))
					},
					Merge: func(t *testing.T, stream string, shard, adjacent braid.ShardID) {
						t.Helper()
						kit.Merge(stream, string(shard), string(adjacent))
					},
					Trim: func(*testing.T, string) { time.Sleep(25 * time.Hour) },
					Delete: func(t *testing.T, stream string) {
						t.Helper()
						require.NoError(t, kit.DB().DeleteStream(t.Context(), stream))
						time.Sleep(time.Second) // as the service does, which distinguishes streams of the same name by seconds
					},
				}
			}, &sourcetest.Options{Bubble: true, SuspectsTrims: true, Granularity: time.Millisecond})
		})
	}
}
