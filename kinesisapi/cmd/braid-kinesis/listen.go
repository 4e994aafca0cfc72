package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/control"
)

// listen opens the ports, and returns the URLs under which clients on this machine reach
// them. The program opens the ports before anything else, so that it touches no file if one
// is taken. Even with an error, listen returns the ports that are open.
func (c *config) listen(ctx context.Context, errorLog *log.Logger) (listeners []net.Listener, urls []string, err error) {
	for _, e := range c.endpoints() {
		var config *tls.Config
		if e.tls {
			certificate, err := c.certificate(e.addr)
			if err != nil {
				return listeners, nil, err
			}
			config = &tls.Config{Certificates: []tls.Certificate{certificate}}
		}
		opened, err := listenOn(ctx, e.addr)
		if err != nil {
			return listeners, nil, err
		}
		urls = append(urls, urlOf(e, opened[0]))
		for _, l := range opened {
			if config != nil {
				l = &kinesisapi.TLSListener{Listener: l, Config: config, ErrorLog: errorLog}
			}
			listeners = append(listeners, l)
		}
	}
	return listeners, urls, nil
}

// newServer makes the HTTP server. It speaks HTTP/1.1 and HTTP/2 by prior knowledge.
func (c *config) newServer(logger *slog.Logger) *http.Server {
	server := &http.Server{
		Protocols: new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000, // subscriptions share a connection
			WriteByteTimeout:     c.answerTimeout,
		},
		ReadHeaderTimeout: c.headerTimeout,
		IdleTimeout:       c.idleTimeout,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		BaseContext: func(l net.Listener) context.Context {
			if secure, ok := l.(*kinesisapi.TLSListener); ok {
				return context.WithValue(context.Background(), overTLS{}, secure)
			}
			return context.Background()
		},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server
}

// orUnlimited converts the time of a flag, where 0 means no limit, to that of an option,
// where 0 means the default.
func orUnlimited(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// overTLS is the key of a context's value: the TLS port over which the request came in.
// Plain ports set none.
type overTLS struct{}

// markTLS marks the requests that came in over a TLS port, so that the page of the control
// API shows the right URLs.
func markTLS(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, control.Prefix) && r.Context().Value(overTLS{}) != nil {
			r.TLS = new(tls.ConnectionState)
		}
		handler.ServeHTTP(w, r)
	})
}

// maxTries is how many free ports listenOn tries: a port may be free on one address of
// localhost and taken on the other.
const maxTries = 10

// listenOn listens on an address. localhost means two addresses. net.Listen listens on one
// of them, and some clients try the other first, or only the other.
func listenOn(ctx context.Context, addr string) ([]net.Listener, error) {
	host, port, _ := net.SplitHostPort(addr) // it is valid: address checked it
	for try := 1; ; try++ {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		if host != "localhost" {
			return []net.Listener{listener}, nil
		}
		other := "::1"
		if addr, ok := listener.Addr().(*net.TCPAddr); ok && addr.IP.To4() == nil {
			other = "127.0.0.1"
		}
		second, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(other, portOf(listener)))
		switch {
		case err == nil:
			return []net.Listener{listener, second}, nil
		case !errors.Is(err, syscall.EADDRINUSE): // this machine does not have both
			return []net.Listener{listener}, nil
		case port != "0" || try == maxTries:
			_ = listener.Close() // err says more than an error of Close
			return nil, err
		}
		_ = listener.Close() // it was not used
	}
}

func portOf(listener net.Listener) string {
	_, port, _ := net.SplitHostPort(listener.Addr().String()) // of TCP, it is host:port
	return port
}

// areLoopback reports whether only this machine can reach the listeners.
func areLoopback(listeners []net.Listener) bool {
	return !slices.ContainsFunc(listeners, func(l net.Listener) bool {
		addr, ok := l.Addr().(*net.TCPAddr)
		return !ok || !addr.IP.IsLoopback()
	})
}
