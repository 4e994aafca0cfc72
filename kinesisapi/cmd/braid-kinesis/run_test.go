package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/calltest"
	"github.com/braidstream/braid/kinesisapi/internal/eventstream"
)

// program is a run of the program in this process, on a port of its own.
type program struct {
	t      *testing.T
	url    string
	tlsURL string             // of a second port
	region string             // for which clients sign
	cancel context.CancelFunc // as a signal does

	ending chan struct{} // closed when the program has announced its end
	ended  chan struct{} // closed when it has ended
	code   int
	stdout strings.Builder
	stderr buffer
}

// buffer is a buffer for several goroutines.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start runs the program until it listens.
func start(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{t: t, region: "us-east-1", cancel: cancel, ending: make(chan struct{}), ended: make(chan struct{})}
	r, w := io.Pipe()
	go func() {
		p.code = run(ctx, append([]string{"-port", "0"}, args...), env, w, &p.stderr)
		w.Close()
	}()
	announced := make(chan []string, 1)
	go func() {
		defer close(p.ended)
		var urls []string
		for lines := bufio.NewScanner(r); lines.Scan(); {
			line := lines.Text()
			p.stdout.WriteString(line + "\n")
			if url, ok := strings.CutPrefix(line, "braid-kinesis listens on "); ok {
				urls = append(urls, url)
			}
			if line == "" && urls != nil {
				announced <- urls
				urls = nil
			}
			if strings.HasPrefix(line, "braid-kinesis shuts down") {
				close(p.ending)
			}
		}
	}()
	select {
	case urls := <-announced:
		p.url = urls[0]
		if len(urls) > 1 {
			p.tlsURL = urls[1]
		}
	case <-p.ended:
		require.FailNow(t, "the program ended", p.stderr.String())
	}
	t.Cleanup(func() {
		p.cancel()
		<-p.ended
	})
	return p
}

// stop ends the program as a signal does.
func (p *program) stop() (code int, stdout, stderr string) {
	p.cancel()
	<-p.ended
	return p.code, p.stdout.String(), p.stderr.String()
}

// calls returns a client that calls operations over an HTTP client.
func (p *program) calls(client *http.Client) *calltest.Client {
	return p.callsAs("test", p.region, client)
}

func (p *program) callsAs(accessKey, region string, client *http.Client) *calltest.Client {
	return &calltest.Client{HTTP: client, URL: p.url, AccessKey: accessKey, Region: region}
}

// client is an HTTP client of one protocol, whose connections end with the test.
func client(t *testing.T, roots *x509.CertPool, enable func(*http.Protocols, bool)) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: roots}, ExpectContinueTimeout: time.Hour}
	enable(transport.Protocols, true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func plain(t *testing.T) *http.Client { return client(t, nil, (*http.Protocols).SetHTTP1) }

func (p *program) get(path string) (status int, body string) {
	p.t.Helper()
	response, err := plain(p.t).Get(p.url + path)
	require.NoError(p.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(p.t, err)
	return response.StatusCode, string(text)
}

func (p *program) names() []string {
	p.t.Helper()
	return namesOf(p.t, p.calls(plain(p.t)))
}

func namesOf(t *testing.T, c *calltest.Client) []string {
	t.Helper()
	var out struct{ StreamNames []string }
	require.NoError(t, c.Call(t.Context(), "ListStreams", nil, &out))
	return out.StreamNames
}

// summary has the members of a StreamDescriptionSummary that tests compare.
type summary struct {
	StreamARN         string
	OpenShardCount    int
	StreamModeDetails struct{ StreamMode string }
}

func (p *program) summary(name string) summary {
	p.t.Helper()
	return summaryOf(p.t, p.calls(plain(p.t)), name)
}

func summaryOf(t *testing.T, c *calltest.Client, name string) summary {
	t.Helper()
	var out struct{ StreamDescriptionSummary summary }
	require.NoError(t, c.Call(t.Context(), "DescribeStreamSummary", calltest.Object{"StreamName": name}, &out))
	return out.StreamDescriptionSummary
}

func put(ctx context.Context, c *calltest.Client, stream string) error {
	return c.Put(ctx, stream, "a", "hello")
}

func TestAnnounce(t *testing.T) {
	p := start(t, nil, "-stream", "orders:4", "-stream", "events:on-demand,clicks", "-region", "eu-west-1")
	p.region = "eu-west-1"
	require.Equal(t, []string{"clicks", "events", "orders"}, p.names())
	require.Equal(t, 4, p.summary("orders").OpenShardCount)
	require.Equal(t, 1, p.summary("clicks").OpenShardCount)
	require.Equal(t, "ON_DEMAND", p.summary("events").StreamModeDetails.StreamMode)
	code, stdout, stderr := p.stop()
	require.Equal(t, exitOK, code)
	require.Empty(t, stderr)
	for _, text := range []string{
		"  data      in memory, gone when the program ends\n",
		"  account   000000000000, region eu-west-1\n",
		"  streams   clicks, 1 shard\n            events, 4 shards, on demand\n            orders, 4 shards\n",
		"  control   " + p.url + "/_braid/\n",
		"  page      " + p.url + "/_braid/ui/\n",
		"  export AWS_ENDPOINT_URL_KINESIS=" + p.url + "\n",
		"  aws kinesis list-streams --endpoint-url " + p.url + "\n",
		"BaseEndpoint = aws.String(\"" + p.url + "\")",
		"new KinesisClient({ endpoint: \"" + p.url + "\", region: \"eu-west-1\"",
		"boto3.client(\"kinesis\", endpoint_url=\"" + p.url + "\", region_name=\"eu-west-1\"",
	} {
		require.Contains(t, stdout, text)
	}
}

// TestCounts: a count of one has its noun in the singular.
func TestCounts(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []string{"orders, 1 shard\n", "orders, 1 shard, 1 record\n", "orders, 1 shard, 2 records\n"} {
		p := start(t, nil, "-dir", dir, "-stream", "orders")
		require.NoError(t, put(t.Context(), p.calls(plain(t)), "orders"))
		_, stdout, _ := p.stop()
		require.Contains(t, stdout, want)
	}
}

func TestLimits(t *testing.T) {
	p := start(t, nil, "-shard-limit", "5", "-on-demand-stream-limit", "1", "-stream", "orders:4")
	var out struct{ ShardLimit, OnDemandStreamCountLimit int }
	require.NoError(t, p.calls(plain(t)).Call(t.Context(), "DescribeLimits", nil, &out))
	require.Equal(t, 5, out.ShardLimit)
	require.Equal(t, 1, out.OnDemandStreamCountLimit)
	_, stdout, _ := p.stop()
	require.Contains(t, stdout, "  limits    none, but 5 open shards and 1 on-demand stream\n")

	var failed bytes.Buffer
	require.Equal(t, exitFailure, run(t.Context(), []string{"-port", "0", "-shard-limit", "3", "-stream", "orders:4"}, nil, io.Discard, &failed))
	require.Contains(t, failed.String(), "stream orders: This request would exceed the shard limit")
}

func TestManyStreams(t *testing.T) {
	var streams []string
	for _, c := range "abcdefghijklmnop" {
		streams = append(streams, string(c)+":1")
	}
	_, stdout, _ := start(t, nil, "-exact-limits", "-create-delay", "1h", "-stream", strings.Join(streams, ",")).stop()
	require.Contains(t, stdout, "            j, 1 shard, limited\n            and 6 more\n")
}

func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for i := range 2 {
		p := start(t, nil, "-dir", dir, "-durability", "interval", "-stream", "orders:2")
		require.NoError(t, put(t.Context(), p.calls(plain(t)), "orders"))
		_, body := p.get("/_braid/streams/orders")
		require.Contains(t, body, `"records":`+string(rune('1'+i)))

		var stdout, stderr bytes.Buffer
		require.Equal(t, exitFailure, run(t.Context(), []string{"-port", "0", "-dir", dir}, nil, &stdout, &stderr))
		require.Contains(t, stderr.String(), "in use")
		require.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
		require.Empty(t, stdout.String())
		code, out, _ := p.stop()
		require.Equal(t, exitOK, code)
		require.Contains(t, out, "  data      "+dir+", a power loss may lose the last 100 ms\n")
	}
}

// The options of limits apply to streams that exist already. Without them, such streams
// are not changed.
func TestExactLimits(t *testing.T) {
	dir := t.TempDir()
	limited := func(args ...string) bool {
		_, stdout, _ := start(t, nil, append([]string{"-dir", dir, "-stream", "orders:1"}, args...)...).stop()
		return strings.Contains(stdout, "orders, 1 shard, limited\n")
	}
	require.False(t, limited())
	require.True(t, limited("-exact-limits"))
	require.False(t, limited())
}

func TestSeparateAccounts(t *testing.T) {
	p := start(t, nil, "-separate-accounts", "-stream", "orders:1")
	require.Equal(t, []string{"orders"}, p.names())
	require.Empty(t, namesOf(t, p.callsAs("111122223333", "eu-west-1", plain(t))))
}

// TestStreamsOfAccounts: -stream can create streams in other regions and accounts.
func TestStreamsOfAccounts(t *testing.T) {
	p := start(t, nil, "-separate-accounts", "-stream", "orders:2,orders:3:eu-west-1,orders::eu-west-1:111122223333,events:on-demand::111122223333")
	for _, c := range []struct {
		key, region string
		want        map[string]int
	}{
		{"test", "us-east-1", map[string]int{"orders": 2}},
		{"test", "eu-west-1", map[string]int{"orders": 3}},
		{"111122223333", "eu-west-1", map[string]int{"orders": 1}},
		{"111122223333", "us-east-1", map[string]int{"events": 4}},
		{"test", "eu-west-2", map[string]int{}},
	} {
		calls := p.callsAs(c.key, c.region, plain(t))
		got := make(map[string]int)
		for _, name := range namesOf(t, calls) {
			got[name] = summaryOf(t, calls, name).OpenShardCount
		}
		require.Equal(t, c.want, got)
	}
	_, stdout, stderr := p.stop()
	require.Contains(t, stdout, "  streams   orders, 2 shards\n"+
		"            orders, 3 shards, account 000000000000, region eu-west-1\n"+
		"            orders, 1 shard, account 111122223333, region eu-west-1\n"+
		"            events, 4 shards, on demand, account 111122223333, region us-east-1\n")
	require.Empty(t, stderr)
}

// TestRegionHint: the log mentions -separate-accounts when a caller uses another region
// than the program's, since that caller may expect other streams there.
func TestRegionHint(t *testing.T) {
	p := start(t, nil, "-stream", "orders:1:us-east-1")
	p.region = "eu-west-1"
	require.Equal(t, []string{"orders"}, p.names())
	require.Equal(t, []string{"orders"}, p.names())
	_, _, stderr := p.stop()
	require.Equal(t, 1, strings.Count(stderr, "-separate-accounts"), stderr)
}

// By default the control API is on only where no other machine can reach it. Health and
// ready are always served.
func TestControl(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
	}{
		{nil, http.StatusOK},
		{[]string{"-control=false"}, http.StatusNotFound},
		{[]string{"-addr", "0.0.0.0:0"}, http.StatusNotFound},
		{[]string{"-addr", "0.0.0.0:0", "-control"}, http.StatusOK},
		{[]string{"-tls-port", "0"}, http.StatusOK},
		{[]string{"-tls-addr", "0.0.0.0:0"}, http.StatusNotFound},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			p := start(t, nil, c.args...)
			status, _ := p.get("/_braid/streams")
			require.Equal(t, c.status, status)
			for _, path := range []string{"/_braid/health", "/_braid/ready"} {
				status, body := p.get(path)
				require.Equal(t, http.StatusOK, status)
				require.JSONEq(t, `{"status":"ok"}`, body)
			}
			require.Empty(t, p.names())
		})
	}
}

func TestAccessLog(t *testing.T) {
	for _, form := range []string{"off", "text", "json"} {
		t.Run(form, func(t *testing.T) {
			p := start(t, nil, "-access-log", form)
			require.Error(t, put(t.Context(), p.calls(plain(t)), "none"))
			_, _, stderr := p.stop()
			switch form {
			case "off":
				require.Empty(t, stderr)
			case "text":
				require.Contains(t, stderr, "operation=PutRecord status=400 error=ResourceNotFoundException")
			case "json":
				var line map[string]any
				require.NoError(t, json.Unmarshal([]byte(stderr), &line), stderr)
				require.Equal(t, "PutRecord", line["operation"])
				require.EqualValues(t, 400, line["status"])
			}
		})
	}
}

func TestEncryption(t *testing.T) {
	encrypt := func(p *program, key string) error {
		return p.calls(plain(t)).Call(t.Context(), "StartStreamEncryption", calltest.Object{"StreamName": "orders", "KeyId": key, "EncryptionType": "KMS"}, nil)
	}
	dir := t.TempDir()
	const arn = "arn:aws:kms:us-east-1:000000000000:"
	for _, where := range [][]string{nil, {"-dir", filepath.Join(dir, "service")}} {
		for range 2 { // the next run can read encrypted data of a directory
			p := start(t, nil, append(where, "-stream", "orders:1")...)
			for _, key := range []string{"alias/aws/kinesis", arn + "alias/aws/kinesis"} {
				require.NoError(t, encrypt(p, key))
				require.NoError(t, put(t.Context(), p.calls(plain(t)), "orders"))
			}
			var refused *calltest.Error
			require.ErrorAs(t, encrypt(p, "alias/other"), &refused)
			require.Equal(t, "KMSNotFoundException", refused.Code)
			require.Contains(t, refused.Message, "Alias "+arn+"alias/other is not found.")
			p.stop()
			p = start(t, nil, append(where, "-stream", "orders:1", "-any-key")...)
			for _, key := range []string{"alias/aws/kinesis", "alias/other", arn + "alias/other", "1234abcd-12ab-34cd-56ef-1234567890ab", "any"} {
				require.NoError(t, encrypt(p, key))
				require.NoError(t, put(t.Context(), p.calls(plain(t)), "orders"))
			}
			require.NoError(t, encrypt(p, "alias/aws/kinesis"))
			p.stop()
		}
	}
	keys := filepath.Join(dir, "keys")
	require.NoError(t, os.WriteFile(keys, []byte("main AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), 0o600))
	p := start(t, nil, "-stream", "orders:1", "-dir", filepath.Join(dir, "data"), "-keys", keys)
	require.NoError(t, encrypt(p, "main"))
	require.Error(t, encrypt(p, "alias/aws/kinesis"))
}

// slowPut begins a request without its body. It returns when the server has asked for
// the body.
func slowPut(t *testing.T, p *program, client *http.Client) (body *io.PipeWriter, result chan error) {
	r, w := io.Pipe()
	asked := make(chan struct{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(asked) }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, r)
	require.NoError(t, err)
	request.Header = http.Header{
		"Content-Type": {"application/x-amz-json-1.1"},
		"X-Amz-Target": {"Kinesis_20131202.ListStreams"},
		"Expect":       {"100-continue"},
	}
	result = make(chan error, 1)
	go func() {
		response, err := client.Do(request)
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		result <- err
	}()
	<-asked
	return w, result
}

func TestShutdownAnswers(t *testing.T) {
	for name, enable := range map[string]func(*http.Protocols, bool){"HTTP/1.1": (*http.Protocols).SetHTTP1, "h2c": (*http.Protocols).SetUnencryptedHTTP2} {
		t.Run(name, func(t *testing.T) {
			p := start(t, nil, "-shutdown-timeout", "1m")
			body, result := slowPut(t, p, client(t, nil, enable))
			p.cancel()
			<-p.ending
			_, err := io.WriteString(body, "{}")
			require.NoError(t, err)
			require.NoError(t, body.Close())
			require.NoError(t, <-result)
			code, _, stderr := p.stop()
			require.Equal(t, exitOK, code)
			require.Empty(t, stderr)
		})
	}
}

func TestShutdownTimeout(t *testing.T) {
	p := start(t, nil, "-shutdown-timeout", "0s")
	body, result := slowPut(t, p, plain(t))
	code, _, stderr := p.stop()
	require.Equal(t, exitOK, code)
	require.Contains(t, stderr, "not all requests were answered in time")
	require.NoError(t, body.Close())
	require.Error(t, <-result)
}

func TestShutdownEndsSubscriptions(t *testing.T) {
	p := start(t, nil, "-stream", "orders:1", "-shutdown-timeout", "1m")
	calls := p.calls(client(t, nil, (*http.Protocols).SetUnencryptedHTTP2))
	var out struct{ Consumer struct{ ConsumerARN string } }
	require.NoError(t, calls.Call(t.Context(), "RegisterStreamConsumer", calltest.Object{"StreamARN": p.summary("orders").StreamARN, "ConsumerName": "c"}, &out))
	response, err := calls.Send(t.Context(), "SubscribeToShard", calltest.Object{
		"ConsumerARN": out.Consumer.ConsumerARN, "ShardId": "shardId-000000000000", "StartingPosition": calltest.Object{"Type": "LATEST"},
	})
	require.NoError(t, err)
	defer response.Body.Close()
	for _, event := range []string{"initial-response", "SubscribeToShardEvent"} {
		m, err := eventstream.Read(response.Body)
		require.NoError(t, err)
		require.Equal(t, event, m.Headers[":event-type"]) // the subscription has begun
	}
	code, _, stderr := p.stop()
	require.Equal(t, exitOK, code)
	require.Empty(t, stderr)
	for err == nil { // ends, after a whole event
		_, err = eventstream.Read(response.Body)
	}
	require.Equal(t, io.EOF, err)
}
