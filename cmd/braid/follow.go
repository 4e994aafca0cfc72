package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/braidstream/braid"
)

const (
	// silence is how long a connection may be without a sign of life. The page sends one
	// every 15 seconds.
	silence = time.Minute

	// The pause between attempts to reconnect, which doubles.
	firstReconnect = 100 * time.Millisecond
	maxReconnect   = 5 * time.Second
)

// follow reads live events until ctx or the shard ends.
//
// A lost connection, after a restart of the program or a network failure, is made again
// after the last complete record. A sequence number is a place in the whole stream, and
// records come in that order, so no record is left out or repeated. The first connection
// is not retried, since its failure may mean a wrong address.
func (r *remote) follow(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, take func(braid.Record) bool) error {
	takeAndNote := func(rec braid.Record) bool {
		from = braid.AfterSequence(rec.SequenceNumber)
		return take(rec)
	}
	pause := firstReconnect
	warned := false
	for first := true; ; first = false {
		begin := from
		err := r.connect(ctx, stream, shard, from, func() {
			if warned {
				r.warn("the connection to %s is back", r.shown)
				warned = false
			}
		}, takeAndNote)
		var lost *lostError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &lost):
			return err
		case first && !lost.connected:
			return lost.error
		case !from.Equal(begin):
			pause = firstReconnect
		}
		if !warned {
			r.warn("the connection to %s is lost: %v; retrying", r.shown, lost.error)
			warned = true
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, maxReconnect)
	}
}

// lostError is the end of a connection that can be continued by another one.
type lostError struct {
	error
	connected bool // the program had answered
}

func (e *lostError) Unwrap() error { return e.error }

// connect makes one connection. It calls connected when the program has answered.
func (r *remote) connect(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, connected func(), take func(braid.Record) bool) error {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alive := time.AfterFunc(silence, func() { cancel(fmt.Errorf("the program has sent nothing for %s", silence)) })
	defer alive.Stop()
	query := url.Values{"stream": {stream}, "from": {from.String()}, "rate": {"all"}, "data": {wholeData}, "encrypted": {"show"}}
	if shard != "" {
		query.Set("shard", string(shard))
	}
	response, err := r.send(ctx, http.MethodGet, "api/tail", query, nil)
	if err != nil {
		if isPassing(err) {
			return &lostError{err, false}
		}
		return err
	}
	defer response.Body.Close()
	connected()
	ended := false // not by the connection
	err = readEvents(response.Body, func() { alive.Reset(silence) }, func(name string, data []byte) (more bool, err error) {
		switch name {
		case "record":
			var rec braid.Record
			if err := json.Unmarshal(data, &rec); err != nil {
				ended = true
				return false, fmt.Errorf("--url %s: invalid record from the inspect page: %w", r.shown, err)
			}
			ended = !take(rec)
			return !ended, nil
		case "end":
			ended = true
			var f failure
			return false, errors.Join(json.Unmarshal(data, &f), f.err())
		}
		return true, nil
	})
	switch {
	case errors.Is(err, braid.ErrClosed): // the program stops
	case ended:
		return err
	case outer.Err() == nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return &lostError{err, true}
}

// isPassing reports whether an error may be temporary: the program is not running, or it
// is starting or stopping, or a proxy in front of it says so.
func isPassing(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.status >= http.StatusInternalServerError
	}
	var of *remoteError
	return !errors.As(err, &of) || of.status == http.StatusServiceUnavailable
}

// sleep waits, or returns the cause of ctx if that ends earlier.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// readEvents reads server-sent events until handle returns that no more are needed. An
// earlier end of r is an error; an incomplete event is left out.
func readEvents(r io.Reader, line func(), handle func(name string, data []byte) (more bool, err error)) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var name string
	var data []byte
	for {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		line()
		text = bytes.TrimSuffix(text, []byte{'\n'})
		field, value, _ := bytes.Cut(text, []byte(": "))
		switch {
		case len(text) == 0:
			if name != "" {
				more, err := handle(name, data)
				if err != nil || !more {
					return err
				}
			}
			name, data = "", nil
		case string(field) == "event":
			name = string(value)
		case string(field) == "data":
			data = append(data, value...)
		}
	}
}
