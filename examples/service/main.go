// Service is a whole service around a stream: an endpoint that puts records, an
// application that processes them, the inspect page, a probe and figures for a monitor.
// An interrupt ends it in order, and the next run goes on where it was.
//
//	go run ./examples/service -dir data
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

	"github.com/braidstream/braid"
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

// run is the service. It ends when ctx does, or when a part of it fails, and closes the
// listener.
func run(ctx context.Context, dir string, out io.Writer, listener net.Listener) (err error) {
	defer listener.Close() // which the server has done, if it was started
	db, err := braid.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	orders, err := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 4})
	if err != nil {
		return err
	}
	worker, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}}, billing(out))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{Handler: routes(ctx, db, orders), ReadHeaderTimeout: 10 * time.Second}
	worked, served := make(chan error, 1), make(chan error, 1)
	go func() { defer cancel(); worked <- worker.Run(ctx) }()
	go func() { defer cancel(); served <- server.Serve(listener) }()
	fmt.Fprintf(out, "Look at http://%s/braid/ and end this with Ctrl-C.\n", listener.Addr())

	<-ctx.Done()
	// Requests under way are answered, and batches under way are finished and
	// checkpointed. Then nothing uses the database any more.
	grace, release := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer release()
	err = errors.Join(server.Shutdown(grace), <-worked)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func routes(ctx context.Context, db *braid.DB, orders *braid.Stream) http.Handler {
	page := inspect.Handler(db, nil)
	mux := http.NewServeMux()
	mux.Handle("/braid/", http.StripPrefix("/braid", until(ctx, page)))
	mux.Handle("GET /healthz", page) // 200 while the storage works
	mux.Handle("GET /readyz", page)  // 200 while it takes writes
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) { writeMetrics(w, r, db) })
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		order, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		// Orders of a customer are billed in the order in which they were put.
		result, err := orders.PutRecord(r.Context(), r.FormValue("customer"), order)
		switch {
		case errors.Is(err, braid.ErrInvalidArgument): // such as no customer
			http.Error(w, err.Error(), http.StatusBadRequest)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, result.SequenceNumber) // it is durable
		}
	})
	return mux
}

// until ends the requests of a handler with ctx. The page has live connections, which do
// not end by themselves, and for which Shutdown would wait.
func until(ctx context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		next.ServeHTTP(w, r.WithContext(inner))
	})
}

// billing processes orders. An error would have it called again with the same batch.
func billing(out io.Writer) consumer.Processor {
	return consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
		for _, rec := range batch.Records {
			fmt.Fprintf(out, "%s is billed for %s\n", rec.PartitionKey, rec.Data)
		}
		return nil
	})
}

// writeMetrics writes some figures as Prometheus and others read them.
func writeMetrics(w http.ResponseWriter, r *http.Request, db *braid.DB) {
	app, err := consumer.OpenApp(db, "billing")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	status, err := app.Status(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	m := db.Metrics()
	fmt.Fprintf(w, "braid_records_put_total %d\n", m.RecordsPut)
	fmt.Fprintf(w, "braid_commits_total %d\n", m.Commits)
	fmt.Fprintf(w, "braid_disk_bytes %d\n", m.DiskBytes)
	fmt.Fprintf(w, "braid_behind_records{app=%q} %d\n", app.Name(), status.BehindRecords)
	fmt.Fprintf(w, "braid_behind_seconds{app=%q} %g\n", app.Name(), status.BehindLatest.Seconds())
}
