package server

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/eventstream"
	"github.com/braidstream/braid/kinesisapi/internal/service"
	"github.com/braidstream/braid/kinesisapi/internal/wire"
)

// maxBodyBytes is the largest body of a request: 10 MiB of data in base64, and the other
// members of 500 records.
const maxBodyBytes = 16 << 20

// The content types of the protocol.
const (
	typeJSON   = "application/x-amz-json-1.1"
	typeCBOR   = "application/x-amz-cbor-1.1"
	typePlain  = "application/json"
	typeStream = "application/vnd.amazon.eventstream"
)

const targetPrefix = "Kinesis_20131202."

// reply is the answer to a request.
type reply struct {
	status  int
	header  []header
	body    []byte
	stream  func(context.Context) iter.Seq[[]byte] // in place of body: frames, each valid until the next. It has begun.
	dropped bool                                   // there is no answer

	operation string // for the access log
	errorType string
	buffers   *buffers
}

type header struct {
	name   string
	values [1]string
}

func (r *reply) set(name, value string) { r.header = append(r.header, header{name, [1]string{value}}) }

// buffers is the reusable memory of a request and its answer.
type buffers struct {
	request, response []byte
	data              wire.Memory // of records; the database copies it
}

var pool = sync.Pool{New: func() any { return new(buffers) }}

// maxPooledBytes is the largest buffer that goes back to the pool: an answer of 10 MiB of
// records fits.
const maxPooledBytes = 16 << 20

// free returns the memory of the answer to the pool. The answer must not be used after
// that.
func (r *reply) free() {
	if b := r.buffers; b != nil && cap(b.request) <= maxPooledBytes && cap(b.response) <= maxPooledBytes {
		pool.Put(b)
	}
	r.buffers = nil
}

// The steps below have the order in which the service checks odd requests.

// answer answers a request. bounded limits the time for its body; nil if there is no limit.
func (s *Server) answer(r *http.Request, bounded *http.ResponseController) *reply {
	b := pool.Get().(*buffers)
	rep := &reply{status: http.StatusOK, buffers: b, header: make([]header, 0, 6)}
	body, fits, err := readBody(r, b.request[:0])
	b.request = body
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // the body came too slowly
		requestID, id2 := s.opts.IDs.next()
		rep.set("X-Amzn-Requestid", requestID)
		rep.set("X-Amz-Id-2", id2)
		rep.operation, _ = operationOf(r)
		rep.fail(codecOf(contentTypeOf(r)), http.StatusRequestTimeout, errorDocument{Type: "RequestTimeoutException"})
		return rep
	case err != nil:
		rep.dropped = true // the request broke off
		return rep
	case !fits:
		rep.status = http.StatusRequestEntityTooLarge
		return rep
	}
	received(bounded)
	if preflight := allowOrigin(r, rep); preflight {
		requestID, _ := s.opts.IDs.next()
		rep.set("X-Amzn-Requestid", requestID)
		return rep
	}
	requestID, id2 := s.opts.IDs.next()
	rep.set("X-Amzn-Requestid", requestID)
	rep.set("X-Amz-Id-2", id2)
	if r.Method != http.MethodPost {
		rep.unnamed()
		return rep
	}

	contentType := contentTypeOf(r)
	target := r.Header.Get("X-Amz-Target")
	name, op := operationOf(r)
	rep.operation = name
	codec := codecOf(contentType)
	switch {
	case len(body) == 0 && op != nil:
		rep.fail(codec, http.StatusBadRequest, errorDocument{Type: "SerializationException"})
		return rep
	case len(body) == 0:
		rep.fail(codec, http.StatusBadRequest, errorDocument{Type: "UnknownOperationException"})
		return rep
	case contentType == typePlain:
		answerPlain(rep, body)
		return rep
	case contentType != typeJSON && contentType != typeCBOR && !strings.Contains(target, "."):
		rep.unnamed()
		return rep
	case contentType != typeJSON && contentType != typeCBOR:
		rep.status = http.StatusNotFound
		rep.body = append(rep.body, "<UnknownOperationException/>\n"...)
		return rep
	}
	document, err := codec.parse(body)
	switch {
	case err != nil || !document.IsMap():
		rep.fail(codec, http.StatusBadRequest, errorDocument{Type: "SerializationException"})
		return rep
	case op == nil:
		rep.fail(codec, http.StatusBadRequest, errorDocument{Type: "UnknownOperationException"})
		return rep
	}
	s.hintAccounts(r)
	if s.opts.CheckAuthorization {
		if e := checkAuthorization(r); e != nil {
			rep.failWith(codec, e)
			return rep
		}
	}
	in := op.NewInput()
	if err := b.data.Bind(document, in); err != nil {
		rep.fail(codec, http.StatusBadRequest, errorDocument{Type: "SerializationException", Capital: err.Error()})
		return rep
	}
	if message := wire.Validate(in); message != "" {
		rep.failWith(codec, service.Invalid(message))
		return rep
	}
	s.run(r.Context(), &Call{name, s.caller(r), in}, op, codec, rep)
	return rep
}

// run runs the operation and encodes its answer.
func (s *Server) run(ctx context.Context, call *Call, op *service.Operation, codec *codec, rep *reply) {
	next := func(ctx context.Context) (any, error) { return op.Call(ctx, s.service, call.Caller, call.Input) }
	var out any
	var err error
	if s.opts.Intercept == nil {
		out, err = next(ctx)
	} else {
		out, err = s.opts.Intercept(ctx, call, next)
	}
	var e *service.Error
	switch {
	case err == nil:
		s.succeed(rep, codec, out)
	case errors.Is(err, ErrDrop), ctx.Err() != nil:
		rep.dropped = true
	case errors.As(err, &e):
		s.log(call.Operation, e)
		rep.failWith(codec, e)
	default:
		e = &service.Error{Type: "InternalFailure", Status: http.StatusInternalServerError, Cause: err}
		s.log(call.Operation, e)
		rep.failWith(codec, e)
	}
}

// log logs the cause of an error, because the answer does not contain it. An injected error
// has no cause, and is not logged.
func (s *Server) log(operation string, e *service.Error) {
	if e.Cause == nil {
		return
	}
	level := slog.LevelWarn
	switch {
	case e.Status >= http.StatusInternalServerError:
		level = slog.LevelError
	case errors.Is(e.Cause, braid.ErrInvalidArgument):
		level = slog.LevelDebug // the caller's mistake, which the answer names
	}
	s.opts.Logger.Log(context.Background(), level, "an operation failed", "operation", operation, "answer", e.Type, "error", e.Cause)
}

func (s *Server) succeed(rep *reply, codec *codec, out any) {
	switch out := out.(type) {
	case *service.Empty: // no body, not an empty document
		rep.set("Content-Type", codec.contentType)
	case *service.Subscription:
		if !s.begin() {
			out.Close()
			rep.dropped = true
			return
		}
		rep.set("Content-Type", typeStream)
		rep.stream = func(ctx context.Context) iter.Seq[[]byte] { return s.frames(ctx, codec, out, &rep.errorType) }
	default:
		rep.set("Content-Type", codec.contentType)
		rep.buffers.response = codec.append(rep.buffers.response[:0], out)
		rep.body = rep.buffers.response
	}
}

// frames returns the frames of a subscription. If the subscription ends with an error,
// frames sets failed to the error's type.
func (s *Server) frames(ctx context.Context, codec *codec, sub *service.Subscription, failed *string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var frame, payload []byte
		defer sub.Close() // in case Events was not started
		if !yield(eventstream.AppendInitialResponse(nil)) {
			return
		}
		for event, err := range sub.Events(ctx) {
			if err == nil {
				payload = codec.append(payload[:0], event)
				frame = eventstream.AppendEvent(frame[:0], "SubscribeToShardEvent", codec.eventType, payload)
			} else {
				e := asError(err)
				*failed = e.Type
				s.log("SubscribeToShard", e)
				d := errorDocument{Message: e.Message}
				frame = eventstream.AppendException(frame[:0], e.Type, codec.eventType, d.encode(codec))
			}
			if !yield(frame) {
				return
			}
		}
	}
}

func asError(err error) *service.Error {
	var e *service.Error
	if errors.As(err, &e) {
		return e
	}
	return &service.Error{Type: "InternalFailureException", Status: http.StatusInternalServerError, Cause: err}
}

// codec is one of the two encodings of documents.
type codec struct {
	contentType string
	eventType   string // of documents in frames
	parse       func([]byte) (wire.Value, error)
	append      func(dst []byte, out any) []byte
}

var (
	codecJSON = codec{typeJSON, typePlain, wire.ParseJSON, wire.AppendJSON}
	codecCBOR = codec{typeCBOR, typeCBOR, wire.ParseCBOR, wire.AppendCBOR}
)

// operationOf returns the operation that a request names, or nothing.
func operationOf(r *http.Request) (string, *service.Operation) {
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	if op := service.Operations[name]; ok && op != nil {
		return name, op
	}
	return "", nil
}

func contentTypeOf(r *http.Request) string {
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(contentType)
}

// codecOf returns the encoding for the answer to a request of the content type.
func codecOf(contentType string) *codec {
	if contentType == typeJSON {
		return &codecJSON
	}
	return &codecCBOR
}

func decimal(n int) string { return strconv.Itoa(n) }
