package kinesistest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
)

func TestFail(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		client := k.Kinesis(once)
		k.Fail("PutRecord", 2, throttled)
		k.Fail("PutRecord", 1, "ResourceNotFoundException")
		k.Fail("PutRecord", 1, "InternalFailure")
		require.Len(t, putRecords(t, client, "not meant").Records, 1)
		require.ErrorAs(t, putRecord(t.Context(), client, "a", "1"), new(*types.ProvisionedThroughputExceededException))
		require.ErrorAs(t, putRecord(t.Context(), client, "a", "2"), new(*types.ProvisionedThroughputExceededException))
		require.ErrorAs(t, putRecord(t.Context(), client, "a", "3"), new(*types.ResourceNotFoundException))
		require.ErrorContains(t, putRecord(t.Context(), client, "a", "4"), "StatusCode: 500")
		require.NoError(t, putRecord(t.Context(), client, "a", "5"))
		k.RequireRecords("orders", "not meant", "5")
	})
}

// An injected error is not a failure of the kit, so the test's log does not show one.
func TestOrderedFaultsAreNotLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := (&fakeTB{TB: t}).run(func(tb testing.TB) {
			k := New(tb, Stream("orders", 1))
			client := k.Kinesis(once)
			for _, code := range []string{"InternalFailure", "InternalFailureException", "ServiceUnavailable", "KMSAccessDeniedException"} {
				k.Fail("PutRecord", 1, code)
				require.Error(t, putRecord(t.Context(), client, "a", code))
				k.FailEntries(code, 0)
				require.EqualValues(t, 1, *putRecords(t, client, code).FailedRecordCount)
			}
			k.DropBefore("PutRecord", 1)
			require.Error(t, putRecord(t.Context(), client, "a", "dropped"))
			k.DropAfter("PutRecord", 1)
			require.Error(t, putRecord(t.Context(), client, "a", "dropped"))
			k.Delay("PutRecord", 1, time.Hour)
			broken := make(chan error, 1)
			go func() { broken <- putRecord(t.Context(), client, "a", "broken off") }()
			synctest.Wait()
			k.Crash()
			require.Error(t, <-broken)
			require.NoError(t, putRecord(t.Context(), client, "a", "after"))
		})
		require.Empty(t, f.errors)
		require.Empty(t, f.out.String())
	})
}

func TestTheSDKTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		k.Fail("PutRecord", 1, throttled)
		k.DropBefore("PutRecord", 1)
		require.NoError(t, putRecord(t.Context(), k.Kinesis(), "a", "one"))
		require.Equal(t, []string{throttled, noAnswer, ""}, errorsOf(k.Calls("PutRecord")))
		k.RequireRecords("orders", "one")

		k.DropAfter("PutRecord", 1)
		require.NoError(t, putRecord(t.Context(), k.Kinesis(), "a", "two"))
		k.RequireRecords("orders", "one", "two", "two")
	})
}

func errorsOf(calls []Call) (names []string) {
	for _, c := range calls {
		names = append(names, c.Err)
	}
	return names
}

func TestFailEntries(t *testing.T) {
	inAndOut(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		client := k.Kinesis()
		k.FailEntries(throttled, 2, 5)
		out := putRecords(t, client, "0", "1", "2", "3", "4", "5", "6")
		require.EqualValues(t, 2, *out.FailedRecordCount)
		for i, entry := range out.Records {
			if i == 2 || i == 5 {
				require.Equal(t, throttled, *entry.ErrorCode)
				require.Nil(t, entry.SequenceNumber)
				continue
			}
			require.Nil(t, entry.ErrorCode)
			require.NotNil(t, entry.SequenceNumber)
		}
		k.RequireRecords("orders", "0", "1", "3", "4", "6")
		calls := k.Calls("PutRecords")
		require.Len(t, calls, 1)
		require.Equal(t, []int{2, 5}, calls[0].Refused)
		require.Len(t, calls[0].Input.(*kinesis.PutRecordsInput).Records, 7)

		k.FailEntries("InternalFailure", 0)
		require.EqualValues(t, 1, *putRecords(t, client, "7").FailedRecordCount)
		require.EqualValues(t, 0, *putRecords(t, client, "7").FailedRecordCount)

		k.FailEntries("InternalFailure", 0)
		_, err := client.PutRecords(t.Context(), &kinesis.PutRecordsInput{
			StreamName: aws.String("absent"), Records: []types.PutRecordsRequestEntry{{PartitionKey: aws.String("a"), Data: []byte("8")}},
		})
		require.ErrorAs(t, err, new(*types.ResourceNotFoundException), "a stream that is not there has no entries to fail")
	})
}

func TestDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := New(t, Stream("orders", 1))
		client := k.Kinesis(once)
		k.Delay("PutRecord", 2, time.Minute)
		began := time.Now()
		require.NoError(t, putRecord(t.Context(), client, "a", "one"))
		require.Equal(t, time.Minute, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, putRecord(ctx, client, "a", "two"), context.DeadlineExceeded)
		require.Equal(t, []string{"", noAnswer}, errorsOf(k.Calls("PutRecord")))
		k.RequireRecords("orders", "one")
	})
}
