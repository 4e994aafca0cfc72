package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// order is an order of a customer.
type order struct {
	ID       int      `json:"id"`
	Customer string   `json:"customer"`
	Items    []string `json:"items"`
	Cents    int      `json:"cents"`
	Note     string   `json:"note,omitempty"`
}

var goods = []string{"rope", "lantern", "kettle", "map of the delta", "oilskin", "compass", "tea", "biscuits"}

const (
	pace        = 4 * time.Millisecond // between two orders
	reshardTime = 12 * time.Second     // between two splits or merges
	mostShards  = 8
)

// shop has the streams, a queue, and the workers.
type shop struct {
	orders, clicks *braid.Stream
	mails          *queue.Queue
	workers        []*consumer.Worker
}

// open creates the streams and their readers. Nothing runs yet.
func open(ctx context.Context, db *braid.DB, logger *slog.Logger) (*shop, error) {
	streams := make(map[string]*braid.Stream)
	for name, shards := range map[string]int{"orders": 4, "invoices": 2, "failed-orders": 1, "clicks": 3} {
		s, err := db.OpenStream(ctx, name, &braid.StreamOptions{Shards: shards, Tags: map[string]string{"team": "shop"}})
		if err != nil {
			return nil, err
		}
		streams[name] = s
	}
	s := &shop{orders: streams["orders"], clicks: streams["clicks"]}
	var err error
	s.mails, err = queue.Open(ctx, db, "mails", &queue.Options{Stream: "invoices", MaxReceives: 2, VisibilityTimeout: time.Second})
	if err != nil {
		return nil, err
	}
	billing, err := consumer.NewTx(db, &consumer.Config{
		App: "billing", Streams: []string{"orders"}, WorkerID: "till", Logger: logger,
		DeadLetterStream: "failed-orders", MaxAttempts: 2, RetryPause: time.Millisecond,
	}, consumer.TxProcessorFunc(bill))
	if err != nil {
		return nil, err
	}
	fraud, err := consumer.New(db, &consumer.Config{
		App: "fraud-check", Streams: []string{"clicks"}, WorkerID: "watch", Logger: logger,
		MaxAttempts: 2, RetryPause: time.Millisecond,
	}, consumer.ProcessorFunc(check))
	if err != nil {
		return nil, err
	}
	s.workers = []*consumer.Worker{billing, fraud}
	for _, id := range []string{"anna", "ben"} {
		worker, err := consumer.New(db, &consumer.Config{
			App: "shipping", Streams: []string{"orders"}, WorkerID: id, Logger: logger, Linger: 200 * time.Millisecond,
		}, consumer.ProcessorFunc(ship))
		if err != nil {
			return nil, err
		}
		s.workers = append(s.workers, worker)
	}
	return s, nil
}

// trade runs the shop until ctx ends.
func (s *shop) trade(ctx context.Context) error {
	// The first of these that ends makes all others end.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	start := func(fn func(context.Context) error) {
		running.Go(func() {
			if err := fn(ctx); err != nil {
				cancel(err)
			}
		})
	}
	start(s.sell)
	start(func(ctx context.Context) error { return reshard(ctx, s.orders) })
	start(func(ctx context.Context) error {
		return s.mails.Work(ctx, send, &queue.WorkOptions{Concurrency: 4, Backoff: func(int) time.Duration { return time.Second }})
	})
	for _, worker := range s.workers {
		start(func(ctx context.Context) error {
			err := worker.Run(ctx)
			if stopped := new(consumer.StoppedShardsError); errors.As(err, &stopped) {
				return nil // fraud-check always has stopped shards, for the page to show
			}
			return err
		})
	}
	<-ctx.Done()
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// sell puts orders and clicks until ctx ends. A few customers order the most.
func (s *shop) sell(ctx context.Context) error {
	customers := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.3, 2, 400)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for id := 1; ; id++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		o := order{ID: id, Customer: fmt.Sprintf("customer-%d", customers.Uint64()), Cents: 100 + rand.IntN(20_000)}
		for range 1 + rand.IntN(3) {
			o.Items = append(o.Items, goods[rand.IntN(len(goods))])
		}
		if id%997 == 0 {
			o.Cents = -1 // billing refuses it
		}
		if id%250 == 0 {
			o.Note = "ship together with the last one"
		}
		data, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if _, err := s.orders.PutRecord(ctx, o.Customer, data); err != nil {
			return unlessDone(ctx, err)
		}
		for i := range rand.IntN(4) {
			click := fmt.Appendf(nil, "GET /goods/%d?ref=%s", rand.IntN(len(goods)), o.Customer)
			if id%400 == 0 && i == 0 {
				click = []byte{0xde, 0xad, 0xbe, 0xef, byte(id)} // fraud-check panics on this
			}
			if _, err := s.clicks.PutRecord(ctx, o.Customer, click); err != nil {
				return unlessDone(ctx, err)
			}
		}
	}
}

// unlessDone returns err unless it is that of a context that has ended.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// bill creates an invoice for each order, exactly once.
func bill(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
	for _, rec := range batch.Records {
		var o order
		if err := json.Unmarshal(rec.Data, &o); err != nil {
			return &consumer.RecordError{Record: rec, Err: err}
		}
		if o.Cents < 0 {
			return &consumer.RecordError{Record: rec, Err: fmt.Errorf("order %d has a negative amount", o.ID)}
		}
		if o.ID%5 == 0 {
			invoice := fmt.Appendf(nil, `{"order":%d,"cents":%d}`, o.ID, o.Cents)
			if err := tx.PutRecord("invoices", o.Customer, invoice); err != nil {
				return err
			}
		}
	}
	return nil
}

// ship is slow, so that there is a backlog.
func ship(ctx context.Context, batch *consumer.Batch) error {
	select {
	case <-time.After(time.Duration(len(batch.Records)) * 3 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// check cannot handle data that is not text.
func check(_ context.Context, batch *consumer.Batch) error {
	for _, rec := range batch.Records {
		if rec.Data[0] == 0xde {
			panic("no rule for this click")
		}
	}
	return nil
}

// send fails for some mails, on every attempt.
func send(_ context.Context, rec queue.Record) error {
	var invoice struct{ Order int }
	if err := json.Unmarshal(rec.Data, &invoice); err != nil {
		return err
	}
	if invoice.Order%400 == 0 {
		return errors.New("550 mailbox unavailable")
	}
	return nil
}

// reshard splits the busiest shard now and then, or, if there are many shards, merges the
// quietest one with its neighbor. The page shows both without being reloaded. Shards that
// have just begun are left alone.
func reshard(ctx context.Context, stream *braid.Stream) error {
	tick := time.NewTicker(reshardTime)
	defer tick.Stop()
	before := make(map[braid.ShardID]int64)
	for {
		var open, settled []braid.ShardDescription
		for _, sh := range stream.Describe().Shards {
			if sh.Closed {
				continue
			}
			open = append(open, sh)
			if len(sh.Parents) == 0 || time.Since(sh.CreatedAt) > 3*reshardTime {
				settled = append(settled, sh)
			}
		}
		slices.SortFunc(settled, func(a, b braid.ShardDescription) int {
			return cmp.Compare(b.RecordsPut-before[b.ID], a.RecordsPut-before[a.ID])
		})
		var err error
		if len(before) > 0 && len(settled) > 0 {
			// One customer alone can make a shard busy; no split helps against that.
			busiest := max(0, slices.IndexFunc(settled, func(sh braid.ShardDescription) bool { return share(sh) > 1.0/12 }))
			quiet := settled[len(settled)-1]
			if len(open) < mostShards {
				_, _, err = stream.SplitShard(ctx, settled[busiest].ID, nil)
			} else if next := neighbor(settled, quiet); next != "" {
				_, err = stream.MergeShards(ctx, quiet.ID, next)
			}
		}
		// A user of the page may have been faster.
		if err != nil && !errors.Is(err, braid.ErrInvalidArgument) {
			return unlessDone(ctx, err)
		}
		for _, sh := range open {
			before[sh.ID] = sh.RecordsPut
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// share returns the part of all hash keys that a shard has, 0 to 1.
func share(sh braid.ShardDescription) float64 {
	start, _ := strconv.ParseFloat(sh.HashKeyRange.Start.String(), 64)
	end, _ := strconv.ParseFloat(sh.HashKeyRange.End.String(), 64)
	return (end - start) / math.Pow(2, 128)
}

// neighbor returns the next higher shard by hash keys, or "" if there is none.
func neighbor(open []braid.ShardDescription, of braid.ShardDescription) braid.ShardID {
	start, ok := of.HashKeyRange.End.Next()
	for _, sh := range open {
		if ok && sh.HashKeyRange.Start == start {
			return sh.ID
		}
	}
	return ""
}
