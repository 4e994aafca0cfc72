package awskinesis_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
)

func inMixedFleet(t *testing.T, shards int, test func(f *fleet)) {
	t.Helper()
	inFleet(t, shards, func(f *fleet) {
		f.mixed = true
		test(f)
	})
}

// leader returns the holder of the leader lock, "" if it is released.
func (f *fleet) leader() string {
	row := f.dynamo.Items("billing")["Leader"]
	if row["isReleased"] != nil {
		return ""
	}
	return dynamotest.Text(row["ownerName"])
}

// begin creates the tables, and lets another worker hold the lock.
func (f *fleet) begin() {
	f.Helper()
	ordersStore(f, f.dynamo, func(o *awskinesis.LeaseStoreOptions) { o.MixedFleet = true })
	f.lead("java", "the first")
}

// processed returns the number of processed records.
func (f *fleet) processed() (sum int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, values := range f.seen {
		sum += len(values)
	}
	return sum
}

func TestLeaderAssignsLeases(t *testing.T) {
	inMixedFleet(t, 4, func(f *fleet) {
		one := f.join("one", nil, nil)
		f.put()
		time.Sleep(time.Minute)
		require.Equal(f, "one", f.leader())
		require.Equal(f, map[string]int{"one": 4}, f.owners())
		two := f.join("two", nil, nil)
		f.put()
		time.Sleep(time.Minute)
		require.Equal(f, "one", f.leader())
		require.Equal(f, map[string]int{"one": 2, "two": 2}, f.owners())
		f.put()
		f.kit.Split("orders", "shardId-000000000000") // into 4 and 5
		f.kit.Merge("orders", "shardId-000000000002", "shardId-000000000003")
		f.put()
		time.Sleep(time.Minute)
		require.Equal(f, map[string]int{"one": 2, "two": 2}, f.owners())
		leases := f.leases()
		time.Sleep(10 * time.Minute)
		for shard, lease := range f.leases() {
			require.Equal(f, leases[shard].Epoch, lease.Epoch, "a lease that need not move stays: %s", shard)
		}
		require.Zero(f, f.requireAll())

		require.NoError(f, one.stop()) // the leader
		require.NotContains(f, slices.Collect(maps.Keys(f.dynamo.Items("billing"))), "one")
		f.put()
		time.Sleep(time.Minute)
		require.Equal(f, "two", f.leader())
		require.Equal(f, map[string]int{"two": 4}, f.owners())
		require.Zero(f, f.requireAll())
		three := f.join("three", nil, nil)
		time.Sleep(time.Minute)
		require.Equal(f, map[string]int{"two": 2, "three": 2}, f.owners())

		two.line.set(true) // the leader dies
		f.put()
		time.Sleep(2 * time.Minute)
		require.Equal(f, "three", f.leader())
		require.Equal(f, map[string]int{"three": 4}, f.owners())
		f.requireAll()
		two.line.set(false)
		time.Sleep(2 * time.Minute)
		require.Equal(f, map[string]int{"two": 2, "three": 2}, f.owners())
		require.Equal(f, "three", f.leader())
		f.put()
		time.Sleep(time.Minute)
		f.requireAll()
		require.NoError(f, two.stop())
		require.NoError(f, three.stop())
		require.Equal(f, map[string]int{"": 4}, f.owners())
		require.Equal(f, "", f.leader())
	})
}

// Braid leads. It hands leases over to a KCL worker and back, and reassigns those of a dead worker
// even if the dead worker's metrics are recent and (scenario 17) its clock is wrong.
func TestBraidLeadsWorkersOfTheKCL(t *testing.T) {
	for _, clock := range []time.Duration{0, time.Hour, -20 * time.Second} {
		t.Run(clock.String(), func(t *testing.T) {
			inMixedFleet(t, 4, func(f *fleet) {
				one := f.join("one", nil, nil)
				f.put()
				java := f.joinKCL("java", clock, nil)
				time.Sleep(2 * time.Minute)
				require.Equal(f, map[string]int{"one": 2, "java": 2}, f.owners())
				held, lost, _ := java.standing()
				require.Equal(f, 2, held)
				require.Empty(f, lost)

				two := f.join("two", nil, nil)
				three := f.join("three", nil, nil)
				time.Sleep(2 * time.Minute)
				require.Equal(f, map[string]int{"one": 1, "two": 1, "three": 1, "java": 1}, f.owners())
				held, lost, given := java.standing()
				require.Equal(f, 1, held)
				require.Empty(f, lost, "a hand-over is requested before")
				require.Len(f, given, 1)
				require.NoError(f, three.stop())
				time.Sleep(time.Minute)
				require.Len(f, f.owners(), 3)

				java.kill()
				time.Sleep(35 * time.Second)
				for range 20 {
					require.Equal(f, map[string]int{"one": 2, "two": 2}, f.owners(), "it gets none, even while its metrics are recent")
					time.Sleep(4 * time.Second)
				}
				require.NoError(f, one.stop())
				require.NoError(f, two.stop())
			})
		})
	}
}

// A KCL worker leads. Braid takes exactly the leases that are assigned to it, even if it has to
// hand over all of its own, and leads itself when the leader has died.
func TestBraidFollowsALeaderOfTheKCL(t *testing.T) {
	inMixedFleet(t, 3, func(f *fleet) {
		f.begin()
		java := f.joinKCL("java", 0, nil)
		one := f.join("one", nil, nil)
		f.put()
		beat := func(d time.Duration) {
			for ; d > 0; d -= 30 * time.Second {
				f.lead("java", d.String()+time.Now().String())
				time.Sleep(30 * time.Second)
			}
		}
		beat(3 * time.Minute)
		require.Equal(f, map[string]int{"": 3}, f.owners())
		f.assign("shardId-000000000000", "one")
		f.assign("shardId-000000000001", "java")
		time.Sleep(7 * time.Second)
		require.Positive(f, f.processed(), "it discovers the lease within two thirds of a LeaseDuration")
		beat(time.Minute)
		require.Equal(f, map[string]int{"one": 1, "java": 1, "": 1}, f.owners())
		f.handOver("shardId-000000000000", "java")
		f.handOver("shardId-000000000001", "one")
		time.Sleep(4 * time.Second)
		row := f.dynamo.Items("billing")["shardId-000000000000"]
		require.Equal(f, "java", dynamotest.Text(row["leaseOwner"]))
		require.Nil(f, row["checkpointOwner"])
		require.NotEqual(f, "TRIM_HORIZON", dynamotest.Text(row["checkpoint"]), "processed records are checkpointed before")
		beat(time.Minute)
		row = f.dynamo.Items("billing")["shardId-000000000001"]
		require.Equal(f, "one", dynamotest.Text(row["leaseOwner"]))
		require.Nil(f, row["checkpointOwner"])
		_, lost, given := java.standing()
		require.Empty(f, lost)
		require.Equal(f, []string{"shardId-000000000001"}, given)

		f.assign("shardId-000000000001", "java") // without a request
		time.Sleep(4 * time.Second)
		f.put()
		seen := f.processed()
		beat(time.Minute)
		require.Equal(f, map[string]int{"java": 2, "": 1}, f.owners())
		require.Equal(f, seen, f.processed())

		f.lead("java", "the last")
		java.kill()
		time.Sleep(115 * time.Second)
		require.Equal(f, map[string]int{"java": 2, "": 1}, f.owners(), "the lock lasts for two minutes")
		time.Sleep(time.Minute)
		require.Equal(f, "one", f.leader())
		require.Equal(f, map[string]int{"one": 3}, f.owners())
		f.put()
		time.Sleep(5 * time.Second)
		f.requireAll()
		require.NoError(f, one.stop())
	})
}

// A lease that was assigned to another worker and back is a new one: work under the first is no
// longer checkpointed.
func TestLeaseThatComesBackIsAnother(t *testing.T) {
	inMixedFleet(t, 1, func(f *fleet) {
		f.begin()
		const shard = "shardId-000000000000"
		entered, release := make(chan *consumer.Batch, 2), make(chan struct{})
		refusal := make(chan error, 2)
		one := f.join("one", nil, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			entered <- batch
			<-release
			refusal <- batch.CheckpointAt(context.Background(), batch.Records[0])
			return nil
		}))
		f.put()
		time.Sleep(4 * time.Second)
		f.assign(shard, "one")
		<-entered
		before := f.leases()[shard]
		f.assign(shard, "java")
		f.assign(shard, "one")
		require.Greater(f, f.leases()[shard].Epoch, before.Epoch)
		release <- struct{}{}
		require.ErrorIs(f, <-refusal, consumer.ErrLeaseLost)
		batch := <-entered
		require.Greater(f, batch.Lease().Epoch, before.Epoch)
		release <- struct{}{}
		require.NoError(f, <-refusal)
		close(release)
		require.NoError(f, one.stop())
	})
}

// Rows as a worker of the KCL 3.5.1 writes them to the lease table.
var (
	kclMetrics = dynamotest.Item{
		"leaseKey": s("java-1"), "entityType": s("WORKER_METRIC_STATS"), "lut": n("1795894056"), "slu": n("1795894056"), "sup": n("1"),
		"opr": {"M": map[string]any{}}, "sts": {"M": map[string]any{}},
	}
	kclLock = dynamotest.Item{
		"leaseKey": s("Leader"), "entityType": s("LEADER"), "ownerName": s("java-1"), "leaseDuration": s("3000"),
		"recordVersionNumber": s("d59712d2-d62b-4be4-9db9-3b66ed74f834"),
	}
	kclVersion = dynamotest.Item{
		"leaseKey": s("Migration3.0"), "entityType": s("CLIENT_VERSION_MIGRATION"), "cv": s("CLIENT_VERSION_3X"), "mb": s("java-1"), "mts": n("1795894023465"),
		"h": {"L": []any{map[string]any{"M": map[string]any{"cv": s("CLIENT_VERSION_INIT"), "mb": s("java-1"), "mts": n("1795894023463")}}}},
	}
	kclOpenLease = dynamotest.Item{
		"leaseKey": s("shardId-000000000000"), "entityType": s("LEASE"), "leaseOwner": s("java-1"), "leaseCounter": n("313"),
		"checkpoint": s("49680653705380724619661407075360159162623689083181858818"), "checkpointSubSequenceNumber": n("0"),
		"startingHashKey": s("0"), "endingHashKey": s("85070591730234615865843651857942052863"), "ownerSwitchesSinceCheckpoint": n("0"), "throughputKBps": n("0.039484"),
	}
)

// Braid's rows have the same attributes as the KCL's, with the same types.
func TestRowsOfAMixedFleetAreThoseOfTheKCL(t *testing.T) {
	inMixedFleet(t, 2, func(f *fleet) {
		one := f.join("one", nil, nil)
		for range 60 {
			f.put()
			time.Sleep(time.Second)
		}
		rows := f.dynamo.Items("billing")
		for key, want := range map[string]dynamotest.Item{"one": kclMetrics, "Leader": kclLock, "Migration3.0": kclVersion, "shardId-000000000000": kclOpenLease} {
			row := rows[key]
			require.NotNil(f, row, "%s", key)
			for name, value := range want {
				if name == "h" { // the history
					require.Nil(f, row[name])
					continue
				}
				require.Equal(f, slices.Collect(maps.Keys(value)), slices.Collect(maps.Keys(row[name])), "%s of %s", name, key)
				delete(row, name)
			}
			delete(row, "braid")
			require.Empty(f, row, "%s", key)
		}
		rows = f.dynamo.Items("billing")
		require.Equal(f, kclLock["entityType"], rows["Leader"]["entityType"])
		require.Equal(f, kclMetrics["entityType"], rows["one"]["entityType"])
		require.Equal(f, kclMetrics["sup"], rows["one"]["sup"])
		require.Equal(f, kclMetrics["sts"], rows["one"]["sts"])
		require.Equal(f, kclMetrics["opr"], rows["one"]["opr"])
		require.Equal(f, kclVersion["cv"], rows["Migration3.0"]["cv"])
		require.Equal(f, kclVersion["entityType"], rows["Migration3.0"]["entityType"])
		require.Regexp(f, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, dynamotest.Text(rows["Leader"]["recordVersionNumber"]))
		require.Equal(f, "40000", dynamotest.Text(rows["Leader"]["leaseDuration"]))
		require.InDelta(f, time.Now().Unix(), counterOf(dynamotest.Item{"leaseCounter": rows["one"]["lut"]}), 20)

		require.NoError(f, one.stop())
		rows = f.dynamo.Items("billing")
		require.Nil(f, rows["one"])
		require.Equal(f, s("1"), rows["Leader"]["isReleased"])
	})
}

// A worker gets leases if its metrics are recent, and none of its measurements fails; the metrics
// of a worker that died long ago are deleted.
func TestLeaderKnowsWhoLives(t *testing.T) {
	inMixedFleet(t, 6, func(f *fleet) {
		one := f.join("one", nil, nil)
		java := f.joinKCL("java", 0, nil)
		failing, dead, gone := maps.Clone(kclMetrics), maps.Clone(kclMetrics), maps.Clone(kclMetrics)
		failing["leaseKey"], failing["sts"] = s("failing"), dynamotest.Attribute{"M": map[string]any{"C": dynamotest.Attribute{"L": []any{n("12.5"), n("-1")}}}}
		at := func(d time.Duration) dynamotest.Attribute { return n(strconv.FormatInt(time.Now().Add(d).Unix(), 10)) }
		dead["leaseKey"], dead["lut"] = s("dead"), at(-23*time.Hour)
		gone["leaseKey"], gone["lut"] = s("gone"), at(-25*time.Hour)
		f.dynamo.Put(f, "billing", dead)
		f.dynamo.Put(f, "billing", gone)
		for range 40 {
			failing["lut"] = at(0)
			f.dynamo.Put(f, "billing", failing)
			time.Sleep(5 * time.Second)
			for owner := range f.owners() {
				require.Contains(f, []string{"one", "java"}, owner)
			}
		}
		require.Equal(f, map[string]int{"one": 3, "java": 3}, f.owners())
		rows := f.dynamo.Items("billing")
		require.NotNil(f, rows["dead"])
		require.Nil(f, rows["gone"])
		java.kill()
		require.NoError(f, one.stop())
	})
}

func TestMixedFleetIsRefused(t *testing.T) {
	open := func(f *fleet, change func(*awskinesis.LeaseStoreOptions)) error {
		opts := awskinesis.LeaseStoreOptions{Stream: "orders", MixedFleet: true, Logger: quietLogger()}
		if change != nil {
			change(&opts)
		}
		_, err := awskinesis.NewLeaseStore(f.Context(), f.dynamo.Client(), "billing", &opts)
		return err
	}
	requireForeign := func(f *fleet, err error, worker string) {
		f.Helper()
		var foreign *awskinesis.ForeignWorkerError
		require.ErrorAs(f, err, &foreign)
		require.Equal(f, worker, foreign.Worker)
	}
	inFleet(t, 2, func(f *fleet) {
		err := open(f, func(o *awskinesis.LeaseStoreOptions) { o.LeaseDuration = 61 * time.Second })
		require.ErrorIs(f, err, braid.ErrInvalidArgument)
		require.ErrorContains(f, err, "must be at most 1m0s in a mixed fleet")

		alone := f.join("alone", nil, nil)
		f.put()
		time.Sleep(time.Minute)
		requireForeign(f, open(f, nil), "alone")
		require.NoError(f, alone.stop())

		for _, version := range []string{"CLIENT_VERSION_2X", "CLIENT_VERSION_UPGRADE_FROM_2X", "CLIENT_VERSION_3X_WITH_ROLLBACK", "CLIENT_VERSION_4X"} {
			row := maps.Clone(kclVersion)
			row["cv"] = s(version)
			f.dynamo.Put(f, "billing", row)
			err = open(f, nil)
			require.ErrorIs(f, err, braid.ErrInvalidArgument)
			require.ErrorContains(f, err, version)
		}
		f.dynamo.Put(f, "billing", kclVersion)

		_, err = f.dynamo.Client().CreateTable(f.Context(), &dynamodb.CreateTableInput{
			TableName: aws.String("billing-CoordinatorState"), BillingMode: types.BillingModePayPerRequest,
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash}},
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("key"), AttributeType: types.ScalarAttributeTypeS}},
		})
		require.NoError(f, err)
		for _, state := range []string{"", "TABLE_MIGRATION_STATUS_INIT", "TABLE_MIGRATION_STATUS_PENDING"} {
			if state != "" {
				f.dynamo.Put(f, "billing-CoordinatorState", dynamotest.Item{"key": s("TableMigration3.5"), "tm": s(state)})
			}
			err = open(f, nil)
			require.ErrorIs(f, err, braid.ErrInvalidArgument)
			require.ErrorContains(f, err, "billing-CoordinatorState")
		}
		f.dynamo.Put(f, "billing-CoordinatorState", dynamotest.Item{"key": s("TableMigration3.5"), "tm": s("TABLE_MIGRATION_STATUS_COMPLETE")})
		require.NoError(f, open(f, nil))

		f.mixed = true
		one := f.join("one", nil, nil)
		time.Sleep(time.Minute)
		requireForeign(f, open(f, func(o *awskinesis.LeaseStoreOptions) { o.MixedFleet = false }), "one")

		shard := f.join("shardId-000000000001", nil, nil)
		time.Sleep(time.Second)
		err = shard.stop()
		require.ErrorIs(f, err, braid.ErrInvalidArgument)
		require.ErrorContains(f, err, "WorkerID")
		require.NoError(f, one.stop())
	})
}

// Whatever the network and the service do to requests, no record is lost or out of order, while
// braid leads workers of both kinds, and while shards are split and merged.
func TestMixedFleetOnABadNetwork(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inMixedFleet(t, 3, func(f *fleet) {
				random := rand.New(rand.NewPCG(seed, 3))
				chance := func() *rand.Rand { return rand.New(rand.NewPCG(random.Uint64(), 4)) }
				workers := []*joined{f.join("one", chance(), nil)}
				for round := range 16 {
					f.put()
					time.Sleep(time.Duration(random.IntN(20_000)) * time.Millisecond)
					switch w := workers[random.IntN(len(workers))]; round {
					case 2, 5, 10:
						workers = append(workers, f.join(fmt.Sprint("worker ", round), chance(), nil))
					case 3:
						f.kit.Split("orders", "shardId-000000000001")
					case 4, 7, 11:
						w.line.set(true)
						time.AfterFunc(time.Duration(20+random.IntN(60))*time.Second, func() { w.line.set(false) })
					case 8:
						f.kit.Merge("orders", "shardId-000000000003", "shardId-000000000004")
					case 9, 13:
						require.NoError(f, workers[0].stop())
						workers = workers[1:]
					}
				}
				time.Sleep(20 * time.Minute)
				f.requireAll()
				for shard, lease := range f.leases() {
					require.False(f, lease.Checkpoint.ShardEnd, "%s is finished, and deleted", shard)
					require.Empty(f, lease.NextOwner)
				}
				require.Len(f, f.leases(), 3)
				require.Len(f, f.owners(), len(workers))
				for _, w := range workers {
					require.NoError(f, w.stop())
				}
			})
		})
	}
}

// A mixed fleet's additional cost is what the documentation of LeaseStore says.
func TestCostOfAMixedFleetAtRest(t *testing.T) {
	const shards = 4
	inMixedFleet(t, shards, func(f *fleet) {
		one, two := f.join("one", nil, nil), f.join("two", nil, nil)
		f.put()
		time.Sleep(2 * time.Minute)
		f.dynamo.Costs() // resets the counts
		time.Sleep(20 * time.Minute)
		_, _, writes := f.dynamo.Costs()
		writes -= shards * 360
		f.Logf("20 minutes of 2 workers: %v units besides the leases", writes)
		require.Greater(f, writes, 2*60.+80)
		require.LessOrEqual(f, writes, 2*80.+120)
		require.NoError(f, one.stop())
		require.NoError(f, two.stop())
	})
}

// A worker of the KCL that joins while the table is listed may be seen by its leases alone.
func TestWorkerThatJoinsDuringAListingIsNoStranger(t *testing.T) {
	for _, joins := range []bool{true, false} {
		t.Run(fmt.Sprint("joins ", joins), func(t *testing.T) {
			inMixedFleet(t, 2, func(f *fleet) {
				f.begin()
				lease := func(key, owner string) {
					row := kclRow()
					row["leaseKey"], row["leaseOwner"] = s(key), s(owner)
					delete(row, "checkpointOwner")
					f.dynamo.Put(f, "billing", row)
				}
				lease("shardId-000000000000", "dead") // is watched for a LeaseDuration
				scans := 0
				client := f.dynamo.Client(func(o *dynamodb.Options) {
					o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
						if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Scan") {
							return f.dynamo.RoundTrip(r)
						}
						if scans++; scans != 2 {
							return f.dynamo.RoundTrip(r)
						}
						lease("shardId-000000000001", "java-1")
						response, err := f.dynamo.RoundTrip(r)
						if joins { // as if its row came before the leases, and was not there yet
							metrics := maps.Clone(kclMetrics)
							metrics["lut"] = n(strconv.FormatInt(time.Now().Unix(), 10))
							f.dynamo.Put(f, "billing", metrics)
						}
						return response, err
					})
				})
				_, err := awskinesis.NewLeaseStore(f.Context(), client, "billing", &awskinesis.LeaseStoreOptions{Stream: "orders", MixedFleet: true, Logger: quietLogger()})
				if joins {
					require.NoError(f, err)
				} else {
					require.ErrorIs(f, err, awskinesis.ErrForeignWorker)
				}
				require.GreaterOrEqual(f, scans, 2)
			})
		})
	}
}

// A worker can start while another one leaves, which still renews the leases of its last batches
// but no longer has metrics.
func TestWorkerBeginsWhileAnotherLeaves(t *testing.T) {
	inMixedFleet(t, 2, func(f *fleet) {
		release := make(chan struct{})
		busy := make(chan struct{}, 2)
		one := f.join("one", nil, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			busy <- struct{}{}
			<-release
			return f.process(ctx, batch)
		}))
		f.put()
		<-busy
		<-busy
		stopped := make(chan error)
		go func() { stopped <- one.stop() }()
		time.Sleep(time.Second)
		two := f.join("two", nil, nil)
		time.AfterFunc(5*time.Second, func() { close(release) })
		require.NoError(f, <-stopped)
		time.Sleep(time.Minute)
		require.Equal(f, map[string]int{"two": 2}, f.owners())
		require.Zero(f, f.requireAll())
		require.NoError(f, two.stop())
	})
}

// A write whose response was lost does not undo a hand-over request that followed it.
func TestLostAnswerKeepsARequestToHandOver(t *testing.T) {
	inMixedFleet(t, 1, func(f *fleet) {
		f.begin()
		store := ordersStore(f, f.dynamo, func(o *awskinesis.LeaseStoreOptions) { o.MixedFleet = true })
		lease := setLease(f, store, consumer.Lease{LeaseKey: key(leaseShard), Owner: "one"})
		lost := false
		f.dynamo.SetFaults(func(op string, _ map[string]any) string {
			if op == "UpdateItem" && !lost {
				lost = true
				return "after abort"
			}
			return ""
		})
		lease = setLease(f, store, lease)
		require.True(f, lost)
		f.dynamo.SetFaults(nil)
		f.handOver(leaseShard, "java")
		stored, err := store.CompareAndSet(f.Context(), lease)
		require.NoError(f, err)
		require.False(f, stored)
		require.Equal(f, "java", getLease(f, store, leaseShard).NextOwner)
	})
}

// A starting braid worker does not take leases from KCL workers, even if they have not checkpointed
// yet: the records that they have read would be skipped.
func TestLeasesAtLatestStayWithTheirOwner(t *testing.T) {
	inMixedFleet(t, 2, func(f *fleet) {
		f.begin()
		java := f.joinKCL("java", 0, nil)
		row := kclRow()
		row["leaseKey"], row["leaseOwner"], row["leaseCounter"] = s("shardId-000000000000"), s("java"), n("7")
		row["checkpoint"], row["entityType"] = s("LATEST"), s("LEASE")
		delete(row, "checkpointOwner")
		f.dynamo.Put(f, "billing", row)
		time.Sleep(20 * time.Second)
		f.lead("java", "again")
		one := f.join("one", nil, nil)
		time.Sleep(20 * time.Second)
		held, lost, _ := java.standing()
		require.Equal(f, 1, held)
		require.Empty(f, lost)
		require.Equal(f, s("LATEST"), f.dynamo.Items("billing")["shardId-000000000000"]["checkpoint"])
		require.NoError(f, one.stop())
		java.kill()
	})
}
