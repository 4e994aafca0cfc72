package browsertest

import (
	"bufio"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

var screenshots = flag.String("screenshots", "", "directory to write pictures of the page into, of examples/inspect after it ran for two minutes")

// maxPicture is the largest size of a picture, since it is kept in the repository.
const maxPicture = 200 << 10

func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("pictures are made with -screenshots DIR")
	}
	path := browserPath(t)
	binary := filepath.Join(t.TempDir(), "inspect")
	out, err := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/braidstream/braid/examples/inspect").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.CommandContext(t.Context(), binary, "-addr", "localhost:0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	url := strings.Fields(line)[2]

	s := &site{t: t, url: url, ctx: newBrowser(t, path, nil)}
	require.NoError(t, chromedp.Do(s.ctx, chromedp.EmulateViewport(1180, 860)))
	wait(t, 2*time.Minute) // for some history
	for _, picture := range []struct {
		name, route, scheme string
		width, height       int64
		before              func()
	}{
		{name: "streams", route: "#/", scheme: "light", width: 1180, height: 620},
		{name: "stream", route: "#/streams/orders", scheme: "light", width: 1180, height: 1420},
		{name: "stream-dark", route: "#/streams/orders", scheme: "dark", width: 1180, height: 1420},
		{name: "records", route: "#/streams/orders/records?match=lantern", scheme: "light", width: 1180, height: 860, before: func() {
			s.run(chromedp.Click(chromedp.CSS("li.record:nth-child(3) > button")))
		}},
		{name: "tail-dark", route: "#/streams/clicks/tail", scheme: "dark", width: 1180, height: 760},
		{name: "application", route: "#/apps/billing", scheme: "light", width: 1180, height: 1000},
		{name: "failed-dark", route: "#/apps/fraud-check", scheme: "dark", width: 1180, height: 1000, before: func() {
			s.run(js(`document.querySelector("details").open = true`))
		}},
		{name: "storage-dark", route: "#/storage", scheme: "dark", width: 1180, height: 1180},
		{name: "phone", route: "#/streams/orders", scheme: "light", width: 390, height: 844},
		{name: "dialog", route: "#/streams/orders?shard=shardId-000000000001", scheme: "light", width: 1180, height: 860, before: func() {
			s.run(js(`[...document.querySelectorAll("button")].find((e) => e.innerText === "Trim …").click()`))
		}},
	} {
		s.run(inScheme(picture.scheme), chromedp.EmulateViewport(picture.width, picture.height))
		s.open(picture.route)
		wait(t, 15*time.Second) // for rates
		if picture.before != nil {
			picture.before()
			wait(t, time.Second)
		}
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		cancel()
		require.NoError(t, err)
		require.Less(t, len(png), maxPicture, picture.name)
		require.NoError(t, os.WriteFile(filepath.Join(*screenshots, picture.name+".png"), png, 0o644))
	}
	require.NoError(t, cmd.Cancel())
	require.NoError(t, cmd.Wait())
}

// wait waits in real time: pictures are made by hand, and show a period of it.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		require.NoError(t, context.Cause(t.Context()))
	}
}
