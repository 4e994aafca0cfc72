// Service is a whole service around a stream: an endpoint that puts records, an
// application that processes them, the inspect page, probes, and metrics for Prometheus.
// An interrupt stops it gracefully, and the next run continues where it stopped.
//
//	go run ./braidprom/examples/service -dir data
//	curl -d '{"item":"tea"}' 'localhost:8080/orders?customer=ann'
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidprom"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/inspect"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "`address` to serve on")
	dir := flag.String("dir", braid.InMemory, "`directory` of the database; without it, in memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatalf("%v (-addr chooses another address)", err)
	}
	if err := run(ctx, *dir, os.Stdout, listener); err != nil {
		log.Fatal(err)
	}
}

// run is the service. It ends when ctx does, or when a part of it fails.
func run(ctx context.Context, dir string, out io.Writer, listener net.Listener) (err error) {
	defer listener.Close()
	db, err := braid.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	orders, err := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 4})
	if err != nil {
		return err
	}
	worker, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}},
		consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			for _, rec := range batch.Records {
				fmt.Fprintf(out, "%s is billed for %s\n", rec.PartitionKey, rec.Data)
			}
			return nil // the batch is checkpointed
		}))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	registry, page, mux := prometheus.NewRegistry(), inspect.Handler(db, nil), http.NewServeMux()
	registry.MustRegister(braidprom.NewCollector(db, nil))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /healthz", page) // 200 while the storage works
	mux.Handle("GET /readyz", page)  // 200 while it accepts writes
	mux.Handle("/braid/", http.StripPrefix("/braid", until(ctx, page)))
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		order, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err == nil {
			_, err = orders.PutRecord(r.Context(), r.FormValue("customer"), order) // durable, in order for each customer
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	worked, served := make(chan error, 1), make(chan error, 1)
	go func() { defer cancel(); worked <- worker.Run(ctx) }()
	go func() { defer cancel(); served <- server.Serve(listener) }()
	fmt.Fprintf(out, "Look at http://%s/braid/ and end this with Ctrl-C.\n", listener.Addr())
	<-ctx.Done() // afterwards, requests are answered, and batches are finished and checkpointed
	grace, release := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer release()
	err = errors.Join(server.Shutdown(grace), <-worked)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// until ends the requests of a handler when ctx ends. Live connections of the page do not
// end by themselves, and Shutdown waits for them.
func until(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		next.ServeHTTP(w, r.WithContext(inner))
	})
}
