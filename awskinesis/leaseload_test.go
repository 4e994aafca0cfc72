package awskinesis_test

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
)

// numbers returns a list of numbers.
func numbers(digits ...string) dynamotest.Attribute {
	list := make([]any, len(digits))
	for i, d := range digits {
		list[i] = n(d)
	}
	return dynamotest.Attribute{"L": list}
}

// measured returns the metrics of a KCL worker, as of some time ago, with one measurement.
func measured(worker string, age time.Duration, kind, limit string, values ...string) dynamotest.Item {
	row := maps.Clone(kclMetrics)
	row["leaseKey"] = s(worker)
	row["lut"] = n(strconv.FormatInt(time.Now().Add(-age).Unix(), 10))
	row["sts"] = dynamotest.Attribute{"M": map[string]any{kind: numbers(values...)}}
	row["opr"] = dynamotest.Attribute{"M": map[string]any{kind: numbers(limit)}}
	return row
}

// A braid worker reports the measurements that live KCL workers report, with their value per byte
// times its own throughput.
func TestEstimateOfMeasurements(t *testing.T) {
	type leases map[string]string // throughput in KiB per second, by "SHARD OWNER"
	none := dynamotest.Attribute{"M": map[string]any{}}
	only := func(kind, digits string) dynamotest.Attribute {
		return dynamotest.Attribute{"M": map[string]any{kind: numbers(digits)}}
	}
	even := leases{"0 java-1": "9", "1 one": "9"}
	for name, c := range map[string]struct {
		leases leases
		change func(row dynamotest.Item) // of java-1, which reports 40 percent
		others func() []dynamotest.Item
		values dynamotest.Attribute
		limits dynamotest.Attribute
	}{
		"equal loads":   {leases: even, values: only("C", "40.000000"), limits: only("C", "100")},
		"half the load": {leases: leases{"0 java-1": "9", "1 one": "4"}, values: only("C", "20.000000"), limits: only("C", "100")},
		"idle leases count a little": {
			leases: leases{"0 java-1": "0", "1 java-1": "0", "2 java-1": "0", "3 one": "0"}, values: only("C", "13.333333"), limits: only("C", "100"),
		},
		"no leases":                           {leases: leases{"0 java-1": "9"}, values: only("C", "0.000000"), limits: only("C", "100")},
		"the KCL has no leases":               {leases: leases{"0 one": "9"}, values: only("C", "100.000000"), limits: only("C", "100")},
		"nobody has leases":                   {values: only("C", "0.000000"), limits: only("C", "100")},
		"never above the limit":               {leases: leases{"0 java-1": "1", "1 one": "9"}, values: only("C", "100.000000"), limits: only("C", "100")},
		"leases of ended shards do not count": {leases: leases{"0 java-1": "9", "1 one": "9", "2 one": "ended"}, values: only("C", "40.000000"), limits: only("C", "100")},
		"the average is that of the KCL": {
			leases: even, change: func(row dynamotest.Item) {
				row["sts"] = dynamotest.Attribute{"M": map[string]any{"C": numbers("-1", "80", "20", "-1", "30")}}
			},
			values: only("C", "40.000000"), limits: only("C", "100"),
		},
		"other measurements": {
			leases: even, change: func(row dynamotest.Item) {
				row["sts"], row["opr"] = only("NI", "12.5"), only("NI", "80")
			}, values: only("NI", "12.500000"), limits: only("NI", "80"),
		},
		"no measurements": {leases: even, change: func(row dynamotest.Item) { row["sts"], row["opr"] = none, none }, values: none, limits: none},
		"no limit":        {leases: even, change: func(row dynamotest.Item) { row["opr"] = none }, values: none, limits: none},
		"a failure": {
			leases: even, change: func(row dynamotest.Item) {
				row["sts"] = dynamotest.Attribute{"M": map[string]any{"C": numbers("40", "-1")}}
			},
			values: none, limits: none,
		},
		"dead": {
			leases: even, change: func(row dynamotest.Item) {
				row["lut"] = n(strconv.FormatInt(time.Now().Add(-2*time.Minute).Unix(), 10))
			},
			values: none, limits: none,
		},
		"several workers": {
			leases: leases{"0 java-1": "9", "1 java-2": "4", "2 one": "14"}, others: func() []dynamotest.Item {
				return []dynamotest.Item{measured("java-2", 0, "C", "80", "20")}
			}, values: only("C", "60.000000"), limits: only("C", "100"), // 4 percent per KiB
		},
		"a worker without measurements": {
			leases: leases{"0 java-1": "9", "1 java-2": "99", "2 one": "9"}, others: func() []dynamotest.Item {
				row := measured("java-2", 0, "C", "100")
				row["sts"], row["opr"] = none, none
				return []dynamotest.Item{row}
			}, values: only("C", "40.000000"), limits: only("C", "100"),
		},
		"estimates of others do not count": {
			leases: leases{"0 java-1": "9", "1 two": "9", "2 one": "9"}, others: func() []dynamotest.Item {
				row := measured("two", 0, "C", "100", "99")
				row["braid"] = dynamotest.Attribute{"M": map[string]any{"reported": s(row["lut"]["N"].(string))}}
				return []dynamotest.Item{row}
			}, values: only("C", "40.000000"), limits: only("C", "100"),
		},
		"a KCL worker with the name of a braid worker": {
			leases: leases{"0 java-1": "9", "1 two": "9", "2 one": "9"}, others: func() []dynamotest.Item {
				row := measured("two", 0, "C", "100", "20")
				row["braid"] = dynamotest.Attribute{"M": map[string]any{"reported": s("1795894056")}}
				return []dynamotest.Item{row}
			}, values: only("C", "30.000000"), limits: only("C", "100"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			inMixedFleet(t, 1, func(f *fleet) {
				f.begin()
				store := ordersStore(f, f.dynamo, func(o *awskinesis.LeaseStoreOptions) { o.MixedFleet = true })
				java := measured("java-1", 0, "C", "100", "40")
				if c.change != nil {
					c.change(java)
				}
				rows := []dynamotest.Item{java}
				if c.others != nil {
					rows = append(rows, c.others()...)
				}
				for _, row := range rows {
					f.dynamo.Put(f, "billing", row)
				}
				for lease, rate := range c.leases {
					var shard int
					var owner string
					_, err := fmt.Sscan(lease, &shard, &owner)
					require.NoError(f, err)
					f.lease(shard, owner, rate)
				}
				_, err := store.List(f.Context())
				require.NoError(f, err)
				_, _, err = store.Fleet().Report(f.Context(), "one")
				require.NoError(f, err)
				row := f.dynamo.Items("billing")["one"]
				require.Equal(f, c.values, row["sts"])
				require.Equal(f, c.limits, row["opr"])
			})
		})
	}
}

// lease puts a KCL worker's lease with that throughput in KiB per second, or "ended".
func (f *fleet) lease(shard int, owner, rate string) {
	f.Helper()
	row := dynamotest.Item{
		"leaseKey": s(fmt.Sprintf("shardId-%012d", shard)), "entityType": s("LEASE"), "leaseOwner": s(owner), "leaseCounter": n("7"),
		"checkpoint": s("TRIM_HORIZON"), "checkpointSubSequenceNumber": n("0"), "ownerSwitchesSinceCheckpoint": n("0"), "throughputKBps": n("9"),
	}
	if rate == "ended" {
		row["checkpoint"] = s("SHARD_END")
	} else {
		row["throughputKBps"] = n(rate)
	}
	f.dynamo.Put(f, "billing", row)
}

// A KCL leader that compares workers by their CPU utilization gives braid workers their share of the
// throughput, and no more than that, whatever else the KCL worker's CPU does. The same holds if the
// stream is idle, and if the KCL workers measure nothing.
func TestKCLLeaderSharesByMeasurements(t *testing.T) {
	busy := []float64{8, 8, 8, 8, 2, 2, 2, 2} // KiB per second, by shard
	idle := make([]float64, 8)
	for name, c := range map[string]struct {
		rates []float64
		cpu   func(load float64) float64 // nil for no measurement
	}{
		"busy":                {busy, func(load float64) float64 { return 30 + load }},
		"idle":                {idle, func(float64) float64 { return 3 }},
		"nothing is measured": {busy, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inMixedFleet(t, len(c.rates), func(f *fleet) {
				f.begin()
				f.dynamo.Put(f, "billing", measured("java-1", 0, "C", "100", "50"))
				for shard, rate := range c.rates {
					f.lease(shard, "java-1", strconv.FormatFloat(rate, 'f', -1, 64))
				}
				j := f.joinKCL("java-1", 0, c.cpu)
				stopLeader := f.leadAsKCL("java-1")
				stopTraffic := f.traffic(c.rates)
				discard := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })

				// requireShares requires that each worker has an equal share of the throughput, or of
				// the leases if there is none, as far as the sizes of the leases and the KCL's
				// dampening allow.
				requireShares := func(workers ...string) {
					f.Helper()
					shares := make(map[string]float64)
					var sum float64
					for shard, lease := range f.leases() {
						var index int
						_, err := fmt.Sscanf(string(shard), "shardId-%d", &index)
						require.NoError(f, err)
						shares[lease.Owner] += max(c.rates[index], 0.01)
						sum += max(c.rates[index], 0.01)
					}
					f.Logf("%v", shares)
					require.Len(f, shares, len(workers))
					for _, worker := range workers {
						require.InDelta(f, 0, 1-shares[worker]*float64(len(workers))/sum, 0.5, "%s", worker)
					}
				}
				one := f.join("one", nil, discard)
				time.Sleep(8 * time.Minute)
				requireShares("java-1", "one")
				two := f.join("two", nil, discard)
				time.Sleep(8 * time.Minute)
				requireShares("java-1", "one", "two")
				require.NoError(f, two.stop())
				time.Sleep(8 * time.Minute)
				requireShares("java-1", "one")

				stopTraffic()
				stopLeader()
				j.kill()
				require.NoError(f, one.stop())
			})
		})
	}
}

// traffic puts that many KiB per second in each shard, until its result is called.
func (f *fleet) traffic(rates []float64) (stop func()) {
	stream, err := f.kit.DB().Stream("orders")
	require.NoError(f, err)
	return f.every(time.Second, func() {
		for shard, rate := range rates {
			if rate == 0 {
				continue
			}
			hash := stream.Shards()[shard].HashKeyRange().Start
			results, err := stream.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "key", ExplicitHashKey: &hash, Data: make([]byte, int(rate*1024))}})
			requireStored(f, results, err)
		}
	})
}

// every calls a function again and again, until its result is called.
func (f *fleet) every(d time.Duration, call func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for wait(ctx, d) == nil {
			call()
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	f.Cleanup(stop)
	return stop
}
