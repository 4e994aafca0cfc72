package awskinesis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Workers of a mixed fleet share more than the leases. Two other kinds of rows in the lease table,
// which the KCL 3.5 also reads and writes, are the subject of this file: the metrics of a worker
// show that it is alive, and the leader lock names the worker that leads.

const (
	// reportEvery is how often a worker reports that it is alive. The KCL reports every 30 s, and
	// considers a worker dead that has not reported for a minute.
	reportEvery = 15 * time.Second

	// forgetAfter is the time after which the leader deletes the metrics of a dead worker, as a KCL
	// leader does.
	forgetAfter = 24 * time.Hour

	// maxFleetLeaseDuration ensures that a worker's passes, three per LeaseDuration, are more
	// frequent than the required reports.
	maxFleetLeaseDuration = time.Minute

	// supportsOneTable in a worker's metrics means that its version expects all rows in the lease
	// table.
	supportsOneTable = 1
)

// fleet is the consumer.Fleet of a store in a mixed fleet.
type fleet struct {
	store *LeaseStore

	mu      sync.Mutex // guards the fields below
	members map[string]*member
	workers map[string]metricsSighting // workers whose metrics were in the last listing
	loads   map[string]float64         // of the workers in the last listing, in bytes per second
}

// member is a worker of this process. It belongs to the goroutine that calls Report for the worker.
type member struct {
	mu       sync.Mutex // guards the fields below, and is held during the calls of the service
	name     string
	reported time.Time // when its metrics were last written
	looked   time.Time // when it last read the lock
	lock     heldLock
	seen     seenLock
}

// metricsSighting records when the metrics of a worker were last seen to change, by this process's
// clock.
type metricsSighting struct {
	value   string // attrLastUpdateTime
	changed time.Time
	failing bool // one of its measurements fails; a KCL leader then assigns it nothing

	measured  map[string]measurement // by kind
	estimated bool                   // by a braid worker, from the measurements of others
}

func newFleet(s *LeaseStore) *fleet {
	return &fleet{store: s, members: make(map[string]*member), workers: make(map[string]metricsSighting)}
}

// Fleet returns the workers that share the leases if LeaseStoreOptions.MixedFleet is set, and nil
// if it is not.
func (s *LeaseStore) Fleet() consumer.Fleet {
	if s.fleet == nil {
		return nil // not an interface that holds a nil pointer
	}
	return s.fleet
}

// Report writes the worker's metrics, and renews or takes the leader lock, each when it is due.
func (f *fleet) Report(ctx context.Context, worker string) (leads bool, workers []string, err error) {
	m := f.member(worker)
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.reported) >= reportEvery {
		if err := f.writeMetrics(ctx, worker, now); err != nil {
			return false, nil, err
		}
		m.reported = now
	}
	if now := time.Now(); now.Sub(m.looked) >= f.store.opts.LeaseDuration {
		if err := f.lookAtLock(ctx, m); err != nil {
			return false, nil, err
		}
		m.looked = now
	}
	if leads = m.lock.leads(f.store.opts.LeaseDuration); leads {
		err = f.forgetDead(ctx)
	}
	return leads, f.alive(), err
}

func (f *fleet) member(worker string) *member {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[worker]
	if m == nil {
		m = &member{name: worker}
		f.members[worker] = m
	}
	return m
}

// writeMetrics writes the row that shows others that a worker is alive, and what its load is.
func (f *fleet) writeMetrics(ctx context.Context, worker string, now time.Time) error {
	seconds := strconv.FormatInt(now.Unix(), 10)
	values, limits := writeMeasurements(f.estimate(worker))
	_, err := askTable(ctx, f.store, "report", f.store.client.UpdateItem, &dynamodb.UpdateItemInput{
		TableName:           &f.store.leases.name,
		Key:                 leaseRow{attrKey: stringAttr(worker)},
		UpdateExpression:    aws.String("SET #lut = :now, #slu = :now, #sup = :sup, #type = :type, #values = :values, #limits = :limits, #braid = :braid"),
		ConditionExpression: aws.String("attribute_not_exists(#key) OR #type = :type"),
		ExpressionAttributeNames: map[string]string{
			"#lut": attrLastUpdateTime, "#slu": attrSupportTime, "#sup": attrSupport, "#type": attrEntityType, "#key": attrKey,
			"#values": attrMeasurements, "#limits": attrLimits, "#braid": attrBraid,
		},
		ExpressionAttributeValues: leaseRow{
			":now": numberAttr(seconds), ":sup": numberAttr(strconv.Itoa(supportsOneTable)), ":type": stringAttr(entityMetrics),
			":values": values, ":limits": limits,
			":braid": &types.AttributeValueMemberM{Value: leaseRow{braidReported: stringAttr(seconds)}},
		},
	})
	if isRefused(err) {
		return &consumer.PermanentError{Err: invalid("WorkerID", fmt.Sprintf("%.140q", worker), "must not be the key of another row of the lease table, such as the id of a shard")}
	}
	return err
}

// noteListing notes which workers are alive and what their load is, from all leases and all metrics
// rows of the table.
func (f *fleet) noteListing(leases []consumer.Lease, rows []leaseRow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	workers := make(map[string]metricsSighting, len(rows))
	for _, r := range rows {
		name, value := stringOf(r[attrKey]), numberOf(r[attrLastUpdateTime])
		sight, known := f.workers[name]
		switch {
		case !known:
			sight.changed = secondsOf(value) // by the worker's clock, until it changes
			if sight.changed.After(now) {
				sight.changed = now
			}
		case sight.value != value:
			sight.changed = now
		}
		sight.value, sight.estimated = value, isEstimated(r)
		sight.measured, sight.failing = readMeasurements(r)
		workers[name] = sight
	}
	f.workers, f.loads = workers, loadsOf(leases)
}

// isAvailable reports whether a worker can be assigned leases. Workers are listed once per
// LeaseDuration.
func (f *fleet) isAvailable(sight metricsSighting) bool {
	return time.Since(sight.changed) < metricsLast+f.store.opts.LeaseDuration && !sight.failing
}

// alive returns the workers that can be assigned leases.
func (f *fleet) alive() (workers []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, sight := range f.workers {
		if f.isAvailable(sight) {
			workers = append(workers, name)
		}
	}
	slices.Sort(workers)
	return workers
}

// forgetDead deletes the metrics of workers that died long ago.
func (f *fleet) forgetDead(ctx context.Context) error {
	dead := make(map[string]string)
	f.mu.Lock()
	for name, sight := range f.workers {
		if time.Since(sight.changed) >= forgetAfter {
			dead[name] = sight.value
			delete(f.workers, name)
		}
	}
	f.mu.Unlock()
	for name, value := range dead {
		if err := f.deleteMetrics(ctx, name, value); err != nil {
			return err
		}
	}
	return nil
}

// deleteMetrics deletes the metrics of a worker. If value is not "", it deletes them only if the
// worker has not written new ones.
func (f *fleet) deleteMetrics(ctx context.Context, worker, value string) error {
	in := &dynamodb.DeleteItemInput{
		TableName:                 &f.store.leases.name,
		Key:                       leaseRow{attrKey: stringAttr(worker)},
		ConditionExpression:       aws.String("#type = :type"),
		ExpressionAttributeNames:  map[string]string{"#type": attrEntityType},
		ExpressionAttributeValues: leaseRow{":type": stringAttr(entityMetrics)},
	}
	if value != "" {
		in.ConditionExpression = aws.String("#type = :type AND #lut = :lut")
		in.ExpressionAttributeNames["#lut"], in.ExpressionAttributeValues[":lut"] = attrLastUpdateTime, numberAttr(value)
	}
	if _, err := askTable(ctx, f.store, "leave", f.store.client.DeleteItem, in); !isRefused(err) {
		return err
	}
	return nil
}

// Leave deletes the worker's metrics, and releases the leader lock if the worker holds it.
func (f *fleet) Leave(ctx context.Context, worker string) error {
	m := f.member(worker)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(f.deleteMetrics(ctx, worker, ""), f.releaseLock(ctx, m)); err != nil {
		return err // keep the member: the next call needs its lock
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.members, worker)
	return nil
}

// RequestHandOver begins the KCL's graceful hand-off: leaseOwner becomes the next owner, and
// checkpointOwner the current one. The counter does not change, so the current owner can still
// renew the lease.
func (f *fleet) RequestHandOver(ctx context.Context, lease consumer.Lease, to string) (stored bool, err error) {
	t, err := f.store.tableOf(lease.LeaseKey)
	if err != nil || lease.Owner == "" {
		return false, err
	}
	_, err = askTable(ctx, f.store, "update", f.store.client.UpdateItem, &dynamodb.UpdateItemInput{
		TableName:                           &t.name,
		Key:                                 keyOf(t, lease.LeaseKey),
		UpdateExpression:                    aws.String("SET #owner = :next, #current = :owner"),
		ConditionExpression:                 aws.String("#owner = :owner AND attribute_not_exists(#current)"),
		ExpressionAttributeNames:            map[string]string{"#owner": attrOwner, "#current": attrCurrentOwner},
		ExpressionAttributeValues:           leaseRow{":owner": stringAttr(lease.Owner), ":next": stringAttr(to)},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var refused *types.ConditionalCheckFailedException
	if errors.As(err, &refused) { // perhaps because an earlier attempt of the SDK succeeded and its response was lost
		return stringOf(refused.Item[attrOwner]) == to && stringOf(refused.Item[attrCurrentOwner]) == lease.Owner, nil
	}
	return err == nil, err
}

func isRefused(err error) bool {
	var refused *types.ConditionalCheckFailedException
	return errors.As(err, &refused)
}

// enterFleet checks that the application can have a mixed fleet: its workers must be of the KCL
// 3.5, or of braid in the same mode, and all of the KCL's rows must be in the lease table.
func (s *LeaseStore) enterFleet(ctx context.Context) error {
	if err := s.refuseOldTables(ctx); err != nil {
		return err
	}
	out, err := askTable(ctx, s, "get", s.client.GetItem, &dynamodb.GetItemInput{
		TableName:      &s.leases.name,
		Key:            leaseRow{attrKey: stringAttr(versionRow)},
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return err
	}
	if version := stringOf(out.Item[attrClientVersion]); len(out.Item) > 0 && version != clientVersion3 {
		return invalid("LeaseStoreOptions.MixedFleet", true, fmt.Sprintf("must be false until the KCL's workers have completed their migration from version 2: theirs is %q, and must be %q", version, clientVersion3))
	}
	if err := s.refuseForeign(ctx); err != nil || len(out.Item) > 0 {
		return err
	}
	_, err = askTable(ctx, s, "update", s.client.UpdateItem, &dynamodb.UpdateItemInput{ // keeps workers of version 2 from joining
		TableName:                &s.leases.name,
		Key:                      leaseRow{attrKey: stringAttr(versionRow)},
		UpdateExpression:         aws.String("SET #version = :version, #by = :by, #at = :at, #type = :type"),
		ConditionExpression:      aws.String("attribute_not_exists(#key)"),
		ExpressionAttributeNames: map[string]string{"#version": attrClientVersion, "#by": attrModifiedBy, "#at": attrModifiedAt, "#type": attrEntityType, "#key": attrKey},
		ExpressionAttributeValues: leaseRow{
			":version": stringAttr(clientVersion3), ":by": stringAttr("braid"),
			":at": numberAttr(strconv.FormatInt(time.Now().UnixMilli(), 10)), ":type": stringAttr(entityVersion),
		},
	})
	if isRefused(err) { // by the write of another worker that has just started
		return fmt.Errorf("%w: another worker has just started the application; try again", braid.ErrThroughputExceeded)
	}
	return err
}

// refuseOldTables returns an error if the application's workers still use the additional tables of
// the KCL 3.0 to 3.4.
func (s *LeaseStore) refuseOldTables(ctx context.Context) error {
	name := s.app + "-CoordinatorState"
	out, err := askTable(ctx, s, "get", s.client.GetItem, &dynamodb.GetItemInput{
		TableName:      &name,
		Key:            leaseRow{attrOldKey: stringAttr(tablesRow)},
		ConsistentRead: aws.Bool(true),
	})
	var missing *types.ResourceNotFoundException
	switch {
	case errors.As(err, &missing):
		return nil
	case err != nil:
		return err
	case stringOf(out.Item[attrTables]) != oneTable:
		return invalid("LeaseStoreOptions.MixedFleet", true, fmt.Sprintf("must be false until the KCL's workers keep all rows in the lease table: the table %q exists, and its row %q is not %q", name, tablesRow, oneTable))
	}
	return nil
}
