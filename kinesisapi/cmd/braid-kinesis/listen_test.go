package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// certificateFiles writes a certificate for this machine.
func certificateFiles(t *testing.T) (cert, key string, roots *x509.CertPool) {
	made, err := selfSigned("localhost:0")
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})
	require.NoError(t, os.WriteFile(cert, text, 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	roots = x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(text))
	return cert, key, roots
}

func TestProtocols(t *testing.T) {
	cert, key, roots := certificateFiles(t)
	withTLS := []string{"-tls-cert", cert, "-tls-key", key}
	for _, c := range []struct {
		name   string
		args   []string
		enable func(*http.Protocols, bool)
		proto  string
	}{
		{"HTTP/1.1", nil, (*http.Protocols).SetHTTP1, "HTTP/1.1"},
		{"h2c", nil, (*http.Protocols).SetUnencryptedHTTP2, "HTTP/2.0"},
		{"TLS HTTP/1.1", withTLS, (*http.Protocols).SetHTTP1, "HTTP/1.1"},
		{"TLS HTTP/2", withTLS, (*http.Protocols).SetHTTP2, "HTTP/2.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, nil, append(c.args, "-stream", "orders:2")...)
			client := client(t, roots, c.enable)
			for range 3 {
				require.NoError(t, put(t.Context(), p.calls(client), "orders"))
			}
			response, err := client.Get(p.url + "/_braid/health")
			require.NoError(t, err)
			defer response.Body.Close()
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, c.proto, response.Proto)
			code, _, stderr := p.stop()
			require.Equal(t, exitOK, code)
			require.Empty(t, stderr)
		})
	}
}

// One process serves a plain port and a TLS port. Clients speak HTTP/1.1 and HTTP/2 on
// both, with ALPN or, as the AWS SDK for Java does, without.
func TestBothPorts(t *testing.T) {
	cert, key, roots := certificateFiles(t)
	p := start(t, nil, "-tls-port", "0", "-tls-cert", cert, "-tls-key", key, "-stream", "orders:2")
	require.True(t, strings.HasPrefix(p.url, "http://localhost:"), p.url)
	require.True(t, strings.HasPrefix(p.tlsURL, "https://localhost:"), p.tlsURL)
	for _, c := range []struct {
		name, url string
		enable    func(*http.Protocols, bool)
		alpn      []string
		proto     string
	}{
		{"plain HTTP/1.1", p.url, (*http.Protocols).SetHTTP1, nil, "HTTP/1.1"},
		{"plain HTTP/2", p.url, (*http.Protocols).SetUnencryptedHTTP2, nil, "HTTP/2.0"},
		{"ALPN HTTP/1.1", p.tlsURL, (*http.Protocols).SetHTTP1, []string{"http/1.1"}, "HTTP/1.1"},
		{"ALPN HTTP/2", p.tlsURL, (*http.Protocols).SetUnencryptedHTTP2, []string{"h2"}, "HTTP/2.0"},
		{"no ALPN HTTP/1.1", p.tlsURL, (*http.Protocols).SetHTTP1, nil, "HTTP/1.1"},
		{"no ALPN HTTP/2", p.tlsURL, (*http.Protocols).SetUnencryptedHTTP2, nil, "HTTP/2.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := client(t, roots, c.enable)
			address, secure := strings.CutPrefix(c.url, "https://")
			if secure { // the transport takes the connection for a plain one, so it sends its protocol without ALPN
				client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
					dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, NextProtos: c.alpn}}
					conn, err := dialer.DialContext(ctx, "tcp", address)
					return struct{ net.Conn }{conn}, err
				}
			}
			url := "http://" + strings.TrimPrefix(address, "http://")
			calls := p.calls(client)
			calls.URL = url
			require.NoError(t, put(t.Context(), calls, "orders"))
			response, err := client.Get(url + "/_braid/")
			require.NoError(t, err)
			defer response.Body.Close()
			require.Equal(t, c.proto, response.Proto)
			page, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Contains(t, string(page), "curl "+c.url+"/_braid/health")
		})
	}
	code, stdout, stderr := p.stop()
	require.Equal(t, exitOK, code)
	require.Empty(t, stderr)
	require.NotContains(t, stdout, "verify")
}

// TestLocalhost: a port of localhost is served on both of its addresses.
func TestLocalhost(t *testing.T) {
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	require.NoError(t, probe.Close())
	p := start(t, nil, "-tls-port", "0")
	for url, scheme := range map[string]string{p.url: "http", p.tlsURL: "https"} {
		_, port, _ := strings.Cut(strings.TrimPrefix(url, scheme+"://"), ":")
		for _, host := range []string{"127.0.0.1", "::1"} {
			client := client(t, nil, (*http.Protocols).SetHTTP1)
			client.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
			base := scheme + "://" + net.JoinHostPort(host, port)
			response, err := client.Get(base + "/_braid/")
			require.NoError(t, err)
			page, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Contains(t, string(page), "curl "+base+"/_braid/health")
		}
	}
}

// TestLocalhostInUse: the program needs both addresses of localhost, because a client might
// reach another program on the other address.
func TestLocalhostInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6")
	}
	defer taken.Close()
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailure, run(t.Context(), []string{"-port", portOf(taken)}, nil, &stdout, &stderr))
	require.Contains(t, stderr.String(), "in use")
}

func TestSelfSigned(t *testing.T) {
	p := start(t, nil, "-tls")
	require.True(t, strings.HasPrefix(p.url, "https://localhost:"), p.url)
	client := client(t, nil, (*http.Protocols).SetHTTP2)
	client.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	require.Empty(t, namesOf(t, p.calls(client)))
	_, stdout, _ := p.stop()
	require.Contains(t, stdout, "aws kinesis list-streams --no-verify-ssl --endpoint-url "+p.url+"\n")

	p = start(t, nil, "-tls-port", "0")
	_, stdout, _ = p.stop()
	require.Contains(t, stdout, "aws kinesis list-streams --endpoint-url "+p.url+"\n")
	require.Contains(t, stdout, "The certificate of "+p.tlsURL+" was made for this run: configure clients not to verify it.\n")
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer taken.Close()
	dir := filepath.Join(t.TempDir(), "data")
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailure, run(t.Context(), []string{"-addr", taken.Addr().String(), "-dir", dir}, nil, &stdout, &stderr))
	require.Contains(t, stderr.String(), "in use")
	require.NoDirExists(t, dir)
}
