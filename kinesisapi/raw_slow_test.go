package kinesisapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/nettest"
)

// trickle is a body of 1,000 bytes, one byte about each half second: never exactly at a
// limit.
type trickle struct {
	sent int
	done <-chan struct{}
}

func (t *trickle) Read(p []byte) (int, error) {
	if t.sent == 1000 {
		return 0, io.EOF
	}
	select {
	case <-time.After(490 * time.Millisecond):
		p[0] = ' '
		t.sent++
		return 1, nil
	case <-t.done:
		return 0, io.ErrClosedPipe
	}
}

func (t *trickle) Close() error { return nil }

// TestRawSlowBody: a client that sends a body too slowly is disconnected, and blocks no
// other request, not even one on the same connection.
func TestRawSlowBody(t *testing.T) {
	for _, c := range []struct {
		name         string
		method, path string
		options      kinesisapi.Options
		server       time.Duration // its ReadTimeout
		length       int64
		after        time.Duration
		status       int // over HTTP/1.1 and HTTP/2
	}{
		{name: "default", length: 1000, after: 30 * time.Second, status: http.StatusRequestTimeout},
		{name: "chunked", length: -1, after: 30 * time.Second, status: http.StatusRequestTimeout},
		{name: "option", length: 1000, options: kinesisapi.Options{BodyTimeout: 5 * time.Second}, after: 5 * time.Second, status: http.StatusRequestTimeout},
		{name: "the server's own", length: 1000, server: time.Minute, after: time.Minute, status: http.StatusRequestTimeout},
		{name: "off", length: 1000, options: kinesisapi.Options{BodyTimeout: -1}, after: 490 * time.Second, status: http.StatusBadRequest},
		{name: "control", path: "/_braid/faults", length: 1000, options: kinesisapi.Options{Control: true, ControlHosts: []string{"kinesis"}}, after: 30 * time.Second, status: http.StatusBadRequest},
	} {
		for _, protocol := range []string{"HTTP/1.1", "h2c"} {
			t.Run(c.name+" "+strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
				rigInBubble(t, &c.options, func(r *rig) {
					network := nettest.New()
					network.Serve(r.t.(*testing.T), &http.Server{Handler: r.server, ReadTimeout: c.server}, nil)
					client := network.Client(r.t.(*testing.T), protocol)
					client.Transport = client.Transport.(nettest.OwnBodies).RoundTripper // as the body comes
					request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://kinesis"+c.path, nil)
					require.NoError(r.t, err)
					request.Header.Set("Content-Type", typeJSON)
					request.Header.Set("X-Amz-Target", "Kinesis_20131202.ListStreams")
					done := make(chan struct{})
					defer close(done)
					request.Body, request.ContentLength = &trickle{done: done}, c.length

					started := time.Now()
					ended := make(chan time.Duration, 1)
					go func() {
						defer func() { ended <- time.Since(started) }()
						response, err := client.Do(request)
						if err != nil {
							r.t.Error(err)
							return
						}
						body, _ := io.ReadAll(response.Body)
						_ = response.Body.Close()
						if response.StatusCode != c.status {
							r.t.Errorf("%d %s", response.StatusCode, body)
						}
						if c.status == http.StatusRequestTimeout && string(body) != `{"__type":"RequestTimeoutException"}` {
							r.t.Errorf("%s", body)
						}
					}()
					pass(time.Second)
					other, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://kinesis", strings.NewReader("{}"))
					require.NoError(r.t, err)
					other.Header = request.Header
					at := time.Now()
					response, err := client.Do(other)
					require.NoError(r.t, err)
					require.NoError(r.t, response.Body.Close())
					require.Equal(r.t, http.StatusOK, response.StatusCode)
					require.Equal(r.t, at, time.Now(), "nobody waits")
					require.InDelta(r.t, c.after, <-ended, float64(time.Second), "the client may be at its next byte")
				})
			})
		}
	}
}

// TestRawBodyNobodyReads: the limit also applies to the unread rest of a body, although
// net/http waits for that.
func TestRawBodyNobodyReads(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{Control: true, ControlHosts: []string{"kinesis"}}, func(r *rig) {
		network := nettest.New()
		network.Serve(r.t.(*testing.T), &http.Server{Handler: r.server}, nil)
		for _, c := range []struct {
			head  string
			after time.Duration
		}{
			{"GET /_braid/health HTTP/1.1\r\nHost: kinesis\r\nContent-Length: 1000\r\n\r\n", 30 * time.Second},
			{fmt.Sprintf("POST / HTTP/1.1\r\nHost: kinesis\r\nContent-Length: %d\r\n\r\n", 17<<20), 0},                             // larger than any request can be
			{fmt.Sprintf("POST /_braid/faults HTTP/1.1\r\nHost: kinesis\r\nContent-Length: %d\r\n\r\n", 17<<20), 30 * time.Second}, // read up to a limit
		} {
			conn := network.Connect(r.t.(*testing.T))
			_, err := io.WriteString(conn, c.head)
			require.NoError(r.t, err)
			started := time.Now()
			_, err = io.ReadAll(conn)
			require.NoError(r.t, err)
			require.LessOrEqual(r.t, time.Since(started), c.after+time.Second)
			pass(time.Second) // the server pauses briefly before it hangs up
		}
	})
}

// TestRawSlowOperation: the limits for clients apply neither to the operation nor to the
// time between two requests.
func TestRawSlowOperation(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "h2c"} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			rigInBubble(t, &kinesisapi.Options{Control: true, ControlHosts: []string{"kinesis"}}, func(r *rig) {
				network := nettest.New()
				network.Serve(r.t.(*testing.T), &http.Server{Handler: r.server}, nil)
				r.client, r.url = network.Client(r.t.(*testing.T), protocol), "http://kinesis/"
				for range 2 {
					require.Equal(r.t, http.StatusOK, r.send(http.MethodPost, "/_braid/faults", `{"delay":"10m"}`).status)
					started := time.Now()
					r.does("ListStreams", `{}`)
					require.Equal(r.t, 10*time.Minute, time.Since(started))
					pass(time.Minute)
				}
			})
		})
	}
}

// TestRawSlowReader: a client that does not read its answer is disconnected.
func TestRawSlowReader(t *testing.T) {
	for _, c := range []struct {
		name    string
		options kinesisapi.Options
		server  time.Duration // its WriteTimeout
		after   time.Duration
	}{
		{name: "default", after: 30 * time.Second},
		{name: "option", options: kinesisapi.Options{AnswerTimeout: time.Minute}, after: time.Minute},
		{name: "the server's own", server: 2 * time.Minute, after: 2 * time.Minute},
		{name: "control", options: kinesisapi.Options{Control: true, ControlHosts: []string{"kinesis"}}, after: 30 * time.Second},
	} {
		for _, protocol := range []string{"HTTP/1.1", "h2c"} {
			t.Run(c.name+" "+strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
				rigInBubble(t, &c.options, func(r *rig) {
					r.does("CreateStream", `{"StreamName":"s","ShardCount":1}`)
					for range 3 {
						r.does("PutRecord", fmt.Sprintf(`{"StreamName":"s","PartitionKey":"a","Data":%q}`, strings.Repeat("QUJD", 250_000)))
					}
					request := r.get("s")
					if c.options.Control {
						request = "GET /_braid/streams/s/records HTTP/1.1\r\nHost: kinesis\r\n\r\n"
					}
					ended := make(chan time.Time, 1)
					network := nettest.New()
					network.Serve(r.t.(*testing.T), &http.Server{WriteTimeout: c.server, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
						defer func() { ended <- time.Now() }()
						r.server.ServeHTTP(w, q)
					})}, nil)
					started := time.Now()
					if protocol == "HTTP/1.1" {
						_, err := io.WriteString(network.Connect(r.t.(*testing.T)), request)
						require.NoError(r.t, err)
					} else {
						sent, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
						require.NoError(r.t, err)
						sent.RequestURI, sent.URL.Scheme, sent.URL.Host = "", "http", "kinesis"
						response, err := network.Client(r.t.(*testing.T), protocol).Do(sent)
						require.NoError(r.t, err)
						defer response.Body.Close()
					}
					require.Equal(r.t, c.after, (<-ended).Sub(started))
				})
			})
		}
	}
}

// get returns the bytes of a GetRecords request for a stream's first shard.
func (r *rig) get(stream string) string {
	iterator := r.does("GetShardIterator", fmt.Sprintf(`{"StreamName":%q,"ShardId":"0","ShardIteratorType":"TRIM_HORIZON"}`, stream))["ShardIterator"]
	body := fmt.Sprintf(`{"ShardIterator":%q}`, iterator)
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: kinesis\r\nX-Amz-Target: Kinesis_20131202.GetRecords\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", typeJSON, len(body), body)
}
