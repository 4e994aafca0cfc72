package modeltest

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/queue"
)

// Scenarios are texts that say what braid does: commands, each with the answer to
// it below. They are for looking things up, and are run as tests.
//
//	go test ./internal/modeltest -run Scenarios -braid.update    # write the answers anew
//
// A line that begins with ">" is a command; "#" begins a comment; what lies below a
// command up to an empty line is its answer. Records are called #1, #2 and so on,
// in the order in which they were acknowledged; shards by their index. Commands about queues
// are in scenario_queue_test.go.
var updateScenarios = flag.Bool("braid.update", false, "write the answers of testdata/scenarios anew")

func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("testdata/scenarios/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			var got string
			synctest.Test(t, func(t *testing.T) { got = runScenario(t, string(text)) })
			if *updateScenarios {
				require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
				return
			}
			require.Equal(t, string(text), got)
		})
	}
}

// runScenario returns the text with the answers that the commands get.
func runScenario(t *testing.T, text string) string {
	s := &scenario{t: t, disk: vfs.NewCrashableMem(), labels: make(map[braid.SequenceNumber]string), numbers: make(map[string]braid.SequenceNumber)}
	s.open(nil)
	defer func() { _ = s.db.Close() }()
	var out strings.Builder
	answering := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "> "):
			out.WriteString(line + "\n")
			out.WriteString(s.run(strings.Fields(line[2:])))
			answering = true
		case line == "" || strings.HasPrefix(line, "# "):
			out.WriteString(line + "\n")
			answering = false
		case !answering:
			t.Fatalf("unexpected line %q", line)
		}
	}
	return out.String()
}

type scenario struct {
	t       *testing.T
	disk    *vfs.MemFS
	db      *braid.DB
	offset  atomic.Int64 // of the wall clock
	labels  map[braid.SequenceNumber]string
	numbers map[string]braid.SequenceNumber
	given   []queue.Receipt
}

func (s *scenario) open(args map[string]string) string {
	opts := &braid.Options{ReserveBytes: -1}
	if args["keys"] != "none" {
		opts.KeyProvider = twoKeys
	}
	if args["durability"] == "NoSync" {
		opts.Durability = braid.NoSync
	}
	clock := func() time.Time { return time.Now().Add(time.Duration(s.offset.Load())) }
	db, err := open("/db", opts, companion.Environment{FS: s.disk, Clock: clock})
	if err != nil {
		return s.failed(err)
	}
	s.db = db
	return ""
}

// failed formats an error as its class and its text.
func (s *scenario) failed(err error) string {
	text := err.Error()
	for number, label := range s.labels {
		text = strings.ReplaceAll(text, number.String(), label)
	}
	var names []string
	for name, class := range map[string]error{
		"ErrInvalidArgument": braid.ErrInvalidArgument, "ErrStreamNotFound": braid.ErrStreamNotFound, "ErrShardNotFound": braid.ErrShardNotFound,
		"ErrStreamExists": braid.ErrStreamExists, "ErrLimitExceeded": braid.ErrLimitExceeded, "ErrTrimmed": braid.ErrTrimmed,
		"ErrThroughputExceeded": braid.ErrThroughputExceeded, "ErrKeyUnavailable": braid.ErrKeyUnavailable, "ErrClosed": braid.ErrClosed,
	} {
		if errors.Is(err, class) {
			names = append(names, name)
		}
	}
	for name, class := range queueErrors {
		if errors.Is(err, class) {
			names = append(names, name)
		}
	}
	require.Len(s.t, names, 1, "an error has one class: %v", err)
	return fmt.Sprintf("%s: %s\n", names[0], text)
}

// run runs one command, and returns its answer.
func (s *scenario) run(words []string) string {
	command, words := words[0], words[1:]
	var plain []string
	args := make(map[string]string)
	for _, word := range words {
		if key, value, ok := strings.Cut(word, "="); ok {
			args[key] = value
		} else {
			plain = append(plain, word)
		}
	}
	defer synctest.Wait()
	switch command {
	case "open":
		return s.open(args)
	case "close":
		return s.done(s.db.Close())
	case "crash": // a power cut: unsynced data is lost
		disk := s.disk.CrashClone(vfs.CrashCloneCfg{})
		_ = s.db.Close()
		s.disk = disk
		return s.open(args)
	case "advance", "clock":
		d, err := time.ParseDuration(plain[0])
		require.NoError(s.t, err)
		if command == "clock" {
			s.offset.Add(int64(d))
		} else {
			<-time.After(d)
		}
		return ""
	case "create":
		return s.create(plain[0], args)
	case "delete":
		return s.done(s.db.DeleteStream(s.t.Context(), plain[0]))
	}
	if slices.Contains(queueCommands, command) {
		return s.runOnQueue(command, plain[0], plain[1:], args)
	}
	stream, err := s.db.Stream(plain[0])
	if err != nil {
		return s.failed(err)
	}
	return s.runOn(stream, command, plain[1:], args, words[1:])
}

// runOn runs a command that is about a stream.
func (s *scenario) runOn(stream *braid.Stream, command string, plain []string, args map[string]string, words []string) string {
	ctx := s.t.Context()
	switch command {
	case "put":
		return s.put(stream, []string{args["key"] + "=" + args["data"]}, args)
	case "put-many":
		return s.put(stream, words, nil)
	case "get":
		return s.get(stream, plain, args)
	case "records":
		var out strings.Builder
		for r, err := range stream.Records(ctx, s.position(plain[0])) {
			if err != nil {
				return out.String() + s.failed(err)
			}
			out.WriteString(s.record(r))
		}
		return out.String()
	case "split":
		var at *braid.HashKey
		if args["at"] != "" {
			k, err := braid.ParseHashKey(args["at"])
			if err != nil {
				return s.failed(err)
			}
			at = &k
		}
		_, _, err := stream.SplitShard(ctx, braid.ShardID(plain[0]), at)
		return s.done(err)
	case "merge":
		_, err := stream.MergeShards(ctx, braid.ShardID(plain[0]), braid.ShardID(plain[1]))
		return s.done(err)
	case "update-shard-count":
		return s.done(stream.UpdateShardCount(ctx, s.number(plain[0])))
	case "trim":
		return s.done(stream.Trim(ctx, s.position(plain[0])))
	case "increase-retention", "decrease-retention":
		d, err := time.ParseDuration(plain[0])
		require.NoError(s.t, err)
		if command == "increase-retention" {
			return s.done(stream.IncreaseRetention(ctx, d))
		}
		return s.done(stream.DecreaseRetention(ctx, d))
	case "update-capacity":
		return s.done(stream.UpdateCapacity(ctx, s.capacity(args)))
	case "update-max-record-bytes":
		return s.done(stream.UpdateMaxRecordBytes(ctx, s.number(plain[0])))
	case "start-encryption":
		return s.done(stream.StartEncryption(ctx, plain[0]))
	case "stop-encryption":
		return s.done(stream.StopEncryption(ctx))
	case "add-tags":
		return s.done(stream.AddTags(ctx, args))
	case "remove-tags":
		return s.done(stream.RemoveTags(ctx, plain...))
	case "describe":
		return s.describe(stream)
	}
	s.t.Fatalf("unknown command %q", command)
	return ""
}

func (s *scenario) done(err error) string {
	if err != nil {
		return s.failed(err)
	}
	return "ok\n"
}

func (s *scenario) number(text string) int {
	n, err := strconv.Atoi(text)
	require.NoError(s.t, err)
	return n
}

func (s *scenario) create(name string, args map[string]string) string {
	opts := &braid.StreamOptions{Capacity: s.capacity(args)}
	if args["shards"] != "" {
		opts.Shards = s.number(args["shards"])
	}
	if args["max-record-bytes"] != "" {
		opts.MaxRecordBytes = s.number(args["max-record-bytes"])
	}
	if args["retention"] != "" {
		d, err := time.ParseDuration(args["retention"])
		require.NoError(s.t, err)
		opts.Retention = d
	}
	_, err := s.db.CreateStream(s.t.Context(), name, opts)
	return s.done(err)
}

func (s *scenario) capacity(args map[string]string) (capacity braid.Capacity) {
	switch args["capacity"] {
	case "Provisioned":
		capacity.Mode = braid.Provisioned
	case "OnDemand":
		capacity.Mode = braid.OnDemand
	}
	if args["write-records"] != "" {
		capacity.WriteRecordsPerSecond = s.number(args["write-records"])
	}
	return capacity
}

// put puts entries, given as key=data, at the hash key of args if it has one.
func (s *scenario) put(stream *braid.Stream, puts []string, args map[string]string) string {
	var entries []braid.Entry
	for _, word := range puts {
		key, data, _ := strings.Cut(word, "=")
		e := braid.Entry{PartitionKey: key, Data: []byte(data)}
		if n, ok := strings.CutPrefix(data, "bytes:"); ok {
			e.Data = make([]byte, s.number(n))
		}
		if args["hash"] != "" {
			k, err := braid.ParseHashKey(args["hash"])
			if err != nil {
				return s.failed(err)
			}
			e.ExplicitHashKey = &k
		}
		entries = append(entries, e)
	}
	results, err := stream.PutRecords(s.t.Context(), entries)
	if err != nil {
		return s.failed(err)
	}
	var out strings.Builder
	for _, r := range results {
		if r.Err != nil {
			out.WriteString(s.failed(r.Err))
			continue
		}
		label := fmt.Sprintf("#%d", len(s.labels)+1)
		s.labels[r.SequenceNumber], s.numbers[label] = label, r.SequenceNumber
		fmt.Fprintf(&out, "%s in shard %d\n", label, r.SequenceNumber.ShardID().Index())
	}
	return out.String()
}

// position parses a position: TRIM_HORIZON, LATEST, AT:#1, AFTER:#1, or TIME:-1h, relative to now.
func (s *scenario) position(text string) braid.Position {
	kind, what, _ := strings.Cut(text, ":")
	switch kind {
	case "TRIM_HORIZON":
		return braid.TrimHorizon()
	case "LATEST":
		return braid.Latest()
	case "AT":
		return braid.AtSequence(s.numbers[what])
	case "AFTER":
		return braid.AfterSequence(s.numbers[what])
	case "TIME":
		d, err := time.ParseDuration(what)
		require.NoError(s.t, err)
		return braid.AtTime(time.Now().Add(d))
	}
	s.t.Fatalf("unknown position %q", text)
	return braid.Position{}
}

func (s *scenario) record(r braid.Record) string {
	if len(r.Data) > 100 {
		return fmt.Sprintf("%s %s %d bytes\n", s.labels[r.SequenceNumber], r.PartitionKey, len(r.Data))
	}
	return fmt.Sprintf("%s %s %q\n", s.labels[r.SequenceNumber], r.PartitionKey, r.Data)
}

func (s *scenario) get(stream *braid.Stream, plain []string, args map[string]string) string {
	shard, err := stream.Shard(braid.ShardID(plain[0]))
	if err != nil {
		return s.failed(err)
	}
	opts := new(braid.GetRecordsOptions)
	if args["limit"] != "" {
		opts.Limit = s.number(args["limit"])
	}
	page, err := shard.GetRecords(s.t.Context(), s.position(plain[1]), opts)
	if err != nil {
		return s.failed(err)
	}
	var out strings.Builder
	for _, r := range page.Records {
		out.WriteString(s.record(r))
	}
	switch {
	case page.EndOfShard:
		out.WriteString("end of shard; children")
		for _, id := range page.ChildShards {
			fmt.Fprintf(&out, " %s", short(id))
		}
		out.WriteString("\n")
	case page.BehindRecords > 0:
		fmt.Fprintf(&out, "%d records behind, %v\n", page.BehindRecords, page.BehindLatest.Round(time.Second))
	default:
		out.WriteString("at the tip\n")
	}
	return out.String()
}

func short(id braid.ShardID) string {
	return fmt.Sprint(id.Index())
}

func (s *scenario) describe(stream *braid.Stream) string {
	var out strings.Builder
	d := stream.Describe()
	kept := "forever"
	if d.Retention > 0 {
		kept = fmt.Sprintf("%g hours", d.Retention.Hours())
	}
	fmt.Fprintf(&out, "%d records of %d bytes, kept for %s, %s", d.Records, d.Bytes, kept, d.Capacity.Mode)
	if d.EncryptionKey != "" {
		fmt.Fprintf(&out, ", encrypted with %q", d.EncryptionKey)
	}
	for _, key := range slices.Sorted(maps.Keys(d.Tags)) {
		fmt.Fprintf(&out, ", %s=%s", key, d.Tags[key])
	}
	out.WriteString("\n")
	for _, sd := range d.Shards {
		state := "open"
		if sd.Closed {
			state = "closed"
		}
		fmt.Fprintf(&out, "shard %s, %s, %d records, %s to %s", short(sd.ID), state, sd.Records, sd.HashKeyRange.Start, sd.HashKeyRange.End)
		for i, id := range sd.Parents {
			fmt.Fprintf(&out, "%s %s", []string{", from", " and"}[i], short(id))
		}
		out.WriteString("\n")
	}
	return out.String()
}
