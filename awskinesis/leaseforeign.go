package awskinesis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/braidstream/braid/consumer"
)

// ErrForeignWorker reports that a foreign worker processes the application: a worker of the
// KCL, or, with LeaseStoreOptions.MixedFleet, a worker outside the fleet, such as one of the
// KCL 2, or one of braid without that option. Only with MixedFleet can workers of braid and of
// the KCL run at the same time. The error is a [ForeignWorkerError].
var ErrForeignWorker = errors.New("a foreign worker is at work on the application")

// ForeignWorkerError is an [ErrForeignWorker] that names the worker. Stop all such workers, and
// try again.
type ForeignWorkerError struct {
	Application string
	Worker      string // its workerIdentifier

	// Lease is a lease that the worker renewed while it was watched; the zero key if it only
	// wrote metrics.
	Lease consumer.LeaseKey

	// LastSeen is the last sign of life of the worker: the time when the lease was found
	// renewed, by the local clock, or when it wrote its metrics, by the worker's clock.
	LastSeen time.Time
}

// Error names the worker and its sign of life.
func (e *ForeignWorkerError) Error() string {
	how := "wrote its metrics"
	if e.Lease != (consumer.LeaseKey{}) {
		how = fmt.Sprintf("renewed %q", e.Lease.String())
	}
	return fmt.Sprintf("%v: %q of %q %s at %s", ErrForeignWorker, e.Worker, e.Application, how, e.LastSeen.UTC().Format(time.RFC3339))
}

// Unwrap returns [ErrForeignWorker].
func (e *ForeignWorkerError) Unwrap() error { return ErrForeignWorker }

// metricsLast is how long the KCL considers a worker alive that has not written its metrics. A
// worker writes them twice in that time.
const metricsLast = time.Minute

// foreignSighting is a sign of life of a worker of the KCL: a lease and its counter, or its
// metrics and their time.
type foreignSighting struct {
	worker string
	lease  consumer.LeaseKey // zero for metrics
	value  string
}

// refuseForeign returns an error if a worker of the KCL is alive. A worker with leases renews
// them, so it is dead if none changes for a LeaseDuration. A worker without leases writes
// metrics, with the time of its clock, so it is dead if these are a minute old, or if none are
// written for a minute.
func (s *LeaseStore) refuseForeign(ctx context.Context) error {
	began := time.Now()
	first, err := s.sightings(ctx)
	if err != nil {
		return err
	}
	owners := make(map[string]bool)
	for sight := range first {
		if sight.lease != (consumer.LeaseKey{}) {
			owners[sight.worker] = true
		}
	}
	for seen := first; ; {
		now, waiting := time.Now(), false
		for sight := range seen {
			switch isLease := sight.lease != (consumer.LeaseKey{}); {
			case !first[sight]:
				return s.foreign(sight, now)
			case isLease:
				waiting = waiting || now.Sub(began) < s.opts.LeaseDuration
			case !owners[sight.worker]:
				waiting = waiting || now.Sub(began) < metricsLast
			}
		}
		if !waiting {
			return nil
		}
		if err := sleepFor(ctx, min(s.opts.LeaseDuration/3, metricsLast/6)); err != nil {
			return err
		}
		if seen, err = s.sightings(ctx); err != nil {
			return err
		}
	}
}

func (s *LeaseStore) foreign(sight foreignSighting, now time.Time) error {
	e := &ForeignWorkerError{Application: s.app, Worker: sight.worker, Lease: sight.lease, LastSeen: now}
	if sight.lease == (consumer.LeaseKey{}) {
		e.LastSeen = secondsOf(sight.value)
	}
	return e
}

// sightings returns the leases of the KCL's workers, and the metrics that they wrote in the
// last minute, into the lease table or, depending on their version, into another table. Leases
// of ended shards do not count: they keep the name of a dead worker.
//
// In a mixed fleet it returns the leases of workers that have not written metrics into the lease
// table, which all of the fleet do, whether they are the KCL's or braid's.
func (s *LeaseStore) sightings(ctx context.Context) (map[foreignSighting]bool, error) {
	seen, members := make(map[foreignSighting]bool), make(map[string]bool)
	noteMetrics := func(worker, seconds string) {
		switch {
		case time.Since(secondsOf(seconds)) >= metricsLast:
		case s.fleet != nil:
			members[worker] = true
		default:
			seen[foreignSighting{worker: worker, value: seconds}] = true
		}
	}
	err := s.scan(ctx, s.leases.name, func(r leaseRow) error {
		if stringOf(r[attrEntityType]) == entityMetrics {
			noteMetrics(stringOf(r[attrKey]), numberOf(r[attrLastUpdateTime]))
			return nil
		}
		lease, now, found, err := s.decode(&s.leases, r)
		if err == nil && found && lease.Owner != "" && !lease.Checkpoint.ShardEnd && (s.fleet != nil || isForeign(r)) {
			seen[foreignSighting{lease.Owner, lease.LeaseKey, strconv.FormatUint(now.version, 10)}] = true
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.fleet != nil {
		maps.DeleteFunc(seen, func(sight foreignSighting, _ bool) bool { return members[sight.worker] })
		return seen, nil
	}
	err = s.scan(ctx, s.app+"-WorkerMetricStats", func(r leaseRow) error {
		noteMetrics(stringOf(r[attrWorkerID]), numberOf(r[attrLastUpdateTime]))
		return nil
	})
	var missing *types.ResourceNotFoundException
	if err != nil && !errors.As(err, &missing) {
		return nil, err
	}
	return seen, nil
}

// secondsOf returns the time of a number of seconds since 1970.
func secondsOf(digits string) time.Time {
	seconds, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return time.Unix(0, 0)
	}
	return time.Unix(int64(seconds), 0)
}
