package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
	"github.com/braidstream/braid/internal/errorkind"
	"github.com/braidstream/braid/queue"
)

// A live program, over a network.
func TestALiveProgram(t *testing.T) {
	k := newKit(t)
	s := k.stream("orders", 2, 5)
	mux := http.NewServeMux()
	mux.Handle("/braid/", http.StripPrefix("/braid", inspect.Handler(k.db, &inspect.Options{
		Writable: true,
		Authorize: func(r *http.Request) error {
			if user, password, _ := r.BasicAuth(); user+password == "annsecret" || r.Header.Get("Authorization") == "Bearer token" {
				return nil
			}
			return inspect.Challenge(`Basic realm="braid"`)
		},
	})))
	server := httptest.NewServer(mux)
	defer server.Close()
	run := func(url string, args ...string) (code int, stdout, stderr string) {
		return inDirectory(t, append([]string{"--url", url}, args...)...)
	}
	url := strings.Replace(server.URL, "://", "://ann:secret@", 1) + "/braid"
	code, stdout, stderr := run(strings.TrimPrefix(url, "http://"), "cat", "orders", "-o", "data")
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, "0\n1\n2\n3\n4\n", stdout)
	code, _, stderr = run(server.URL+"/braid/", "--header", "Authorization: Bearer token", "put", "orders", "x")
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, int64(6), s.Describe().Records)

	code, _, stderr = run(server.URL+"/braid", "ls")
	require.Equal(t, exitFailure, code)
	require.Contains(t, stderr, "braid: ")
	code, _, stderr = run(server.URL, "ls")
	require.Equal(t, exitFailure, code)
	require.Contains(t, stderr, "answered with 404 Not Found: it must be the address of an inspect page\n")
	server.Close()
	code, _, stderr = run(url, "ls")
	require.Equal(t, exitFailure, code)
	require.Contains(t, stderr, "braid: no program answers at --url http://ann:xxxxx@")
	require.NotContains(t, stderr, "secret")
	code, _, stderr = run(url, "put", "orders", "x")
	require.Equal(t, exitFailure, code)
	require.Contains(t, stderr, braid.ErrOutcomeUnknown.Error())
}

func TestWhatAURLCannotDo(t *testing.T) {
	k := newKit(t)
	k.stream("orders", 1, 3)
	k.url = true
	k.serve(nil)
	for _, verb := range []string{"check", "backup"} {
		args := []string{verb}
		if verb == "backup" {
			args = append(args, "x")
		}
		require.Equal(t, verb+" works on a directory: give --dir instead of --url\n", k.fails(exitUsage, args...))
	}
	require.Contains(t, k.fails(exitFailure, "create", "new"), "changes are not allowed here: see Options.Writable")
	require.Contains(t, k.fails(exitFailure, "put", "orders", "a"), "changes are not allowed here: see Options.Writable")
	for _, url := range []string{"ftp://x/", "http://", "http://x/?a=b", "http://x\n/"} {
		code, _, stderr := inDirectory(t, "--url", url, "ls")
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, "must be the address of an inspect page, such as http://localhost:8080/braid/")
	}
	code, _, stderr := inDirectory(t, "--url", "http://localhost:1", "--header", "x", "ls")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, `--header "x" must be a name, a colon and a value`)
	code, _, stderr = inDirectory(t, "--dir", "x", "--header", "a: b", "ls")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--header is only for --url")
	code, _, stderr = inDirectory(t, "--url", "http://localhost:1/", "salvage", "x")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "salvage works on a directory")
}

// Many streams, shards, applications and records are read in several answers.
func TestALotComesInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.stream("wide", 2500, 1)
		s := k.stream("long", 3, 0)
		var entries []braid.Entry
		for i := range 2500 {
			entries = append(entries, braid.Entry{PartitionKey: fmt.Sprint(i % 11), Data: fmt.Append(nil, i)})
		}
		_, err := s.PutRecords(t.Context(), entries)
		require.NoError(t, err)
		for i := range 1010 {
			k.stream(fmt.Sprintf("s%04d", i), 1, 1)
		}
		for i := range 103 {
			consume(t, k.db, fmt.Sprintf("app%03d", i), "s0001", 1)
		}
		consume(t, k.db, "wide", "wide", 1)
		outputs := func() (got []string) {
			for _, args := range [][]string{{"ls"}, {"shards", "wide"}, {"cat", "long"}, {"apps"}, {"lag", "wide"}} {
				got = append(got, k.ok(args...))
			}
			return got
		}
		want := outputs()
		k.url = true
		k.serve(nil)
		for i, got := range outputs() {
			require.Equal(t, want[i], got)
		}
		require.Equal(t, 2500, strings.Count(want[2], "\n"))
	})
}

// A read ends at the tip at its start, even if records come faster than they are read.
func TestARemoteReadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		s := k.stream("orders", 2, 0)
		fill := func() {
			entries := make([]braid.Entry, 3*pageRecords)
			for i := range entries {
				entries[i] = braid.Entry{PartitionKey: fmt.Sprint(i)}
			}
			_, err := s.PutRecords(t.Context(), entries)
			require.NoError(t, err)
		}
		fill()
		k.serve(nil)
		r, err := openRemote(target{url: "http://localhost/braid"}, k.client())
		require.NoError(t, err)
		defer func() { require.NoError(t, r.Close()) }()
		n := 0
		for _, err := range r.Records(t.Context(), "orders", "", braid.TrimHorizon(), false) {
			require.NoError(t, err)
			if n++; n%pageRecords == 1 {
				fill()
			}
		}
		require.GreaterOrEqual(t, n, 3*pageRecords)
		require.Less(t, n, 5*pageRecords)
	})
}

// The errors of a live program are the same as those of a directory.
func TestRemoteErrorsMatch(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 1, 10)
		first := strings.TrimSpace(k.ok("cat", "orders", "-n", "1", "--template", "{{.SequenceNumber}}"))
		k.ok("trim", "orders", "--before", "latest", "--yes")
		k.put(s, 10, 11)
		got := k.fails(exitFailure, "cat", "orders", "--shard", "0", "--from", "after:"+first)
		require.Contains(t, got, "\nTo continue after them: --shard shardId-000000000000 --from 49")
		require.Contains(t, k.fails(exitFailure, "put", "orders", "--key", strings.Repeat("k", 300), "a"), "input 1: ")
		require.Contains(t, k.fails(exitFailure, "split", "orders", "0", "--at", "0"), "NewStartingHashKey must be greater than")
	})
	for _, kind := range errorkind.All {
		f := failure{Error: "text", Kind: kind.Name}
		require.ErrorIs(t, f.err(), kind.Err)
	}
	unknown := failure{Error: "text", Kind: "Internal"}
	_, known := errorkind.Of(unknown.err())
	require.False(t, known)
}

// Callers find the typed errors of a live program by errors.As, with their fields.
func TestRemoteErrorsHaveTheirDetails(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		ctx := t.Context()
		st, err := k.open(ctx, target{}, 0)
		require.NoError(t, err)
		defer st.Close()
		s := k.stream("orders", 1, 10)
		shard := s.Shards()[0].ID()
		var first braid.SequenceNumber
		for r, err := range st.Records(ctx, "orders", shard, braid.TrimHorizon(), false) {
			require.NoError(t, err)
			first = r.SequenceNumber
			break
		}
		var beyond braid.SequenceNumber // of a newer copy of the stream
		for r, err := range newKit(t).stream("orders", 1, 20).Records(ctx, braid.TrimHorizon()) {
			require.NoError(t, err)
			beyond = r.SequenceNumber
		}
		_, err = st.Count(ctx, "orders", shard, braid.AtSequence(beyond))
		var beyondTip *braid.BeyondTipError
		require.ErrorAs(t, err, &beyondTip)
		require.ErrorIs(t, err, braid.ErrBeyondTip)
		require.Equal(t, shard, beyondTip.Shard)
		require.Equal(t, beyond, beyondTip.Number)
		require.Positive(t, beyondTip.Last.Compare(first))

		require.NoError(t, st.Trim(ctx, "orders", braid.Latest()))
		_, err = st.Count(ctx, "orders", shard, braid.AfterSequence(first))
		var trimmed *braid.TrimmedError
		require.ErrorAs(t, err, &trimmed)
		require.ErrorIs(t, err, braid.ErrTrimmed)
		require.Positive(t, trimmed.FirstAvailable.Compare(first))

		err = st.Scale(ctx, "orders", -1)
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid)
		require.ErrorIs(t, err, braid.ErrInvalidArgument)
		require.Contains(t, err.Error(), invalid.Rule)

		q, err := queue.Create(ctx, k.db, "mails", &queue.Options{Stream: "orders", MaxReceives: 1})
		require.NoError(t, err)
		k.put(s, 10, 11)
		records, err := q.Receive(ctx, 1, nil)
		require.NoError(t, err)
		require.NoError(t, q.Release(ctx, 0, records[0].Receipt))
		letters, err := st.DeadLetters(ctx, "mails", 1, false)
		require.NoError(t, err)
		require.Len(t, letters, 1)
		require.NoError(t, st.Discard(ctx, "mails", []queue.Receipt{letters[0].Receipt}))
		err = st.Restore(ctx, "mails", []queue.Receipt{letters[0].Receipt})
		var receipts *queue.ReceiptsError
		require.ErrorAs(t, err, &receipts)
		require.ErrorIs(t, err, queue.ErrRecordSettled)
		require.Len(t, receipts.Failed, 1)
		require.Equal(t, letters[0].Receipt, receipts.Failed[0].Receipt)
		require.Equal(t, queue.ErrRecordSettled, receipts.Failed[0].Err)
	})
}

// A put that stops after some of its records is reported as it would be of a directory.
func TestRemotePutsStopWithTheirErrors(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		ctx := t.Context()
		st, err := k.open(ctx, target{}, 0)
		require.NoError(t, err)
		defer st.Close()
		_, err = k.db.CreateStream(ctx, "orders", &braid.StreamOptions{Shards: 1, Capacity: braid.Capacity{Mode: braid.Provisioned}})
		require.NoError(t, err)
		entry := braid.Entry{PartitionKey: "k", Data: make([]byte, 1000<<10)}
		deleted := make(chan error, 1)
		time.AfterFunc(time.Second/2, func() { deleted <- k.db.DeleteStream(ctx, "orders") }) // while the second waits
		results, err := st.Put(ctx, "orders", []braid.Entry{entry, entry})
		require.NoError(t, <-deleted)
		require.ErrorIs(t, err, braid.ErrStreamNotFound)
		require.NotEmpty(t, results[0].ShardID)
	})
}

// The answer carries each typed error as it is, whatever its sentinel is: an error of the
// disk that makes records unreadable has none.
func TestEveryTypedErrorComesBack(t *testing.T) {
	number, err := braid.ParseSequenceNumber("49377645732240952125012871365136279650627104907689197602")
	require.NoError(t, err)
	shard := braid.ShardID("shardId-000000000003")
	want := []error{
		&braid.InvalidArgumentError{Field: "Shards", Value: "0", Rule: "must be at least 1"},
		&braid.TrimmedError{Shard: shard, FirstLost: number, LastLost: number, FirstAvailable: number},
		&braid.BeyondTipError{Shard: shard, Number: number, Last: number},
		&braid.CorruptError{Shard: shard, FirstLost: number, FirstAvailable: number, Err: errors.New("read error")},
		&braid.ThroughputExceededError{Shard: shard, Budget: "WriteBytesPerSecond", RetryAfter: time.Second},
		&queue.ReceiptsError{Failed: []queue.ReceiptError{{Index: 1, Receipt: "r", Err: queue.ErrReceiptExpired}}},
	}
	require.Len(t, want, len(errorkind.Details))
	for i, typed := range errorkind.Details {
		name, detail := errorkind.DetailOf(fmt.Errorf("in vain: %w", want[i]))
		require.Equal(t, typed.Name, name)
		require.Equal(t, want[i], detail)
		text, err := json.Marshal(detail)
		require.NoError(t, err)
		for _, kind := range []string{"Internal", "Corrupt"} {
			f := failure{Error: "text", Kind: kind, Type: name, Detail: text}
			got := typed.New()
			require.ErrorAs(t, f.err(), reflect.New(reflect.TypeOf(got)).Interface())
			_, got = errorkind.DetailOf(f.err())
			require.Equal(t, want[i], got)
		}
	}
	f := failure{Error: "text", Kind: "Corrupt", Type: "NoSuchError", Detail: []byte("{}")}
	require.ErrorIs(t, f.err(), braid.ErrCorrupt)
	require.Equal(t, exitDamage, exitCode(t.Context(), f.err()))
}

// Signs of life keep a quiet connection open.
func TestTailWaitsForAQuietStream(t *testing.T) {
	bothWays(t, func(t *testing.T, k *kit) {
		s := k.stream("orders", 1, 0)
		ctx, cancel := context.WithCancel(t.Context())
		var stdout, stderr buffer
		code := make(chan int)
		go func() { code <- k.runTo(ctx, &stdout, &stderr, "tail", "-f", "orders", "-o", "data") }()
		time.Sleep(10 * time.Minute)
		k.put(s, 0, 1)
		time.Sleep(time.Second)
		require.Equal(t, "0\n", stdout.String())
		cancel()
		require.Equal(t, exitOK, <-code, stderr.String())
	})
}

// An import over the network always begins with the first record, and reports that.
func TestImportOverTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.stream("orders", 2, 30)
		file := filepath.Join(t.TempDir(), "orders.braid")
		k.ok("export", "orders", file)
		k.stream("copy", 1, 0)
		k.url = true
		k.serve(&inspect.Options{Writable: true})
		require.Contains(t, k.ok("import", file, "--stream", "copy"), "30 records were imported")
		require.Equal(t, k.ok("cat", "orders", "--template", content), k.ok("cat", "copy", "--template", content))
		require.Contains(t, k.ok("import", file, "--stream", "new"), "30 records were imported")
		s, err := k.db.Stream("new")
		require.NoError(t, err)
		require.Len(t, s.Describe().Shards, 2)
	})
}

func TestReadEvents(t *testing.T) {
	var got []string
	err := readEvents(strings.NewReader(": comment\n\nevent: a\nid: 7\ndata: 1\ndata: 2\n\n\nevent: b\ndata: 3\n\nevent: c\n\n"), func() {},
		func(name string, data []byte) (bool, error) {
			got = append(got, name+string(data))
			return name != "b", nil
		})
	require.NoError(t, err)
	require.Equal(t, []string{"a12", "b3"}, got)
	failed := errors.New("failed")
	require.ErrorIs(t, readEvents(strings.NewReader("event: a\n\n"), func() {}, func(string, []byte) (bool, error) { return true, failed }), failed)
}
