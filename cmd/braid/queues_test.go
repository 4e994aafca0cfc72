package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// deadQueue creates a queue whose records are all dead.
func (k *kit) deadQueue(name string, records int) *queue.Queue {
	k.t.Helper()
	k.stream("orders", 1, records)
	q, err := queue.Create(k.t.Context(), k.db, name, &queue.Options{Stream: "orders"})
	require.NoError(k.t, err)
	k.reject(q, records)
	return q
}

func (k *kit) reject(q *queue.Queue, records int) {
	k.t.Helper()
	got, err := q.Receive(k.t.Context(), records, &queue.ReceiveOptions{Whole: true})
	require.NoError(k.t, err)
	require.Len(k.t, got, records)
	receipts := make([]queue.Receipt, records)
	for i := range got {
		receipts[i] = got[i].Receipt
	}
	require.NoError(k.t, q.Reject(k.t.Context(), "no mailbox", receipts...))
}

func (k *kit) dead(q *queue.Queue) (data []string) {
	k.t.Helper()
	for rec, err := range q.DeadLetters().All(k.t.Context()) {
		require.NoError(k.t, err)
		data = append(data, string(rec.Data))
	}
	return data
}

func TestDeadLettersAreListedAndSettled(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		q := k.deadQueue("mails", 5)
		list := k.ok("deadletters", "mails", "-n", "2")
		lines := strings.Split(list, "\n")
		require.Regexp(t, `^ID +ARRIVED +RECEIVES +KEY +DATA +REASON$`, lines[0])
		require.Regexp(t, `^00000000[0-9a-f]{16}  2000-01-01T00:00:00Z +1  k0 +0 +no mailbox$`, lines[1])
		require.Equal(t, "3 more are not shown.", lines[3])
		var rows []struct {
			ID, Reason string
			Receives   int
			InFlight   bool
			Record     struct{ PartitionKey, Text string }
		}
		require.NoError(t, json.Unmarshal([]byte(k.ok("deadletters", "mails", "--json")), &rows))
		require.Len(t, rows, 5)
		require.Equal(t, "no mailbox", rows[1].Reason)
		require.Equal(t, "1", rows[1].Record.Text)
		require.Equal(t, "k1", rows[1].Record.PartitionKey)

		require.Equal(t, "2 records of queue mails can be received again.\n", k.ok("restore", "mails", rows[0].ID, rows[2].ID))
		require.Equal(t, []string{"1", "3", "4"}, k.dead(q))
		require.Equal(t, "1 dead letter of queue mails is discarded, which cannot be undone: confirm it with --yes\n", k.fails(exitUsage, "discard", "mails", rows[1].ID))
		require.Equal(t, []string{"1", "3", "4"}, k.dead(q))
		require.Equal(t, "1 dead letter has left queue mails.\n", k.ok("discard", "mails", rows[1].ID, "--yes"))
		require.Equal(t, []string{"3", "4"}, k.dead(q))

		// If one ID is invalid, nothing is done for any of them.
		require.Equal(t, "queue mails has no dead letter with the ID \"x\"; nothing was done\n", k.fails(exitNotFound, "restore", "mails", rows[3].ID, "x"))
		k.fails(exitNotFound, "discard", "mails", rows[1].ID, "--yes")
		require.Contains(t, k.fails(exitUsage, "restore", "mails"), "give IDs from the list of deadletters, or --all")
		require.Contains(t, k.fails(exitUsage, "discard", "mails", "x", "--all"), "exclude each other")
		require.Contains(t, k.fails(exitUsage, "deadletters", "mails", "-n", "0"), "1 to 1,000")
		for _, args := range [][]string{{"deadletters", "none"}, {"restore", "none", "--all"}, {"restore", "none", "x"}, {"discard", "none", "--all"}} {
			require.Contains(t, k.fails(exitNotFound, args...), "no such queue")
		}
		require.Equal(t, []string{"3", "4"}, k.dead(q))
		held, err := q.DeadLetters().Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Contains(t, k.ok("deadletters", "mails"), "(held by a receiver of dead letters)")
		require.Contains(t, k.fails(exitFailure, "restore", "mails", held[0].ID), "is held by a receiver of dead letters; nothing was done")
		require.Equal(t, "1 dead letter has left queue mails.\n", k.ok("discard", "mails", "--all", "--yes"))
		require.Equal(t, []string{"3"}, k.dead(q), "somebody has it")

		require.Equal(t, "{\n  \"Restored\": 1\n}\n", k.ok("restore", "mails", "--all", "--json"))
		require.Equal(t, "There are no dead letters.\n", k.ok("deadletters", "mails"))
		require.Equal(t, "0 dead letters have left queue mails.\n", k.ok("discard", "mails", "--all"))
	})
}

// discard --all discards more than one answer lists.
func TestManyDeadLettersAreDiscarded(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		q := k.deadQueue("mails", 2100)
		require.Contains(t, k.fails(exitFailure, "restore", "mails", "x"), "none of the oldest 1,000 dead letters of queue mails")
		require.Equal(t, "2,100 dead letters have left queue mails.\n", k.ok("discard", "mails", "--all", "--yes"))
		require.Empty(t, k.dead(q))
	})
}

func TestDelete(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		q := k.deadQueue("mails", 3)
		require.Equal(t, "stream orders is deleted with all its 3 records of 9 bytes in 1 shard, which cannot be undone: confirm it with --yes\n",
			k.fails(exitUsage, "delete", "orders"))
		require.Contains(t, k.fails(exitFailure, "delete", "orders", "--yes"), "deleted first")
		require.NoError(t, q.Delete(t.Context()))
		require.Equal(t, "Stream orders is deleted, with 3 records.\n", k.ok("delete", "orders", "--yes"))
		_, err := k.db.Stream("orders")
		require.ErrorIs(t, err, braid.ErrStreamNotFound)
		require.Contains(t, k.fails(exitNotFound, "delete", "orders", "--yes"), "no such stream")
	})
}

// A stream that is created over the network is the same as one created in a directory.
func TestCreateIsTheSameBothWays(t *testing.T) {
	var made []string
	bothWays(t, func(t *testing.T, k *kit) {
		k.ok("create", "orders", "--shards", "3", "--retention", "7d", "--retention-bytes", "1GiB", "--max-record", "2MiB", "--tag", "a=b")
		k.ok("create", "load", "--on-demand", "--retention", "unlimited")
		made = append(made, k.ok("describe", "orders", "--json")+k.ok("describe", "load", "--json"))
		require.Contains(t, k.fails(exitFailure, "create", "orders"), "exists")
		require.Contains(t, k.fails(exitFailure, "create", "a/b"), "invalid argument")
	})
	require.Equal(t, made[0], made[1])
}
