package main

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestPartitionKeysGoRound(t *testing.T) {
	for i := range 100 {
		key := partitionKey(i, kinesisShards)
		require.True(t, strings.HasPrefix(key, strconv.Itoa(i)+"-"))
		require.Equal(t, i%kinesisShards, shardOf(key))
	}
}

// shardOf returns the shard of a key, from the whole hash.
func shardOf(key string) int {
	sum := md5.Sum([]byte(key))
	hash := new(big.Int).SetBytes(sum[:])
	return int(new(big.Int).Rsh(hash.Mul(hash, big.NewInt(kinesisShards)), 128).Int64())
}

// putBody is the body of a PutRecord or a PutRecords.
type putBody struct {
	StreamName, PartitionKey string
	Data                     []byte
	Records                  []putBody
}

func TestKinesisBodies(t *testing.T) {
	values := newValues(100)[:7]
	d := newKinesisData(values, 3)
	var all []putBody
	var sizes []int
	for _, text := range d.batches {
		var body putBody
		require.NoError(t, json.Unmarshal(text, &body))
		require.Equal(t, kinesisStream, body.StreamName)
		all, sizes = append(all, body.Records...), append(sizes, len(body.Records))
	}
	require.Equal(t, []int{3, 3, 1}, sizes)
	for i, value := range values {
		require.Equal(t, putBody{PartitionKey: d.records[i].key, Data: value}, all[i])
		var single putBody
		require.NoError(t, json.Unmarshal(d.singles[i], &single))
		require.Equal(t, putBody{StreamName: kinesisStream, PartitionKey: d.records[i].key, Data: value}, single)
	}
}

func TestMembers(t *testing.T) {
	answer := []byte(`{"Failed":0, "Behind" : -12,"Next":"AA+/=","Null":null,"Big":99999999999999999999,"Open":"x`)
	for name, want := range map[string]int64{"Failed": 0, "Behind": -12} {
		n, found := intMember(answer, name)
		require.True(t, found, name)
		require.Equal(t, want, n)
	}
	n, found := intMember([]byte(`{"Last":7`), "Last")
	require.True(t, found)
	require.EqualValues(t, 7, n)
	for _, name := range []string{"Next", "Null", "Big", "Missing", "Fail", "Open"} {
		_, found := intMember(answer, name)
		require.False(t, found, name)
	}
	text, found := stringMember(answer, "Next")
	require.True(t, found)
	require.Equal(t, "AA+/=", text)
	for _, name := range []string{"Failed", "Null", "Missing", "Open"} {
		_, found := stringMember(answer, name)
		require.False(t, found, name)
	}
}

func TestReadInto(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 100)
	for _, size := range []int64{-1, int64(len(want))} {
		got, err := readInto(nil, iotest.OneByteReader(bytes.NewReader(want)), size)
		require.NoError(t, err)
		require.Equal(t, want, got)
		again, err := readInto(got[:0], bytes.NewReader(want[5:]), size-5)
		require.NoError(t, err)
		require.Equal(t, want[5:], again)
		require.Same(t, &got[0], &again[0], "the buffer is used again")
	}
	broken := errors.New("broken")
	_, err := readInto(nil, iotest.ErrReader(broken), -1)
	require.ErrorIs(t, err, broken)
}

func TestResidentOf(t *testing.T) {
	n, found := residentOf([]byte("Name:\tnode\nVmHWM:\t  191316 kB\nVmRSS:\t   56112 kB\nRssAnon:\t 1 kB\n"))
	require.True(t, found)
	require.EqualValues(t, 56112*kib, n)
	for _, status := range []string{"", "Name:\tnode\n", "VmRSS:\t\n", "VmRSS:\t12\n", "VmRSS:\tmany kB\n"} {
		_, found := residentOf([]byte(status))
		require.False(t, found, "%q", status)
	}
}

func TestIsInstalled(t *testing.T) {
	modules := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(modules, "server"), 0o755))
	require.False(t, isInstalled(modules, "server@1.2.3"))
	require.NoError(t, os.WriteFile(filepath.Join(modules, "server", "package.json"), []byte(`{"name" : "server", "version" : "1.2.3"}`), 0o644))
	require.True(t, isInstalled(modules, "server@1.2.3"))
	require.False(t, isInstalled(modules, "server@1.2.4"))
}

func TestModuleAbove(t *testing.T) {
	root := t.TempDir()
	below := filepath.Join(root, "bench", "deep")
	require.NoError(t, os.MkdirAll(below, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "a-module"), 0o755))
	_, found := moduleAbove(below, "a-module")
	require.False(t, found, "a directory is no module")
	require.NoError(t, os.WriteFile(filepath.Join(root, "a-module", "go.mod"), nil, 0o644))
	for _, dir := range []string{root, below} {
		module, found := moduleAbove(dir, "a-module")
		require.True(t, found)
		require.Equal(t, filepath.Join(root, "a-module"), module)
	}
}

func TestLastLine(t *testing.T) {
	err := errors.New("exit status 1")
	require.Equal(t, "b", lastLine([]byte("a\nb \n\n"), err))
	require.Equal(t, "exit status 1", lastLine([]byte("\n"), err))
}

// A server that cannot run on this machine does not fail the run, and is not tried again.
func TestSkippedEntries(t *testing.T) {
	e := &environment{dir: t.TempDir(), repeats: 9}
	calls := make(map[string]int)
	w := &workload{id: "K9/x", main: recordsPerSecond, base: "a", repeats: 3}
	for name, err := range map[string]error{"a": nil, "b": fmt.Errorf("start: %w", skipped{"no Node"}), "c": nil} {
		w.entries = append(w.entries, entry{name: name, slow: name == "c", run: func(*environment, string) (metrics, error) {
			calls[name]++
			return metrics{recordsPerSecond: 2}, err
		}})
	}
	rounds, err := e.runWorkload(w, func(string, int) {})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 3, "b": 1, "c": 1}, calls)
	require.Len(t, samplesOf(w, rounds), 4)
	var out strings.Builder
	writeReport(&out, w, rounds)
	require.Contains(t, out.String(), "  b is skipped: no Node\n")
	require.Contains(t, out.String(), "  c is so slow that it is measured once\n")
	require.Equal(t, []string{"a", "2", "0%", "1.00"}, rowOf(w.table(rounds), "a"))
	require.Nil(t, rowOf(w.table(rounds), "b"))
}

func rowOf(table [][]string, name string) []string {
	for _, row := range table {
		if row[0] == name {
			return row
		}
	}
	return nil
}

// fakeKinesis implements the operations that the client uses, and faults that the client must
// notice.
type fakeKinesis struct {
	mu     sync.Mutex
	shards [][]putBody // nil before the stream is created

	drop, corrupt, fail, hangUp bool
}

func (f *fakeKinesis) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var in struct {
		putBody
		ShardId, ShardIterator string
		Limit, ShardCount      int
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if f.hangUp {
		w.Header().Set("Connection", "close")
	}
	var out any
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch operation {
	case "ListStreams":
		out = map[string]any{"StreamNames": []string{}}
	case "CreateStream":
		f.shards = make([][]putBody, in.ShardCount)
	case "DescribeStreamSummary":
		out = map[string]any{"StreamDescriptionSummary": map[string]any{"StreamStatus": "ACTIVE"}}
	case "PutRecord":
		f.put(in.putBody)
		out = map[string]any{"SequenceNumber": "1"}
	case "PutRecords":
		for _, record := range in.Records {
			f.put(record)
		}
		failed := 0
		if f.fail {
			failed = 3
		}
		out = map[string]any{"FailedRecordCount": failed}
	case "GetShardIterator":
		shard, _ := strconv.Atoi(strings.TrimPrefix(in.ShardId, "shardId-"))
		out = map[string]any{"ShardIterator": fmt.Sprintf("%d/0", shard)}
	case "GetRecords":
		var shard, at int
		_, _ = fmt.Sscanf(in.ShardIterator, "%d/%d", &shard, &at)
		end := min(at+in.Limit, len(f.shards[shard]))
		records := []any{}
		for _, r := range f.shards[shard][at:end] {
			records = append(records, map[string]any{"SequenceNumber": "1", "PartitionKey": r.PartitionKey, "Data": r.Data})
		}
		out = map[string]any{"NextShardIterator": fmt.Sprintf("%d/%d", shard, end), "Records": records}
	default:
		http.Error(w, "what is "+operation+"?", http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (f *fakeKinesis) put(r putBody) {
	if f.drop {
		f.drop = false
		return
	}
	if f.corrupt {
		f.corrupt = false
		r.Data = bytes.Clone(r.Data)
		r.Data[7]++
	}
	shard := shardOf(r.PartitionKey)
	f.shards[shard] = append(f.shards[shard], r)
}

// connect serves a handler on the loopback, until the test ends.
func connect(t *testing.T, h http.Handler) *kinesisConn {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c := newKinesisConn(server.Listener.Addr().String())
	t.Cleanup(c.close)
	return c
}

func TestKinesisConn(t *testing.T) {
	for _, hangUp := range []bool{false, true} {
		c := connect(t, &fakeKinesis{hangUp: hangUp})
		require.NoError(t, c.createStream(false))
		put, err := preload(c, 4*kinesisBatch)
		require.NoError(t, err)
		require.NoError(t, readBack(c, kinesisPut(), put))
		require.NoError(t, c.putRecord(kinesisPut().singles[5]))
		_, err = c.call("ListNothing", []byte("{}"))
		require.ErrorContains(t, err, "ListNothing: 400 Bad Request: what is ListNothing?")
		answer, records, next, err := c.page("1/0", 3)
		require.NoError(t, err)
		require.Equal(t, 3, records)
		require.Equal(t, "1/3", next)
		require.NoError(t, kinesisPut().compare(answer, 1, 3))
		require.ErrorContains(t, kinesisPut().compare(answer, 2, 3), "is in shard 2")
		require.ErrorContains(t, kinesisPut().compare(answer, 1, 2), "2 sequence numbers in 3 records")
		n, err := c.check(kinesisPut(), 4*kinesisBatch)
		require.NoError(t, err)
		require.Equal(t, 4*kinesisBatch+1, n)
	}
}

func TestFaultyServersAreFound(t *testing.T) {
	for fault, f := range map[string]*fakeKinesis{
		"7 of 8 records were read back": {drop: true},
		"other data than was put":       {corrupt: true},
	} {
		c := connect(t, f)
		require.NoError(t, c.createStream(false))
		for i := range 2 * kinesisShards {
			require.NoError(t, c.putRecord(kinesisPut().singles[i]))
		}
		require.ErrorContains(t, readBack(c, kinesisPut(), [kinesisShards]int{2, 2, 2, 2}), fault)
	}
	c := connect(t, &fakeKinesis{fail: true})
	require.NoError(t, c.createStream(false))
	require.ErrorContains(t, c.putRecords(kinesisPut().batches[0]), "3 records failed")
}

func TestServersAreMeasured(t *testing.T) {
	e := tiny(t)
	for _, s := range []kinesisServer{{name: "fake"}, nothingKinesis} {
		t.Run(s.name, func(t *testing.T) {
			var handler http.Handler = &fakeKinesis{}
			if s.keepsNoData {
				handler = newNothing()
			}
			c := connect(t, handler)
			for _, p := range []puts{{connections: 3, batch: kinesisBatch}, {connections: 2}} {
				require.NoError(t, c.createStream(s.hasStream)) // empty
				m, err := p.measure(e, c.addr, c, s)
				require.NoError(t, err)
				require.InEpsilon(t, m[recordsPerSecond], m[requestsPerSecond]*float64(max(1, p.batch)), 1e-9)
				require.Positive(t, m[p50Micros])
			}
			require.NoError(t, c.createStream(s.hasStream))
			_, err := preload(c, kinesisShards*kinesisPage)
			require.NoError(t, err)
			m, err := measurePages(e, c.addr, c, s)
			require.NoError(t, err)
			require.Positive(t, m[recordsPerSecond])
			require.EqualValues(t, kinesisPage, m[recordsPerPage])
		})
	}
}

// Answers that are cheaper to send than real ones would set the ceiling too high.
func TestAnswersOfNothing(t *testing.T) {
	c := connect(t, newNothing())
	answer, err := c.call("PutRecords", kinesisPut().batches[0])
	require.NoError(t, err)
	require.Equal(t, kinesisBatch, bytes.Count(answer, []byte(`"ShardId"`)))
	require.True(t, json.Valid(answer))
	answer, n, _, err := c.page("x", kinesisPage)
	require.NoError(t, err)
	require.Equal(t, kinesisPage, n)
	require.True(t, json.Valid(answer))
}
