package consumer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// place returns the checkpoint after a numbered record, or inside it.
func place(t *testing.T, n, sub int, partial bool) Checkpoint {
	t.Helper()
	return Checkpoint{SequenceNumber: numbered(t, n, n)[0].SequenceNumber, SubSequenceNumber: sub, Partial: partial}
}

// Places in the order of a shard: each is before all that follow, and before none of the
// earlier ones.
func TestCheckpointsAreInTheOrderOfTheShard(t *testing.T) {
	ascending := []Checkpoint{
		{Start: braid.TrimHorizon()},
		place(t, 1, 0, true), // the first of an aggregate
		place(t, 1, 0, false),
		place(t, 1, 1, true),
		place(t, 1, 2, true),
		place(t, 1, 2, false),
		place(t, 2, 0, false),
		place(t, 10, 0, true),
		{ShardEnd: true},
	}
	for i, a := range ascending {
		for j, b := range ascending {
			require.Equal(t, i < j, a.before(b), "%s, %s", a, b)
			require.Equal(t, i == j, a.Equal(b), "%s, %s", a, b)
			if a.SequenceNumber.IsZero() || b.SequenceNumber.IsZero() {
				continue // precedes is for places of records
			}
			same := a.SequenceNumber == b.SequenceNumber && a.SubSequenceNumber == b.SubSequenceNumber
			require.Equal(t, i < j && !same, a.precedes(b), "%s, %s", a, b)
		}
	}
}

// Checkpoints of different origin may be equal; those with different starts are not.
func TestCheckpointsAreEqualWhenTheirPlacesAre(t *testing.T) {
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	defer db.Close()
	orders, err := db.CreateStream(t.Context(), "orders", nil)
	require.NoError(t, err)
	put, err := orders.PutRecord(t.Context(), "k", nil)
	require.NoError(t, err)
	page, err := orders.Shards()[0].GetRecords(t.Context(), braid.TrimHorizon(), nil)
	require.NoError(t, err)
	read, made := Checkpoint{Start: page.Next}, Checkpoint{Start: braid.AfterSequence(put.SequenceNumber)}
	require.True(t, read != made, "the operator sees what a position knows of the shard")
	require.True(t, read.Equal(made))
	at := time.Now()
	for _, row := range []struct {
		a, b Checkpoint
		same bool
	}{
		{Checkpoint{}, Checkpoint{Start: braid.TrimHorizon()}, true},
		{Checkpoint{}, Checkpoint{Start: braid.Latest()}, false},
		{Checkpoint{Start: braid.AtTime(at)}, Checkpoint{Start: braid.AtTime(at)}, true},
		{Checkpoint{Start: braid.AtTime(at)}, Checkpoint{Start: braid.AtTime(at.Add(1))}, false},
		{Checkpoint{ShardEnd: true}, Checkpoint{ShardEnd: true}, true},
		{Checkpoint{ShardEnd: true}, Checkpoint{}, false},
		{made, Checkpoint{Start: made.Start, ShardEnd: true}, false},
		{Checkpoint{Start: made.Start, ShardEnd: true}, Checkpoint{ShardEnd: true}, true},
		{Checkpoint{Start: made.Start, SequenceNumber: put.SequenceNumber}, Checkpoint{SequenceNumber: put.SequenceNumber}, true},
		{Checkpoint{Start: made.Start, SequenceNumber: put.SequenceNumber}, made, false},
	} {
		require.Equal(t, row.same, row.a.Equal(row.b), "%+v, %+v", row.a, row.b)
		require.Equal(t, row.same, row.b.Equal(row.a), "%+v, %+v", row.a, row.b)
	}
}

func TestCheckpointSaysWhereToReadOn(t *testing.T) {
	number := numbered(t, 1, 1)[0].SequenceNumber
	for _, row := range []struct {
		at   Checkpoint
		want braid.Position
		text string
	}{
		{Checkpoint{}, braid.TrimHorizon(), "TRIM_HORIZON"},
		{Checkpoint{Start: braid.Latest()}, braid.Latest(), "LATEST"},
		{Checkpoint{Start: braid.Latest(), SequenceNumber: number}, braid.AfterSequence(number), number.String()},
		{place(t, 1, 0, true), braid.AtSequence(number), number.String() + "/0"},
		{place(t, 1, 3, true), braid.AtSequence(number), number.String() + "/3"},
		{place(t, 1, 3, false), braid.AfterSequence(number), number.String() + "/3"},
		{Checkpoint{SequenceNumber: number, ShardEnd: true}, braid.AfterSequence(number), "SHARD_END"},
	} {
		require.True(t, row.want.Equal(row.at.position()), "%s: %s", row.text, row.at.position())
		require.Equal(t, row.text, row.at.String())
	}
}

// A lease only goes forward. It keeps its start, and a checkpoint that is prepared
// further ahead.
func TestLeaseAdvancesForwardOnly(t *testing.T) {
	start := braid.Latest()
	for _, row := range []struct {
		name              string
		at, pending, to   Checkpoint
		want, wantPending Checkpoint // the zero Checkpoint for none
	}{
		{name: "from the start", to: place(t, 1, 0, false), want: place(t, 1, 0, false)},
		{name: "on", at: place(t, 1, 0, false), to: place(t, 3, 0, false), want: place(t, 3, 0, false)},
		{name: "not back", at: place(t, 3, 0, false), to: place(t, 1, 0, false), want: place(t, 3, 0, false)},
		{name: "to where it is", at: place(t, 3, 0, false), to: place(t, 3, 0, false), want: place(t, 3, 0, false)},
		{name: "to the rest of an aggregate", at: place(t, 3, 1, true), to: place(t, 3, 1, false), want: place(t, 3, 1, false)},
		{name: "before what is prepared", at: place(t, 1, 0, false), pending: place(t, 5, 0, false), to: place(t, 4, 9, false), want: place(t, 4, 9, false), wantPending: place(t, 5, 0, false)},
		{name: "to what is prepared", pending: place(t, 5, 0, false), to: place(t, 5, 0, false), want: place(t, 5, 0, false)},
		{name: "inside of the aggregate that is prepared", pending: place(t, 5, 2, false), to: place(t, 5, 2, true), want: place(t, 5, 2, true), wantPending: place(t, 5, 2, false)},
		{name: "beyond what is prepared", pending: place(t, 5, 0, false), to: place(t, 6, 0, false), want: place(t, 6, 0, false)},
		{name: "to the end", at: place(t, 1, 0, false), pending: place(t, 5, 0, false), to: Checkpoint{ShardEnd: true}, want: Checkpoint{ShardEnd: true}},
		{name: "not from the end", at: Checkpoint{ShardEnd: true}, to: place(t, 9, 0, false), want: Checkpoint{ShardEnd: true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.at.Start, row.want.Start = start, start
			lease := Lease{Checkpoint: row.at}
			if !row.pending.SequenceNumber.IsZero() {
				lease.Pending, lease.PendingState = &row.pending, []byte("state")
			}
			lease.advance(row.to)
			require.Equal(t, row.want, lease.Checkpoint)
			if row.wantPending.SequenceNumber.IsZero() {
				require.Nil(t, lease.Pending)
				require.Nil(t, lease.PendingState)
				return
			}
			require.Equal(t, row.wantPending, *lease.Pending)
			require.Equal(t, "state", string(lease.PendingState))
		})
	}
}

func TestLeaseKeyCoversWhatIsBelowIt(t *testing.T) {
	app, stream, other := LeaseKey{}, LeaseKey{Stream: "orders"}, LeaseKey{Stream: "bills"}
	shard, next := LeaseKey{"orders", "shardId-000000000000"}, LeaseKey{"orders", "shardId-000000000001"}
	same := LeaseKey{"bills", "shardId-000000000000"} // shards of different streams have the same names
	for _, row := range []struct {
		key    LeaseKey
		covers []LeaseKey
		text   string
	}{
		{app, []LeaseKey{app, stream, other, shard, next, same}, "the application"},
		{stream, []LeaseKey{stream, shard, next}, "orders"},
		{other, []LeaseKey{other, same}, "bills"},
		{shard, []LeaseKey{shard}, "shardId-000000000000 of orders"},
	} {
		for _, key := range []LeaseKey{app, stream, other, shard, next, same} {
			covered := false
			for _, k := range row.covers {
				covered = covered || k == key
			}
			require.Equal(t, covered, row.key.covers(key), "%s, %s", row.key, key)
		}
		require.Equal(t, row.text, row.key.String())
	}
}

// The database keeps every field of a lease.
func TestStoredLeaseIsReadAsItWas(t *testing.T) {
	key := LeaseKey{"orders", "shardId-000000000000"}
	pending := place(t, 7, 4, false)
	for _, lease := range []Lease{
		{LeaseKey: key},
		{LeaseKey: key, Incarnation: 1 << 63, Version: 1 << 40, Epoch: 9, Owner: "w", NextOwner: "v\n\x00", Paused: true},
		{LeaseKey: key, Checkpoint: Checkpoint{Start: braid.AtTime(time.Unix(0, 12345))}},
		{LeaseKey: key, Checkpoint: Checkpoint{Start: braid.Latest(), ShardEnd: true}},
		{LeaseKey: key, Checkpoint: place(t, 3, 2, true)},
		{LeaseKey: key, Checkpoint: place(t, 3, 0, false), Pending: &pending, PendingState: []byte{0, 255}},
		{LeaseKey: key, Pending: &Checkpoint{ShardEnd: true}},
		{LeaseKey: LeaseKey{Stream: "orders"}, Paused: true},
		{LeaseKey: LeaseKey{}, Checkpoint: Checkpoint{Start: braid.Latest()}},
	} {
		row := dbLeases{app: "billing"}.key(lease.LeaseKey)
		stored := encodeLease(row, lease)
		read, err := decodeLease(row, stored)
		require.NoError(t, err)
		require.Equal(t, lease, read)
		for n := range stored { // a truncated or changed row is detected
			_, err := decodeLease(row, stored[:n])
			require.ErrorIs(t, err, braid.ErrCorrupt)
			changed := append([]byte(nil), stored...)
			changed[n] ^= 0x40
			_, err = decodeLease(row, changed)
			require.ErrorIs(t, err, braid.ErrCorrupt)
		}
	}
}
