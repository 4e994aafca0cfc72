// Package server speaks the wire protocol of Kinesis: it decodes an HTTP request, calls
// package service, and encodes the answer. It has two entrances: an [http.Handler], and a
// client that calls it without a socket.
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
	Account, Region    string // of requests that name none
	SeparateAccounts   bool
	HintAccounts       bool // log a hint at SeparateAccounts, once, when a client may expect it
	CheckAuthorization bool // refuse requests without the headers of a signature

	// Control, if not nil, answers requests under /_braid/.
	Control http.Handler

	// Intercept, if not nil, is called in place of every operation. It returns the answer of
	// next or its own; see [ErrDrop]. The data of records in the call's input is valid only
	// during the call, because its memory is reused.
	Intercept func(ctx context.Context, call *Call, next func(context.Context) (any, error)) (any, error)

	// AccessLog, if not nil, is called after every answered request.
	AccessLog func(Access)

	Bounds Bounds // of clients over HTTP

	IDs    *IDs
	Logger *slog.Logger
}

// Call is a call of an operation. Its Input is one of the input structs of package service.
type Call struct {
	Operation string
	Caller    service.Caller
	Input     any
}

// Access is a request that was answered.
type Access struct {
	Remote    string
	Operation string // empty if the request names none
	Status    int
	Error     string // its type; empty if there was none. A subscription may end with one
	Bytes     int64  // of the answer's body that were sent
	Duration  time.Duration
}

// ErrDrop, as the error of a call, breaks the connection without an answer.
var ErrDrop = errors.New("the connection was dropped")

// Server answers requests from a service.
type Server struct {
	service *service.Service
	opts    Options

	hinted  atomic.Bool     // the hint of HintAccounts was given
	ctx     context.Context // ended by Close; it ends subscriptions
	cancel  context.CancelFunc
	closing sync.Mutex     // held to add to streams, so that nothing is added after ctx has ended
	streams sync.WaitGroup // one for each subscription that is being written
}

// New returns a server for the service. The caller closes the service, after the server.
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

// Close ends the subscriptions and waits for them. Other requests are still answered.
func (s *Server) Close() {
	s.closing.Lock()
	s.cancel()
	s.closing.Unlock()
	s.streams.Wait()
}

// begin adds a subscription to those that Close waits for; the caller calls streams.Done at
// its end. It returns false if the server is closed.
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
		panic(http.ErrAbortHandler) // net/http breaks the connection
	}
	header := w.Header()
	header["Content-Type"] = nil // so that net/http does not guess one if the reply has none
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
		n, _ := w.Write(reply.body) // an error means that the client hung up
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

// closeGrace is how long a write to a subscriber that does not read may take after Close.
const closeGrace = time.Second

// lastWrite is the time from the start of a subscription within which the subscriber must
// have read all of it. The service ends the subscription well before. Without this limit, a
// write to a subscriber that does not read would last as long as the connection.
const lastWrite = service.SubscriptionLife + time.Minute

// write writes a subscription until it ends, ctx ends, or the server closes, and returns
// the number of bytes sent. The HTTP server's deadlines for requests do not apply, because
// the service decides how long a subscription lasts.
func (s *Server) write(ctx context.Context, w http.ResponseWriter, reply *reply) (sent int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Errors are ignored: a ResponseWriter without deadlines, such as a recorder, needs none.
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
		_ = controller.SetWriteDeadline(time.Time{}) // for later requests of the connection
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

// isControl reports whether a request is for the control API and not for the service.
func isControl(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/_braid/") }

// readBody reads a request's body. ok is false if the body exceeds maxBodyBytes.
func readBody(r *http.Request, buffer []byte) (body []byte, ok bool, err error) {
	if r.Body == nil {
		return buffer, true, nil
	}
	if r.ContentLength > maxBodyBytes {
		return buffer, false, nil
	}
	if n := int(r.ContentLength); n >= cap(buffer) {
		buffer = make([]byte, 0, n+1) // one byte more, to see the end without growing
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
