//go:build unix

package consumer_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// initialized counts the shards that a worker has begun.
type initialized struct {
	begun atomic.Int64
	all   int64
	done  chan struct{}
}

func (p *initialized) Initialize(context.Context, *consumer.Checkpointer) error {
	if p.begun.Add(1) == p.all {
		close(p.done)
	}
	return nil
}

func (p *initialized) ProcessRecords(context.Context, *consumer.Batch) error { return nil }

// BenchmarkTake measures how long a worker takes to begin all shards, which are empty:
// for the first time, and again. Then it is idle, and uses no CPU.
func BenchmarkTake(b *testing.B) {
	for _, size := range []struct{ streams, shards int }{{1, 100}, {1, 10_000}, {100, 1}, {10_000, 1}} {
		for _, again := range []bool{false, true} {
			b.Run(fmt.Sprintf("streams=%d/shards=%d/again=%t", size.streams, size.shards, again), func(b *testing.B) {
				db, err := braid.Open(b.TempDir(), nil)
				require.NoError(b, err)
				b.Cleanup(func() { require.NoError(b, db.Close()) })
				var names []string
				for i := range size.streams {
					names = append(names, fmt.Sprint("s", i))
					_, err := db.CreateStream(b.Context(), names[i], &braid.StreamOptions{Shards: size.shards})
					require.NoError(b, err)
				}
				var took, cpu time.Duration
				n := 0
				take := func(app string) {
					p := &initialized{all: int64(size.streams * size.shards), done: make(chan struct{})}
					began := time.Now()
					w, err := consumer.New(db, &consumer.Config{App: app, Streams: names, Logger: slog.New(slog.DiscardHandler)}, p)
					stop := benchRun(b, w, err)
					<-p.done
					took += time.Since(began)
					n++
					time.Sleep(100 * time.Millisecond) // until it is idle
					before := cpuTime(b)
					time.Sleep(time.Second)
					cpu += cpuTime(b) - before
					stop()
				}
				if again {
					take("again")
					took, cpu, n = 0, 0, 0
				}
				for b.Loop() {
					app := "again"
					if !again {
						app = fmt.Sprint("app-", n)
					}
					take(app)
				}
				b.ReportMetric(took.Seconds()*1000/float64(n), "ms/take")
				b.ReportMetric(cpu.Seconds()*1000/float64(n), "idle-cpu-ms/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// cpuTime returns the CPU time of the process so far.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
