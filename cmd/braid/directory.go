package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// directory is the store of a database that this process has opened.
type directory struct {
	db    *braid.DB
	close func() error
}

// openDirectory opens the database of a directory. A verb that only reads changes no byte
// of it, and shares it with other readers.
func openDirectory(t target, access access, logger *slog.Logger) (*directory, error) {
	options := &braid.Options{ReadOnly: access == reads, Logger: logger, MaxTxBytes: 16 << 20}
	if access != creates {
		if err := mustHoldFiles(t.dir); err != nil {
			return nil, err
		}
	}
	if t.keys != "" {
		ring, err := braid.OpenKeyRing(t.keys)
		if err != nil {
			return nil, fmt.Errorf("--keys: %w", err)
		}
		options.KeyProvider = ring
	}
	db, err := braid.Open(t.dir, options)
	switch {
	case errors.Is(err, braid.ErrLocked):
		return nil, fmt.Errorf("%w. If that program serves package inspect, reach it with --url; otherwise stop it, or use a backup", err)
	case err != nil:
		return nil, err
	}
	return &directory{db: db, close: db.Close}, nil
}

// mustHoldFiles refuses a directory that does not exist or is empty, because an open
// would create a database there although the name may be misspelled.
func mustHoldFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--dir %s: there is no such directory: %w", dir, fs.ErrNotExist)
	case err != nil:
		return fmt.Errorf("--dir %s: %w", dir, err)
	case len(entries) == 0:
		return fmt.Errorf("--dir %s: the directory is empty; it has no database: %w", dir, fs.ErrNotExist)
	}
	return nil
}

// databaseOf returns the database of a store in this process, for verbs that need more
// than a store offers.
func databaseOf(s store, verb string) (*braid.DB, error) {
	if d, ok := s.(*directory); ok {
		return d.db, nil
	}
	return nil, usagef("%s works on a directory: give --dir instead of --url", verb)
}

func (d *directory) Close() error { return d.close() }

func (d *directory) Streams(context.Context) (streams []braid.StreamDescription, _ error) {
	for _, s := range d.db.Streams() {
		streams = append(streams, s.Describe())
	}
	return streams, nil
}

func (d *directory) shard(stream string, id braid.ShardID) (*braid.Shard, error) {
	s, err := d.db.Stream(stream)
	if err != nil {
		return nil, err
	}
	return s.Shard(id)
}

func (d *directory) Stream(_ context.Context, name string) (braid.StreamDescription, error) {
	s, err := d.db.Stream(name)
	if err != nil {
		return braid.StreamDescription{}, err
	}
	return s.Describe(), nil
}

func (d *directory) Records(ctx context.Context, stream string, id braid.ShardID, from braid.Position, follow bool) iter.Seq2[braid.Record, error] {
	var source interface {
		Records(context.Context, braid.Position) iter.Seq2[braid.Record, error]
		Follow(context.Context, braid.Position) iter.Seq2[braid.Record, error]
	}
	var err error
	if id == "" {
		source, err = d.db.Stream(stream)
	} else {
		source, err = d.shard(stream, id)
	}
	switch {
	case err != nil:
		return func(yield func(braid.Record, error) bool) { yield(braid.Record{}, err) }
	case follow:
		return source.Follow(ctx, from)
	}
	return source.Records(ctx, from)
}

func (d *directory) Count(ctx context.Context, stream string, id braid.ShardID, from braid.Position) (int64, error) {
	shard, err := d.shard(stream, id)
	if err != nil {
		return 0, err
	}
	page, err := shard.GetRecords(ctx, from, &braid.GetRecordsOptions{Limit: 1, Unmetered: true})
	if err != nil {
		return 0, err
	}
	return int64(len(page.Records)) + page.BehindRecords, nil
}

func (d *directory) Create(ctx context.Context, stream string, options *braid.StreamOptions) error {
	_, err := d.db.CreateStream(ctx, stream, options)
	return err
}

func (d *directory) Delete(ctx context.Context, stream string) error {
	return d.db.DeleteStream(ctx, stream)
}

func (d *directory) Put(ctx context.Context, stream string, entries []braid.Entry) ([]braid.PutResult, error) {
	s, err := d.db.Stream(stream)
	if err != nil {
		return nil, err
	}
	results, err := s.PutRecordsWait(ctx, entries)
	if err != nil {
		return nil, err
	}
	for i := range results {
		if results[i].Err != nil {
			return results, results[i].Err
		}
	}
	return results, nil
}

func (d *directory) Apps(ctx context.Context) ([]string, error) { return consumer.Apps(ctx, d.db) }

// withApp runs an operation of an application.
func (d *directory) withApp(name string, fn func(*consumer.App) error) error {
	app, err := consumer.OpenApp(d.db, name)
	if err != nil {
		return err
	}
	return fn(app)
}

func (d *directory) App(ctx context.Context, name string) (status consumer.Status, err error) {
	err = d.withApp(name, func(app *consumer.App) (err error) {
		status, err = app.Status(ctx)
		return err
	})
	return status, err
}

func (d *directory) Seek(ctx context.Context, app string, key consumer.LeaseKey, to braid.Position) error {
	return d.withApp(app, func(app *consumer.App) error { return app.Seek(ctx, key, to) })
}

func (d *directory) Pause(ctx context.Context, app string, key consumer.LeaseKey) error {
	return d.withApp(app, func(app *consumer.App) error { return app.Pause(ctx, key) })
}

func (d *directory) Resume(ctx context.Context, app string, key consumer.LeaseKey) error {
	return d.withApp(app, func(app *consumer.App) error { return app.Resume(ctx, key) })
}

func (d *directory) Split(ctx context.Context, stream string, shard braid.ShardID, at *braid.HashKey) error {
	s, err := d.db.Stream(stream)
	if err != nil {
		return err
	}
	_, _, err = s.SplitShard(ctx, shard, at)
	return err
}

func (d *directory) Merge(ctx context.Context, stream string, shard, adjacent braid.ShardID) error {
	s, err := d.db.Stream(stream)
	if err != nil {
		return err
	}
	_, err = s.MergeShards(ctx, shard, adjacent)
	return err
}

func (d *directory) Scale(ctx context.Context, stream string, shards int) error {
	s, err := d.db.Stream(stream)
	if err != nil {
		return err
	}
	return s.UpdateShardCount(ctx, shards)
}

func (d *directory) SetRetention(ctx context.Context, stream string, period time.Duration) error {
	s, err := d.db.Stream(stream)
	if err != nil {
		return err
	}
	if now := s.Describe().Retention; period < 0 || now >= 0 && period >= now {
		return s.IncreaseRetention(ctx, period)
	}
	return s.DecreaseRetention(ctx, period)
}

func (d *directory) SetRetentionBytes(ctx context.Context, stream string, bytes int64) error {
	s, err := d.db.Stream(stream)
	if err != nil {
		return err
	}
	return s.UpdateRetentionBytes(ctx, bytes)
}

func (d *directory) Trim(ctx context.Context, stream string, before braid.Position) error {
	s, err := d.db.Stream(stream)
	if err != nil {
		return err
	}
	return s.Trim(ctx, before)
}

func (d *directory) Queues(ctx context.Context) (queues []queue.Description, _ error) {
	list, err := queue.List(ctx, d.db, "")
	if err != nil {
		return nil, err
	}
	for _, q := range list {
		description, err := q.Describe(ctx)
		if errors.Is(err, queue.ErrQueueNotFound) {
			continue // it was deleted in the meantime
		}
		if err != nil {
			return nil, fmt.Errorf("queue %q: %w", q.Name(), err)
		}
		queues = append(queues, *description)
	}
	return queues, nil
}

func (d *directory) Queue(ctx context.Context, name string) (queue.Description, error) {
	q, err := queue.Get(ctx, d.db, name)
	if err != nil {
		return queue.Description{}, err
	}
	description, err := q.Describe(ctx)
	if err != nil {
		return queue.Description{}, err
	}
	return *description, nil
}

func (d *directory) DeadLetters(ctx context.Context, name string, limit int, _ bool) (letters []queue.Record, _ error) {
	q, err := queue.Get(ctx, d.db, name)
	if err != nil {
		return nil, err
	}
	for rec, err := range q.DeadLetters().All(ctx) {
		if err != nil {
			return nil, err
		}
		if letters = append(letters, rec); len(letters) == limit {
			break
		}
	}
	return letters, nil
}

func (d *directory) Restore(ctx context.Context, name string, receipts []queue.Receipt) error {
	q, err := queue.Get(ctx, d.db, name)
	if err != nil {
		return err
	}
	return q.DeadLetters().Restore(ctx, receipts...)
}

func (d *directory) RestoreAll(ctx context.Context, name string) (int, error) {
	q, err := queue.Get(ctx, d.db, name)
	if err != nil {
		return 0, err
	}
	return q.DeadLetters().RestoreAll(ctx)
}

func (d *directory) Discard(ctx context.Context, name string, receipts []queue.Receipt) error {
	q, err := queue.Get(ctx, d.db, name)
	if err != nil {
		return err
	}
	return q.DeadLetters().Discard(ctx, receipts...)
}
