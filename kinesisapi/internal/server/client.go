package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
)

// Client is an HTTP client of a server in the same process: no socket, and, but
// for subscriptions, no goroutine lies between.
type Client struct {
	server func() *Server
}

// NewClient returns a client of the server that the function names at the time of
// a request. Of nil, it is as if nobody listened.
func NewClient(server func() *Server) *Client { return &Client{server} }

// Do sends a request and returns the answer. It is what an SDK needs of a client.
func (c *Client) Do(r *http.Request) (*http.Response, error) { return c.RoundTrip(r) }

// RoundTrip is part of [http.RoundTripper].
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := context.Cause(r.Context()); err != nil {
		closeBody(r)
		return nil, err
	}
	s := c.server()
	if s == nil {
		closeBody(r)
		return nil, io.ErrUnexpectedEOF
	}
	reply := s.answer(r)
	closeBody(r)
	if reply.dropped {
		reply.free()
		if err := context.Cause(r.Context()); err != nil {
			return nil, err
		}
		return nil, io.ErrUnexpectedEOF
	}
	response := &http.Response{
		Status:     decimal(reply.status) + " " + http.StatusText(reply.status),
		StatusCode: reply.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  make(http.Header, len(reply.header)),
		Request: r,
	}
	for i := range reply.header {
		h := &reply.header[i]
		response.Header[h.name] = h.values[:]
	}
	if reply.stream != nil {
		response.ContentLength = -1
		response.Body = s.pipe(r.Context(), reply)
		return response, nil
	}
	response.ContentLength = int64(len(reply.body))
	response.Body = &replyBody{Reader: *bytes.NewReader(reply.body), reply: reply}
	return response, nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // what was read of it has been used
	}
}

// replyBody is the body of an answer. Its memory is used again when it is closed.
type replyBody struct {
	bytes.Reader
	reply *reply
}

func (b *replyBody) Close() error {
	if b.reply != nil {
		b.Reset(nil)
		b.reply.free()
		b.reply = nil
	}
	return nil
}

// pipe returns a body that a goroutine writes a subscription to. It ends with the
// subscription, with the request's context, with the server, and when the body is
// closed.
func (s *Server) pipe(ctx context.Context, reply *reply) io.ReadCloser {
	ctx, cancel := context.WithCancelCause(ctx)
	r, w := io.Pipe()
	s.streams.Go(func() {
		defer reply.free()
		defer func() { _ = w.CloseWithError(context.Cause(ctx)) }() // without a cause it is the end
		defer context.AfterFunc(ctx, func() { _ = w.CloseWithError(context.Cause(ctx)) })()
		defer context.AfterFunc(s.ctx, func() { cancel(io.ErrUnexpectedEOF) })()
		for frame := range reply.stream(ctx) {
			if _, err := w.Write(frame); err != nil {
				return
			}
		}
	})
	return &pipeBody{r, cancel}
}

type pipeBody struct {
	*io.PipeReader
	cancel context.CancelCauseFunc
}

func (b *pipeBody) Close() error {
	b.cancel(nil) // the goroutine ends
	return b.PipeReader.Close()
}
