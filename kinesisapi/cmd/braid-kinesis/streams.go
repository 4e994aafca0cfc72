package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// streamSpec is a stream that is to exist.
type streamSpec struct {
	name   string
	shards int32 // 0: on demand
}

const onDemand = "on-demand"

var nameRule = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// streamList is a flag that can be repeated.
type streamList []streamSpec

func (l *streamList) String() string { return "" }

func (l *streamList) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		name, shards, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !nameRule.MatchString(name) {
			return fmt.Errorf("%q is not the name of a stream: 1 to 128 letters, digits, '_', '.' and '-'", name)
		}
		spec := streamSpec{name: name, shards: 1}
		if ok && shards == onDemand {
			spec.shards = 0
		} else if ok {
			n, err := strconv.Atoi(shards)
			if err != nil || n < 1 || n > 10_000 {
				return fmt.Errorf("%q is not a number of shards from 1 to 10000, nor %s", shards, onDemand)
			}
			spec.shards = int32(n)
		}
		*l = append(*l, spec)
	}
	return nil
}

// readStreams reads a file with a stream on each line.
func readStreams(path string) (streams streamList, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := streams.Set(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	return streams, nil
}

// checkStreams is the error of a stream that is named twice.
func checkStreams(streams []streamSpec) error {
	seen := make(map[string]bool)
	for _, spec := range streams {
		if seen[spec.name] {
			return fmt.Errorf("stream %s is given twice", spec.name)
		}
		seen[spec.name] = true
	}
	return nil
}

// prepare creates the streams that are to exist and do not. It is done before anybody
// is served, and so without the delays and rates that callers meet.
func prepare(ctx context.Context, db *braid.DB, c *config, logger *slog.Logger) ([]service.Managed, error) {
	svc, err := service.New(db, service.Options{
		Account: c.account, Region: c.region, SeparateAccounts: c.separateAccounts,
		ExactLimits: c.exactLimits, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	defer svc.Close()
	caller := service.Caller{Account: c.account, Region: c.region}
	for _, spec := range c.streams {
		in := &service.CreateStreamInput{StreamName: &spec.name}
		if spec.shards > 0 {
			in.ShardCount = &spec.shards
		}
		var e *service.Error
		_, err := svc.CreateStream(ctx, caller, in)
		switch {
		case errors.As(err, &e) && e.Type == "ResourceInUseException": // it is there
		case errors.As(err, &e):
			return nil, fmt.Errorf("stream %s: %s", spec.name, e.Message)
		case err != nil:
			return nil, fmt.Errorf("stream %s: %w", spec.name, err)
		}
	}
	return svc.Managed(ctx, caller)
}
