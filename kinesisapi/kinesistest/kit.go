package kinesistest

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/fault"
	"github.com/braidstream/braid/kinesisapi/internal/server"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Options are the settings of a [Kit]. The zero value, and a nil pointer, mean the
// defaults.
type Options struct {
	// Account and Region are those of the ARNs. The defaults are "000000000000" and
	// "us-east-1".
	Account, Region string

	// ExactLimits enforces the limits of Kinesis from the start. See [Kit.ExactLimits].
	ExactLimits bool

	// CreateDelay, UpdateDelay and DeleteDelay are how long a stream or a queue stays CREATING,
	// UPDATING and DELETING after a call. 0 means that it is ACTIVE, or gone, when the call
	// returns. The kit's own methods do not wait.
	CreateDelay, UpdateDelay, DeleteDelay time.Duration

	// Durability decides what survives [Kit.Crash]. With the default, [braid.Sync], all
	// acknowledged writes survive. With [braid.NoSync] all of them may be lost, even streams.
	Durability braid.Durability

	// KeyProvider has the keys for StartStreamEncryption. The default has alias/aws/kinesis;
	// [kinesisapi.AnyKey] has a key for every id; a [braid.KeyRing] has the keys that it was
	// created with.
	KeyProvider braid.KeyProvider
}

// StreamSpec is a stream that [New] creates. It comes from [Stream] or [OnDemand].
type StreamSpec struct {
	Name     string
	Shards   int
	OnDemand bool // its capacity mode is ON_DEMAND; Shards is ignored
}

// Stream gives the kit a stream with a name and a number of shards.
func Stream(name string, shards int) StreamSpec { return StreamSpec{Name: name, Shards: shards} }

// OnDemand gives the kit an on-demand stream, which starts with 4 shards. Only on-demand
// streams can have queues.
func OnDemand(name string) StreamSpec { return StreamSpec{Name: name, OnDemand: true} }

// Kit is the Kinesis service of one test. Any goroutine may use its clients. Its own
// methods may fail the test, so only the goroutine that runs the test may call them.
type Kit struct {
	t      testing.TB
	opts   Options
	ids    *server.IDs
	output *output
	client *server.Client
	faults fault.Script
	log    log

	disk    *braidtest.Disk
	exact   bool // whether Kinesis's limits are enforced
	expired int  // how often ExpireIterators was called

	mu      sync.Mutex // guards the fields below
	now     *life      // nil during Crash and after the end
	clients uint64     // how many Kinesis has returned
}

// life is the database and service of a kit between two calls of Crash.
type life struct {
	db      *braid.DB
	service *service.Service
	server  *server.Server
	off     context.Context // ends with the life
	cut     context.CancelFunc
}

// The database is small, so that a hundred kits fit into memory.
const (
	memtableBytes = 1 << 20
	tailBytes     = 1 << 20
	cacheBytes    = 1 << 20
)

// New returns a kit with these streams, which are ACTIVE. It is closed when the test ends.
func New(t testing.TB, streams ...StreamSpec) *Kit {
	t.Helper()
	return NewWith(t, nil, streams...)
}

// NewWith is [New] with options.
func NewWith(t testing.TB, options *Options, streams ...StreamSpec) *Kit {
	t.Helper()
	k := &Kit{t: t, ids: server.NewIDs(sha256.Sum256(nil)), output: &output{to: t.Output()}, disk: braidtest.NewDisk()}
	if options != nil {
		k.opts = *options
	}
	if k.opts.Account == "" {
		k.opts.Account = "000000000000"
	}
	if k.opts.Region == "" {
		k.opts.Region = "us-east-1"
	}
	if k.opts.KeyProvider == nil {
		k.opts.KeyProvider = kinesisapi.ServiceKey()
	}
	k.exact = k.opts.ExactLimits
	k.client = server.NewClient(func() *server.Server {
		if l := k.life(); l != nil {
			return l.server
		}
		return nil
	})
	t.Cleanup(k.close)
	k.turnOn()
	for _, s := range streams {
		var err error
		if s.OnDemand {
			err = k.life().service.CreateOnDemand(always, k.caller(), s.Name)
		} else {
			_, err = k.DB().CreateStream(always, s.Name, &braid.StreamOptions{Shards: s.Shards})
		}
		k.must(err, "make stream %q", s.Name)
	}
	if k.exact {
		k.must(k.life().service.SetExactLimits(always, true), "make limits exact")
	}
	return k
}

// always is the context of the kit's own calls. The test's context ends before the test's
// cleanup, which should be able to use the kit.
var always = context.Background()

// turnOn begins a life with the data on the disk.
func (k *Kit) turnOn() {
	k.t.Helper()
	logger := slog.New(slog.NewTextHandler(k.output, nil))
	db, err := k.disk.Open(&braid.Options{
		Logger:        logger,
		Durability:    k.opts.Durability,
		KeyProvider:   k.opts.KeyProvider,
		MemtableBytes: memtableBytes,
		TailBytes:     tailBytes,
		CacheBytes:    cacheBytes,
		ReserveBytes:  -1,
	})
	k.must(err, "open the database")
	l := &life{db: db}
	l.service, err = service.New(db, service.Options{
		Account:     k.opts.Account,
		Region:      k.opts.Region,
		ExactLimits: k.exact,
		CreateDelay: k.opts.CreateDelay,
		UpdateDelay: k.opts.UpdateDelay,
		DeleteDelay: k.opts.DeleteDelay,
		Logger:      logger,
	})
	if err != nil {
		_ = db.Close() // the first error matters
		k.must(err, "start the service")
	}
	for range k.expired {
		l.service.ExpireIterators()
	}
	l.off, l.cut = context.WithCancel(always)
	l.server = server.New(l.service, server.Options{
		Account: k.opts.Account,
		Region:  k.opts.Region,
		IDs:     k.ids,
		Logger:  logger,
		Intercept: func(ctx context.Context, call *server.Call, next func(context.Context) (any, error)) (any, error) {
			return k.intercept(ctx, l, call, next)
		},
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = l
}

// cutOff disconnects all callers: current calls break off, and subscriptions end. Calls that have
// returned are not affected.
func (k *Kit) cutOff() *life {
	k.mu.Lock()
	l := k.now
	k.now = nil
	k.mu.Unlock()
	if l != nil {
		l.cut()
		l.server.Close()
	}
	return l
}

// end closes the server, service and database of a life after cutOff.
func (l *life) end() error {
	l.service.Close()
	return l.db.Close()
}

// close ends the kit, reports faults that did not occur, and logs the summary of a failed
// test.
func (k *Kit) close() {
	k.t.Helper()
	for _, f := range k.faults.Unmet() {
		k.t.Errorf("kinesistest: the test ended before %s of %s met a fault: %s", counted(f.Times, "call"), f.Operation, describe(f.Fault))
	}
	for _, m := range k.faults.Misfits() {
		k.t.Errorf("kinesistest: entry %d (counted from 0) was to fail in a PutRecords call that had %d entries", m.Entry, m.Entries)
	}
	if l := k.life(); l != nil && k.t.Failed() {
		k.t.Logf("kinesistest: %s", l.summary(k.log.shown()))
	}
	if l := k.cutOff(); l != nil {
		if err := l.end(); err != nil {
			k.t.Errorf("kinesistest: close the database: %v", err)
		}
	}
	k.output.end()
}

// caller is the account and region of the kit's streams and queues.
func (k *Kit) caller() service.Caller {
	return service.Caller{Account: k.opts.Account, Region: k.opts.Region}
}

func (k *Kit) life() *life {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

// must fails the test if a method of the kit failed.
func (k *Kit) must(err error, format string, args ...any) {
	if err != nil {
		k.t.Helper()
		k.t.Fatalf("kinesistest: "+format+": %v", append(args, err)...)
	}
}

// Client returns an HTTP client that sends every request to the kit, whatever the host. It
// fits into the configuration of an AWS SDK client:
//
//	cfg.HTTPClient = k.Client()
//
// It remains valid after [Kit.Crash].
func (k *Kit) Client() *http.Client { return &http.Client{Transport: k.client} }

// Kinesis returns a client of the AWS SDK for the service, with the SDK's own settings
// except region, credentials, transport, and the pauses before retries. The pauses have the
// SDK's lengths, but they are the same in each run of a test that makes the same attempts.
// The client remains valid after [Kit.Crash].
func (k *Kit) Kinesis(options ...func(*kinesis.Options)) *kinesis.Client {
	k.mu.Lock()
	seed := k.clients
	k.clients++
	k.mu.Unlock()
	return kinesis.New(kinesis.Options{
		Region:      k.opts.Region,
		Credentials: credentials.NewStaticCredentialsProvider("kinesistest", "kinesistest", ""),
		HTTPClient:  k.client,
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = &backoff{random: rand.New(rand.NewPCG(seed, 0))}
		}),
	}, options...)
}

// DB returns the service's database, for tasks that the kit has no method for. Its use is
// not a call of the service: faults do not apply, and [Kit.Calls] does not return it.
// [Kit.Crash] closes the database and opens another one.
func (k *Kit) DB() *braid.DB {
	k.t.Helper()
	l := k.life()
	if l == nil {
		k.t.Fatalf("kinesistest: the kit is closed")
	}
	return l.db
}

// output is the test's log until the kit ends. Logging after the end of the test would
// panic.
type output struct {
	mu sync.Mutex // guards to
	to io.Writer  // nil: nothing is written after the end
}

// Write is part of io.Writer.
func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to == nil {
		return len(line), nil
	}
	return o.to.Write(line)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = nil
}
