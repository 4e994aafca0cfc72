package awskinesis_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
)

// leadAsKCL assigns leases like a leader of the KCL 3.5 with its default strategy, until its result is
// called. It is a model of what the KCL does with the rows, not of how.
func (f *fleet) leadAsKCL(name string) (stop func()) {
	f.Helper()
	beat := f.every(30*time.Second, func() { f.lead(name, time.Now().String()) })
	run := 0
	assign := f.every(20*time.Second, func() {
		l := f.newKCLLeader()
		l.assignFree()
		if run%3 == 0 {
			l.balance()
		}
		run++
	})
	return func() {
		assign()
		beat()
	}
}

// The settings of the KCL for its default strategy.
const (
	kclThreshold = 0.1 // how far a worker may be from the average
	kclDampening = 0.6 // the part of the excess that a run takes
)

// kclLeader is one run of the leader.
type kclLeader struct {
	f       *fleet
	workers map[string]*kclLoad
	leases  []*kclLease // sorted by key
	target  float64     // the throughput of an average worker
	average map[string]float64
}

type kclLoad struct {
	name       string
	stats      map[string]float64 // averages of the measurements
	limits     map[string]float64
	throughput float64
}

type kclLease struct {
	key, owner string
	throughput float64 // KiB per second
	moving     bool    // is being handed over
}

func (f *fleet) newKCLLeader() *kclLeader {
	l := &kclLeader{f: f, workers: make(map[string]*kclLoad), average: make(map[string]float64)}
	rows := f.dynamo.Items("billing")
	var sum float64
	known := 0
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		row := rows[key]
		switch dynamotest.Text(row["entityType"]) {
		case "WORKER_METRIC_STATS":
			if w := readLoad(f, row); w != nil {
				l.workers[key] = w
			}
		case "LEASE":
			lease := &kclLease{key: key, owner: dynamotest.Text(row["leaseOwner"]), throughput: -1, moving: row["checkpointOwner"] != nil}
			if lease.moving {
				lease.owner = dynamotest.Text(row["checkpointOwner"])
			}
			if row["throughputKBps"] != nil {
				lease.throughput = floatOf(f, row["throughputKBps"])
				sum += lease.throughput
				known++
			}
			l.leases = append(l.leases, lease)
		}
	}
	mean := sum / float64(max(known, 1))
	l.target = mean * float64(len(l.leases)) / float64(max(len(l.workers), 1))
	for _, lease := range l.leases {
		if lease.throughput < 0 {
			lease.throughput = mean
		}
		if w := l.workers[lease.owner]; w != nil {
			w.throughput += lease.throughput
		}
	}
	counts := make(map[string]float64)
	for _, w := range l.workers {
		if len(w.stats) == 0 { // compares its throughput instead
			w.stats["T"], w.limits["T"] = 100*w.throughput/l.target, 100
		}
		for kind, value := range w.stats {
			l.average[kind] += value
			counts[kind]++
		}
	}
	for kind, n := range counts {
		l.average[kind] /= n
	}
	return l
}

// readLoad reads the metrics of a worker, and returns nil if it is dead or one of its measurements fails.
func readLoad(f *fleet, row dynamotest.Item) *kclLoad {
	if time.Now().Unix()-int64(floatOf(f, row["lut"])) > 60 {
		return nil
	}
	w := &kclLoad{name: dynamotest.Text(row["leaseKey"]), stats: make(map[string]float64), limits: make(map[string]float64)}
	limits := membersOf(f, row["opr"])
	for kind, values := range membersOf(f, row["sts"]) {
		for i, v := range values {
			switch {
			case v == -1:
			case i == 0:
				w.stats[kind] = v
			default:
				w.stats[kind] = 0.5*v + 0.5*w.stats[kind]
			}
		}
		if len(values) > 0 && values[len(values)-1] == -1 {
			return nil
		}
		require.NotEmpty(f, limits[kind], "the row is invalid: %v", row)
		require.GreaterOrEqual(f, limits[kind][0], 1.0, "the row is invalid: %v", row)
		w.limits[kind] = limits[kind][0]
	}
	return w
}

// room returns by what part a worker's load can grow until one of its measurements is average.
func (l *kclLeader) room(w *kclLoad) float64 {
	least := 1e300
	for kind, value := range w.stats {
		if value == 0 {
			least = min(least, 1)
		} else {
			least = min(least, (l.average[kind]-value)/value)
		}
	}
	return least
}

// roomiest returns the worker with the most room, or nil if there is none.
func (l *kclLeader) roomiest() (best *kclLoad) {
	for _, name := range slices.Sorted(maps.Keys(l.workers)) {
		if w := l.workers[name]; best == nil || l.room(w) > l.room(best) {
			best = w
		}
	}
	return best
}

// after returns a worker's measurement after it got a lease.
func (l *kclLeader) after(w *kclLoad, kind string, lease *kclLease) float64 {
	if l.target > 0 {
		return w.stats[kind] + lease.throughput*l.average[kind]/l.target
	}
	return w.stats[kind] + l.average[kind]/float64(max(len(l.leases)/len(l.workers), 1))
}

func (l *kclLeader) assignFree() {
	for _, lease := range l.leases {
		if to := l.roomiest(); lease.owner == "" && to != nil {
			l.move(lease, to)
		}
	}
}

// balance takes leases from workers that are above the average of the kind of measurement of which most
// is to be taken.
func (l *kclLeader) balance() {
	var take map[string]float64
	most := -1.0
	for _, kind := range slices.Sorted(maps.Keys(l.average)) {
		from, total := make(map[string]float64), 0.0
		for _, w := range l.above(kind) {
			from[w.name] = w.throughput * kclDampening * (w.stats[kind] - l.average[kind]) / w.stats[kind]
			total += from[w.name]
		}
		if total > most {
			take, most = from, total
		}
	}
	for _, name := range slices.Sorted(maps.Keys(take)) {
		for _, lease := range l.leasesFor(name, take[name]) {
			to := l.roomiest()
			for kind := range to.stats {
				if after := l.after(to, kind, lease); after > l.average[kind] || after > to.limits[kind] {
					return
				}
			}
			l.move(lease, to)
		}
	}
}

// above returns the workers that are above the average, or the most loaded one if only others are below it.
func (l *kclLeader) above(kind string) (above []*kclLoad) {
	var top *kclLoad
	unequal := false
	for _, name := range slices.Sorted(maps.Keys(l.workers)) {
		w := l.workers[name]
		value, measures := w.stats[kind]
		if !measures {
			continue
		}
		hot := value > w.limits[kind]
		unequal = unequal || hot || value > l.average[kind]*(1+kclThreshold) || value < l.average[kind]*(1-kclThreshold)
		if hot || value >= l.average[kind]*(1+kclThreshold) {
			above = append(above, w)
		}
		if top == nil || value > top.stats[kind] {
			top = w
		}
	}
	switch {
	case !unequal:
		return nil
	case len(above) == 0:
		return []*kclLoad{top}
	}
	return above
}

// leasesFor returns leases of a worker with up to that throughput, or the smallest one.
func (l *kclLeader) leasesFor(name string, throughput float64) (chosen []*kclLease) {
	var own []*kclLease
	for _, lease := range l.leases {
		if lease.owner == name {
			own = append(own, lease)
		}
	}
	if len(own) == 0 {
		return nil
	}
	if l.workers[name].throughput == 0 {
		return own[:1]
	}
	for _, lease := range own {
		if throughput > lease.throughput {
			throughput -= lease.throughput
			chosen = append(chosen, lease)
		}
	}
	if len(chosen) == 0 {
		chosen = append(chosen, slices.MinFunc(own, func(a, b *kclLease) int { return cmp.Compare(a.throughput, b.throughput) }))
	}
	return chosen
}

// move assigns a free lease, or requests one from its owner.
func (l *kclLeader) move(lease *kclLease, to *kclLoad) {
	if lease.owner == to.name || lease.moving {
		return
	}
	for kind := range to.stats {
		to.stats[kind] = l.after(to, kind, lease)
	}
	update, condition := "SET leaseOwner = :to", "attribute_not_exists(leaseOwner)"
	values := map[string]types.AttributeValue{":to": &types.AttributeValueMemberS{Value: to.name}}
	if lease.owner != "" {
		update, condition = "SET leaseOwner = :to, checkpointOwner = :from", "leaseOwner = :from AND attribute_not_exists(checkpointOwner)"
		values[":from"] = &types.AttributeValueMemberS{Value: lease.owner}
	}
	lease.owner = to.name
	to.throughput += lease.throughput
	_, err := l.f.dynamo.Client().UpdateItem(context.Background(), &dynamodb.UpdateItemInput{
		TableName: aws.String("billing"), Key: map[string]types.AttributeValue{"leaseKey": &types.AttributeValueMemberS{Value: lease.key}},
		UpdateExpression: &update, ConditionExpression: &condition, ExpressionAttributeValues: values,
	})
	var refused *types.ConditionalCheckFailedException
	require.True(l.f, err == nil || errors.As(err, &refused), "%v", err)
}

func floatOf(f *fleet, value map[string]any) float64 {
	digits, _ := value["N"].(string)
	number, err := strconv.ParseFloat(digits, 64)
	require.NoError(f, err, "%v", value)
	return number
}

// membersOf returns the lists of numbers in a map.
func membersOf(f *fleet, value map[string]any) map[string][]float64 {
	members, _ := value["M"].(map[string]any)
	all := make(map[string][]float64)
	for name, list := range members {
		all[name] = nil
		entries, _ := attributeOf(list)["L"].([]any)
		for _, v := range entries {
			all[name] = append(all[name], floatOf(f, attributeOf(v)))
		}
	}
	return all
}

// attributeOf returns an attribute inside another one, as it was put or as it was sent.
func attributeOf(value any) map[string]any {
	if a, is := value.(dynamotest.Attribute); is {
		return a
	}
	a, _ := value.(map[string]any)
	return a
}
