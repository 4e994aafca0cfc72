package service

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// rowsOf returns the keys of all rows of streams and queues.
func rowsOf(t *testing.T, s *Service) (keys []string) {
	require.NoError(t, s.db.View(t.Context(), func(tx *braid.Tx) error {
		for _, prefix := range []string{streamRowPrefix, queueRowPrefix} {
			for row, err := range tx.Scan([]byte(prefix), []byte(prefix+"\xff")) {
				require.NoError(t, err)
				keys = append(keys, string(row.Key))
			}
		}
		return nil
	}))
	return keys
}

// A service that starts deletes the rows whose stream or queue was deleted without them, by the
// application or before a crash. It keeps all others.
func TestRowsWithoutAStreamOrQueueAreSwept(t *testing.T) {
	s := newService(t, Options{})
	ctx, c := t.Context(), Caller{"000000000000", "us-east-1"}
	for _, name := range []string{"gone", "other", "stays"} {
		_, err := s.CreateStream(ctx, c, &CreateStreamInput{StreamName: &name})
		require.NoError(t, err)
	}
	var id string // of the queue that stays
	for i := range 2*sweptAtOnce + 1 {
		out, err := s.CreateQueue(ctx, c, &CreateQueueInput{
			QueueName:               new(fmt.Sprint("q", i)),
			StreamConfigurationList: []QueueStreamConfiguration{{StreamARN: new("arn:aws:kinesis:us-east-1:000000000000:stream/stays")}},
			Tags:                    map[string]string{"n": fmt.Sprint(i)},
		})
		require.NoError(t, err)
		q, err := s.queue(ctx, c, out.QueueDescription.QueueARN)
		require.NoError(t, err)
		if id = q.queue.ID(); i < 2*sweptAtOnce {
			require.NoError(t, q.queue.Delete(ctx))
		}
	}
	require.NoError(t, s.db.DeleteStream(ctx, "gone"))
	require.NoError(t, s.db.DeleteStream(ctx, "other"))
	_, err := s.db.CreateStream(ctx, "other", nil) // another one of that name, without a row
	require.NoError(t, err)
	require.Len(t, rowsOf(t, s), 3+2*sweptAtOnce+1)

	again, err := New(s.db, s.opts)
	require.NoError(t, err)
	defer again.Close()
	require.Equal(t, []string{streamRowPrefix + "stays", queueRowPrefix + id}, rowsOf(t, s))
	q, err := queue.Get(ctx, s.db, id)
	require.NoError(t, err)
	row, err := again.readQueueRow(ctx, q)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"n": fmt.Sprint(2 * sweptAtOnce)}, row.Tags)
}

// A row that becomes useful after it was found useless stays.
func TestASweepKeepsTheRowOfANewStream(t *testing.T) {
	s := newService(t, Options{})
	ctx := t.Context()
	create := &CreateStreamInput{StreamName: new("s")}
	_, err := s.CreateStream(ctx, Caller{}, create)
	require.NoError(t, err)
	require.NoError(t, s.db.DeleteStream(ctx, "s"))
	useless, err := s.uselessRows(ctx)
	require.NoError(t, err)
	require.Len(t, useless, 1)
	runs := 0
	require.NoError(t, s.db.Update(ctx, func(tx *braid.Tx) error {
		err := s.deleteUseless(ctx, tx, useless)
		if runs++; runs == 1 { // after the check, before the commit
			require.NoError(t, err)
			_, err := s.CreateStream(ctx, Caller{}, create)
			require.NoError(t, err)
		}
		return err
	}))
	require.Equal(t, 2, runs)
	stream, err := s.db.Stream("s")
	require.NoError(t, err)
	row, err := s.readRow(ctx, stream)
	require.NoError(t, err)
	require.Equal(t, modeOnDemand, row.Mode)
	require.NoError(t, s.db.View(ctx, func(tx *braid.Tx) error {
		value, err := tx.Get(rowKey("s"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(value, &row))
		return nil
	}))
	require.Equal(t, stream.CreatedAt().UnixNano(), row.Created)
}
