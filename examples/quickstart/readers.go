package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid"
)

// readers follow the stream, one goroutine for each shard.
type readers struct {
	running sync.WaitGroup
	stop    context.CancelFunc // ends the waiting at the tip
	flights atomic.Int64       // counted in this session

	mu  sync.Mutex
	err error // guarded by mu; of all readers together
}

func startReaders(ctx context.Context, db *braid.DB, stream *braid.Stream) *readers {
	r := new(readers)
	following, stop := context.WithCancel(ctx)
	r.stop = stop
	for _, shard := range stream.Shards() {
		r.running.Go(func() {
			if err := r.read(ctx, following, db, shard); err != nil {
				r.mu.Lock()
				r.err = errors.Join(r.err, err)
				r.mu.Unlock()
			}
		})
	}
	return r
}

// read is one reader. It takes what there is, up to 500 flights, and waits at
// the tip until following ends; then it reads what is left.
func (r *readers) read(ctx, following context.Context, db *braid.DB, shard *braid.Shard) error {
	position, err := loadPosition(ctx, db, shard)
	if err != nil {
		return err
	}
	for {
		last := following.Err() != nil
		wait := following
		if last {
			wait = ctx
		}
		page, err := shard.GetRecords(wait, position, &braid.GetRecordsOptions{Limit: 500, Wait: !last})
		if following.Err() != nil && errors.Is(err, context.Canceled) && ctx.Err() == nil {
			continue // the producer is done: read what is left, without waiting
		}
		if err != nil {
			return err
		}
		if len(page.Records) > 0 {
			if err := count(ctx, db, shard, page.Records); err != nil {
				return err
			}
			r.flights.Add(int64(len(page.Records)))
		} else if last {
			return nil
		}
		position = page.Next
	}
}

// count adds the flights to the totals and moves the reader's place behind them,
// in one transaction: after a crash each flight was counted once, or will be.
func count(ctx context.Context, db *braid.DB, shard *braid.Shard, records []braid.Record) error {
	news := make(totals)
	for _, rec := range records {
		f, err := decodeFlight(rec)
		if err != nil {
			return err
		}
		news.add(f)
	}
	return db.Update(ctx, func(tx *braid.Tx) error {
		for airport, n := range news {
			known, err := loadTotal(tx, airport)
			if err != nil {
				return err
			}
			if err := saveTotal(tx, airport, known.plus(n)); err != nil {
				return err
			}
		}
		return savePosition(tx, shard, records[len(records)-1].SequenceNumber)
	})
}

// counted is how many flights were counted in this session so far.
func (r *readers) counted() int { return int(r.flights.Load()) }

// finish lets the readers come to the end of what was put, and waits for them.
func (r *readers) finish() (counted int, err error) {
	r.stop()
	r.running.Wait()
	return r.counted(), r.err
}
