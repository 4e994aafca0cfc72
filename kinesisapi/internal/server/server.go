// Package server speaks the wire protocol of Kinesis: it takes an HTTP request
// apart, has package service answer it, and puts the answer together. It has two
// ways in, a [http.Handler] and a client that calls it without a socket.
package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Options are the settings of a server. Logger and IDs must be set.
type Options struct {
	Account, Region    string // of callers who name none
	SeparateAccounts   bool
	HintAccounts       bool // log a hint at SeparateAccounts, once, when a client may expect it
	CheckAuthorization bool // refuse requests without the headers of a signature

	// Control answers what comes under /_braid/, or is nil.
	Control http.Handler

	// Intercept, if it is not nil, is called in place of every operation, and
	// calls next for the answer, or has one of its own. See [ErrDrop]. The data of
	// records in the call's input is good for as long as the call: the memory is used
	// again.
	Intercept func(ctx context.Context, call *Call, next func(context.Context) (any, error)) (any, error)

	// AccessLog, if it is not nil, is told of every request that was answered.
	AccessLog func(Access)

	Bounds Bounds // of clients over HTTP

	IDs    *IDs
	Logger *slog.Logger
}

// Call is an operation that was asked for. Its request is one of the input structs
// of package service.
type Call struct {
	Operation string
	Caller    service.Caller
	Input     any
}

// Access is a request that was answered.
type Access struct {
	Remote    string
	Operation string // empty if there is no such
	Status    int
	Error     string // its type; empty if there was none. A subscription may end with one
	Bytes     int64  // of the answer's body that were sent
	Duration  time.Duration
}

// ErrDrop, as the error of a call, breaks the connection off without an answer.
var ErrDrop = errors.New("the connection was dropped")

// Server answers requests from a service.
type Server struct {
	service *service.Service
	opts    Options

	hinted  atomic.Bool     // the hint of HintAccounts was given
	ctx     context.Context // ends with Close: subscriptions do
	cancel  context.CancelFunc
	closing sync.Mutex     // guards that none of streams is added once ctx has ended
	streams sync.WaitGroup // subscriptions that are written
}

// New returns a server for the service, which stays the caller's to close, after
// the server.
func New(s *service.Service, opts Options) *Server {
	srv := &Server{service: s, opts: opts}
	if opts.Control != nil {
		srv.opts.Control = opts.Bounds.Wrap(opts.Control)
	}
	srv.ctx, srv.cancel = context.WithCancel(context.Background())
	return srv
}

// Service returns the service that answers.
func (s *Server) Service() *service.Service { return s.service }

// Close ends the subscriptions, and waits for them. Requests are answered as
// before.
func (s *Server) Close() {
	s.closing.Lock()
	s.cancel()
	s.closing.Unlock()
	s.streams.Wait()
}

// begin counts a subscription among those that Close waits for, until streams.Done
// is called. It reports false if the server has closed.
func (s *Server) begin() bool {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.streams.Add(1)
	return true
}

// ServeHTTP is part of http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.opts.Control != nil && isControl(r) {
		s.opts.Control.ServeHTTP(w, r)
		return
	}
	started := time.Now()
	reply := s.answer(r, s.opts.Bounds.receive(w, r))
	defer reply.free()
	if reply.dropped {
		panic(http.ErrAbortHandler) // which net/http takes as an order to break off
	}
	header := w.Header()
	header["Content-Type"] = nil // net/http makes none up, unless the reply has one
	for _, h := range reply.header {
		header[h.name] = h.values[:]
	}
	var sent int64
	if reply.stream == nil {
		header["Content-Length"] = []string{decimal(len(reply.body))}
		if reply.status == http.StatusRequestTimeout && r.ProtoMajor == 1 {
			header["Connection"] = []string{"close"} // the rest of the body may still arrive
		}
		s.opts.Bounds.answering(w, r)
		w.WriteHeader(reply.status)
		n, _ := w.Write(reply.body) // who hung up does not want it
		sent = int64(n)
	} else {
		defer s.streams.Done()
		w.WriteHeader(reply.status)
		sent = s.write(r.Context(), w, reply)
	}
	if s.opts.AccessLog != nil {
		s.opts.AccessLog(Access{r.RemoteAddr, reply.operation, reply.status, reply.errorType, sent, time.Since(started)})
	}
}

// closeGrace is how long a write to a subscriber who does not read can take when
// the server closes.
const closeGrace = time.Second

// lastWrite is when a subscriber must have read all that it is sent, from the start of
// the subscription on: the service ends it well before. One who does not read at all
// would otherwise be written to for as long as it keeps the connection.
const lastWrite = service.SubscriptionLife + time.Minute

// write writes a subscription, until it ends, the context does, or the server closes,
// and returns how many bytes it sent. The deadlines that an HTTP server has for its
// requests do not hold for it: it lasts for as long as the service says.
func (s *Server) write(ctx context.Context, w http.ResponseWriter, reply *reply) (sent int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What a ResponseWriter cannot do, such as deadlines, it has no need of.
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(time.Time{})
	_ = controller.SetWriteDeadline(time.Now().Add(lastWrite))
	hurried := make(chan struct{})
	stop := context.AfterFunc(s.ctx, func() {
		defer close(hurried)
		cancel()
		_ = controller.SetWriteDeadline(time.Now().Add(closeGrace))
	})
	defer func() {
		if !stop() {
			<-hurried
		}
		_ = controller.SetWriteDeadline(time.Time{}) // the connection may be used again
	}()
	for frame := range reply.stream(ctx) {
		n, err := w.Write(frame)
		sent += int64(n)
		if err != nil || controller.Flush() != nil {
			break
		}
	}
	return sent
}

// isControl reports whether a request is not for the service but for those who
// run it.
func isControl(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/_braid/") }

// readBody reads a request's body. ok is false if it is larger than any request
// can be.
func readBody(r *http.Request, buffer []byte) (body []byte, ok bool, err error) {
	if r.Body == nil {
		return buffer, true, nil
	}
	if r.ContentLength > maxBodyBytes {
		return buffer, false, nil
	}
	if n := int(r.ContentLength); n >= cap(buffer) {
		buffer = make([]byte, 0, n+1) // one more, so that the end is seen without growing
	}
	for {
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := r.Body.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		switch {
		case len(buffer) > maxBodyBytes:
			return buffer, false, nil
		case errors.Is(err, io.EOF):
			return buffer, true, nil
		case err != nil:
			return buffer, true, err
		}
	}
}
