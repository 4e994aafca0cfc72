// Inspect is a shop with a page to watch it: orders come in, are billed, shipped and
// mailed, some fail, and a busy shard is split now and then. Open the page whose address
// it prints.
//
//	go run ./examples/inspect
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "`address` to serve the page on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatalf("%v (-addr chooses another address)", err)
	}
	if err := run(ctx, os.Stdout, listener); err != nil {
		log.Fatal(err)
	}
}

// run serves the page on a listener, which it closes, and runs the shop until ctx ends.
func run(ctx context.Context, out io.Writer, listener net.Listener) error {
	// Many calls fail here on purpose; the page shows them.
	quiet := slog.New(slog.DiscardHandler)
	db, err := braid.Open(braid.InMemory, &braid.Options{Logger: quiet})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	shop, err := open(ctx, db, quiet)
	if err != nil {
		return errors.Join(err, db.Close(), listener.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("/braid/", http.StripPrefix("/braid", inspect.Handler(db, &inspect.Options{Writable: true})))
	mux.Handle("/{$}", http.RedirectHandler("/braid/", http.StatusFound))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "Look at http://%s/braid/ and end this with Ctrl-C.\n", listener.Addr())
	fmt.Fprintf(out, "In a terminal: go run ./cmd/braid --url http://%s/braid tail -f orders\n", listener.Addr())

	err = shop.trade(ctx)
	// db.Close ends the page's live connections, so server.Close interrupts nothing.
	err = errors.Join(err, db.Close(), server.Close())
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
