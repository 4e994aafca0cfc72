package queue_test

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

// Tests of receivers in line, on disks that fail, fill up or lose power.

func openOn(t *testing.T, fs vfs.FS, o *braid.Options) *braid.DB {
	t.Helper()
	db, err := companion.Open("/db", o, companion.Environment{FS: fs})
	require.NoError(t, err)
	return db.(*braid.DB)
}

// onTestDisk creates a database with a stream, on a disk that can be made to fail.
func onTestDisk(t *testing.T) (*kit, *testdisk.Disk) {
	t.Helper()
	disk := testdisk.New()
	db := openOn(t, vfs.FS(disk), &braid.Options{ReserveBytes: 8 << 20})
	s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2, Retention: -1})
	require.NoError(t, err)
	return &kit{t, db, s}, disk
}

// While the disk is full, an acknowledgement delivers nothing to waiting receivers.
// Otherwise receivers that acknowledge in turns would use up the space that is reserved
// for acknowledgements.
func TestAcknowledgementsOnAFullDiskDeliverNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onTestDisk(t)
		free := func(n uint64) { disk.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40}) }
		free(1 << 30)
		q := k.open("q", queue.Options{OrderByKey: true, VisibilityTimeout: 12 * time.Hour})
		k.putKeys("A1", "A2", "A3")
		r := k.receive(q, 9)
		require.Equal(t, []string{"A1"}, texts(r))
		require.NoError(t, k.db.Close())
		free(1 << 20)
		k.db = openOn(t, vfs.FS(disk), &braid.Options{ReserveBytes: 8 << 20})
		q, err := queue.Get(ctx, k.db, "q")
		require.NoError(t, err)
		failed := make(chan error, 1)
		go func() {
			_, err := q.Receive(ctx, 1, nil)
			failed <- err
		}()
		synctest.Wait()
		require.Empty(t, failed, "all others are held back")
		require.NoError(t, q.Ack(ctx, receipts(r)...))
		require.ErrorIs(t, <-failed, braid.ErrDiskFull)
		require.Zero(t, k.describe(q).InFlight)
		free(1 << 30)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"A2"}, texts(k.receive(q, 9)))
		require.NoError(t, k.db.Close())
	})
}

// A receiver that is served by the last commit of a closing database gets its records,
// because nobody can give them back.
func TestAReceiverThatIsServedWhileTheDatabaseCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onTestDisk(t)
		q := k.open("q", queue.Options{MaxReceives: 1})
		served, empty := waits(q, ctx, 1, queue.ReceiveOptions{}), waits(q, ctx, 1, queue.ReceiveOptions{})
		release := disk.Hold(func(op testdisk.Op) bool { return op.OnLog() && op.Syncs() })
		put, closed := make(chan error, 1), make(chan error, 1)
		go func() { put <- k.putOne("last", braid.HashKey{}) }()
		<-disk.Held()
		go func() { closed <- k.db.Close() }()
		synctest.Wait()
		require.Empty(t, <-empty)
		release()
		require.NoError(t, <-put)
		require.NoError(t, <-closed)
		require.Equal(t, []string{"last"}, texts(<-served))
	})
}

// Receivers that are served by a commit that fails return with the database's error at
// once, whatever they would otherwise wait for. The receiver that was given the record learns
// that its outcome is unknown: the delivery may be durable, and count.
func TestReceiversThatAreServedByACommitThatFails(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		k, disk := onTestDisk(t)
		q := k.open("q", queue.Options{})
		waits := []time.Duration{0, time.Millisecond, time.Hour}
		failed := make(chan error)
		for _, wait := range waits {
			go func() {
				_, err := q.Receive(ctx, 1, &queue.ReceiveOptions{Wait: wait})
				failed <- err
			}()
		}
		synctest.Wait()
		disk.FailAlways(testdisk.Op.Changes, syscall.EIO)
		start := time.Now()
		require.ErrorIs(t, k.putOne("lost", braid.HashKey{}), braid.ErrFailed)
		unknown := 0
		for range waits {
			err := <-failed
			require.ErrorIs(t, err, braid.ErrFailed)
			if errors.Is(err, braid.ErrOutcomeUnknown) {
				unknown++
			}
		}
		require.Equal(t, 1, unknown)
		require.Zero(t, time.Since(start))
	})
}

// For a receiver that waits for few bytes, no more than that is read of a large put.
func TestReceiversThatWaitReadNoMoreThanTheyTake(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		got := waits(q, ctx, 10_000, queue.ReceiveOptions{Bytes: 25_000})
		entries := make([]braid.Entry, 300)
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: "k", Data: make([]byte, 10_000)}
		}
		_, err := k.stream.PutRecords(ctx, entries)
		require.NoError(t, err)
		require.Len(t, <-got, 2)
		require.Less(t, queue.AheadBytes(q), 25_000)
		require.Len(t, k.receive(q, 10_000), len(entries)-2)
	})
}

// A record from before the queue's start is delivered to nobody, even if a receiver
// waits.
func TestARecordFromBeforeTheStartIsNotDelivered(t *testing.T) {
	bubble(t, func(k *kit) {
		time.Sleep(second)
		q := k.open("q", queue.Options{Start: braid.AtTime(time.Now().Add(1))})
		got := waits(q, ctx, 1, queue.ReceiveOptions{})
		_, err := k.stream.PutRecords(ctx, []braid.Entry{
			{PartitionKey: "k", Data: []byte("before")}, {PartitionKey: "k", Data: []byte("after")},
		})
		require.NoError(t, err)
		require.Equal(t, []string{"after"}, texts(<-got))
	})
}

// The records of a commit are counted when others see them, and then all of them, however
// many of them receivers in the line get.
func TestRecordsOnTheirWayAreNotCounted(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		bubble(t, func(k *kit) {
			q := k.open("q", queue.Options{OrderByKey: ordered})
			k.put(1)
			require.Len(t, k.receive(q, 9), 1)
			got := waits(q, ctx, 2, queue.ReceiveOptions{})
			require.NoError(t, k.db.Update(ctx, func(tx *braid.Tx) error {
				for range 3 {
					require.NoError(t, tx.PutRecord("s", "key", nil))
				}
				return queue.JoinCommit(tx, func() {
					d := k.describe(q)
					require.Equal(t, []int64{0, 1, 0}, []int64{d.Visible, d.InFlight, d.Held})
				})
			}))
			n := int64(len(<-got))
			d := k.describe(q)
			require.Equal(t, 1+n, d.InFlight)
			require.EqualValues(t, 3, d.Visible+d.Held+n)
		})
	}
}
