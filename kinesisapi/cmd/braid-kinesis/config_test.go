package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "streams")
	require.NoError(t, os.WriteFile(file, []byte("# the streams\norders:3\n\n  events:on-demand  # grows\n"), 0o600))
	env := []string{
		"BRAID_KINESIS_STREAMS_FILE=" + file,
		"BRAID_KINESIS_STREAM=a:1,b:2",
		"BRAID_KINESIS_REGION=eu-west-1",
		"BRAID_KINESIS_ACCOUNT=111122223333",
		"BRAID_KINESIS_CONTROL=false",
		"BRAID_KINESIS_KEYS=", // an empty variable counts as unset
		"BRAID_KINESIS_PORT=tcp://10.0.0.1:4567",
		"BRAID_KINESIS_TLS_PORT=tcp://10.0.0.2:4568",
		"BRAID_KINESIS_SERVICE_HOST=10.0.0.1",
		"PATH=/bin",
	}
	p := start(t, env, "-account", "444455556666")
	require.Equal(t, []string{"a", "b", "events", "orders"}, p.names())
	require.Equal(t, "arn:aws:kinesis:eu-west-1:444455556666:stream/orders", p.summary("orders").StreamARN)
	status, _ := p.get("/_braid/streams")
	require.Equal(t, http.StatusNotFound, status)
}

// TestCommandLineWins: a flag wins over the variables of the flags that it replaces or
// excludes, and over no others.
func TestCommandLineWins(t *testing.T) {
	for _, c := range []struct {
		args, env string
		want      []endpoint
		keys      string
		anyKey    bool
	}{
		{args: "-addr a:1", env: "PORT=2", want: []endpoint{{"a:1", false}}},
		{args: "-port 1", env: "ADDR=a:2", want: []endpoint{{"a:1", false}}},
		{args: "-addr a:1 -port 2", env: "ADDR=b:3 PORT=4", want: []endpoint{{"a:2", false}}},
		{env: "ADDR=a:1 PORT=2", want: []endpoint{{"a:2", false}}},
		{args: "-addr a:1 -tls-addr b:2", env: "TLS_PORT=3 TLS=true", want: []endpoint{{"a:1", false}, {"b:2", true}}},
		{args: "-addr a:1 -tls-port 2", env: "TLS_ADDR=b:3 TLS=true", want: []endpoint{{"a:1", false}, {"b:2", true}}},
		{args: "-addr a:1", env: "TLS_PORT=2", want: []endpoint{{"a:1", false}, {"a:2", true}}},
		{args: "-addr a:1 -tls", env: "TLS_ADDR=b:2 TLS_PORT=3", want: []endpoint{{"a:1", true}}},
		{args: "-addr a:1 -tls=false", env: "TLS=true TLS_PORT=2", want: []endpoint{{"a:1", false}, {"a:2", true}}},
		{args: "-addr a:1 -keys k", env: "ANY_KEY=true", want: []endpoint{{"a:1", false}}, keys: "k"},
		{args: "-addr a:1 -any-key", env: "KEYS=k", want: []endpoint{{"a:1", false}}, anyKey: true},
		{args: "-addr a:1 -any-key=false", env: "ANY_KEY=true KEYS=k", want: []endpoint{{"a:1", false}}, keys: "k"},
	} {
		t.Run(c.args+" "+c.env, func(t *testing.T) {
			var env []string
			for _, variable := range strings.Fields(c.env) {
				env = append(env, envPrefix+variable)
			}
			got, err := parse(strings.Fields(c.args), env, io.Discard)
			require.NoError(t, err)
			require.Equal(t, c.want, got.endpoints())
			require.Equal(t, c.keys, got.keys)
			require.Equal(t, c.anyKey, got.anyKey)
		})
	}
}

func TestBadFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "streams")
	require.NoError(t, os.WriteFile(file, []byte("orders:1\norders:none\n"), 0o600))
	for _, c := range []struct {
		args, env, contains string
	}{
		{"-nothing", "", "-nothing"},
		{"orders:4", "", "orders:4"},
		{"-port 65536", "", "65536"},
		{"-port x", "", "x"},
		{"-addr localhost", "", "host:port"},
		{"-tls-addr localhost", "", "-tls-addr"},
		{"-tls-port 65536", "", "-tls-port"},
		{"-tls -tls-port 0", "", "-tls is for a single port"},
		{"-body-timeout -1s", "", "-body-timeout"},
		{"-dir d -durability full", "", "full"},
		{"-durability sync", "", "-dir"},
		{"-stream :4", "", "name"},
		{"-stream orders:0", "", "shards"},
		{"-stream orders:10001", "", "shards"},
		{"-stream orders:1 -stream orders:2", "", "twice"},
		{"-stream orders:1,orders:1:us-east-1", "", "twice"},
		{"-stream orders:1:eu-west-1", "", "-separate-accounts"},
		{"-stream orders:1::111122223333", "", "-separate-accounts"},
		{"-stream orders:1:Oregon", "", "Oregon"},
		{"-stream orders:1:us-east-1:1", "", "12 digits"},
		{"-stream orders:1:us-east-1:000000000000:x", "", "name:shards:region:account"},
		{"-shard-limit 1000001", "", "1000000"},
		{"-streams-file " + file, "", file + ":2:"},
		{"-streams-file " + file + ".none", "", "no such file"},
		{"-account 1", "", "12 digits"},
		{"-region Oregon", "", "Oregon"},
		{"-create-delay -1s", "", "negative"},
		{"-delete-delay soon", "", "soon"},
		{"-shutdown-timeout -1s", "", "negative"},
		{"-tls-cert c", "", "together"},
		{"-access-log xml", "", "xml"},
		{"-control=maybe", "", "maybe"},
		{"", "BRAID_KINESIS_TLS=maybe", "BRAID_KINESIS_TLS=maybe"},
	} {
		t.Run(c.args+c.env, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, exitUsage, run(t.Context(), strings.Fields(c.args), []string{c.env}, &stdout, &stderr))
			require.Contains(t, stderr.String(), c.contains)
			require.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
			require.Empty(t, stdout.String())
		})
	}
}

func TestBadFiles(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, args := range [][]string{{"-keys", missing}, {"-tls-cert", missing, "-tls-key", missing}} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitFailure, run(t.Context(), append(args, "-port", "0"), nil, &stdout, &stderr))
		require.Contains(t, stderr.String(), "missing")
		require.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
	}
}

func TestHelpAndVersion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"-h"}, nil, &stdout, &stderr))
	require.Contains(t, stdout.String(), "-streams-file file")
	require.Equal(t, exitOK, run(t.Context(), []string{"-version"}, nil, &stdout, &stderr))
	require.Contains(t, stdout.String(), "\nbraid-kinesis ")
	require.NotContains(t, stdout.String(), "(devel)")
	require.Empty(t, stderr.String())
}

func TestVersionText(t *testing.T) {
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abcd"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: modified}}
	}
	core := &debug.Module{Path: "github.com/braidstream/braid", Version: "v1.4.0"}
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, "built from source, revision unknown"},
		{&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "built from source, revision unknown"},
		{&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("false")}, "built from revision 0123abcd of 2026-01-02T03:04:05Z"},
		{&debug.BuildInfo{Settings: vcs("true"), Deps: []*debug.Module{{Path: core.Path, Version: "(devel)"}}}, "built from revision 0123abcd of 2026-01-02T03:04:05Z with changes"},
		{&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: vcs("false"), Deps: []*debug.Module{core}}, "v1.2.3, braid v1.4.0"},
	} {
		got := versionText(c.info, c.info != nil)
		require.True(t, strings.HasPrefix(got, "braid-kinesis "+c.want+", go1."), got)
	}
}
