package queue_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

// A record that cannot be read, received before or not, leaves the queue: it is counted
// and logged. Every other record is received, of the same shard and of others.
func TestRecordsThatCannotBeRead(t *testing.T) {
	for _, where := range []struct{ name, record string }{
		{"new", "0/10"}, {"received", "0/2"}, {"last of all", "1/19"},
	} {
		t.Run(where.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const each, received = 20, 8
				random := rand.NewChaCha8([32]byte{5}) // incompressible data is stored in a table unchanged
				mem := vfs.NewMem()
				var log strings.Builder
				options := &braid.Options{TailBytes: -1, CacheBytes: -1, Logger: slog.New(slog.NewTextHandler(&log, nil))}
				open := func() *braid.DB {
					db, err := companion.Open("/db", options, companion.Environment{FS: mem})
					require.NoError(t, err)
					return db.(*braid.DB)
				}
				db := open()
				s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2})
				require.NoError(t, err)
				k := &kit{t, db, s}
				q := k.open("q", queue.Options{VisibilityTimeout: time.Minute})
				names := make(map[string]string)
				damaged := make([]byte, 16_000)
				for i := range each {
					for n, sh := range s.Shards() {
						data := make([]byte, 16_000)
						_, _ = random.Read(data)
						name := fmt.Sprintf("%d/%d", n, i)
						names[string(data)] = name
						if name == where.record {
							copy(damaged, data)
						}
						start := sh.HashKeyRange().Start
						_, err := s.PutRecords(ctx, []braid.Entry{{PartitionKey: "k", Data: data, ExplicitHashKey: &start}})
						require.NoError(t, err)
					}
				}
				require.Len(t, k.receive(q, received), received)
				require.NoError(t, db.Close())
				_, content, at, err := testdisk.Find(mem, "/db/store", damaged)
				require.NoError(t, err)
				content[at+len(damaged)/2] ^= 1

				db = open()
				s, err = db.Stream("s")
				require.NoError(t, err)
				k = &kit{t, db, s}
				readable := make(map[string]bool)
				for _, sh := range s.Shards() {
					from := braid.TrimHorizon()
					for more := true; more; {
						more = false
						for r, err := range sh.Records(ctx, from) {
							if err != nil {
								var damage *braid.CorruptError
								require.ErrorAs(t, err, &damage)
								from, more = braid.AtSequence(damage.FirstAvailable), true
								if damage.FirstAvailable.Compare(sh.Describe().Last) > 0 {
									more = false
								}
								break
							}
							readable[names[string(r.Data)]] = true
						}
					}
				}
				require.False(t, readable[where.record])

				q, err = queue.Get(ctx, db, "q")
				require.NoError(t, err)
				time.Sleep(2 * time.Minute)
				_, err = q.Describe(ctx)
				require.NoError(t, err)
				seen := make(map[string]bool)
				for {
					records := k.receive(q, 7)
					if len(records) == 0 {
						break
					}
					for _, r := range records {
						require.False(t, seen[names[string(r.Data)]])
						seen[names[string(r.Data)]] = true
					}
					require.NoError(t, q.Ack(ctx, receipts(records)...))
				}
				require.False(t, seen[where.record])
				for name := range readable { // received records are looked up one by one, which may find more of them
					require.True(t, seen[name], name)
				}
				d := k.describe(q)
				require.Zero(t, d.Visible+d.InFlight+d.Delayed)
				require.EqualValues(t, 2*each-len(seen), d.ExpiredReceived+d.ExpiredUnreceived)
				require.NoError(t, db.Close()) // nothing is logged afterwards
				require.Contains(t, log.String(), "cannot be read")
			})
		})
	}
}
