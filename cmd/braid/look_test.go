package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// golden compares a text with a file of testdata; -update writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "if the change is meant: go test ./cmd/braid -update")
}

func TestLsAndDescribe(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		require.Equal(t, "There are no streams.\n", k.ok("ls"))
		require.Equal(t, "[]\n", k.ok("ls", "--json"))

		s := k.stream("orders", 2, 1234)
		time.Sleep(90 * time.Minute)
		_, err := s.PutRecord(t.Context(), "k1", make([]byte, 300_000))
		require.NoError(t, err)
		_, err = k.db.CreateStream(t.Context(), "clicks", &braid.StreamOptions{
			Shards: 1, Retention: -1, RetentionBytes: 5 << 30, Tags: map[string]string{"team": "web\x1b[31m"},
			Capacity: braid.Capacity{Mode: braid.OnDemand},
		})
		require.NoError(t, err)
		golden(t, "ls.txt", k.ok("ls")+"\n"+k.ok("describe", "orders")+"\n"+k.ok("describe", "clicks"))

		var rows []streamRow
		require.NoError(t, json.Unmarshal([]byte(k.ok("ls", "--json")), &rows))
		require.Equal(t, []string{"clicks", "orders"}, []string{rows[0].Name, rows[1].Name})
		require.Equal(t, "24h0m0s", rows[1].Retention)
		var d braid.StreamDescription
		require.NoError(t, json.Unmarshal([]byte(k.ok("describe", "orders", "--json")), &d))
		require.Equal(t, int64(1235), d.Records)
	})
}

// A graph with everything that shards can do: a split, a split of a child, a merge across
// two families, a merge of all, and an expired parent.
func TestShardsAreDrawn(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 3, 100)
		step := func(args ...string) {
			time.Sleep(time.Hour)
			k.ok(args...)
		}
		step("split", "orders", "0")
		step("split", "orders", "4")
		step("merge", "orders", "6", "1")
		step("split", "orders", "shardId-7", "--at", "200000000000000000000000000000000000000")
		k.put(s, 100, 200)
		got := k.ok("shards", "orders")
		step("scale", "orders", "1")
		got += "\n" + k.ok("shards", "orders")
		time.Sleep(22*time.Hour + 30*time.Minute) // the first shards expire
		synctest.Wait()
		step("scale", "orders", "2")
		got += "\n" + k.ok("shards", "orders")
		golden(t, "shards.txt", got)

		var shards []braid.ShardDescription
		require.NoError(t, json.Unmarshal([]byte(k.ok("shards", "orders", "--json")), &shards))
		require.Len(t, shards, strings.Count(got[strings.LastIndex(got, "\n\n"):], "shardId-"))
	})
}

// Every shard is drawn once, after its parents, however many there are.
func TestManyShardsAreDrawn(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("wide", 500, 0)
		k.ok("scale", "wide", "333")
		k.ok("scale", "wide", "1000")
		got := k.ok("shards", "wide")
		d, err := k.db.Stream("wide")
		require.NoError(t, err)
		at := make(map[braid.ShardID]int)
		for _, sd := range d.Describe().Shards {
			require.Equal(t, 1, strings.Count(got, string(sd.ID)))
			at[sd.ID] = strings.Index(got, string(sd.ID))
		}
		for _, sd := range d.Describe().Shards {
			for _, parent := range sd.Parents {
				require.Less(t, at[parent], at[sd.ID])
			}
		}
		for line := range strings.Lines(got) {
			require.Less(t, strings.Index(line+"shardId", "shardId"), 80, line)
		}
	})
}

func TestQueuesAreListed(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		require.Equal(t, "There are no queues.\n", k.ok("queues"))
		require.Equal(t, "[]\n", k.ok("queues", "--json"))
		k.stream("orders", 2, 9)
		q, err := queue.Create(t.Context(), k.db, "mails", &queue.Options{Stream: "orders"})
		require.NoError(t, err)
		records, err := q.Receive(t.Context(), 4, nil)
		require.NoError(t, err)
		require.NoError(t, q.Ack(t.Context(), records[0].Receipt))
		require.NoError(t, q.Reject(t.Context(), "no", records[1].Receipt))
		time.Sleep(20 * time.Second)
		require.Equal(t, ""+
			"QUEUE  STREAM  VISIBLE  IN FLIGHT  DELAYED  HELD  DEAD  OLDEST\n"+
			"mails  orders        5          2        0     0     1     20s\n", k.ok("queues"))
		var queues []queue.Description
		require.NoError(t, json.Unmarshal([]byte(k.ok("queues", "--json")), &queues))
		require.Equal(t, int64(1), queues[0].Dead)
	})
}

func TestWhatDoesNotExistIsNotFound(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("orders", 1, 1)
		for _, args := range [][]string{
			{"describe", "nope"},
			{"shards", "nope"},
			{"cat", "nope"},
			{"cat", "orders", "--shard", "7"},
			{"tail", "nope"},
			{"put", "nope", "a"},
			{"lag", "nope"},
			{"seek", "nope", "--to", "start"},
			{"pause", "nope"},
			{"resume", "nope"},
			{"split", "orders", "9"},
			{"merge", "orders", "0", "9"},
			{"scale", "nope", "2"},
			{"retention", "nope"},
			{"trim", "nope", "--before", "latest", "--yes"},
			{"export", "nope", "-"},
			{"import", "/nope"},
			{"replay", "orders", "--to", "nope"},
			{"replay", "nope", "--to", "orders"},
		} {
			require.Contains(t, k.fails(exitNotFound, args...), "no such", args)
		}
	})
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	k := newKit(t)
	k.stream("orders", 1, 1)
	before := fmt.Sprint(k.db.Streams()[0].Describe())
	for want, args := range map[string][]string{
		`there is no verb "lss"; did you mean ls or lag?`:   {"lss"},
		"unknown flag: --nope (braid ls --help":             {"ls", "--nope"},
		"an argument is missing: the usage is braid cat":    {"cat"},
		`there is no argument "b": the usage is`:            {"cat", "orders", "b"},
		`--from "noon" is not a position: it must be start`: {"cat", "orders", "--from", "noon"},
		`--until "noon" is not a time`:                      {"cat", "orders", "--until", "noon"},
		`--output "xml" must be text, data, json or`:        {"cat", "orders", "-o", "xml"},
		"--limit -1 must be 0 or more":                      {"cat", "orders", "-n", "-1"},
		"--last -1 must be 0 or more":                       {"tail", "orders", "-n", "-1"},
		`--grep: error parsing regexp`:                      {"cat", "orders", "--grep", "("},
		`--template: template: record`:                      {"cat", "orders", "--template", "{{"},
		`shard "x": `:                                       {"cat", "orders", "--shard", "x"},
		"--ndjson reads keys and data from standard input":  {"put", "orders", "--ndjson", "--key", "k"},
		"--key and --key-separator exclude each other":      {"put", "orders", "--key", "k", "--key-separator", ":"},
		"--to is missing; it must be start":                 {"seek", "app"},
		`--to "noon" is not a position`:                     {"seek", "app", "--to", "noon"},
		"--interval 1ms must be 100ms or more":              {"lag", "--interval", "1ms"},
		"--max-records -2 must be":                          {"lag", "--max-records", "-2"},
		`SHARDS "x" must be a number of shards`:             {"scale", "orders", "x"},
		`PERIOD "x" is not a retention`:                     {"retention", "orders", "x"},
		`--bytes "x" is not a size`:                         {"retention", "orders", "--bytes", "x"},
		`--at: `:                                            {"split", "orders", "0", "--at", "x"},
		"--before is missing; it must be start":             {"trim", "orders"},
		"which cannot be undone: confirm it with --yes":     {"trim", "orders", "--before", "latest"},
		`--format "xml" must be binary or ndjson`:           {"export", "orders", "-", "--format", "xml"},
		"--resume needs a FILE":                             {"export", "orders", "--resume"},
		"give either a STREAM or --file to replay":          {"replay", "--to", "orders"},
		"give either --to or --kinesis":                     {"replay", "orders"},
		"--endpoint and --region are only for --kinesis":    {"replay", "orders", "--to", "x", "--region", "x"},
		"--to orders is the stream that is replayed":        {"replay", "orders", "--to", "orders"},
		`--speed "0" must be a factor`:                      {"replay", "orders", "--to", "x", "--speed", "0"},
		"--max-pause -1s must be 0 or more":                 {"replay", "orders", "--to", "x", "--max-pause", "-1s"},
		"--from and --shard are only for a stream":          {"replay", "--file", "x", "--to", "x", "--shard", "1"},
		`--durability: invalid argument`:                    {"bench", "--durability", "x"},
		"--producers 0 must be 1 to 10,000":                 {"bench", "--producers", "0"},
		"--for 0s must be more than 0":                      {"bench", "--for", "0s"},
		"--size 2MiB must be 1MiB or less":                  {"bench", "--size", "2MiB"},
		`--retention "0" is not a retention`:                {"create", "new", "--retention", "0"},
		`--max-record "1TB" is not a size`:                  {"create", "new", "--max-record", "1TB"},
		`--rate "fast" is not a size`:                       {"check", "--rate", "fast"},
		"--url x exclude each other":                        {"ls", "--url", "x"},
		`--keys is only for a directory`:                    {"--dir", "", "--url", "x", "--keys", "x", "ls"},
		"use --dir, the directory of a stopped program or":  {"--dir", "", "ls"},
	} {
		require.Contains(t, k.fails(exitUsage, args...), want, args)
	}
	require.Equal(t, before, fmt.Sprint(k.db.Streams()[0].Describe()), "nothing was done")
	require.Len(t, k.db.Streams(), 1)
}

func TestHelp(t *testing.T) {
	k := newKit(t)
	for _, args := range [][]string{{"--help"}, {"help"}} {
		got := k.ok(args...)
		require.Contains(t, got, "Exit codes:\n  0    success")
		require.Contains(t, got, "A POSITION is one of")
		for _, verb := range []string{"ls", "cat", "seek", "salvage", "completion"} {
			require.Contains(t, got, "\n  "+verb+" ")
		}
	}
	code, stdout, stderr := k.run()
	require.Equal(t, exitUsage, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "Exit codes:")
	require.True(t, strings.HasSuffix(stderr, "braid: a verb is missing\n"))
}

func TestCompletion(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("orders", 1, 3)
		k.stream("clicks", 1, 0)
		consume(t, k.db, "billing", "orders", 1)
		for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
			require.Contains(t, k.ok("completion", shell), "braid")
		}
		code, got, _ := k.run("__complete", "cat", "")
		require.Equal(t, exitOK, code)
		require.Equal(t, "clicks\norders\n:4\n", got)
		_, got, _ = k.run("__complete", "lag", "")
		require.Equal(t, "billing\n:4\n", got)
	})
}
