package awskinesis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// ownerIndex is the KCL's index of the lease table, from version 3 on.
const ownerIndex = "LeaseOwnerToLeaseKeyIndex"

const (
	tablePoll = 2 * time.Second  // between two checks of a table that is being created
	indexPoll = 10 * time.Second // between two checks of an index
)

// leaseIndex caches whether the index of owners can be used.
type leaseIndex struct {
	mu     sync.Mutex // guards the fields below, and is held while the table is described
	usable bool       // once true, it stays true
	next   time.Time  // when to check again
}

// askTable calls the service, and maps its errors.
func askTable[In, Out any](ctx context.Context, s *LeaseStore, what string, method func(context.Context, *In, ...func(*dynamodb.Options)) (*Out, error), in *In) (*Out, error) {
	call, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	out, err := method(call, in, refundRefusals)
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	err = fmt.Errorf("lease table %q: %s: %w", s.app, what, err)
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "LimitExceededException":
			return nil, fmt.Errorf("%w: %w", braid.ErrThroughputExceeded, err)
		case "AccessDeniedException", "ValidationException", "ResourceNotFoundException":
			return nil, &consumer.PermanentError{Err: err}
		}
	}
	return nil, err
}

// prepareTables creates missing tables, and waits until both can be used. It refuses a table of
// that name that is not a lease table.
func (s *LeaseStore) prepareTables(ctx context.Context) error {
	for _, t := range []*leaseTable{&s.leases, &s.state} {
		described, err := s.describe(ctx, t.name)
		if err == nil && described == nil {
			described, err = s.createTable(ctx, t)
		}
		if err != nil {
			return err
		}
		if len(described.KeySchema) != 1 || aws.ToString(described.KeySchema[0].AttributeName) != attrKey {
			return invalid("application", fmt.Sprintf("%q", s.app), fmt.Sprintf("must be the name of a lease table: the key of the table %q is not %s", t.name, attrKey))
		}
		if t == &s.leases && indexOf(described) == nil {
			if err := s.createIndex(ctx, described); err != nil {
				return err
			}
		}
	}
	return nil
}

// describe returns a table that is ready, or nil if there is none. It waits for a table that is
// being created or deleted, but not for an archived one, or one whose key is inaccessible: that
// does not change by waiting.
func (s *LeaseStore) describe(ctx context.Context, name string) (*types.TableDescription, error) {
	for {
		out, err := askTable(ctx, s, "describe", s.client.DescribeTable, &dynamodb.DescribeTableInput{TableName: &name})
		var missing *types.ResourceNotFoundException
		switch {
		case errors.As(err, &missing):
			return nil, nil
		case err != nil:
			return nil, err
		}
		switch status := out.Table.TableStatus; status {
		case types.TableStatusActive, types.TableStatusUpdating:
			return out.Table, nil
		case types.TableStatusCreating, types.TableStatusDeleting:
		case types.TableStatusInaccessibleEncryptionCredentials:
			return nil, &consumer.PermanentError{Err: fmt.Errorf("lease table %q: %w: its status is %s", name, braid.ErrKeyUnavailable, status)}
		default:
			return nil, &consumer.PermanentError{Err: fmt.Errorf("lease table %q: its status is %s; it must be ACTIVE or UPDATING", name, status)}
		}
		if err := sleepFor(ctx, tablePoll); err != nil {
			return nil, err
		}
	}
}

// createTable creates a table, unless another worker does so at the same time, and returns it when
// it is ready.
func (s *LeaseStore) createTable(ctx context.Context, t *leaseTable) (*types.TableDescription, error) {
	in := &dynamodb.CreateTableInput{
		TableName:            &t.name,
		AttributeDefinitions: []types.AttributeDefinition{stringAttribute(attrKey)},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String(attrKey), KeyType: types.KeyTypeHash}},
		BillingMode:          types.BillingModePayPerRequest,
	}
	if s.opts.ReadCapacity > 0 {
		in.BillingMode, in.ProvisionedThroughput = types.BillingModeProvisioned, s.throughput()
	}
	if s.opts.DeletionProtection {
		in.DeletionProtectionEnabled = aws.Bool(true)
	}
	for _, key := range slices.Sorted(maps.Keys(s.opts.Tags)) {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(key), Value: aws.String(s.opts.Tags[key])})
	}
	if t == &s.leases {
		in.AttributeDefinitions = append(in.AttributeDefinitions, stringAttribute(attrOwner))
		in.GlobalSecondaryIndexes = []types.GlobalSecondaryIndex{{
			IndexName:             aws.String(ownerIndex),
			KeySchema:             ownerIndexKeys(),
			Projection:            &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
			ProvisionedThroughput: in.ProvisionedThroughput,
		}}
	}
	_, err := askTable(ctx, s, "create", s.client.CreateTable, in)
	var exists *types.ResourceInUseException
	if errors.As(err, &exists) {
		return s.await(ctx, t.name)
	}
	if err != nil {
		return nil, err
	}
	s.opts.Logger.Info("lease table created", "table", t.name)
	described, err := s.await(ctx, t.name)
	if err == nil && s.opts.PointInTimeRecovery {
		_, err = askTable(ctx, s, "back up", s.client.UpdateContinuousBackups, &dynamodb.UpdateContinuousBackupsInput{
			TableName:                        &t.name,
			PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)},
		})
	}
	return described, err
}

// await waits for a table that was created. At first the service may not find it.
func (s *LeaseStore) await(ctx context.Context, name string) (*types.TableDescription, error) {
	for {
		described, err := s.describe(ctx, name)
		if err != nil || described != nil {
			return described, err
		}
		if err := sleepFor(ctx, tablePoll); err != nil {
			return nil, err
		}
	}
}

// createIndex starts the creation of the index, with the billing of the table. It does not wait,
// because that may take long; meanwhile ListOwned reads all leases.
func (s *LeaseStore) createIndex(ctx context.Context, described *types.TableDescription) error {
	create := &types.CreateGlobalSecondaryIndexAction{
		IndexName:  aws.String(ownerIndex),
		KeySchema:  ownerIndexKeys(),
		Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
	}
	onDemand := described.BillingModeSummary != nil && described.BillingModeSummary.BillingMode == types.BillingModePayPerRequest
	if p := described.ProvisionedThroughput; !onDemand && p != nil && aws.ToInt64(p.ReadCapacityUnits) > 0 {
		create.ProvisionedThroughput = &types.ProvisionedThroughput{ReadCapacityUnits: p.ReadCapacityUnits, WriteCapacityUnits: p.WriteCapacityUnits}
	}
	_, err := askTable(ctx, s, "create the index", s.client.UpdateTable, &dynamodb.UpdateTableInput{
		TableName:                   &s.leases.name,
		AttributeDefinitions:        []types.AttributeDefinition{stringAttribute(attrKey), stringAttribute(attrOwner)},
		GlobalSecondaryIndexUpdates: []types.GlobalSecondaryIndexUpdate{{Create: create}},
	})
	var busy *types.ResourceInUseException
	if errors.As(err, &busy) { // another worker is creating it
		return nil
	}
	if err == nil {
		s.opts.Logger.Info("index of the lease table is being created", "table", s.leases.name, "index", ownerIndex)
	}
	return err
}

func (s *LeaseStore) throughput() *types.ProvisionedThroughput {
	return &types.ProvisionedThroughput{ReadCapacityUnits: &s.opts.ReadCapacity, WriteCapacityUnits: &s.opts.WriteCapacity}
}

func stringAttribute(name string) types.AttributeDefinition {
	return types.AttributeDefinition{AttributeName: aws.String(name), AttributeType: types.ScalarAttributeTypeS}
}

func ownerIndexKeys() []types.KeySchemaElement {
	return []types.KeySchemaElement{
		{AttributeName: aws.String(attrOwner), KeyType: types.KeyTypeHash},
		{AttributeName: aws.String(attrKey), KeyType: types.KeyTypeRange},
	}
}

func indexOf(described *types.TableDescription) *types.GlobalSecondaryIndexDescription {
	for i := range described.GlobalSecondaryIndexes {
		if index := &described.GlobalSecondaryIndexes[i]; aws.ToString(index.IndexName) == ownerIndex {
			return index
		}
	}
	return nil
}

// indexIsUsable reports whether the index has all rows. Until it has, indexIsUsable checks again
// from time to time.
func (s *LeaseStore) indexIsUsable(ctx context.Context) (bool, error) {
	x := &s.index
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.usable || time.Now().Before(x.next) {
		return x.usable, nil
	}
	out, err := askTable(ctx, s, "describe", s.client.DescribeTable, &dynamodb.DescribeTableInput{TableName: &s.leases.name})
	if err != nil {
		return false, err
	}
	x.next = time.Now().Add(indexPoll)
	if index := indexOf(out.Table); index != nil {
		x.usable = cmp.Or(index.IndexStatus, types.IndexStatusActive) == types.IndexStatusActive && !aws.ToBool(index.Backfilling)
	}
	return x.usable, nil
}

// sleepFor waits for d. If ctx ends earlier, it returns the cause.
func sleepFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
