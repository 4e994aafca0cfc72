package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/control"
	"github.com/braidstream/braid/kinesisapi/internal/server"
)

// The exit codes.
const (
	exitOK = iota
	exitFailure
	exitUsage
)

// run is the program. It returns the exit code, after ctx ends at the latest.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	c, err := parse(args, env, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "braid-kinesis: %v (-h lists the options)\n", err)
		return exitUsage
	case c.version:
		fmt.Fprintln(stdout, versionText(debug.ReadBuildInfo()))
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
	httpServer := c.newServer(logger)
	listeners, urls, err := c.listen(ctx, httpServer.ErrorLog)
	for _, l := range listeners {
		defer l.Close() // closing twice is harmless: the server closes those that it serves
	}
	if err != nil {
		return err
	}

	db, err := c.open(logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	streams, err := prepare(ctx, db, c, logger)
	if err != nil {
		return err
	}
	withControl := c.control.yes || !c.control.set && areLoopback(listeners)
	api, err := kinesisapi.New(db, &kinesisapi.Options{
		Account:          c.account,
		Region:           c.region,
		SeparateAccounts: c.separateAccounts,
		ExactLimits:      c.exactLimits,
		ShardLimit:       c.shardLimit,

		OnDemandStreamLimit: c.onDemandStreamLimit,

		CheckAuthorization: c.checkAuthorization,
		CreateDelay:        c.createDelay,
		UpdateDelay:        c.updateDelay,
		DeleteDelay:        c.deleteDelay,
		BodyTimeout:        orUnlimited(c.bodyTimeout),
		AnswerTimeout:      orUnlimited(c.answerTimeout),
		Logger:             logger,
		Access:             access,
		Control:            withControl,
		ControlHosts:       c.controlHosts,
	})
	if err != nil {
		return err
	}
	defer api.Close()
	httpServer.Handler = api
	if !withControl {
		httpServer.Handler = c.withHealth(db, api)
	}
	httpServer.Handler = markTLS(httpServer.Handler)
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- httpServer.Serve(l) }()
	}
	announce(stdout, c, urls, withControl, streams)

	select {
	case err := <-served: // a listener failed
		_ = httpServer.Close() // its error matters less than err
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(stdout, "braid-kinesis shuts down after the current requests; Ctrl-C ends it at once.")
	shutdown(httpServer, api, c.shutdownTimeout, logger)
	return nil
}

// shutdown stops accepting connections, ends the subscriptions, and waits for current
// requests for at most the timeout.
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
		_ = server.Close() // to break the connections; its error does not matter
	}
	<-ended // soon: a subscription ends with its connection
}

// withHealth adds health and ready to api, for a server without the control API.
func (c *config) withHealth(db *braid.DB, api http.Handler) http.Handler {
	health := server.Bounds{Body: c.bodyTimeout, Answer: c.answerTimeout}.Wrap(control.Health(db))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, control.Prefix) {
			health.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// open opens the database. A database in memory needs no fsync.
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

// logs returns the logger of failures, and the function that logs requests: nil if it is
// off.
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
		attrs = append(attrs, slog.Int64("bytes", a.ResponseBytes), slog.Duration("duration", a.Duration), slog.String("remote", a.Remote))
		logger.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
	}
}
