package main

import (
	"strings"
	"time"

	"github.com/braidstream/braid"
)

const positionHelp = `A POSITION is one of
  start                        the oldest record that was not trimmed
  latest                       after the newest record
  2026-11-28T14:05:00Z         a time in RFC 3339; without a zone, a time or seconds, it is UTC
  -90m                         90 minutes ago
  4956...                      the record with that sequence number; after:4956... is after it
  AT_TIMESTAMP 2026-...        any other text of a braid.Position`

const positionRule = "must be start, latest, a time such as 2026-11-28T14:05:00Z, a time ago such as -90m, " +
	"a sequence number, or after: and one"

// times are the accepted formats of times. A time without a zone is UTC.
var times = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly}

// parsePosition reads a position in the form that people write.
func parsePosition(flag, text string) (braid.Position, error) {
	switch strings.ToLower(text) {
	case "start", "trim_horizon":
		return braid.TrimHorizon(), nil
	case "latest", "end":
		return braid.Latest(), nil
	}
	if at, ok := parseTime(text); ok {
		return braid.AtTime(at), nil
	}
	if number, ok := strings.CutPrefix(text, "after:"); ok {
		if n, err := braid.ParseSequenceNumber(number); err == nil {
			return braid.AfterSequence(n), nil
		}
	}
	if n, err := braid.ParseSequenceNumber(text); err == nil {
		return braid.AtSequence(n), nil
	}
	if position, err := braid.ParsePosition(text); err == nil {
		return position, nil
	}
	return braid.Position{}, usagef("%s %q is not a position: it %s", flag, text, positionRule)
}

// parseTime reads a time, or how long ago it was.
func parseTime(text string) (time.Time, bool) {
	for _, layout := range times {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	if ago, ok := strings.CutPrefix(text, "-"); ok {
		if d, err := parseDuration(ago); err == nil && d >= 0 {
			return time.Now().Add(-d), true
		}
	}
	return time.Time{}, false
}

// parseDuration is time.ParseDuration that also accepts days, as in 7d or 1d12h.
func parseDuration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		return time.ParseDuration(text)
	}
	d, err := time.ParseDuration(days + "h")
	if err != nil {
		return 0, err
	}
	if rest == "" {
		return 24 * d, nil
	}
	r, err := time.ParseDuration(rest)
	return 24*d + r, err
}

// parseShard reads the id of a shard in any form that Kinesis accepts; an empty text
// means all shards.
func parseShard(text string) (braid.ShardID, error) {
	if text == "" {
		return "", nil
	}
	id, err := braid.ParseShardID(text)
	if err != nil {
		return "", usagef("shard %q: %v", text, err)
	}
	return id, nil
}
