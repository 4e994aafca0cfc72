package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
)

// Client is an HTTP client of a server in the same process. It needs no socket, and a
// goroutine only for each subscription.
type Client struct {
	server func() *Server
}

// NewClient returns a client that calls, for each request, the server that the function
// returns. If that is nil, the request fails as if nothing listened on the port.
func NewClient(server func() *Server) *Client { return &Client{server} }

// Do sends a request and returns the answer. SDKs require this method of a client.
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
		_ = r.Body.Close() // an error of Close does not matter: the body was read
	}
}

// replyBody is the body of an answer. Close returns its memory to the pool.
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

// pipe returns a body to which a goroutine writes a subscription. The goroutine ends with
// the subscription, with the server, with Close of the body, and with the request's
// context. Only the end of the context makes reads fail.
func (s *Server) pipe(request context.Context, reply *reply) io.ReadCloser {
	ctx, cancel := context.WithCancel(request)
	r, w := io.Pipe()
	finish := func() { _ = w.CloseWithError(context.Cause(request)) } // only the first call has an effect
	ended := make(chan struct{})
	go func() {
		defer s.streams.Done()
		defer close(ended)
		defer reply.free()
		defer finish()
		defer cancel()
		defer context.AfterFunc(ctx, finish)() // ends a write that waits for the reader
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

// Close ends the subscription, and returns when its place is free: a caller can begin the
// next subscription at once.
func (b *pipeBody) Close() error {
	b.cancel()
	err := b.PipeReader.Close()
	<-b.ended
	return err
}
