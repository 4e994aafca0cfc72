package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"
)

// where completes the target from the environment. Either a directory or an address must
// be given.
func (p *program) where() (target, error) {
	t := p.target
	t.warn = func(format string, args ...any) { fmt.Fprintf(p.stderr, "braid: "+format+"\n", args...) }
	if t.dir == "" && t.url == "" {
		t.dir, t.url = p.getenv("BRAID_DIR"), p.getenv("BRAID_URL")
	}
	switch {
	case t.dir != "" && t.url != "":
		return t, usagef("--dir %s and --url %s exclude each other: give one of them", t.dir, t.url)
	case t.dir == "" && t.url == "":
		return t, usagef("no database is given: use --dir, the directory of a stopped program or a backup, " +
			"or --url, the address of a live program's inspect page")
	case t.url != "" && t.keys != "":
		return t, usagef("--keys is only for a directory: a live program has its own keys")
	case t.url == "" && len(t.headers) > 0:
		return t, usagef("--header is only for --url")
	}
	return t, nil
}

// verb returns a RunE that runs fn with the store.
func (p *program) verb(access access, fn func(ctx context.Context, s store, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return p.withStore(cmd.Context(), access, func(s store) error { return fn(cmd.Context(), s, args) })
	}
}

// withStore opens the store, runs fn and closes it.
func (p *program) withStore(ctx context.Context, access access, fn func(store) error) (err error) {
	t, err := p.where()
	if err != nil {
		return err
	}
	s, err := p.open(ctx, t, access)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.Close(); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("close: %w", closeErr))
		}
	}()
	return fn(s)
}

// open opens the target.
func open(_ context.Context, t target, access access, logger *slog.Logger) (store, error) {
	if t.url != "" {
		return openRemote(t, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()})
	}
	return openDirectory(t, access, logger)
}

// newLogger returns a logger for events in the database, such as a full disk.
func newLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
