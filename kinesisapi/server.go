package kinesisapi

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/control"
	"github.com/braidstream/braid/kinesisapi/internal/fault"
	"github.com/braidstream/braid/kinesisapi/internal/server"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Options are the settings of a [Server]. The zero value, and a nil pointer, mean
// the defaults.
type Options struct {
	// Account and Region are those of the ARNs. Account is 12 digits; Region is 1 to 32
	// characters of a-z, 0-9 and '-'. The defaults are "000000000000" and "us-east-1".
	Account, Region string

	// SeparateAccounts keeps the streams of each account and region apart, as AWS does. The
	// region is that of the request's credential scope. The account is the access key, if that
	// consists of 12 digits. Where a request has neither, Account and Region apply. The
	// database's name of such a stream is "account.region.stream". Without SeparateAccounts
	// there is one account, whatever requests and ARNs call it. Then Logger receives a hint,
	// once, when a request is signed for another account or region than Account and Region.
	SeparateAccounts bool

	// ExactLimits enforces the limits of Kinesis: throughput of shards, quotas of the account,
	// and rates of operations. Without it only the sizes of requests are limited, and a stream
	// is as fast as the machine.
	ExactLimits bool

	// ShardLimit is the maximum number of open shards of an account in a region, and
	// OnDemandStreamLimit that of on-demand streams: 1 to 1,000,000. Both are enforced with or
	// without ExactLimits. The defaults are those of AWS, and are enforced only with
	// ExactLimits: 20,000 shards in us-east-1, us-west-2 and eu-west-1, 1,000 shards elsewhere,
	// and 50 streams. Negative means no limit. DescribeLimits returns both.
	ShardLimit, OnDemandStreamLimit int

	// CheckAuthorization refuses requests that lack a part of a signature. The
	// signature itself is never verified.
	CheckAuthorization bool

	// CreateDelay, UpdateDelay and DeleteDelay are how long a stream or a queue stays CREATING,
	// UPDATING and DELETING. CreateDelay and DeleteDelay also apply to consumers. They must not
	// be negative. 0 means that the stream is ACTIVE, or gone, when the call returns. A change
	// becomes visible at the end of its delay.
	CreateDelay, UpdateDelay, DeleteDelay time.Duration

	// BodyTimeout is how long the body of a request over HTTP may take to arrive, counted from
	// the end of its headers. A slower client gets RequestTimeoutException (status 408) and,
	// over HTTP/1.1, is disconnected. The default is 30 seconds; negative means no limit. A
	// ReadTimeout of the [http.Server] takes precedence. If a handler around the server
	// replaces the ResponseWriter, the replacement must have an Unwrap method (see
	// [http.ResponseController]). Without it, the server can enforce neither this limit nor
	// AnswerTimeout.
	BodyTimeout time.Duration

	// AnswerTimeout is how long a client over HTTP may take to read an answer, counted from its
	// first byte. A slower client is disconnected. The default is 30 seconds; negative means no
	// limit. A WriteTimeout of the [http.Server] takes precedence; it must allow for the 20
	// seconds that a receive from a queue may wait. Subscriptions have their own limit, 6
	// minutes from their start.
	AnswerTimeout time.Duration

	// Logger receives the causes of failures, which answers do not contain: failures of
	// storage at Error, mistakes of callers at Debug, all others at Warn. nil means
	// [slog.Default]; slog.New(slog.DiscardHandler) silences them.
	Logger *slog.Logger

	// Access, if not nil, is called after each request over HTTP, on the goroutine of that
	// request. So several goroutines may call it at once.
	Access func(Access)

	// Control also serves the control API under /_braid/, for tests: a page, health, records,
	// resets and injected faults. Anyone who can reach the server can use all of it. Pages of
	// other web sites cannot use it through a visitor's browser. [Server.Client] does not serve
	// it, because Go code can call package kinesistest.
	Control bool

	// ControlHosts are further host names, without ports, under which the control API is
	// reached, such as "kinesis.test". Loopback names and IP addresses are always allowed.
	// Requests under other names are refused, because a web site could make its own name
	// resolve to this machine. Health and ready answer under any name.
	ControlHosts []string
}

// Access is a request that was answered over HTTP.
type Access struct {
	Remote        string        // address of the client
	Operation     string        // such as "PutRecord"; empty if it is not one
	Status        int           // of HTTP
	Error         string        // such as "ResourceNotFoundException"; empty if there was none; a subscription may end with an error
	ResponseBytes int64         // bytes of the body that were sent, including all events of a subscription
	Duration      time.Duration // until the answer was written; of a subscription, until it ended
}

// Server answers the operations of Kinesis from a database. It is an
// [http.Handler]; serve it over HTTP/1.1 or HTTP/2, with TLS or without. All
// methods may be called from any number of goroutines.
type Server struct {
	service *service.Service
	server  *server.Server
	endLive context.CancelFunc // of the page's live connections
}

// New returns a server for the streams and queues of a database. The caller keeps the database open
// while the server is used, and closes it after the server. Facts about a stream that Kinesis
// stores and braid does not, such as registered consumers, are stored in application keys that
// begin with "kinesisapi/".
//
// Errors: [braid.ErrInvalidArgument] for the options, [braid.ErrReadOnly] for a read-only
// database, and the others of [braid.DB.Update].
func New(db *braid.DB, options *Options) (*Server, error) {
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{}
	s.service, err = service.New(db, service.Options{
		Account:          opts.Account,
		Region:           opts.Region,
		SeparateAccounts: opts.SeparateAccounts,
		ExactLimits:      opts.ExactLimits,
		CreateDelay:      opts.CreateDelay,
		UpdateDelay:      opts.UpdateDelay,
		DeleteDelay:      opts.DeleteDelay,
		Logger:           opts.Logger,

		ShardLimit:          opts.ShardLimit,
		OnDemandStreamLimit: opts.OnDemandStreamLimit,
	})
	if err != nil {
		return nil, err
	}
	inner := server.Options{
		Account:            opts.Account,
		Region:             opts.Region,
		SeparateAccounts:   opts.SeparateAccounts,
		HintAccounts:       true,
		CheckAuthorization: opts.CheckAuthorization,
		Bounds:             server.Bounds{Body: opts.BodyTimeout, Answer: opts.AnswerTimeout},
		IDs:                server.NewIDs(seed()),
		Logger:             opts.Logger,
	}
	if opts.Access != nil {
		inner.AccessLog = func(a server.Access) {
			opts.Access(Access{a.Remote, a.Operation, a.Status, a.Error, a.Bytes, a.Duration})
		}
	}
	live, cancel := context.WithCancel(context.Background())
	s.endLive = cancel
	if opts.Control {
		script := new(fault.Script)
		inner.Control = control.New(live, db, s.service, script, service.Caller{Account: opts.Account, Region: opts.Region}, control.Settings{
			SeparateAccounts: opts.SeparateAccounts, CheckAuthorization: opts.CheckAuthorization,
			CreateDelay: opts.CreateDelay, UpdateDelay: opts.UpdateDelay, DeleteDelay: opts.DeleteDelay,
			BodyTimeout: opts.BodyTimeout, AnswerTimeout: opts.AnswerTimeout,
			ControlHosts: opts.ControlHosts,
		})
		inner.Intercept = script.Intercept
	}
	s.server = server.New(s.service, inner)
	return s, nil
}

// ServeHTTP answers a request. It is part of [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.server.ServeHTTP(w, r) }

// Client returns an HTTP client that calls the server directly. It fits into the HTTPClient
// option of an AWS SDK client, and is an [http.RoundTripper] for an [http.Client]. It
// ignores hosts and ports.
//
// It starts goroutines only for open subscriptions, so code that uses it runs in a bubble
// of testing/synctest.
func (s *Server) Client() *Client {
	return &Client{server.NewClient(func() *server.Server { return s.server })}
}

// Close ends all subscriptions and waits for them. It ends the live connections of the
// page, answers requests that wait for records of a queue, and completes pending changes of
// status at once. The server still answers later requests, except SubscribeToShard;
// receives from queues return no records. A second Close does nothing.
func (s *Server) Close() {
	s.endLive()
	s.server.Close()
	s.service.Close()
}

// Client is an HTTP client of a [Server] in the same process. It comes from
// [Server.Client].
type Client struct{ client *server.Client }

// Do sends a request and returns the answer, as [http.Client.Do] does.
func (c *Client) Do(r *http.Request) (*http.Response, error) { return c.client.Do(r) }

// RoundTrip sends a request and returns the answer. It is part of
// [http.RoundTripper].
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) { return c.client.RoundTrip(r) }

var (
	accountRule = regexp.MustCompile(`^\d{12}$`)
	regionRule  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

// maxLimit is the largest quota that DescribeLimits can return.
const maxLimit = 1_000_000

func (o *Options) withDefaults() (Options, error) {
	var opts Options
	if o != nil {
		opts = *o
	}
	if opts.Account == "" {
		opts.Account = "000000000000"
	}
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	if opts.BodyTimeout == 0 {
		opts.BodyTimeout = 30 * time.Second
	}
	if opts.AnswerTimeout == 0 {
		opts.AnswerTimeout = 30 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	switch {
	case !accountRule.MatchString(opts.Account):
		return opts, &braid.InvalidArgumentError{Field: "Account", Value: opts.Account, Rule: "must be 12 digits"}
	case !regionRule.MatchString(opts.Region):
		return opts, &braid.InvalidArgumentError{Field: "Region", Value: opts.Region, Rule: "must be 1 to 32 characters of a-z, 0-9 and '-'"}
	}
	for _, limit := range []struct {
		name string
		n    int
	}{{"ShardLimit", opts.ShardLimit}, {"OnDemandStreamLimit", opts.OnDemandStreamLimit}} {
		if limit.n > maxLimit {
			return opts, &braid.InvalidArgumentError{Field: limit.name, Value: limit.n, Rule: "must be at most 1,000,000"}
		}
	}
	for _, delay := range []struct {
		name string
		d    time.Duration
	}{{"CreateDelay", opts.CreateDelay}, {"UpdateDelay", opts.UpdateDelay}, {"DeleteDelay", opts.DeleteDelay}} {
		if delay.d < 0 {
			return opts, &braid.InvalidArgumentError{Field: delay.name, Value: delay.d, Rule: "must not be negative"}
		}
	}
	return opts, nil
}

func seed() (seed [32]byte) {
	rand.Read(seed[:])
	return seed
}
