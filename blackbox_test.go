package braid_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// These helpers serve the black-box tests, which use the package as its users do:
// stream_test.go, record_test.go, shard_test.go, follow_test.go and so on, one file for each
// subject.

// boxOpen opens a database in memory, which is closed when the test ends.
func boxOpen(t *testing.T, options *braid.Options) *braid.DB {
	t.Helper()
	return boxOpenDir(t, braid.InMemory, options)
}

// boxOpenDir opens a directory. The test may close the database itself.
func boxOpenDir(t *testing.T, dir string, options *braid.Options) *braid.DB {
	t.Helper()
	db, err := braid.Open(dir, options)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := db.Close(); !errors.Is(err, braid.ErrClosed) {
			require.NoError(t, err)
		}
	})
	return db
}

// boxStream opens a stream of a new database in memory.
func boxStream(t *testing.T, shards int) (*braid.DB, *braid.Stream) {
	t.Helper()
	db := boxOpen(t, nil)
	return db, boxOpenStream(t, db, "s", shards)
}

func boxOpenStream(t *testing.T, db *braid.DB, name string, shards int) *braid.Stream {
	t.Helper()
	stream, err := db.OpenStream(t.Context(), name, &braid.StreamOptions{Shards: shards})
	require.NoError(t, err)
	return stream
}

// boxPut puts records under one partition key, and returns their numbers.
func boxPut(t *testing.T, stream *braid.Stream, data ...string) []braid.SequenceNumber {
	t.Helper()
	numbers := make([]braid.SequenceNumber, len(data))
	for i, d := range data {
		result, err := stream.PutRecord(t.Context(), "key", []byte(d))
		require.NoError(t, err)
		numbers[i] = result.SequenceNumber
	}
	return numbers
}

// boxFill puts n records of that many bytes with one call.
func boxFill(t *testing.T, stream *braid.Stream, n, bytes int) []braid.PutResult {
	t.Helper()
	entries := make([]braid.Entry, n)
	for i := range entries {
		entries[i] = braid.Entry{PartitionKey: fmt.Sprint("key-", i), Data: make([]byte, bytes)}
	}
	results, err := stream.PutRecords(t.Context(), entries)
	require.NoError(t, err)
	return results
}

// boxRead returns the data of all records, and the error that ended the loop.
func boxRead(records iter.Seq2[braid.Record, error]) (data []string, err error) {
	for rec, err := range records {
		if err != nil {
			return data, err
		}
		data = append(data, string(rec.Data))
	}
	return data, nil
}

// boxAll is boxRead, and requires that there is no error.
func boxAll(t *testing.T, records iter.Seq2[braid.Record, error]) []string {
	t.Helper()
	data, err := boxRead(records)
	require.NoError(t, err)
	return data
}

// boxInvalid requires an ErrInvalidArgument for the field, and returns it.
func boxInvalid(t *testing.T, err error, field string) *braid.InvalidArgumentError {
	t.Helper()
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	var invalid *braid.InvalidArgumentError
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, field, invalid.Field)
	require.NotEmpty(t, invalid.Rule)
	require.Contains(t, err.Error(), field)
	require.Contains(t, err.Error(), invalid.Rule)
	return invalid
}

// boxFollower is a loop over records that runs beside the test.
type boxFollower struct {
	data  []string   // read it only after synctest.Wait, or after ended
	ended chan error // gets one error, or nil
}

// boxFollow starts a follower. A test that ends the loop's context, its database or its
// stream must receive from ended.
func boxFollow(records iter.Seq2[braid.Record, error]) *boxFollower {
	f := &boxFollower{ended: make(chan error, 1)}
	go func() {
		for rec, err := range records {
			if err != nil {
				f.ended <- err
				return
			}
			f.data = append(f.data, string(rec.Data))
		}
		f.ended <- nil
	}()
	return f
}

// boxCause returns a context that has ended, and its cause.
func boxCause(t *testing.T) (context.Context, error) {
	t.Helper()
	cause := errors.New("the user went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	return ctx, cause
}
