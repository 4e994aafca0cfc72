package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Copies of records may always be kept. The slices of batches may, unless they are
// reused.
func TestBatchesShareMemoryOnRequest(t *testing.T) {
	const records, perBatch = 2000, 100 // 5 are read at once
	for _, reuse := range []bool{false, true} {
		for _, kind := range []string{"plain", "tx", "linger", "attempts", "taken apart"} {
			t.Run(fmt.Sprintf("%s/reuse=%t", kind, reuse), func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					for n := range records {
						f.put(fmt.Sprintf("%04d", n))
					}
					var batches [][]consumer.Record
					var copies []consumer.Record
					failed := false
					keep := func(batch []consumer.Record) error {
						for i := range batch {
							require.NotEmpty(f, batch[i].Data, "it is not cleared while the processor has it")
						}
						if kind == "attempts" && len(copies) == 7*perBatch && !failed {
							failed = true
							return errors.New("once")
						}
						batches = append(batches, batch)
						copies = append(copies, batch...)
						return nil
					}
					cfg := consumer.Config{BatchRecords: perBatch, ReuseRecords: reuse, Deaggregate: kind == "taken apart"}
					if kind == "linger" {
						cfg.Linger = time.Second
					}
					w := f.worker(cfg, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error { return keep(batch.Records) }))
					if kind == "tx" {
						w = f.txWorker(cfg, func(_ context.Context, _ *braid.Tx, batch *consumer.TxBatch) error { return keep(batch.Records) })
					}
					stop := f.start(w)
					for n := range 70 { // some of them come while others linger
						f.put(fmt.Sprintf("%04d", records+n))
						time.Sleep(100 * time.Millisecond)
					}
					time.Sleep(time.Hour)
					synctest.Wait()
					require.NoError(f, stop())
					require.Len(f, copies, records+70)
					for n := range copies {
						require.Equal(f, fmt.Sprintf("%04d", n), string(copies[n].Data))
						require.Equal(f, fmt.Sprintf("%04d", n), copies[n].PartitionKey)
					}
					kept := slices.Concat(batches...)
					require.Len(f, kept, len(copies))
					changed := 0
					for n := range kept {
						if string(kept[n].Data) != string(copies[n].Data) {
							changed++
						}
					}
					if reuse && kind != "taken apart" {
						require.Equal(f, len(copies), changed, "all were cleared, or replaced by others")
					} else {
						require.Zero(f, changed)
					}
				})
			})
		}
	}
}

// A shard that waits for records keeps no memory for them.
func TestReusedMemoryIsGivenUpAtTheTip(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		for n := range 1000 {
			f.put(fmt.Sprint(n))
		}
		var last weak.Pointer[consumer.Record]
		stop := f.start(f.worker(consumer.Config{ReuseRecords: true}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			last = weak.Make(&batch.Records[0])
			return nil
		})))
		synctest.Wait()
		runtime.GC()
		require.Nil(f, last.Value())
		require.NoError(f, stop())
	})
}
