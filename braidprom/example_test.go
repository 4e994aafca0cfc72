package braidprom_test

import (
	"context"
	"fmt"
	"log"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidprom"
)

func ExampleNewCollector() {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	orders, err := db.OpenStream(context.Background(), "orders", nil)
	if err != nil {
		log.Fatal(err)
	}

	registry := prometheus.NewRegistry() // promhttp.HandlerFor serves it
	registry.MustRegister(braidprom.NewCollector(db, nil))

	if _, err := orders.PutRecord(context.Background(), "customer-42", []byte("one book")); err != nil {
		log.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "braid_stream_put_records_total" {
			m := family.GetMetric()[0]
			fmt.Println(m.GetLabel()[0].GetValue(), m.GetCounter().GetValue())
		}
	}
	// Output: orders 1
}
