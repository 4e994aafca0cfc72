package kinesisapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
)

// TLSListener accepts TLS connections on which an [http.Server] speaks every protocol that
// Kinesis clients use: HTTP/1.1 and HTTP/2, with or without ALPN. The AWS SDK for Java, and
// so the Kinesis Client Library, sends HTTP/2 over TLS without negotiating it by ALPN.
// [http.Server.ServeTLS] does not support that.
//
//	server.Protocols.SetHTTP1(true)
//	server.Protocols.SetUnencryptedHTTP2(true)
//	err := server.Serve(&kinesisapi.TLSListener{Listener: listener, Config: config})
//
// To the server the connections look plain, and the first bytes of the client decide the
// protocol. So the server's Protocols need HTTP1 and UnencryptedHTTP2, and the TLS field of
// its requests is nil. The same server can also serve plain listeners. A client that does
// not complete its handshake within 10 seconds is disconnected. A slow handshake does not
// block other clients.
type TLSListener struct {
	// Listener accepts the plain connections.
	net.Listener

	// Config has the certificates. It is required: without a certificate, Accept fails with a
	// [braid.InvalidArgumentError]. Config is not modified. If it has no NextProtos, ALPN
	// offers h2 and http/1.1.
	Config *tls.Config

	// ErrorLog receives failed handshakes. nil means the standard logger, as in [http.Server].
	ErrorLog *log.Logger

	once   sync.Once
	config *tls.Config // Config with NextProtos; set by once
}

// Accept is part of [net.Listener]. The first Read or Write makes the handshake.
func (l *TLSListener) Accept() (net.Conn, error) {
	if c := l.Config; c == nil || len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		return nil, &braid.InvalidArgumentError{Field: "TLSListener.Config", Rule: "must have Certificates, GetCertificate or GetConfigForClient"}
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.once.Do(func() {
		l.config = l.Config.Clone()
		if len(l.config.NextProtos) == 0 {
			l.config.NextProtos = []string{"h2", "http/1.1"}
		}
	})
	return &plainConn{tls: tls.Server(conn, l.config), errorLog: cmp.Or(l.ErrorLog, log.Default()), Conn: conn}, nil
}

// handshakeTimeout is how long a handshake can take.
const handshakeTimeout = 10 * time.Second

// plainConn is a TLS connection that [http.Server] takes for a plain one. It must not be a
// *tls.Conn or have a method ConnectionState. Otherwise the server would speak HTTP/2 only
// if ALPN negotiated it.
type plainConn struct {
	net.Conn // below TLS: for addresses
	tls      *tls.Conn
	errorLog *log.Logger

	once   sync.Once
	failed error // of the handshake; set by once
}

// handshake makes the handshake on the first call. All calls return its error.
func (c *plainConn) handshake() error {
	c.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
		defer cancel()
		err := c.tls.HandshakeContext(ctx)
		if err == nil {
			return
		}
		var header tls.RecordHeaderError
		switch {
		case errors.As(err, &header) && header.Conn != nil && looksLikeHTTP(header.RecordHeader):
			_ = header.Conn.SetWriteDeadline(time.Now().Add(handshakeTimeout))
			_, _ = io.WriteString(header.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks TLS: the URL begins with https://\n")
			err = errors.New("the client speaks HTTP without TLS")
			fallthrough
		case !errors.Is(err, io.EOF): // EOF is a probe that connects and hangs up
			c.errorLog.Printf("TLS handshake error from %s: %v", c.RemoteAddr(), err)
		}
		// The server sees a client that hung up, so it answers nothing.
		c.failed = io.EOF
		_ = c.Conn.Close()
	})
	return c.failed
}

// looksLikeHTTP reports whether the bytes in the place of a TLS record's header are the
// start of an HTTP request.
func looksLikeHTTP(header [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "DELET", "OPTIO", "PRI *"}, string(header[:]))
}

func (c *plainConn) Read(p []byte) (int, error) {
	if err := c.handshake(); err != nil {
		return 0, err
	}
	return c.tls.Read(p)
}

func (c *plainConn) Write(p []byte) (int, error) {
	if err := c.handshake(); err != nil {
		return 0, err
	}
	return c.tls.Write(p)
}

// CloseWrite lets the server end its side first. So a client that is still sending a
// request can read the answer.
func (c *plainConn) CloseWrite() error { return c.tls.CloseWrite() }

func (c *plainConn) Close() error                       { return c.tls.Close() }
func (c *plainConn) SetDeadline(t time.Time) error      { return c.tls.SetDeadline(t) }
func (c *plainConn) SetReadDeadline(t time.Time) error  { return c.tls.SetReadDeadline(t) }
func (c *plainConn) SetWriteDeadline(t time.Time) error { return c.tls.SetWriteDeadline(t) }
