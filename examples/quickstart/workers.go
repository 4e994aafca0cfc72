package main

import (
	"context"
	"errors"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// workers count the flights: two workers of one application, which share the stream's
// shards. There could just as well be one, or ten; each shard is processed by one worker.
type workers []*consumer.Worker

func startWorkers(ctx context.Context, db *braid.DB) (workers, error) {
	var all workers
	for _, id := range []string{"one", "two"} {
		w, err := consumer.NewTx(db, &consumer.Config{
			App:          "airports",
			Streams:      []string{streamName},
			WorkerID:     id,
			BatchRecords: 500,
		}, consumer.TxProcessorFunc(count))
		if err != nil {
			return nil, errors.Join(err, all.stop())
		}
		go w.Run(ctx) // Stop returns the result of Run
		all = append(all, w)
	}
	return all, nil
}

// count adds the flights of a batch to the totals. They are written in the same
// transaction as the worker's place in the shard, so each flight is counted exactly once,
// even across a crash.
func count(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
	news := make(totals)
	for _, record := range batch.Records {
		f, err := decodeFlight(record.Record)
		if err != nil {
			return err
		}
		news.add(f)
	}
	for airport, n := range news {
		known, err := loadTotal(tx, airport)
		if err != nil {
			return err
		}
		if err := saveTotal(tx, airport, known.plus(n)); err != nil {
			return err
		}
	}
	return nil
}

// catchUp waits until all flights are counted.
func (all workers) catchUp(ctx context.Context) error {
	return all[0].App().WaitCaughtUp(ctx)
}

// stop lets the workers finish their current batches, and waits for them, even when the
// program was interrupted: a batch does not take long.
func (all workers) stop() error {
	var errs []error
	for _, w := range all {
		errs = append(errs, w.Stop(context.Background()))
	}
	return errors.Join(errs...)
}
