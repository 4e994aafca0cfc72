package modeltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/queue"
)

// A database is verified again and again while records are put, encrypted and not, trimmed, and
// reclaimed in the smallest possible epochs; shards are split and merged; streams are deleted and
// created under the same names; workers take leases and store checkpoints; queues deliver records
// and are deleted; transactions write keys; and backups are made, and verified as well. Nothing is
// damaged, so nothing may be found.
func TestVerifyFindsNothingWhileEverythingHappens(t *testing.T) {
	for name, dir := range map[string]string{"memory": braid.InMemory, "disk": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			db, err := braid.Open(dir, &braid.Options{MemtableBytes: 1 << 20, TailBytes: 64 << 10, Durability: braid.NoSync, KeyProvider: twoKeys})
			require.NoError(t, err)
			rounds := 200
			if testing.Short() {
				rounds = 25
			}
			v := &verifyRun{t: t, db: db}
			v.run(rounds)
			require.NoError(t, inside.DBOf(db).CheckBooks(t.Context()))
			require.NoError(t, db.Close())
		})
	}
}

// verifyRun is a database that is verified while it is in use.
type verifyRun struct {
	t       *testing.T
	db      *braid.DB
	trimmed atomic.Int64
	copies  atomic.Int64
}

// run verifies the database rounds times, and keeps it in use until then.
func (v *verifyRun) run(rounds int) {
	ctx, stop := context.WithCancel(v.t.Context())
	open := func() (*braid.Stream, error) {
		return v.db.OpenStream(ctx, "s", &braid.StreamOptions{Shards: 3, RetentionBytes: 3 << 20})
	}
	var users sync.WaitGroup
	forever := func(seed uint64, do func(random *rand.Rand) error) {
		users.Go(func() {
			random := rand.New(rand.NewPCG(seed, 8))
			for ctx.Err() == nil {
				err := do(random)
				if err != nil && ctx.Err() == nil && !errors.Is(err, braid.ErrStreamNotFound) { // the stream was deleted meanwhile
					v.t.Error(err)
					return
				}
			}
		})
	}
	put := func(s *braid.Stream, random *rand.Rand) error {
		entries := make([]braid.Entry, 1+random.IntN(30))
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: strconv.Itoa(random.IntN(50)), Data: make([]byte, random.IntN(3000))}
		}
		_, err := s.PutRecords(ctx, entries)
		return err
	}
	for seed := range uint64(2) {
		forever(seed, func(random *rand.Rand) error {
			s, err := open()
			if err != nil {
				return err
			}
			return put(s, random)
		})
	}
	forever(2, func(random *rand.Rand) error {
		<-time.After(time.Duration(random.IntN(3000)) * time.Microsecond)
		s, err := open()
		if err != nil {
			return err
		}
		if len(s.Shards()) > 100 { // closed ones remain for a day
			queues, err := queue.List(ctx, v.db, "s")
			for _, q := range queues {
				if deleted := q.Delete(ctx); !errors.Is(deleted, queue.ErrQueueNotFound) {
					err = errors.Join(err, deleted)
				}
			}
			if err == nil {
				err = v.db.DeleteStream(ctx, "s")
			}
			if errors.Is(err, braid.ErrStreamInUse) { // a new stream exists
				return nil
			}
			return err
		}
		return s.UpdateShardCount(ctx, 1+random.IntN(6))
	})
	forever(3, func(random *rand.Rand) error {
		<-time.After(time.Duration(random.IntN(3000)) * time.Microsecond)
		s, err := open()
		if err != nil {
			return err
		}
		shards := s.Shards()
		d := shards[random.IntN(len(shards))].Describe()
		if d.Records == 0 {
			return nil
		}
		v.trimmed.Add(1)
		return s.Trim(ctx, braid.AtSequence(d.First))
	})
	forever(4, func(random *rand.Rand) error { // the same name, again and again
		passing, err := v.db.CreateStream(ctx, "passing", &braid.StreamOptions{Shards: 1 + random.IntN(3)})
		if err != nil {
			return err
		}
		for i := range random.IntN(5) {
			if i%2 == 0 {
				err = passing.StartEncryption(ctx, []string{"a", "b"}[random.IntN(2)])
			}
			if err = errors.Join(err, put(passing, random)); err != nil {
				return err
			}
		}
		if random.IntN(2) == 0 {
			err = passing.Trim(ctx, braid.Latest())
		}
		return errors.Join(err, v.db.DeleteStream(ctx, "passing"))
	})
	forever(5, func(random *rand.Rand) error { // data keys come and go
		secret, err := v.db.OpenStream(ctx, "secret", nil)
		if err == nil {
			err = secret.StartEncryption(ctx, "a")
		}
		if err == nil {
			err = put(secret, random)
		}
		if err == nil && random.IntN(4) == 0 {
			err = secret.Trim(ctx, braid.Latest())
		}
		return err
	})
	forever(6, func(random *rand.Rand) error {
		return v.db.Update(ctx, func(tx *braid.Tx) error {
			key := fmt.Appendf(nil, "key-%d", random.IntN(200))
			if random.IntN(3) == 0 {
				return tx.Delete(key)
			}
			return errors.Join(tx.Set(key, make([]byte, random.IntN(2000))), tx.PutRecord("s", "tx", key))
		})
	})
	w, err := consumer.New(v.db, &consumer.Config{App: "app", Streams: []string{"s", "passing", "secret"}},
		consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil }))
	require.NoError(v.t, err)
	users.Go(func() { _ = w.Run(ctx) })

	for seed := range uint64(2) { // queues receive, settle, let receipts lapse, and are deleted and created under the same names
		forever(8+seed, func(random *rand.Rand) error {
			q, err := queue.Open(ctx, v.db, fmt.Sprint("queue-", random.IntN(3)), &queue.Options{
				Stream: []string{"s", "secret"}[random.IntN(2)], Start: braid.TrimHorizon(),
				VisibilityTimeout: time.Millisecond, MaxReceives: 2, OrderByKey: random.IntN(2) == 0,
			})
			if errors.Is(err, queue.ErrQueueExists) { // on the other stream
				return nil
			}
			if err != nil {
				return err
			}
			records, err := q.Receive(ctx, 1+random.IntN(50), &queue.ReceiveOptions{Wait: -1})
			for _, r := range records {
				if err == nil && random.IntN(3) > 0 {
					err = q.Ack(ctx, r.Receipt)
				}
			}
			if err == nil && random.IntN(20) == 0 {
				err = q.Delete(ctx)
			}
			var refused *queue.ReceiptsError // they have lapsed
			if errors.As(err, &refused) || errors.Is(err, queue.ErrQueueNotFound) {
				return nil
			}
			return err
		})
	}

	dir := filepath.Join(v.t.TempDir(), "copy")
	forever(7, func(*rand.Rand) error { // each copy is of one moment
		if err := v.db.Backup(ctx, dir, &braid.BackupOptions{Verify: true}); err != nil {
			return fmt.Errorf("verify the copy: %w", err)
		}
		v.copies.Add(1)
		return os.RemoveAll(dir)
	})

	var all braid.VerifyReport
	for n := 0; n < rounds || v.copies.Load() == 0 && !v.t.Failed(); n++ {
		report, err := v.db.Verify(ctx, &braid.VerifyOptions{BytesPerSecond: -1})
		if err != nil {
			v.t.Errorf("%v: %v", err, report.Problems)
			break
		}
		all.Records += report.Records
		all.Leases += report.Leases
		all.Keys += report.Keys
		all.Queues += report.Queues
		all.Files += report.Files
	}
	stop()
	users.Wait()
	require.Positive(v.t, all.Records)
	require.Positive(v.t, all.Leases)
	require.Positive(v.t, all.Keys)
	require.Positive(v.t, all.Queues)
	require.Positive(v.t, v.trimmed.Load())
	require.Positive(v.t, v.copies.Load())
	require.Eventually(v.t, func() bool { return v.db.Metrics().OpenIterators == 0 }, time.Minute, 10*time.Millisecond)
	v.t.Logf("%d records, %d leases, %d queues, %d keys, %d files in %d rounds, beside %d copies",
		all.Records, all.Leases, all.Queues, all.Keys, all.Files, rounds, v.copies.Load())
}
