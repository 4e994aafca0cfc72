package braidtest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
)

// Records acknowledged before the power cut are still there afterwards. Records put
// without fsync may be lost.
func ExampleDisk() {
	ctx := context.Background()
	disk := braidtest.NewDisk()
	db, err := disk.Open(nil)
	if err != nil {
		log.Fatal(err)
	}
	orders, err := db.OpenStream(ctx, "orders", nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := orders.PutRecord(ctx, "customer-42", []byte("ordered")); err != nil {
		log.Fatal(err)
	}

	afterwards := disk.PowerCut()
	if err := db.Close(); err != nil {
		log.Fatal(err)
	}

	db, err = afterwards.Open(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if orders, err = db.Stream("orders"); err != nil {
		log.Fatal(err)
	}
	for rec, err := range orders.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", rec.PartitionKey, rec.Data)
	}
	// Output: customer-42: ordered
}
