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
	// Account and Region are what ARNs say. The defaults are "000000000000" and
	// "us-east-1".
	Account, Region string

	// ExactLimits makes the limits of Kinesis hold from the start. See
	// [Kit.ExactLimits].
	ExactLimits bool

	// CreateDelay, UpdateDelay and DeleteDelay are how long a stream stays
	// CREATING, UPDATING and DELETING after a call that asks for it; so do queues. 0 means that it
	// is ACTIVE, or gone, when the call returns. The kit's own methods do not wait.
	CreateDelay, UpdateDelay, DeleteDelay time.Duration

	// Durability is what [Kit.Crash] leaves. The default, [braid.Sync], loses
	// nothing that was acknowledged; [braid.NoSync] may lose all of it, streams
	// too.
	Durability braid.Durability

	// KeyProvider has the keys that StartStreamEncryption can name. The default has
	// alias/aws/kinesis; [kinesisapi.AnyKey] has a key for every id, and a
	// [braid.KeyRing] those that it was made of.
	KeyProvider braid.KeyProvider
}

// StreamSpec is a stream that a kit begins with. It comes from [Stream] or [OnDemand].
type StreamSpec struct {
	Name     string
	Shards   int
	OnDemand bool // its capacity mode is ON_DEMAND; Shards do not count
}

// Stream gives the kit a stream of that name, with so many shards.
func Stream(name string, shards int) StreamSpec { return StreamSpec{Name: name, Shards: shards} }

// OnDemand gives the kit an on-demand stream of that name, which has 4 shards
// at first. Only such streams can have queues.
func OnDemand(name string) StreamSpec { return StreamSpec{Name: name, OnDemand: true} }

// Kit is a Kinesis of one test. The clients that come from it may be used by any
// goroutine; its own methods may fail the test, so they belong to the goroutine that
// runs the test.
type Kit struct {
	t      testing.TB
	opts   Options
	ids    *server.IDs
	output *output
	client *server.Client
	faults fault.Script
	log    log

	disk    *braidtest.Disk
	exact   bool // whether limits hold
	expired int  // how often iterators were made to expire

	mu      sync.Mutex // guards the fields below
	now     *life      // nil while the power is off
	clients uint64     // how many came from Kinesis
}

// life is a kit between two power cuts.
type life struct {
	db      *braid.DB
	service *service.Service
	server  *server.Server
	off     context.Context // ends with it
	cut     context.CancelFunc
}

// The database is small, so that a hundred kits fit into memory.
const (
	memtableBytes = 1 << 20
	tailBytes     = 1 << 20
	cacheBytes    = 1 << 20
)

// New returns a Kinesis with these streams, which are ACTIVE. It ends with the test.
func New(t testing.TB, streams ...StreamSpec) *Kit {
	t.Helper()
	return NewWith(t, nil, streams...)
}

// NewWith is [New] with other settings.
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

// always is the context of what the kit itself does. The test's own ends before the
// test's cleanup, which should be able to use the kit.
var always = context.Background()

// turnOn begins a life with what is on the disk.
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
		_ = db.Close() // the first error tells more
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

// cutOff disconnects all callers: calls that are under way
// break off, and subscriptions end. Whatever a caller was told before was done before.
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

// end closes what is left of a life that was cut off.
func (l *life) end() error {
	l.service.Close()
	return l.db.Close()
}

// close ends the kit, and says what there is to say about the test.
func (k *Kit) close() {
	k.t.Helper()
	for _, f := range k.faults.Unmet() {
		k.t.Errorf("kinesistest: the test ended before %s of %s met a fault: %s", counted(f.Times, "call"), f.Operation, describe(f.Fault))
	}
	for _, m := range k.faults.Misfits() {
		k.t.Errorf("kinesistest: entry %d was to fail, counted from 0, in a PutRecords that had %d entries", m.Entry, m.Entries)
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

// caller is whose streams and queues the kit makes.
func (k *Kit) caller() service.Caller {
	return service.Caller{Account: k.opts.Account, Region: k.opts.Region}
}

func (k *Kit) life() *life {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

// must fails the test for an error of what the kit was asked to do.
func (k *Kit) must(err error, format string, args ...any) {
	if err != nil {
		k.t.Helper()
		k.t.Fatalf("kinesistest: "+format+": %v", append(args, err)...)
	}
}

// Client returns an HTTP client that calls the service in place of any server,
// whatever the host. It fits into the configuration of an AWS SDK's client:
//
//	cfg.HTTPClient = k.Client()
//
// It outlives [Kit.Crash].
func (k *Kit) Client() *http.Client { return &http.Client{Transport: k.client} }

// Kinesis returns a client of the AWS SDK for the service, with the SDK's own
// settings but for region, credentials, transport, and the pauses before another
// attempt: these are as long as the SDK's, but in each run of a test the same ones, if
// the attempts are. It outlives [Kit.Crash].
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

// DB returns the database that the service works on, for what the kit has no method
// for. What is done with it is no call of the service: it meets no faults and is not
// recorded. [Kit.Crash] closes it and makes another one.
func (k *Kit) DB() *braid.DB {
	k.t.Helper()
	l := k.life()
	if l == nil {
		k.t.Fatalf("kinesistest: the kit is closed")
	}
	return l.db
}

// output is the test's log until the kit ends. To log after the test has ended would
// end the whole program.
type output struct {
	mu sync.Mutex // guards to
	to io.Writer  // nil: nothing is written any more
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
