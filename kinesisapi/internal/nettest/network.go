// Package nettest supports tests of HTTP servers. It has a network in memory that works in
// a bubble of testing/synctest, a certificate, and a transport that copies the bodies of
// requests.
package nettest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bufferBytes is the capacity of a connection's buffer in each direction.
const bufferBytes = 64 << 10

// half is one direction of a connection.
type half struct {
	mu     sync.Mutex // guards the fields below
	change *sync.Cond
	data   []byte
	ended  bool // by the writer
	broken bool // by the reader
	read   time.Time
	write  time.Time
}

// await waits until ready returns true, or the deadline passes. mu is held.
func (h *half) await(deadline *time.Time, ready func() bool) error {
	for !ready() {
		if !deadline.IsZero() && !time.Now().Before(*deadline) {
			return os.ErrDeadlineExceeded
		}
		h.change.Wait()
	}
	return nil
}

// set sets a deadline, and wakes the connection's reader or writer when it has passed.
func (h *half) set(deadline *time.Time, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*deadline = at
	h.change.Broadcast()
	if !at.IsZero() {
		time.AfterFunc(time.Until(at), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.change.Broadcast()
		})
	}
}

// conn is one end of a connection.
type conn struct{ in, out *half }

func pipe() (a, b net.Conn) {
	one, two := &half{}, &half{}
	one.change, two.change = sync.NewCond(&one.mu), sync.NewCond(&two.mu)
	return &conn{one, two}, &conn{two, one}
}

func (c *conn) Read(p []byte) (n int, err error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.await(&h.read, func() bool { return len(h.data) > 0 || h.ended || h.broken }); err != nil {
		return 0, err
	}
	switch {
	case h.broken:
		return 0, net.ErrClosed
	case len(h.data) == 0:
		return 0, io.EOF
	}
	n = copy(p, h.data)
	h.data = h.data[n:]
	h.change.Broadcast()
	return n, nil
}

func (c *conn) Write(p []byte) (n int, err error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < len(p) {
		if err := h.await(&h.write, func() bool { return len(h.data) < bufferBytes || h.ended || h.broken }); err != nil {
			return n, err
		}
		if h.ended || h.broken {
			return n, io.ErrClosedPipe
		}
		m := min(len(p)-n, bufferBytes-len(h.data))
		h.data = append(h.data, p[n:n+m]...)
		n += m
		h.change.Broadcast()
	}
	return n, nil
}

func (c *conn) CloseWrite() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.ended = true
	c.out.change.Broadcast()
	return nil
}

func (c *conn) Close() error {
	_ = c.CloseWrite()
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.broken = true
	c.in.change.Broadcast()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "memory"} }
func (c *conn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (c *conn) SetReadDeadline(at time.Time) error {
	c.in.set(&c.in.read, at)
	return nil
}

func (c *conn) SetWriteDeadline(at time.Time) error {
	c.out.set(&c.out.write, at)
	return nil
}

func (c *conn) SetDeadline(at time.Time) error {
	_ = c.SetReadDeadline(at)
	return c.SetWriteDeadline(at)
}

// Network is a network in memory, and its only listener. Any goroutine may use it.
type Network struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{} // closed by Close
}

// New returns a network without connections.
func New() *Network {
	return &Network{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept is part of net.Listener.
func (n *Network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close is part of net.Listener: Accept and Dial fail from then on.
func (n *Network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// Addr is part of net.Listener.
func (n *Network) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// Dial returns the client's end of a new connection.
func (n *Network) Dial(ctx context.Context) (net.Conn, error) {
	client, server := pipe()
	select {
	case n.conns <- server:
		return client, nil
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Connect is Dial for a test. The end of the test closes the connection.
func (n *Network) Connect(t *testing.T) net.Conn {
	t.Helper()
	c, err := n.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Serve serves a server until the test ends, on listener, or on the network itself.
func (n *Network) Serve(t *testing.T, server *http.Server, listener net.Listener) {
	t.Helper()
	if listener == nil {
		listener = n
	}
	if server.Protocols == nil {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// Client returns an HTTP client that speaks a protocol: "HTTP/1.1" or "h2c".
func (n *Network) Client(t *testing.T, protocol string) *http.Client {
	return Dialing(t, protocol, n.Dial)
}

// Dialing returns an HTTP client that speaks a protocol, "HTTP/1.1" or "h2c", over
// connections that dial makes.
func Dialing(t *testing.T, protocol string, dial func(context.Context) (net.Conn, error)) *http.Client {
	t.Helper()
	transport := &http.Transport{
		Protocols:   new(http.Protocols),
		HTTP2:       &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}, // so that a client that does not read soon blocks the server
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
	transport.Protocols.SetUnencryptedHTTP2(protocol == "h2c")
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: OwnBodies{transport}}
}

// OwnBodies sends copies of the bodies of requests. The SDK closes a body as soon as the
// answer arrives. If the transport for HTTP/1.1 is still using the body, it may take that
// for a failed request and hang up in the middle of a subscription.
type OwnBodies struct{ http.RoundTripper }

// RoundTrip is part of http.RoundTripper.
func (o OwnBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return o.RoundTripper.RoundTrip(r)
}
