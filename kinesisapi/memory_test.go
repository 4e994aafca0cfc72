package kinesisapi_test

import (
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

// memoryBytes is how much a connection in memory holds in each direction.
const memoryBytes = 64 << 10

// memoryHalf is one direction of a connection in memory.
type memoryHalf struct {
	mu     sync.Mutex // guards the fields below
	change *sync.Cond
	data   []byte
	ended  bool // by the writer
	broken bool // by the reader
	read   time.Time
	write  time.Time
}

// await waits until ready reports true, or the deadline passes. mu is held.
func (h *memoryHalf) await(deadline *time.Time, ready func() bool) error {
	for !ready() {
		if !deadline.IsZero() && !time.Now().Before(*deadline) {
			return os.ErrDeadlineExceeded
		}
		h.change.Wait()
	}
	return nil
}

// set sets a deadline, and wakes whoever it is about now and then.
func (h *memoryHalf) set(deadline *time.Time, at time.Time) {
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

// memoryConn is an end of a connection in memory.
type memoryConn struct{ in, out *memoryHalf }

func memoryPipe() (a, b net.Conn) {
	one, two := &memoryHalf{}, &memoryHalf{}
	one.change, two.change = sync.NewCond(&one.mu), sync.NewCond(&two.mu)
	return &memoryConn{one, two}, &memoryConn{two, one}
}

func (c *memoryConn) Read(p []byte) (n int, err error) {
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

func (c *memoryConn) Write(p []byte) (n int, err error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < len(p) {
		if err := h.await(&h.write, func() bool { return len(h.data) < memoryBytes || h.ended || h.broken }); err != nil {
			return n, err
		}
		if h.ended || h.broken {
			return n, io.ErrClosedPipe
		}
		m := min(len(p)-n, memoryBytes-len(h.data))
		h.data = append(h.data, p[n:n+m]...)
		n += m
		h.change.Broadcast()
	}
	return n, nil
}

func (c *memoryConn) CloseWrite() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.ended = true
	c.out.change.Broadcast()
	return nil
}

func (c *memoryConn) Close() error {
	_ = c.CloseWrite()
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.broken = true
	c.in.change.Broadcast()
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "memory"} }
func (c *memoryConn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (c *memoryConn) SetReadDeadline(at time.Time) error {
	c.in.set(&c.in.read, at)
	return nil
}

func (c *memoryConn) SetWriteDeadline(at time.Time) error {
	c.out.set(&c.out.write, at)
	return nil
}

func (c *memoryConn) SetDeadline(at time.Time) error {
	_ = c.SetReadDeadline(at)
	return c.SetWriteDeadline(at)
}

// memoryNetwork is a network of one listener, on the clock of a bubble.
type memoryNetwork struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{} // closed by Close
}

func newMemoryNetwork() *memoryNetwork {
	return &memoryNetwork{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (n *memoryNetwork) Accept() (net.Conn, error) {
	select {
	case conn := <-n.conns:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *memoryNetwork) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *memoryNetwork) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// dial returns the client's end of a new connection.
func (n *memoryNetwork) dial(ctx context.Context) (net.Conn, error) {
	client, server := memoryPipe()
	select {
	case n.conns <- server:
		return client, nil
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect is dial for a test.
func (n *memoryNetwork) connect(t *testing.T) net.Conn {
	t.Helper()
	conn, err := n.dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// serve serves a server until the test ends, on listener, or on the network itself.
func (n *memoryNetwork) serve(t *testing.T, server *http.Server, listener net.Listener) {
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

// client returns an HTTP client that speaks a protocol: "HTTP/1.1" or "h2c".
func (n *memoryNetwork) client(t *testing.T, protocol string) *http.Client {
	return dialing(t, protocol, n.dial)
}

// dialing returns an HTTP client that speaks a protocol, "HTTP/1.1" or "h2c", over
// connections that dial makes.
func dialing(t *testing.T, protocol string, dial func(context.Context) (net.Conn, error)) *http.Client {
	t.Helper()
	transport := &http.Transport{
		Protocols:   new(http.Protocols),
		HTTP2:       &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}, // so that one who does not read is slow soon
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
	transport.Protocols.SetUnencryptedHTTP2(protocol == "h2c")
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: ownBodies{transport}}
}
