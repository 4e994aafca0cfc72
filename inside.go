package braid

import (
	"context"

	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/kv"
)

// This file opens the door to the tests in internal/modeltest: see internal/inside.

func init() {
	inside.DBOf = func(db any) inside.DB { return insideDB{db.(*DB)} }
	inside.StreamOf = func(stream any) inside.Stream { return insideStream{stream.(*Stream)} }
	inside.ShardOf = func(shard any) inside.Shard { return insideShard{shard.(*Shard)} }
	inside.Counter = func(number any) uint64 { return number.(SequenceNumber).counter() }
	inside.Salvage = func(ctx context.Context, files kv.FS, from, to string) (any, error) {
		return salvageDir(ctx, from, to, nil, environment{fs: files})
	}
	inside.CounterReserve, inside.TrimInterval = counterReserve, trimInterval
}

type insideDB struct{ db *DB }

func (i insideDB) Store() *kv.Store                     { return i.db.store }
func (i insideDB) Aging() uint64                        { return i.db.aging.now() }
func (i insideDB) CheckBooks(ctx context.Context) error { return i.db.checkBooks(ctx) }

func (i insideDB) PagesAhead() int64 { return i.db.reads.ahead.Load() }

func (i insideDB) SetPages(first, others int) {
	i.db.pages = loopPages{first: first, shard: others, stream: others << 10}
}

func (i insideDB) Hold(fn func()) error {
	return i.db.control(context.Background(), func(*appender, *kv.Batch) (func(), error) {
		fn()
		return nil, nil
	})
}

type insideStream struct{ stream *Stream }

func (i insideStream) Next() uint32             { return i.stream.topology.Load().next }
func (i insideStream) Expired() uint64          { return i.stream.topology.Load().expired.Horizon }
func (i insideStream) Expiry(now uint64) uint64 { return i.stream.settings.Load().expiry(now) }

func (i insideStream) Resolve(position any) error {
	_, err := position.(Position).inStream(i.stream)
	return err
}

type insideShard struct{ shard *Shard }

func (i insideShard) Last() uint64              { return i.shard.log.LastCounter() }
func (i insideShard) Closed() bool              { return i.shard.closing.Load() != nil }
func (i insideShard) Number(counter uint64) any { return i.shard.number(counter) }

func (i insideShard) Horizon() uint64 {
	stored, _ := i.shard.view()
	return stored.Counter
}

func (i insideShard) Resolve(position any) error {
	_, err := position.(Position).inShard(i.shard)
	return err
}
