package queue_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// many is more than one piece of the work that the passing of time makes.
const many = 3200

// putMany puts many records in few calls.
func (k *kit) putMany(n int) {
	k.Helper()
	for n > 0 {
		entries := make([]braid.Entry, min(n, 500))
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: fmt.Sprint(n - i)}
		}
		_, err := k.stream.PutRecords(ctx, entries)
		require.NoError(k, err)
		n -= len(entries)
	}
}

// While the mutex is held, time passes for few records only, however many lapse, die or expire at
// once. No call shows that.
func TestTimePassesInPieces(t *testing.T) {
	for name, one := range map[string]struct {
		options queue.Options
		pass    func(k *kit, q *queue.Queue)
		shown   func(d *queue.Description) int64
	}{
		"lapse": {
			queue.Options{},
			func(*kit, *queue.Queue) { time.Sleep(time.Minute) },
			func(d *queue.Description) int64 { return d.Visible },
		},
		"die": {
			queue.Options{MaxReceives: 1},
			func(*kit, *queue.Queue) { time.Sleep(time.Minute) },
			func(d *queue.Description) int64 { return d.Dead },
		},
		"die by a lower limit": {
			queue.Options{MaxReceives: 2},
			func(k *kit, q *queue.Queue) {
				time.Sleep(time.Minute)
				require.NoError(k, q.Update(ctx, func(o *queue.Options) { o.MaxReceives = 1 }))
			},
			func(d *queue.Description) int64 { return d.Dead },
		},
		"trim": {
			queue.Options{},
			func(k *kit, _ *queue.Queue) { require.NoError(k, k.stream.Trim(ctx, braid.Latest())) },
			func(d *queue.Description) int64 { return d.ExpiredReceived },
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(k *kit) {
				q := k.open("q", one.options)
				k.putMany(many)
				require.Len(k, k.receive(q, many), many)
				one.pass(k, q)
				before := queue.Looks(q)
				for range 3 { // each call may do one piece, and its commit another
					_ = q.Ack(ctx, "invalid")
				}
				require.Less(k, queue.Looks(q)-before, many/2)
				d := k.describe(q)
				require.EqualValues(k, many, one.shown(d))
				require.EqualValues(k, many, d.Visible+d.InFlight+d.Dead+d.ExpiredReceived)
			})
		})
	}
}

// Of thousands of records that lapse at once, each can be settled by its last receipt only as one
// that has lapsed, whether or not the queue has noticed that it has.
func TestReceiptsOfManyThatLapseAtOnce(t *testing.T) {
	for name, most := range map[string]int{"lapse": 3, "die": 1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(k *kit) {
				q := k.open("q", queue.Options{MaxReceives: most})
				k.putMany(many)
				records := k.receive(q, many)
				time.Sleep(time.Minute)
				last := records[1].Receipt // of equal ones, the heap of due entries yields the second last
				for _, err := range []error{q.Extend(ctx, time.Minute, last), q.Release(ctx, 0, last), q.Return(ctx, last), q.Reject(ctx, "", last)} {
					require.ErrorIs(k, err, queue.ErrReceiptExpired)
				}
				require.NoError(k, q.Ack(ctx, last))
				d := k.describe(q)
				require.EqualValues(k, many-1, d.Visible+d.Dead)
				require.EqualValues(k, many, d.Lapsed)
			})
		})
	}
}

// Records that can be received are, even behind thousands that have died or expired since.
func TestThereAreRecordsBehindManyThatTimeHasRemoved(t *testing.T) {
	for name, dead := range map[string]bool{"records": false, "letters": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(k *kit) {
				q := k.open("q", queue.Options{MaxReceives: 2})
				k.putMany(many)
				first := k.receive(q, many)
				require.NoError(k, q.Release(ctx, 0, receipts(first)...))
				_, err := q.Receive(ctx, many, &queue.ReceiveOptions{Wait: -1, Whole: true})
				require.NoError(k, err)
				time.Sleep(20 * second)
				k.putMany(1)
				require.Len(k, k.receive(q, 1), 1)
				time.Sleep(40 * second) // the first ones have died; the last one has lapsed
				if dead {
					letters, err := q.DeadLetters().Receive(ctx, many, noWait)
					require.NoError(k, err)
					require.Len(k, letters, many)
					return
				}
				require.Len(k, k.receive(q, 1), 1)
			})
		})
	}
}

// A receiver that waits gets its record, even if thousands of others lapse and die first.
func TestAWaiterBehindManyThatDie(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1, MaxInFlight: many})
		k.putMany(many)
		require.Len(k, k.receive(q, many), many)
		k.putMany(1)
		begun := time.Now()
		records, err := q.Receive(ctx, 1, nil)
		require.NoError(k, err)
		require.Len(k, records, 1)
		require.Equal(k, 30*second, time.Since(begun))
	})
}

// Thousands of records that have expired are counted once, even if the database is closed before
// all of their rows are deleted.
func TestManyExpiredRecordsAreCountedOnce(t *testing.T) {
	dir := t.TempDir()
	open := func() (*kit, *queue.Queue) {
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		s, err := db.OpenStream(ctx, "s", nil)
		require.NoError(t, err)
		k := &kit{t, db, s}
		return k, k.open("q", queue.Options{})
	}
	k, q := open()
	k.putMany(many)
	require.Len(t, k.receive(q, many), many)
	_ = q.Ack(ctx, "invalid") // so that the next commit does not follow one with many rows
	require.NoError(t, k.stream.Trim(ctx, braid.Latest()))
	for range 3 {
		require.EqualValues(t, many, k.describe(q).ExpiredReceived)
		_ = q.Ack(ctx, "invalid") // a commit
		left := queue.Rows(q)
		require.Positive(t, left, "a commit deletes few")
		require.Less(t, left, many)
		require.NoError(t, k.db.Close())
		k, q = open()
	}
	for range 20 {
		_ = q.Ack(ctx, "invalid")
	}
	require.Zero(t, queue.Rows(q))
	require.NoError(t, k.db.Close())
	k, q = open()
	require.EqualValues(t, many, k.describe(q).ExpiredReceived)
	require.NoError(t, k.db.Close())
}

// All letters are restored once, while others die again.
func TestRestoreAllEndsWhileLettersDieAgain(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1})
		k.putMany(many)
		require.NoError(k, q.Reject(ctx, "", receipts(k.receive(q, many))...))
		again, stop := context.WithCancel(ctx)
		worked := make(chan error, 1)
		go func() {
			worked <- q.Work(again, func(context.Context, queue.Record) error { return queue.ErrReject }, &queue.WorkOptions{Batch: 100})
		}()
		before := queue.Looks(q)
		n, err := q.DeadLetters().RestoreAll(ctx)
		require.NoError(k, err)
		require.Equal(k, many, n)
		require.Less(k, queue.Looks(q)-before, 4*many)
		synctest.Wait()
		stop()
		require.NoError(k, <-worked)
		require.EqualValues(k, many, k.describe(q).Dead)
	})
}

// While the rows of a removed shard's records are deleted, commit by commit, the shard's cursor
// stays.
func TestTheRowsOfARemovedShardGoBeforeItsCursor(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: 12 * time.Hour})
		k.putMany(many)
		require.Len(k, k.receive(q, many), many)
		require.NoError(k, k.stream.UpdateShardCount(ctx, 3))
		k.putMany(10) // so the removed shards do not have the highest counter
		require.NoError(k, q.Ack(ctx, receipts(k.receive(q, 10))...))
		time.Sleep(48 * time.Hour)
		require.Len(k, k.stream.Shards(), 3)
		for rows := queue.Rows(q); rows > 0; rows = queue.Rows(q) {
			_ = q.Ack(ctx, "invalid")
			require.Less(k, queue.Rows(q), rows)
			report, err := k.db.Verify(ctx, nil)
			require.NoError(k, err)
			require.NoError(k, report.Err())
		}
		_ = q.Ack(ctx, "invalid")
		require.EqualValues(k, many, k.describe(q).ExpiredReceived)
		cursors, _ := queue.Cursors(q)
		require.LessOrEqual(k, cursors, 3)
	})
}

// A record that is dead by a lower limit, or will be when its delay ends, expires as a dead letter,
// even if nothing has looked at it in between. A restart changes no count.
func TestRecordsThatDieByALowerLimitExpireAsLetters(t *testing.T) {
	for name, delay := range map[string]time.Duration{"visible": 0, "delayed": second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, disk := onDisk(t)
				q := k.open("q", queue.Options{MaxReceives: 2})
				k.put(3)
				require.NoError(t, q.Release(ctx, delay, receipts(k.receive(q, 3))...))
				require.NoError(t, q.Update(ctx, func(o *queue.Options) { o.MaxReceives = 1 }))
				time.Sleep(delay)
				require.NoError(t, k.stream.Trim(ctx, braid.Latest()))
				for range 2 {
					d := k.describe(q)
					require.EqualValues(t, 3, d.ExpiredDead)
					require.Zero(t, d.ExpiredReceived)
					require.NoError(t, k.db.Close())
					k, q = reopened(t, disk)
				}
				require.NoError(t, k.db.Close())
			})
		})
	}
}

// The last delivery of a record that may have crashed the process stays alone, even if it was behind
// hundreds of records until they expired.
func TestALastAttemptBehindManyThatExpireIsAlone(t *testing.T) {
	const old = 570 // more than a receive and its commit let time pass for, by fewer than one commit skips
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{MaxReceives: 3, VisibilityTimeout: 12 * time.Hour})
		k.putMany(old)
		expire := k.receive(q, old)
		require.Len(t, expire, old)
		k.put(2)
		suspect, beside := k.receive(q, 1), k.receive(q, 1)
		require.NoError(t, q.Release(ctx, 0, suspect[0].Receipt))
		suspect = k.receive(q, 1)
		require.Equal(t, 2, suspect[0].Receives)
		require.NoError(t, q.Extend(ctx, time.Minute, suspect[0].Receipt))
		require.NoError(t, q.Release(ctx, 0, receipts(expire)...))
		image := disk.PowerCut()
		require.NoError(t, k.db.Close())

		k, q = reopened(t, image)
		time.Sleep(2 * time.Minute)
		d := k.describe(q)
		require.EqualValues(t, old+1, d.Visible)
		require.EqualValues(t, 1, d.InFlight)
		require.NoError(t, k.stream.Trim(ctx, braid.AtTime(suspect[0].ArrivalTime)))
		require.Empty(t, texts(k.receive(q, 1)), "another one is in flight")
		require.NoError(t, q.Ack(ctx, beside[0].Receipt))
		last := k.receive(q, 1)
		require.Len(t, last, 1)
		require.Equal(t, suspect[0].ID, last[0].ID)
		require.NoError(t, k.db.Close())
	})
}

// However many records each commit receives, those that expire leave memory and disk as fast as
// others come.
func TestExpiredRecordsDoNotPileUp(t *testing.T) {
	const n = 2000
	for name, settle := range map[string]func(*kit, *queue.Queue, []queue.Record){
		"received": func(*kit, *queue.Queue, []queue.Record) {},
		"rejected": func(k *kit, q *queue.Queue, records []queue.Record) {
			require.NoError(k, q.Reject(ctx, "", receipts(records)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(k *kit) {
				q := k.open("q", queue.Options{})
				for range 15 {
					k.putMany(n)
					records := k.receive(q, n)
					require.Len(k, records, n)
					settle(k, q, records)
					require.NoError(k, k.stream.Trim(ctx, braid.Latest()))
				}
				require.Less(k, queue.Rows(q), 4*n)
				require.Less(k, queue.Entries(q), 4*n)
				require.EqualValues(k, 15*n, k.describe(q).ExpiredReceived+k.describe(q).ExpiredDead)
			})
		})
	}
}

// A letter whose timeout has passed can be restored by the receipt that All returns, however many
// letters became visible at once.
func TestAllReturnsReceiptsOfManyLettersThatBecomeVisible(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1})
		k.putMany(many)
		require.NoError(k, q.Reject(ctx, "", receipts(k.receive(q, many))...))
		letters, err := q.DeadLetters().Receive(ctx, many, noWait)
		require.NoError(k, err)
		require.Len(k, letters, many)
		n, missing := 0, 0
		for r, err := range q.DeadLetters().All(ctx) {
			require.NoError(k, err)
			if n++; n == 1 {
				time.Sleep(time.Minute) // the next letters are looked up after that
			} else if n > 100 && r.Receipt == "" {
				missing++
			}
		}
		require.Equal(k, many, n)
		require.Zero(k, missing)
	})
}

// A receiver that waits gets its record as soon as the one before it is trimmed, even if thousands
// of others are trimmed first. No timeout passes meanwhile.
func TestAWaiterBehindManyThatAreTrimmed(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{OrderByKey: true})
		k.putMany(many)
		k.putKeys("A1")
		require.Len(k, k.receive(q, many+1), many+1)
		time.Sleep(second)
		border := time.Now()
		k.putKeys("A2")
		require.Empty(k, k.receive(q, 1), "A1 is in flight")
		got := make(chan []queue.Record, 1)
		go func() {
			records, _ := q.Receive(ctx, 1, nil)
			got <- records
		}()
		synctest.Wait()
		require.NoError(k, k.stream.Trim(ctx, braid.AtTime(border)))
		begun := time.Now()
		require.Equal(k, []string{"A2"}, texts(<-got))
		require.Zero(k, time.Since(begun))
	})
}
