package braid

import (
	"context"
	"errors"
	"iter"

	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/histogram"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/txlog"
)

// This file opens the door to packages consumer and queue: see internal/companion.

func init() {
	companion.DBOf = func(db any) companion.DB { return companionDB{db.(*DB)} }
	companion.Corrupt = corrupt
	companion.Over = kv.Over
	companion.Histogram = func(r *histogram.Recorder) any { return readHistogram(r) }
	companion.TxOf = func(tx any) companion.Tx { return companionTx{tx.(*Tx)} }
	companion.StreamOf = func(stream any) companion.Stream { return companionStream{stream.(*Stream)} }
	companion.ShardOf = func(shard any) companion.Shard { return companionShard{shard.(*Shard)} }
	companion.Open = func(dir string, options any, env companion.Environment) (any, error) {
		return open(dir, options.(*Options), environment{fs: env.FS.(kv.FS), clock: env.Clock, instant: env.Instant, tableBlock: env.TableBlockBytes})
	}
}

type companionDB struct{ db *DB }

func (c companionDB) Attach(name string, attach func() any) any {
	return c.db.attached.Attach(name, attach)
}

func (c companionDB) Visible() uint64 { return c.db.visible.Load() }

func (c companionDB) OnCommit(fn func(key, value []byte)) { c.db.onLease.OnCommit(fn) }

func (c companionDB) WatchLeases(app string, fn func(key []byte)) { c.db.onLease.WatchLeases(app, fn) }

func (c companionDB) WatchStream(stream string, fn func()) (stop func()) {
	return c.db.onStream.add(stream, fn)
}

type companionStream struct{ stream *Stream }

func (c companionStream) Topology() any { return c.stream.topology.Load() }

type companionShard struct{ shard *Shard }

func (c companionShard) Starting() any { return c.shard.starting() }

func (c companionShard) Read(ctx context.Context, from any, records, bytes int, waits bool, place func(n int) (at any)) (page any, size int, err error) {
	options := GetRecordsOptions{Limit: records, LimitBytes: bytes, Wait: waits, Unmetered: true}
	page, size, err = c.shard.getRecords(ctx, from.(Position), &options, func(n int) func(int) *Record {
		return place(n).(func(int) *Record)
	})
	return page, size, c.shard.wrapError("get records", err)
}

type companionTx struct{ tx *Tx }

func (c companionTx) Get(key []byte) ([]byte, error) {
	if c.tx.ended {
		return nil, errTxEnded
	}
	value, err := c.tx.getRow(key)
	if errors.Is(err, ErrKeyNotFound) {
		return nil, nil
	}
	return value, wrapError("read row", "", err)
}

func (c companionTx) Set(key, value []byte) error {
	if err := c.tx.checkWritable(); err != nil {
		return err
	}
	return wrapError("set lease", "", c.tx.writeRow(key, value))
}

func (c companionTx) Delete(key []byte) error {
	if err := c.tx.checkWritable(); err != nil {
		return err
	}
	return wrapError("delete lease", "", c.tx.writeRow(key, nil))
}

func (c companionTx) First(lower, upper []byte) (row companion.Row, found bool, err error) {
	all := txlog.Range{Start: lower, End: upper}
	if c.tx.ended {
		return row, false, errTxEnded
	}
	own := c.tx.ownWrites(all)
	page, err := reading(c.tx.ctx, c.tx.db, func() (scanned, error) { return c.tx.scanPage(all, own, 0) })
	if err == nil && len(page.items) > 0 {
		row, found = companion.Row{Key: page.items[0].Key, Value: page.items[0].Value}, true
		all.End = keyAfter(row.Key)
		err = c.tx.grow(len(row.Key) + len(row.Value))
	}
	if err == nil {
		err = c.tx.noteRange(all)
	}
	return row, found, wrapError("find lease", "", err)
}

func (c companionTx) Scan(lower, upper []byte) iter.Seq2[companion.Row, error] {
	return func(yield func(companion.Row, error) bool) {
		err := c.tx.scanRows(txlog.Range{Start: lower, End: upper}, func(row KeyValue) bool {
			return yield(companion.Row{Key: row.Key, Value: row.Value}, nil)
		})
		if err != nil {
			yield(companion.Row{}, wrapError("read rows", "", err))
		}
	}
}
