package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheServiceGoesOnWhereItWas(t *testing.T) {
	dir := t.TempDir()

	s := start(t, dir)
	s.post("/orders?customer=ann", `{"item":"tea"}`)
	require.Equal(t, `ann is billed for {"item":"tea"}`, s.line())
	require.Contains(t, s.get("/healthz"), "ok")
	require.Contains(t, s.get("/readyz"), "ok")
	metrics := s.get("/metrics")
	require.Contains(t, metrics, "braid_put_records_total 1\n")
	require.Contains(t, metrics, `braid_app_behind_records{app="billing"`)
	require.Contains(t, s.get("/braid/"), "<!doctype html>")
	require.Contains(t, s.get("/braid/api/streams"), `"Name":"orders"`)
	response := s.do("POST", "/orders", "nobody's")
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	live := s.do("GET", "/braid/api/events", "") // like an open page
	s.stop()
	_, err := io.ReadAll(live.Body)
	require.NoError(t, err, "the page's connection has ended in order")

	s = start(t, dir)
	s.post("/orders?customer=bob", `{"item":"ink"}`)
	require.Equal(t, `bob is billed for {"item":"ink"}`, s.line(), "what was billed is not billed again")
	s.stop()
}

// service is a running service.
type service struct {
	t      *testing.T
	url    string
	out    *bufio.Reader
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, dir string) *service {
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	in, out := io.Pipe()
	s := &service{t: t, url: "http://" + listener.Addr().String(), out: bufio.NewReader(in), cancel: cancel, ended: make(chan error, 1)}
	go func() { s.ended <- run(ctx, dir, out, listener) }()
	require.Equal(t, "Look at "+s.url+"/braid/ and end this with Ctrl-C.", s.line())
	return s
}

func (s *service) stop() {
	s.cancel()
	require.NoError(s.t, <-s.ended)
}

// line returns the next line of the service's output.
func (s *service) line() string {
	line, err := s.out.ReadString('\n')
	require.NoError(s.t, err)
	return strings.TrimSuffix(line, "\n")
}

func (s *service) do(method, path, body string) *http.Response {
	request, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func (s *service) get(path string) string { return s.text(s.do("GET", path, "")) }

func (s *service) post(path, body string) string { return s.text(s.do("POST", path, body)) }

func (s *service) text(response *http.Response) string {
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, response.StatusCode, "%s", text)
	return string(text)
}
