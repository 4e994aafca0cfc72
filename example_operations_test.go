package braid_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/braidstream/braid"
)

// A database can be read whole once a night, at a rate that leaves most of the disk to others.
func ExampleDB_Verify() {
	ctx, db, orders := openExample("orders", 2)
	defer db.Close()
	if _, err := orders.PutRecord(ctx, "customer-42", []byte("order")); err != nil {
		log.Fatal(err)
	}
	report, err := db.Verify(ctx, &braid.VerifyOptions{BytesPerSecond: 8 << 20})
	for _, problem := range report.Problems {
		var lost *braid.CorruptError
		if errors.As(problem, &lost) { // restore a backup, or go on without these records:
			fmt.Println("trim", problem.Stream, "up to", lost.FirstAvailable)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Streams, "stream,", report.Shards, "shards,", report.Records, "record")
	// Output: 1 stream, 2 shards, 1 record
}

func ExampleDB_Backup() {
	ctx, db, orders := openExample("orders", 2)
	defer db.Close()
	if _, err := orders.PutRecord(ctx, "customer-42", []byte("order")); err != nil {
		log.Fatal(err)
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("braid-backup-%d", os.Getpid()))
	defer os.RemoveAll(dir)

	// While producers and readers use the database:
	err := db.Backup(ctx, dir, &braid.BackupOptions{
		Progress: func(doneBytes, totalBytes int64) {
			if doneBytes == totalBytes {
				fmt.Println("all copied")
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	copied, err := braid.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer copied.Close()
	for _, stream := range copied.Streams() {
		fmt.Println(stream.Name(), stream.Describe().Records)
	}
	// Output:
	// all copied
	// orders 1
}

func ExampleSalvage() {
	ctx := context.Background()
	work := filepath.Join(os.TempDir(), fmt.Sprintf("braid-salvage-%d", os.Getpid()))
	defer os.RemoveAll(work)
	damaged, saved := filepath.Join(work, "damaged"), filepath.Join(work, "saved")
	db, err := braid.Open(damaged, nil)
	if err != nil {
		log.Fatal(err)
	}
	orders, err := db.OpenStream(ctx, "orders", nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := orders.PutRecord(ctx, "customer-42", []byte("order")); err != nil {
		log.Fatal(err)
	}
	db.Close()

	// The disk loses the file that lists the tables.
	manifests, _ := filepath.Glob(filepath.Join(damaged, "store", "MANIFEST-*"))
	for _, name := range manifests {
		os.Remove(name)
	}
	_, err = braid.Open(damaged, nil)
	fmt.Println("open:", errors.Is(err, braid.ErrDataLoss) || errors.Is(err, braid.ErrCorrupt))

	report, err := braid.Salvage(ctx, damaged, saved, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("saved:", report.Records, "lost:", len(report.Lost))
	for _, lost := range report.Lost { // fetch these records again from their origin
		fmt.Println(lost.Stream, lost.Shard, lost.FirstLost, lost.FirstAvailable, lost.Records)
	}
	db, err = braid.Open(saved, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	for _, stream := range db.Streams() {
		fmt.Println(stream.Name(), stream.Describe().Records)
	}
	// Output:
	// open: true
	// saved: 1 lost: 0
	// orders 1
}

func ExampleStream_IncreaseRetention() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	audit, err := db.OpenStream(ctx, "audit", &braid.StreamOptions{
		Retention:      7 * 24 * time.Hour, // 0 means 24 hours, negative forever
		RetentionBytes: 10 << 30,           // beyond this, the oldest records are trimmed earlier
	})
	if err != nil {
		log.Fatal(err)
	}
	// Later: records that have not expired by then are kept for a year.
	if err := audit.IncreaseRetention(ctx, 8760*time.Hour); err != nil {
		log.Fatal(err)
	}
	fmt.Println(audit.Describe().Retention)
	// Output: 8760h0m0s
}

func ExampleThroughputExceededError() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	// Kinesis's budgets: 1,000 records and 1 MiB per second for each shard.
	clicks, err := db.OpenStream(ctx, "clicks", &braid.StreamOptions{
		Capacity: braid.Capacity{Mode: braid.Provisioned},
	})
	if err != nil {
		log.Fatal(err)
	}
	large := make([]byte, 1<<20)
	if _, err = clicks.PutRecord(ctx, "page-1", large); err != nil {
		log.Fatal(err)
	}
	_, err = clicks.PutRecord(ctx, "page-1", large)
	var exceeded *braid.ThroughputExceededError
	if errors.As(err, &exceeded) {
		fmt.Println("over", exceeded.Budget, "for less than 2s:", exceeded.RetryAfter < 2*time.Second)
	}
	// Or wait for it, as long as ctx allows.
	if _, err := clicks.PutRecordWait(ctx, "page-1", []byte("small")); err != nil {
		log.Fatal(err)
	}
	// Output: over WriteBytesPerSecond for less than 2s: true
}

func ExampleOnDemand() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, &braid.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	clicks, err := db.OpenStream(ctx, "clicks", &braid.StreamOptions{
		Capacity: braid.Capacity{Mode: braid.OnDemand, MaxShards: 64},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(clicks.Shards()), "shards to begin with")
	for _, decision := range db.Metrics().CapacityDecisions {
		fmt.Println(decision.Stream, decision.Action, "because", decision.Reason)
	}
	// Output: 4 shards to begin with
}

func ExampleStream_StartEncryption() {
	ctx := context.Background()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	keys, err := braid.NewKeyRing(map[string][]byte{"main": key}) // or OpenKeyRing(path)
	if err != nil {
		log.Fatal(err)
	}
	db, err := braid.Open(braid.InMemory, &braid.Options{KeyProvider: keys})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	patients, err := db.OpenStream(ctx, "patients", nil)
	if err != nil {
		log.Fatal(err)
	}
	// From here on partition keys and data are on disk as AES-256-GCM.
	if err := patients.StartEncryption(ctx, "main"); err != nil {
		log.Fatal(err)
	}
	if _, err := patients.PutRecord(ctx, "patient-7", []byte("pulse 61")); err != nil {
		log.Fatal(err)
	}
	for rec, err := range patients.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			log.Fatal(err) // ErrKeyUnavailable, without the key
		}
		fmt.Println(rec.PartitionKey, string(rec.Data))
	}
	// Output: patient-7 pulse 61
}

// The error of an open names the damaged file and the records that depend on it.
func ExampleFileDamageError() {
	ctx := context.Background()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("braid-damage-%d", os.Getpid()))
	defer os.RemoveAll(dir)
	for range 2 { // the second open moves the first one's records from the log to a table
		db, err := braid.Open(dir, nil)
		if err != nil {
			log.Fatal(err)
		}
		orders, err := db.OpenStream(ctx, "orders", nil)
		if err != nil {
			log.Fatal(err)
		}
		for range 3 {
			if _, err := orders.PutRecord(ctx, "customer-42", []byte("order")); err != nil {
				log.Fatal(err)
			}
		}
		db.Close()
	}
	tables, err := filepath.Glob(filepath.Join(dir, "store", "*.sst"))
	if err != nil {
		log.Fatal(err)
	}
	os.Remove(tables[len(tables)-1]) // by accident

	_, err = braid.Open(dir, nil)
	var damage *braid.FileDamageError
	if errors.As(err, &damage) { // put the file back; or else
		fmt.Println("a file is", damage.Damage)
		for _, lost := range damage.GivenUp {
			fmt.Println("AcceptLoss would give up", lost.Records, "records of", lost.Stream, "in", lost.Shard)
		}
	}
	// Output:
	// a file is missing
	// AcceptLoss would give up 3 records of orders in shardId-000000000000
}
