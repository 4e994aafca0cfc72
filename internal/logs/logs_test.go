package logs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"testing"
	"testing/slogtest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/logs"
)

// setDefault sets the default handler until the test ends.
func setDefault(t *testing.T, handler slog.Handler) {
	t.Helper()
	logger, out, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(logger)
		log.SetOutput(out) // SetDefault redirects it, and never resets it
		log.SetFlags(flags)
	})
	slog.SetDefault(slog.New(handler))
}

func text(out io.Writer) slog.Handler {
	return slog.NewTextHandler(out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
}

func TestWithoutALoggerWarningsAndErrorsGoToTheDefaultOne(t *testing.T) {
	early := logs.OrDefault(nil).With("app", "billing").WithGroup("lease").With("shard", 1)
	var out bytes.Buffer
	setDefault(t, text(&out)) // the logger made before writes there, too
	early.Debug("a detail")
	early.Info("all is well")
	early.Warn("it is tried again", "attempt", 2)
	early.Error("it is stopped")
	require.Equal(t, ""+
		"level=WARN msg=\"it is tried again\" app=billing lease.shard=1 lease.attempt=2\n"+
		"level=ERROR msg=\"it is stopped\" app=billing lease.shard=1\n", out.String())
	require.False(t, early.Enabled(context.Background(), slog.LevelInfo))
	require.True(t, early.Enabled(context.Background(), slog.LevelWarn))

	setDefault(t, slog.DiscardHandler)
	require.False(t, early.Enabled(context.Background(), slog.LevelError), "the default logger's own level counts")
}

func TestALoggerThatIsGivenGetsEverything(t *testing.T) {
	given := slog.New(slog.DiscardHandler)
	require.Same(t, given, logs.OrDefault(given))
}

// The handler keeps the rules of slog.Handler: groups, attributes, values.
func TestTheDefaultKeepsThePromisesOfAHandler(t *testing.T) {
	var out bytes.Buffer
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		out.Reset()
		setDefault(t, slog.NewJSONHandler(&out, nil))
		return raised{logs.OrDefault(nil).Handler()}
	}, func(t *testing.T) map[string]any { return decode(t, out.Bytes()) })
}

// raised lets the lines of slogtest pass, which are of level Info.
type raised struct{ slog.Handler }

func (h raised) Enabled(context.Context, slog.Level) bool { return true }

func (h raised) WithAttrs(attrs []slog.Attr) slog.Handler { return raised{h.Handler.WithAttrs(attrs)} }

func (h raised) WithGroup(name string) slog.Handler { return raised{h.Handler.WithGroup(name)} }

func decode(t *testing.T, line []byte) (fields map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(line, &fields))
	return fields
}
