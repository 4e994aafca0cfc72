package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid"
)

// config has the settings from the flags and the environment.
type config struct {
	addr        string
	dir         string // empty: memory
	durability  braid.Durability
	streams     []streamSpec
	control     choice
	exactLimits bool

	controlHosts names

	shardLimit, onDemandStreamLimit int // 0: those of Kinesis; negative: none

	account, region    string
	separateAccounts   bool
	checkAuthorization bool

	createDelay, updateDelay, deleteDelay time.Duration

	tls             bool   // on addr
	tlsAddr         string // of a second port, for TLS; empty: none
	tlsCert, tlsKey string
	keys            string // path of a key ring
	anyKey          bool
	accessLog       string
	shutdownTimeout time.Duration
	version         bool

	// How long clients may take; 0 means no limit.
	headerTimeout, bodyTimeout, answerTimeout, idleTimeout time.Duration
}

// choice is a flag that is true, false or auto: the program decides.
type choice struct{ set, yes bool }

func (c *choice) String() string {
	if c == nil || !c.set {
		return "auto"
	}
	return strconv.FormatBool(c.yes)
}

func (c *choice) Set(text string) error {
	if text == "auto" {
		*c = choice{}
		return nil
	}
	yes, err := strconv.ParseBool(text)
	if err != nil {
		return errors.New("must be true, false or auto")
	}
	*c = choice{true, yes}
	return nil
}

// IsBoolFlag lets -control stand for -control=true.
func (c *choice) IsBoolFlag() bool { return true }

// names is a flag with a list: it can be repeated, and values can have commas.
type names []string

func (n *names) String() string { return strings.Join(*n, ",") }

func (n *names) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name == "" || strings.ContainsAny(name, "/:") {
			return errors.New("must be host names without ports")
		}
		*n = append(*n, name)
	}
	return nil
}

const envPrefix = "BRAID_KINESIS_"

// envName returns the environment variable of a flag.
func envName(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

const usageHead = `braid-kinesis serves streams as Amazon Kinesis does.

  braid-kinesis -stream orders:4                  in memory, on port 4567
  braid-kinesis -dir data -stream orders:4        in the directory data, which persists
  braid-kinesis -addr 0.0.0.0:4567 -control       for other machines, with the control API
  braid-kinesis -tls-port 4568                    plain on port 4567, and TLS on port 4568

Point an SDK at it with AWS_ENDPOINT_URL_KINESIS=http://localhost:4567 and any
credentials. An option can also be given in the environment: -create-delay 1s is
BRAID_KINESIS_CREATE_DELAY=1s. The command line wins.

Options:
`

// parse reads the arguments and the environment. The error flag.ErrHelp means that the user
// asked for help, which is written.
func parse(args, env []string, help io.Writer) (*config, error) {
	c := &config{}
	var port, tlsPort int
	var durability, streamsFile string
	var streams streamList
	fs := flag.NewFlagSet("braid-kinesis", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the caller reports errors
	fs.StringVar(&c.addr, "addr", "localhost:4567", "`address` to listen on")
	fs.IntVar(&port, "port", 0, "`port` to listen on, instead of that of -addr; 0 takes a free port")
	fs.StringVar(&c.dir, "dir", "", "`directory` of the data, created if necessary (default: data is in memory)")
	fs.StringVar(&durability, "durability", "sync", "`mode` of -dir: sync (answered writes are on disk), interval (ten syncs a second)\nor nosync (a crash may lose the newest records)")
	fs.Var(&streams, "stream", "stream to create unless it exists, as `name:shards` or name:on-demand; repeat the option, or\nseparate streams with commas. With -separate-accounts: name:shards:region:account; an empty part means the default")
	fs.StringVar(&streamsFile, "streams-file", "", "`file` with one stream per line, in the form of -stream; # begins a comment")
	fs.StringVar(&c.region, "region", "us-east-1", "`region` of the streams")
	fs.StringVar(&c.account, "account", "000000000000", "`account` of the streams, 12 digits")
	fs.BoolVar(&c.separateAccounts, "separate-accounts", false, "keep streams of different accounts and regions apart; both come from the request's credentials:\nan access key of 12 digits is the account")
	fs.BoolVar(&c.exactLimits, "exact-limits", false, "enforce the limits of Kinesis")
	fs.IntVar(&c.shardLimit, "shard-limit", 0, "largest `number` of open shards of an account in a region, always enforced; -1 means no limit\n(default: that of Kinesis, enforced only with -exact-limits)")
	fs.IntVar(&c.onDemandStreamLimit, "on-demand-stream-limit", 0, "largest `number` of on-demand streams of an account in a region, as -shard-limit")
	fs.BoolVar(&c.checkAuthorization, "check-authorization", false, "refuse requests that are not signed (signatures are not verified)")
	fs.DurationVar(&c.createDelay, "create-delay", 0, "`time` that a stream, consumer or queue stays CREATING")
	fs.DurationVar(&c.updateDelay, "update-delay", 0, "`time` that a stream or queue stays UPDATING")
	fs.DurationVar(&c.deleteDelay, "delete-delay", 0, "`time` that a stream, consumer or queue stays DELETING")
	fs.Var(&c.control, "control", "serve the control API under /_braid/: anyone who can reach it can delete data and inject faults\n(default: only on a loopback address; -control=false turns it off)")
	fs.Var(&c.controlHosts, "control-host", "host `name` under which the control API is reached, besides localhost and IP addresses; repeat the option,\nor separate names with commas")
	fs.StringVar(&c.tlsAddr, "tls-addr", "", "`address` of a second port, for TLS")
	fs.IntVar(&tlsPort, "tls-port", 0, "second `port`, for TLS, on the host of -addr; 0 takes a free port")
	fs.BoolVar(&c.tls, "tls", false, "serve TLS on the only port")
	fs.StringVar(&c.tlsCert, "tls-cert", "", "`file` with the certificate for TLS (PEM); without -tls-addr and -tls-port it implies -tls\n(default: a certificate made for this run, which no client trusts)")
	fs.StringVar(&c.tlsKey, "tls-key", "", "`file` with the certificate's private key (PEM)")
	fs.StringVar(&c.keys, "keys", "", "`file` with the keys for StartStreamEncryption: each line is an id, a space and 32 bytes in base64\n(default: one key, alias/aws/kinesis, which is not secret)")
	fs.BoolVar(&c.anyKey, "any-key", false, "accept every key id for StartStreamEncryption; the keys are not secret")
	fs.StringVar(&c.accessLog, "access-log", "off", "`format` of the request log on standard error: off, text or json")
	fs.DurationVar(&c.headerTimeout, "header-timeout", 10*time.Second, "`time` that a client may take to send the headers of a request; 0 means no limit")
	fs.DurationVar(&c.bodyTimeout, "body-timeout", 30*time.Second, "`time` that a client may take to send the body of a request; 0 means no limit")
	fs.DurationVar(&c.answerTimeout, "answer-timeout", 30*time.Second, "`time` that a client may take to read an answer; 0 means no limit")
	fs.DurationVar(&c.idleTimeout, "idle-timeout", 2*time.Minute, "`time` that a connection may be idle; 0 means no limit")
	fs.DurationVar(&c.shutdownTimeout, "shutdown-timeout", 10*time.Second, "`time` that current requests may still take after SIGINT or SIGTERM")
	fs.BoolVar(&c.version, "version", false, "print the version and exit")

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(help, usageHead)
			fs.SetOutput(help)
			fs.PrintDefaults()
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; options begin with '-'", fs.Arg(0))
	}
	if err := fromEnv(fs, env); err != nil {
		return nil, err
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })

	var err error
	if c.addr, err = address("addr", c.addr, given["port"], port); err != nil {
		return nil, err
	}
	if given["tls-port"] && c.tlsAddr == "" {
		c.tlsAddr = c.addr
	}
	if c.tlsAddr != "" {
		if c.tlsAddr, err = address("tls-addr", c.tlsAddr, given["tls-port"], tlsPort); err != nil {
			return nil, err
		}
	}
	if err := c.check(given["durability"], durability); err != nil {
		return nil, err
	}
	c.streams = streams
	if streamsFile != "" {
		more, err := readStreams(streamsFile)
		if err != nil {
			return nil, fmt.Errorf("-streams-file: %w", err)
		}
		c.streams = append(c.streams, more...)
	}
	return c, c.place()
}

var (
	accountRule = regexp.MustCompile(`^\d{12}$`)
	regionRule  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

// address checks an address to listen on. Its port may come from a separate flag.
func address(name, addr string, withPort bool, port int) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	portName := strings.TrimSuffix(name, "addr") + "port"
	switch {
	case err != nil:
		return "", fmt.Errorf("-%s %q is not host:port", name, addr)
	case withPort && (port < 0 || port > 65535):
		return "", fmt.Errorf("-%s %d is not from 0 to 65535", portName, port)
	case withPort:
		addr = net.JoinHostPort(host, strconv.Itoa(port))
	}
	return addr, nil
}

// endpoint is an address to listen on.
type endpoint struct {
	addr string
	tls  bool
}

// endpoints returns the addresses to listen on. The first is the one that announce
// recommends.
func (c *config) endpoints() []endpoint {
	if c.tlsAddr != "" {
		return []endpoint{{c.addr, false}, {c.tlsAddr, true}}
	}
	return []endpoint{{c.addr, c.tls || c.tlsCert != ""}}
}

// check completes the settings, and checks each of them and their combinations.
func (c *config) check(withDurability bool, durability string) error {
	switch durability {
	case "sync":
		c.durability = braid.Sync
	case "interval":
		c.durability = braid.Interval
	case "nosync":
		c.durability = braid.NoSync
	default:
		return fmt.Errorf("-durability %q is not sync, interval or nosync", durability)
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{
		{"create-delay", c.createDelay},
		{"update-delay", c.updateDelay},
		{"delete-delay", c.deleteDelay},
		{"shutdown-timeout", c.shutdownTimeout},
		{"header-timeout", c.headerTimeout},
		{"body-timeout", c.bodyTimeout},
		{"answer-timeout", c.answerTimeout},
		{"idle-timeout", c.idleTimeout},
	} {
		if t.d < 0 {
			return fmt.Errorf("-%s %v is negative", t.name, t.d)
		}
	}
	switch {
	case c.shardLimit > 1_000_000 || c.onDemandStreamLimit > 1_000_000:
		return errors.New("-shard-limit and -on-demand-stream-limit are at most 1000000")
	case withDurability && c.dir == "":
		return errors.New("-durability needs -dir: memory is not durable")
	case !accountRule.MatchString(c.account):
		return fmt.Errorf("-account %q is not 12 digits", c.account)
	case !regionRule.MatchString(c.region):
		return fmt.Errorf("-region %q is not 1 to 32 characters of a-z, 0-9 and '-'", c.region)
	case (c.tlsCert == "") != (c.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	case c.tls && c.tlsAddr != "":
		return errors.New("-tls is for a single port: omit it to serve TLS on a second port by -tls-addr or -tls-port")
	case c.anyKey && c.keys != "":
		return errors.New("-any-key and -keys exclude each other")
	case c.accessLog != "off" && c.accessLog != "text" && c.accessLog != "json":
		return fmt.Errorf("-access-log %q is not off, text or json", c.accessLog)
	}
	return nil
}

// overrides lists, for a flag, the flags that it replaces or excludes. If it is on the
// command line, their environment variables are ignored, and its own as well.
var overrides = map[string][]string{
	"addr":     {"port"},
	"tls-addr": {"tls-port", "tls"},
	"tls-port": {"tls"},
	"tls":      {"tls-addr", "tls-port"},
	"keys":     {"any-key"},
	"any-key":  {"keys"},
}

// fromEnv sets the flags that the arguments neither set nor override.
func fromEnv(fs *flag.FlagSet, env []string) error {
	values := make(map[string]string)
	for _, entry := range env {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) && value != "" {
			values[name] = value
		}
	}
	fs.Visit(func(f *flag.Flag) {
		delete(values, envName(f.Name))
		if f.Value.String() != "false" {
			for _, name := range overrides[f.Name] {
				delete(values, envName(name))
			}
		}
	})
	for _, port := range []string{"port", "tls-port"} {
		if strings.HasPrefix(values[envName(port)], "tcp://") {
			// Kubernetes sets this variable for a Service named braid-kinesis or braid-kinesis-tls.
			delete(values, envName(port))
		}
	}
	var failed error
	fs.VisitAll(func(f *flag.Flag) {
		value, ok := values[envName(f.Name)]
		if !ok || failed != nil {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("%s=%s: %w", envName(f.Name), value, err)
		}
	})
	return failed
}
