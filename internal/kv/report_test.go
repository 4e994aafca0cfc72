package kv

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/wake"
)

// handler collects records, each as one line, and may be slow.
type handler struct {
	mu    sync.Mutex // guards the fields below
	lines []string
	wait  time.Duration // before it takes each record
	level slog.Level
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }
func (h *handler) WithAttrs([]slog.Attr) slog.Handler               { return h }
func (h *handler) WithGroup(string) slog.Handler                    { return h }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	<-time.After(h.wait)
	var b bytes.Buffer
	b.WriteString(r.Level.String() + " " + r.Message)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(" " + a.String())
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, b.String())
	return nil
}

// TestReportsNeverWait: reports come with Pebble's locks held. A logger that is slower than the
// reports loses some, and gets their number.
func TestReportsNeverWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handler{wait: time.Minute}
		r := newReporter(slog.New(h))
		begin := time.Now()
		for range 1000 {
			r.report(slog.LevelInfo, "something", "key", "value")
		}
		require.Zero(t, time.Since(begin))
		<-time.After(24 * time.Hour)
		r.report(slog.LevelWarn, "the last")
		r.close()
		require.Greater(t, len(h.lines), 100)
		require.Less(t, len(h.lines), 200)
		leftOut := 0
		for _, line := range h.lines {
			if _, n, told := strings.Cut(line, "leftOutBefore="); told {
				count, err := strconv.Atoi(n)
				require.NoError(t, err)
				leftOut += count
			}
		}
		require.Equal(t, 1001, len(h.lines)+leftOut, "each was logged or counted")
		require.True(t, strings.HasPrefix(h.lines[0], "INFO something key=value"))
		require.True(t, strings.HasPrefix(h.lines[len(h.lines)-1], "WARN the last"), "close waits for what was reported")
		r.report(slog.LevelWarn, "after the end") // goes nowhere, and does not wait
	})
}

// TestPebbleIsHeard: Pebble's messages are logged at level Debug, and background errors as
// warnings, but not each of many, and none for a compaction that an excise has cancelled.
func TestPebbleIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handler{level: slog.LevelDebug}
		r := newReporter(slog.New(h))
		guard := guardfs.New(vfs.NewMem(), guardfs.Config{Dir: "/db"})
		log := pebbleLogger{r, guard}
		log.Infof("table %d", 7)
		log.Errorf("table %d is odd", 8)
		events := listener(r, newDamage(r, guard), new(room))
		events.BackgroundError(pebble.ErrCancelledCompaction)
		for range 1000 {
			events.BackgroundError(errors.New("no luck"))
		}
		<-time.After(time.Minute)
		events.BackgroundError(errors.New("still no luck"))
		for range 3 {
			events.DataCorruption(pebble.DataCorruptionInfo{Path: "000007.sst", Details: errors.New("a bit is wrong")})
		}
		require.NoError(t, guard.Err(), "damage fails nothing")
		r.close()
		require.Equal(t, []string{
			"DEBUG pebble: table 7",
			"WARN pebble: table 8 is odd",
			"WARN tables could not be written; retrying error=no luck",
			"WARN tables could not be written; retrying error=no luck",
			"WARN tables could not be written; retrying error=no luck",
			"WARN tables could not be written; retrying error=still no luck",
			"ERROR a table is damaged: some of its records cannot be read table=000007.sst error=a bit is wrong",
		}, h.lines)
		require.EqualValues(t, 1001, r.backgroundErrors.Load())
	})
}

// TestDamageThatStopsWritesFails: the store fails if commits wait for level 0 and damage
// prevents its compaction, in whichever order they are reported.
func TestDamageThatStopsWritesFails(t *testing.T) {
	for name, steps := range map[string][]func(*damage){
		"damage first": {(*damage).stopCompaction, func(d *damage) { d.setStalled(true) }},
		"stall first":  {func(d *damage) { d.setStalled(true) }, (*damage).stopCompaction},
	} {
		t.Run(name, func(t *testing.T) {
			guard := guardfs.New(vfs.NewMem(), guardfs.Config{Dir: "/db"})
			d := newDamage(nil, guard)
			d.setStalled(true)
			d.setStalled(false)
			steps[0](d)
			require.NoError(t, guard.Err())
			steps[1](d)
			require.ErrorIs(t, guard.Err(), ErrCorrupt)
			require.True(t, wake.IsClosed(guard.Broken()))
		})
	}
}
