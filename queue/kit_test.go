package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

var ctx = context.Background()

// noWait makes a receive not wait.
var noWait = &queue.ReceiveOptions{Wait: -1}

// kit is a database in memory with a stream, in a bubble.
type kit struct {
	*testing.T
	db     *braid.DB
	stream *braid.Stream
}

// bubble runs a test in a bubble, with a database.
func bubble(t *testing.T, body func(k *kit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, &braid.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		require.NoError(t, err)
		defer func() {
			if err := db.Close(); !errors.Is(err, braid.ErrClosed) {
				require.NoError(t, err)
			}
		}()
		s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		body(&kit{t, db, s})
	})
}

// open opens a queue on the stream.
func (k *kit) open(name string, o queue.Options) *queue.Queue {
	k.Helper()
	o.Stream = "s"
	q, err := queue.Open(ctx, k.db, name, &o)
	require.NoError(k, err)
	return q
}

// put puts n records, whose data counts from 0.
func (k *kit) put(n int) {
	k.Helper()
	for i := range n {
		_, err := k.stream.PutRecord(ctx, fmt.Sprint("key", i), []byte(fmt.Sprint(i)))
		require.NoError(k, err)
	}
}

// putOne puts a record under a hash key.
func (k *kit) putOne(text string, hash braid.HashKey) error {
	_, err := k.stream.PutRecords(ctx, []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &hash, Data: []byte(text)}})
	return err
}

// putAnd puts a record, and calls fn when it is durable but not visible yet.
func (k *kit) putAnd(text string, fn func()) {
	k.Helper()
	err := k.db.Update(ctx, func(tx *braid.Tx) error {
		require.NoError(k, tx.PutRecord("s", "key", []byte(text)))
		return queue.JoinCommit(tx, fn)
	})
	require.NoError(k, err)
}

// receive receives up to n records without waiting.
func (k *kit) receive(q *queue.Queue, n int) []queue.Record {
	k.Helper()
	records, err := q.Receive(ctx, n, noWait)
	require.NoError(k, err)
	return records
}

func (k *kit) describe(q *queue.Queue) *queue.Description {
	k.Helper()
	d, err := q.Describe(ctx)
	require.NoError(k, err)
	return d
}

// receipts returns the receipts of records.
func receipts(records []queue.Record) (all []queue.Receipt) {
	for i := range records {
		all = append(all, records[i].Receipt)
	}
	return all
}

func texts(records []queue.Record) (all []string) {
	for i := range records {
		all = append(all, string(records[i].Data))
	}
	return all
}

const second = time.Second
