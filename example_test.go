package braid_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/braidstream/braid"
)

// The README quotes these examples.

func Example() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil) // or a directory, such as "data"
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	orders, err := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 4})
	if err != nil {
		log.Fatal(err)
	}
	for _, event := range []string{"ordered", "paid", "shipped"} {
		// The partition key keeps what belongs together in order.
		if _, err := orders.PutRecord(ctx, "customer-42", []byte(event)); err != nil {
			log.Fatal(err)
		}
	}
	for rec, err := range orders.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", rec.PartitionKey, rec.Data)
	}
	// Output:
	// customer-42: ordered
	// customer-42: paid
	// customer-42: shipped
}

func ExampleOpen() {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("braid-example-%d", os.Getpid()))
	defer os.RemoveAll(dir)

	db, err := braid.Open(dir, &braid.Options{
		Durability:   braid.Interval, // a crash may lose up to the last 100 ms
		SyncInterval: 100 * time.Millisecond,
		CacheBytes:   64 << 20,
		Logger:       slog.Default(), // is told when the disk is full, and little else
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = braid.Open(dir, nil)
	fmt.Println("a second time:", errors.Is(err, braid.ErrLocked))
	fmt.Println("closed:", db.Close())
	// Output:
	// a second time: true
	// closed: <nil>
}

// openExample returns a database with one stream for the examples below.
func openExample(name string, shards int) (context.Context, *braid.DB, *braid.Stream) {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	stream, err := db.OpenStream(ctx, name, &braid.StreamOptions{Shards: shards})
	if err != nil {
		log.Fatal(err)
	}
	return ctx, db, stream
}

func ExampleStream_PutRecords() {
	ctx, db, metrics := openExample("metrics", 2)
	defer db.Close()

	results, err := metrics.PutRecords(ctx, []braid.Entry{
		{PartitionKey: "cpu", Data: []byte("0.42")},
		{PartitionKey: "disk", Data: []byte("0.77")},
		{PartitionKey: "cpu", Data: []byte("0.45")},
	})
	if err != nil {
		log.Fatal(err) // none of them is stored, unless it is ErrOutcomeUnknown
	}
	for _, res := range results {
		fmt.Println(res.ShardID)
	}
	fmt.Println("in order:", results[0].SequenceNumber.Compare(results[2].SequenceNumber) < 0)
	// Output:
	// shardId-000000000001
	// shardId-000000000000
	// shardId-000000000001
	// in order: true
}

func ExampleStream_Follow() {
	background, db, orders := openExample("orders", 4)
	defer db.Close()

	ctx, stop := context.WithCancel(background)
	defer stop()
	go func() {
		for i := range 3 {
			if _, err := orders.PutRecord(background, "customer-42", fmt.Appendf(nil, "order %d", i)); err != nil {
				log.Fatal(err)
			}
		}
	}()
	seen := 0
	for rec, err := range orders.Follow(ctx, braid.TrimHorizon()) {
		if errors.Is(err, context.Canceled) {
			fmt.Println("stopped")
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(rec.Data))
		if seen++; seen == 3 {
			stop()
		}
	}
	// Output:
	// order 0
	// order 1
	// order 2
	// stopped
}

func ExampleAfterSequence() {
	ctx, db, orders := openExample("orders", 4)
	defer db.Close()
	for _, customer := range []string{"ann", "bob", "cid"} {
		if _, err := orders.PutRecord(ctx, customer, []byte("order")); err != nil {
			log.Fatal(err)
		}
	}

	// A reader keeps the number of the last record that it has processed. The number is a
	// text of at most 56 digits, for a file, a table, or a key of this database.
	var bookmark string
	for rec, err := range orders.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("first run:", rec.PartitionKey)
		bookmark = rec.SequenceNumber.String()
		if rec.PartitionKey == "bob" {
			break
		}
	}

	// The next run resumes after it, over all shards.
	last, err := braid.ParseSequenceNumber(bookmark)
	if err != nil {
		log.Fatal(err)
	}
	for rec, err := range orders.Records(ctx, braid.AfterSequence(last)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("second run:", rec.PartitionKey)
	}
	// Output:
	// first run: ann
	// first run: bob
	// second run: cid
}

func ExampleAtTime() {
	ctx, db, readings := openExample("readings", 1)
	defer db.Close()
	for i := range 4 {
		if _, err := readings.PutRecord(ctx, "sensor", []byte{byte(i)}); err != nil {
			log.Fatal(err)
		}
	}
	var arrivals []time.Time
	for rec := range readings.Records(ctx, braid.TrimHorizon()) {
		arrivals = append(arrivals, rec.ArrivalTime)
	}

	// Replay the records since a time, such as time.Now().Add(-time.Hour).
	since := arrivals[2]
	for rec, err := range readings.Records(ctx, braid.AtTime(since)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("reading", rec.Data[0])
	}
	// Output:
	// reading 2
	// reading 3
}

func ExampleShard_GetRecords() {
	ctx, db, logs := openExample("logs", 1)
	defer db.Close()
	for i := range 5 {
		if _, err := logs.PutRecord(ctx, "host", fmt.Appendf(nil, "line %d", i)); err != nil {
			log.Fatal(err)
		}
	}

	shard := logs.Shards()[0]
	for from := braid.TrimHorizon(); ; {
		page, err := shard.GetRecords(ctx, from, &braid.GetRecordsOptions{Limit: 2})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d records, %d still to come\n", len(page.Records), page.BehindRecords)
		if page.BehindLatest == 0 { // at the tip
			break
		}
		from = page.Next
	}
	// Output:
	// 2 records, 3 still to come
	// 2 records, 1 still to come
	// 1 records, 0 still to come
}

func ExampleDB_Update() {
	ctx, db, payments := openExample("payments", 1)
	defer db.Close()
	for _, amount := range []string{"30", "12"} {
		if _, err := payments.PutRecord(ctx, "customer-42", []byte(amount)); err != nil {
			log.Fatal(err)
		}
	}

	// The balance and the reader's position change together. However this program
	// ends, each payment is counted exactly once.
	apply := func(rec braid.Record) error {
		return db.Update(ctx, func(tx *braid.Tx) error {
			balance, err := getInt(tx, "balance/"+rec.PartitionKey)
			if err != nil {
				return err
			}
			amount, err := strconv.Atoi(string(rec.Data))
			if err != nil {
				return err
			}
			return errors.Join(
				tx.Set([]byte("balance/"+rec.PartitionKey), strconv.AppendInt(nil, int64(balance+amount), 10)),
				tx.Set([]byte("position"), []byte(rec.SequenceNumber.String())),
			)
		})
	}
	for rec, err := range payments.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			log.Fatal(err)
		}
		if err := apply(rec); err != nil {
			log.Fatal(err)
		}
	}

	_ = db.View(ctx, func(tx *braid.Tx) error {
		balance, err := getInt(tx, "balance/customer-42")
		fmt.Println("balance:", balance, err)
		return nil
	})
	// Output:
	// balance: 42 <nil>
}

// getInt reads a number that a transaction has stored; 0 if there is none.
func getInt(tx *braid.Tx, key string) (int, error) {
	value, err := tx.Get([]byte(key))
	if errors.Is(err, braid.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(value))
}

func ExampleTx_PutRecord() {
	ctx, db, _ := openExample("orders", 2)
	defer db.Close()
	if _, err := db.OpenStream(ctx, "invoices", nil); err != nil {
		log.Fatal(err)
	}

	// An order is never without its invoice, and the stock counts both.
	err := db.Update(ctx, func(tx *braid.Tx) error {
		stock, err := getInt(tx, "stock/apples")
		if err != nil {
			return err
		}
		return errors.Join(
			tx.Set([]byte("stock/apples"), strconv.AppendInt(nil, int64(stock-3), 10)),
			tx.PutRecord("orders", "customer-42", []byte("3 apples")),
			tx.PutRecord("invoices", "customer-42", []byte("3 apples: 1.20")),
		)
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, stream := range db.Streams() {
		for rec := range stream.Records(ctx, braid.TrimHorizon()) {
			fmt.Printf("%s: %s\n", stream.Name(), rec.Data)
		}
	}
	// Output:
	// invoices: 3 apples: 1.20
	// orders: 3 apples
}

func ExampleDB_View() {
	ctx, db, _ := openExample("orders", 1)
	defer db.Close()
	err := db.Update(ctx, func(tx *braid.Tx) error {
		return errors.Join(
			tx.Set([]byte("user/ann"), []byte("admin")),
			tx.Set([]byte("user/bob"), []byte("guest")),
			tx.Set([]byte("version"), []byte("7")),
		)
	})
	if err != nil {
		log.Fatal(err)
	}

	err = db.View(ctx, func(tx *braid.Tx) error {
		for kv, err := range tx.Scan([]byte("user/"), []byte("user0")) { // '0' follows '/'
			if err != nil {
				return err
			}
			fmt.Printf("%s is %s\n", kv.Key, kv.Value)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// user/ann is admin
	// user/bob is guest
	// <nil>
}

func ExampleHashKeyOf() {
	ctx, db, jobs := openExample("jobs", 3)
	defer db.Close()

	// Which shard does a key belong to?
	for i, shard := range jobs.Shards() {
		if shard.HashKeyRange().Contains(braid.HashKeyOf("job-7")) {
			fmt.Println("job-7 belongs to shard", i)
		}
	}

	// Put a record to every shard, with explicit hash keys.
	var entries []braid.Entry
	for _, shard := range jobs.Shards() {
		start := shard.HashKeyRange().Start
		entries = append(entries, braid.Entry{PartitionKey: "all", ExplicitHashKey: &start, Data: []byte("reload")})
	}
	results, err := jobs.PutRecords(ctx, entries)
	if err != nil {
		log.Fatal(err)
	}
	for _, res := range results {
		fmt.Println(res.ShardID)
	}
	// Output:
	// job-7 belongs to shard 1
	// shardId-000000000000
	// shardId-000000000001
	// shardId-000000000002
}

func ExampleStream_SplitShard() {
	ctx, db, orders := openExample("orders", 1)
	defer db.Close()

	// Producers and followers continue: no call fails, and every key stays in order.
	lower, upper, err := orders.SplitShard(ctx, orders.Shards()[0].ID(), nil) // in the middle
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(lower.ID(), "came from", lower.Parents())
	fmt.Println(upper.ID(), "starts at", upper.HashKeyRange().Start)

	// Or as many as you need, in one commit:
	if err := orders.UpdateShardCount(ctx, 16); err != nil {
		log.Fatal(err)
	}
	open := 0
	for _, shard := range orders.Describe().Shards {
		if !shard.Closed {
			open++
		}
	}
	fmt.Println(open, "shards")
	// Output:
	// shardId-000000000001 came from [shardId-000000000000]
	// shardId-000000000002 starts at 170141183460469231731687303715884105728
	// 16 shards
}

func ExampleTrimmedError() {
	ctx, db, logs := openExample("logs", 1)
	defer db.Close()
	var numbers []braid.SequenceNumber
	for i := range 5 {
		res, err := logs.PutRecord(ctx, "host", fmt.Appendf(nil, "line %d", i))
		if err != nil {
			log.Fatal(err)
		}
		numbers = append(numbers, res.SequenceNumber)
	}
	if err := logs.Trim(ctx, braid.AtSequence(numbers[3])); err != nil {
		log.Fatal(err)
	}

	shard := logs.Shards()[0]
	_, err := shard.GetRecords(ctx, braid.AfterSequence(numbers[0]), nil)
	var trimmed *braid.TrimmedError
	if errors.As(err, &trimmed) {
		fmt.Println("lost up to line 2:", trimmed.LastLost == numbers[2])
		page, err := shard.GetRecords(ctx, braid.AtSequence(trimmed.FirstAvailable), nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("goes on with", string(page.Records[0].Data))
	}
	// Output:
	// lost up to line 2: true
	// goes on with line 3
}

func ExampleInvalidArgumentError() {
	ctx, db, orders := openExample("orders", 1)
	defer db.Close()

	_, err := orders.PutRecord(ctx, "", []byte("order"))
	fmt.Println(err)

	var invalid *braid.InvalidArgumentError
	switch {
	case err == nil: // stored, as durable as Options.Durability says
	case errors.Is(err, braid.ErrOutcomeUnknown): // stored or not: read the stream to find out
	case errors.As(err, &invalid): // not stored, and never will be
		fmt.Println("wrong:", invalid.Field)
	default: // not stored; the error says why
	}
	// Output:
	// braid: put record "orders": invalid argument: PartitionKey must be 1 to 256 characters; it is ""
	// wrong: PartitionKey
}

func ExampleStream_Describe() {
	ctx, db, orders := openExample("orders", 2)
	defer db.Close()
	for _, customer := range []string{"ann", "bob", "cid"} {
		if _, err := orders.PutRecord(ctx, customer, []byte("order")); err != nil {
			log.Fatal(err)
		}
	}

	description := orders.Describe()
	fmt.Println(description.Name, "has", description.Records, "records of", description.Bytes, "bytes")
	for _, shard := range description.Shards {
		fmt.Println(shard.ID, "from hash key", shard.HashKeyRange.Start, "has", shard.Records)
	}
	fmt.Println("puts:", db.Metrics().RecordsPut)
	// Output:
	// orders has 3 records of 24 bytes
	// shardId-000000000000 from hash key 0 has 2
	// shardId-000000000001 from hash key 170141183460469231731687303715884105728 has 1
	// puts: 3
}

func ExampleParseSequenceNumber() {
	n, err := braid.ParseSequenceNumber("49590338271490256608559692538361571095921575989136588898")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n.ShardID(), n.Time())
	// Output:
	// shardId-000000000006 2018-12-17 22:10:50 +0000 UTC
}

func ExampleParseShardID() {
	id, err := braid.ParseShardID("7") // as a person typed it
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id, id.Index())
	// Output:
	// shardId-000000000007 7
}
