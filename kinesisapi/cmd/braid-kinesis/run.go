package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/control"
)

// The exit codes.
const (
	exitOK = iota
	exitFailure
	exitUsage
)

// run is the program. It ends with its context.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	c, err := parse(args, env, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "braid-kinesis: %v (-h lists the options)\n", err)
		return exitUsage
	case c.version:
		fmt.Fprintln(stdout, versionText())
		return exitOK
	}
	if err := serve(ctx, c, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "braid-kinesis: %v\n", err)
		return exitFailure
	}
	return exitOK
}

// serve listens, opens the database, and serves it until the context ends.
func serve(ctx context.Context, c *config, stdout, stderr io.Writer) (err error) {
	logger, access := c.logs(stderr)
	cert, err := c.certificate()
	if err != nil {
		return err
	}
	// The port comes first: if it is taken, no file is touched.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	defer listener.Close() // again, if the server had it
	url := urlOf(c.addr, listener, cert != nil)

	db, err := c.open(logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	streams, err := prepare(ctx, db, c)
	if err != nil {
		return err
	}
	withControl := c.control.yes || !c.control.set && isLoopback(listener)
	api, err := kinesisapi.New(db, &kinesisapi.Options{
		Account:            c.account,
		Region:             c.region,
		SeparateAccounts:   c.separateAccounts,
		ExactLimits:        c.exactLimits,
		CheckAuthorization: c.checkAuthorization,
		CreateDelay:        c.createDelay,
		UpdateDelay:        c.updateDelay,
		DeleteDelay:        c.deleteDelay,
		Logger:             logger,
		Access:             access,
		Control:            withControl,
	})
	if err != nil {
		return err
	}
	defer api.Close()
	var handler http.Handler = api
	if !withControl {
		handler = withHealth(db, api)
	}
	server := newServer(handler, cert, logger)
	served := make(chan error, 1)
	go func() {
		if cert != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	announce(stdout, c, url, withControl, streams)

	select {
	case err := <-served:
		return err // the listener failed
	case <-ctx.Done():
	}
	fmt.Fprintln(stdout, "braid-kinesis ends when the requests under way are answered; Ctrl-C ends it at once.")
	shutdown(server, api, c.shutdownTimeout, logger)
	return nil
}

// shutdown stops accepting, ends the subscriptions, and waits for the requests that
// are under way, for no longer than the timeout.
func shutdown(server *http.Server, api *kinesisapi.Server, timeout time.Duration, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		api.Close()
	}()
	if err := server.Shutdown(ctx); err != nil {
		logger.Warn("not all requests were answered in time", "timeout", timeout)
		_ = server.Close() // it was only to break the connections
	}
	<-ended // no subscription outlives its connection
}

// newServer makes the HTTP server: HTTP/1.1 and HTTP/2, which plain connections
// begin with and TLS ones agree on.
func newServer(handler http.Handler, cert *tls.Certificate, logger *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:           handler,
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1000}, // subscriptions share a connection
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	server.Protocols.SetHTTP1(true)
	if cert == nil {
		server.Protocols.SetUnencryptedHTTP2(true)
	} else {
		server.Protocols.SetHTTP2(true)
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}}
	}
	return server
}

// withHealth serves health and ready where there is no control API.
func withHealth(db *braid.DB, api http.Handler) http.Handler {
	health := control.Health(db)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, control.Prefix) {
			health.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// open opens the database. One in memory has nothing to sync.
func (c *config) open(logger *slog.Logger) (*braid.DB, error) {
	options := &braid.Options{Logger: logger, Durability: c.durability}
	dir := c.dir
	if dir == "" {
		dir, options.Durability = braid.InMemory, braid.NoSync
	}
	switch {
	case c.keys != "":
		ring, err := braid.OpenKeyRing(c.keys)
		if err != nil {
			return nil, fmt.Errorf("-keys: %w", err)
		}
		options.KeyProvider = ring
	case c.anyKey:
		options.KeyProvider = kinesisapi.AnyKey()
	default:
		options.KeyProvider = kinesisapi.ServiceKey()
	}
	return braid.Open(dir, options)
}

// logs returns the logger of failures, and what logs requests, or nil.
func (c *config) logs(w io.Writer) (*slog.Logger, func(kinesisapi.Access)) {
	var handler slog.Handler = slog.NewTextHandler(w, nil)
	if c.accessLog == "json" {
		handler = slog.NewJSONHandler(w, nil)
	}
	logger := slog.New(handler)
	if c.accessLog == "off" {
		return logger, nil
	}
	return logger, func(a kinesisapi.Access) {
		attrs := make([]slog.Attr, 0, 6)
		attrs = append(attrs, slog.String("operation", a.Operation), slog.Int("status", a.Status))
		if a.Error != "" {
			attrs = append(attrs, slog.String("error", a.Error))
		}
		attrs = append(attrs, slog.Int("bytes", a.ResponseBytes), slog.Duration("duration", a.Duration), slog.String("remote", a.Remote))
		logger.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
	}
}

// isLoopback reports whether only this machine can reach the listener.
func isLoopback(listener net.Listener) bool {
	addr, ok := listener.Addr().(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}
