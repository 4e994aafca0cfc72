package main

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/control"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// maxListed is how many streams the start-up text names.
const maxListed = 10

// announce prints what is served, and how to reach it.
func announce(w io.Writer, c *config, urls []string, withControl bool, streams []service.Managed) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s "+format+"\n", append([]any{name}, args...)...)
	}
	for _, url := range urls {
		fmt.Fprintf(&b, "braid-kinesis listens on %s\n", url)
	}
	b.WriteString("\n")
	url := urls[0]
	line("data", "%s", c.storage())
	line("account", "%s, region %s", c.account, c.region)
	if c.separateAccounts {
		line("", "accounts and regions are separate; these apply to requests that name none")
	}
	line("limits", "%s", c.limits())
	name := "streams"
	for i, m := range streams {
		if i == maxListed {
			line(name, "and %d more", len(streams)-maxListed)
			break
		}
		line(name, "%s", c.describe(m))
		name = ""
	}
	if len(streams) == 0 {
		line(name, "none yet")
	}
	if withControl {
		line("control", "%s%s", url, control.Prefix)
		line("page", "%s%sui/", url, control.Prefix)
	} else {
		line("control", "off, except %s%shealth and ready; -control turns it on", url, control.Prefix)
	}
	self := c.tlsCert == "" && strings.HasPrefix(urls[len(urls)-1], "https:")

	b.WriteString("\nFor the SDKs and the AWS CLI, any credentials do:\n\n")
	fmt.Fprintf(&b, "  export AWS_ENDPOINT_URL_KINESIS=%s\n", url)
	fmt.Fprintf(&b, "  export AWS_REGION=%s AWS_DEFAULT_REGION=%[1]s AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test\n", c.region)
	verify := ""
	if self && strings.HasPrefix(url, "https:") {
		verify = " --no-verify-ssl"
	}
	fmt.Fprintf(&b, "  aws kinesis list-streams%s --endpoint-url %s\n", verify, url)
	b.WriteString("\nOr in the program:\n\n")
	fmt.Fprintf(&b, "  Go      kinesis.NewFromConfig(cfg, func(o *kinesis.Options) { o.BaseEndpoint = aws.String(%q) })\n", url)
	fmt.Fprintf(&b, "  Node    new KinesisClient({ endpoint: %q, region: %q, credentials: { accessKeyId: \"test\", secretAccessKey: \"test\" } })\n", url, c.region)
	fmt.Fprintf(&b, "  Python  boto3.client(\"kinesis\", endpoint_url=%q, region_name=%q, aws_access_key_id=\"test\", aws_secret_access_key=\"test\")\n", url, c.region)
	if self {
		fmt.Fprintf(&b, "\nThe certificate of %s was made for this run: configure clients not to verify it.\n", urls[len(urls)-1])
	}
	b.WriteString("\nCtrl-C ends it.\n")
	_, _ = io.WriteString(w, b.String())
}

// storage describes where the data is, and how durable it is.
func (c *config) storage() string {
	if c.dir == "" {
		return "in memory, gone when the program ends"
	}
	path, err := filepath.Abs(c.dir)
	if err != nil {
		path = c.dir
	}
	switch c.durability {
	case braid.Sync:
		return path + ", a power loss loses nothing that was answered"
	case braid.Interval:
		return path + ", a power loss may lose the last 100 ms"
	default:
		return path + ", a power loss may lose what the operating system has not written"
	}
}

// limits describes which limits are enforced.
func (c *config) limits() string {
	text := "none"
	if c.exactLimits {
		text = "those of Kinesis"
	}
	but := ", but "
	for _, limit := range []struct {
		n    int
		what string
	}{{c.shardLimit, "open shard"}, {c.onDemandStreamLimit, "on-demand stream"}} {
		switch {
		case limit.n > 0:
			text += but + count(int64(limit.n), limit.what)
		case limit.n < 0 && c.exactLimits:
			text += but + "any number of " + limit.what + "s"
		default:
			continue
		}
		but = " and "
	}
	return text
}

// describe describes a stream in one line.
func (c *config) describe(m service.Managed) string {
	d := m.Stream.Describe()
	open := int64(0)
	for i := range d.Shards {
		if !d.Shards[i].Closed {
			open++
		}
	}
	text := m.Name + ", " + count(open, "shard")
	if m.Mode == "ON_DEMAND" {
		text += ", on demand"
	}
	if d.Capacity.Mode != braid.Unlimited {
		text += ", limited"
	}
	if d.Records > 0 {
		text += ", " + count(d.Records, "record")
	}
	if place := strings.Split(m.ARN, ":"); place[3] != c.region || place[4] != c.account {
		text += ", account " + place[4] + ", region " + place[3]
	}
	return text
}

// count returns a number and its noun, in the plural unless n is 1.
func count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.FormatInt(n, 10) + " " + thing
}

// urlOf returns the URL under which clients on this machine reach the listener.
func urlOf(e endpoint, listener net.Listener) string {
	host, _, _ := net.SplitHostPort(e.addr) // it is valid: net.Listen accepted it
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if e.tls {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, portOf(listener))
}

// versionText describes what the program was built from: the version of its module, if it
// was fetched or built at a tag, else the revision of the working tree.
func versionText(info *debug.BuildInfo, ok bool) string {
	text := "braid-kinesis "
	settings := make(map[string]string)
	if ok {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	switch revision := settings["vcs.revision"]; {
	case ok && info.Main.Version != "" && info.Main.Version != "(devel)":
		text += info.Main.Version
	case revision != "":
		text += "built from revision " + revision
		if at := settings["vcs.time"]; at != "" {
			text += " of " + at
		}
		if settings["vcs.modified"] == "true" {
			text += " with changes"
		}
	default:
		text += "built from source, revision unknown"
	}
	if ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/braidstream/braid" && dep.Replace == nil && dep.Version != "" && dep.Version != "(devel)" {
				text += ", braid " + dep.Version
			}
		}
	}
	return fmt.Sprintf("%s, %s %s/%s", text, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
