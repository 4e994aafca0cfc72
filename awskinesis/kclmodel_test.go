package awskinesis_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
)

// kclWorker uses the lease table like a worker of the KCL 3.5, at its pace, but processes no
// records.
type kclWorker struct {
	f      *fleet
	name   string
	client *dynamodb.Client
	cpu    func(load float64) float64 // its measurement at a throughput of its leases; nil for none
	cancel context.CancelFunc
	ended  chan struct{}

	measured []string // the last values of cpu; of the worker's goroutine

	mu    sync.Mutex        // guards the fields below
	held  map[string]uint64 // counters, by lease
	lost  []string          // leases that it lost without a request
	given []string          // leases that it has handed over
}

// joinKCL starts a kclWorker. Its clock may be off. If cpu is not nil, it reports the utilization of its
// CPU in percent: the result of cpu for the throughput of its leases, in KiB per second.
func (f *fleet) joinKCL(name string, clock time.Duration, cpu func(load float64) float64) *kclWorker {
	f.Helper()
	w := &kclWorker{f: f, name: name, cpu: cpu, client: f.dynamo.Client(), ended: make(chan struct{}), held: make(map[string]uint64)}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go w.run(ctx, clock)
	f.Cleanup(w.kill)
	return w
}

// kill ends the worker at once.
func (w *kclWorker) kill() {
	w.cancel()
	<-w.ended
}

func (w *kclWorker) run(ctx context.Context, clock time.Duration) {
	defer close(w.ended)
	report, discover, renew := time.NewTicker(30*time.Second), time.NewTicker(9975*time.Millisecond), time.NewTicker(3308*time.Millisecond)
	defer report.Stop()
	defer discover.Stop()
	defer renew.Stop()
	w.report(clock)
	for {
		select {
		case <-ctx.Done():
			return
		case <-report.C:
			w.report(clock)
		case <-discover.C:
			w.discover()
		case <-renew.C:
			w.mu.Lock()
			for _, key := range slices.Sorted(maps.Keys(w.held)) {
				w.renewLocked(key)
			}
			w.mu.Unlock()
		}
	}
}

func (w *kclWorker) report(clock time.Duration) {
	values, limits := map[string]any{}, map[string]any{}
	if w.cpu != nil {
		var load float64
		for _, row := range w.f.dynamo.Items("billing") {
			owner := cmp.Or(dynamotest.Text(row["checkpointOwner"]), dynamotest.Text(row["leaseOwner"]))
			if owner == w.name && row["throughputKBps"] != nil {
				load += floatOf(w.f, row["throughputKBps"])
			}
		}
		if w.measured = append(w.measured, strconv.FormatFloat(w.cpu(load), 'f', 6, 64)); len(w.measured) > 10 {
			w.measured = w.measured[1:]
		}
		values["C"], limits["C"] = numbers(w.measured...), numbers("100")
	}
	now := n(strconv.FormatInt(time.Now().Add(clock).Unix(), 10))
	w.f.dynamo.Put(w.f, "billing", dynamotest.Item{
		"leaseKey": s(w.name), "entityType": s("WORKER_METRIC_STATS"), "sup": n("1"), "sts": {"M": values}, "opr": {"M": limits}, "lut": now, "slu": now,
	})
}

// discover takes the leases that were assigned to the worker.
func (w *kclWorker) discover() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, row := range w.f.dynamo.Items("billing") {
		if dynamotest.Text(row["entityType"]) == "LEASE" && dynamotest.Text(row["leaseOwner"]) == w.name && row["checkpointOwner"] == nil {
			if _, has := w.held[key]; !has {
				w.held[key] = counterOf(row)
			}
		}
	}
}

func counterOf(row dynamotest.Item) uint64 {
	digits, _ := row["leaseCounter"]["N"].(string)
	counter, _ := strconv.ParseUint(digits, 10, 64)
	return counter
}

// renewLocked renews a lease, or hands it over if that was requested.
func (w *kclWorker) renewLocked(key string) {
	was := w.held[key]
	if w.updateLocked(key, "SET #counter = :next", "#counter = :was AND attribute_not_exists(#current)", was) {
		w.held[key] = was + 1
		return
	}
	delete(w.held, key)
	row := w.f.dynamo.Items("billing")[key]
	if dynamotest.Text(row["checkpointOwner"]) != w.name || counterOf(row) != was {
		w.lost = append(w.lost, key)
		return
	}
	w.given = append(w.given, key)
	require.True(w.f, w.updateLocked(key, "SET #counter = :next REMOVE #current", "#counter = :was", was), "%v", row)
}

func (w *kclWorker) updateLocked(key, update, condition string, was uint64) bool {
	_, err := w.client.UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
		TableName: aws.String("billing"), Key: map[string]types.AttributeValue{"leaseKey": &types.AttributeValueMemberS{Value: key}},
		UpdateExpression: &update, ConditionExpression: &condition,
		ExpressionAttributeNames: map[string]string{"#counter": "leaseCounter", "#current": "checkpointOwner"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":was":  &types.AttributeValueMemberN{Value: strconv.FormatUint(was, 10)},
			":next": &types.AttributeValueMemberN{Value: strconv.FormatUint(was+1, 10)},
		},
	})
	var refused *types.ConditionalCheckFailedException
	require.True(w.f, err == nil || errors.As(err, &refused), "%v", err)
	return err == nil
}

// standing returns how many leases the worker has, and those that it has lost and handed over.
func (w *kclWorker) standing() (held int, lost, given []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.held), slices.Clone(w.lost), slices.Clone(w.given)
}

// change changes a row as the KCL's leader does.
func (f *fleet) change(key string, change func(row dynamotest.Item)) {
	f.Helper()
	row := f.dynamo.Items("billing")[key]
	require.NotNil(f, row, "%s", key)
	change(row)
	f.dynamo.Put(f, "billing", row)
}

// assign assigns a lease without an owner, or takes it from its owner, as the KCL's leader does.
func (f *fleet) assign(key, to string) {
	f.change(key, func(row dynamotest.Item) {
		row["leaseOwner"] = s(to)
		delete(row, "checkpointOwner")
		row["leaseCounter"] = n(strconv.FormatUint(counterOf(row)+1, 10))
	})
}

// handOver requests a lease from its owner, as the KCL's leader does.
func (f *fleet) handOver(key, to string) {
	f.change(key, func(row dynamotest.Item) {
		row["checkpointOwner"] = row["leaseOwner"]
		row["leaseOwner"] = s(to)
	})
}

// lead writes the leader lock, as a KCL worker does every 30 s.
func (f *fleet) lead(name, version string) {
	f.dynamo.Put(f, "billing", dynamotest.Item{
		"leaseKey": s("Leader"), "entityType": s("LEADER"), "ownerName": s(name), "leaseDuration": s("120000"), "recordVersionNumber": s(version),
	})
}
