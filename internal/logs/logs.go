// Package logs chooses the logger of a program that has not set one.
package logs

import (
	"context"
	"log/slog"
)

// OrDefault returns the logger, or, for nil, one that passes only warnings and errors to the
// current [slog.Default]: a library must not fail in silence, and a program that set no logger
// does not want to hear that all is well.
func OrDefault(logger *slog.Logger) *slog.Logger {
	if logger != nil {
		return logger
	}
	return slog.New(warnings{})
}

// warnings is a handler that passes warnings and errors to the default logger. It looks up the
// default for each line, so a program may call [slog.SetDefault] after it has opened a
// database.
type warnings struct {
	scopes []func(slog.Handler) slog.Handler // the calls of With and WithGroup, in order
}

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && slog.Default().Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (w warnings) Handle(ctx context.Context, record slog.Record) error {
	handler := slog.Default().Handler()
	for _, scope := range w.scopes {
		handler = scope(handler)
	}
	return handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return w.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (w warnings) WithGroup(name string) slog.Handler {
	if name == "" {
		return w
	}
	return w.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (w warnings) with(scope func(slog.Handler) slog.Handler) slog.Handler {
	return warnings{append(w.scopes[:len(w.scopes):len(w.scopes)], scope)}
}
