// First puts three records into a stream and reads them back. It is the program of the
// README.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/braidstream/braid"
)

func main() {
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
		// Records of one partition key are read in the order in which they were put.
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
}
