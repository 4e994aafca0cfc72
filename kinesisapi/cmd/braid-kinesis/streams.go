package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// streamSpec is a stream to create.
type streamSpec struct {
	name   string
	shards int32 // 0: on demand

	region, account string // empty means the program's; config.place fills them in
}

const onDemand = "on-demand"

// streamList is a flag with a list of streams; it can be repeated.
type streamList []streamSpec

func (l *streamList) String() string { return "" }

func (l *streamList) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		fields := strings.Split(strings.TrimSpace(part), ":")
		if len(fields) > 4 {
			return fmt.Errorf("%q is more than name:shards:region:account", part)
		}
		fields = append(fields, "", "", "")[:4]
		spec := streamSpec{name: fields[0], shards: 1, region: fields[2], account: fields[3]}
		if err := braid.ValidateStreamName(spec.name); err != nil {
			return fmt.Errorf("stream name: %w", err)
		}
		switch shards := fields[1]; shards {
		case "":
		case onDemand:
			spec.shards = 0
		default:
			n, err := strconv.Atoi(shards)
			if err != nil || n < 1 || n > service.MaxShards {
				return fmt.Errorf("%q is not a number of shards from 1 to %d, nor %s", shards, service.MaxShards, onDemand)
			}
			spec.shards = int32(n)
		}
		if spec.region != "" && !regionRule.MatchString(spec.region) {
			return fmt.Errorf("%q is not a region: 1 to 32 characters of a-z, 0-9 and '-'", spec.region)
		}
		if spec.account != "" && !accountRule.MatchString(spec.account) {
			return fmt.Errorf("%q is not an account: 12 digits", spec.account)
		}
		*l = append(*l, spec)
	}
	return nil
}

// readStreams reads a file with one stream per line.
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

// place fills in the region and account of each stream, and checks that no stream is given
// twice.
func (c *config) place() error {
	seen := make(map[streamSpec]bool)
	for i := range c.streams {
		spec := &c.streams[i]
		spec.region, spec.account = cmp.Or(spec.region, c.region), cmp.Or(spec.account, c.account)
		if !c.separateAccounts && (spec.region != c.region || spec.account != c.account) {
			return fmt.Errorf("stream %s is in region %s of account %s, which needs -separate-accounts: without it, all regions and accounts share the same streams",
				spec.name, spec.region, spec.account)
		}
		key := *spec
		key.shards = 0
		if seen[key] {
			return fmt.Errorf("stream %s is given twice", spec.name)
		}
		seen[key] = true
	}
	return nil
}

// prepare creates the configured streams that do not exist. It runs before the server
// starts, with neither delays nor limits on rates. It returns all streams of the accounts
// and regions that the configuration names.
func prepare(ctx context.Context, db *braid.DB, c *config, logger *slog.Logger) (streams []service.Managed, err error) {
	svc, err := service.New(db, service.Options{
		Account: c.account, Region: c.region, SeparateAccounts: c.separateAccounts,
		ExactLimits: c.exactLimits, ShardLimit: c.shardLimit, OnDemandStreamLimit: c.onDemandStreamLimit,
		Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	defer svc.Close()
	callers := []service.Caller{{Account: c.account, Region: c.region}}
	for _, spec := range c.streams {
		caller := service.Caller{Account: spec.account, Region: spec.region}
		if !slices.Contains(callers, caller) {
			callers = append(callers, caller)
		}
		in := &service.CreateStreamInput{StreamName: &spec.name}
		if spec.shards > 0 {
			in.ShardCount = &spec.shards
		}
		var e *service.Error
		_, err := svc.CreateStream(ctx, caller, in)
		switch {
		case errors.As(err, &e) && e.Type == "ResourceInUseException": // it exists
		case errors.As(err, &e):
			return nil, fmt.Errorf("stream %s: %s", spec.name, e.Message)
		case err != nil:
			return nil, fmt.Errorf("stream %s: %w", spec.name, err)
		}
	}
	for _, caller := range callers {
		managed, err := svc.Managed(ctx, caller)
		if err != nil {
			return nil, err
		}
		streams = append(streams, managed...)
	}
	return streams, nil
}
