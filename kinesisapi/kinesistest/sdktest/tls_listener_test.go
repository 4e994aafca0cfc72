package sdktest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/nettest"
)

// TestSDKTLSListener: one HTTP server serves a plain port and a TLS port. Clients speak
// HTTP/1.1 and HTTP/2 on both, with or without ALPN.
func TestSDKTLSListener(t *testing.T) {
	for _, c := range []struct {
		name     string
		tls      bool
		alpn     []string
		protocol string
		agreed   string
	}{
		{"plain HTTP/1.1", false, nil, "HTTP/1.1", ""},
		{"plain HTTP/2", false, nil, "h2c", ""},
		{"TLS without ALPN HTTP/1.1", true, nil, "HTTP/1.1", ""},
		{"TLS without ALPN HTTP/2", true, nil, "h2c", ""},
		{"TLS with h2", true, []string{"h2"}, "h2c", "h2"},
		{"TLS with http/1.1", true, []string{"http/1.1"}, "HTTP/1.1", "http/1.1"},
		{"TLS with both", true, []string{"http/1.1", "h2"}, "h2c", "h2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, k *sdk) {
				certificate, pool := nettest.SelfSigned(t)
				config := &tls.Config{Certificates: []tls.Certificate{certificate}}
				plain, secure := nettest.New(), nettest.New()
				var protocols []string // of the connections, by the server
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					protocols = append(protocols, r.Proto)
					k.server.ServeHTTP(w, r)
				})}
				plain.Serve(t, server, nil)
				secure.Serve(t, server, &kinesisapi.TLSListener{Listener: secure, Config: config})

				dial := plain.Dial
				if c.tls {
					dial = func(ctx context.Context) (net.Conn, error) {
						conn, err := secure.Dial(ctx)
						if err != nil {
							return nil, err
						}
						client := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: c.alpn})
						if err := client.HandshakeContext(ctx); err != nil {
							return nil, err
						}
						if agreed := client.ConnectionState().NegotiatedProtocol; agreed != c.agreed {
							t.Errorf("agreed on %q", agreed)
						}
						return struct{ net.Conn }{client}, nil // the protocol begins at once
					}
				}
				k.Client = sdkClient(nettest.Dialing(t, c.protocol, dial), "AKIA", "us-east-1", func(o *kinesis.Options) { o.BaseEndpoint = aws.String("http://kinesis") })
				k.create("orders", 1)
				for range 20 {
					k.put("orders", "a", "x")
				}
				f := k.subscribe(k.register("orders", "c"), shard0, types.ShardIteratorTypeTrimHorizon)
				require.Len(t, f.next().Records, 20)
				time.Sleep(time.Minute) // the handshake's timeout does not apply to the connection
				k.put("orders", "a", "x")
				k.server.Close()
				want := map[string]string{"HTTP/1.1": "HTTP/1.1", "h2c": "HTTP/2.0"}[c.protocol]
				for _, protocol := range protocols {
					require.Equal(t, want, protocol)
				}
				require.Empty(t, config.NextProtos, "the configuration is the caller's")
			})
		})
	}
}

// TestRawTLSHandshakes: a client with a slow or invalid handshake is disconnected, and
// blocks no other client.
func TestRawTLSHandshakes(t *testing.T) {
	for _, c := range []struct {
		name, sends, logged, answer string
		after                       time.Duration
	}{
		{"silent", "", "deadline exceeded", "", 10 * time.Second},
		{"stuck", "\x16\x03\x01\x02\x00\x01", "deadline exceeded", "", 10 * time.Second},
		{"plain HTTP", "GET / HTTP/1.1\r\nHost: kinesis\r\n\r\n", "without TLS", "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks TLS: the URL begins with https://\n", 0},
		{"plain HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "without TLS", "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks TLS: the URL begins with https://\n", 0},
		{"nonsense", "hello, world", "first record does not look like a TLS handshake", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, k *sdk) {
				certificate, pool := nettest.SelfSigned(t)
				network := nettest.New()
				var logged bytes.Buffer // read when the server is done with the connection
				network.Serve(t, &http.Server{Handler: k.server}, &kinesisapi.TLSListener{
					Listener: network, Config: &tls.Config{Certificates: []tls.Certificate{certificate}}, ErrorLog: log.New(&logged, "", 0),
				})
				odd := network.Connect(t)
				started := time.Now()
				go func() { _, _ = io.WriteString(odd, c.sends) }()

				k.Client = sdkClient(nettest.Dialing(t, "HTTP/1.1", func(ctx context.Context) (net.Conn, error) {
					conn, err := network.Dial(ctx)
					return struct{ net.Conn }{tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "localhost"})}, err
				}), "AKIA", "us-east-1", func(o *kinesis.Options) { o.BaseEndpoint = aws.String("http://kinesis") })
				k.create("orders", 1)
				require.Equal(t, started, time.Now(), "nobody waits")

				answer, err := io.ReadAll(odd)
				require.NoError(t, err)
				if c.name != "nonsense" { // which gets an alert
					require.Equal(t, c.answer, string(answer))
				}
				require.Equal(t, c.after, time.Since(started))
				synctest.Wait()
				require.Contains(t, logged.String(), c.logged)
			})
		})
	}
}
