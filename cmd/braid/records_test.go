package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/cmd/braid/internal/archive"
)

func TestCatWritesEveryForm(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s, err := k.db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		require.Equal(t, "[]\n", k.ok("cat", "orders", "-o", "json"))
		key := braid.MaxHashKey()
		_, err = s.PutRecords(t.Context(), []braid.Entry{
			{PartitionKey: "ann", Data: []byte(`{"n":12345678901234567890,"to":["x"]}`)},
			{PartitionKey: "bob", ExplicitHashKey: &key, Data: []byte("two\nlines\n")},
			{PartitionKey: "e\x1b[2Jve", Data: []byte("\x00\xff\x1b")},
			{PartitionKey: "ann", Data: nil},
		})
		require.NoError(t, err)
		var got strings.Builder
		for _, args := range [][]string{
			{},
			{"-o", "data"},
			{"-o", "json"},
			{"--json"},
			{"--template", "{{.ShardID}} {{.PartitionKey | quote}} {{time .ArrivalTime \"15:04\"}}"},
		} {
			fmt.Fprintf(&got, "%q\n%s\n", args, k.ok(append([]string{"cat", "orders"}, args...)...))
		}
		golden(t, "cat.txt", got.String())

		var lines []archive.Line
		require.NoError(t, json.Unmarshal([]byte(k.ok("cat", "orders", "-o", "json")), &lines))
		require.Len(t, lines, 4)
		require.Equal(t, k.ok("cat", "orders", "-o", "ndjson"), k.ok("cat", "orders", "--json"))
		require.Equal(t, "12345678901234567890 x\n", k.ok("cat", "orders", "-n", "1", "--template", "{{.JSON.n}} {{index .JSON.to 0}}"))
		require.Contains(t, k.fails(exitFailure, "cat", "orders", "--key", "bob", "--template", "{{.JSON.n}}"), "is not JSON")
		require.Contains(t, k.fails(exitFailure, "cat", "orders", "--template", "{{.Nope}}"), "can't evaluate field Nope")
	})
}

func TestCatBeginsAndEndsWhereItIsTold(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 4, 0)
		for i := range 6 {
			k.put(s, i, i+1)
			time.Sleep(time.Minute)
		}
		now := time.Now().UTC()
		data := func(args ...string) string {
			return strings.ReplaceAll(strings.TrimSpace(k.ok(append([]string{"cat", "orders", "-o", "data"}, args...)...)), "\n", " ")
		}
		number := strings.TrimSpace(k.ok("cat", "orders", "--grep", "3", "--template", "{{.SequenceNumber}}"))
		for want, args := range map[string][]string{
			"0 1 2 3 4 5": {},
			"":            {"--from", "latest"},
			"4 5":         {"--from", "-2m"},
			"5":           {"--from", now.Add(-time.Minute).Format(time.RFC3339)},
			"2 3":         {"--from", "2000-01-01 00:02", "--until", "2000-01-01T00:04"},
			"3 4 5":       {"--from", number},
			"4 5 ":        {"--from", "after:" + number}, // the blank makes the key of the map
			"0 1":         {"-n", "2"},
			"2 3 4 5":     {"--grep", "[2-9]"},
			"3":           {"--key", "k3"},
			"0 1 2 3 4":   {"--until", "-1m"},
			"1 2 3 4 5":   {"--from", "AT_TIMESTAMP 2000-01-01T00:01:00Z"},
		} {
			require.Equal(t, strings.TrimSpace(want), data(args...), args)
		}
		var shards []string
		for i := range 4 {
			if of := data("--shard", fmt.Sprint(i)); of != "" {
				shards = append(shards, of)
			}
		}
		require.Len(t, strings.Fields(strings.Join(shards, " ")), 6)
	})
}

// It is no failure if the reader of the output, such as head, has seen enough.
func TestABrokenPipeIsTheEnd(t *testing.T) {
	k := newKit(t)
	k.stream("orders", 1, 20_000)
	r, w := io.Pipe()
	go func() {
		_, _ = io.ReadFull(r, make([]byte, 10))
		r.CloseWithError(errPipe)
	}()
	var stderr buffer
	require.Equal(t, exitOK, k.runTo(t.Context(), w, &stderr, "cat", "orders"))
	require.Empty(t, stderr.String())
}

func TestTailWritesTheNewest(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 4, 0)
		for i := range 5000 {
			k.put(s, i, i+1)
			switch {
			case i%1000 == 0:
				time.Sleep(time.Hour)
			case i%3 == 0:
				time.Sleep(time.Duration(i) * time.Microsecond)
			}
			if i == 2000 {
				_, _, err := s.SplitShard(t.Context(), s.Shards()[1].ID(), nil)
				require.NoError(t, err)
			}
		}
		for _, n := range []int{0, 1, 2, 10, 999, 1000, 1001, 4000, 4999, 5000, 6000} {
			got := strings.Fields(k.ok("tail", "orders", "-o", "data", "-n", fmt.Sprint(n)))
			require.Len(t, got, min(n, 5000), n)
			for i, text := range got {
				require.Equal(t, fmt.Sprint(5000-len(got)+i), text)
			}
		}
		require.Len(t, strings.Split(k.ok("tail", "orders"), "\n"), 11)
		shard := strings.Split(strings.TrimSpace(k.ok("tail", "orders", "--shard", "3", "-n", "5", "--template", "{{.ShardID}}")), "\n")
		require.Equal(t, []string{"shardId-000000000003"}, append(shard[:1:1], shard[5:]...))
	})
}

// The search for the newest records reads only a few records of a long stream.
func TestTailOfALongStreamReadsItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		s := k.stream("orders", 1, 0)
		entries := make([]braid.Entry, 1000)
		for i := range 100 {
			for j := range entries {
				entries[j] = braid.Entry{PartitionKey: "k", Data: fmt.Append(nil, i*1000+j)}
			}
			_, err := s.PutRecords(t.Context(), entries)
			require.NoError(t, err)
			time.Sleep(10 * time.Minute)
		}
		counted := &countingStore{store: &directory{db: k.db}}
		k.program = func(p *program) {
			p.open = func(context.Context, target, access) (store, error) { return counted, nil }
		}
		require.Equal(t, "99999\n", k.ok("tail", "orders", "-n", "1", "-o", "data"))
		require.LessOrEqual(t, counted.records, 2*(tailSlack+1))
		require.LessOrEqual(t, counted.counts, 60)
	})
}

func TestTailFollows(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 2, 20)
		ctx, cancel := context.WithCancel(t.Context())
		var stdout, stderr buffer
		code := make(chan int)
		go func() {
			code <- k.runTo(ctx, &stdout, &stderr, "tail", "-f", "-n", "2", "orders", "-o", "data", "--grep", "[0-8]$")
		}()
		synctest.Wait()
		require.Equal(t, "18\n", stdout.String(), "of the last two")
		k.put(s, 20, 22)
		synctest.Wait()
		require.Equal(t, "18\n20\n21\n", stdout.String(), "at once")
		_, _, err := s.SplitShard(t.Context(), "0", nil)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		k.put(s, 29, 31)
		synctest.Wait()
		require.Equal(t, "18\n20\n21\n30\n", stdout.String())
		cancel()
		require.Equal(t, exitOK, <-code, "that is how following ends")
		require.Empty(t, stderr.String())
	})
}

// tail -f misses no record that comes while it searches for the newest ones. For an empty
// stream it begins with the first record that comes.
func TestTailFollowsFromNothing(t *testing.T) {
	for _, args := range [][]string{{"-n", "0"}, {}, {"--from", "latest"}, {"--from", "-1h"}} {
		bothWays(t, func(t *testing.T, k *kit) {
			s := k.stream("orders", 2, 0)
			ctx, cancel := context.WithCancel(t.Context())
			var stdout, stderr buffer
			code := make(chan int)
			go func() {
				code <- k.runTo(ctx, &stdout, &stderr, append([]string{"tail", "-f", "orders", "-o", "json"}, args...)...)
			}()
			synctest.Wait()
			k.put(s, 0, 3)
			synctest.Wait()
			cancel()
			require.Equal(t, exitOK, <-code)
			var lines []archive.Line
			require.NoError(t, json.Unmarshal([]byte(stdout.String()), &lines), "the array is closed: %s", stdout.String())
			require.Len(t, lines, 3)
		})
	}
}

func TestPutTakesArguments(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("orders", 2, 0)
		require.Equal(t, "3 records were put to orders, 10 bytes.\n", k.ok("put", "orders", "--key", "k", "a", "bb", "cccc"))
		require.Equal(t, "a\nbb\ncccc\n", k.ok("cat", "orders", "--key", "k", "-o", "data"))
		require.Contains(t, k.ok("put", "orders", "x"), "1 record was put to orders, 17 bytes.")
		var result braid.PutResult
		require.NoError(t, json.Unmarshal([]byte(k.ok("put", "orders", "--json", "--key", "k", "z")), &result))
		require.False(t, result.SequenceNumber.IsZero())
		require.Contains(t, k.fails(exitFailure, "put", "orders", "--key", strings.Repeat("k", 300), "a"), "must be 1 to 256 characters")
	})
}

func TestPutTakesLines(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 4, 0)
		var lines strings.Builder
		for i := range 25_000 {
			fmt.Fprintf(&lines, "k%d:%d:x\n", i%10, i)
		}
		k.stdin = lines.String()
		require.Contains(t, k.ok("put", "orders", "--key-separator", ":"), "25,000 records were put")
		seen := make(map[string]int)
		for rec, err := range s.Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("%d:x", seen[rec.PartitionKey]*10+int(rec.PartitionKey[1]-'0')), string(rec.Data), "in order")
			seen[rec.PartitionKey]++
		}
		require.Len(t, seen, 10)

		k.stdin = "a\n\nb"
		require.Contains(t, k.ok("put", "orders", "--key", "last"), "3 records were put")
		require.Equal(t, "a\n\nb\n", k.ok("cat", "orders", "--key", "last", "-o", "data"))
		k.stdin = ""
		require.Contains(t, k.ok("put", "orders"), "0 records were put to orders, 0 bytes.")
	})
}

// put reads what cat writes: everything of a record except its number and time.
func TestPutReadsWhatCatWrites(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 4, 0)
		key := braid.HashKeyOf("elsewhere")
		_, err := s.PutRecords(t.Context(), []braid.Entry{
			{PartitionKey: "a", Data: []byte("text")},
			{PartitionKey: "b", Data: []byte{0xfe, 0xff}, ExplicitHashKey: &key},
			{PartitionKey: "c", Data: nil},
		})
		require.NoError(t, err)
		k.stream("copy", 1, 0)
		k.stdin = k.ok("cat", "orders", "-o", "ndjson")
		require.Contains(t, k.ok("put", "copy", "--ndjson"), "3 records were put to copy")
		template := "{{.PartitionKey}} {{.ExplicitHashKey}} {{printf \"%x\" .Data}}"
		require.Equal(t, k.ok("cat", "orders", "--template", template), k.ok("cat", "copy", "--template", template))
	})
}

// A failed put names the input, and reports what was put before it.
func TestPutSaysWhereItFailed(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("orders", 1, 0)
		k.stdin = "a:1\nb:2\nc\nd:4\n"
		code, stdout, stderr := k.run("put", "orders", "--key-separator", ":")
		require.Equal(t, exitFailure, code)
		require.Equal(t, "2 records were put to orders, 4 bytes.\n", stdout)
		require.Equal(t, "braid: input 3: it has no key separator \":\"\n", stderr)
		k.stdin = `{"PartitionKey":"k","Text":"x"}` + "\n" + `{"PartitionKey":"k","Txt":"x"}`
		require.Contains(t, k.fails(exitFailure, "put", "orders", "--ndjson"), `input 2: json: unknown field "Txt"`)
		require.Equal(t, "1\n2\nx\n", k.ok("cat", "orders", "-o", "data"))

		k.stdin = "ok\n" + strings.Repeat("x", 1<<20+1) + "\n"
		require.Contains(t, k.fails(exitFailure, "put", "orders", "--key", "k"), "input 2: put records")
		k.stdin = strings.Repeat("x", maxLine+1)
		require.Contains(t, k.fails(exitFailure, "put", "orders"), "standard input: a line is longer than 16 MiB")
	})
}

// Lines that come one by one are put one by one, and an interrupt ends a put that waits.
func TestPutFollowsItsInput(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		k.stream("orders", 1, 0)
		r, w := io.Pipe()
		k.program = func(p *program) { p.stdin = r }
		ctx, cancel := context.WithCancel(t.Context())
		var stdout, stderr buffer
		code := make(chan int)
		go func() { code <- k.runTo(ctx, &stdout, &stderr, "put", "orders", "--key", "k") }()
		for _, line := range []string{"a\n", "b\n"} {
			_, err := io.WriteString(w, line)
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, int64(line[0]-'a')+1, k.db.Streams()[0].Describe().Records)
		}
		cancel()
		require.Equal(t, exitInterrupted, <-code)
		require.Equal(t, "braid: interrupted\n", stderr.String())
		require.NoError(t, w.Close())
	})
}

func TestPositionsAndTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now() // midnight of 2000-01-01
		number := "49568749374218235080373793662021150003767486140978823170"
		n, err := braid.ParseSequenceNumber(number)
		require.NoError(t, err)
		for text, want := range map[string]braid.Position{
			"start":                           braid.TrimHorizon(),
			"TRIM_HORIZON":                    braid.TrimHorizon(),
			"Latest":                          braid.Latest(),
			"-90m":                            braid.AtTime(now.Add(-90 * time.Minute)),
			"-2d":                             braid.AtTime(now.Add(-48 * time.Hour)),
			"-1d12h":                          braid.AtTime(now.Add(-36 * time.Hour)),
			"1999-12-31":                      braid.AtTime(now.Add(-24 * time.Hour)),
			"1999-12-31T23:00":                braid.AtTime(now.Add(-time.Hour)),
			"1999-12-31 23:59:59":             braid.AtTime(now.Add(-time.Second)),
			"2000-01-01T01:00:00.5+01:00":     braid.AtTime(now.Add(500 * time.Millisecond)),
			number:                            braid.AtSequence(n),
			"after:" + number:                 braid.AfterSequence(n),
			"AFTER_SEQUENCE_NUMBER " + number: braid.AfterSequence(n),
		} {
			got, err := parsePosition("--from", text)
			require.NoError(t, err, text)
			require.True(t, want.Equal(got), "%s is %s", text, got)
		}
		for _, text := range []string{"", "yesterday", "--1h", "-", "-1x", "12", "after:", "after:12", "2000-13-01", "90m"} {
			_, err := parsePosition("--from", text)
			var usage *usageError
			require.ErrorAs(t, err, &usage, text)
		}
	})
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 byte", 1023: "1,023 bytes", 1024: "1 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1 MiB",
		1 << 20: "1 MiB", 5 << 30: "5 GiB", 1 << 62: "4 EiB",
	} {
		require.Equal(t, want, size(n))
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		require.Equal(t, want, number(n))
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Microsecond: "1.5ms", 1234 * time.Millisecond: "1.23s", time.Minute: "1m", 90 * time.Second: "1m30s",
		time.Hour: "1h", 25 * time.Hour: "25h", 48 * time.Hour: "2d", 7*24*time.Hour + 90*time.Minute: "7d2h", time.Hour + time.Second: "1h0m1s",
	} {
		require.Equal(t, want, duration(d))
	}
	for text, want := range map[string]int64{"0": 0, "7": 7, "3KiB": 3 << 10, "3 mib": 3 << 20, "2GiB": 2 << 30} {
		got, err := parseSize("--x", text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "-1", "1.5MiB", "KiB", "9999999999GiB"} {
		_, err := parseSize("--x", text)
		require.Error(t, err, text)
	}
}

// Corruption among the records is reported, with the position after it; the records
// before it are written.
func TestDamageHasAnExitCode(t *testing.T) {
	k := newKit(t)
	k.stream("orders", 1, 3)
	k.program = func(p *program) {
		p.open = func(context.Context, target, access) (store, error) {
			return &damagedStore{store: &directory{db: k.db, close: func() error { return errors.New("close fails as well") }}}, nil
		}
	}
	code, stdout, stderr := k.run("cat", "orders", "-o", "data")
	require.Equal(t, exitDamage, code)
	require.Equal(t, "0\n1\n2\n", stdout)
	require.Contains(t, stderr, "\nTo continue after it: --shard shardId-000000000000 --from 0\n")
	require.Contains(t, stderr, "close fails as well")
}
