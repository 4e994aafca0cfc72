package consumer_test

import (
	"log/slog"
	"os"
	"testing"
)

// Thousands of failures are provoked here, and each is logged. Tests of what is logged
// give a logger, or set the default one for themselves.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}
