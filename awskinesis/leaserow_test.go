package awskinesis_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
)

const leaseShard = "shardId-000000000007"

// ordersStore returns the lease store of the application "billing" with the stream "orders".
func ordersStore(t testing.TB, d *dynamotest.Service, change func(*awskinesis.LeaseStoreOptions)) *awskinesis.LeaseStore {
	t.Helper()
	opts := awskinesis.LeaseStoreOptions{Stream: "orders", Logger: quietLogger()}
	if change != nil {
		change(&opts)
	}
	store, err := awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", &opts)
	require.NoError(t, err)
	return store
}

func s(text string) dynamotest.Attribute   { return dynamotest.Attribute{"S": text} }
func n(digits string) dynamotest.Attribute { return dynamotest.Attribute{"N": digits} }

func key(shard string) consumer.LeaseKey {
	return consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID(shard)}
}

func getLease(t testing.TB, store consumer.LeaseStore, shard string) consumer.Lease {
	t.Helper()
	lease, found, err := store.Get(t.Context(), key(shard))
	require.NoError(t, err)
	require.True(t, found)
	return lease
}

func setLease(t testing.TB, store consumer.LeaseStore, lease consumer.Lease) consumer.Lease {
	t.Helper()
	stored, err := store.CompareAndSet(t.Context(), lease)
	require.NoError(t, err)
	require.True(t, stored)
	lease.Version++
	return lease
}

const sequenceNumber = "49590338271490256608559692538361571095921575989136588898"

func parsed(t testing.TB, digits string) braid.SequenceNumber {
	t.Helper()
	number, err := braid.ParseSequenceNumber(digits)
	require.NoError(t, err)
	return number
}

// kclRow returns a row as version 3.5 of the KCL writes it, with attributes that later versions may
// add.
func kclRow() dynamotest.Item {
	return dynamotest.Item{
		"leaseKey":                           s(leaseShard),
		"leaseOwner":                         s("java-1"),
		"leaseCounter":                       n("41"),
		"checkpoint":                         s(sequenceNumber),
		"checkpointSubSequenceNumber":        n("12"),
		"ownerSwitchesSinceCheckpoint":       n("2"),
		"parentShardId":                      {"SS": []any{"shardId-000000000004", "shardId-000000000003"}},
		"childShardIds":                      {"SS": []any{"shardId-000000000011"}},
		"startingHashKey":                    s("0"),
		"endingHashKey":                      s("170141183460469231731687303715884105727"),
		"throughputKBps":                     n("2.500000"),
		"pendingCheckpoint":                  s(sequenceNumber),
		"pendingCheckpointSubSequenceNumber": n("14"),
		"pendingCheckpointState":             {"B": "c3RhdGU="},
		"entityType":                         s("LEASE"),
		"ofALaterVersion":                    s("stays"),
	}
}

// Scenario 14: all attributes of the KCL are read, and rows that are not leases are left alone.
func TestRowsOfTheKCLAreRead(t *testing.T) {
	d := dynamotest.New()
	store := ordersStore(t, d, nil)
	d.Put(t, "billing", kclRow())
	half := braid.HashKeyRange{}
	require.NoError(t, half.End.UnmarshalText([]byte("170141183460469231731687303715884105727")))
	at := consumer.Checkpoint{SequenceNumber: parsed(t, sequenceNumber), SubSequenceNumber: 12, Partial: true}
	pending := at
	pending.SubSequenceNumber = 14
	want := consumer.Lease{
		LeaseKey: key(leaseShard), Version: 42, Owner: "java-1", Epoch: 1,
		Checkpoint: at, Pending: &pending, PendingState: []byte("state"),
		Parents:      []braid.ShardID{"shardId-000000000003", "shardId-000000000004"},
		Children:     []braid.ShardID{"shardId-000000000011"},
		HashKeyRange: half, Throughput: 2560,
	}
	require.Equal(t, want, getLease(t, store, leaseShard))
	for _, other := range []dynamotest.Item{ // not leases
		{"leaseKey": s("java-1"), "entityType": s("WORKER_METRIC_STATS"), "lut": n("1")},
		{"leaseKey": s("Leader"), "entityType": s("LEADER"), "ownerName": s("java-1")},
		{"leaseKey": s("Migration3.0"), "entityType": s("CLIENT_VERSION_MIGRATION")},
		{"leaseKey": s("123456789012:orders:1"), "entityType": s("STREAM")},
	} {
		d.Put(t, "billing", other)
	}
	all, err := store.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []consumer.Lease{want}, all)
}

// Sentinels and positions have the same meaning in braid's and in the KCL's format.
func TestCheckpointsInTheWordsOfTheKCL(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	number := parsed(t, sequenceNumber)
	for _, test := range []struct {
		checkpoint string
		sub        string
		want       consumer.Checkpoint
	}{
		{"TRIM_HORIZON", "0", consumer.Checkpoint{}},
		{"LATEST", "0", consumer.Checkpoint{Start: braid.Latest()}},
		{"AT_TIMESTAMP", "0", consumer.Checkpoint{Start: braid.AtTime(at)}},
		{"SHARD_END", "0", consumer.Checkpoint{ShardEnd: true}},
		{sequenceNumber, "0", consumer.Checkpoint{SequenceNumber: number, Partial: true}},
		{sequenceNumber, "3", consumer.Checkpoint{SequenceNumber: number, SubSequenceNumber: 3, Partial: true}},
		{sequenceNumber, "-1", consumer.Checkpoint{Start: braid.AtSequence(number)}},
		{sequenceNumber, "2147483647", consumer.Checkpoint{Start: braid.AfterSequence(number)}},
	} {
		d := dynamotest.New()
		store := ordersStore(t, d, func(o *awskinesis.LeaseStoreOptions) { o.AtTimestamp = at })
		d.Put(t, "billing", dynamotest.Item{"leaseKey": s(leaseShard), "leaseCounter": n("0"), "checkpoint": s(test.checkpoint), "checkpointSubSequenceNumber": n(test.sub)})
		lease := getLease(t, store, leaseShard)
		require.Equal(t, test.want, lease.Checkpoint)
		setLease(t, store, lease)
		row := d.Items("billing")[leaseShard]
		require.Equal(t, s(test.checkpoint), row["checkpoint"])
		require.Equal(t, n(test.sub), row["checkpointSubSequenceNumber"])
		require.Equal(t, n("1"), row["leaseCounter"])
	}
	d := dynamotest.New()
	store := ordersStore(t, d, nil)
	token := consumer.Lease{LeaseKey: key(leaseShard), Checkpoint: consumer.Checkpoint{Start: braid.AtToken("since noon")}}
	setLease(t, store, token)
	require.Equal(t, s("TRIM_HORIZON"), d.Items("billing")[leaseShard]["checkpoint"], "it must not skip a record")

	d.Put(t, "billing", dynamotest.Item{"leaseKey": s(leaseShard), "leaseCounter": n("0"), "checkpoint": s("AT_TIMESTAMP")})
	_, err := store.List(t.Context())
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	require.ErrorContains(t, err, "AtTimestamp")
	require.ErrorAs(t, err, new(*consumer.PermanentError))
}

// A write changes only braid's attributes; those of others stay.
func TestWritesKeepAttributesOfOthers(t *testing.T) {
	d := dynamotest.New()
	store := ordersStore(t, d, nil)
	d.Put(t, "billing", kclRow())
	lease := getLease(t, store, leaseShard)
	lease.Owner, lease.Pending, lease.PendingState, lease.Children = "", nil, nil, nil
	setLease(t, store, lease)
	row := d.Items("billing")[leaseShard]
	require.Equal(t, s("stays"), row["ofALaterVersion"])
	require.Equal(t, s("LEASE"), row["entityType"])
	for _, gone := range []string{"leaseOwner", "checkpointOwner", "pendingCheckpoint", "pendingCheckpointSubSequenceNumber", "pendingCheckpointState", "childShardIds"} {
		require.NotContains(t, row, gone)
	}
	require.Zero(t, d.Count("PutItem"))
}

// Changes by the KCL override what braid wrote before.
func TestTheKCLHasTheLastWord(t *testing.T) {
	d := dynamotest.New()
	store := ordersStore(t, d, nil)
	number := parsed(t, sequenceNumber)
	next := parsed(t, "49590338271490256608559692540925702759324208523137515618")
	pending := consumer.Checkpoint{SequenceNumber: next}
	gaps := []consumer.LeaseGap{{Shard: "shardId-000000000003", FirstLost: number, Accepted: true}, {Shard: "shardId-000000000004"}}
	lease := setLease(t, store, consumer.Lease{
		LeaseKey: key(leaseShard), Owner: "one", Epoch: 3, Incarnation: 7,
		Checkpoint: consumer.Checkpoint{SequenceNumber: number, SubSequenceNumber: 2, Partial: true},
		Pending:    &pending, PendingState: []byte("state"),
		Gaps: gaps,
	})
	change := func(attrs dynamotest.Item) {
		row := d.Items("billing")[leaseShard]
		for name, value := range attrs {
			if row[name] = value; value == nil {
				delete(row, name)
			}
		}
		d.Put(t, "billing", row)
	}
	change(dynamotest.Item{"leaseOwner": s("java-1"), "leaseCounter": n("5")}) // takes the lease over
	got := getLease(t, store, leaseShard)
	require.Equal(t, "java-1", got.Owner)
	require.Equal(t, lease.Checkpoint, got.Checkpoint)
	require.Equal(t, lease.Epoch+1, got.Epoch, "the owner has changed")
	require.Equal(t, lease.Incarnation, got.Incarnation)
	require.Equal(t, &pending, got.Pending)
	change(dynamotest.Item{"checkpoint": s(next.String()), "checkpointSubSequenceNumber": n("0"), "pendingCheckpoint": nil, "pendingCheckpointSubSequenceNumber": nil, "pendingCheckpointState": nil, "leaseCounter": n("6")})
	got = getLease(t, store, leaseShard)
	require.Equal(t, consumer.Checkpoint{SequenceNumber: next, Partial: true}, got.Checkpoint)
	require.Nil(t, got.Pending)
	change(dynamotest.Item{"checkpoint": s("SHARD_END"), "leaseCounter": n("7")})
	got = getLease(t, store, leaseShard)
	require.True(t, got.Checkpoint.ShardEnd)
	require.Equal(t, gaps, got.Gaps, "the KCL does not know of them, and cannot have reported them")
}

// Hand-overs have the KCL's form: the current owner is checkpointOwner. A write compares both
// owners, because the KCL's leader requests a hand-over without changing the counter.
func TestHandOversAreThoseOfTheKCL(t *testing.T) {
	d := dynamotest.New()
	store := ordersStore(t, d, nil)
	lease := setLease(t, store, consumer.Lease{LeaseKey: key(leaseShard), Owner: "one", NextOwner: "two"})
	row := d.Items("billing")[leaseShard]
	require.Equal(t, s("two"), row["leaseOwner"])
	require.Equal(t, s("one"), row["checkpointOwner"])
	owned, err := store.ListOwned(t.Context(), "one")
	require.NoError(t, err)
	require.Empty(t, owned)
	owned, err = store.ListOwned(t.Context(), "two")
	require.NoError(t, err)
	require.Equal(t, []consumer.LeaseKey{key(leaseShard)}, owned, "the index has the next owner")
	lease.Owner, lease.NextOwner = "two", ""
	lease = setLease(t, store, lease)
	row = d.Items("billing")[leaseShard]
	require.Equal(t, s("two"), row["leaseOwner"])
	require.NotContains(t, row, "checkpointOwner")
	require.Equal(t, n("1"), row["ownerSwitchesSinceCheckpoint"])

	row["leaseOwner"], row["checkpointOwner"] = s("java-1"), s("two")
	d.Put(t, "billing", row)
	stored, err := store.CompareAndSet(t.Context(), lease)
	require.NoError(t, err)
	require.False(t, stored)
	got := getLease(t, store, leaseShard)
	require.Equal(t, "two", got.Owner)
	require.Equal(t, "java-1", got.NextOwner)
	require.Equal(t, lease.Version, got.Version)
	got.Checkpoint.ShardEnd = true
	setLease(t, store, got)
	require.Equal(t, n("0"), d.Items("billing")[leaseShard]["ownerSwitchesSinceCheckpoint"])
}

// The SDK repeats an attempt whose response was lost. If it then finds its own write, that is no
// conflict.
func TestWriteWhoseAnswerIsLostIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dynamotest.New()
		store := ordersStore(t, d, nil)
		lease := consumer.Lease{LeaseKey: key(leaseShard), Owner: "one"}
		for range 3 {
			lease = setLeaseUnanswered(t, d, store, lease)
			require.Equal(t, lease.Version, getLease(t, store, leaseShard).Version)
		}
		d.SetFaults(nil)
		other := ordersStore(t, d, nil)
		setLease(t, other, getLease(t, other, leaseShard))
		stored, err := store.CompareAndSet(t.Context(), lease)
		require.NoError(t, err)
		require.False(t, stored)
	})
}

// setLeaseUnanswered stores a lease. The response to the first attempt is lost.
func setLeaseUnanswered(t *testing.T, d *dynamotest.Service, store consumer.LeaseStore, lease consumer.Lease) consumer.Lease {
	t.Helper()
	lost := false
	d.SetFaults(func(op string, _ map[string]any) string {
		if op == "UpdateItem" && !lost {
			lost = true
			return "after abort"
		}
		return ""
	})
	lease = setLease(t, store, lease)
	require.True(t, lost)
	return lease
}

// A write that was stored although its answer was lost is refused when the SDK repeats it. That is
// no failure, so it costs nothing of the quota from which the SDK pays for retries, whatever retryer
// the client has.
func TestRefusalsCostNoRetries(t *testing.T) {
	standard := func(quota *ratelimit.TokenRateLimit) *retry.Standard {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.RateLimiter = quota })
	}
	for name, retryer := range map[string]func(quota *ratelimit.TokenRateLimit) aws.Retryer{
		"standard": func(quota *ratelimit.TokenRateLimit) aws.Retryer { return standard(quota) },
		"adaptive": func(quota *ratelimit.TokenRateLimit) aws.Retryer {
			return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
				o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) { o.RateLimiter = quota })
			})
		},
		"of the first version": func(quota *ratelimit.TokenRateLimit) aws.Retryer {
			return struct{ aws.Retryer }{standard(quota)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const tokens = 40 // for two retries at once
				quota := ratelimit.NewTokenRateLimit(tokens)
				d := dynamotest.New()
				client := d.Client(func(o *dynamodb.Options) { o.Retryer = retryer(quota) })
				store, err := awskinesis.NewLeaseStore(t.Context(), client, "billing", &awskinesis.LeaseStoreOptions{Stream: "orders", Logger: quietLogger()})
				require.NoError(t, err)
				lease := consumer.Lease{LeaseKey: key(leaseShard), Owner: "one"}
				for range 10 {
					lease = setLeaseUnanswered(t, d, store, lease)
				}
				require.EqualValues(t, tokens, quota.Remaining())
				d.SetFaults(func(string, map[string]any) string { return "abort" })
				_, err = store.CompareAndSet(t.Context(), lease)
				require.Error(t, err)
				require.Less(t, quota.Remaining(), uint(tokens), "failures cost")
			})
		})
	}
}

func TestLeaseKeysOfManyStreams(t *testing.T) {
	d := dynamotest.New()
	opts := &awskinesis.LeaseStoreOptions{Streams: []string{"123456789012:orders:1700000000", "123456789012:refunds:1700000001"}, Logger: quietLogger()}
	store, err := awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", opts)
	require.NoError(t, err)
	setLease(t, store, consumer.Lease{LeaseKey: key(leaseShard)})
	setLease(t, store, consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "refunds"}, Incarnation: 3})
	row := d.Items("billing")["123456789012:orders:1700000000:"+leaseShard]
	require.Equal(t, s("123456789012:orders:1700000000"), row["streamName"])
	require.Equal(t, s(leaseShard), row["shardId"])
	require.Contains(t, d.Items("billing-Braid"), "stream/refunds")
	d.Put(t, "billing", dynamotest.Item{"leaseKey": s("123456789012:former:1600000000:" + leaseShard), "leaseCounter": n("3"), "checkpoint": s("LATEST")})
	all, err := store.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2, "other streams are ignored")
	_, _, err = store.Get(t.Context(), consumer.LeaseKey{Stream: "former"})
	require.ErrorIs(t, err, braid.ErrInvalidArgument)

	_, err = awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", &awskinesis.LeaseStoreOptions{Stream: "orders"})
	require.ErrorIs(t, err, braid.ErrInvalidArgument, "the application has several streams")
	d = dynamotest.New()
	setLease(t, ordersStore(t, d, nil), consumer.Lease{LeaseKey: key(leaseShard)})
	_, err = awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", opts)
	require.ErrorIs(t, err, braid.ErrInvalidArgument, "the application has one stream")
}

func TestErrorsOfTheLeaseTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dynamotest.New()
		once := func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} }
		store, err := awskinesis.NewLeaseStore(t.Context(), d.Client(once), "billing", &awskinesis.LeaseStoreOptions{Stream: "orders", Logger: quietLogger()})
		require.NoError(t, err)
		for code, want := range map[string]error{
			"ProvisionedThroughputExceededException": braid.ErrThroughputExceeded,
			"ThrottlingException":                    braid.ErrThroughputExceeded,
			"AccessDeniedException":                  nil,
			"ValidationException":                    nil,
			"ResourceNotFoundException":              nil,
		} {
			d.SetFaults(func(string, map[string]any) string { return code })
			_, listed := store.List(t.Context())
			_, _, got := store.Get(t.Context(), key(leaseShard))
			_, set := store.CompareAndSet(t.Context(), consumer.Lease{LeaseKey: key(leaseShard)})
			_, deleted := store.Delete(t.Context(), consumer.Lease{LeaseKey: key(leaseShard), Version: 1})
			_, owned := store.ListOwned(t.Context(), "one")
			for _, err := range []error{listed, got, set, deleted, owned} {
				var permanent *consumer.PermanentError
				require.ErrorContains(t, err, code)
				if want != nil {
					require.ErrorIs(t, err, want)
					require.NotErrorAs(t, err, &permanent)
				} else {
					require.ErrorAs(t, err, &permanent)
				}
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errBroken)
		_, err = store.List(ctx)
		require.Equal(t, errBroken, err)
		d.SetFaults(nil)
		d.Put(t, "billing", dynamotest.Item{"leaseKey": s(leaseShard), "leaseCounter": n("0"), "checkpoint": s("nonsense")})
		_, err = store.List(t.Context())
		require.ErrorContains(t, err, leaseShard)
		require.ErrorAs(t, err, new(*consumer.PermanentError))
	})
}
