package sdktest_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/nettest"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// sdk is an AWS SDK client with its server, and shorthands for common calls. An error of a
// shorthand fails the test; for calls whose outcome matters, tests use the client's own
// methods.
type sdk struct {
	*kinesis.Client
	t      *testing.T
	ctx    context.Context
	db     *braid.DB
	server *kinesisapi.Server
}

// inBubble runs a test in a bubble of testing/synctest: with a server in the same
// process, no real time passes.
func inBubble(t *testing.T, options *kinesisapi.Options, test func(t *testing.T, k *sdk)) {
	t.Helper()
	inBubbleWithKeys(t, options, nil, test)
}

func inBubbleWithKeys(t *testing.T, options *kinesisapi.Options, keys braid.KeyProvider, test func(t *testing.T, k *sdk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := newSDK(t, options, keys)
		k.Client = sdkClient(k.server.Client(), "AKIA", "us-east-1")
		test(t, k)
	})
}

// newSDK makes a server over a database in memory. Both are closed with the test.
func newSDK(t *testing.T, options *kinesisapi.Options, keys braid.KeyProvider) *sdk {
	t.Helper()
	db, err := braid.Open(braid.InMemory, &braid.Options{KeyProvider: keys})
	require.NoError(t, err)
	server, err := kinesisapi.New(db, options)
	require.NoError(t, err)
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, db.Close())
	})
	return &sdk{t: t, ctx: t.Context(), db: db, server: server}
}

// sdkClient makes a client without retries, unless options add them.
func sdkClient(client kinesis.HTTPClient, accessKey, region string, options ...func(*kinesis.Options)) *kinesis.Client {
	return kinesis.New(kinesis.Options{
		Region:      region,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, "secret", ""),
		HTTPClient:  client,
		Retryer:     aws.NopRetryer{},
	}, options...)
}

// retrying gives a client the SDK's retries, but more of them, because its pauses are
// random.
func retrying(o *kinesis.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = 12 })
}

// SubscribeToShard subscribes with a client of its own. All subscriptions of a client
// share a decoder in the SDK (smithy-go 1.28.9, aws/smithy-go#714), whose buffer stays
// empty: harmless, but the race detector sees it.
func (k *sdk) SubscribeToShard(ctx context.Context, in *kinesis.SubscribeToShardInput) (*kinesis.SubscribeToShardOutput, error) {
	return kinesis.New(k.Options()).SubscribeToShard(ctx, in)
}

// sleep lets time pass, and waits for what is due at its end.
func (k *sdk) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// create makes a stream, and returns its ARN when it is ACTIVE.
func (k *sdk) create(name string, shards int) string {
	k.t.Helper()
	_, err := k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: &name, ShardCount: aws.Int32(int32(shards))})
	require.NoError(k.t, err)
	return k.active(name)
}

// createOnDemand makes an on-demand stream, and returns its ARN.
func (k *sdk) createOnDemand(name string) string {
	k.t.Helper()
	_, err := k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: &name, StreamModeDetails: onDemand})
	require.NoError(k.t, err)
	return k.active(name)
}

var (
	onDemand    = &types.StreamModeDetails{StreamMode: types.StreamModeOnDemand}
	provisioned = &types.StreamModeDetails{StreamMode: types.StreamModeProvisioned}
)

// active waits until a stream is ACTIVE, and returns its ARN.
func (k *sdk) active(name string) string {
	k.t.Helper()
	out, err := kinesis.NewStreamExistsWaiter(k.Client).WaitForOutput(k.ctx, &kinesis.DescribeStreamInput{StreamName: &name}, time.Hour)
	require.NoError(k.t, err)
	return *out.StreamDescription.StreamARN
}

func (k *sdk) describe(name string) *types.StreamDescription {
	k.t.Helper()
	out, err := k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: &name})
	require.NoError(k.t, err)
	return out.StreamDescription
}

func (k *sdk) summary(name string) *types.StreamDescriptionSummary {
	k.t.Helper()
	out, err := k.DescribeStreamSummary(k.ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &name})
	require.NoError(k.t, err)
	return out.StreamDescriptionSummary
}

// shards lists all shards of a stream that are not expired.
func (k *sdk) shards(name string) []types.Shard {
	k.t.Helper()
	return k.filtered(name, nil)
}

// filtered lists the shards that a filter selects, page by page, as the Kinesis Client
// Library does.
func (k *sdk) filtered(name string, filter *types.ShardFilter) []types.Shard {
	k.t.Helper()
	var all []types.Shard
	in := &kinesis.ListShardsInput{StreamName: &name, ShardFilter: filter, MaxResults: aws.Int32(3)}
	for {
		out, err := k.ListShards(k.ctx, in)
		require.NoError(k.t, err)
		all = append(all, out.Shards...)
		if out.NextToken == nil {
			return all
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken, MaxResults: aws.Int32(3)}
	}
}

func shardIDs(shards []types.Shard) []string {
	ids := make([]string, len(shards))
	for i := range shards {
		ids[i] = *shards[i].ShardId
	}
	return ids
}

// put puts a record, and returns its shard and sequence number.
func (k *sdk) put(stream, key, data string) *kinesis.PutRecordOutput {
	k.t.Helper()
	out, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: &stream, PartitionKey: &key, Data: []byte(data)})
	require.NoError(k.t, err)
	return out
}

// iterator returns a shard iterator of the given type.
func (k *sdk) iterator(stream, shard string, kind types.ShardIteratorType, change ...func(*kinesis.GetShardIteratorInput)) *string {
	k.t.Helper()
	in := &kinesis.GetShardIteratorInput{StreamName: &stream, ShardId: &shard, ShardIteratorType: kind}
	for _, c := range change {
		c(in)
	}
	out, err := k.GetShardIterator(k.ctx, in)
	require.NoError(k.t, err)
	return out.ShardIterator
}

func atNumber(number *string) func(*kinesis.GetShardIteratorInput) {
	return func(in *kinesis.GetShardIteratorInput) { in.StartingSequenceNumber = number }
}

func atTime(at time.Time) func(*kinesis.GetShardIteratorInput) {
	return func(in *kinesis.GetShardIteratorInput) { in.Timestamp = &at }
}

func (k *sdk) get(iterator *string) *kinesis.GetRecordsOutput {
	k.t.Helper()
	out, err := k.GetRecords(k.ctx, &kinesis.GetRecordsInput{ShardIterator: iterator})
	require.NoError(k.t, err)
	return out
}

// texts are the data of records.
func texts(records []types.Record) []string {
	list := []string{}
	for i := range records {
		list = append(list, string(records[i].Data))
	}
	return list
}

// register registers a consumer, and returns its ARN.
func (k *sdk) register(stream, name string) string {
	k.t.Helper()
	out, err := k.RegisterStreamConsumer(k.ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: aws.String(arnOf(stream)), ConsumerName: &name})
	require.NoError(k.t, err)
	return *out.Consumer.ConsumerARN
}

func arnOf(stream string) string { return "arn:aws:kinesis:us-east-1:000000000000:stream/" + stream }

// failsWith checks that an error has the SDK's type, and the text if that is not empty.
func failsWith[E error](t *testing.T, err error, text string) {
	t.Helper()
	var e E
	require.ErrorAs(t, err, &e)
	if text != "" {
		var api smithy.APIError
		require.ErrorAs(t, err, &api)
		require.Contains(t, api.ErrorMessage(), text)
	}
}

// Shorthands for the SDK's errors.
type (
	errNotFound   = *types.ResourceNotFoundException
	errInUse      = *types.ResourceInUseException
	errArgument   = *types.InvalidArgumentException
	errLimit      = *types.LimitExceededException
	errThroughput = *types.ProvisionedThroughputExceededException
	errValidation = *types.ValidationException
	errDryRun     = *types.DryRunOperationException
)

// serveHTTP serves a server on its own port until the test ends, and returns a client for
// the given protocol: "HTTP/1.1", "h2c", or "h2" with TLS.
func (k *sdk) serveHTTP(protocol string) {
	k.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(k.t, err)
	server := &http.Server{Handler: k.server, Protocols: new(http.Protocols)}
	transport := &http.Transport{Protocols: new(http.Protocols)}
	scheme := "http"
	switch protocol {
	case "HTTP/1.1":
		server.Protocols.SetHTTP1(true)
		transport.Protocols.SetHTTP1(true)
	case "h2c":
		server.Protocols.SetUnencryptedHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
	case "h2":
		scheme = "https"
		for _, p := range []*http.Protocols{server.Protocols, transport.Protocols} {
			p.SetHTTP1(true) // so that ALPN has a choice
			p.SetHTTP2(true)
		}
		certificate, pool := nettest.SelfSigned(k.t)
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	default:
		k.t.Fatalf("no protocol %q", protocol)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if scheme == "https" {
			_ = server.ServeTLS(listener, "", "")
		} else {
			_ = server.Serve(listener)
		}
	}()
	k.t.Cleanup(func() {
		_ = server.Close()
		<-done
		transport.CloseIdleConnections()
	})
	k.Client = sdkClient(&http.Client{Transport: nettest.OwnBodies{RoundTripper: transport}}, "AKIA", "us-east-1", func(o *kinesis.Options) {
		o.BaseEndpoint = aws.String(scheme + "://" + listener.Addr().String())
	})
}

// TestSDKOperations compares the SDK's operations with the service's, so that a newer SDK
// reveals new operations.
func TestSDKOperations(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		client := reflect.ValueOf(k.Client)
		known := make(map[string]bool)
		for m := range client.Type().Methods() {
			if m.Type.NumIn() < 3 || m.Type.In(2).Kind() != reflect.Pointer {
				continue
			}
			input := m.Type.In(2).Elem()
			if !strings.HasSuffix(input.Name(), "Input") {
				continue
			}
			known[m.Name] = true
			in := filled(input)
			out := client.MethodByName(m.Name).Call([]reflect.Value{reflect.ValueOf(k.ctx), in})
			err, _ := out[1].Interface().(error)
			var api smithy.APIError
			unknown := err != nil
			if unknown {
				require.ErrorAs(k.t, err, &api, m.Name)
				unknown = api.ErrorCode() == "UnknownOperationException"
			}
			isChannel := strings.HasSuffix(m.Name, "Channel")
			require.Equal(k.t, isChannel, unknown, "%s: %v", m.Name, err)
			require.Contains(k.t, service.Operations, m.Name)
		}
		for name := range service.Operations {
			// The SDK has no queues. When it does, so should these tests.
			require.Equal(k.t, !strings.Contains(name, "Queue"), known[name], name)
		}
	})
}

// filled returns a pointer to an input with all required members, so that the SDK sends it.
// Their values do not matter.
func filled(input reflect.Type) reflect.Value {
	v := reflect.New(input)
	fill(v.Elem(), "", 0)
	return v
}

func fill(v reflect.Value, name string, depth int) {
	if depth > 12 {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Now()))
			return
		}
		for i := range v.NumField() {
			if f, name := v.Field(i), v.Type().Field(i).Name; f.CanSet() && name != "StreamId" {
				fill(f, name, depth+1)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name, depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, name, depth+1)
		fill(value, name, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		// The SDK reads ARNs itself, to find where to send the request.
		switch {
		case name == "ConsumerARN":
			v.SetString(arnOf("x") + "/consumer/x:1")
		case name == "ChannelARN":
			v.SetString("arn:aws:kinesis:us-east-1:000000000000:channel/x")
		case strings.HasSuffix(name, "ARN"):
			v.SetString(arnOf("x"))
		default:
			v.SetString("x")
		}
	case reflect.Int32:
		v.SetInt(1)
	case reflect.Uint8:
		v.SetUint('x')
	default:
	}
}
