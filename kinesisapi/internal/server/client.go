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
	reply := s.answer(r, nil)
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
// subscription, with the server, when the body is closed, and with the request's
// context, whose end is the only one that is an error.
func (s *Server) pipe(request context.Context, reply *reply) io.ReadCloser {
	ctx, cancel := context.WithCancel(request)
	r, w := io.Pipe()
	finish := func() { _ = w.CloseWithError(context.Cause(request)) } // the first time counts
	ended := make(chan struct{})
	go func() {
		defer s.streams.Done()
		defer close(ended)
		defer reply.free()
		defer finish()
		defer cancel()
		defer context.AfterFunc(ctx, finish)() // a write that waits for the reader ends
		defer context.AfterFunc(s.ctx, cancel)()
		for frame := range reply.stream(ctx) {
			if _, err := w.Write(frame); err != nil {
				return
			}
		}
	}()
	return &pipeBody{r, cancel, ended}
}

type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
	ended  chan struct{} // closed when the goroutine is done
}

// Close ends the subscription, and returns when it has given up its place: who closes
// one can begin the next.
func (b *pipeBody) Close() error {
	b.cancel()
	err := b.PipeReader.Close()
	<-b.ended
	return err
}
