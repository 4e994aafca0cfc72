package awskinesis

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/braidstream/braid/consumer"
)

// DynamoDBClient is the part of the DynamoDB API that a [LeaseStore] uses. A *dynamodb.Client of
// the AWS SDK for Go v2 implements it. All methods may be called by several goroutines at once.
type DynamoDBClient interface {
	GetItem(ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, options ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, options ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	Scan(ctx context.Context, in *dynamodb.ScanInput, options ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	Query(ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	DescribeTable(ctx context.Context, in *dynamodb.DescribeTableInput, options ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	CreateTable(ctx context.Context, in *dynamodb.CreateTableInput, options ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	UpdateTable(ctx context.Context, in *dynamodb.UpdateTableInput, options ...func(*dynamodb.Options)) (*dynamodb.UpdateTableOutput, error)
	UpdateContinuousBackups(ctx context.Context, in *dynamodb.UpdateContinuousBackupsInput, options ...func(*dynamodb.Options)) (*dynamodb.UpdateContinuousBackupsOutput, error)
}

const (
	defaultLeaseDuration = 10 * time.Second
	minLeaseDuration     = time.Second
	maxLeaseDuration     = 10 * time.Minute
	defaultLeaseTimeout  = 5 * time.Second
)

// LeaseStoreOptions are the settings of a [LeaseStore]. Either Stream or Streams must be set. The
// zero value of each other field is a safe default.
type LeaseStoreOptions struct {
	// Stream is the name of the stream if the application processes only one. The keys of its
	// leases are shard IDs, as those of the KCL outside multi-stream mode.
	Stream string

	// Streams are the streams of an application that processes several. Each is a StreamIdentifier
	// as the KCL serializes it: account, name, and creation time in seconds since 1970, such as
	// "123456789012:orders:1700000000". Config.Streams has only the names.
	Streams []string

	// LeaseDuration is how long a lease lasts unless its owner renews it: the KCL's
	// failoverTimeMillis. The default is 10 s; the range is 1 s to 10 min, and up to 1 min with
	// MixedFleet. It must be the same for all workers of the application. A shorter duration costs
	// more: see [LeaseStore].
	LeaseDuration time.Duration

	// AtTimestamp is the time at which the KCL was configured to begin, if its initial position was
	// AT_TIMESTAMP. The KCL does not store this time in the table, so leases at AT_TIMESTAMP cannot
	// be read without it.
	AtTimestamp time.Time

	// MixedFleet lets braid workers share the application with workers of the KCL 3.5 at the same
	// time. One worker of either kind leads, and assigns leases to all. Set it for all braid
	// workers or for none; the package documentation lists its other requirements. By default each
	// braid worker takes leases by itself, and none starts while a KCL worker is alive.
	MixedFleet bool

	// Timeout limits each call of the service, including the SDK's retries. The default is 5 s.
	Timeout time.Duration

	// ReadCapacity and WriteCapacity are the provisioned throughput of new tables, in capacity
	// units. Set both or neither. By default, new tables are billed per request.
	ReadCapacity, WriteCapacity int64

	// Tags are added to new tables.
	Tags map[string]string

	// PointInTimeRecovery and DeletionProtection enable these features for new tables.
	PointInTimeRecovery, DeletionProtection bool

	// Logger receives messages about tables and indexes that are created, and about the leader of a
	// mixed fleet. The default is slog.Default().
	Logger *slog.Logger
}

// withDefaults returns the options with defaults filled in, or an error for an invalid one.
func (o *LeaseStoreOptions) withDefaults() (*LeaseStoreOptions, error) {
	var opts LeaseStoreOptions
	if o != nil {
		opts = *o
	}
	opts.LeaseDuration = cmp.Or(opts.LeaseDuration, defaultLeaseDuration)
	opts.Timeout = cmp.Or(opts.Timeout, defaultLeaseTimeout)
	switch {
	case opts.LeaseDuration < minLeaseDuration || opts.LeaseDuration > maxLeaseDuration:
		return nil, invalid("LeaseStoreOptions.LeaseDuration", opts.LeaseDuration, fmt.Sprintf("must be %v to %v, or 0 for %v", minLeaseDuration, maxLeaseDuration, defaultLeaseDuration))
	case opts.MixedFleet && opts.LeaseDuration > maxFleetLeaseDuration:
		return nil, invalid("LeaseStoreOptions.LeaseDuration", opts.LeaseDuration, fmt.Sprintf("must be at most %v in a mixed fleet", maxFleetLeaseDuration))
	case opts.Timeout < 0:
		return nil, invalid("LeaseStoreOptions.Timeout", opts.Timeout, "must not be negative")
	case opts.ReadCapacity < 0 || opts.WriteCapacity < 0 || (opts.ReadCapacity == 0) != (opts.WriteCapacity == 0):
		return nil, invalid("LeaseStoreOptions.ReadCapacity", fmt.Sprintf("%d, with WriteCapacity %d", opts.ReadCapacity, opts.WriteCapacity), "must be positive with a positive WriteCapacity, or 0 with 0")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return &opts, nil
}

// LeaseStore is a [consumer.LeaseStore] in Amazon DynamoDB that uses the lease table of the Kinesis
// Client Library 3.5. Pass it as consumer.Config.Leases. An application can move from the KCL for
// Java to braid and back: each continues where the other has stopped, even inside an aggregate or
// in the middle of a reshard. In a mixed fleet both work at the same time: see
// LeaseStoreOptions.MixedFleet. LeaseStore is also a [consumer.OwnerLeaseStore]; it finds the
// leases of an owner through the KCL's index.
//
// The table has the application's name. Facts for which the KCL has no attribute are in one map
// attribute of each row, named "braid". Rows are updated, never replaced, under conditions on the
// counter and the owners. So attributes that others keep in them stay, and rows of the KCL that are
// not leases stay untouched. A second table, "APPLICATION-Braid", stores whether the application or
// a stream is paused, and where the application began. The KCL does not read it, so it ignores
// pauses.
//
// Errors of the service are temporary, and workers retry with growing pauses. The exceptions are
// denied access, an invalid request and a deleted table: these are reported as a
// [consumer.PermanentError].
//
// # What it costs
//
// An idle lease costs three writes of one unit per LeaseDuration: with the default of 10 s, 1,080
// write units per hour. Each worker lists all leases once per LeaseDuration, with two calls, at one
// read unit for about six leases, and another for the second table. So a worker with four leases
// makes 84 calls per minute if nothing happens, which cost 72 write units and 12 read units or more.
// The KCL 3.5 makes 86, at 76 and 5 units. A checkpoint costs one more write. A row with a long
// worker ID, or with prepared state, may take two units.
//
// In a mixed fleet, a worker also writes up to 240 units per hour to report that it is alive. It
// reads 360 units for the leader lock, and 180 or more to find the leases that it was assigned. The
// leader renews the lock with another 360 writes.
//
// All methods may be called by any number of goroutines. A LeaseStore has no goroutine, and needs
// no Close.
type LeaseStore struct {
	client DynamoDBClient
	app    string
	opts   LeaseStoreOptions
	keys   *leaseKeys

	leases, state leaseTable
	index         leaseIndex
	fleet         *fleet // nil unless the application has a mixed one

	prefix string // of the ids of this store's writes
	writes atomic.Uint64

	known knownRows // of the lease table
}

var _ consumer.OwnerLeaseStore = (*LeaseStore)(nil)

// leaseTable is one of the two tables.
type leaseTable struct {
	name   string
	format func(consumer.LeaseKey) string
	parse  func(string) (key consumer.LeaseKey, ours bool, err error)
}

var applicationPattern = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,230}$`)

// NewLeaseStore returns the lease store of an application. The application's name is also the name
// of the table: 3 to 230 letters, digits, '_', '.' or '-'. By convention, consumer.Config.App is
// the same. NewLeaseStore creates missing tables, and waits until they can be used. If an older
// version of the KCL created the table, it has no index. Then the index is built in the background,
// and the store works without it until it is usable.
//
// If KCL workers have leases or have reported metrics, NewLeaseStore watches them for up to a
// LeaseDuration or a minute, and returns a [ForeignWorkerError] if one of them is alive. In a mixed
// fleet it watches only workers that have leases and have not reported metrics, for a
// LeaseDuration.
//
// The options must name the streams, so they must not be nil. Errors: braid.ErrInvalidArgument;
// [ErrForeignWorker]; a [consumer.PermanentError] for a table that cannot be used, such as an
// archived one; those of the service; the cause of ctx.
func NewLeaseStore(ctx context.Context, client DynamoDBClient, application string, options *LeaseStoreOptions) (*LeaseStore, error) {
	opts, err := options.withDefaults()
	switch {
	case client == nil:
		return nil, invalid("client", nil, "must not be nil")
	case !applicationPattern.MatchString(application):
		return nil, invalid("application", fmt.Sprintf("%.300q", application), "must be 3 to 230 letters, digits, '_', '.' or '-', as a table's name")
	case err != nil:
		return nil, err
	}
	keys, err := newLeaseKeys(opts)
	if err != nil {
		return nil, err
	}
	var random [6]byte
	_, _ = rand.Read(random[:]) // it never fails
	s := &LeaseStore{
		client: client,
		app:    application,
		opts:   *opts,
		keys:   keys,
		leases: leaseTable{application, keys.format, keys.parse},
		state:  leaseTable{application + "-Braid", formatState, keys.parseState},
		prefix: hex.EncodeToString(random[:]) + "-",
		known:  knownRows{rows: make(map[string]knownRow)},
	}
	if err := s.prepareTables(ctx); err != nil {
		return nil, err
	}
	check := s.refuseForeign
	if opts.MixedFleet {
		s.fleet = newFleet(s)
		check = s.enterFleet
	}
	if err := check(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// LeaseDuration returns LeaseStoreOptions.LeaseDuration.
func (s *LeaseStore) LeaseDuration() time.Duration { return s.opts.LeaseDuration }

// tableOf returns the table of a lease.
func (s *LeaseStore) tableOf(key consumer.LeaseKey) (*leaseTable, error) {
	switch {
	case key.Stream != "" && !s.keys.has(key.Stream):
		return nil, &consumer.PermanentError{Err: invalid("Stream", fmt.Sprintf("%.140q", key.Stream), "must be one of the LeaseStoreOptions")}
	case key.Shard == "":
		return &s.state, nil
	default:
		return &s.leases, nil
	}
}

func keyOf(t *leaseTable, key consumer.LeaseKey) leaseRow {
	return leaseRow{attrKey: stringAttr(t.format(key))}
}

// List returns the current leases of all the application's streams.
func (s *LeaseStore) List(ctx context.Context) (leases []consumer.Lease, err error) {
	listing := s.known.beginListing()
	var metrics []leaseRow
	for _, t := range []*leaseTable{&s.state, &s.leases} {
		err := s.scan(ctx, t.name, func(r leaseRow) error {
			if stringOf(r[attrEntityType]) == entityMetrics {
				metrics = append(metrics, r)
				return nil
			}
			lease, now, found, err := s.decode(t, r)
			if err == nil && found {
				s.note(t, &lease, now)
				leases = append(leases, lease)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	s.known.endListing(listing)
	if s.fleet != nil {
		s.fleet.noteListing(leases, metrics)
	}
	return leases, nil
}

// scan calls a function with each row of a table.
func (s *LeaseStore) scan(ctx context.Context, tableName string, each func(leaseRow) error) error {
	in := &dynamodb.ScanInput{TableName: &tableName, ConsistentRead: aws.Bool(true)}
	for {
		out, err := askTable(ctx, s, "list", s.client.Scan, in)
		if err != nil {
			return err
		}
		for _, r := range out.Items {
			if err := each(r); err != nil {
				return err
			}
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
			return nil
		}
	}
}

// Get returns the current state of a lease.
func (s *LeaseStore) Get(ctx context.Context, key consumer.LeaseKey) (lease consumer.Lease, found bool, err error) {
	t, err := s.tableOf(key)
	if err != nil {
		return lease, false, err
	}
	out, err := askTable(ctx, s, "get", s.client.GetItem, &dynamodb.GetItemInput{
		TableName:      &t.name,
		Key:            keyOf(t, key),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil || len(out.Item) == 0 {
		return lease, false, err
	}
	lease, now, found, err := s.decode(t, out.Item)
	if err != nil || !found {
		return consumer.Lease{}, false, err
	}
	s.note(t, &lease, now)
	return lease, true, nil
}

// note remembers what the next write will compare.
func (s *LeaseStore) note(t *leaseTable, lease *consumer.Lease, now rowStanding) {
	if t == &s.leases {
		s.known.note(t.format(lease.LeaseKey), now)
	}
}

// standingOf returns the standing of a lease at its Version, or nil if it is unknown.
func (s *LeaseStore) standingOf(t *leaseTable, lease *consumer.Lease) *rowStanding {
	if t != &s.leases {
		return nil
	}
	return s.known.at(t.format(lease.LeaseKey), lease.Version)
}

// CompareAndSet stores a lease with a conditional update: it requires that there is no such lease,
// or that its counter and owners are unchanged. If the SDK retries because it lost the response to
// a successful attempt, stored is still true.
func (s *LeaseStore) CompareAndSet(ctx context.Context, lease consumer.Lease) (stored bool, err error) {
	t, err := s.tableOf(lease.LeaseKey)
	if err != nil {
		return false, err
	}
	was := s.standingOf(t, &lease)
	if was != nil && s.fleet != nil && was.currentOwner != "" && lease.Owner == was.currentOwner && lease.NextOwner == "" {
		return false, nil // the owner has not seen a hand-over request, which does not change the counter
	}
	write := s.prefix + strconv.FormatUint(s.writes.Add(1), 16)
	attrs, err := s.encode(&lease, write, was)
	if err != nil {
		return false, err
	}
	if lease.Version == 0 && t == &s.leases {
		s.keys.describe(attrs, lease.LeaseKey)
	}
	in := updateOf(attrs, lease.Version, was)
	in.TableName, in.Key = &t.name, keyOf(t, lease.LeaseKey)
	_, err = askTable(ctx, s, "update", s.client.UpdateItem, in)
	var refused *types.ConditionalCheckFailedException
	switch {
	case errors.As(err, &refused):
		if stringOf(mapOf(refused.Item[attrBraid])[braidWrite]) != write {
			return false, nil
		}
		// A hand-over request may have followed; it does not change the counter. Note it: the next
		// write would undo a request that its condition does not include.
		now, found := rowStanding{}, false
		if _, now, found, err = s.decode(t, refused.Item); err == nil && found {
			s.note(t, &lease, now)
		}
		return true, err
	case err != nil:
		return false, err
	}
	s.note(t, &lease, rowStanding{
		version:      lease.Version + 1,
		owner:        stringOf(attrs[attrOwner]),
		currentOwner: stringOf(attrs[attrCurrentOwner]),
		checkpoint:   placeOf(lease.Checkpoint),
		switches:     switchesOf(attrs, was),
	})
	return true, nil
}

// switchesOf returns the number in the row, or 0 if it is unknown. The number is for information
// only.
func switchesOf(attrs leaseRow, was *rowStanding) int64 {
	n, err := strconv.ParseInt(numberOf(attrs[attrSwitches]), 10, 64)
	if err != nil && was != nil {
		return was.switches
	}
	return n
}

// updateOf returns the update that sets all attributes of a lease, and removes those that the lease
// does not have.
func updateOf(attrs leaseRow, version uint64, was *rowStanding) *dynamodb.UpdateItemInput {
	in := &dynamodb.UpdateItemInput{
		ExpressionAttributeNames:            make(map[string]string),
		ExpressionAttributeValues:           make(leaseRow),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	name := func(attr string) string {
		in.ExpressionAttributeNames["#"+attr] = attr
		return "#" + attr
	}
	value := func(as string, v types.AttributeValue) string {
		in.ExpressionAttributeValues[":"+as] = v
		return ":" + as
	}
	var set, remove []string
	for _, attr := range slices.Concat(leaseAttributes, []string{attrEntityType, attrStreamName, attrShardID}) {
		switch v := attrs[attr]; {
		case v != nil:
			set = append(set, name(attr)+" = "+value(attr, v))
		case attr == attrSwitches:
			set = append(set, fmt.Sprintf("%s = if_not_exists(%s, %s)", name(attr), name(attr), value("none", numberAttr("0"))))
		case slices.Contains(leaseAttributes, attr):
			remove = append(remove, name(attr))
		}
	}
	update := "SET " + strings.Join(set, ", ")
	if len(remove) > 0 { // an empty clause is a syntax error
		update += " REMOVE " + strings.Join(remove, ", ")
	}
	in.UpdateExpression = &update
	if version == 0 {
		in.ConditionExpression = aws.String("attribute_not_exists(" + name(attrKey) + ")")
		return in
	}
	conditions := []string{name(attrCounter) + " = " + value("was", numberAttr(strconv.FormatUint(version-1, 10)))}
	if was != nil {
		for attr, owner := range map[string]string{attrOwner: was.owner, attrCurrentOwner: was.currentOwner} {
			if owner == "" {
				conditions = append(conditions, "attribute_not_exists("+name(attr)+")")
			} else {
				conditions = append(conditions, name(attr)+" = "+value("was"+attr, stringAttr(owner)))
			}
		}
	}
	in.ConditionExpression = aws.String(strings.Join(conditions, " AND "))
	return in
}

// describe adds the attributes that are set when a row is created.
func (k *leaseKeys) describe(attrs leaseRow, key consumer.LeaseKey) {
	attrs[attrEntityType] = stringAttr(entityLease)
	if k.stream == "" {
		attrs[attrStreamName], attrs[attrShardID] = stringAttr(k.identifiers[key.Stream]), stringAttr(string(key.Shard))
	}
}

// Delete removes a lease if its counter is unchanged.
func (s *LeaseStore) Delete(ctx context.Context, lease consumer.Lease) (deleted bool, err error) {
	t, err := s.tableOf(lease.LeaseKey)
	if err != nil || lease.Version == 0 {
		return false, err
	}
	_, err = askTable(ctx, s, "delete", s.client.DeleteItem, &dynamodb.DeleteItemInput{
		TableName:                 &t.name,
		Key:                       keyOf(t, lease.LeaseKey),
		ConditionExpression:       aws.String("#counter = :was"),
		ExpressionAttributeNames:  map[string]string{"#counter": attrCounter},
		ExpressionAttributeValues: leaseRow{":was": numberAttr(strconv.FormatUint(lease.Version-1, 10))},
	})
	var refused *types.ConditionalCheckFailedException
	switch {
	case errors.As(err, &refused):
		return false, nil
	case err != nil:
		return false, err
	}
	if t == &s.leases {
		s.known.forget(t.format(lease.LeaseKey))
	}
	return true, nil
}

// ListOwned returns the keys of the leases that an owner is to have: the index has the next owner
// during a hand-over. It may lag behind the table for a short time. While it cannot be used,
// ListOwned reads all leases.
func (s *LeaseStore) ListOwned(ctx context.Context, owner string) (keys []consumer.LeaseKey, err error) {
	if usable, err := s.indexIsUsable(ctx); err != nil {
		return nil, err
	} else if !usable {
		leases, err := s.List(ctx)
		for _, l := range leases {
			if l.Shard != "" && l.Owner != "" && cmp.Or(l.NextOwner, l.Owner) == owner {
				keys = append(keys, l.LeaseKey)
			}
		}
		return keys, err
	}
	in := &dynamodb.QueryInput{
		TableName:                 &s.leases.name,
		IndexName:                 aws.String(ownerIndex),
		KeyConditionExpression:    aws.String("#owner = :owner"),
		ExpressionAttributeNames:  map[string]string{"#owner": attrOwner},
		ExpressionAttributeValues: leaseRow{":owner": stringAttr(owner)},
	}
	for {
		out, err := askTable(ctx, s, "query", s.client.Query, in)
		if err != nil {
			return nil, err
		}
		for _, r := range out.Items {
			key, ours, err := s.leases.parse(stringOf(r[attrKey]))
			if err != nil {
				return nil, err
			}
			if ours {
				keys = append(keys, key)
			}
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
			return keys, nil
		}
	}
}
