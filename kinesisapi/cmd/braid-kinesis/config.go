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

// config is what the flags and the environment say.
type config struct {
	addr        string
	dir         string // empty: memory
	durability  braid.Durability
	streams     []streamSpec
	control     choice
	exactLimits bool

	account, region    string
	separateAccounts   bool
	checkAuthorization bool

	createDelay, updateDelay, deleteDelay time.Duration

	tls             bool
	tlsCert, tlsKey string
	keys            string // path of a key ring
	anyKey          bool
	accessLog       string
	shutdownTimeout time.Duration
	version         bool
}

// choice is yes, no, or what is best.
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

const envPrefix = "BRAID_KINESIS_"

// envName is the variable that stands in for a flag.
func envName(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

const usageHead = `braid-kinesis serves streams as Amazon Kinesis does.

  braid-kinesis -stream orders:4                  in memory, on port 4567
  braid-kinesis -dir data -stream orders:4        in the directory data, which is kept
  braid-kinesis -addr 0.0.0.0:4567 -control       for other machines, with the control API

Point an SDK at it with AWS_ENDPOINT_URL_KINESIS=http://localhost:4567 and any
credentials. An option can also be given in the environment: -create-delay 1s is
BRAID_KINESIS_CREATE_DELAY=1s. The command line wins.

Options:
`

// parse reads the arguments and the environment. The error flag.ErrHelp says that
// help was asked for, and is written.
func parse(args, env []string, help io.Writer) (*config, error) {
	c := &config{}
	var port int
	var durability, streamsFile string
	var streams streamList
	fs := flag.NewFlagSet("braid-kinesis", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // the caller reports errors
	fs.StringVar(&c.addr, "addr", "localhost:4567", "`address` to listen on")
	fs.IntVar(&port, "port", 0, "`port` to listen on, in place of the address's; 0 is any that is free")
	fs.StringVar(&c.dir, "dir", "", "`directory` of the data, which is made if it is not there (default: memory)")
	fs.StringVar(&durability, "durability", "sync", "`mode` of a directory: sync (what is answered is on disk), interval (ten syncs a second)\nor nosync (the operating system decides)")
	fs.Var(&streams, "stream", "stream to create unless it is there, as `name:shards` or name:on-demand; repeat it, or separate\nstreams with commas")
	fs.StringVar(&streamsFile, "streams-file", "", "`file` with a stream on each line, as -stream has it; what follows a # does not count")
	fs.StringVar(&c.region, "region", "us-east-1", "`region` of the streams")
	fs.StringVar(&c.account, "account", "000000000000", "`account` of the streams, 12 digits")
	fs.BoolVar(&c.separateAccounts, "separate-accounts", false, "keep streams of different accounts and regions apart; both come from the request's credentials,\nwhere an access key of 12 digits is an account")
	fs.BoolVar(&c.exactLimits, "exact-limits", false, "make the limits of Kinesis hold")
	fs.BoolVar(&c.checkAuthorization, "check-authorization", false, "refuse requests that are not signed (signatures are not verified)")
	fs.DurationVar(&c.createDelay, "create-delay", 0, "`time` that a stream or consumer stays CREATING")
	fs.DurationVar(&c.updateDelay, "update-delay", 0, "`time` that a stream stays UPDATING")
	fs.DurationVar(&c.deleteDelay, "delete-delay", 0, "`time` that a stream or consumer stays DELETING")
	fs.Var(&c.control, "control", "serve the control API under /_braid/, which deletes data and makes faults for whoever asks\n(default: yes on a loopback address; -control=false never)")
	fs.BoolVar(&c.tls, "tls", false, "serve TLS, with a certificate made for this run that no client trusts")
	fs.StringVar(&c.tlsCert, "tls-cert", "", "`file` with a certificate to serve TLS with (PEM)")
	fs.StringVar(&c.tlsKey, "tls-key", "", "`file` with the certificate's private key (PEM)")
	fs.StringVar(&c.keys, "keys", "", "`file` with the keys for StartStreamEncryption: on each line an id, a space and 32 bytes in base64\n(default: one key, alias/aws/kinesis, which is no secret)")
	fs.BoolVar(&c.anyKey, "any-key", false, "take every key id for StartStreamEncryption; the keys are no secrets")
	fs.StringVar(&c.accessLog, "access-log", "off", "`form` of the log of requests, on standard error: off, text or json")
	fs.DurationVar(&c.shutdownTimeout, "shutdown-timeout", 10*time.Second, "`time` to finish requests in after SIGINT or SIGTERM")
	fs.BoolVar(&c.version, "version", false, "say the version and exit")

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(help, usageHead)
			fs.SetOutput(help)
			fs.PrintDefaults()
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("there is no argument %q; options begin with '-'", fs.Arg(0))
	}
	if err := fromEnv(fs, env); err != nil {
		return nil, err
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })

	if err := c.check(given["port"], port, given["durability"], durability); err != nil {
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
	return c, checkStreams(c.streams)
}

var (
	accountRule = regexp.MustCompile(`^\d{12}$`)
	regionRule  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

// check completes the settings, and checks each and what they say together.
func (c *config) check(withPort bool, port int, withDurability bool, durability string) error {
	host, _, err := net.SplitHostPort(c.addr)
	switch {
	case err != nil:
		return fmt.Errorf("-addr %q is not host:port", c.addr)
	case withPort && (port < 0 || port > 65535):
		return fmt.Errorf("-port %d is not from 0 to 65535", port)
	case withPort:
		c.addr = net.JoinHostPort(host, strconv.Itoa(port))
	}
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
	}{{"create-delay", c.createDelay}, {"update-delay", c.updateDelay}, {"delete-delay", c.deleteDelay}, {"shutdown-timeout", c.shutdownTimeout}} {
		if t.d < 0 {
			return fmt.Errorf("-%s %v is negative", t.name, t.d)
		}
	}
	switch {
	case withDurability && c.dir == "":
		return errors.New("-durability is that of a directory: give -dir as well")
	case !accountRule.MatchString(c.account):
		return fmt.Errorf("-account %q is not 12 digits", c.account)
	case !regionRule.MatchString(c.region):
		return fmt.Errorf("-region %q is not 1 to 32 characters of a-z, 0-9 and '-'", c.region)
	case (c.tlsCert == "") != (c.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	case c.anyKey && c.keys != "":
		return errors.New("-any-key and -keys exclude each other")
	case c.accessLog != "off" && c.accessLog != "text" && c.accessLog != "json":
		return fmt.Errorf("-access-log %q is not off, text or json", c.accessLog)
	}
	return nil
}

// fromEnv sets the flags that the arguments did not.
func fromEnv(fs *flag.FlagSet, env []string) error {
	values := make(map[string]string)
	for _, entry := range env {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) && value != "" {
			values[name] = value
		}
	}
	fs.Visit(func(f *flag.Flag) { delete(values, envName(f.Name)) })
	if strings.HasPrefix(values[envName("port")], "tcp://") {
		// Kubernetes sets it, where there is a Service that is called braid-kinesis.
		delete(values, envName("port"))
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
