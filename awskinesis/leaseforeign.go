package awskinesis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/braidstream/braid/consumer"
)

// ErrForeignWorker reports that a worker of the KCL is working on the application. Only with
// LeaseStoreOptions.MixedFleet can braid and KCL workers share an application at the same time.
// Then ErrForeignWorker reports a worker that is not in the fleet, such as one of the KCL 2, or a
// braid worker without that option. The error is a [ForeignWorkerError].
var ErrForeignWorker = errors.New("a foreign worker is at work on the application")

// ForeignWorkerError is an [ErrForeignWorker] that names the worker. Stop all such workers, and try
// again.
type ForeignWorkerError struct {
	Application string
	Worker      string // its workerIdentifier

	// Lease is a lease that the worker renewed while it was watched. It is the zero key if the
	// worker has no leases, and only wrote its metrics.
	Lease consumer.LeaseKey

	// LastSeen is when the worker was last seen alive: when the renewed lease was found, by this
	// process's clock, or when the metrics were written, by the worker's clock.
	LastSeen time.Time
}

// Error names the worker, and how and when it was last seen.
func (e *ForeignWorkerError) Error() string {
	how := "wrote its metrics"
	if e.Lease != (consumer.LeaseKey{}) {
		how = fmt.Sprintf("renewed %q", e.Lease.String())
	}
	return fmt.Sprintf("%v: %q of %q %s at %s", ErrForeignWorker, e.Worker, e.Application, how, e.LastSeen.UTC().Format(time.RFC3339))
}

// Unwrap returns [ErrForeignWorker].
func (e *ForeignWorkerError) Unwrap() error { return ErrForeignWorker }

// metricsLast is how long the KCL considers a worker alive after it wrote its metrics, which KCL
// workers do every 30 s.
const metricsLast = time.Minute

// foreignSighting is a sign of a KCL worker: a lease and its counter, or its metrics and their
// time.
type foreignSighting struct {
	worker string
	lease  consumer.LeaseKey // zero for metrics
	value  string
}

// refuseForeign returns an error if a KCL worker is alive. A worker with leases renews them, so it
// is dead if none of them changes for a LeaseDuration. A worker without leases writes its metrics,
// with the time of its clock. It is dead if that time is more than a minute ago, or if it writes
// none for a minute.
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
				if joined, err := s.hasJoined(ctx, sight.worker); err != nil {
					return err
				} else if !joined {
					return s.foreign(sight, now)
				}
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

// hasJoined reports whether a worker has just become a member of the mixed fleet. A listing is not of
// one moment: it may have read the place of a worker's metrics before they were written, and the
// worker's leases after.
func (s *LeaseStore) hasJoined(ctx context.Context, worker string) (bool, error) {
	if s.fleet == nil {
		return false, nil
	}
	out, err := askTable(ctx, s, "get", s.client.GetItem, &dynamodb.GetItemInput{
		TableName:      &s.leases.name,
		Key:            leaseRow{attrKey: stringAttr(worker)},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return false, err
	}
	return stringOf(out.Item[attrEntityType]) == entityMetrics && isRecent(out.Item), nil
}

// isRecent reports whether metrics are at most a minute old, by the clock of their worker.
func isRecent(metrics leaseRow) bool {
	return time.Since(secondsOf(numberOf(metrics[attrLastUpdateTime]))) < metricsLast
}

func (s *LeaseStore) foreign(sight foreignSighting, now time.Time) error {
	e := &ForeignWorkerError{Application: s.app, Worker: sight.worker, Lease: sight.lease, LastSeen: now}
	if sight.lease == (consumer.LeaseKey{}) {
		e.LastSeen = secondsOf(sight.value)
	}
	return e
}

// sightings returns the leases of KCL workers, and the metrics that they have written in the last
// minute, either to the lease table or to a separate one, depending on their version. Leases of
// ended shards do not count: they keep a dead worker's name.
//
// In a mixed fleet it returns the leases of workers that have not written metrics to the lease
// table. All workers of the fleet write them, whether of the KCL or of braid. A leaving worker of
// braid has deleted its metrics and renews its leases until its batches are done; its writes show
// that it belongs to the fleet.
func (s *LeaseStore) sightings(ctx context.Context) (map[foreignSighting]bool, error) {
	seen, members := make(map[foreignSighting]bool), make(map[string]bool)
	noteMetrics := func(worker string, metrics leaseRow) {
		switch {
		case !isRecent(metrics):
		case s.fleet != nil:
			members[worker] = true
		default:
			seen[foreignSighting{worker: worker, value: numberOf(metrics[attrLastUpdateTime])}] = true
		}
	}
	err := s.scan(ctx, s.leases.name, func(r leaseRow) error {
		if stringOf(r[attrEntityType]) == entityMetrics {
			noteMetrics(stringOf(r[attrKey]), r)
			return nil
		}
		lease, now, found, err := s.decode(&s.leases, r)
		isMember := s.fleet != nil && isOfFleet(r) || s.fleet == nil && !isForeign(r)
		if err == nil && found && lease.Owner != "" && !lease.Checkpoint.ShardEnd && !isMember {
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
		noteMetrics(stringOf(r[attrWorkerID]), r)
		return nil
	})
	var missing *types.ResourceNotFoundException
	if err != nil && !errors.As(err, &missing) {
		return nil, err
	}
	return seen, nil
}

// secondsOf parses a number of seconds since 1970.
func secondsOf(digits string) time.Time {
	seconds, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return time.Unix(0, 0)
	}
	return time.Unix(int64(seconds), 0)
}
