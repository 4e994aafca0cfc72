package awskinesis

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/braidstream/braid/consumer"
)

// This file is about the load that workers of a mixed fleet report. A KCL leader compares the
// measurements of workers, such as their CPU utilization. For a worker without measurements it
// computes one from the throughput of the worker's leases, but compares it only with other workers
// without measurements. Next to KCL workers with measurements, such a worker gets no lease as long
// as each lease has an owner.
//
// So a braid worker reports the measurements that the KCL workers report, with estimated values.
// Unlike a measurement, an estimate is possible on every platform, and for everything that a KCL
// worker can measure. It is what the leases of the braid worker would cost a KCL worker. So a KCL
// leader that evens out the values evens out the throughput of braid and KCL workers.

const (
	// idleLoad is the load of a lease without traffic, in bytes per second. With it, idle leases are
	// shared by their number. It hardly matters for other leases: a shard can have a thousand times
	// as much.
	idleLoad = 1024

	// averageWeight is the weight of each value in the average of itself and the older ones, as in
	// the average that a KCL leader computes by default.
	averageWeight = 0.5

	// failedValue is the value of a measurement that failed.
	failedValue = -1
)

// measurement is one kind of measurement of a worker.
type measurement struct {
	value float64 // the average of the last values; usually in percent
	limit float64 // the maximum desired value
}

// readMeasurements returns a worker's measurements by their short names, such as C for the CPU. It
// ignores those without a limit, which the KCL considers invalid. failing reports whether the last
// value of any of them failed.
func readMeasurements(metrics leaseRow) (measured map[string]measurement, failing bool) {
	measured = make(map[string]measurement)
	limits := mapOf(metrics[attrLimits])
	for name, list := range mapOf(metrics[attrMeasurements]) {
		values, limit := numbersOf(list), numbersOf(limits[name])
		if len(values) > 0 && values[len(values)-1] == failedValue {
			failing = true
		}
		if average, some := averageOf(values); some && len(limit) > 0 && limit[0] >= 1 {
			measured[name] = measurement{average, limit[0]}
		}
	}
	return measured, failing
}

// averageOf returns the exponential moving average of the values that did not fail, if there are
// some.
func averageOf(values []float64) (average float64, some bool) {
	for _, v := range values {
		switch {
		case v == failedValue:
		case !some:
			average, some = v, true
		default:
			average += averageWeight * (v - average)
		}
	}
	return average, some
}

// writeMeasurements returns the two attributes of measurements.
func writeMeasurements(measured map[string]measurement) (values, limits *types.AttributeValueMemberM) {
	list := func(number string) *types.AttributeValueMemberL {
		return &types.AttributeValueMemberL{Value: []types.AttributeValue{numberAttr(number)}}
	}
	values, limits = &types.AttributeValueMemberM{Value: leaseRow{}}, &types.AttributeValueMemberM{Value: leaseRow{}}
	for name, m := range measured {
		values.Value[name] = list(strconv.FormatFloat(m.value, 'f', 6, 64))
		limits.Value[name] = list(strconv.FormatInt(int64(m.limit), 10)) // the KCL reads only integers
	}
	return values, limits
}

// isEstimated reports whether a worker's measurements were estimated by braid, and not measured by a
// KCL worker that has the same name as an earlier braid worker.
func isEstimated(metrics leaseRow) bool {
	at := stringOf(mapOf(metrics[attrBraid])[braidReported])
	return at != "" && at == numberOf(metrics[attrLastUpdateTime])
}

// loadsOf returns the load of each worker's leases, in bytes per second.
func loadsOf(leases []consumer.Lease) map[string]float64 {
	loads := make(map[string]float64)
	for _, lease := range leases {
		if lease.Shard != "" && lease.Owner != "" && !lease.Checkpoint.ShardEnd {
			loads[lease.Owner] += lease.Throughput + idleLoad
		}
	}
	return loads
}

// estimate returns what a worker reports: each kind of measurement that live KCL workers report,
// with their value per byte times the load of the worker, and at most the limit. The result is empty
// if KCL workers report none; then a KCL leader compares all workers by the throughput of their
// leases.
func (f *fleet) estimate(worker string) map[string]measurement {
	type total struct{ value, limit, load float64 }
	totals := make(map[string]total)
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, sight := range f.workers {
		if sight.estimated || !f.isAvailable(sight) {
			continue
		}
		for kind, m := range sight.measured {
			t := totals[kind]
			totals[kind] = total{t.value + m.value, max(t.limit, m.limit), t.load + f.loads[name]}
		}
	}
	own := f.loads[worker]
	estimated := make(map[string]measurement)
	for kind, t := range totals {
		m := measurement{limit: t.limit}
		switch {
		case own > 0 && t.load > 0:
			m.value = min(t.value/t.load*own, t.limit)
		case own > 0: // the KCL workers have no leases, and must get some
			m.value = t.limit
		}
		estimated[kind] = m
	}
	return estimated
}

// numbersOf returns the numbers in a list.
func numbersOf(list types.AttributeValue) (numbers []float64) {
	l, _ := list.(*types.AttributeValueMemberL)
	if l == nil {
		return nil
	}
	for _, v := range l.Value {
		if n, err := strconv.ParseFloat(numberOf(v), 64); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
